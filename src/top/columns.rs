//! The columns of each view, and which of them fit.
//!
//! Contract: the first ones matter most, and those behind go first where the terminal is
//! narrow; that by which it is sorted stays. A column is a number, also where it is of
//! several views: the place of a figure in a row, or one of the texts.

use super::figures::Unit;
use crate::sys::append::append;

/// The places of figures in a row.
pub(super) const PID: usize = 0;
pub(super) const AGE: usize = 1;
pub(super) const ESTABLISHED: usize = 2;
pub(super) const OPENING: usize = 3;
pub(super) const CLOSING: usize = 4;
pub(super) const NEW: usize = 5;
pub(super) const FAILED: usize = 6;
pub(super) const REFUSED: usize = 7;
pub(super) const RESET: usize = 8;
pub(super) const TIMED_OUT: usize = 9;
pub(super) const RESENT: usize = 10;
pub(super) const RTT: usize = 11;
pub(super) const CONNECT: usize = 12;
pub(super) const SENT: usize = 13;
pub(super) const RECEIVED: usize = 14;
pub(super) const CELLS: usize = 15;

/// The texts: the process, the same in as many columns as it needs, the peer with the
/// service's port, where it listens, both ends, the state.
pub(super) const NAME: u8 = CELLS as u8;
pub(super) const PROCESS: u8 = NAME + 1;
pub(super) const PEER: u8 = NAME + 2;
pub(super) const LOCAL: u8 = NAME + 3;
pub(super) const ENDS: u8 = NAME + 4;
pub(super) const STATE: u8 = NAME + 5;

/// Their titles, how wide they are without the blank before them (0: as wide as the
/// text needs, if it can be), and what the figures are.
const TITLES: &str = "PID AGE ESTAB SYN CLOS NEW/S FAIL/S REFUSED RESET TIMEOUT RESENT RTT CONN SENT \
                      RECV PROCESS PROCESS PEER LISTENER CONNECTION STATE";
const WIDTHS: [u8; STATE as usize + 1] = [
    7, 5, 5, 4, 4, 5, 6, 7, 5, 7, 6, 5, 5, 4, 4, 12, 0, 0, 0, 0, 14,
];
const UNITS: [Unit; CELLS] = {
    use Unit::*;
    [
        Whole, Age, Count, Bytes, Bytes, Rate, Rate, Count, Count, Count, Count, Micros, Micros,
        Bytes, Bytes,
    ]
};

/// The least and the most that a column takes which has no width of its own.
const LEAST: usize = 12;
const WIDEST: usize = 96;
/// What it takes where there is room, whether its text needs it or not.
const ROOMY: usize = 24;

/// The figures of all but connections.
const FIGURES: [usize; 13] = [
    ESTABLISHED,
    OPENING,
    CLOSING,
    NEW,
    FAILED,
    RESENT,
    RTT,
    CONNECT,
    SENT,
    RECEIVED,
    REFUSED,
    RESET,
    TIMED_OUT,
];

/// The figures behind these columns.
const fn with<const N: usize>(first: &[u8]) -> [u8; N] {
    let mut all = [0; N];
    let mut at = 0;
    while at < N {
        all[at] = match at < first.len() {
            true => first[at],
            false => FIGURES[at - first.len()] as u8,
        };
        at += 1;
    }
    all
}

const PROCESSES: [u8; 15] = with(&[PID as u8, PROCESS]);
const PEERS: [u8; 14] = with(&[PEER]);
const LISTENERS: [u8; 16] = with(&[PID as u8, NAME, LOCAL]);
const CONNECTIONS: [u8; 10] = [
    PID as u8,
    NAME,
    ENDS,
    STATE,
    AGE as u8,
    RESENT as u8,
    RTT as u8,
    CONNECT as u8,
    SENT as u8,
    RECEIVED as u8,
];

/// The columns of each view, by its number.
pub(super) const VIEWS: [&[u8]; 4] = [&PROCESSES, &PEERS, &LISTENERS, &CONNECTIONS];

/// What each is sorted by at first, and whether upwards: of connections the youngest
/// come first.
pub(super) const SORTS: [(u8, bool); 4] = [
    (ESTABLISHED as u8, false),
    (ESTABLISHED as u8, false),
    (ESTABLISHED as u8, false),
    (AGE as u8, true),
];

pub(super) fn title(column: u8) -> &'static str {
    let mut titles = TITLES.split_ascii_whitespace();
    titles.nth(column.into()).unwrap_or_default()
}

/// What its figure is, where it is one.
pub(super) fn unit(column: u8) -> Option<Unit> {
    UNITS.get(usize::from(column)).copied()
}

pub(super) fn width(column: u8) -> usize {
    WIDTHS[usize::from(column)].into()
}

/// The column that has no width of its own.
pub(super) fn text(view: usize) -> u8 {
    let mut columns = VIEWS[view].iter();
    columns
        .find(|column| width(**column) == 0)
        .map_or(NAME, |column| *column)
}

/// The columns of a view that fit into so many, with the width of each, the blank before
/// it counted. `wanted` is the longest text of the one without a width, and it is sorted
/// by `sort`.
pub(super) fn layout(view: usize, all: usize, wanted: usize, sort: u8) -> Vec<(u8, usize)> {
    let text = wanted.clamp(LEAST, WIDEST) + 1;
    let reserved = match width(sort) {
        0 => 0,
        wide => wide + 1,
    };
    let mut left = all.saturating_sub(text + reserved);
    let (mut full, mut fit) = (false, Vec::new());
    for &column in VIEWS[view] {
        let mut needs = width(column) + 1;
        if needs == 1 {
            needs = text;
        } else if column != sort {
            full |= needs > left;
            if full {
                continue;
            }
            left -= needs;
        }
        fit.push((column, needs));
    }
    let rest = left.min((ROOMY + 1).saturating_sub(text));
    for (column, needs) in &mut fit {
        if width(*column) == 0 {
            *needs += rest;
        }
    }
    fit
}

/// Appends a text in so many columns, `mark` before it; what is too long ends with a
/// `+`. A figure stands to the right.
pub(super) fn cell(out: &mut Vec<u8>, text: &[u8], width: usize, right: bool, mark: u8) {
    let width = width.saturating_sub(1);
    let end = out.len() + 1 + width;
    if right {
        out.resize(out.len() + width.saturating_sub(text.len()), b' ');
    }
    out.push(mark);
    append(out, text);
    if out.len() > end {
        out.truncate(end);
        if let Some(last) = out.last_mut() {
            *last = b'+';
        }
    }
    out.resize(end, b' ');
}
