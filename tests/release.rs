//! The binaries of `make release` are what the README promises: one static file each, hardened,
//! small, without a trace of the machine that built them.
//!
//! Contract: [`faults`] names everything that is wrong with a file. It is shown here that each of
//! its checks can fail: ordinary programs and doctored copies of the real one are refused.
//! Where `dist/` is not built the tests skip with a reason, and fail with `CI=true`.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use object::LittleEndian;
use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};

type Header = elf::FileHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

/// Architecture as in the file's name, and as in its ELF header.
const ARCHES: [(&str, u16); 2] = [("x86_64", elf::EM_X86_64), ("aarch64", elf::EM_AARCH64)];

/// The editions, and the most bytes that each may have.
const EDITIONS: [(&str, usize); 2] = [
    ("socket-snoop", 640 * 1024),
    ("socket-snoop-full", 1200 * 1024),
];

/// A release binary.
#[derive(Clone, Copy)]
struct Release {
    edition: &'static str,
    arch: &'static str,
    machine: u16,
    limit: usize,
}

/// All of them.
fn releases() -> impl Iterator<Item = Release> {
    let of = |(edition, limit)| {
        ARCHES.map(|(arch, machine)| Release {
            edition,
            arch,
            machine,
            limit,
        })
    };
    EDITIONS.into_iter().flat_map(of)
}

/// Where a release binary is.
fn path_of(release: Release) -> PathBuf {
    let Release { edition, arch, .. } = release;
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("dist/{edition}-{arch}"))
}

/// A release binary; `None`, said, where it is not built.
fn read(release: Release) -> Option<Vec<u8>> {
    let path = path_of(release);
    match std::fs::read(&path) {
        Ok(data) => Some(data),
        Err(e) => {
            common::skip(&format!("{}: {e}: run 'make release'", path.display()));
            None
        }
    }
}

/// Folders of the building machine, none of which may be named in a binary.
fn build_folders() -> Vec<String> {
    let mut folders = vec![
        env!("CARGO_MANIFEST_DIR").to_owned(),
        "/.cargo/".to_owned(),
        "/.rustup/".to_owned(),
    ];
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR"] {
        folders.extend(std::env::var(name));
    }
    // "/" or the like would be found anywhere.
    folders.retain(|f| f.len() > 3);
    folders
}

/// Everything that is wrong with a release binary; empty where it is right.
fn faults(data: &[u8], release: Release) -> Vec<String> {
    let mut faults =
        structure(data, release.machine).unwrap_or_else(|e| vec![format!("no ELF: {e}")]);
    if data.len() > release.limit {
        faults.push(format!("too large: {} bytes", data.len()));
    }
    for folder in build_folders() {
        if data.windows(folder.len()).any(|w| w == folder.as_bytes()) {
            faults.push(format!("names the build folder {folder}"));
        }
    }
    faults
}

