//! The manual page and the completions, each as what reads it sees it.
//!
//! Contract: what stands in them is held against `--help` by `cli::tests::pages`. What is not installed skips with
//! a reason, and fails with `CI=true`.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{TempDir, skip};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn completion(name: &str) -> PathBuf {
    file("contrib/completions").join(name)
}

/// Runs a tool that is its own package, without the configuration of who runs this; `None`, said, where it
/// is missing.
fn run(tool: &str, set: &dyn Fn(&mut Command)) -> Option<Output> {
    let home = TempDir::new();
    let mut command = Command::new(tool);
    command.env("HOME", home.path()).env("LC_ALL", "C.UTF-8");
    for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env(name, home.path());
    }
    for name in ["BASH_ENV", "ENV", "ZDOTDIR"] {
        command.env_remove(name);
    }
    set(&mut command);
    match command.output() {
        Ok(output) => Some(output),
        Err(e) => {
            skip(&format!("{tool} (package {tool}): {e}"));
            None
        }
    }
}

fn lines(output: Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.is_empty(), "{said}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    // What fish says of a word stands behind a tab.
    let words = text
        .lines()
        .map(|line| line.split('\t').next().unwrap_or(line));
    words.map(str::to_owned).collect()
}

/// What bash offers for the last of these words.
fn bash(words: &[&str]) -> Option<Vec<String>> {
    let script = "source \"$0\"; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _socket_snoop; \
                  [ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = run("bash", &|command| {
        command.args(["--norc", "--noprofile", "-c", script]);
        command.arg(completion("socket-snoop.bash"));
        command.arg("socket-snoop").args(words);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
    })?;
    Some(lines(output))
}

/// What fish offers at the end of each of these lines.
fn fish(typed: &[&str]) -> Option<Vec<Vec<String>>> {
    let script = "source $argv[1]; for line in $argv[2..-1]; complete -C $line; echo ==; end";
    let output = run("fish", &|command| {
        command.args(["--no-config", "-c", script]);
        command.arg(completion("socket-snoop.fish")).args(typed);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
    })?;
    let all = lines(output);
    let offers: Vec<_> = all.split(|line| line == "==").map(<[_]>::to_vec).collect();
    assert_eq!(offers.len(), typed.len() + 1, "{all:?}");
    Some(offers)
}

/// What is typed, what is offered then (all of it, or some of it), and what is not.
const OFFERS: [(&str, &[&str], &[&str]); 10] = [
    ("--format ", &["classic", "json", "trace"], &["port"]),
    ("--no-log --sandbox s", &["strict"], &["on"]),
    ("--on", &["--on-cpu"], &["--format"]),
    ("--filter-file READ", &["README.md"], &["port"]),
    ("--duration ", &[], &["port", "README.md"]),
    ("--help f", &["filter"], &["from"]),
    (
        "cause rese",
        &["reset_by_peer", "reset_by_us"],
        &["refused"],
    ),
    ("port 80 and not to esta", &["established"], &["event"]),
    ("", &["port", "dst", "failures", "and"], &["json"]),
    ("dst ", &["host", "port", "net"], &["comm"]),
];

fn holds(shell: &str, typed: &str, offered: &[String], wanted: &[&str], others: &[&str]) {
    let has = |word: &&str| offered.iter().any(|one| one == word);
    assert!(wanted.iter().all(has), "{shell}: {typed}: {offered:?}");
    assert!(!others.iter().any(has), "{shell}: {typed}: {offered:?}");
}

#[test]
fn bash_offers_what_may_follow() {
    for (typed, wanted, others) in OFFERS {
        let words: Vec<&str> = typed.split(' ').collect();
        let Some(offered) = bash(&words) else { return };
        holds("bash", typed, &offered, wanted, others);
    }
    // As bash takes `--format=j` apart.
    assert_eq!(bash(&["--format", "=", "j"]), Some(vec!["json".into()]));
    let all = Some(["classic", "json", "trace"].map(String::from).to_vec());
    assert_eq!(bash(&["--format", "="]), all);
    let offered = bash(&["--no-log", "--", "mkdi"]).expect("it is there");
    assert!(offered.contains(&"mkdir".to_string()), "{offered:?}");
    let offered = bash(&["--", "cat", "READ"]).expect("it is there");
    assert_eq!(offered, ["README.md"]);
}

