//! The manual page, and the completions for bash, zsh and fish: made from the flags, from `--help filter`
//! and from the words that a filter knows.
//!
//! Contract: what stands in the page of a flag or of the filter is what `--help` says, and what is completed
//! is what is understood. `make man` (UPDATE in the environment) writes the files anew; else what differs
//! fails. The page's frame is man/socket-snoop.8.in.

mod man;
mod shells;

use crate::cli::{Args, Command, parse};
use argh::{ArgsInfo, FlagInfoKind, Optionality};
use std::path::Path;

/// A flag, as `--help` has it.
struct Flag {
    /// With its hyphens.
    long: &'static str,
    short: Option<char>,
    /// The name of its value.
    value: Option<&'static str>,
    values: Values,
    about: &'static str,
    /// Whether it means more when it is given again.
    repeats: bool,
}

/// What can be the value of a flag.
#[derive(Debug, PartialEq)]
enum Values {
    /// One of these words, as the error says that a wrong one gets.
    Words(Vec<String>),
    Files,
    Folders,
    Users,
    Processes,
    /// Nothing that can be listed.
    Open,
}

/// What is said to a command line that isn't understood.
fn refusal(args: [&str; 2]) -> Option<String> {
    let args = args.map(String::from);
    parse(&args, None, true)
        .err()
        .map(|error| error.to_string())
}

/// The words that a flag can have behind it: those that the refusal of another one lists.
fn words(long: &str) -> Option<Vec<String>> {
    let said = refusal([long, "?"])?;
    let listed = said.split("must be ").nth(1)?.split([';', '\n']).next()?;
    let words = listed.split(", ").flat_map(|part| part.split(" or "));
    let words: Vec<String> = words.map(|word| word.trim().to_string()).collect();
    let taken = |word: &String| !refusal([long, word]).is_some_and(|said| said.contains("must be"));
    words.iter().all(taken).then_some(words)
}

fn values(long: &str, name: &str) -> Values {
    match (words(long), name) {
        (Some(words), _) => Values::Words(words),
        (None, "FILE" | "PATH") => Values::Files,
        (None, "DIR") => Values::Folders,
        (None, "PID") => Values::Processes,
        (None, name) if name.contains("UID") => Values::Users,
        _ => Values::Open,
    }
}

/// All but the hidden ones, in the order of `--help`.
fn flags() -> Vec<Flag> {
    let flags = Args::get_args_info();
    let shown = flags.flags.iter().filter(|flag| !flag.hidden);
    // That of argh comes first there, and last in its text.
    let (help, own): (Vec<_>, Vec<_>) = shown.partition(|flag| flag.long == "--help");
    let flags = own.into_iter().chain(help).map(|flag| {
        let value = match flag.kind {
            FlagInfoKind::Switch => None,
            FlagInfoKind::Option { arg_name } => Some(arg_name),
        };
        Flag {
            long: flag.long,
            short: flag.short,
            value,
            values: value.map_or(Values::Open, |name| values(flag.long, name)),
            about: flag.description,
            repeats: flag.optionality == Optionality::Repeating || flag.long == "--dump",
        }
    });
    flags.collect()
}

/// Holds a file against what is made, or writes it anew.
fn current(path: &str, new: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let old = std::fs::read_to_string(&file).unwrap_or_default();
    if old == new {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&file, new).expect("write what was made");
    }
    let differs = old.lines().zip(new.lines()).find(|(old, new)| old != new);
    panic!("{path} is not what --help and --help filter say: run 'make man'; {differs:?}");
}

#[test]
fn the_page_is_current() {
    let frame = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/socket-snoop.8.in");
    let frame = std::fs::read_to_string(frame).expect("the frame");
    current("man/socket-snoop.8", &man::page(&frame));
}

#[test]
fn the_completions_are_current() {
    current("contrib/completions/socket-snoop.bash", &shells::bash());
    current("contrib/completions/_socket-snoop", &shells::zsh());
    current("contrib/completions/socket-snoop.fish", &shells::fish());
}

#[test]
fn flags_are_those_of_the_help() {
    let help = refusal_of_help();
    let flags = flags();
    assert!(flags.len() > 20, "{}", flags.len());
    for flag in &flags {
        let ends = [" ", "\n"].map(|end| [flag.long, end].concat());
        assert!(ends.iter().any(|it| help.contains(it)), "{}", flag.long);
    }
    let of = |long: &str| flags.iter().find(|flag| flag.long == long).expect("it");
    let words = |words: &[&str]| Values::Words(words.iter().map(|w| w.to_string()).collect());
    assert_eq!(of("--format").values, words(&["classic", "json", "trace"]));
    assert_eq!(of("--log-format").values, words(&["classic", "json"]));
    assert_eq!(of("--sandbox").values, words(&["off", "on", "strict"]));
    assert_eq!(of("--priority").values, words(&["on", "off"]));
    assert_eq!(of("--duration").values, Values::Open);
    assert_eq!(of("--log-file").values, Values::Files);
    assert_eq!(of("--user").values, Values::Users);
    assert!(flags.iter().all(|flag| flag.long != "--owner-by"));
    assert!(flags.iter().any(|flag| flag.long == "--help"));
}

/// The text of `--help`.
fn refusal_of_help() -> String {
    match parse(&["--help".to_string()], None, true) {
        Ok(Command::Print(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// A word that is completed is one that is understood.
#[test]
fn words_of_a_filter_are_understood() {
    let vocabulary = crate::filter::vocabulary();
    assert!(vocabulary.iter().any(|(word, _)| *word == "cause"));
    let mut tried = 0;
    for (word, values) in vocabulary {
        for value in values {
            let ends = ["src", "dst", "local", "peer"].contains(&word);
            let rest = match value {
                _ if !ends => "",
                "host" => " 10.0.0.1",
                "net" => " 10.0.0.0/8",
                "portrange" => " 1-2",
                _ => " 22",
            };
            let filter = format!("{word} {value}{rest}");
            let result = parse(std::slice::from_ref(&filter), None, true);
            assert!(result.is_ok(), "{filter}: {:?}", result.err());
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}
