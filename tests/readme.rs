//! The examples of the README and of docs/ are run, so that they can't promise what doesn't work.
//!
//! Contract: each `sh` block after `<!-- run -->` runs as root in a folder of its own, the program
//! first on `PATH` as `socket-snoop`, and must exit with 0 in time. Each line of the `text` block
//! after `<!-- output: contains -->` must then be in what it printed, in that order; `…` stands for
//! any text within a line.

mod common;

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const RUN: &str = "<!-- run -->";
const OUTPUT: &str = "<!-- output: contains -->";

/// How long an example may take.
const LIMIT: Duration = Duration::from_secs(20);

/// An example of the README.
struct Example {
    script: String,
    expected: Vec<String>,
}

/// The lines of the fenced block of this kind that follows; fails when something else does.
fn block<'a>(lines: &mut impl Iterator<Item = &'a str>, kind: &str) -> Vec<String> {
    let open = lines.find(|line| !line.trim().is_empty());
    assert_eq!(open, Some(format!("```{kind}").as_str()));
    let inside = lines.take_while(|line| *line != "```");
    inside.map(str::to_owned).collect()
}

/// All marked examples of a text.
fn examples(text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == RUN {
            let script = block(&mut lines, "sh").join("\n");
            let expected = Vec::new();
            examples.push(Example { script, expected });
        } else if line == OUTPUT {
            let example = examples.last_mut().expect("output follows an example");
            example.expected = block(&mut lines, "text");
        }
    }
    examples
}

/// Whether `line` is `pattern`, with `…` for any text; it may go on after the pattern's end.
fn fits(line: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    true
}

/// The first expected line that the output lacks, after those before it.
fn lacking<'a>(output: &str, expected: &'a [String]) -> Option<&'a String> {
    let mut lines = output.lines();
    expected
        .iter()
        .find(|pattern| !lines.any(|line| fits(line, pattern)))
}

/// Runs an example in `dir`; what it printed on both streams. Panics where it fails or hangs.
fn run(example: &Example, dir: &Path) -> String {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).expect("make a folder");
    symlink(common::binary(), bin.join("socket-snoop")).expect("link the program");
    let path = std::env::var("PATH").unwrap_or_default();
    let seen = dir.join("output");
    let output = std::fs::File::create(&seen).expect("make a file");
    let child = Command::new("sh")
        .args(["-c", &example.script])
        .env("PATH", format!("{}:{path}", bin.display()))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(output.try_clone().expect("share the file"))
        .stdout(output)
        .process_group(0)
        .spawn()
        .expect("start sh");
    let group = i32::try_from(child.id()).expect("a pid fits i32");
    let status = common::Guard(child).wait(LIMIT);
    if status.is_none() {
        // The shell's children too.
        let group = nix::unistd::Pid::from_raw(group);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
    let printed = std::fs::read_to_string(&seen).expect("read what it printed");
    let script = &example.script;
    let status = status.unwrap_or_else(|| panic!("takes too long: {script}\n{printed}"));
    assert!(status.success(), "{status}: {script}\n{printed}");
    printed
}

/// The examples of every page, by its name.
fn all() -> Vec<(String, Vec<Example>)> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![project.join("README.md")];
    for entry in std::fs::read_dir(project.join("docs")).expect("read docs/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ext| ext == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    let of = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("read the page");
        (path.display().to_string(), examples(&text))
    };
    pages.iter().map(of).collect()
}

/// Those of some pages, in folders of their own.
fn work(chosen: impl Fn(&str) -> bool) {
    let pages = all();
    let pages = pages.iter().filter(|(name, _)| chosen(name));
    let mut count = 0;
    for (name, examples) in pages {
        for example in examples {
            count += 1;
            assert!(!example.expected.is_empty(), "{name}: {}", example.script);
            let dir = common::TempDir::new();
            let printed = run(example, dir.path());
            let lacks = lacking(&printed, &example.expected);
            assert_eq!(
                lacks, None,
                "{name}: {}\nprinted:\n{printed}",
                example.script
            );
        }
    }
    assert!(count >= 2, "{count} examples found");
}

#[test]
fn the_examples_of_the_readme_work() {
    if common::live() {
        work(|name| name.ends_with("README.md"));
    }
}

#[test]
fn the_examples_of_the_pages_work() {
    if common::live() {
        work(|name| !name.ends_with("README.md"));
    }
}

#[test]
fn a_wrong_example_is_noticed() {
    let text = format!("x\n{RUN}\n```sh\na\nb\n```\n\n{OUTPUT}\n```text\nEvents: … shown\n```\n");
    let found = examples(&text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].script, "a\nb");
    let expected = &found[0].expected;
    assert_eq!(
        lacking("one\nEvents: 3 received, 2 shown.\n", expected),
        None
    );
    assert!(lacking("one\nEvents: 3 received\n2 shown\n", expected).is_some());
    assert!(lacking("", expected).is_some());
    let ordered = ["a".to_owned(), "b".to_owned()];
    assert_eq!(lacking("b\na\n", &ordered), Some(&ordered[1]));
}

/// The flags that `--help` names, the long one where there are two.
fn flags() -> Vec<String> {
    let output = Command::new(common::binary()).arg("--help").output();
    let help = String::from_utf8(output.expect("run --help").stdout).expect("UTF-8");
    let mut flags: Vec<String> = help.lines().filter_map(|l| flag(l.trim_start())).collect();
    flags.sort();
    flags
}

/// The flag that a text begins with.
fn flag(text: &str) -> Option<String> {
    let name = text.split([' ', '`', ',']).next().unwrap_or_default();
    name.starts_with("--").then(|| name.to_owned())
}

/// Every flag of `--help` is in the table, and no other.
#[test]
fn the_flags_of_the_table_are_those_of_the_program() {
    let rows = include_str!("../docs/running.md").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("| `--")?.split_once('|'));
    let rows = rows.flat_map(|(cell, _)| {
        format!("--{cell}")
            .replace("`--", "--")
            .split(", ")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    let mut documented: Vec<String> = rows.filter_map(|name| flag(&name)).collect();
    documented.sort();
    assert_eq!(documented, flags());
}

/// Every flag stands in an example that is run.
#[test]
fn every_flag_has_an_example() {
    let scripts = all().into_iter().flat_map(|(_, examples)| examples);
    let scripts: Vec<String> = scripts.map(|example| example.script).collect();
    let used = |flag: &String| {
        let mut words = scripts
            .iter()
            .flat_map(|script| script.split([' ', '=', '\n']));
        words.any(|word| word == flag)
    };
    let flags = flags();
    assert!(flags.len() > 20, "{flags:?}");
    let without: Vec<&String> = flags.iter().filter(|flag| !used(flag)).collect();
    assert!(without.is_empty(), "{without:?}");
}