/// What is wrong with the headers of a binary.
fn structure(data: &[u8], machine: u16) -> object::read::Result<Vec<String>> {
    let header = Header::parse(data)?;
    let segments = header.program_headers(LE, data)?;
    let has = |kind| segments.iter().any(|s| s.p_type(LE) == kind);
    let flags_of = |kind| {
        let of_kind = segments.iter().filter(move |s| s.p_type(LE) == kind);
        of_kind.map(|s| s.p_flags(LE))
    };
    let mut dynamic = Vec::new();
    for segment in segments {
        for entry in segment.dynamic(LE, data)?.unwrap_or_default() {
            dynamic.push((entry.tag32(LE), entry.d_val(LE)));
        }
    }
    let value = |tag| {
        let found = dynamic.iter().find(|(t, _)| *t == Some(tag));
        found.map_or(0, |(_, v)| *v)
    };
    let symbols = header
        .section_headers(LE, data)?
        .iter()
        .any(|s| s.sh_type(LE) == elf::SHT_SYMTAB);
    let now = value(elf::DT_FLAGS) & u64::from(elf::DF_BIND_NOW) != 0
        || value(elf::DT_FLAGS_1) & u64::from(elf::DF_1_NOW) != 0;
    let stack = flags_of(elf::PT_GNU_STACK).next();

    let checks = [
        (header.e_machine(LE) == machine, "another architecture"),
        (header.e_type(LE) == elf::ET_DYN, "at a fixed address"),
        (
            value(elf::DT_FLAGS_1) & u64::from(elf::DF_1_PIE) != 0,
            "no PIE",
        ),
        (!has(elf::PT_INTERP), "wants an interpreter"),
        (
            dynamic.iter().all(|(t, _)| *t != Some(elf::DT_NEEDED)),
            "needs a library",
        ),
        (has(elf::PT_GNU_RELRO), "no RELRO"),
        (now, "no immediate binding"),
        (
            stack.is_some_and(|f| f & elf::PF_X == 0),
            "executable stack",
        ),
        (
            flags_of(elf::PT_LOAD).all(|f| f & (elf::PF_W | elf::PF_X) != elf::PF_W | elf::PF_X),
            "writable code",
        ),
        (!symbols, "not stripped"),
    ];
    let wrong = checks.into_iter().filter(|(right, _)| !right);
    Ok(wrong.map(|(_, fault)| fault.to_owned()).collect())
}

#[test]
fn each_release_binary_is_static_hardened_small_and_anonymous() {
    for release in releases() {
        if let Some(data) = read(release) {
            let none: Vec<String> = Vec::new();
            let path = path_of(release);
            assert_eq!(faults(&data, release), none, "{}", path.display());
        }
    }
}

/// A static-pie with the wrong start file has all the right headers and crashes at once: run it.
#[test]
fn each_release_binary_starts() {
    for release in releases() {
        let arch = release.arch;
        if read(release).is_none() {
            continue;
        }
        let mut command = if arch == std::env::consts::ARCH {
            Command::new(path_of(release))
        } else {
            let mut emulated = Command::new(format!("qemu-{arch}"));
            emulated.arg(path_of(release));
            emulated
        };
        match command.arg("--version").output() {
            Ok(output) => {
                assert!(output.status.success(), "{arch}: {output:?}");
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    said.contains(env!("CARGO_PKG_VERSION")),
                    "{arch}: {output:?}"
                );
            }
            Err(e) => common::skip(&format!("qemu-{arch} (package qemu-user): {e}")),
        }
    }
}

#[test]
fn an_ordinary_program_is_refused() {
    let data = std::fs::read("/bin/true").expect("read /bin/true");
    let machine = Header::parse(&*data).expect("an ELF file").e_machine(LE);
    let release = Release {
        machine,
        ..releases().next().expect("one")
    };
    let faults = faults(&data, release);
    for fault in ["wants an interpreter", "needs a library"] {
        assert!(faults.iter().any(|f| f == fault), "{fault}: {faults:?}");
    }
}

#[test]
fn a_debug_build_is_refused() {
    let exe = std::env::current_exe().expect("the path of this test");
    let data = std::fs::read(exe).expect("read this test");
    let release = Release {
        machine: elf::EM_NONE,
        ..releases().next().expect("one")
    };
    let faults = faults(&data, release);
    let folder = format!("names the build folder {}", env!("CARGO_MANIFEST_DIR"));
    for fault in ["another architecture", "not stripped", &folder] {
        assert!(faults.iter().any(|f| f == fault), "{fault}: {faults:?}");
    }
    assert!(
        faults.iter().any(|f| f.starts_with("too large")),
        "{faults:?}"
    );
    assert!(structure(b"#!/bin/sh\n", elf::EM_X86_64).is_err());
}

/// Offsets and the size of the fields of a 64-bit ELF file that are doctored below.
mod at {
    pub const E_TYPE: usize = 16;
    pub const E_PHOFF: usize = 32;
    pub const PHDR: usize = 56;
    pub const P_FLAGS: usize = 4;
}

