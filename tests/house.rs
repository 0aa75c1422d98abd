//! The house: which room may know which, as src/lib.rs lists them.
//!
//! A file uses what it names by a path, in a `use` or anywhere else. What a
//! module declares (`mod`) or hands on (`pub use`) of its own parts is its face,
//! not a use; nor is what only tests name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Lines that a file may have.
const LINES: usize = 510;
/// Floors that the house may have.
const FLOORS: usize = 10;

/// The text of each module of src/ by its path in the crate.
type Files = BTreeMap<String, String>;
/// What each module uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

fn read(dir: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let name = match stem {
            "mod" => prefix.to_string(),
            _ if prefix.is_empty() => stem.to_string(),
            _ => format!("{prefix}::{stem}"),
        };
        if path.is_dir() {
            read(&path, &name, files);
        } else if path.extension().is_some_and(|e| e == "rs")
            && stem != "tests"
            && !name.contains("::tests::")
        {
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

fn files() -> Files {
    let mut files = Files::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read(&src, "", &mut files);
    assert!(files.len() > 100, "{}", files.len());
    files
}

/// The code alone: no comments, no unit tests.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or("");
        let tests = next.contains("mod ") && next.ends_with('{');
        if line == "#[cfg(test)]" && tests {
            lines.find(|line| *line == "}");
            continue;
        }
        out.push_str(line.split("//").next().unwrap());
        out.push('\n');
    }
    out
}

