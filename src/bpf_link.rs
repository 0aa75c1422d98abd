//! What the assembler makes and what the loader completes: instructions with the places that only the host can fill.
//!
//! A [`Template`] is a program without field offsets and map descriptors. [`Template::link`] fills them from a
//! [`Host`], drops the blocks of fields that the host does not have (the verifier refuses unreachable instructions),
//! expands copies to the widest loads that are aligned on both sides (the verifier wants the record's loads naturally
//! aligned and not below byte 8), and resolves the jumps last, so that anything may change its length before. There
//! is no parser in here, and no panic on a template or host that makes no sense. Shared with build.rs.

use crate::bpf_insn::{Insn, Size};
use std::sync::Arc;

#[path = "bpf_link/builder.rs"]
pub mod builder;
#[path = "bpf_link/error.rs"]
mod error;
#[path = "bpf_link/lines.rs"]
mod lines;
#[path = "bpf_link/listing.rs"]
mod listing;
#[path = "bpf_link/packed.rs"]
pub mod packed;
#[path = "bpf_link/peek.rs"]
mod peek;

pub use error::LinkError;
pub use lines::{Lines, Place};
pub use peek::Cast;

use peek::{Peeked, copy, load, peek};

/// Bytes at the start of a record that no program may read (v6.12 kernel/trace/bpf_trace.c, `tp_prog_is_valid_access`).
pub const HIDDEN: u16 = 8;

/// A field of the tracepoint's record that the program reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// The name in the host's `format` file.
    pub name: String,
    /// The sizes in bytes that the program can read; the first is the one its text is written for.
    pub widths: Vec<u16>,
    /// Whether the program does without it.
    pub optional: bool,
}

/// A piece of a program. Fields and maps are indexes into the template's, targets and ends are indexes of items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// An instruction as it is.
    Insn(Insn),
    /// `dst = value ll`: two slots.
    Wide {
        /// The register written.
        dst: u8,
        /// The value.
        value: u64,
    },
    /// `dst = map NAME ll`: two slots, with the descriptor that the host has for the map.
    Map {
        /// The register written.
        dst: u8,
        /// Which map.
        map: u16,
    },
    /// A load that gets its offset and its width from the host's field.
    Load {
        /// The register written.
        dst: u8,
        /// The register that holds the context.
        src: u8,
        /// Which field.
        field: u16,
    },
    /// A jump that gets its distance from where its target comes to stand.
    Jump {
        /// The jump, its distance not yet set.
        insn: Insn,
        /// The item jumped to.
        target: u32,
    },
    /// The first `len` bytes of a field, copied to the stack at `r10 + to`.
    Copy {
        /// Where to, from r10.
        to: i16,
        /// The register that holds the context.
        src: u8,
        /// Which field.
        field: u16,
        /// How many bytes.
        len: u16,
        /// The register in between; it is lost.
        via: u8,
    },
    /// The first `len` bytes of a kernel structure's member, of a number the lowest, copied to the stack at `r10 + to`;
    /// nothing if the host does not tell where the member is. Where loads may not reach it, they go through a pointer that
    /// the kernel makes of the structure's address, or else its helper reads it; r0 to r5 are lost in any case.
    Peek {
        /// Where to, from r10.
        to: i16,
        /// The register that holds the structure.
        src: u8,
        /// Which field.
        field: u16,
        /// How many bytes.
        len: u16,
    },
    /// The items from here up to `end` are kept only if the host has the field (`present`), or has it not.
    If {
        /// Which field.
        field: u16,
        /// Whether they are kept with it or without it.
        present: bool,
        /// The first item after the block.
        end: u32,
    },
    /// Where a part of the user's filter belongs, of which [`Template::with`] makes its instructions. It stands in a block
    /// that only a program with a filter has.
    Filter {
        /// Which part.
        part: u8,
    },
}

/// A program that wants the host's offsets and descriptors.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Template {
    /// The name to load it under: 1 to 15 characters of `[A-Za-z0-9_]` (`BPF_OBJ_NAME_LEN`, include/uapi/linux/bpf.h).
    pub name: String,
    /// The tracepoint's group, such as `sock`.
    pub group: String,
    /// The tracepoint's name in its group.
    pub event: String,
    /// The licence string to load it with.
    pub license: String,
    /// The fields it reads.
    pub fields: Vec<Field>,
    /// The maps it uses, by name.
    pub maps: Vec<String>,
    /// Its pieces, in order.
    pub items: Vec<Item>,
    /// For each item the line of [`Template::text`] that it stands on.
    pub lines: Vec<u32>,
    /// The labels, in order: the item that each stands before, and its line.
    pub labels: Vec<(u32, u32)>,
    /// The text it was assembled from.
    pub text: Arc<Lines>,
}

