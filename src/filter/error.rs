//! What is wrong with the text of a filter, and where.
//!
//! Contract: a mistake names the place by bytes of the text; [`Mistake::show`]
//! makes a few lines of it for a person: what is wrong, the line of the text with
//! a caret under the place, and what helps.

use crate::model::text::{self, is_unseen, printable};
use std::ops::Range;

/// The most of a line that is shown, in characters, before the place and behind.
const AROUND: usize = 50;
/// The most of what is wrong, and of what helps, in characters.
const MOST: usize = 400;

/// A mistake in the text of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where, in bytes of the text.
    pub at: Range<usize>,
    /// What is wrong, in one line.
    pub what: String,
    /// Lines that help, below the caret.
    pub help: Vec<String>,
    /// Whether what is wrong says what was meant.
    helps: bool,
}

impl Mistake {
    /// This is wrong there.
    pub(super) fn new(at: Range<usize>, what: impl Into<String>) -> Mistake {
        Mistake {
            at,
            what: what.into(),
            help: Vec::new(),
            helps: false,
        }
    }

    /// With what may have been meant.
    pub(super) fn meant(mut self, meant: Option<&str>) -> Mistake {
        if let Some(meant) = meant {
            self.what.push_str("; did you mean '");
            self.what.push_str(meant);
            self.what.push_str("'?");
            self.helps = true;
        }
        self
    }

    /// With a line that helps.
    pub(super) fn help(mut self, line: impl Into<String>) -> Mistake {
        self.help.push(line.into());
        self
    }

    /// Another one in its place, where this one says nothing of what was meant.
    pub(super) fn or(self, other: &dyn Fn() -> Option<Mistake>) -> Mistake {
        match self.helps || !self.help.is_empty() {
            true => self,
            false => other().unwrap_or(self),
        }
    }

    /// As lines for a person, the last one without its end. `file` is where the
    /// text is from, if it isn't the command line.
    pub fn show(&self, source: &str, file: Option<&str>) -> String {
        let start = self.at.start.min(source.len());
        let before = source.get(..start).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = source.get(line_start..).unwrap_or("");
        let line = rest.split('\n').next().unwrap_or("");
        let mut out = String::new();
        match file {
            Some(file) => {
                let number = 1 + before.bytes().filter(|b| *b == b'\n').count();
                out.push_str(&printable(file));
                out.push(':');
                push_number(&mut out, number as u64);
            }
            None => out.push_str("filter"),
        }
        out.push_str(": ");
        out.push_str(&line_of(&self.what));
        // The line as it is shown, and the columns of the place in it.
        let (from, to) = (start - line_start, self.at.end.max(start) - line_start);
        let (mut shown, mut first, mut last) = (Vec::new(), None, None);
        for (at, c) in line.char_indices() {
            if at >= from && first.is_none() {
                first = Some(shown.len());
            }
            if at >= to && last.is_none() {
                last = Some(shown.len());
            }
            match c {
                '\t' => shown.push(' '),
                c if is_unseen(c) => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        let first = first.unwrap_or(shown.len());
        let last = last.unwrap_or(shown.len()).max(first + 1);
        let left = first.saturating_sub(AROUND);
        let last = last.min(first + AROUND);
        let right = shown.len().min(last + AROUND);
        let cut = if left > 0 { "…" } else { "" };
        out.push_str("\n  ");
        out.push_str(cut);
        out.extend(shown.get(left..right).unwrap_or_default());
        if right < shown.len() {
            out.push('…');
        }
        out.push_str("\n  ");
        let blanks = first - left + usize::from(left > 0);
        out.extend(std::iter::repeat_n(' ', blanks));
        out.extend(std::iter::repeat_n('^', last - first));
        for line in &self.help {
            out.push_str("\n  ");
            out.push_str(&line_of(line));
        }
        out
    }
}

/// A line as it is shown: no longer than can be looked at.
fn line_of(text: &str) -> String {
    let mut shown = printable(text);
    if let Some((end, _)) = shown.char_indices().nth(MOST) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

/// Appends a number.
pub(super) fn push_number(out: &mut String, number: u64) {
    let mut digits = Vec::new();
    text::number(&mut digits, number);
    out.extend(digits.into_iter().map(char::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_endless() {
        let long = "x".repeat(100_000);
        let shown = Mistake::new(0..1, &long).help(&long).show(&long, None);
        assert!(shown.len() < 1200, "{}", shown.len());
    }

    #[test]
    fn the_place_has_a_caret() {
        let source = "port 80\nand prot 7\nor x";
        let mistake = Mistake::new(12..16, "what").meant(Some("port")).help("so");
        assert_eq!(
            mistake.show(source, Some("/etc/f")),
            "/etc/f:2: what; did you mean 'port'?\n  and prot 7\n      ^^^^\n  so"
        );
        let end = Mistake::new(7..7, "more");
        assert_eq!(
            end.show("port 80", None),
            "filter: more\n  port 80\n         ^"
        );
    }

    #[test]
    fn what_is_not_seen_is_escaped_and_a_long_line_cut() {
        let mistake = Mistake::new(5..6, "a\x1bb");
        assert_eq!(
            mistake.show("\x1b[1m é", None),
            "filter: a\\u{1b}b\n  \\u{1b}[1m é\n            ^"
        );
        let long = format!("{} here {}", "x".repeat(100), "y".repeat(100));
        let text = Mistake::new(101..105, "w").show(&long, None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1]
                .find("here")
                .map(|at| lines[1][..at].chars().count()),
            lines[2].find('^')
        );
        assert!(
            lines[1].chars().count() < 120 && lines[1].ends_with('…'),
            "{text}"
        );
    }

    #[test]
    fn any_place_is_survived() {
        for (start, end) in [(0, 0), (99, 3), (2, 1), (1, 2), (0, 99)] {
            Mistake::new(start..end, "w").show("é", None);
        }
    }
}