#[test]
fn fish_offers_what_may_follow() {
    let typed: Vec<String> = OFFERS
        .iter()
        .map(|o| format!("socket-snoop {}", o.0))
        .collect();
    let mut typed: Vec<&str> = typed.iter().map(String::as_str).collect();
    typed.extend(["socket-snoop --format=j", "socket-snoop --no-log -- mkdi"]);
    typed.push("socket-snoop-full --format ");
    let Some(offers) = fish(&typed) else { return };
    for ((typed, wanted, others), offered) in OFFERS.iter().zip(&offers) {
        holds("fish", typed, offered, wanted, others);
    }
    assert_eq!(offers[OFFERS.len()], ["--format=json"]);
    let command = &offers[OFFERS.len() + 1];
    assert!(command.contains(&"mkdir".to_string()), "{command:?}");
    assert_eq!(offers[OFFERS.len() + 2], offers[0]);
}

#[test]
fn the_shells_find_no_fault() {
    for (shell, name) in [
        ("bash", "socket-snoop.bash"),
        ("zsh", "_socket-snoop"),
        ("fish", "socket-snoop.fish"),
    ] {
        let check = |path: &Path| {
            run(shell, &|command| {
                command.arg("-n").arg(path);
            })
        };
        let Some(output) = check(&completion(name)) else {
            continue;
        };
        assert!(output.status.success(), "{output:?}");
        // They do find one.
        let dir = TempDir::new();
        let text = std::fs::read_to_string(completion(name)).expect("it");
        let broken = dir.join(name);
        std::fs::write(&broken, text + "\nif (\n").expect("write it");
        let output = check(&broken).expect("it is there");
        assert!(!output.status.success(), "{shell}");
    }
}

/// What mandoc finds wrong with a page, but for other pages that are not installed here.
fn faults(page: &Path) -> Option<Vec<String>> {
    let output = run("mandoc", &|command| {
        command.arg("-Tlint").arg(page);
    })?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("UTF-8");
    let place = page.display().to_string();
    let faults = said
        .lines()
        .filter(|line| line.contains(&place) && !line.contains("referenced manual not found"));
    Some(faults.map(str::to_owned).collect())
}

#[test]
fn mandoc_finds_no_fault_with_the_page() {
    let page = file("man/socket-snoop.8");
    let Some(found) = faults(&page) else { return };
    assert_eq!(found, [""; 0]);
    let dir = TempDir::new();
    let text = std::fs::read_to_string(page).expect("the page");
    let broken = dir.join("socket-snoop.8");
    std::fs::write(
        &broken,
        text.replace(".Sh OPTIONS", ".Sh OPTIONS\n.No_such"),
    )
    .expect("write it");
    let found = faults(&broken).expect("it is there");
    assert!(!found.is_empty());
}

/// Every flag of `--help`, and its filters, as a reader of the page sees them.
#[test]
fn the_page_shows_what_the_help_says() {
    let help = Command::new(common::binary()).arg("--help").output();
    let help = String::from_utf8(help.expect("run --help").stdout).expect("UTF-8");
    let filter = Command::new(common::binary())
        .args(["--help", "filter"])
        .output();
    let filter = String::from_utf8(filter.expect("run it").stdout).expect("UTF-8");
    let Some(output) = run("mandoc", &|command| {
        command
            .args(["-Tutf8", "-Owidth=200"])
            .arg(file("man/socket-snoop.8"));
    }) else {
        return;
    };
    // Bold is a letter, a backspace and the letter; underlining one, too.
    let mut shown = String::new();
    for c in String::from_utf8(output.stdout).expect("UTF-8").chars() {
        match c {
            '\u{8}' => drop(shown.pop()),
            c => shown.push(c),
        }
    }
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = plain(&shown);
    let flags = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"));
    let mut count = 0;
    for flag in flags {
        let name = flag.split([' ', ',']).next().expect("a name");
        assert!(shown.contains(&format!(" --{name} ")), "{name}");
        count += 1;
    }
    assert!(count > 20, "{count}");
    // Of two columns, each; of a paragraph, every line, as it may be broken elsewhere.
    for line in filter.lines() {
        for part in line
            .trim()
            .split("  ")
            .map(plain)
            .filter(|part| !part.is_empty())
        {
            assert!(shown.contains(&part), "{part}");
        }
    }
}
