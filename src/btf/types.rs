//! The types of a BTF file, by their numbers.
//!
//! Contract: of all types only each [`STEP`]th's place is held; the others, and
//! what belongs to a type, are read when they are asked for. Every search has a
//! budget.

use super::file::{BtfError, Reader, Window};
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
            6 => (Kind::Enum, count * ENUM),
            8 => (Kind::Typedef, 0),
            9 => (Kind::Volatile, 0),
            10 => (Kind::Const, 0),
            11 => (Kind::Restrict, 0),
            12 => (Kind::Func, 0),
            13 => (Kind::FuncProto, count * PARAM),
            16 => (Kind::Float, 0),
            18 => (Kind::TypeTag, 0),
            19 => (Kind::Enum64, count * 12),
            // Forward declaration; variable, tag; section.
            7 => (Kind::Other, 0),
            14 | 17 => (Kind::Other, 4),
            15 => (Kind::Other, count * 12),
            _ => return None,
        })
    }
}

/// A type, as far as it is looked at.
#[derive(Clone, Copy)]
pub(super) struct Type {
    /// Where its name stands among the strings; 0 if it has none.
    pub(super) name: u32,
    pub(super) kind: Kind,
    /// Members, parameters, values.
    pub(super) count: usize,
    /// Whether offsets of members carry the sizes of bit fields.
    bit_sizes: bool,
    /// Its size in bytes, or the type that it refers to.
    pub(super) size_or_type: u32,
    /// Where its members, parameters … start in the file.
    rest: usize,
    /// Where the next type starts.
    end: usize,
}

impl Type {
    #[inline]
    fn read(reader: &Reader, window: &mut Window, at: usize) -> Result<Type, BtfError> {
        let words = reader.words(window, at);
        let [name, info, size_or_type] = words.ok_or_else(|| reader.why(BtfError::Short))?;
        // Bits 16 to 23 and 29, 30 are zero where they have no meaning.
        let number = info >> 24 & 0x7f;
        let count = (info & 0xff_ffff) as usize;
        let (kind, size) = Kind::of(number, count).ok_or(BtfError::Kind(number))?;
        let rest = at + TYPE;
        Ok(Type {
            name,
            kind,
            count,
            bit_sizes: info >> 31 != 0,
            size_or_type,
            rest,
            end: rest.checked_add(size).ok_or(BtfError::Short)?,
        })
    }
}

/// A member as found: in bits from the start of the outermost structure.
pub(super) struct Found {
    pub(super) bit: u64,
    /// Bits of a bit field, else 0.
    pub(super) bits: u32,
    pub(super) of: u32,
}

/// The section of the types.
pub(super) struct Types {
    pub(super) reader: Reader,
    section: (usize, usize),
    count: u32,
    /// Where each STEPth type starts in the file, from the first one on.
    starts: Vec<u32>,
    near: RefCell<Window>,
    rest: RefCell<Window>,
}

impl Types {
    /// Goes through all types once, and hands them out with their numbers.
    pub(super) fn read(
        reader: Reader,
        section: (usize, usize),
        each: &mut dyn FnMut(u32, &Type),
    ) -> Result<Types, BtfError> {
        let mut all = Types {
            reader,
            section,
            count: 0,
            starts: Vec::new(),
            near: RefCell::new(Window::new()),
            rest: RefCell::new(Window::new()),
        };
        let (mut count, mut starts) = (0, Vec::new());
        all.walk(&mut |id, at, found| {
            if (id - 1) % STEP == 0 {
                // A file is no longer than 4 GiB: the header's numbers are.
                starts.push(at as u32);
            }
            count = id;
            each(id, found);
        })?;
        (all.count, all.starts) = (count, starts);
        Ok(all)
    }

    fn walk(&self, each: &mut dyn FnMut(u32, usize, &Type)) -> Result<(), BtfError> {
        let (mut at, end) = self.section;
        let (mut id, mut window) = (0, Window::new());
        while at < end {
            let found = Type::read(&self.reader, &mut window, at)?;
            if found.end > end {
                return Err(BtfError::Short);
            }
            id += 1;
            each(id, at, &found);
            at = found.end;
        }
        Ok(())
    }

    /// Goes through all types again.
    pub(super) fn each(&self, each: &mut dyn FnMut(u32, &Type)) {
        // What can't be read any more is not there.
        let _ = self.walk(&mut |id, _, found| each(id, found));
    }

    /// How many types there are.
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    pub(super) fn get(&self, id: u32) -> Option<Type> {
        let index = id.checked_sub(1).filter(|index| *index < self.count)?;
        let mut at = *self.starts.get((index / STEP) as usize)? as usize;
        let window = &mut *self.near.borrow_mut();
        let mut read = |at| Type::read(&self.reader, window, at).ok();
        for _ in 0..index % STEP {
            at = read(at)?.end;
        }
        read(at)
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
    /// of an array of structures, that of its first one. `named` tells whether
    /// a string is its name.
    pub(super) fn member(&self, of: u32, named: &dyn Fn(u32) -> bool) -> Option<Found> {
        self.member_within(of, named, DEPTH, &mut { BUDGET })
    }

    fn member_within(
        &self,
        of: u32,
        named: &dyn Fn(u32) -> bool,
        depth: u32,
        budget: &mut u32,
    ) -> Option<Found> {
        let (_, mut whole) = self.resolve(of)?;
        if whole.kind == Kind::Array {
            let [element] = self.words(&whole, 0)?;
            (_, whole) = self.resolve(element)?;
        }
        if depth == 0 || !matches!(whole.kind, Kind::Struct | Kind::Union) {
            return None;
        }
        for n in 0..whole.count {
            *budget = budget.checked_sub(1)?;
            let [name, of, offset] = self.words(&whole, n * MEMBER / 4)?;
            let (bit, bits) = match whole.bit_sizes {
                true => (offset & 0xff_ffff, offset >> 24),
                false => (offset, 0),
            };
            let bit = u64::from(bit);
            if named(name) {
                return Some(Found { bit, bits, of });
            }
            if name == 0 {
                if let Some(inner) = self.member_within(of, named, depth - 1, budget) {
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
