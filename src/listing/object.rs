//! A program as an ELF relocatable, as clang makes them and libbpf reads them.
//!
//! Contract: a section for the program, named by its type; `.maps` with the maps
//! that it uses, which the relocations name; its licence; `.BTF` and `.BTF.ext`
//! with the line of each instruction (v6.12 Documentation/bpf/btf.rst,
//! tools/lib/bpf/libbpf.c).

mod elf;

use super::plan::{Program, Subject};
use crate::bpf::debug::{self, Debug, GLOBAL, NEXT};
use crate::bpf::made::Shape;
use crate::bpf_link::Item;
use crate::error::{Error, Kind};
use crate::sys::{Errno, file};
use elf::{Elf, Section};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;
use object::elf::{SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_PROGBITS, STT_FUNC, STT_OBJECT};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The sections, in their order: the program, the licence, the maps.
const TEXT: u16 = 1;
const LICENSE: u16 = 2;
const MAPS: u16 = 3;
/// The first map among the symbols: behind none, the program and the licence.
const FIRST_MAP: u32 = 3;
/// Bytes of a slot.
const SLOT: usize = 8;
/// Members that tell what a map is like, each a pointer.
const MEMBERS: [&str; 4] = ["type", "key_size", "value_size", "max_entries"];
/// Bytes of a map in `.maps`.
const MAP: u32 = 8 * MEMBERS.len() as u32;

/// Kinds of types in BTF, at their place.
const PTR: u32 = 2 << 24;
const ARRAY: u32 = 3 << 24;
const STRUCT: u32 = 4 << 24;
const VAR: u32 = 14 << 24;
const DATASEC: u32 = 15 << 24;
/// The number of `int` among the types.
const INT: u32 = 1;

/// Writes it to the folder, named after it.
pub(super) fn write(folder: &Path, program: &Program, shapes: &[Shape]) -> Result<(), Error> {
    let path = folder.join(program.file());
    let failed = |why: &str| {
        Error::new(
            Kind::Runtime,
            format!("cannot write {}: {why}", path.display()),
        )
    };
    let bytes = bytes(program, shapes).ok_or_else(|| failed("the program makes no object"))?;
    make(folder.as_os_str().as_bytes());
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
    let written = file::open(&path, flags).and_then(|mut file| {
        let written = file.write_all(&bytes);
        written.map_err(|why| Errno::from_io(&why))
    });
    written.map_err(|errno| failed(&errno.to_string()))
}

/// Makes a folder, and those that it is in. That one isn't there shows when something
/// is written to it. (The standard library's way takes 2.5 kB of the binary.)
fn make(folder: &[u8]) {
    for end in 1..=folder.len() {
        if folder.get(end).is_none_or(|byte| *byte == b'/') {
            let _ = mkdir(&folder[..end], Mode::from_bits_truncate(0o777));
        }
    }
}

