//! The kernel's own type information (BTF): where a structure's members lie,
//! and what a tracepoint hands to its programs.
//!
//! Contract: whatever the bytes are, reading them neither panics nor takes
//! long; every search has a budget. What can't be read by a plain load (a bit
//! field, a member of unknown size) is not there. Pointers have 8 bytes, as
//! on every host this is made for. The whole file is held (5 to 9 MB): drop it
//! after use. Format: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.

mod kernel;

use crate::bpf_link::HostField;
use std::fmt;

pub use kernel::PATH;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// struct btf_header as the first version has it, in bytes.
const HEADER: usize = 24;
/// struct btf_type, in bytes.
const TYPE: usize = 12;
/// struct btf_member, in bytes.
const MEMBER: usize = 12;
/// struct btf_param, in bytes.
const PARAM: usize = 8;

/// Names for types in a row (typedef, const, volatile …), arrays of arrays,
/// structures without a name in each other: more is a circle.
const DEPTH: u32 = 32;
/// Members looked at in one search. The largest kernel structure has some
/// thousand.
const BUDGET: u32 = 1 << 18;

/// Kinds of types (enum btf_kind); the others don't matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A number, or a character, or a truth value.
    Int = 1,
    /// A pointer.
    Ptr = 2,
    /// An array.
    Array = 3,
    /// A structure.
    Struct = 4,
    /// A union.
    Union = 5,
    /// An enumeration of up to 32 bits.
    Enum = 6,
    /// Another name for a type.
    Typedef = 8,
    /// `volatile`.
    Volatile = 9,
    /// `const`.
    Const = 10,
    /// `restrict`.
    Restrict = 11,
    /// What a function takes and gives.
    FuncProto = 13,
    /// A floating-point number.
    Float = 16,
    /// A tag on a pointer's target.
    TypeTag = 18,
    /// An enumeration of up to 64 bits.
    Enum64 = 19,
    /// Anything else.
    Other = 0,
}

impl Kind {
    /// The kind of that number, and the bytes that follow its struct btf_type;
    /// `None` for a kind that is not known.
    fn of(number: u32, count: usize) -> Option<(Kind, usize)> {
        Some(match number {
            1 => (Kind::Int, 4),
            2 => (Kind::Ptr, 0),
            3 => (Kind::Array, 12),
            4 => (Kind::Struct, count * MEMBER),
            5 => (Kind::Union, count * MEMBER),
            6 => (Kind::Enum, count * 8),
            8 => (Kind::Typedef, 0),
            9 => (Kind::Volatile, 0),
            10 => (Kind::Const, 0),
            11 => (Kind::Restrict, 0),
            13 => (Kind::FuncProto, count * PARAM),
            16 => (Kind::Float, 0),
            18 => (Kind::TypeTag, 0),
            19 => (Kind::Enum64, count * 12),
            // Forward declaration, function; variable, tag; section.
            7 | 12 => (Kind::Other, 0),
            14 | 17 => (Kind::Other, 4),
            15 => (Kind::Other, count * 12),
            _ => return None,
        })
    }
}

/// Why bytes are no BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtfError {
    /// The header is none, or of another version or byte order.
    Header,
    /// A section or type reaches beyond its end.
    Short,
    /// A kind of type that this program doesn't know: what follows it can't be
    /// found.
    Kind(u32),
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BtfError::Header => f.write_str("its header can't be read"),
            BtfError::Short => f.write_str("it ends too soon"),
            BtfError::Kind(n) => write!(f, "it has types of an unknown kind ({n})"),
        }
    }
}

/// A type, as far as it is looked at.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: Kind,
    /// Members, parameters.
    count: usize,
    /// Whether offsets of members carry the sizes of bit fields.
    bit_sizes: bool,
    /// Its size in bytes, or the type that it refers to.
    size_or_type: u32,
    /// Where its members, parameters … start in the file.
    rest: usize,
}

/// A member as found: in bits from the start of the outermost structure.
struct Found {
    bit: u64,
    bits: u32,
    of: u32,
}

/// The BTF of a kernel.
pub struct Btf {
    bytes: Vec<u8>,
    strings: (usize, usize),
    /// Where each type starts in the file, by its number less 1.
    types: Vec<u32>,
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Btf of {} types", self.types.len())
    }
}

