//! The programs as the binary carries them: one packed piece, which build.rs makes of the assembled text.
//!
//! Contract: [`Packed::template`] gives what was assembled, item for item and line for line (build.rs holds it to that);
//! bytes that are no such piece are `None`. What several programs have in common, which is most of their items, is
//! there once. Shared with build.rs.
//!
//! The piece is the length of what it unpacks to, then an LZ4 block. In that, numbers are LEB128, with a sign zigzag;
//! text ends with a NUL:
//!
//! - the lines of text: the number of files; of each its name, the number of its lines and their numbers, each as what it
//!   is more than the one before; then all texts;
//! - the fields: how many; of each its name, its widths' number doubled and 1 if it is optional, its widths;
//! - the maps: how many; their names;
//! - the items: how many; of each its line, as what it is more than that after the one before, and the item, whose
//!   fields and maps are numbers of those above, and whose targets are counted from itself;
//! - the programs: how many; of each its length in bytes without that; its four texts; its fields, its maps and its
//!   labels (each item as what it is more than the one before, and the line), each with their number before them; the
//!   number of items, that of their runs, and of each where it starts, as what it is more than where the one before
//!   ends, and its length.

use super::{Field, Item, Lines, Place, Template};
use crate::bpf_insn::Insn;
use std::sync::Arc;

#[path = "packed/lz4.rs"]
pub mod lz4;

/// The kinds of items.
pub mod kind {
    /// [`super::Item::Insn`]
    pub const INSN: u8 = 0;
    /// [`super::Item::Wide`]
    pub const WIDE: u8 = 1;
    /// [`super::Item::Map`]
    pub const MAP: u8 = 2;
    /// [`super::Item::Load`]
    pub const LOAD: u8 = 3;
    /// [`super::Item::Jump`]
    pub const JUMP: u8 = 4;
    /// [`super::Item::Copy`]
    pub const COPY: u8 = 5;
    /// [`super::Item::Peek`]
    pub const PEEK: u8 = 6;
    /// [`super::Item::If`] of a field that is there.
    pub const IF: u8 = 7;
    /// The same of one that is not.
    pub const ELSE: u8 = 8;
    /// [`super::Item::Filter`]
    pub const FILTER: u8 = 9;
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut all = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            all |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(all);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn count(&mut self) -> Option<usize> {
        // No more than there are bytes: each takes one at least.
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    fn small(&mut self) -> Option<u16> {
        self.number()?.try_into().ok()
    }

    /// What lies so far from `from`.
    fn from(&mut self, from: usize) -> Option<u32> {
        let at = i64::try_from(from).ok()?.checked_add(self.signed()?)?;
        at.try_into().ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.get(1..)?;
        std::str::from_utf8(text).ok()
    }

    fn insn(&mut self) -> Option<Insn> {
        let (code, registers) = (self.byte()?, self.byte()?);
        Some(Insn {
            code,
            dst: registers & 15,
            src: registers >> 4,
            off: self.signed()?.try_into().ok()?,
            imm: self.signed()?.try_into().ok()?,
        })
    }

    /// An item; its target or end is still the distance.
    fn item(&mut self) -> Option<Item> {
        Some(match self.byte()? {
            kind::INSN => Item::Insn(self.insn()?),
            kind::WIDE => Item::Wide {
                dst: self.byte()?,
                value: self.number()?,
            },
            kind::MAP => Item::Map {
                dst: self.byte()?,
                map: self.small()?,
            },
            kind::LOAD => Item::Load {
                dst: self.byte()?,
                src: self.byte()?,
                field: self.small()?,
            },
            kind::JUMP => Item::Jump {
                insn: self.insn()?,
                target: self.signed()? as u32,
            },
            kind::COPY => Item::Copy {
                to: self.signed()?.try_into().ok()?,
                src: self.byte()?,
                field: self.small()?,
                len: self.small()?,
                via: self.byte()?,
            },
            kind::PEEK => Item::Peek {
                to: self.signed()?.try_into().ok()?,
                src: self.byte()?,
                field: self.small()?,
                len: self.small()?,
            },
            kind::FILTER => Item::Filter { part: self.byte()? },
            kind @ (kind::IF | kind::ELSE) => Item::If {
                field: self.small()?,
                present: kind == kind::IF,
                end: self.signed()? as u32,
            },
            _ => return None,
        })
    }

    fn lines(&mut self) -> Option<Lines> {
        let mut numbers = Vec::new();
        for _ in 0..self.count()? {
            let (file, mut number) = (self.text()?, 0u32);
            for _ in 0..self.count()? {
                number = number.checked_add(self.small()?.into())?;
                numbers.push((file, number));
            }
        }
        let mut lines = Lines::default();
        for (file, number) in numbers {
            let text = self.text()?;
            lines.add(Place { file, number, text })?;
        }
        Some(lines)
    }

    fn field(&mut self) -> Option<Field> {
        let (name, what) = (self.text()?.to_string(), self.number()?);
        let widths = (0..what >> 1).map(|_| self.small());
        Some(Field {
            name,
            widths: widths.collect::<Option<_>>()?,
            optional: what & 1 != 0,
        })
    }
}

/// All programs, unpacked.
#[derive(Debug)]
pub struct Packed {
    bytes: Vec<u8>,
    text: Arc<Lines>,
    fields: Vec<Field>,
    maps: Vec<String>,
    items: Vec<(u32, Item)>,
    /// Where each program starts among the bytes.
    programs: Vec<usize>,
}

impl Packed {
    /// Takes the packed piece.
    pub fn read(packed: &[u8]) -> Option<Packed> {
        let mut all = Cursor(packed);
        let len = usize::try_from(all.number()?).ok()?;
        let bytes = lz4::unpack(all.0, len)?;
        let mut rest = Cursor(&bytes);
        let text = Arc::new(rest.lines()?);
        let count = rest.count()?;
        let fields = (0..count).map(|_| rest.field()).collect::<Option<_>>()?;
        let count = rest.count()?;
        let maps = (0..count).map(|_| Some(rest.text()?.to_string()));
        let maps = maps.collect::<Option<_>>()?;
        let count = rest.count()?;
        let (mut items, mut after) = (Vec::with_capacity(count), 0);
        for _ in 0..count {
            let line = rest.from(after)?;
            after = line as usize + 1;
            items.push((line, rest.item()?));
        }
        let mut all = Packed {
            text,
            fields,
            maps,
            items,
            programs: Vec::new(),
            bytes: Vec::new(),
        };
        for _ in 0..rest.count()? {
            let len = rest.count()?;
            all.programs.push(bytes.len() - rest.0.len());
            rest.0 = rest.0.get(len..)?;
        }
        all.bytes = bytes;
        Some(all)
    }

