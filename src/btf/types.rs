//! The types of a BTF file, by their numbers.
//!
//! Contract: of all types only each [`STEP`]th's place is held; the others, and
//! what belongs to a type, are read when they are asked for. Every search has a
//! budget.

use super::file::{BtfError, Reader, Window, is};
use crate::order::Value;
use std::cell::RefCell;

/// struct btf_type, in bytes.
const TYPE: usize = 12;
/// struct btf_member, in bytes.
const MEMBER: usize = 12;
/// struct btf_param, in bytes.
const PARAM: usize = 8;
/// struct btf_enum, in bytes.
const ENUM: usize = 8;

/// Types from one whose place is held to the next.
const STEP: u32 = 32;
/// Names for types in a row (typedef, const, volatile …), arrays of arrays,
/// structures without a name in each other: more is a circle.
pub(super) const DEPTH: u32 = 32;
/// Members looked at in one search. The largest kernel structure has some
/// thousand.
const BUDGET: u32 = 1 << 16;

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
    /// A function.
    Func = 12,
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

/// What follows the struct btf_type of a kind, by its number: bytes in the lower half,
/// bytes for each of its members, parameters or values in the higher; [`UNKNOWN`] of a
/// kind that is not known.
const SIZES: [u8; 20] = [
    UNKNOWN,
    4,
    0,
    12,
    (MEMBER << 4) as u8,
    (MEMBER << 4) as u8,
    (ENUM << 4) as u8,
    0, // forward declaration
    0,
    0,
    0,
    0,
    0,
    (PARAM << 4) as u8,
    4,       // variable
    12 << 4, // section
    0,
    4, // tag
    0,
    12 << 4,
];
const UNKNOWN: u8 = 0xff;

/// The kind in a struct btf_type's second number, and the bytes that follow; an error
/// for a kind that is not known.
#[inline(always)]
fn sized(info: u32) -> Result<(u32, usize), BtfError> {
    // Bits 16 to 23 and 29, 30 are zero where they have no meaning.
    let (number, count) = (info >> 24 & 0x7f, (info & 0xff_ffff) as usize);
    match SIZES.get(number as usize) {
        None | Some(&UNKNOWN) => Err(BtfError::Kind(number)),
        Some(size) => Ok((
            number,
            usize::from(size & 15) + count * usize::from(size >> 4),
        )),
    }
}

impl Kind {
    /// The kind of that number.
    fn of(number: u32) -> Kind {
        match number {
            1 => Kind::Int,
            2 => Kind::Ptr,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            8 => Kind::Typedef,
            9 => Kind::Volatile,
            10 => Kind::Const,
            11 => Kind::Restrict,
            12 => Kind::Func,
            13 => Kind::FuncProto,
            16 => Kind::Float,
            18 => Kind::TypeTag,
            19 => Kind::Enum64,
            _ => Kind::Other,
        }
    }
}

/// A type, as far as it is looked at.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub(super) kind: Kind,
    /// Members, parameters, values.
    pub(super) count: usize,
    /// Whether offsets of members carry the sizes of bit fields.
    bit_sizes: bool,
    /// Its size in bytes, or the type that it refers to.
    pub(super) size_or_type: u32,
    /// Where its members, parameters … start in the file.
    rest: usize,
}

/// A member as found: in bits from the start of the outermost structure.
pub(super) struct Found {
    pub(super) bit: u64,
    /// Bits of a bit field, else 0.
    pub(super) bits: u32,
    pub(super) of: u32,
}

/// How many types there are, and where each STEPth starts in the file, from the first
/// one on.
#[derive(Default)]
pub(super) struct Index(u32, Vec<u32>);

/// The section of the types.
pub(super) struct Types {
    pub(super) reader: Reader,
    section: (usize, usize),
    /// Where the strings start in the file, and the bytes of these where it does not
    /// lie in memory.
    strings: (usize, usize, Window),
    /// What [`Types::walk`] gives: without it, none is found by its number.
    pub(super) index: Index,
    near: RefCell<Window>,
    rest: RefCell<Window>,
}

impl Types {
    /// Those of a file whose types and strings start and end here.
    pub(super) fn open(
        reader: Reader,
        section: (usize, usize),
        (from, to): (usize, usize),
    ) -> Result<Types, BtfError> {
        let mut strings = Window::new();
        if reader.slice(&mut strings, from, to - from).is_none() {
            return Err(reader.why(BtfError::Short));
        }
        Ok(Types {
            reader,
            section,
            strings: (from, to, strings),
            index: Index::default(),
            near: RefCell::new(Window::new()),
            rest: RefCell::new(Window::new()),
        })
    }

    /// The strings.
    pub(super) fn strings(&self) -> &[u8] {
        let (from, to, window) = &self.strings;
        self.reader.held(window, *from, *to)
    }

