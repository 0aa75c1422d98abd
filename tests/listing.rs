//! `-d` and `--export-object` for other hosts, without any right: by their
//! `format` files, and by BTF in ELF files, hostile ones too.

mod common;

use common::{Output, Run, TempDir, skip, xlated};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};
use proptest::prelude::*;
use socket_snoop::bpf::guard::{Guard, ROOM};
use socket_snoop::bpf_link::builder::Part;
use socket_snoop::btf::{Btf, BtfError};
use socket_snoop::filter::tree::{Expr, Ranges, Term};
use socket_snoop::programs::Assembled;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

fn formats() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats");
    let folders = fs::read_dir(root).expect("formats");
    folders
        .map(|folder| folder.expect("a folder").path())
        .collect()
}

fn of_formats(folder: &Path) -> Run {
    Run::new("").arg("--formats").arg(folder)
}

#[test]
fn every_hosts_programs_are_listed() {
    let all = formats();
    assert!(all.len() >= 14);
    for folder in &all {
        let out = of_formats(folder).arg("-d").run().ok();
        let listing = xlated::listing(&out.stdout);
        // By records alone, and no message from the kernel has the counters.
        assert!(listing.programs.contains_key("socket_snoop_st"), "{out:?}");
        assert!(!listing.programs.contains_key("socket_snoop_ac"));
        assert!(
            listing
                .maps
                .values()
                .any(|map| map.entries.contains("possible CPU"))
        );
        assert!(out.stdout.contains("; assumed: "), "{out:?}");
    }
}

/// The longest filter that is taken has room on every host.
#[test]
fn the_longest_filter_fits() {
    let set = |count: u32| Ranges::of((0..count).map(|n| (3 * n, 3 * n)).collect::<Vec<_>>());
    let of = |last: u32| {
        let all = [
            Term::Pid(set(500)),
            Term::Uid(set(500)),
            Term::Netns(set(last)),
        ];
        Expr::and(all.map(Expr::from))
    };
    let slots = |expr: &Expr| -> usize {
        let guard = Guard::compile(expr).expect("it can be decided");
        guard.parts().iter().map(Part::slots).sum()
    };
    let last = (1..500).rev().find(|last| slots(&of(*last)) <= ROOM);
    let longest = of(last.expect("one that fits"));
    assert!(slots(&longest) > ROOM - 20);
    for folder in formats() {
        let listed = of_formats(&folder)
            .arg("-dd")
            .arg(longest.text())
            .run()
            .ok();
        assert!(listed.stdout.contains("; socket_snoop_st "));
    }
}

/// A folder is taken as it was copied: from tracefs, from its `events`, or flat.
#[test]
fn folders_may_be_laid_out_as_they_were_copied() {
    let from = formats().remove(0);
    let expected = of_formats(&from).arg("-d").run().ok().stdout;
    let dir = TempDir::new();
    for prefix in ["", "events"] {
        let to = dir.join(if prefix.is_empty() { "bare" } else { "whole" });
        for group in fs::read_dir(&from).expect("groups") {
            let group = group.expect("a group").path();
            for file in fs::read_dir(&group).expect("events") {
                let file = file.expect("a file").path();
                let event = file.file_stem().expect("a name");
                let event = to
                    .join(prefix)
                    .join(group.file_name().expect("a name"))
                    .join(event);
                fs::create_dir_all(&event).expect("a folder");
                fs::copy(&file, event.join("format")).expect("copied");
            }
        }
        assert_eq!(
            of_formats(&to).arg("-d").run().ok().stdout,
            expected,
            "{prefix}"
        );
    }
}

fn refused(out: Output, code: i32, why: &str) {
    assert_eq!((out.code, out.stdout.as_str()), (Some(code), ""), "{out:?}");
    assert!(
        out.stderr.contains(why) && out.stderr.lines().count() == 1,
        "{out:?}"
    );
}

#[test]
fn what_can_t_be_used_is_said_in_a_line() {
    let dir = TempDir::new();
    let text = dir.join("text");
    fs::write(&text, "no BTF").expect("written");
    let run = |args: &str| Run::new(args).run();
    refused(run("--formats /nowhere"), 2, "go with -d");
    refused(
        run("-d --formats /nowhere"),
        4,
        "/nowhere has no sock/inet_sock_set_state/format",
    );
    refused(run("-d --transport perf"), 2, "no program is loaded");
    refused(run("-d --btf /nowhere"), 1, "cannot read /nowhere: ENOENT");
    let btf = |path: &Path| Run::new("-d").arg("--btf").arg(path).run();
    refused(btf(&text), 4, "its header can't be read");
    // Of an ELF file that has none.
    let own = std::env::current_exe().expect("this test");
    refused(btf(&own), 4, "it is an ELF file without BTF");
    // What has BTF, but not a kernel's.
    let object = objects(&dir).join("socket_snoop_st.o");
    refused(
        btf(&object),
        4,
        "the BTF has no tracepoint sock:inet_sock_set_state",
    );
}

/// Objects for a host that is not this one; the folder.
fn objects(dir: &TempDir) -> PathBuf {
    let to = dir.join("objects");
    of_formats(&formats().remove(0))
        .arg("--export-object")
        .arg(&to)
        .run()
        .ok();
    to
}

