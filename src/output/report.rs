//! The connection report at the end of a run.

use crate::lifecycle::Connections;
use crate::text::{self, Stamps};
use std::io::Write;

/// Appends the headings and every connection of which something was shown.
/// `flush` is called between connections, so that the text need not be held
/// whole.
pub fn render(out: &mut Vec<u8>, connections: &Connections, flush: &mut dyn FnMut(&mut Vec<u8>)) {
    let mut stamps = Stamps::default();
    out.extend_from_slice(b"Stopping monitoring...\n\nConnection Lifecycles:\n");
    for connection in connections.shown() {
        out.extend_from_slice(b"Connection: ");
        text::endpoint(out, connection.local());
        out.extend_from_slice(b" -> ");
        text::endpoint(out, connection.peer());
        if connection.existed() {
            out.extend_from_slice(b" (open since before the start)");
        }
        out.push(b'\n');
        for (wall, state) in connection.transitions() {
            out.extend_from_slice(b"  ");
            stamps.local(out, wall);
            out.extend_from_slice(b": ");
            out.extend_from_slice(state.description().as_bytes());
            out.push(b'\n');
        }
        // Writing to a Vec can't fail.
        if connection.more() > 0 {
            let _ = writeln!(out, "  ({} more transitions)", connection.more());
        }
        flush(out);
    }
    if connections.not_held() > 0 {
        let _ = writeln!(
            out,
            "({} more connections are no longer held; --history sets how many are)",
            connections.not_held()
        );
    }
}
