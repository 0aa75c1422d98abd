//! The documents hold together: their links lead somewhere, and CONTRIBUTING.md shows what is there.
//!
//! Contract: every link within the repository names a file that is there and, behind `#`, a heading of
//! it. A fenced block behind `<!-- in: PATH -->` stands in that file, line by line, whatever its
//! indentation; this is how one field's way from the kernel to JSON stays the way.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents: those of the root, of docs/, and the page on the programs' dialect.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![project().join("bpf-asm/README.md")];
    for folder in [project().to_path_buf(), project().join("docs")] {
        for entry in fs::read_dir(folder).expect("read the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ext| ext == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence && !line.starts_with("    ")
    })
}

/// What a link behind `#` calls a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    let text: String = heading.chars().filter(kept).collect();
    text.to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

/// The targets of all links, but for those out of the repository.
fn links(text: &str) -> Vec<&str> {
    let targets = prose(text).flat_map(|line| line.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|to| !to.contains("://")).collect()
}

/// What is wrong with a link of the page at `path`, if anything is.
fn fault(path: &Path, link: &str) -> Option<String> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => path.to_path_buf(),
        _ => path.parent().expect("a folder").join(file),
    };
    if !target.exists() {
        return Some(format!("{}: no file {link}", path.display()));
    }
    if heading.is_empty() {
        return None;
    }
    let text = fs::read_to_string(&target).expect("read the target");
    let known = anchors(&text).contains(heading);
    (!known).then(|| format!("{}: no heading {link}", path.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = Vec::new();
    let mut count = 0;
    for path in pages() {
        let text = fs::read_to_string(&path).expect("read the page");
        for link in links(&text) {
            count += 1;
            faults.extend(fault(&path, link));
        }
    }
    assert!(count > 100, "{count} links found");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_wrong_link_is_noticed() {
    let page = project().join("docs/reading.md");
    assert_eq!(fault(&page, "#whose-socket-it-is"), None);
    assert_eq!(fault(&page, "../README.md#build"), None);
    assert!(fault(&page, "#nobody").is_some());
    assert!(fault(&page, "nothing.md").is_some());
    let text = "# A\n[a](b#c) [d](https://e) [f](g)\n```\n[no](h)\n```\n    [no](i)\n";
    assert_eq!(links(text), ["b#c", "g"]);
    assert_eq!(
        anchor("What it `is`, for --check"),
        "what-it-is-for---check"
    );
}

/// The pieces that a page shows of files: the path and the lines.
fn pieces(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut pieces = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(path) = line.strip_prefix("<!-- in: ") else {
            continue;
        };
        let path = path.strip_suffix(" -->").expect("the mark's end");
        let open = lines.find(|line| !line.is_empty()).unwrap_or_default();
        assert!(open.starts_with("```"), "{path}: no block follows");
        let block = lines.by_ref().take_while(|line| *line != "```");
        pieces.push((path, block.map(str::trim).collect()));
    }
    pieces
}

/// Whether these lines stand in the text, one after the other.
fn holds(text: &str, piece: &[&str]) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    !piece.is_empty() && lines.windows(piece.len()).any(|window| window == piece)
}

#[test]
fn the_way_of_a_field_is_still_the_way() {
    let page = fs::read_to_string(project().join("CONTRIBUTING.md")).expect("read it");
    let pieces = pieces(&page);
    assert!(pieces.len() > 9, "{} pieces found", pieces.len());
    for (path, piece) in pieces {
        let text = fs::read_to_string(project().join(path)).expect(path);
        assert!(holds(&text, &piece), "not in {path}:\n{}", piece.join("\n"));
    }
}

#[test]
fn a_piece_that_has_changed_is_noticed() {
    let page = "<!-- in: a -->\n```rust\n  one\ntwo\n```\n";
    assert_eq!(pieces(page), [("a", vec!["one", "two"])]);
    assert!(holds("zero\n    one\n    two\n", &["one", "two"]));
    assert!(!holds("one\nbetween\ntwo\n", &["one", "two"]));
    assert!(!holds("one\n", &[]));
}

/// Whatever room there is, CONTRIBUTING.md has a line on it.
#[test]
fn every_room_is_told_of() {
    let page = fs::read_to_string(project().join("CONTRIBUTING.md")).expect("read it");
    let lib = fs::read_to_string(project().join("src/lib.rs")).expect("read it");
    let rooms = lib.lines().filter_map(|line| line.strip_prefix("pub mod "));
    let missing: Vec<&str> = rooms
        .map(|name| name.trim_end_matches(';'))
        .filter(|name| {
            !page.contains(&format!("`src/{name}`")) && !page.contains(&format!("`src/{name}.rs`"))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
