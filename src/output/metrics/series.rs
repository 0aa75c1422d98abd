//! Series: figures by direction, listening port and the owner's name.
//!
//! Contract: see the module above; a series, once written, is written at each time.

use crate::lifecycle::connection::Direction;
use crate::model::cause::Cause;
use crate::model::event::{COMM_LEN, Resending};
use crate::model::sort;
use crate::model::text::{self, is_unseen};
use crate::sys::append::append;

/// The places of figures in a series.
pub(super) const OPENED: usize = 0;
pub(super) const ESTABLISHED: usize = 1;
pub(super) const OPEN: usize = 2;
pub(super) const RESENT: usize = 3;
pub(super) const CLOSED: usize = RESENT + KINDS.len();
/// From here on bytes.
pub(super) const SENT: usize = CLOSED + Cause::ALL.len();
pub(super) const RECEIVED: usize = SENT + 1;
pub(super) const FIGURES: usize = RECEIVED + 1;

/// What made the kernel send again.
pub(super) const KINDS: [&str; 6] = [
    "syn",
    "synack",
    Resending::Timeout.name(),
    Resending::Fast.name(),
    Resending::TailLossProbe.name(),
    "unknown",
];

/// Ports, and names, that are told.
const TOP: usize = 50;
/// Series that are counted between two writes, and in all; each is some 200 bytes.
const FRESH: usize = 512;
const MOST: usize = 2048;

/// No port, and no name: what is `other`.
const OTHER_PORT: u32 = 1 << 16;
const OTHER: [u8; COMM_LEN] = *b"other\0\0\0\0\0\0\0\0\0\0\0";

/// What figures are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    direction: Direction,
    /// 0 is not known.
    port: u32,
    /// As it is printed, but for escapes: all of one name are one series.
    name: [u8; COMM_LEN],
}

impl Key {
    /// One by these.
    pub(super) fn new(direction: Direction, port: u16, comm: &[u8]) -> Key {
        let whole = std::str::from_utf8(comm).is_ok_and(|text| !text.chars().any(is_unseen));
        let mut name = [0; COMM_LEN];
        for (to, &byte) in name.iter_mut().zip(comm) {
            let fine = whole || matches!(byte, b' '..=b'~' | b'\n');
            *to = if fine { byte } else { b'?' };
        }
        let port = port.into();
        Key {
            direction,
            port,
            name,
        }
    }

    fn other(self) -> Key {
        Key {
            port: OTHER_PORT,
            name: OTHER,
            ..self
        }
    }

    /// Appends `{direction="…",port="…",comm="…`.
    fn render(&self, out: &mut Vec<u8>) {
        put(out, "{direction=\"");
        put(out, self.direction.name());
        put(out, "\",port=\"");
        match self.port {
            0 => {}
            OTHER_PORT => put(out, "other"),
            port => text::number(out, port.into()),
        }
        put(out, "\",comm=\"");
        for &byte in self.name.iter().take_while(|byte| **byte != 0) {
            if matches!(byte, b'\n' | b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(if byte == b'\n' { b'n' } else { byte });
        }
    }
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Series {
    key: Key,
    figures: [u64; FIGURES],
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Table {
    all: Vec<Series>,
    /// Since the last write, by their own names.
    fresh: Vec<Series>,
    ports: Vec<u32>,
    names: Vec<[u8; COMM_LEN]>,
}

/// The figures of a series among others, `most` at most: then those of `other`.
fn find(all: &mut Vec<Series>, key: Key, most: usize) -> &mut [u64; FIGURES] {
    let place = |all: &[Series], key| all.iter().position(|one| one.key == key);
    let key = match place(all, key) {
        None if all.len() >= most => key.other(),
        _ => key,
    };
    let at = place(all, key).unwrap_or(all.len());
    if at == all.len() {
        let figures = [0; FIGURES];
        all.push(Series { key, figures });
    }
    &mut all[at].figures
}

/// Whether it is among these, or there is room for it.
fn admit<T: PartialEq>(all: &mut Vec<T>, one: T) -> bool {
    let known = all.contains(&one);
    let room = all.len() < TOP;
    if !known && room {
        all.push(one);
    }
    known || room
}

impl Table {
    /// Adds to a figure.
    pub(super) fn add(&mut self, key: Key, figure: usize, count: u64) {
        let figure = &mut find(&mut self.fresh, key, FRESH)[figure];
        *figure = figure.saturating_add(count);
    }

    /// The names that a series is told by.
    fn told(&mut self, mut key: Key) -> Key {
        if ![0, OTHER_PORT].contains(&key.port) && !admit(&mut self.ports, key.port) {
            key.port = OTHER_PORT;
        }
        if ![[0; COMM_LEN], OTHER].contains(&key.name) && !admit(&mut self.names, key.name) {
            key.name = OTHER;
        }
        key
    }

    /// Takes what was counted since, the busiest first.
    pub(super) fn settle(&mut self) {
        let mut fresh = std::mem::take(&mut self.fresh);
        sort::by_key(&mut fresh, |one| {
            !one.figures.iter().take(SENT).sum::<u64>()
        });
        for one in fresh {
            let key = self.told(one.key);
            let figures = find(&mut self.all, key, MOST);
            for (all, more) in figures.iter_mut().zip(one.figures) {
                *all = all.saturating_add(more);
            }
        }
    }

    /// Sets a figure to 0 everywhere.
    pub(super) fn clear(&mut self, figure: usize) {
        for one in &mut self.all {
            one.figures[figure] = 0;
        }
    }

    /// Adds to a figure at once.
    pub(super) fn put(&mut self, key: Key, figure: usize, count: u64) {
        let key = self.told(key);
        find(&mut self.all, key, MOST)[figure] += count;
    }

    /// Appends the lines of a family whose figures begin there; its name is the first
    /// word in its head.
    pub(super) fn family(&self, out: &mut Vec<u8>, head: &str, from: usize) {
        let name = head.split_ascii_whitespace().nth(2).unwrap_or("");
        let (label, labels) = match from {
            RESENT => ("\",kind=\"", KINDS.len()),
            CLOSED => ("\",cause=\"", Cause::ALL.len()),
            _ => ("", 1),
        };
        for one in &self.all {
            let figures = one.figures.iter().skip(from).take(labels);
            for (at, &count) in figures.enumerate() {
                if count == 0 && labels > 1 {
                    continue;
                }
                put(out, name);
                one.key.render(out);
                put(out, label);
                put(
                    out,
                    match from {
                        RESENT => KINDS[at],
                        CLOSED => Cause::ALL[at].name(),
                        _ => "",
                    },
                );
                value(out, "\"} ", count);
            }
        }
    }
}

/// Appends a text.
#[inline(never)]
pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    append(out, text.as_bytes());
}

/// Appends a text, a value, and the end of its line.
#[inline(never)]
pub(super) fn value(out: &mut Vec<u8>, before: &str, value: u64) {
    put(out, before);
    text::number(out, value);
    out.push(b'\n');
}