/// Where the host's record has a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostField {
    /// Bytes from the start of the record.
    pub offset: u16,
    /// Bytes in all.
    pub size: u16,
}

/// What only the running host knows.
pub trait Host {
    /// The record's field of that name, if it has one.
    fn field(&self, name: &str) -> Option<HostField>;
    /// The descriptor of the map of that name, if it has been made.
    fn map_fd(&self, name: &str) -> Option<i32>;
    /// Bytes at the start that no program may read: none of what BTF describes.
    fn hidden(&self) -> u16 {
        HIDDEN
    }
    /// Whether members of kernel structures are read by plain loads, not by bpf_probe_read_kernel.
    fn loads_members(&self) -> bool {
        false
    }
    /// What makes a pointer of the address of a kernel structure of that name, through which its members are loaded;
    /// `None` where only the helper reads them.
    fn cast(&self, structure: &str) -> Option<Cast> {
        let _ = structure;
        None
    }
    /// Whether its numbers begin with the highest byte.
    fn big_endian(&self) -> bool {
        cfg!(target_endian = "big")
    }
}

/// A program as it is linked for a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Linked {
    /// The instructions.
    pub insns: Vec<Insn>,
    /// For each of their slots the item that it comes from.
    pub items: Vec<u32>,
    /// For each item the slot where it comes to stand, or what follows it if it is nothing; and the end.
    pub places: Vec<u32>,
}

impl Template {
    /// The instructions to load on this host.
    ///
    /// # Errors
    /// What of the host does not fit; see [`LinkError`].
    pub fn link(&self, host: &dyn Host) -> Result<Vec<Insn>, LinkError> {
        self.linked(host).map(|linked| linked.insns)
    }

    fn field_name(&self, field: u16) -> &str {
        self.fields.get(field as usize).map_or("", |f| &f.name)
    }

    /// Where the host has each field; `None` for an optional one that it has not.
    fn resolve(&self, host: &dyn Host) -> Result<Vec<Option<HostField>>, LinkError> {
        let one = |field: &Field| {
            let name = || field.name.clone();
            match host.field(&field.name) {
                None if field.optional => Ok(None),
                // Of a member, another size is another member: as good as none.
                Some(HostField { size, .. })
                    if field.optional
                        && is_member(&field.name)
                        && !field.widths.contains(&size) =>
                {
                    Ok(None)
                }
                None => Err(LinkError::MissingField {
                    field: name(),
                    tracepoint: format!("{}:{}", self.group, self.event),
                }),
                Some(HostField { size, .. }) if !field.widths.contains(&size) => {
                    Err(LinkError::Width {
                        field: name(),
                        wanted: field.widths.clone(),
                        has: size,
                    })
                }
                Some(HostField { offset, size })
                    if (offset < host.hidden() && !is_member(&field.name))
                        || i32::from(offset) + i32::from(size) > i32::from(i16::MAX) + 1 =>
                {
                    Err(LinkError::Offset {
                        field: name(),
                        offset,
                    })
                }
                found => Ok(found),
            }
        };
        self.fields.iter().map(one).collect()
    }

    /// How many peeks at the structure at `src` follow each other from this item on, without a jump to one of them but
    /// the first.
    fn peeks(&self, first: usize, src: u8) -> usize {
        // What a call leaves of the others is lost, so that they are only peeked through once.
        if src < 6 {
            return 1;
        }
        let is_target = |at: usize| {
            let mut items = self.items.iter();
            items.any(|i| matches!(i, Item::Jump { target, .. } if *target as usize == at))
        };
        let more = |at: &usize| {
            matches!(self.items.get(*at), Some(Item::Peek { src: s, .. }) if *s == src)
                && !is_target(*at)
        };
        1 + (first + 1..).take_while(more).count()
    }

    /// What the peek at this item copies, if the host has it.
    fn peeked(
        &self,
        at: usize,
        fields: &[Option<HostField>],
        host: &dyn Host,
    ) -> Result<Option<Peeked>, LinkError> {
        let Some(Item::Peek { to, field, len, .. }) = self.items.get(at) else {
            return Err(LinkError::Broken(at));
        };
        let place = fields.get(*field as usize).ok_or(LinkError::Broken(at))?;
        let Some(place) = place else { return Ok(None) };
        if *len > place.size || i32::from(*to) + i32::from(*len) > 0 {
            return Err(LinkError::Broken(at));
        }
        // A number's low bytes come last there.
        let number = Size::from_bytes(place.size).is_some();
        let skipped = match host.big_endian() && number {
            true => place.size - *len,
            false => 0,
        };
        Ok(Some(Peeked {
            to: *to,
            from: (place.offset + skipped) as i16,
            len: *len as i16,
        }))
    }

