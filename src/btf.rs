//! The kernel's own type information (BTF): where a structure's members lie,
//! and what a tracepoint or a function hands to its programs.
//!
//! Contract: whatever the bytes are, reading them neither panics nor takes
//! long; every search has a budget. What can't be read by a plain load (a bit
//! field, a member of unknown size) is not there. Pointers have 8 bytes, as
//! on every host this is made for. The types in the kernel's file (5 to 9 MB) are
//! passed over once; of a file that can't be mapped the strings (2 to 4 MB) are held,
//! for as long as this is. Format: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.

mod elf;
mod file;
mod kernel;
mod names;
mod types;

pub use file::BtfError;
pub use kernel::PATH;
pub use types::Kind;

use crate::bpf_link::{Cast, HostField};
use crate::host::symbols;
use crate::order::{Order, Value};
use file::{Reader, Window};
use names::Names;
use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use types::{Type, Types};

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// struct btf_header as the first version has it, in bytes.
const HEADER: u32 = 24;
/// See [`Btf::cast`].
const CAST: &str = "bpf_rdonly_cast";
/// The most arguments a function can have that programs are attached to
/// (v6.12 include/linux/bpf.h, MAX_BPF_FUNC_ARGS).
const ARGUMENTS: usize = 12;

/// The BTF of a kernel.
pub struct Btf {
    types: Types,
    names: RefCell<Names>,
    /// Where members lie that have been asked for.
    fields: RefCell<Vec<(String, Option<HostField>)>>,
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Btf of {} types", self.len())
    }
}

impl Btf {
    /// Takes the bytes of a BTF file.
    pub fn parse(bytes: Vec<u8>) -> Result<Btf, BtfError> {
        Btf::read(Reader::of(bytes), &mut std::iter::empty())
    }

    /// Takes a BTF file, which is read when something is asked for.
    pub fn of_file(file: File) -> Result<Btf, BtfError> {
        Btf::read_file(file, &mut std::iter::empty())
    }

    fn read_file(file: File, wanted: &mut dyn Iterator<Item = &str>) -> Result<Btf, BtfError> {
        let reader = Reader::of_file(file).map_err(BtfError::Read)?;
        Btf::read(reader, wanted)
    }

    fn read(reader: Reader, wanted: &mut dyn Iterator<Item = &str>) -> Result<Btf, BtfError> {
        let (types, strings) = sections(&reader)?;
        let mut names = Names::default();
        let mut types = Types::open(reader, types, strings)?;
        let index = types.walk(&mut names::taking(names.add(wanted), types.strings()))?;
        types.index = index;
        Ok(Btf {
            types,
            names: RefCell::new(names),
            fields: RefCell::default(),
        })
    }