/// The paths of a `use`, without its groups.
fn paths(prefix: &str, tree: &str, out: &mut Vec<String>) {
    let (mut depth, mut from) = (0, 0);
    let mut parts = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[from..]);
    for part in parts.into_iter().map(str::trim).filter(|p| !p.is_empty()) {
        match part.split_once('{') {
            Some((head, rest)) => {
                let group = rest.rsplit_once('}').expect("a whole group").0;
                paths(&format!("{prefix}{}", head.trim()), group, out);
            }
            None => {
                let path = part.split(" as ").next().unwrap().trim();
                out.push(format!("{prefix}{path}"));
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// All paths that the code names.
fn named(code: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let start = statement.rfind("use ").filter(|at| {
            let before = statement[..*at].rsplit('\n').next().unwrap().trim();
            let tree = |c: char| is_word(c) || c.is_whitespace() || ":{},*;".contains(c);
            (before.is_empty() || before.starts_with("pub")) && statement[*at..].chars().all(tree)
        });
        match start {
            Some(at) => {
                let face = statement[..at].trim_end().ends_with("pub")
                    || statement[..at].trim_end().ends_with(')');
                rest.push_str(&statement[..at]);
                let tree = statement[at + 4..].trim_end_matches(';');
                let mut own = Vec::new();
                paths("", tree, &mut own);
                // Of other rooms it is a use all the same.
                own.retain(|path| !face || path.starts_with("crate::"));
                out.extend(own);
            }
            None => rest.push_str(statement),
        }
    }
    let mut word = String::new();
    for c in rest.chars().chain([' ']) {
        if is_word(c) || c == ':' {
            word.push(c);
            continue;
        }
        if word.contains("::") {
            out.push(word.trim_end_matches(':').to_string());
        }
        word.clear();
    }
    out
}

/// The module that a path from one of them leads into.
fn resolve(from: &str, path: &str, files: &Files) -> Option<String> {
    let mut segments: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = from.split("::").collect();
    let child = format!("{from}::{}", segments[0]);
    match segments[0] {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
        }
        _ if files.contains_key(&child) => segments.insert(0, "self"),
        _ => return None,
    }
    segments.remove(0);
    while segments.first() == Some(&"super") {
        segments.remove(0);
        base.pop();
    }
    base.extend(segments);
    (1..=base.len())
        .rev()
        .map(|len| base[..len].join("::"))
        .find(|module| files.contains_key(module))
        .filter(|module| module != from)
}

fn uses(files: &Files) -> Uses {
    let of = |(name, text): (&String, &String)| {
        let named = named(&code(text));
        let used = named.iter().filter_map(|path| resolve(name, path, files));
        (name.clone(), used.collect())
    };
    files.iter().map(of).collect()
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap()
}

/// The rooms of each floor, the top one first: src/lib.rs, by its blank lines.
fn floors(lib: &str) -> Vec<Vec<String>> {
    let mut floors = vec![Vec::new()];
    for line in lib.lines() {
        match line.strip_prefix("pub mod ") {
            Some(name) if name.ends_with(';') => {
                floors.last_mut().unwrap().push(name.replace(';', ""));
            }
            _ if line.is_empty() => floors.push(Vec::new()),
            _ => {}
        }
    }
    floors.retain(|floor| !floor.is_empty());
    floors
}

#[test]
fn arrows_go_down() {
    let files = files();
    let floors = floors(&files["lib"]);
    assert!(floors.len() <= FLOORS, "{} floors", floors.len());
    let floor = |room: &str| {
        let on = |floor: &Vec<String>| floor.iter().any(|r| r == room);
        floors.iter().position(on).expect(room)
    };
    let mut wrong = Vec::new();
    for (from, used) in uses(&files) {
        if ["lib", "main", "entry"].contains(&from.as_str()) {
            continue;
        }
        for to in used.iter().filter(|to| room(to) != room(&from)) {
            if floor(room(to)) <= floor(room(&from)) {
                wrong.push(format!("{from} uses {to}, which is not below it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A way from a module back to it.
fn circle(from: &str, uses: &Uses) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![from.to_string()]];
    while let Some(way) = ways.pop() {
        for next in &uses[way.last().unwrap()] {
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == from {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}

#[test]
fn no_circles() {
    let uses = uses(&files());
    let circles: Vec<_> = uses.keys().filter_map(|from| circle(from, &uses)).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn no_file_is_too_long() {
    for (name, text) in files() {
        let lines = text.lines().count();
        assert!(lines <= LINES, "{name} has {lines} lines");
    }
}

/// What reads the arrows does see them.
#[test]
fn arrows_are_seen() {
    let text = "use crate::a::{b, c::D as E};\nuse super::x::Y;\npub use kid::Z;\n\
                // crate::no\nfn f() { crate::g::h(); kid::i(); }\n#[cfg(test)]\nmod tests {\n    use crate::no;\n}\n";
    let mut named = named(&code(text));
    named.sort();
    let wanted = [
        "crate::a::b",
        "crate::a::c::D",
        "crate::g::h",
        "kid::i",
        "super::x::Y",
    ];
    assert_eq!(named, wanted);
    let files: Files = ["r", "r::m", "r::m::kid", "r::x", "a", "a::c"]
        .map(|name| (name.to_string(), String::new()))
        .into();
    let to = |path| resolve("r::m", path, &files);
    assert_eq!(to("crate::a::c::D").as_deref(), Some("a::c"));
    assert_eq!(to("super::x::Y").as_deref(), Some("r::x"));
    assert_eq!(to("super::W").as_deref(), Some("r"));
    assert_eq!(to("kid::i").as_deref(), Some("r::m::kid"));
    assert_eq!(to("std::fs"), None);
}

/// Tests wait for what they want to see, up to a deadline: in one place.
#[test]
fn only_one_place_of_the_tests_sleeps() {
    let mut files = Files::new();
    read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .as_path(),
        "",
        &mut files,
    );
    let sleeps = |text: &str| {
        let called = |line: &str| line.contains("sleep(") || line.contains("thread::sleep");
        text.lines()
            .any(|line| called(line) || line.starts_with("use ") && line.contains("sleep"))
    };
    let mut all = files.iter().filter(|(name, _)| name.as_str() != "house");
    let asleep: Vec<_> = all
        .by_ref()
        .filter(|(_, text)| sleeps(text))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(asleep, ["common::wait"]);
}
