//! Lines on a terminal, or as plain blocks.
//!
//! Contract: on a terminal only the lines that have changed are written, each over what
//! was there, so that nothing flickers; a terminal that obeys no escapes gets none.

use super::rows::Heat;
use crate::model::text;
use crate::sys::append::append;
use crate::sys::terminal;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    /// The head of the table.
    Bar,
    Of(Heat),
}

/// A line: printable ASCII, no longer than the terminal is wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) style: Style,
    pub(super) text: Vec<u8>,
}

/// What lines are drawn on.
#[derive(Debug)]
pub(super) struct Screen {
    /// Whether it obeys escapes.
    obeys: bool,
    colours: bool,
    /// What stands there, and in how many columns.
    stands: Vec<Line>,
    columns: usize,
    begun: bool,
}

impl Screen {
    pub(super) fn new(obeys: bool, colours: bool) -> Screen {
        Screen {
            obeys,
            colours,
            stands: Vec::new(),
            columns: 0,
            begun: false,
        }
    }

    /// Whether lines are drawn over others, and not below them.
    pub(super) fn obeys(&self) -> bool {
        self.obeys
    }

    /// Whatever stands there is to be drawn anew.
    pub(super) fn forget(&mut self) {
        self.stands.clear();
    }

    /// Another program has the terminal from now on: it is entered again, if at all.
    pub(super) fn given_back(&mut self) {
        self.begun &= !self.obeys;
        self.forget();
    }

    fn sgr(&self, style: Style) -> &'static str {
        match style {
            Style::Plain | Style::Of(Heat::None) => "",
            Style::Bold => "\x1b[1m",
            Style::Bar => "\x1b[7m",
            Style::Of(Heat::Over) => "\x1b[2m",
            Style::Of(Heat::Warm) if self.colours => "\x1b[33m",
            Style::Of(Heat::Hot) if self.colours => "\x1b[31m",
            // Without colours.
            Style::Of(_) => "\x1b[1m",
        }
    }

    /// Draws these lines on a terminal with so many columns.
    pub(super) fn draw(&mut self, lines: Vec<Line>, columns: usize, to: &mut Vec<u8>) {
        if !self.obeys {
            if std::mem::replace(&mut self.begun, true) {
                to.push(b'\n');
            }
            for line in &lines {
                append(to, line.text.trim_ascii_end());
                to.push(b'\n');
            }
            return;
        }
        if !std::mem::replace(&mut self.begun, true) {
            append(to, terminal::ENTER);
        }
        if std::mem::replace(&mut self.columns, columns) != columns
            || self.stands.len() != lines.len()
        {
            self.forget();
        }
        for (at, line) in lines.iter().enumerate() {
            if self.stands.get(at) == Some(line) {
                continue;
            }
            go(to, at + 1);
            let sgr = self.sgr(line.style);
            append(to, sgr.as_bytes());
            append(to, &line.text);
            if !sgr.is_empty() {
                append(to, b"\x1b[m");
            }
            // Behind the last column it would erase that.
            if line.text.len() < columns {
                append(to, b"\x1b[K");
            }
        }
        self.stands = lines;
    }

    /// Leaves the terminal as it was.
    pub(super) fn leave(&mut self, to: &mut Vec<u8>) {
        if self.obeys && std::mem::take(&mut self.begun) {
            // Where there is no other screen to go back to, below what was drawn.
            go(to, self.stands.len().max(1));
            append(to, b"\x1b[K");
            append(to, terminal::LEAVE);
            self.forget();
        }
    }
}

/// To the start of a line.
fn go(to: &mut Vec<u8>, line: usize) {
    append(to, b"\x1b[");
    text::number(to, line as u64);
    append(to, b";1H");
}

#[cfg(test)]
mod tests;
