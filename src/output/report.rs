//! The connection report at the end of a run.

use super::format::{Filtered, Shape, Summary};
use super::{connection, words};
use crate::lifecycle::Connections;
use crate::lifecycle::connection::{Connection, Direction};
use crate::model::cause::Cause;
use crate::model::text::{self, Stamps, printable};
use crate::sys::append::append;
use std::io::Write;

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

/// Appends the headings and every connection of which something was shown.
/// `flush` is called between connections, so that the text need not be held
/// whole.
pub(crate) fn render(
    out: &mut Vec<u8>,
    connections: &Connections,
    summary: &Summary,
    shape: Shape,
    flush: &mut dyn FnMut(&mut Vec<u8>),
) {
    let mut stamps = Stamps::default();
    append(out, b"Stopping monitoring...\n\n");
    filter(out, &summary.filter);
    connection::classic_totals(out, summary, &connections.totals());
    append(out, b"\nConnection Lifecycles:\n");
    for connection in connections.shown() {
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
            append(out, state.description().as_bytes());
            out.push(b'\n');
        }
        // Writing to a Vec can't fail.
        if connection.more() > 0 {
            let _ = writeln!(out, "  ({} more transitions)", connection.more());
        }
        flush(out);
    }
    if connections.birth_missed() > 0 {
        let _ = writeln!(
            out,
            "(of {} connections the opening was not seen, nor were they found at the start)",
            connections.birth_missed()
        );
    }
    if connections.refused_connections() > 0 {
        let _ = writeln!(
            out,
            "({} more connections found no room; --connections-max sets how many may be open)",
            connections.refused_connections()
        );
    }
    if connections.not_held() > 0 {
        let _ = writeln!(
            out,
            "({} more connections are no longer held; --history sets how many are)",
            connections.not_held()
        );
    }
}