    /// How the structure that the peek at this item reads is loaded from: through its register, or the pointer that is
    /// made of it; `None` for neither.
    fn pointer(&self, at: usize, host: &dyn Host) -> Option<Option<Cast>> {
        if host.loads_members() {
            return Some(None);
        }
        let Some(Item::Peek { field, .. }) = self.items.get(at) else {
            return None;
        };
        let (structure, _) = self.field_name(*field).split_once('.')?;
        host.cast(structure).map(Some)
    }

    /// The same, with what each instruction comes from.
    ///
    /// # Errors
    /// As [`Template::link`].
    pub fn linked(&self, host: &dyn Host) -> Result<Linked, LinkError> {
        let fields = self.resolve(host)?;
        let mut insns: Vec<Insn> = Vec::with_capacity(self.items.len());
        let mut items: Vec<u32> = Vec::with_capacity(self.items.len());
        let mut places = vec![0u32; self.items.len() + 1];
        let mut jumps = Vec::new();
        let mut next = 0;
        while let Some(item) = self.items.get(next) {
            let broken = || LinkError::Broken(next);
            let known = |field: u16| {
                fields
                    .get(field as usize)
                    .copied()
                    .flatten()
                    .ok_or_else(broken)
            };
            places[next] = insns.len() as u32;
            match *item {
                Item::Insn(insn) => insns.push(insn),
                Item::Wide { dst, value } => insns.extend(Insn::wide(dst, value)),
                Item::Map { dst, map } => {
                    let name = self.maps.get(map as usize).ok_or_else(broken)?;
                    let fd = host
                        .map_fd(name)
                        .ok_or_else(|| LinkError::UnknownMap(name.to_string()))?;
                    insns.extend(Insn::map_fd(dst, fd));
                }
                Item::Load { dst, src, field } => {
                    let HostField { offset, size } = known(field)?;
                    let width = Size::from_bytes(size).ok_or_else(broken)?;
                    if offset % size != 0 {
                        return Err(LinkError::Alignment {
                            field: self.field_name(field).to_string(),
                            offset,
                            size,
                        });
                    }
                    insns.push(Insn::load(width, dst, src, offset as i16));
                }
                Item::Jump { insn, target } => {
                    jumps.push((insns.len(), target, next));
                    insns.push(insn);
                }
                Item::Copy {
                    to,
                    src,
                    field,
                    len,
                    via,
                } => {
                    let HostField { offset, size } = known(field)?;
                    if len > size || i32::from(to) + i32::from(len) > 0 {
                        return Err(broken());
                    }
                    copy(&mut insns, to, src, offset as i16, len as i16, via);
                }
                Item::Peek { src, .. } => {
                    let (at, run) = (insns.len(), self.peeks(next, src));
                    let mut wanted = Vec::new();
                    for item in next..next + run {
                        wanted.extend(self.peeked(item, &fields, host)?);
                    }
                    match self.pointer(next, host) {
                        _ if wanted.is_empty() => {}
                        Some(cast) => load(&mut insns, src, cast, &wanted),
                        None => peek(&mut insns, src, &mut wanted),
                    }
                    places[next..next + run].fill(at as u32);
                    items.resize(insns.len(), next as u32);
                    next += run;
                    continue;
                }
                Item::Filter { .. } => return Err(broken()),
                Item::If {
                    field,
                    present,
                    end,
                } => {
                    let has = fields.get(field as usize).ok_or_else(broken)?.is_some();
                    let end = end as usize;
                    if end <= next || end > self.items.len() {
                        return Err(broken());
                    }
                    if has != present {
                        places[next..end].fill(insns.len() as u32);
                        next = end;
                        continue;
                    }
                }
            }
            items.resize(insns.len(), next as u32);
            next += 1;
        }
        places[self.items.len()] = insns.len() as u32;
        for (at, target, item) in jumps {
            let place = *places.get(target as usize).ok_or(LinkError::Broken(item))?;
            let distance = i64::from(place) - (at as i64 + 1);
            insns[at].off =
                i16::try_from(distance).map_err(|_| LinkError::JumpRange { at, distance })?;
        }
        Ok(Linked {
            insns,
            items,
            places,
        })
    }
}

/// Whether a field is a member of a kernel structure, by its path in BTF, and not in the record.
pub fn is_member(name: &str) -> bool {
    name.contains('.')
}
