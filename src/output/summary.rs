//! The report's tables: connections by process, by peer and by port.
//!
//! Contract: numbers stand in columns, the name behind them; what isn't known is
//! `-`. A table has [`ROWS`] rows at most, and one for all others.

use super::escape;
use crate::lifecycle::tally::{FAILURES, Groups, Key, Tally};
use crate::model::event::comm;
use crate::model::text;
use crate::sys::append::append;

/// Rows of a table.
const ROWS: usize = 10;

/// What stands above the numbers, with the columns' widths.
const HEADINGS: [(&str, usize); 7] = [
    ("CONNS", 7),
    ("FAILED", 8),
    ("SENT", 9),
    ("RECEIVED", 10),
    ("RESENT", 8),
    ("P50_MS", 10),
    ("P95_MS", 10),
];

/// Appends a cell to the right of its column.
fn cell(out: &mut Vec<u8>, width: usize, text: &[u8]) {
    out.resize(out.len() + width.saturating_sub(text.len()), b' ');
    append(out, text);
}

/// `712`, `1.2K`, `34.0M`: in powers of 1024, rounded down.
fn size(out: &mut Vec<u8>, bytes: u64) {
    let power = (bytes | 1).ilog2() / 10;
    let Some(unit) = b"KMGTPE".get((power as usize).wrapping_sub(1)) else {
        return text::number(out, bytes);
    };
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    text::number(out, (tenths / 10) as u64);
    append(out, &[b'.', b'0' + (tenths % 10) as u8, *unit]);
}

/// Milliseconds to the microsecond.
fn millis(out: &mut Vec<u8>, nanos: u64) {
    text::number(out, nanos / 1_000_000);
    out.push(b'.');
    text::padded(out, (nanos % 1_000_000 / 1_000) as u32, 3);
}

/// A group's name.
pub(super) fn name(out: &mut Vec<u8>, key: &Key) {
    match key {
        Key::Process(pid, name) => {
            text::number(out, u64::from(*pid));
            out.push(b'/');
            escape::comm(out, comm(name));
        }
        Key::Peer(addr) => text::address(out, *addr),
        Key::Port(direction, port) => {
            append(out, direction.name().as_bytes());
            out.push(b' ');
            text::number(out, u64::from(*port));
        }
    }
}

/// A row: its numbers, and then its name.
fn row(out: &mut Vec<u8>, tally: &Tally, named: &dyn Fn(&mut Vec<u8>)) {
    type Write = fn(&mut Vec<u8>, u64);
    let connect = |percent| tally.connect.percentile(percent);
    let cells: [(Option<u64>, Write); 7] = [
        (Some(tally.connections), text::number),
        (Some(tally.failed()), text::number),
        (tally.sent, size),
        (tally.received, size),
        (Some(tally.resent), text::number),
        (connect(50), millis),
        (connect(95), millis),
    ];
    for ((value, write), (_, width)) in cells.iter().zip(HEADINGS) {
        let mut text = Vec::new();
        match value {
            Some(value) => write(&mut text, *value),
            None => text.push(b'-'),
        }
        cell(out, width, &text);
    }
    append(out, b"  ");
    named(out);
    let failures = FAILURES.iter().zip(tally.failures);
    for (at, (cause, count)) in failures.filter(|(_, count)| *count > 0).enumerate() {
        append(out, if at == 0 { b": " } else { b", " });
        append(out, cause.words().as_bytes());
        out.push(b' ');
        text::number(out, count);
    }
    out.push(b'\n');
}

/// Appends a table; nothing where there is nothing to tell.
pub(super) fn table(out: &mut Vec<u8>, by: &str, groups: &Groups) {
    let top = groups.top(ROWS);
    if top.is_empty() {
        return;
    }
    for (heading, width) in HEADINGS {
        cell(out, width, heading.as_bytes());
    }
    append(out, by.as_bytes());
    for place in top {
        row(out, &place.tally, &|out| name(out, &place.key));
    }
    let (rest, others) = groups.rest(ROWS);
    if others.connections > 0 {
        row(out, &others, &|out| {
            text::number(out, rest as u64);
            let others: &[u8] = match groups.is_exact() {
                true => b" others",
                false => b" others or more",
            };
            append(out, others);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn sizes() {
        for (bytes, shown) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1535, "1.4K"),
            (1536, "1.5K"),
            (1 << 20, "1.0M"),
            ((1 << 20) - 1, "1023.9K"),
            (u64::MAX, "15.9E"),
        ] {
            assert_eq!(text(|out| size(out, bytes)), shown);
        }
    }

    #[test]
    fn a_row_is_as_its_headings() {
        let tally = Tally {
            connections: 12,
            failures: [2, 0, 1, 0, 0, 0, 0, 0],
            sent: Some(2048),
            ..Tally::default()
        };
        let shown = text(|out| row(out, &tally, &|out| out.extend(b"name")));
        let expected = "     12       3     2.0K         -       0         -         -  \
                        name: refused 2, timed out 1\n";
        assert_eq!(shown, expected);
    }
}
