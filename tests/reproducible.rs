//! The same sources give the same release binary, wherever they lie.
//!
//! Contract: it is built twice, in two folders of different names and depths, from copies of what the
//! build reads, with a target folder each.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::TempDir;

/// What a build reads, and what cargo wants to be there.
const SOURCES: [&str; 11] = [
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "benches",
    "bpf-asm",
    "build",
    "build.rs",
    "scripts",
    "src",
    "tests",
    "README.md",
];

fn build(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).expect("make a folder");
    for name in SOURCES {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let copied = Command::new("cp").arg("-R").arg(from).arg(folder).status();
        assert!(copied.expect("start cp").success(), "{name}");
    }
    let mut command = Command::new(folder.join("scripts/build"));
    command.arg("--small").env_remove("CARGO_TARGET_DIR");
    let output = command.output().expect("start the build");
    assert!(output.status.success(), "{output:?}");
    let path = String::from_utf8(output.stdout).expect("a path");
    let path = PathBuf::from(path.trim_end());
    assert!(
        path.starts_with(folder.canonicalize().expect("it")),
        "{path:?}"
    );
    path
}

#[test]
fn two_folders_give_the_same_binary() {
    let dir = TempDir::new();
    let first = build(&dir.join("a"));
    let second = build(&dir.join("another/folder/of a longer name"));
    let first = fs::read(first).expect("the first");
    let second = fs::read(second).expect("the second");
    let differ = first.iter().zip(&second).position(|(a, b)| a != b);
    assert!(
        first == second,
        "{} and {} bytes, the first difference at {differ:?}",
        first.len(),
        second.len()
    );
}