    /// How many types there are; their numbers start at 1.
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// Whether there is no type but `void`.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the first type of this kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<u32> {
        let mut names = self.names.borrow_mut();
        let new = names.add(&mut std::iter::once(name));
        if !new.is_empty() {
            // What can't be read any more is not there.
            let _ = self
                .types
                .walk(&mut names::taking(new, self.types.strings()));
        }
        names.find(kind, name)
    }

    /// Whether an enumeration of that name has a value of that name.
    pub fn has_enumerator(&self, of: &str, name: &str) -> bool {
        let values = self.find(Kind::Enum, of).and_then(|id| self.types.get(id));
        values.is_some_and(|values| {
            let (mut values, strings) = (self.types.values(&values), self.types.strings());
            values.any(|[at, _]| file::is(strings, at, name))
        })
    }

    /// The names of an enumeration's numbers, without the `prefix` that all of
    /// them have, as a tracepoint prints them: see [`symbols`]. Those that have
    /// it not are passed over, as is what is beyond [`symbols::LIMIT`].
    pub fn symbols(&self, of: &str, prefix: &str) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        let of = self.find(Kind::Enum, of).and_then(|id| self.types.get(id));
        let Some(of) = of else {
            return found;
        };
        let (strings, most) = (self.types.strings(), prefix.len() + symbols::NAME);
        for [at, number] in self.types.values(&of).take(symbols::LIMIT) {
            let text = file::string(strings, at, most);
            let text = text.and_then(|text| std::str::from_utf8(text).ok());
            let name = text.and_then(|text| text.strip_prefix(prefix));
            if let Some(name) = name.filter(|name| symbols::is_name(name)) {
                found.push((number, name.to_string()));
            }
        }
        found
    }

    /// A type's size in bytes.
    pub fn size(&self, id: u32) -> Option<u32> {
        self.types.size(id)
    }

    /// Offset and size of a member by its path from a structure, such as
    /// `sock.__sk_common.skc_family`. Not there if it is a bit field; but behind
    /// one, `bits` is the byte that begins with it, where that is its low part.
    pub fn field(&self, path: &str) -> Option<HostField> {
        let mut known = self.fields.borrow_mut();
        if let Some((_, field)) = known.iter().find(|(known, _)| known == path) {
            return *field;
        }
        let field = self.look_for(path);
        known.push((path.into(), field));
        field
    }

    fn look_for(&self, path: &str) -> Option<HostField> {
        let mut names = path.split('.');
        // What has no name is not asked for by it.
        if names.clone().any(str::is_empty) {
            return None;
        }
        let mut id = self.find(Kind::Struct, names.next()?)?;
        let mut bit = 0;
        let mut bits = 0;
        while let Some(name) = names.next() {
            if name == "bits" && bits != 0 {
                let low = cfg!(target_endian = "little") && bits <= 8 && bit % 8 == 0;
                let last = names.next().is_none();
                return (low && last).then_some(HostField {
                    offset: u16::try_from(bit / 8).ok()?,
                    size: 1,
                });
            }
            let found = self.types.member(id, name)?;
            bit += found.bit;
            bits = found.bits;
            id = found.of;
        }
        let size = self.size(id)?;
        if bits != 0 || bit % 8 != 0 || self.types.is_part_of_int(id) {
            return None;
        }
        Some(HostField {
            offset: u16::try_from(bit / 8).ok()?,
            size: u16::try_from(size).ok()?,
        })
    }

    /// What makes a pointer of the address of a structure of that name, where the
    /// kernel has that (bpf_rdonly_cast(), Linux 6.2 and later).
    pub fn cast(&self, structure: &str) -> Option<Cast> {
        let number = |kind, name| i32::try_from(self.find(kind, name)?).ok();
        Some(Cast {
            function: number(Kind::Func, CAST)?,
            structure: number(Kind::Struct, structure)?,
        })
    }

    /// The tracepoint of that name, as programs are attached to it by BTF.
    pub fn tracepoint<'a>(&'a self, name: &'a str) -> Option<BtfTracepoint<'a>> {
        let id = self.find(Kind::Typedef, &typedef(name))?;
        // typedef void (*btf_trace_NAME)(void *__data, ARGUMENTS)
        let (_, pointer) = self.types.resolve(id)?;
        let (_, proto) = self.types.resolve(pointer.size_or_type)?;
        (pointer.kind == Kind::Ptr && proto.kind == Kind::FuncProto).then_some(BtfTracepoint {
            btf: self,
            name,
            id,
            proto,
        })
    }

    /// The function of that name, as programs are attached to its return
    /// (BPF_TRACE_FEXIT, Linux 5.5 and later).
    pub fn function<'a>(&'a self, name: &'a str) -> Option<BtfFunction<'a>> {
        let id = self.find(Kind::Func, name)?;
        let function = self.types.get(id)?;
        let (_, proto) = self.types.resolve(function.size_or_type)?;
        let fits = proto.kind == Kind::FuncProto && proto.count <= ARGUMENTS;
        fits.then_some(BtfFunction {
            btf: self,
            name,
            id,
            proto,
        })
    }

    /// The argument of this name in a context that starts with the parameter
    /// `first`; see [`BtfTracepoint::field`].
    fn argument(&self, proto: &Type, first: usize, name: &str) -> Option<HostField> {
        let (number, kind) = name.strip_prefix("arg")?.split_once('.')?;
        let number: u16 = number.parse().ok()?;
        let place = usize::from(number);
        if place >= ARGUMENTS {
            return None;
        }
        let of = self.types.parameter(proto, place + first)?;
        let (_, found) = self.types.resolve(of)?;
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
        match name.starts_with("arg") {
            // The first parameter is the tracepoint's own.
            true => self.btf.argument(&self.proto, 1, name),
            false => self.btf.field(name),
        }
    }
}