    /// How many programs there are.
    pub fn len(&self) -> usize {
        self.programs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// A program.
    pub fn template(&self, program: usize) -> Option<Template> {
        let start = *self.programs.get(program)?;
        self.program(&mut Cursor(self.bytes.get(start..)?))
    }

    /// The names of the fields of all programs.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// The events that they are for.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        // Behind their names and groups.
        self.programs.iter().filter_map(|start| {
            let mut rest = Cursor(self.bytes.get(*start..)?);
            rest.text().and(rest.text()).and(rest.text())
        })
    }

    fn program(&self, rest: &mut Cursor<'_>) -> Option<Template> {
        let mut template = Template {
            text: self.text.clone(),
            ..Template::default()
        };
        let Template {
            name,
            group,
            event,
            license,
            ..
        } = &mut template;
        for text in [name, group, event, license] {
            *text = rest.text()?.to_string();
        }
        let (mut fields, mut maps) = (Vec::new(), Vec::new());
        for _ in 0..rest.count()? {
            let field = rest.small()?;
            fields.push(field);
            template
                .fields
                .push(self.fields.get(usize::from(field))?.clone());
        }
        for _ in 0..rest.count()? {
            let map = rest.small()?;
            maps.push(map);
            template.maps.push(self.maps.get(usize::from(map))?.clone());
        }
        let mut item = 0;
        for _ in 0..rest.count()? {
            item = rest.from(item)? as usize;
            template
                .labels
                .push((item as u32, rest.number()?.try_into().ok()?));
        }
        let own = |all: &[u16], global: u16| {
            let at = all.iter().position(|one| *one == global)?;
            u16::try_from(at).ok()
        };
        let (all, mut after) = (usize::from(rest.small()?), 0);
        template.items.reserve_exact(all);
        template.lines.reserve_exact(all);
        for _ in 0..rest.count()? {
            let start = rest.from(after)? as usize;
            after = start.checked_add(usize::try_from(rest.number()?).ok()?)?;
            for (line, mut item) in self.items.get(start..after)?.iter().copied() {
                let at = template.items.len() as u32;
                match &mut item {
                    Item::Load { field, .. }
                    | Item::Copy { field, .. }
                    | Item::Peek { field, .. } => *field = own(&fields, *field)?,
                    Item::If { field, end, .. } => {
                        *field = own(&fields, *field)?;
                        *end = at.wrapping_add(*end);
                    }
                    Item::Map { map, .. } => *map = own(&maps, *map)?,
                    Item::Jump { target, .. } => *target = at.wrapping_add(*target),
                    Item::Insn(_) | Item::Wide { .. } | Item::Filter { .. } => {}
                }
                template.items.push(item);
                template.lines.push(line);
            }
        }
        Some(template)
    }
}
