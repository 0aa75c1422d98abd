//! From what was counted to the lines of a frame.
//!
//! Contract: every line is printable ASCII and no wider than the terminal; there are as
//! many as the terminal has, or in a block as many as there is something to tell.

use super::columns::{SORTS, VIEWS, cell, layout, text, title, unit};
use super::figures::{UNKNOWN, Unit, figure};
use super::groups::{FAILED_ELSE, Group, REFUSED, RESENT, RESET, TIMED_OUT};
use super::rows::{self, Row};
use super::screen::{Line, Style};
use crate::model::text::{self, Stamps};
use crate::sys::append::append;

/// Lines that a frame has at least to have all of its head.
const TALL: usize = 10;

/// What there is to be shown, of one moment.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) rows: [Vec<Row>; 4],
    pub(super) total: Group,
    pub(super) lost: u64,
    /// How long the last interval was, in nanoseconds.
    pub(super) elapsed: u64,
    /// The time of day.
    pub(super) wall: u64,
    /// For how long it runs, in nanoseconds.
    pub(super) up: u64,
}

/// What it is drawn on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) lines: usize,
    pub(super) columns: usize,
    /// Whether it is but printed: then there is no foot, and no line that says nothing.
    pub(super) block: bool,
}

/// What of it is looked at, and how.
#[derive(Debug)]
pub(super) struct Face {
    pub(super) view: usize,
    /// Of each view the column that it is sorted by, and whether upwards.
    pub(super) sorts: [(u8, bool); 4],
    /// The first row that is shown.
    pub(super) first: usize,
    /// The longest text so far of the column that has no width, of each view.
    wanted: [usize; 4],
    pub(super) help: bool,
    pub(super) paused: bool,
    /// What was said to a person meanwhile.
    pub(super) said: Option<String>,
    /// The interval, in milliseconds.
    interval: u64,
    /// The filter, printable.
    filter: Vec<u8>,
    stamps: Stamps,
}

/// Text from outside as printable ASCII.
fn ascii(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c as u8),
            _ => c.escape_default().for_each(|c| out.push(c as u8)),
        }
    }
}

/// The views' names.
const NAMES: &str = "processes peers listeners connections";

const HELP: &str = "\
Keys
  1 2 3 4, Tab      processes, peers, listeners, connections
  s >, <            sort by the next column, or by the one before (right, left)
  r                 sort the other way round
  space, p          pause: what happens meanwhile is counted all the same
  arrows j k, PgUp PgDn, Home End   scroll
  Ctrl-L, Ctrl-Z    draw all again, stop until fg
  q, Ctrl-C         quit
Columns
  ESTAB SYN CLOS    open now: established, being opened, being closed
  NEW/S FAIL/S      opened, and failed, a second, in the last interval
  RESENT            segments sent again
  RTT               round-trip time of the connection that ended last
  CONN              how long connect() took, on average
  SENT RECV         bytes of connections that have ended
  > or < before one: it is sorted by that, the largest or the smallest first";

impl Face {
    pub(super) fn new(interval: u64, filter: Option<&str>) -> Face {
        let mut text = Vec::new();
        if let Some(filter) = filter {
            ascii(&mut text, filter);
        }
        Face {
            view: 0,
            sorts: SORTS,
            first: 0,
            wanted: [0; 4],
            help: false,
            paused: false,
            said: None,
            interval,
            filter: text,
            stamps: Stamps::default(),
        }
    }

    /// Sorts by another column.
    pub(super) fn sort_by(&mut self, right: bool) {
        let (columns, (column, up)) = (VIEWS[self.view], &mut self.sorts[self.view]);
        let at = columns.iter().position(|known| known == column);
        let step = if right { 1 } else { columns.len() - 1 };
        *column = columns[(at.unwrap_or(0) + step) % columns.len()];
        *up = unit(*column).is_none();
    }

    /// Forgets how wide columns had to be.
    pub(super) fn resized(&mut self) {
        self.wanted = [0; 4];
    }

