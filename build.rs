//! Assembles `bpf-asm/*.s` and packs them into one piece, `programs.bin`; `programs.rs` names them, each after its file.
//!
//! A mistake there fails the build with its file, line and column, as does a piece of which another program would be
//! unpacked. What is made holds no path.

// Talking to cargo is printing.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[allow(dead_code)]
#[path = "src/bpf_asm/mod.rs"]
mod bpf_asm;
#[allow(dead_code)]
#[path = "src/bpf_insn.rs"]
mod bpf_insn;
#[allow(dead_code)]
#[path = "src/bpf"]
mod bpf {
    pub mod link;
    pub mod packed;
}

use bpf::link::Template;
use bpf::packed::Packed;
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
        "src/bpf/link.rs",
        "src/bpf/link",
        "src/bpf/packed.rs",
        "src/bpf/packed",
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
    let mut out = String::new();
    let mut templates = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let read =
            |name: &str| fs::read_to_string(Path::new(DIR).join(name)).map_err(|e| e.to_string());
        let text = read(name).map_err(|e| format!("can't read {DIR}/{name}: {e}"))?;
        let template = bpf_asm::assemble(name, &text, &mut |name| read(name))
            .map_err(|e| format!("{DIR}/{e}"))?;
        let constant = name.trim_end_matches(".s").to_uppercase();
        let Template {
            name: loaded,
            group,
            event,
            ..
        } = &template;
        let _ = writeln!(
            out,
            "/// `{loaded}` on `{group}:{event}`, from `{DIR}/{name}`.\npub const {constant}: Name = Name({n});"
        );
        templates.push(template);
    }
    let count = names.len();
    let all: Vec<String> = (0..count).map(|n| format!("Name({n})")).collect();
    let _ = writeln!(
        out,
        "\n/// All of them.\npub const ALL: [Name; {count}] = [{}];",
        all.join(", ")
    );
    let packed = bpf_asm::pack(&templates);
    verify(&packed, &templates)?;
    let target = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?;
    let write = |name: &str, bytes: &[u8]| {
        fs::write(Path::new(&target).join(name), bytes)
            .map_err(|e| format!("can't write {name}: {e}"))
    };
    write("programs.rs", out.as_bytes())?;
    write("programs.bin", &packed)
}

/// Unpacks what was packed, and compares; the text's numbers are others.
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
