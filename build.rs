//! Assembles `bpf-asm/*.s` into `programs.rs`: one static template for each file, named after it.
//!
//! A mistake there fails the build with its file, line and column. The statics hold no path.

// Talking to cargo is printing.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[allow(dead_code)]
#[path = "src/bpf_asm/mod.rs"]
mod bpf_asm;
#[allow(dead_code)]
#[path = "src/bpf_insn.rs"]
mod bpf_insn;
#[allow(dead_code)]
#[path = "src/bpf_link.rs"]
mod bpf_link;

use bpf_asm::Program;
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
    for name in names {
        let read =
            |name: &str| fs::read_to_string(Path::new(DIR).join(name)).map_err(|e| e.to_string());
        let file = format!("{DIR}/{name}");
        let text = read(&name).map_err(|e| format!("can't read {file}: {e}"))?;
        let program =
            bpf_asm::assemble(&file, &text, &mut |name| read(name)).map_err(|e| e.to_string())?;
        let stem = name.trim_end_matches(".s");
        render(&mut out, stem, &program);
        all.push(format!("&{}", stem.to_uppercase()));
    }
    let _ = writeln!(
        out,
        "\n/// All of them.\npub static ALL: &[&Template<'static>] = &[{}];",
        all.join(", ")
    );
    let target = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?;
    fs::write(Path::new(&target).join("programs.rs"), out)
        .map_err(|e| format!("can't write programs.rs: {e}"))
}

/// Adds the program as Rust text.
fn render(out: &mut String, stem: &str, program: &Program) {
    let Program {
        name,
        group,
        event,
        license,
        fields,
        maps,
        items,
    } = program;
    let _ = write!(
        out,
        "\n/// `{name}` on `{group}:{event}`, from `{DIR}/{stem}.s`.\n\
         pub static {}: Template<'static> = Template {{\n    name: {name:?},\n    group: {group:?},\n    \
         event: {event:?},\n    license: {license:?},\n    fields: &[\n",
        stem.to_uppercase()
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