    /// The lines of a frame.
    pub(super) fn lines(&mut self, sight: &mut Sight, size: &Size) -> Vec<Line> {
        let (all, width) = (size.lines, size.columns);
        let (view, (sorted, up)) = (self.view, self.sorts[self.view]);
        let rows = &mut sight.rows[view];
        rows::sort(rows, sorted, up);
        let rows = rows.len();
        let heads = match all {
            TALL.. => 3,
            4.. => 1,
            _ => 0,
        };
        // The head of the table, and the foot.
        let room = all.saturating_sub(heads + 2);
        self.first = self.first.min(rows.saturating_sub(room));
        let last = self.first.saturating_add(room).min(rows);
        let mut lines = self.heads(sight, (rows, last, size.block));
        lines.truncate(heads);
        let mut put = |style, text: Vec<u8>| lines.push(Line { style, text });
        match self.help {
            true => {
                let help = HELP.lines().take(room.saturating_add(1));
                help.for_each(|line| put(Style::Plain, line.into()));
            }
            false => {
                let shown = &sight.rows[view][self.first..last];
                let wanted = self.wanted(shown);
                let fit = layout(view, width, wanted, sorted);
                let mut head = Vec::new();
                for &(column, wide) in &fit {
                    let mark = match (column == sorted, up) {
                        (false, _) => b' ',
                        (true, false) => b'>',
                        (true, true) => b'<',
                    };
                    let (title, right) = (title(column).as_bytes(), unit(column).is_some());
                    cell(&mut head, title, wide, right, mark);
                }
                head.resize(width, b' ');
                put(Style::Bar, head);
                let mut text = Vec::new();
                for row in shown {
                    let mut line = Vec::new();
                    for &(column, wide) in &fit {
                        text.clear();
                        row.text(&mut text, column);
                        cell(&mut line, &text, wide, unit(column).is_some(), b' ');
                    }
                    put(Style::Of(row.heat), line);
                }
            }
        }
        if !size.block {
            let mut foot = self.foot();
            if all > lines.len() {
                let blank = Line {
                    style: Style::Plain,
                    text: Vec::new(),
                };
                lines.resize(all - 1, blank);
                lines.append(&mut foot);
            }
            lines.truncate(all);
        }
        lines.iter_mut().for_each(|line| line.text.truncate(width));
        lines
    }

    /// How wide the column is to be that has no width of its own: it does not get
    /// narrower.
    fn wanted(&mut self, shown: &[Row]) -> usize {
        let (column, wanted) = (text(self.view), &mut self.wanted[self.view]);
        let mut text = Vec::new();
        for row in shown {
            text.clear();
            row.text(&mut text, column);
            *wanted = (*wanted).max(text.len());
        }
        *wanted
    }

    fn heads(&mut self, sight: &Sight, (rows, last, block): (usize, usize, bool)) -> Vec<Line> {
        let (total, open) = (&sight.total, sight.total.open);
        let mut time = Vec::new();
        self.stamps.local(&mut time, sight.wall);
        // To the second; where it stays, with the day.
        time.truncate(time.len().saturating_sub(4));
        let clock = time.rsplit(|byte| *byte == b' ').next();
        let shown = clock.filter(|_| !block).unwrap_or(&time);
        let mut first = b"socket-snoop  ".to_vec();
        append(&mut first, shown);
        append(&mut first, b"  up ");
        figure(&mut first, sight.up / 1000, Unit::Age);
        append(&mut first, b"  every ");
        figure(&mut first, self.interval * 1000, Unit::Age);
        if self.paused {
            append(&mut first, b"  PAUSED");
        }
        if self.first > 0 || last < rows {
            append(&mut first, b"  rows ");
            text::number(&mut first, (self.first + 1) as u64);
            first.push(b'-');
            text::number(&mut first, last as u64);
            append(&mut first, b" of ");
            text::number(&mut first, rows as u64);
        }
        if !self.filter.is_empty() {
            append(&mut first, b"  filter: ");
            append(&mut first, &self.filter);
        }
        let (all, [new, failed]) = (&total.all, total.rates(sight.elapsed));
        let second = told(
            "# open: # established, # opening, # closing; ~ new/s, ~ failed/s",
            &[open.iter().sum(), open[0], open[1], open[2], new, failed],
        );
        let third = told(
            "# failed: # refused, # reset, # timed out, # other; # resent; # events lost",
            &[
                total.failed(),
                all[REFUSED],
                all[RESET],
                all[TIMED_OUT],
                all[FAILED_ELSE],
                all[RESENT],
                sight.lost,
            ],
        );
        let mut lines = vec![Line {
            style: Style::Bold,
            text: first,
        }];
        for text in [second, third] {
            let style = Style::Plain;
            lines.push(Line { style, text });
        }
        lines
    }

    fn foot(&self) -> Vec<Line> {
        let mut text = Vec::new();
        if let Some(said) = &self.said {
            ascii(&mut text, said);
        } else {
            for (at, name) in NAMES.split(' ').enumerate() {
                let here = at == self.view;
                text.push(if here { b'[' } else { b' ' });
                text::number(&mut text, at as u64 + 1);
                text.push(b' ');
                append(&mut text, name.as_bytes());
                text.push(if here { b']' } else { b' ' });
            }
            append(&mut text, b" s sort p pause h help q quit");
        }
        let style = Style::Bold;
        vec![Line { style, text }]
    }
}

/// A text with figures: a number for each `#`, and a rate for each `~`.
fn told(text: &str, figures: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut figures = figures.iter();
    for byte in text.bytes() {
        let unit = match byte {
            b'#' => Unit::Count,
            b'~' => Unit::Rate,
            _ => {
                out.push(byte);
                continue;
            }
        };
        figure(&mut out, figures.next().copied().unwrap_or(UNKNOWN), unit);
    }
    out
}

#[cfg(test)]
mod tests;
