//! Standard error: one line at a time for a person.
//!
//! Contract: a standard error that nobody reads holds nothing up. What has no
//! room waits for the next line or the end, within a bound; beyond it lines are
//! dropped, which is said once there is room.

use super::sink::Sink;
use super::stream::Stream;
use crate::model::loss::Reason;
use crate::sys::time;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that wait at most.
const LIMIT: usize = 64 * 1024;

/// How long the end of the program waits for a reader that takes nothing, in
/// nanoseconds.
const STILL: u64 = 250_000_000;

static STANDARD_ERROR: Mutex<Option<Stream>> = Mutex::new(None);

/// Whether all waits: the terminal shows something else.
static HELD: AtomicBool = AtomicBool::new(false);
/// The last line that came meanwhile.
static LAST: Mutex<Option<String>> = Mutex::new(None);

fn open() -> Stream {
    let file = std::io::stderr().as_fd().try_clone_to_owned();
    let sink = file.ok().map(|file| Sink::shared(File::from(file)));
    Stream::new(sink, LIMIT, (Reason::ConsoleSlow, Reason::ConsoleWrite))
}

fn lock() -> MutexGuard<'static, Option<Stream>> {
    let lock = STANDARD_ERROR.lock();
    lock.unwrap_or_else(PoisonError::into_inner)
}

fn flush(stream: &mut Stream) {
    if HELD.load(Ordering::Relaxed) {
        return;
    }
    if stream.owes() {
        for lost in stream.take_owed() {
            stream.say(lost, &mut |out, lost| {
                let _ = writeln!(
                    out,
                    "socket-snoop: warning: {} lines are missing here",
                    lost.count
                );
            });
        }
    }
    // There is nowhere to say that standard error is gone.
    let _ = stream.flush();
}

/// Opens standard error for [`notice`] and [`say`]; before the sandbox is entered.
/// The socket, where it is one.
pub fn prepare() -> Option<RawFd> {
    let mut stream = lock();
    stream
        .get_or_insert_with(open)
        .sink()
        .and_then(Sink::socket)
}

/// Prints one line for a person on standard error.
pub fn notice(message: &str) {
    say(&format!("socket-snoop: {message}"));
}

/// Prints one line on standard error as it is.
pub fn say(line: &str) {
    let mut stream = lock();
    let stream = stream.get_or_insert_with(open);
    // What was lost before is said before.
    flush(stream);
    let start = stream.buffer().len();
    let _ = writeln!(stream.buffer(), "{line}");
    stream.keep(start);
    if HELD.load(Ordering::Relaxed) {
        *last() = Some(line.to_string());
    }
    flush(stream);
}

fn last() -> MutexGuard<'static, Option<String>> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last line that came while lines were held back, once.
pub(crate) fn take_held() -> Option<String> {
    last().take()
}

/// Holds lines back until this is called again, where they would go to a terminal; or
/// does so no more.
pub(crate) fn hold(held: bool) {
    HELD.store(held && std::io::stderr().is_terminal(), Ordering::Relaxed);
    attend();
}

/// Writes what waits, if there is room now.
pub fn attend() {
    if let Some(stream) = lock().as_mut() {
        if stream.waiting() > 0 || stream.owes() {
            flush(stream);
        }
    }
}

/// Writes what waits, as long as the reader takes some of it.
pub fn settle() {
    let mut stream = lock();
    let Some(stream) = stream.as_mut() else {
        return;
    };
    flush(stream);
    let mut last = (stream.moved(), time::monotonic());
    while stream.waiting() > 0 {
        let Some(sink) = stream.sink() else { return };
        let mut fds = [PollFd::new(sink.as_fd(), PollFlags::POLLOUT)];
        let _ = poll(&mut fds, PollTimeout::from(20u8));
        flush(stream);
        let (moved, now) = (stream.moved(), time::monotonic());
        if moved != last.0 {
            last = (moved, now);
        } else if stream.is_closed() || now - last.1 > STILL {
            return;
        }
    }
}
