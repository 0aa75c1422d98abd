//! What must hold whatever comes from outside, on any input for a while: the
//! same properties that fuzz/ looks for by coverage, and what it has kept.

#[path = "properties/mod.rs"]
mod properties;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use properties::{ALL, Property};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// How long each is tried.
const SPAN: Duration = Duration::from_secs(8);

/// The inputs that are kept for a property: real data, and what once was found.
fn kept(name: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("fuzz/corpus").join(name)];
    let mut all = Vec::new();
    if name == "formats" {
        folders.push(root.join("tests/data/formats"));
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a name").path();
            match path.is_dir() {
                true => folders.push(path),
                false => all.push(fs::read(path).expect("a file")),
            }
        }
    }
    assert!(!all.is_empty(), "nothing is kept for {name}");
    all
}

/// One of the kept inputs, or nothing, in which something is changed.
fn inputs(kept: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let kept = kept.into_iter().chain([Vec::new()]);
    let start = prop::sample::select(kept.collect::<Vec<_>>());
    let change = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        prop::collection::vec(any::<u8>(), 0..24),
    );
    let changes = prop::collection::vec(change, 0..6);
    (start, changes).prop_map(|(mut bytes, changes)| {
        for (from, to, new) in changes {
            let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
            // Some is replaced, and much of it only now and then.
            let to = to.clamp(from, bytes.len().min(from + 32));
            bytes.splice(from..to, new);
        }
        bytes
    })
}

fn holds(name: &str) {
    let (_, property): (_, Property) = *ALL.iter().find(|(known, _)| *known == name).expect(name);
    let kept = kept(name);
    kept.iter().for_each(|bytes| property(bytes));
    let strategy = inputs(kept);
    let mut runner = TestRunner::new(Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    });
    let end = Instant::now() + SPAN;
    while Instant::now() < end {
        let held = runner.run(&strategy, |bytes| {
            property(&bytes);
            Ok(())
        });
        held.unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn formats() {
    holds("formats");
}

#[test]
fn btf() {
    holds("btf");
}

#[test]
fn ring() {
    holds("ring");
}

#[test]
fn diag() {
    holds("diag");
}

#[test]
fn surroundings() {
    holds("surroundings");
}

#[test]
fn command_line() {
    holds("command_line");
}

#[test]
fn guard() {
    holds("guard");
}

#[test]
fn filter() {
    holds("filter");
}

#[test]
fn lives() {
    holds("lives");
}
