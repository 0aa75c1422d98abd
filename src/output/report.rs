//! The connection report at the end of a run.

use super::format::{Filtered, Shape, Summary};
use super::summary::table;
use super::{connection, words};
use crate::lifecycle::Connections;
use crate::lifecycle::connection::{Connection, Direction};
use crate::lifecycle::pairs::pairs;
use crate::model::cause::Cause;
use crate::model::text::{self, Stamps, printable};
use crate::sys::append::append;

/// Bytes of a filter that are told.
const MOST: usize = 400;

/// Whose it was, for how long, and why it ended.
fn life(out: &mut Vec<u8>, connection: &Connection) {
    out.push(b' ');
    words::owner(out, connection.owner().as_ref());
    out.push(b' ');
    if connection.is_listener() {
        append(out, b"listener\n");
        return;
    }
    if connection.direction() != Direction::Unknown {
        append(out, connection.direction().name().as_bytes());
        append(out, b", ");
    }
    if connection.existed() {
        append(out, b"open since before the start, ");
    } else if !connection.began() {
        append(out, b"opening not seen, ");
    }
    if let Some(duration) = connection.duration() {
        connection::seconds(out, duration);
        append(out, b" s, ");
    }
    let end = connection.cause().map_or("still open", Cause::words);
    append(out, end.as_bytes());
    out.push(b'\n');
}

/// What the sums are of, where that is not everything.
fn filter(out: &mut Vec<u8>, filter: &Filtered) {
    if filter.text.is_empty() {
        return;
    }
    append(out, b"Of what passes the filter");
    if filter.changes > 0 {
        append(out, b" (the last of several)");
    }
    append(out, b": ");
    let text = printable(&filter.text).into_bytes();
    append(out, text.get(..MOST).unwrap_or(&text));
    let cut = text.len() > MOST;
    append(out, if cut { b" ...\n" } else { b"\n" });
}

/// One connection: its ends, whose it was and why it ended, and its states.
fn lifecycle(out: &mut Vec<u8>, connection: &Connection, shape: Shape, stamps: &mut Stamps) {
    append(out, b"Connection: ");
    text::endpoint(out, connection.local());
    append(out, b" -> ");
    text::endpoint(out, connection.peer());
    let owner = connection.owner();
    words::elsewhere(out, shape, connection.netns(), owner.as_ref());
    out.push(b'\n');
    life(out, connection);
    for (wall, state) in connection.transitions() {
        append(out, b"  ");
        stamps.local(out, wall);
        append(out, b": ");
        append(out, words::description(state));
        out.push(b'\n');
    }
    if connection.more() > 0 {
        counted(
            out,
            b"  (",
            connection.more().into(),
            b" more transitions)\n",
        );
    }
}

fn counted(out: &mut Vec<u8>, before: &[u8], count: u64, behind: &[u8]) {
    append(out, before);
    text::number(out, count);
    append(out, behind);
}

/// The latest connections, each with its other end if that is among them.
fn lifecycles(
    out: &mut Vec<u8>,
    (all, not_held): (&[&Connection], u64),
    shape: Shape,
    flush: &mut dyn FnMut(&mut Vec<u8>),
) {
    let mut stamps = Stamps::default();
    let most = shape.lifecycles.unwrap_or(usize::MAX);
    let left_out = all.len().saturating_sub(most);
    let earlier = left_out as u64 + not_held;
    if earlier > 0 {
        counted(
            out,
            b"(",
            earlier,
            b" earlier connections are left out; --lifecycles all tells of them)\n",
        );
    }
    let pairs = pairs(all);
    let mut told = vec![false; all.len()];
    for at in left_out..all.len() {
        let other = pairs[at].filter(|other| *other >= left_out);
        if other.is_some() && !told[at] {
            append(out, b"Both ends of a connection:\n");
        }
        for at in [Some(at), other].into_iter().flatten() {
            if !std::mem::replace(&mut told[at], true) {
                lifecycle(out, all[at], shape, &mut stamps);
                flush(out);
            }
        }
    }
}

/// The sums in one line; the other lines lost only where there are any.
pub(super) fn sums(summary: &Summary) -> String {
    let mut text = format!(
        "Events: {} received, {} shown, {} lost.",
        summary.received, summary.shown, summary.lost
    );
    if let Some(kept) = summary.filter.kept_away {
        text += &[
            " ",
            &kept.to_string(),
            " more were kept away in the kernel.",
        ]
        .concat();
    }
    if summary.lost_console_lines > 0 || summary.lost_log_lines > 0 {
        text += &format!(
            " Lines lost: {} on standard output, {} in the log.",
            summary.lost_console_lines, summary.lost_log_lines
        );
    }
    text
}

/// Appends the headings, the sums by process, peer and port, and the connections
/// of which something was shown. `flush` is called between connections and at the
/// end, so that the text need not be held whole.
pub(super) fn render(
    out: &mut Vec<u8>,
    connections: &Connections,
    summary: &Summary,
    shape: Shape,
    flush: &mut dyn FnMut(&mut Vec<u8>),
) {
    append(out, b"Stopping monitoring...\n\n");
    filter(out, &summary.filter);
    let totals = connections.totals();
    connection::classic_totals(out, summary, &totals);
    let start = out.len();
    table(out, "  BY PROCESS\n", &totals.processes);
    table(out, "  BY PEER\n", &totals.peers);
    table(out, "  BY PORT\n", &totals.ports);
    if out.len() > start {
        out.insert(start, b'\n');
    }
    append(out, b"\nConnection Lifecycles:\n");
    let told = (&connections.shown()[..], connections.left_out());
    lifecycles(out, told, shape, flush);
    let notes: [(&[u8], u64, &[u8]); 4] = [
        (
            b"(of ",
            summary.birth_missed,
            b" connections the opening was not seen, nor were they found at the start)\n",
        ),
        (
            b"(",
            summary.refused_connections,
            b" more connections found no room; --connections-max sets how many may be open)\n",
        ),
        (
            b"(",
            summary.not_held,
            b" more connections are no longer held; --history sets how many are)\n",
        ),
        (
            b"(",
            summary.untouched,
            b" more connections were open before the start, and had no event)\n",
        ),
    ];
    for (before, count, behind) in notes {
        if count > 0 {
            counted(out, before, count, behind);
        }
    }
    append(out, sums(summary).as_bytes());
    out.push(b'\n');
    flush(out);
}