/// An object is what `-d` lists, as others read it.
#[test]
fn objects_are_the_listed_programs() {
    let dir = TempDir::new();
    let from = formats().remove(0);
    let listing = xlated::listing(&of_formats(&from).arg("-d").run().ok().stdout);
    let folder = objects(&dir);
    for (name, listed) in &listing.programs {
        let path = folder.join(format!("{name}.o"));
        let bytes = fs::read(&path).expect("the object");
        let file = object::File::parse(&*bytes).expect("an ELF file");
        let text = file.sections().next().expect("the program");
        assert!(text.name().expect("a name").starts_with("tracepoint/"));
        // Each map's load is a relocation to that map.
        let mut maps: Vec<_> = listed
            .iter()
            .filter_map(|l| Some((l.place as u64 * 8, l.map.clone()?)))
            .collect();
        for (at, relocation) in text.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                panic!("{relocation:?}");
            };
            let symbol = file.symbol_by_index(symbol).expect("a symbol");
            assert_eq!(
                (at, symbol.name().expect("a name").to_string()),
                maps.remove(0)
            );
        }
        assert!(maps.is_empty(), "{maps:?}");
        let license = file.section_by_name("license").expect("a licence");
        assert_eq!(license.data().expect("its text"), b"Dual MIT/GPL\0");
        let btf = file
            .section_by_name(".BTF")
            .expect("BTF")
            .data()
            .expect("BTF");
        let btf = Btf::parse(btf.to_vec()).expect("BTF");
        assert!(btf.find(socket_snoop::btf::Kind::Func, name).is_some());
        disassembled(&path, listed);
    }
}

/// llvm-objdump prints the same instructions.
fn disassembled(path: &Path, listed: &[xlated::Listed]) {
    let out = Command::new("llvm-objdump")
        .args(["-d", "--no-show-raw-insn"])
        .arg(path)
        .output();
    let Ok(out) = out else {
        return skip("llvm-objdump is not installed");
    };
    let text = String::from_utf8(out.stdout).expect("text");
    let lines = text.lines().filter_map(|line| {
        let (place, insn) = line.trim().split_once(":\t")?;
        let insn = insn.split(" <socket_snoop").next()?.trim();
        Some((place.parse::<usize>().ok()?, insn.to_string()))
    });
    let theirs: Vec<_> = lines.collect();
    assert_eq!(theirs.len(), listed.len(), "{}", path.display());
    for ((place, text), ours) in theirs.iter().zip(listed) {
        let own = ours.text.replace("map[fd:0]", "0");
        // Before LLVM 18 it knows no store of a number.
        let stores = own
            .split_once(" = ")
            .is_some_and(|(to, what)| to.starts_with("*(") && what.parse::<i32>().is_ok());
        let same = *text == own || stores && text == "<unknown>";
        assert!(same && *place == ours.place, "{text} is not {ours:?}");
    }
}

fn of_copy(dir: &TempDir, bytes: &[u8]) -> Result<Btf, BtfError> {
    let path = dir.join("file");
    fs::write(&path, bytes).expect("written");
    let programs = Assembled::unpack().expect("whole");
    Btf::of_copy(File::open(&path).expect("opened"), &programs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is in an ELF file, it is BTF or an error.
    #[test]
    fn damaged_elf_files_are_read_without_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        heads in prop::collection::vec((0..64usize, any::<u8>()), 0..3),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let dir = TempDir::new();
        let object = objects_once();
        let mut bytes = object.clone();
        for (at, byte) in &changes {
            // Where the section headers are, mostly.
            let at = bytes.len() - 1 - at.index(bytes.len()) % 700;
            bytes[at] = *byte;
        }
        for (at, byte) in heads {
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(object.len()));
        }
        let _ = of_copy(&dir, &bytes);
    }
}

fn objects_once() -> &'static Vec<u8> {
    static OBJECT: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let dir = TempDir::new();
        fs::read(objects(&dir).join("socket_snoop_st.o")).expect("the object")
    });
    &OBJECT
}

/// What is in a section is found as if it were a file of its own.
#[test]
fn a_section_is_a_file_of_its_own() {
    let dir = TempDir::new();
    let btf = of_copy(&dir, objects_once()).expect("BTF");
    assert!(
        btf.find(socket_snoop::btf::Kind::Func, "socket_snoop_st")
            .is_some()
    );
    // A section header that claims a part beyond the file.
    let mut bytes = objects_once().clone();
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let (start, len) = file
        .section_by_name(".BTF")
        .expect("BTF")
        .file_range()
        .expect("there");
    let header = bytes
        .windows(16)
        .position(|w| w == [start.to_ne_bytes(), len.to_ne_bytes()].concat());
    let header = header.expect("its header");
    bytes[header + 8..header + 16].copy_from_slice(&u64::MAX.to_ne_bytes());
    assert!(of_copy(&dir, &bytes).is_err());
    bytes[header..header + 8].copy_from_slice(&(u64::MAX - 8).to_ne_bytes());
    assert!(of_copy(&dir, &bytes).is_err());
}
