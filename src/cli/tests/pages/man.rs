//! The manual page, in mdoc.
//!
//! Contract: text comes out as it went in, whatever it begins with or holds; mandoc finds no fault with it.

use super::{Flag, flags};
use crate::cli::{Args, filter};
use argh::ArgsInfo;
use std::fmt::Write as _;

/// The bytes that a line of text may have.
const WIDTH: usize = 78;

/// A word of running text. A hyphen before it is one to be typed, and `'` around it is no apostrophe.
fn word(text: &str) -> String {
    let mut out = text.replace('\\', "\\e");
    let bare = out.trim_start_matches(['\'', '(', '"']);
    if bare.starts_with('-') {
        out = out.replace('-', "\\-");
    }
    if let Some(rest) = out.strip_prefix('\'') {
        out = format!("\\(aq{}", rest.replacen('\'', "\\(aq", 1));
    }
    out
}

/// Running text: each sentence begins a line.
fn fill(text: &str) -> String {
    let (mut out, mut line) = (String::new(), String::new());
    let mut words = text.split_whitespace().peekable();
    while let Some(next) = words.next() {
        let next = word(next);
        if !line.is_empty() && line.len() + 1 + next.len() > WIDTH {
            let _ = writeln!(out, "{}", std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        } else if next.starts_with('.') {
            line.push_str("\\&");
        }
        line.push_str(&next);
        if next.ends_with(['.', '?', '!']) || words.peek().is_none() {
            let _ = writeln!(out, "{}", std::mem::take(&mut line));
        }
    }
    out
}

/// What is typed or shown as it is.
fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\e");
    let text = text.replace('-', "\\-").replace('\'', "\\(aq");
    match text.starts_with('.') {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// The same as arguments of a macro, each word itself.
fn arguments(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let plain = word.chars().all(|c| c.is_ascii_lowercase());
        let word = literal(word).replace('"', "\\(dq");
        if plain { word } else { format!("\\&{word}") }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{}{}{end}", first.unwrap_or_default(), chars.as_str())
}

fn options(flags: &[Flag]) -> String {
    let mut out = String::from(".Bl -tag -width Ds\n");
    for flag in flags {
        let name = flag.long.trim_start_matches("--");
        out.push_str(".It");
        if let Some(short) = flag.short {
            let _ = write!(out, " Fl {short} ,");
        }
        let _ = write!(out, " Fl \\-{}", name.replace('-', "\\-"));
        if let Some(value) = flag.value {
            let _ = write!(out, " Ar {value}");
        }
        let _ = write!(out, "\n{}", fill(&sentence(flag.about)));
    }
    out + ".El\n"
}

/// `--help filter`: paragraphs, lists of two columns, and what is shown as it is.
fn filter_page(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(first) = lines.next() {
        let indented = |line: &&str| line.starts_with("  ");
        if first.is_empty() {
            continue;
        }
        let mut block = vec![first];
        while let Some(next) =
            lines.next_if(|line| !line.is_empty() && indented(line) == indented(&first))
        {
            block.push(next);
        }
        if !indented(&first) {
            let _ = write!(out, ".Pp\n{}", fill(&block.join(" ")));
            continue;
        }
        // A line that begins further in goes on with the second column.
        let mut rows: Vec<(String, String)> = Vec::new();
        for line in &block {
            let (term, about) = line.trim_start().split_once("  ").unwrap_or((line, ""));
            match rows.last_mut() {
                Some((_, text)) if line.starts_with("      ") => {
                    *text = format!("{text} {}", line.trim());
                }
                _ => rows.push((term.trim().into(), about.trim().into())),
            }
        }
        if rows.iter().all(|(_, about)| about.is_empty()) {
            out.push_str(".Bd -literal -offset indent\n");
            for (line, _) in rows {
                let _ = writeln!(out, "{}", literal(&line));
            }
            out.push_str(".Ed\n");
            continue;
        }
        out.push_str(".Bl -tag -width Ds\n");
        for (term, about) in rows {
            let _ = write!(out, ".It Ic {}\n{}", arguments(&term), fill(&about));
        }
        out.push_str(".El\n");
    }
    // A heading has room below it already.
    out.strip_prefix(".Pp\n").unwrap_or(&out).to_string()
}

/// The examples of `--help`.
fn examples() -> String {
    let mut out = String::new();
    for example in Args::get_args_info().examples {
        let (about, command) = example.split_once('\n').expect("two lines");
        let command = command.trim().replace("{command_name}", "socket-snoop");
        let _ = write!(out, ".Pp\n{}.Dl {}\n", fill(about), arguments(&command));
    }
    out.strip_prefix(".Pp\n").unwrap_or(&out).to_string()
}

/// The exit codes, which `--help` lists in its note.
fn exit_codes() -> String {
    let notes = Args::get_args_info().notes.join(" ");
    let codes = notes.split("Exit codes: ").nth(1).expect("exit codes");
    let codes = codes.split(". ").next().expect("their end");
    let mut out = String::from(".Bl -tag -width Ds\n");
    for code in codes.split(", ") {
        let (number, about) = code.split_once(' ').expect("a code and its meaning");
        assert!(number.parse::<u8>().is_ok(), "{code}");
        let _ = write!(out, ".It {number}\n{}", fill(&sentence(about)));
    }
    out + ".El\n"
}

/// The page, in its frame: a line with a mark stands for what is made.
pub(super) fn page(frame: &str) -> String {
    let made = [
        ("OPTIONS", options(&flags())),
        ("FILTER", filter_page(filter::HELP)),
        ("EXAMPLES", examples()),
        ("EXIT", exit_codes()),
    ];
    let mut out = String::from(
        ".\\\" Made from man/socket-snoop.8.in, --help and --help filter by 'make man'.\n",
    );
    let mut put = 0;
    for line in frame.lines() {
        let mark = line.strip_prefix(".\\\" MADE: ");
        match mark.map(|mark| made.iter().find(|(name, _)| *name == mark).expect(mark)) {
            Some((_, text)) => {
                out.push_str(text);
                put += 1;
            }
            None if line.starts_with(".\\\"") => {}
            None => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    assert_eq!(put, made.len(), "a mark is missing in the frame");
    out
}

#[test]
fn text_stays_text() {
    assert_eq!(
        fill(".a b\\c. Use -d -d 'x' don't"),
        "\\&.a b\\ec.\nUse \\-d \\-d \\(aqx\\(aq don't\n"
    );
    assert_eq!(literal(".x 'a-b' \\"), "\\&.x \\(aqa\\-b\\(aq \\e");
    assert_eq!(sentence("a b"), "A b.");
    let long = "word ".repeat(40);
    assert!(fill(&long).lines().all(|line| line.len() <= WIDTH));
    let page = filter_page("One: x.\nTwo.\n\n  a B     first\n          more\n  c\n\nEnd:\n  .x\n");
    assert_eq!(
        page,
        "One: x.\nTwo.\n.Bl -tag -width Ds\n.It Ic a \\&B\nfirst more\n.It Ic c\n.El\n.Pp\nEnd:\n\
         .Bd -literal -offset indent\n\\&.x\n.Ed\n"
    );
}
