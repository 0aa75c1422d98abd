//! A picture: what takes the place of lines on standard output, such as a table that
//! is drawn anew, or a file of another program's.
//!
//! Contract: what a picture appends goes to standard output whole, or not at all where
//! there is no room for it. The log has its lines as ever. A picture that was opened is
//! finished, however the run ends.

use super::format::{Format, Reasons, Record, Shown, Summary};
use crate::lifecycle::SocketId;
use crate::lifecycle::connection::Connection;
use crate::model::loss::Lost;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Hands out the open connections of which something was shown; those that were let
/// listen, too.
pub type Visit<'a> = dyn FnMut(&mut dyn FnMut(SocketId, &Connection)) + 'a;

/// What takes the place of lines on standard output.
pub trait Picture {
    /// Takes an event that is shown, and its connection where it has one.
    fn event(&mut self, shown: &Shown<'_>, connection: Option<&Connection>, to: &mut Vec<u8>);

    /// Takes the record of a connection that has ended, also where classic lines would
    /// not have it.
    fn record(&mut self, record: &Record<'_>, to: &mut Vec<u8>);

    /// The same, where the names of reasons of resets are wanted.
    fn named_record(&mut self, record: &Record<'_>, _: &Reasons, to: &mut Vec<u8>) {
        self.record(record, to);
    }

    /// Takes that something is missing.
    fn lost(&mut self, lost: &Lost, to: &mut Vec<u8>);

    /// When it wants to be drawn at the latest: on the monotonic clock, or on that of
    /// the recorded lines. `u64::MAX`: never by itself.
    fn due(&self) -> u64;

    /// Draws it. `now` is on the clock of [`Picture::due`], and `wall` the time of day,
    /// in nanoseconds since the epoch.
    fn draw(&mut self, now: u64, wall: u64, open: &mut Visit<'_>, to: &mut Vec<u8>);

    /// The terminal whose keys it wants. While there is one, nothing else is written to
    /// a terminal.
    fn keys(&self) -> Option<BorrowedFd<'_>>;

    /// Takes what keys there are; whether the user has asked for the end.
    fn key(&mut self) -> bool;

    /// The size of the terminal is another one now.
    fn resized(&mut self);

    /// The last bytes, whatever has ended the run: gives the terminal back, or closes
    /// what the file's syntax has open.
    fn finish(&mut self, summary: &Summary, to: &mut Vec<u8>);
}

/// Whether there is one. An edition that opens none has this for a constant, and leaves
/// out what is done for pictures.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// From now on there is one.
pub(super) fn set_shown() {
    SHOWN.store(true, Ordering::Relaxed);
}

/// Whether there is, or was, a picture.
#[inline(always)]
pub(crate) fn is_shown() -> bool {
    SHOWN.load(Ordering::Relaxed)
}

/// In the place of a format.
impl Format for Box<dyn Picture> {
    fn event(&mut self, out: &mut Vec<u8>, shown: &Shown<'_>, connection: Option<&Connection>) {
        (**self).event(shown, connection, out);
    }

    fn connection(&mut self, out: &mut Vec<u8>, record: &Record<'_>, reasons: &Reasons) {
        (**self).named_record(record, reasons, out);
    }

    fn lost(&mut self, out: &mut Vec<u8>, lost: &Lost) {
        (**self).lost(lost, out);
    }
}