/// `data` with the `p_flags` (`field` 4) or `p_type` (`field` 0) of one kind of segment replaced.
fn with_segment(data: &[u8], kind: u32, field: usize, value: u32) -> Vec<u8> {
    let mut data = data.to_vec();
    let header = Header::parse(&*data).expect("an ELF file");
    let segments = header.program_headers(LE, &*data).expect("segments");
    let index = segments
        .iter()
        .position(|s| s.p_type(LE) == kind)
        .expect("a segment of the kind");
    let table = u64::from_le_bytes(data[at::E_PHOFF..][..8].try_into().expect("8 bytes"));
    let start = usize::try_from(table).expect("an offset") + index * at::PHDR + field;
    data[start..start + 4].copy_from_slice(&value.to_le_bytes());
    data
}

/// `data` with the value of a dynamic entry replaced.
fn with_dynamic(data: &[u8], tag: u32, value: u64) -> Vec<u8> {
    let mut data = data.to_vec();
    let header = Header::parse(&*data).expect("an ELF file");
    let segments = header.program_headers(LE, &*data).expect("segments");
    let dynamic = segments
        .iter()
        .find(|s| s.p_type(LE) == elf::PT_DYNAMIC)
        .expect("a dynamic segment");
    let entries = dynamic.dynamic(LE, &*data).expect("entries").expect("some");
    let index = entries.iter().position(|e| e.tag32(LE) == Some(tag));
    let start = usize::try_from(dynamic.p_offset(LE)).expect("an offset");
    let start = start + index.expect("an entry of the tag") * 16;
    data[start + 8..start + 16].copy_from_slice(&value.to_le_bytes());
    data
}

/// `data` with a dynamic entry turned into one of another tag.
fn with_tag(data: &[u8], tag: u32, other: u32) -> Vec<u8> {
    let marked = with_dynamic(data, tag, u64::MAX);
    let mut needle = u64::from(tag).to_le_bytes().to_vec();
    needle.extend(u64::MAX.to_le_bytes());
    let start = marked.windows(16).position(|w| w == needle);
    let start = start.expect("the marked entry");
    let mut data = data.to_vec();
    data[start..start + 8].copy_from_slice(&u64::from(other).to_le_bytes());
    data
}

#[test]
fn each_check_can_fail() {
    for release in releases() {
        let Some(data) = read(release) else { continue };
        let mut fixed = data.clone();
        fixed[at::E_TYPE] = u8::try_from(elf::ET_EXEC).expect("a small number");
        let lazy = with_dynamic(&data, elf::DT_FLAGS, 0);
        let lazy = with_dynamic(&lazy, elf::DT_FLAGS_1, u64::from(elf::DF_1_PIE));
        let mut large = data.clone();
        large.resize(release.limit + 1, 0);
        let mut telling = data.clone();
        telling.extend(env!("CARGO_MANIFEST_DIR").bytes());
        let doctored = [
            ("at a fixed address", fixed),
            ("no PIE", with_dynamic(&data, elf::DT_FLAGS_1, 0)),
            (
                "wants an interpreter",
                with_segment(&data, elf::PT_PHDR, 0, elf::PT_INTERP),
            ),
            (
                "needs a library",
                with_tag(&data, elf::DT_SYMENT, elf::DT_NEEDED),
            ),
            (
                "no RELRO",
                with_segment(&data, elf::PT_GNU_RELRO, 0, elf::PT_NULL),
            ),
            ("no immediate binding", lazy),
            (
                "executable stack",
                with_segment(&data, elf::PT_GNU_STACK, at::P_FLAGS, 7),
            ),
            (
                "writable code",
                with_segment(&data, elf::PT_LOAD, at::P_FLAGS, 7),
            ),
            ("too large", large),
            ("names the build folder", telling),
        ];
        for (fault, doctored) in doctored {
            let found = faults(&doctored, release);
            assert!(
                found.iter().any(|f| f.starts_with(fault)),
                "{}: {fault}: {found:?}",
                path_of(release).display()
            );
        }
    }
}