impl Btf {
    /// Takes the bytes of a BTF file.
    pub fn parse(bytes: Vec<u8>) -> Result<Btf, BtfError> {
        let word = |at| u32_at(&bytes, at).ok_or(BtfError::Header);
        let start = word(0)?;
        if start as u16 != MAGIC || (start >> 16) as u8 != VERSION {
            return Err(BtfError::Header);
        }
        let header = word(4)? as usize;
        if header < HEADER {
            return Err(BtfError::Header);
        }
        let section = |offset: usize| {
            let from = header.checked_add(word(offset)? as usize);
            let to = from
                .and_then(|from| Some((from, from.checked_add(word(offset + 4).ok()? as usize)?)));
            to.filter(|(_, to)| *to <= bytes.len())
                .ok_or(BtfError::Short)
        };
        let (mut at, end) = section(8)?;
        let strings = section(16)?;
        let mut types = Vec::new();
        while at < end {
            let found = type_at(&bytes, at)?;
            let size = Kind::of(found.1, found.0.count)
                .ok_or(BtfError::Kind(found.1))?
                .1;
            // The file is shorter than 4 GiB: the header's numbers are.
            types.push(u32::try_from(at).map_err(|_| BtfError::Short)?);
            at = found.0.rest.checked_add(size).ok_or(BtfError::Short)?;
            if at > end {
                return Err(BtfError::Short);
            }
        }
        Ok(Btf {
            bytes,
            strings,
            types,
        })
    }

    /// How many types there are; their numbers start at 1.
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// Whether there is no type but `void`.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    fn get(&self, id: u32) -> Option<Type> {
        let at = *self.types.get((id as usize).checked_sub(1)?)?;
        type_at(&self.bytes, at as usize).ok().map(|found| found.0)
    }

    /// Whether the string at that offset is `name`.
    fn is_named(&self, offset: u32, name: &[u8]) -> bool {
        let (from, to) = self.strings;
        let strings = self.bytes.get(from..to).unwrap_or_default();
        let text = strings.get(offset as usize..).unwrap_or_default();
        text.strip_prefix(name)
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// The number of the first type of this kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<u32> {
        (1..=self.types.len() as u32).find(|id| {
            self.get(*id)
                .is_some_and(|t| t.kind == kind && self.is_named(t.name, name.as_bytes()))
        })
    }

    /// Whether an enumeration of that name has a value of that name.
    pub fn has_enumerator(&self, of: &str, name: &str) -> bool {
        let values = self.find(Kind::Enum, of).and_then(|id| self.get(id));
        values.is_some_and(|values| {
            // struct btf_enum: name, value.
            (0..values.count).any(|n| {
                let at = u32_at(&self.bytes, values.rest + n * 8);
                at.is_some_and(|at| self.is_named(at, name.as_bytes()))
            })
        })
    }

    /// The type behind its other names, `const`, `volatile` and the like.
    fn resolve(&self, mut id: u32) -> Option<(u32, Type)> {
        for _ in 0..DEPTH {
            let found = self.get(id)?;
            match found.kind {
                Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                    id = found.size_or_type;
                }
                _ => return Some((id, found)),
            }
        }
        None
    }

    /// A type's size in bytes.
    pub fn size(&self, mut id: u32) -> Option<u32> {
        let mut copies = 1u32;
        for _ in 0..DEPTH {
            let (_, found) = self.resolve(id)?;
            match found.kind {
                Kind::Int
                | Kind::Struct
                | Kind::Union
                | Kind::Enum
                | Kind::Enum64
                | Kind::Float => return copies.checked_mul(found.size_or_type),
                Kind::Ptr => return copies.checked_mul(8),
                Kind::Array => {
                    // struct btf_array: type, index type, number of elements.
                    id = u32_at(&self.bytes, found.rest)?;
                    copies = copies.checked_mul(u32_at(&self.bytes, found.rest + 8)?)?;
                }
                _ => return None,
            }
        }
        None
    }

    /// A member of a structure or union, also within members without a name;
    /// of an array of structures, that of its first one.
    fn member(&self, of: u32, name: &[u8], depth: u32, budget: &mut u32) -> Option<Found> {
        let (_, mut whole) = self.resolve(of)?;
        if whole.kind == Kind::Array {
            (_, whole) = self.resolve(u32_at(&self.bytes, whole.rest)?)?;
        }
        if depth == 0 || !matches!(whole.kind, Kind::Struct | Kind::Union) {
            return None;
        }
        for n in 0..whole.count {
            *budget = budget.checked_sub(1)?;
            let at = whole.rest + n * MEMBER;
            let word = |n: usize| u32_at(&self.bytes, at + 4 * n);
            let (named, of, offset) = (word(0)?, word(1)?, word(2)?);
            let (bit, bits) = match whole.bit_sizes {
                true => (offset & 0xff_ffff, offset >> 24),
                false => (offset, 0),
            };
            let found = Found {
                bit: u64::from(bit),
                bits,
                of,
            };
            if self.is_named(named, name) {
                return Some(found);
            }
            if self.is_named(named, b"") {
                if let Some(inner) = self.member(of, name, depth - 1, budget) {
                    return Some(Found {
                        bit: inner.bit + found.bit,
                        ..inner
                    });
                }
            }
        }
        None
    }

    /// Offset and size of a member by its path from a structure, such as
    /// `sock.__sk_common.skc_family`. Not there if it is a bit field.
    pub fn field(&self, path: &str) -> Option<HostField> {
        let mut names = path.split('.');
        // What has no name is not asked for by it.
        if names.clone().any(str::is_empty) {
            return None;
        }
        let mut id = self.find(Kind::Struct, names.next()?)?;
        let mut bit = 0;
        let mut bits = 0;
        for name in names {
            let mut budget = BUDGET;
            let found = self.member(id, name.as_bytes(), DEPTH, &mut budget)?;
            bit += found.bit;
            bits = found.bits;
            id = found.of;
        }
        let size = self.size(id)?;
        if bits != 0 || bit % 8 != 0 || self.is_part_of_int(id) {
            return None;
        }
        Some(HostField {
            offset: u16::try_from(bit / 8).ok()?,
            size: u16::try_from(size).ok()?,
        })
    }

    /// Bit fields as they were before their sizes stood in the offsets: an
    /// integer type of fewer bits than its bytes have.
    fn is_part_of_int(&self, id: u32) -> bool {
        let Some((_, found)) = self.resolve(id) else {
            return false;
        };
        let whole = u64::from(found.size_or_type) * 8;
        // Encoding, offset and bits: 8 bits each, one of them unused.
        found.kind == Kind::Int
            && u32_at(&self.bytes, found.rest)
                .is_none_or(|data| u64::from(data & 0xff) != whole || data >> 16 & 0xff != 0)
    }

    /// The tracepoint of that name, as programs are attached to it by BTF.
    pub fn tracepoint<'a>(&'a self, name: &'a str) -> Option<BtfTracepoint<'a>> {
        let typedef = format!("btf_trace_{name}");
        let id = self.find(Kind::Typedef, &typedef)?;
        // typedef void (*btf_trace_NAME)(void *__data, ARGUMENTS)
        let (_, pointer) = self.resolve(id)?;
        let (_, proto) = self.resolve(pointer.size_or_type)?;
        (pointer.kind == Kind::Ptr && proto.kind == Kind::FuncProto).then_some(BtfTracepoint {
            btf: self,
            name,
            id,
            proto,
        })
    }
}

