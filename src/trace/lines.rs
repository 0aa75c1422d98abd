//! Lines of the file: one object each, with a comma.

use crate::model::text;
use crate::output::escape;
use crate::sys::append::append;

/// Whose it is: a process and a lane.
pub(super) fn head(out: &mut Vec<u8>, pid: u32, lane: u32) {
    append(out, b"{\"pid\":");
    text::number(out, pid.into());
    append(out, b",\"tid\":");
    text::number(out, lane.into());
}

/// A time: microseconds, to the nanosecond.
fn time(out: &mut Vec<u8>, at: u64) {
    append(out, b"\",\"ts\":");
    text::number(out, at / 1_000);
    out.push(b'.');
    text::padded(out, (at % 1_000) as u32, 3);
}

/// The rest of a line: of which phase it is, when, what it is called; `args` is an object,
/// or empty.
pub(super) fn line(out: &mut Vec<u8>, phase: &str, at: u64, name: &[u8], args: &[u8]) {
    append(out, b",\"ph\":\"");
    append(out, phase.as_bytes());
    time(out, at);
    named(out, name, args);
}

fn named(out: &mut Vec<u8>, name: &[u8], args: &[u8]) {
    append(out, b",\"name\":");
    escape::json_string(out, name);
    if !args.is_empty() {
        append(out, b",\"args\":");
        append(out, args);
    }
    append(out, b"},\n");
}

/// What a process or a lane is called.
pub(super) fn called(out: &mut Vec<u8>, (pid, lane): (u32, u32), what: &str, name: &[u8]) {
    let mut args = b"{\"name\":".to_vec();
    escape::json_string(&mut args, name);
    args.push(b'}');
    head(out, pid, lane);
    append(out, b",\"ph\":\"M\"");
    named(out, what.as_bytes(), &args);
}

/// An end of an arrow between two slices that are there at that time.
pub(super) fn flow(out: &mut Vec<u8>, (pid, lane): (u32, u32), phase: &str, at: u64, id: u64) {
    head(out, pid, lane);
    // Numbers of more than 53 bits are not the same to every reader.
    append(out, b",\"cat\":\"tcp\",\"bp\":\"e\",\"id\":");
    text::number(out, id >> 11);
    line(out, phase, at, b"connection", b"");
}