    /// Goes through all types, and hands out those that have a name: their numbers,
    /// kinds, and where the name stands among the strings.
    pub(super) fn walk(&self, each: &mut dyn FnMut(u32, Kind, u32)) -> Result<Index, BtfError> {
        let ((mut at, end), mut starts) = (self.section, Vec::new());
        let (mut id, mut window, order) = (0, Window::new(), self.reader.order());
        while at < end {
            let bytes = self.reader.slice(&mut window, at, TYPE);
            let bytes = bytes.ok_or_else(|| self.reader.why(BtfError::Short))?;
            if end - at < TYPE {
                return Err(BtfError::Short);
            }
            let bytes = &bytes[..bytes.len().min(end - at)];
            let mut next = 0;
            while let Some(head) = bytes.get(next..).and_then(<[u8]>::first_chunk::<TYPE>) {
                if id % STEP == 0 {
                    // A file is no longer than 4 GiB: the header's numbers are.
                    starts.push((at + next) as u32);
                }
                id += 1;
                let (number, size) = sized(u32::read(&head[4..], order))?;
                let name = u32::read(head, order);
                if name != 0 {
                    each(id, Kind::of(number), name);
                }
                next += TYPE + size;
            }
            at += next;
        }
        match at == end {
            true => Ok(Index(id, starts)),
            false => Err(BtfError::Short),
        }
    }

    /// How many types there are.
    pub(super) fn len(&self) -> usize {
        self.index.0 as usize
    }

    pub(super) fn get(&self, id: u32) -> Option<Type> {
        let index = id.checked_sub(1).filter(|index| *index < self.index.0)?;
        let mut at = *self.index.1.get((index / STEP) as usize)? as usize;
        let window = &mut *self.near.borrow_mut();
        for _ in 0..index % STEP {
            let [info] = self.reader.words(window, at + 4)?;
            at += TYPE + sized(info).ok()?.1;
        }
        let [info, size_or_type] = self.reader.words(window, at + 4)?;
        Some(Type {
            kind: Kind::of(sized(info).ok()?.0),
            count: (info & 0xff_ffff) as usize,
            bit_sizes: info >> 31 != 0,
            size_or_type,
            rest: at + TYPE,
        })
    }

    /// `N` numbers of those that follow a type, from the `from`th on.
    fn words<const N: usize>(&self, of: &Type, from: usize) -> Option<[u32; N]> {
        let at = of.rest.checked_add(from * 4)?;
        self.reader.words(&mut self.rest.borrow_mut(), at)
    }

    /// The type behind its other names, `const`, `volatile` and the like.
    pub(super) fn resolve(&self, mut id: u32) -> Option<(u32, Type)> {
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
    pub(super) fn size(&self, mut id: u32) -> Option<u32> {
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
                    let [of, _, count] = self.words(&found, 0)?;
                    (id, copies) = (of, copies.checked_mul(count)?);
                }
                _ => return None,
            }
        }
        None
    }

    /// A member of a structure or union, also within members without a name;
    /// of an array of structures, that of its first one.
    pub(super) fn member(&self, of: u32, name: &str) -> Option<Found> {
        self.member_within(of, name, DEPTH, &mut { BUDGET })
    }

    fn member_within(&self, of: u32, wanted: &str, depth: u32, budget: &mut u32) -> Option<Found> {
        let (_, mut whole) = self.resolve(of)?;
        if whole.kind == Kind::Array {
            let [element] = self.words(&whole, 0)?;
            (_, whole) = self.resolve(element)?;
        }
        if depth == 0 || !matches!(whole.kind, Kind::Struct | Kind::Union) {
            return None;
        }
        let strings = self.strings();
        for n in 0..whole.count {
            *budget = budget.checked_sub(1)?;
            let [name, of, offset] = self.words(&whole, n * MEMBER / 4)?;
            let (bit, bits) = match whole.bit_sizes {
                true => (offset & 0xff_ffff, offset >> 24),
                false => (offset, 0),
            };
            let bit = u64::from(bit);
            if is(strings, name, wanted) {
                return Some(Found { bit, bits, of });
            }
            if name == 0 {
                if let Some(inner) = self.member_within(of, wanted, depth - 1, budget) {
                    return Some(Found {
                        bit: inner.bit + bit,
                        ..inner
                    });
                }
            }
        }
        None
    }

    /// The values of an enumeration of up to 32 bits: where the name of each
    /// stands among the strings, and its number.
    pub(super) fn values(&self, of: &Type) -> impl Iterator<Item = [u32; 2]> {
        // struct btf_enum: name, value.
        (0..of.count).map_while(|n| self.words(of, n * ENUM / 4))
    }

    /// The type of a function's parameter.
    pub(super) fn parameter(&self, of: &Type, n: usize) -> Option<u32> {
        // struct btf_param: name, type.
        let [_, id] = (n < of.count).then(|| self.words(of, n * PARAM / 4))??;
        Some(id)
    }

    /// Bit fields as they were before their sizes stood in the offsets: an
    /// integer type of fewer bits than its bytes have.
    pub(super) fn is_part_of_int(&self, id: u32) -> bool {
        let Some((_, found)) = self.resolve(id) else {
            return false;
        };
        let whole = u64::from(found.size_or_type) * 8;
        // Encoding, offset and bits: 8 bits each, one of them unused.
        found.kind == Kind::Int
            && self.words(&found, 0).is_none_or(|[data]: [u32; 1]| {
                u64::from(data & 0xff) != whole || data >> 16 & 0xff != 0
            })
    }
}
