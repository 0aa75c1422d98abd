//! Assembles `bpf-asm/*.s` and packs the programs into one piece, `programs.bin`: one for each file, and one more for
//! each further way to the events that it is written for. `programs.rs` names them, each after its file. What the
//! reader of the events has to know, too, becomes `layout.rs`.
//!
//! A mistake there fails the build with its file, line and column, as does a piece of which another program would be
//! unpacked. What is made holds no path.
//!
//! `SOCKET_SNOOP_VERSION` becomes what `--version` says: the version, and in a release the commit.

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
#[path = "build/commit.rs"]
mod commit;

use bpf_asm::{Export, Exported, Type, Variant};
use bpf_link::packed::Packed;
use bpf_link::{Item, Template};
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, process};

const DIR: &str = "bpf-asm";

/// What a binary is made of.
const SOURCES: [&str; 11] = [
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "build",
    "build.rs",
    "bpf-asm",
    "scripts/build",
    "scripts/common.sh",
    "scripts/ld-static-pie",
    "scripts/no-unwind.ld",
    "src",
];

fn main() {
    for path in [
        DIR,
        "build",
        "build.rs",
        "src/bpf_asm",
        "src/bpf_insn.rs",
        "src/bpf_insn",
        "src/bpf_link.rs",
        "src/bpf_link",
    ] {
        println!("cargo:rerun-if-changed={path}");
    }
    version();
    if let Err(why) = run() {
        eprintln!("{why}");
        process::exit(1);
    }
}

/// Says the version. Only a release names its commit, or each commit would build all the tests anew.
fn version() {
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let is = |name, value| env::var(name).as_deref() == Ok(value);
    // Not the profiles that inherit from it for what measures.
    let commit = match is("PROFILE", "release") && is("OPT_LEVEL", "z") {
        false => None,
        true => {
            for path in commit::tells(Path::new(".")).iter().map(String::as_str) {
                println!("cargo:rerun-if-changed={path}");
            }
            for path in SOURCES {
                println!("cargo:rerun-if-changed={path}");
            }
            commit::commit(Path::new("."), &SOURCES)
        }
    };
    let commit = commit.map(|commit| format!(" ({commit})"));
    let commit = commit.unwrap_or_default();
    println!("cargo:rustc-env=SOCKET_SNOOP_VERSION={version}{commit}");
}

fn run() -> Result<(), String> {
    let listed = fs::read_dir(DIR).map_err(|e| format!("can't list {DIR}: {e}"))?;
    let mut names: Vec<String> = listed
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.retain(|name| name.ends_with(".s"));
    names.sort();
    let mut templates: Vec<Template> = Vec::new();
    let mut out = String::new();
    let mut exports: Vec<Export> = Vec::new();
    for name in names {
        let read =
            |name: &str| fs::read_to_string(Path::new(DIR).join(name)).map_err(|e| e.to_string());
        let file = format!("{DIR}/{name}");
        let text = read(&name).map_err(|e| format!("can't read {file}: {e}"))?;
        let big_endian = env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() == Ok("big");
        let assemble = |way| {
            let variant = Variant { way, big_endian };
            bpf_asm::assemble_for(variant, &name, &text, &mut |name| read(name))
                .map_err(|e| format!("{DIR}/{e}"))
        };
        let stem = name.trim_end_matches(".s");
        let first = assemble(None)?;
        let mut add = |constant: String, template: Template| {
            let Template {
                name: loaded,
                group,
                event,
                ..
            } = &template;
            let number = templates.len();
            let _ = writeln!(
                out,
                "/// `{loaded}` on `{group}:{event}`, from `{DIR}/{name}`.\npub const {}: Name = Name({number});",
                constant.to_uppercase()
            );
            templates.push(template);
        };
        add(stem.to_string(), first.template);
        for export in first.exports {
            match exports.iter().find(|known| known.name == export.name) {
                None => exports.push(export),
                Some(known) if *known == export => {}
                Some(_) => return Err(format!("{file}: another {}", export.name)),
            }
        }
        for way in first.ways.iter().skip(1) {
            add(format!("{stem}_{way}"), assemble(Some(way))?.template);
        }
    }
    let count = templates.len();
    let all: Vec<String> = (0..count).map(|n| format!("Name({n})")).collect();
    let _ = writeln!(
        out,
        "\n/// All of them.\npub const ALL: [Name; {count}] = [{}];",
        all.join(", ")
    );
    let packed = bpf_asm::pack(&templates);
    verify(&packed, &templates)?;
    let target = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?;
    for (name, bytes) in [
        ("programs.rs", out.into_bytes()),
        ("programs.bin", packed),
        ("layout.rs", layout(&exports).into_bytes()),
    ] {
        fs::write(Path::new(&target).join(name), bytes)
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

/// Unpacks what was packed, and compares. The text's numbers are others, and a field with two names is one.
fn verify(packed: &[u8], templates: &[Template]) -> Result<(), String> {
    let read = Packed::read(packed).ok_or("what was packed can't be unpacked")?;
    let line = |of: &Template, n: u32| {
        of.text
            .get(n)
            .map(|p| (p.file.to_string(), p.number, p.text.to_string()))
    };
    for (n, template) in templates.iter().enumerate() {
        let name = &template.name;
        let same = read.template(n).filter(|other| {
            let lines = |of: &Template| of.lines.iter().map(|n| line(of, *n)).collect::<Vec<_>>();
            let labels = |of: &Template| {
                of.labels
                    .iter()
                    .map(|(at, n)| (*at, line(of, *n)))
                    .collect::<Vec<_>>()
            };
            let bare = |of: &Template| Template {
                items: of.items.iter().map(|item| once(of, *item)).collect(),
                lines: Vec::new(),
                labels: Vec::new(),
                text: Default::default(),
                ..of.clone()
            };
            lines(other) == lines(template)
                && labels(other) == labels(template)
                && bare(other) == bare(template)
        });
        same.ok_or_else(|| format!("{name} is not what was packed once it is unpacked"))?;
    }
    match read.len() == templates.len() {
        true => Ok(()),
        false => Err("there are more programs than were packed".into()),
    }
}

/// The item with the first number that its field has.
fn once(of: &Template, mut item: Item) -> Item {
    if let Item::Load { field, .. }
    | Item::Copy { field, .. }
    | Item::Peek { field, .. }
    | Item::If { field, .. } = &mut item
    {
        let named = &of.fields[usize::from(*field)];
        let first = of.fields.iter().position(|other| other == named);
        *field = first.map_or(*field, |first| first as u16);
    }
    item
}
