//! A line of the table: what it is of, its figures, and the order of lines.
//!
//! Contract: the same for all views, so that one piece of code sorts and draws them.

use super::columns::{CELLS, ENDS, ESTABLISHED, LOCAL, NAME, PEER, PROCESS, STATE, unit};
use super::figures::{UNKNOWN, Unit, figure};
use crate::lifecycle::connection::Direction;
use crate::model::event::{COMM_LEN, comm};
use crate::model::sort;
use crate::model::tcp::Endpoint;
use crate::model::text;
use crate::output::escape;
use crate::sys::append::append;
use std::net::{IpAddr, Ipv4Addr};

/// An end that isn't known.
pub(super) const NOWHERE: Endpoint = Endpoint {
    addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    port: 0,
};

/// What a row is of; each view shows a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    /// 0 is not known.
    pub(super) pid: u32,
    pub(super) name: [u8; COMM_LEN],
    /// This host's end; of listeners with the address of all of them, or none.
    pub(super) local: Endpoint,
    /// The other end; of peers with the port that they serve, or are served at.
    pub(super) peer: Endpoint,
    pub(super) way: Direction,
    /// A connection's state, or how it ended.
    pub(super) state: &'static str,
    /// Whether it is of all those that found no row.
    pub(super) others: bool,
}

impl Subject {
    /// Of those that found no row.
    pub(super) const OTHERS: Subject = Subject {
        pid: 0,
        name: [0; COMM_LEN],
        local: NOWHERE,
        peer: NOWHERE,
        way: Direction::Unknown,
        state: "-",
        others: true,
    };
}

/// How much a row is to be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Heat {
    /// Not more than others.
    #[default]
    None,
    /// It is over.
    Over,
    /// Something was sent again lately.
    Warm,
    /// Something failed lately.
    Hot,
}

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) subject: Subject,
    pub(super) cells: [u64; CELLS],
    pub(super) heat: Heat,
    /// What tells two apart that are alike.
    pub(super) id: u64,
    /// What comes first of two that are alike.
    pub(super) weight: u64,
}

/// An address as a number that sorts.
pub(super) fn number(addr: IpAddr) -> u128 {
    let addr = match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    addr.to_bits()
}

/// What stands between the ends, or before a peer: who opened it.
fn arrow(way: Direction) -> u8 {
    match way {
        Direction::Outgoing => b'>',
        Direction::Incoming => b'<',
        Direction::Unknown => b'-',
    }
}

/// Appends an end; any address, and no port.
fn endpoint(out: &mut Vec<u8>, end: &Endpoint) {
    match (end.addr.is_unspecified(), end.port) {
        (true, _) => {
            append(out, b"*:");
            text::number(out, end.port.into());
        }
        (false, 0) => text::address(out, end.addr),
        _ => text::endpoint(out, end),
    }
}

impl Row {
    /// What it is sorted by in this column; of two that are alike comes the one first
    /// of which there is more.
    fn key(&self, column: u8) -> (u128, u64, u64) {
        let subject = &self.subject;
        let mut second = self.weight;
        let first = match column {
            NAME | PROCESS => u128::from_be_bytes(subject.name),
            PEER | ENDS => {
                second = subject.peer.port.into();
                number(subject.peer.addr)
            }
            LOCAL => subject.local.port.into(),
            STATE => {
                let bytes = subject.state.bytes();
                let first = bytes.fold(0, |sum, byte| sum << 8 | u128::from(byte));
                first << (8 * 16usize.saturating_sub(subject.state.len()))
            }
            // What isn't known comes below 0.
            _ => self.cells[usize::from(column)].wrapping_add(1).into(),
        };
        (first, second, self.id)
    }

    /// Appends the text of a column: printable ASCII, and of any length.
    pub(super) fn text(&self, out: &mut Vec<u8>, column: u8) {
        let subject = &self.subject;
        if let Some(unit) = unit(column) {
            return figure(out, self.cells[usize::from(column)], unit);
        }
        match column {
            STATE => append(out, subject.state.as_bytes()),
            // The number of connections that are not told.
            ENDS if subject.others => {
                figure(out, self.cells[ESTABLISHED], Unit::Count);
                append(out, b" more");
            }
            _ if subject.others => append(out, b"(others)"),
            PEER => {
                out.push(arrow(subject.way));
                endpoint(out, &subject.peer);
                if subject.way == Direction::Incoming {
                    append(out, b" :");
                    text::number(out, subject.local.port.into());
                }
            }
            LOCAL => endpoint(out, &subject.local),
            ENDS => {
                endpoint(out, &subject.local);
                append(out, &[b' ', arrow(subject.way), b' ']);
                endpoint(out, &subject.peer);
            }
            _ => escape::comm(out, comm(&subject.name)),
        }
    }
}

/// Sorts by a column, upwards or downwards; what found no row comes last.
pub(super) fn sort(rows: &mut [Row], column: u8, up: bool) {
    sort::by_key(rows, |row| row.key(column));
    if !up {
        rows.reverse();
    }
    if let Some(at) = rows.iter().position(|row| row.subject.others) {
        rows[at..].rotate_left(1);
    }
}

/// A row of which nothing is known.
pub(super) fn blank(subject: Subject, id: u64) -> Row {
    Row {
        subject,
        cells: [UNKNOWN; CELLS],
        heat: Heat::None,
        id,
        weight: 0,
    }
}
