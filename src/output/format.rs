//! What there is to show, and what a format makes of it.
//!
//! Contract: a format appends whole lines to a buffer and knows no file.

use super::keys::{self, Key, Number};
use crate::lifecycle::connection::Connection;
use crate::lifecycle::{Ended, SocketId};
use crate::model::ability::Abilities;
use crate::model::event::Event;
use crate::model::loss::Lost;
use crate::sys::Errno;
use std::borrow::Cow;

/// The formats of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatName {
    /// The original's log line.
    Classic,
    /// JSON lines.
    Json,
    /// No lines: a [`Picture`](super::Picture).
    Picture,
}

/// An event to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The event.
    pub event: &'a Event,
    /// Its time, in nanoseconds since the epoch.
    pub wall: u64,
    /// The connection it belongs to; `None` where it found no room.
    pub id: Option<SocketId>,
    /// At a change to CLOSE: whether the kernel entered TIME_WAIT, where that
    /// can be told.
    pub time_wait: Option<bool>,
    /// At a retransmission: the segments that were sent again, where that is
    /// known.
    pub segments: Option<u32>,
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Which one.
    pub id: SocketId,
    /// Its life.
    pub connection: &'a Connection,
    /// Its end.
    pub ended: &'a Ended,
    /// What this host tells of connections.
    pub tells: Abilities,
}

/// What lines there are, and what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Lines name the task on the CPU, too.
    pub on_cpu: bool,
    /// There are classic lines for connections that have ended, too.
    pub connections: bool,
    /// There are lines for connections that have ended only.
    pub closed_only: bool,
    /// The network namespace of this process, where it is known: of others,
    /// classic lines tell it.
    pub netns: Option<u32>,
    /// So many connections in the report at most; `None` is all.
    pub lifecycles: Option<usize>,
}

/// Names of reset reasons, by number.
pub type Reasons = Vec<(u32, String)>;

/// What was sent again: in segments, or in events, where of some of these the
/// segments aren't known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retransmits {
    segments: u64,
    events: u64,
    untold: bool,
}

impl Retransmits {
    /// Counts an event of so many segments.
    pub fn add(&mut self, segments: Option<u32>) {
        self.events += 1;
        self.segments += u64::from(segments.unwrap_or(0));
        self.untold |= segments.is_none();
    }

    /// The number with its key in JSON.
    pub(super) fn keyed(&self) -> (Key<Number>, u64) {
        match self.untold {
            true => (keys::TCP_RETRANSMITS_TOTAL_EVENTS, self.events),
            false => (keys::TCP_RETRANSMITS_TOTAL, self.segments),
        }
    }

    /// The number, and what it is of, in the report.
    pub fn worded(&self) -> (u64, &'static str) {
        match self.untold {
            true => (self.events, " events of retransmissions, "),
            false => (self.segments, " retransmissions, "),
        }
    }
}

/// The filter that the figures of a run are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// Its text; empty where there is none.
    pub text: String,
    /// How often another one took its place.
    pub changes: u64,
    /// Events that it kept away in the kernel, where it can.
    pub kept_away: Option<u64>,
}

/// The figures of a whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How the events were obtained.
    pub transport: &'static str,
    /// The filter in force at the end.
    pub filter: Filtered,
    /// Events received from the kernel.
    pub received: u64,
    /// Events shown.
    pub shown: u64,
    /// Records of connections shown.
    pub records: u64,
    /// Retransmissions among the events that the filter lets through.
    pub retransmits: Retransmits,
    /// Events lost.
    pub lost: u64,
    /// Lines that standard output did not take.
    pub lost_console_lines: u64,
    /// Lines that the log file did not take.
    pub lost_log_lines: u64,
    /// Connections seen.
    pub connections: u64,
    /// Connections shown that are no longer held for the report.
    pub not_held: u64,
    /// Connections that found no room.
    pub refused_connections: u64,
    /// Connections whose opening was not seen, and that were not found at the
    /// start either.
    pub birth_missed: u64,
    /// Connections that were open before the start, match the filter, and had no
    /// event.
    pub untouched: u64,
}

/// Renders lines of one format.
pub trait Format {
    /// Appends the line of an event, of this connection where it has one.
    fn event(&mut self, out: &mut Vec<u8>, shown: &Shown<'_>, connection: Option<&Connection>);
    /// Appends the line of a connection that has ended, if the format has one.
    fn connection(&mut self, out: &mut Vec<u8>, record: &Record<'_>, reasons: &Reasons);
    /// Appends a line that says what is missing.
    fn lost(&mut self, out: &mut Vec<u8>, lost: &Lost);
}

/// An errno's symbolic name, such as `EBUSY`; a number where it has none.
pub(crate) fn errno_name(errno: i32) -> Cow<'static, str> {
    match Errno(errno).name() {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(errno.to_string()),
    }
}