/// A tracepoint in the kernel's BTF (include/trace/bpf_probe.h, Linux 5.5 and
/// later).
pub struct BtfTracepoint<'a> {
    btf: &'a Btf,
    /// Its name, without its group.
    pub name: &'a str,
    /// The number of its typedef, to load programs for it.
    pub id: u32,
    proto: Type,
}

impl fmt::Debug for BtfTracepoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BtfTracepoint {} ({})", self.name, self.id)
    }
}

impl BtfTracepoint<'_> {
    /// Where its programs find something: `argN.ptr`, `argN.int` and `argN.enum` are
    /// the arguments, 8 bytes each in the context and there only if they are a
    /// pointer, an `int` or an enumeration; all else are members, see [`Btf::field`].
    pub fn field(&self, name: &str) -> Option<HostField> {
        let Some(argument) = name.strip_prefix("arg") else {
            return self.btf.field(name);
        };
        let (number, kind) = argument.split_once('.')?;
        let number: u16 = number.parse().ok().filter(|n| *n < 12)?;
        // The first parameter is the tracepoint's own.
        let place = usize::from(number) + 1;
        if place >= self.proto.count {
            return None;
        }
        let of = u32_at(&self.btf.bytes, self.proto.rest + place * PARAM + 4)?;
        let (_, found) = self.btf.resolve(of)?;
        let fits = match kind {
            "ptr" => found.kind == Kind::Ptr,
            "int" => found.kind == Kind::Int && found.size_or_type == 4,
            "enum" => found.kind == Kind::Enum && found.size_or_type == 4,
            _ => false,
        };
        fits.then_some(HostField {
            offset: number * 8,
            size: 8,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    bytes.get(at..end)?.try_into().ok().map(u32::from_le_bytes)
}

/// The type that starts there, and the number of its kind.
fn type_at(bytes: &[u8], at: usize) -> Result<(Type, u32), BtfError> {
    let word = |n: usize| u32_at(bytes, at + 4 * n).ok_or(BtfError::Short);
    let (name, info, size_or_type) = (word(0)?, word(1)?, word(2)?);
    // Bits 16 to 23 and 29, 30 are zero where they have no meaning.
    let number = info >> 24 & 0x7f;
    let count = (info & 0xff_ffff) as usize;
    let kind = Kind::of(number, count).map_or(Kind::Other, |known| known.0);
    let found = Type {
        name,
        kind,
        count,
        bit_sizes: info >> 31 != 0,
        size_or_type,
        rest: at + TYPE,
    };
    Ok((found, number))
}