/// A function in the kernel's BTF.
pub struct BtfFunction<'a> {
    btf: &'a Btf,
    /// Its name.
    pub name: &'a str,
    /// Its number, to load programs for it.
    pub id: u32,
    proto: Type,
}

impl fmt::Debug for BtfFunction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BtfFunction {} ({})", self.name, self.id)
    }
}

impl BtfFunction<'_> {
    /// How many parameters it has.
    pub fn parameters(&self) -> usize {
        self.proto.count
    }

    /// Where the programs at its return find something: its arguments, as those
    /// of a tracepoint; behind them `ret.ptr`, what it returns, there only if
    /// that is a pointer; all else are members, see [`Btf::field`].
    pub fn field(&self, name: &str) -> Option<HostField> {
        if name.starts_with("arg") {
            return self
                .has_slots()
                .then(|| self.btf.argument(&self.proto, 0, name))?;
        }
        if !name.starts_with("ret.") {
            return self.btf.field(name);
        }
        let (_, returned) = self.btf.types.resolve(self.proto.size_or_type)?;
        let fits = name == "ret.ptr" && returned.kind == Kind::Ptr && self.has_slots();
        fits.then_some(HostField {
            offset: self.proto.count as u16 * 8,
            size: 8,
        })
    }

    /// Whether each argument has 8 bytes of the context: a structure may have
    /// more (v6.12 kernel/bpf/btf.c, `btf_ctx_arg_idx`), and none is known of `...`.
    fn has_slots(&self) -> bool {
        (0..self.proto.count).all(|n| {
            let of = self.btf.types.parameter(&self.proto, n);
            of.and_then(|id| self.btf.size(id))
                .is_some_and(|size| size <= 8)
        })
    }
}

fn typedef(tracepoint: &str) -> String {
    format!("btf_trace_{tracepoint}")
}

/// Where types and strings start and end in the file.
type Sections = ((usize, usize), (usize, usize));

fn sections(reader: &Reader) -> Result<Sections, BtfError> {
    let mut window = Window::new();
    let start: Option<[u8; 4]> = reader
        .slice(&mut window, 0, 4)
        .map(|s| Value::read(s, Order::NATIVE));
    let start = start.ok_or_else(|| reader.why(BtfError::Header))?;
    // Two bytes, and one that is the version; its own order is told by the first two.
    let orders = [Order::Little, Order::Big].into_iter();
    let mut orders = orders.filter(|order| u16::read(&start, *order) == MAGIC);
    let order = orders.next().filter(|_| start[2] == VERSION);
    reader.set_order(order.ok_or(BtfError::Header)?);
    let header = reader.words(&mut window, 4);
    let header = header.ok_or_else(|| reader.why(BtfError::Header))?;
    let [header, types, types_len, strings, strings_len] = header;
    if header < HEADER {
        return Err(BtfError::Header);
    }
    let section = |offset: u32, len: u32| {
        let from = (header as usize).checked_add(offset as usize);
        let both = from.and_then(|from| Some((from, from.checked_add(len as usize)?)));
        both.filter(|(_, to)| *to <= reader.len())
            .ok_or(BtfError::Short)
    };
    Ok((section(types, types_len)?, section(strings, strings_len)?))
}