/// The name of the program's section, by which libbpf knows its type.
fn section(program: &Program) -> String {
    let (group, event) = (&program.template.group, &program.template.event);
    match program.subject {
        Subject::Record => format!("tracepoint/{group}/{event}"),
        Subject::Arguments => format!("tp_btf/{event}"),
        Subject::Return => format!("fexit/{event}"),
        Subject::Every => "raw_tp".to_string(),
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The types of the maps: see [`Debug::with`].
fn types(strings: &mut Vec<u8>, types: &mut Vec<u32>, maps: &[&Shape]) {
    let mut next = NEXT;
    let mut vars = Vec::new();
    for shape in maps {
        let numbers = [
            shape.kind as u32,
            shape.sizes.0,
            shape.sizes.1,
            shape.entries,
        ];
        // Each number is that of an array's elements, to which a member points.
        for number in numbers {
            types.extend([0, ARRAY, 0, INT, INT, number]);
            types.extend([0, PTR, next]);
            next += 2;
        }
        types.extend([0, STRUCT | MEMBERS.len() as u32, MAP]);
        for (n, member) in (0..).zip(MEMBERS) {
            let pointer = next - 2 * MEMBERS.len() as u32 + 2 * n + 1;
            types.extend([debug::add(strings, member), pointer, 64 * n]);
        }
        types.extend([debug::add(strings, shape.name), VAR, next, GLOBAL]);
        vars.push(next + 1);
        next += 2;
    }
    let len = MAP * maps.len() as u32;
    types.extend([
        debug::add(strings, ".maps"),
        DATASEC | maps.len() as u32,
        len,
    ]);
    for (n, var) in (0..).zip(vars) {
        types.extend([var, MAP * n, MAP]);
    }
}

fn bytes(program: &Program, shapes: &[Shape]) -> Option<Vec<u8>> {
    let (template, linked) = (&program.template, &program.linked);
    let name = section(program);
    let maps: Vec<&Shape> = shapes
        .iter()
        .filter(|shape| template.maps.iter().any(|name| name == shape.name))
        .collect();
    let (mut code, mut relocations) = (Vec::new(), Vec::new());
    for (at, insn) in linked.insns.iter().enumerate() {
        let mut insn = *insn;
        let item = template.items.get(*linked.items.get(at)? as usize);
        if let (Some(Item::Map { map, .. }), true) = (item, insn.is_wide()) {
            (insn.src, insn.imm) = (0, 0);
            let name = template.maps.get(usize::from(*map))?;
            let map = maps.iter().position(|shape| shape.name == name)?;
            relocations.push((at * SLOT, FIRST_MAP + map as u32));
        }
        code.extend(insn.native().to_ne_bytes());
    }
    let mut at_section = 0;
    let told = Debug::with(template, linked, GLOBAL, &mut |strings, all| {
        at_section = debug::add(strings, &name);
        if !maps.is_empty() {
            types(strings, all, &maps);
        }
    })?;
    let license = [template.license.as_bytes(), b"\0"].concat();
    let mut symbols = vec![
        (template.name.as_str(), TEXT, STT_FUNC, 0, code.len()),
        ("_license", LICENSE, STT_OBJECT, 0, license.len()),
    ];
    for (n, shape) in maps.iter().enumerate() {
        let bytes = MAP as usize;
        symbols.push((shape.name, MAPS, STT_OBJECT, n * bytes, bytes));
    }
    let extension = extension(&told, at_section);
    let mut file = Elf::default();
    let data = |kind, flags, bytes| Section {
        kind,
        flags: flags as u64,
        align: 8,
        bytes,
        ..Section::default()
    };
    file.section(&name, data(SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, code));
    file.section(
        "license",
        data(SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, license),
    );
    let table = vec![0; maps.len() * MAP as usize];
    file.section(".maps", data(SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, table));
    file.section(".BTF", data(SHT_PROGBITS, 0, told.btf));
    file.section(".BTF.ext", data(SHT_PROGBITS, 0, extension));
    file.relocations(&name, TEXT, &relocations);
    file.symbols(&symbols);
    Some(file.bytes())
}

/// `.BTF.ext` (v6.12 tools/lib/bpf/libbpf_internal.h, struct btf_ext_header):
/// as the kernel takes them, but that instructions are counted in bytes.
fn extension(told: &Debug, section: u32) -> Vec<u8> {
    const HEADER: u32 = 24;
    let [at, function] = told.function;
    let functions = words(&[8, section, 1, at, function]);
    let mut lines = words(&[16, section, told.lines.len() as u32]);
    for [at, rest @ ..] in &told.lines {
        lines.extend(words(&[at * SLOT as u32]));
        lines.extend(words(rest));
    }
    let (functions_len, lines_len) = (functions.len() as u32, lines.len() as u32);
    let start = [&0xeb9fu16.to_ne_bytes()[..], &[1, 0]].concat();
    let header = words(&[HEADER, 0, functions_len, functions_len, lines_len]);
    [start, header, functions, lines].concat()
}
