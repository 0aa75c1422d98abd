//! The table against what is written, and against what is told of it.

use super::document;
use std::path::{Path, PathBuf};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Holds a file against what is made of the table, or writes it anew.
fn current(path: &str, made: impl Fn(&str) -> String) {
    let file = project(path);
    let old = std::fs::read_to_string(&file).unwrap_or_default();
    let new = made(&old);
    if old == new {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&file, new).expect("write what was made");
    }
    let differs = old.lines().zip(new.lines()).find(|(old, new)| old != new);
    panic!("{path} is not what src/output/keys.rs says: run 'make keys'; {differs:?}");
}

#[test]
fn the_readme_is_current() {
    current("README.md", document::readme);
}
