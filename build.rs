//! Assembles `bpf-asm/*.s` into `programs.rs`: one static template for each file, named after it, and one more for each
//! further way to the events that it is written for. What the reader of the events has to know, too, becomes `layout.rs`.
//!
//! A mistake there fails the build with its file, line and column. The statics hold no path.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to cargo is printing"
)]

#[allow(dead_code, reason = "shared with the library")]
#[path = "src/bpf_asm/mod.rs"]
mod bpf_asm;
#[allow(dead_code, reason = "shared with the library")]
#[path = "src/bpf_insn.rs"]
mod bpf_insn;
#[allow(dead_code, reason = "shared with the library")]
#[path = "src/bpf_link.rs"]
mod bpf_link;

use bpf_asm::{Export, Exported, Program, Type, Variant};
use bpf_link::Item;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, process};

const DIR: &str = "bpf-asm";

fn main() {
    for path in [
        DIR,
        "build.rs",
        "src/bpf_asm",
        "src/bpf_insn.rs",
        "src/bpf_insn",
        "src/bpf_link.rs",
        "src/bpf_link",
    ] {
        println!("cargo:rerun-if-changed={path}");
    }
    if let Err(why) = run() {
        eprintln!("{why}");
        process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let listed = fs::read_dir(DIR).map_err(|e| format!("can't list {DIR}: {e}"))?;
    let mut names: Vec<String> = listed
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.retain(|name| name.ends_with(".s"));
    names.sort();
    let mut out = String::from(
        "use crate::bpf_insn::Insn;\nuse crate::bpf_link::{FieldRef, Item, Template};\n",
    );
    let mut all = Vec::new();
    let mut exports: Vec<Export> = Vec::new();
    for name in names {
        let read =
            |name: &str| fs::read_to_string(Path::new(DIR).join(name)).map_err(|e| e.to_string());
        let file = format!("{DIR}/{name}");
        let text = read(&name).map_err(|e| format!("can't read {file}: {e}"))?;
        let big_endian = env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() == Ok("big");
        let assemble = |way| {
            let variant = Variant { way, big_endian };
            bpf_asm::assemble_for(variant, &file, &text, &mut |name| read(name))
                .map_err(|e| e.to_string())
        };
        let stem = name.trim_end_matches(".s");
        let first = assemble(None)?;
        let mut add = |name: String, program: &Program| {
            render(&mut out, stem, &name.to_uppercase(), program);
            all.push(format!("&{}", name.to_uppercase()));
        };
        add(stem.to_string(), &first);
        for export in first.exports {
            match exports.iter().find(|known| known.name == export.name) {
                None => exports.push(export),
                Some(known) if *known == export => {}
                Some(_) => return Err(format!("{file}: another {}", export.name)),
            }
        }
        for way in first.ways.iter().skip(1) {
            add(format!("{stem}_{way}"), &assemble(Some(way))?);
        }
    }
    let _ = writeln!(
        out,
        "\n/// All of them.\npub static ALL: &[&Template<'static>] = &[{}];",
        all.join(", ")
    );
    let target = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?;
    for (name, text) in [("programs.rs", out), ("layout.rs", layout(&exports))] {
        fs::write(Path::new(&target).join(name), text)
            .map_err(|e| format!("can't write {name}: {e}"))?;
    }
    Ok(())
}

/// What the reader of the events has to know, as Rust text.
fn layout(exports: &[Export]) -> String {
    let number = |kind: &Type| format!("{}{}", if kind.signed { 'i' } else { 'u' }, kind.unit * 8);
    let mut out = String::new();
    for Export { name, what, about } in exports {
        let _ = writeln!(out, "/// {}.", if about.is_empty() { name } else { about });
        let _ = match what {
            Exported::Constant(kind, value) => {
                writeln!(out, "pub const {name}: {} = {value};", number(kind))
            }
            Exported::Size(bytes) => writeln!(out, "pub const {name}: usize = {bytes};"),
            Exported::Member(at, kind) => {
                let one = number(kind);
                let of = kind.count.map(|count| format!("[{one}; {count}]"));
                let of = of.unwrap_or(one);
                writeln!(out, "pub const {name}: Field<{of}> = Field::at({at});")
            }
        };
    }
    out
}

/// Adds the program as Rust text, from this file and under this name.
fn render(out: &mut String, stem: &str, constant: &str, program: &Program) {
    let Program {
        name,
        group,
        event,
        license,
        fields,
        maps,
        items,
        ..
    } = program;
    let _ = write!(
        out,
        "\n/// `{name}` on `{group}:{event}`, from `{DIR}/{stem}.s`.\n\
         pub static {}: Template<'static> = Template {{\n    name: {name:?},\n    group: {group:?},\n    \
         event: {event:?},\n    license: {license:?},\n    fields: &[\n",
        constant
    );
    for field in fields {
        let (name, widths, optional) = (&field.name, &field.widths, field.optional);
        let _ = writeln!(
            out,
            "        FieldRef {{ name: {name:?}, widths: &{widths:?}, optional: {optional} }},"
        );
    }
    let _ = writeln!(out, "    ],\n    maps: &{maps:?},\n    items: &[");
    for item in items {
        let _ = match item {
            // An instruction is shorter as its 8 bytes.
            Item::Insn(insn) => writeln!(
                out,
                "        Item::Insn(Insn::decode({:#018x})), // {insn}",
                insn.encode()
            ),
            Item::Jump { insn, target } => writeln!(
                out,
                "        Item::Jump {{ insn: Insn::decode({:#018x}), target: {target} }}, // {insn}",
                insn.encode()
            ),
            other => writeln!(out, "        Item::{other:?},"),
        };
    }
    let _ = writeln!(out, "    ],\n}};");
}
