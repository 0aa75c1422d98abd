//! What a person or a program sees: console, log file, report.
//!
//! Contract: standard output carries the data and, in classic format, the
//! headings of the report; everything else goes to standard error. Escaping is
//! all in [`escape`]; formats append whole lines to a buffer and know no file.

pub mod classic;
pub mod connection;
pub mod escape;
pub mod json;
pub mod log;
pub mod preflight;
pub mod report;
pub mod stream;

use crate::event::Event;
use crate::lifecycle::connection::Connection;
use crate::lifecycle::{Connections, Ended, SocketId, Tells};
use crate::sys::Errno;
use classic::Classic;
use json::Json;
use log::Log;
use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use stream::{Flushed, Stream};

/// The formats of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatName {
    /// The original's log line.
    Classic,
    /// JSON lines.
    Json,
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
    pub tells: Tells,
}

/// What lines there are, and what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Classic lines name the task on the CPU, too.
    pub on_cpu: bool,
    /// There are classic lines for connections that have ended, too.
    pub connections: bool,
    /// There are lines for connections that have ended only.
    pub closed_only: bool,
}

/// Names of reset reasons, by number.
pub type Reasons = Vec<(u32, String)>;

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The CPU's ring was full.
    RingFull,
    /// The program could not send the event, such as on a CPU without a ring.
    OutputFailed,
    /// The kernel took it for the ring and it never came.
    Undelivered,
    /// The kernel did not run the program because another one was active.
    Recursion,
    /// A record that could not be read.
    Unreadable,
    /// Lines that the log file did not take.
    LogWrite,
    /// Not events, but owners: the kernel's table of them was full.
    OwnersFull,
    /// Not events, but connections: too many were open.
    ConnectionsFull,
}

impl Reason {
    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Reason::RingFull => "ring_full",
            Reason::OutputFailed => "output_failed",
            Reason::Undelivered => "undelivered",
            Reason::Recursion => "recursion",
            Reason::Unreadable => "unreadable",
            Reason::LogWrite => "log_write",
            Reason::OwnersFull => "owners_full",
            Reason::ConnectionsFull => "connections_full",
        }
    }
}

/// Something is missing from the stream here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// When it was noticed, in nanoseconds since the epoch.
    pub wall: u64,
    /// The CPU it happened on, where it can be told.
    pub cpu: Option<u32>,
    /// How many events (or log lines, owners or connections).
    pub count: u64,
    /// Why.
    pub reason: Reason,
}

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
    pub fn keyed(&self) -> (&'static str, u64) {
        match self.untold {
            true => ("tcp.retransmit_events", self.events),
            false => ("tcp.retransmits", self.segments),
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

/// The figures of a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How the events were obtained.
    pub transport: &'static str,
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
    /// Lines that the log file did not take.
    pub lost_log_lines: u64,
    /// Connections seen.
    pub connections: u64,
    /// Connections shown that are no longer held for the report.
    pub not_held: u64,
    /// Connections that found no room.
    pub homeless: u64,
    /// Connections whose opening was not seen, and that were not found at the
    /// start either.
    pub birth_missed: u64,
    /// Connections that were open before the start, match the filter, and had no
    /// event.
    pub untouched: u64,
}

/// Renders lines of one format.
pub trait Format {
    /// Appends an event's line.
    fn event(&mut self, out: &mut Vec<u8>, shown: &Shown<'_>);
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

/// Prints one line for a person on standard error.
pub fn notice(message: &str) {
    // There is nowhere to say that standard error is gone.
    let _ = writeln!(std::io::stderr(), "socket-snoop: {message}");
}

/// Console and log file.
pub struct Output {
    console: Stream,
    format: FormatName,
    log: Option<Log>,
    log_format: FormatName,
    classic: Classic,
    json: Json,
    reasons: Reasons,
    closed: bool,
}

impl Output {
    /// Lines in `format` to standard output, and in `log_format` to a log.
    /// `reasons` are the names of reset reasons.
    pub fn new(
        console: Stream,
        format: FormatName,
        log: Option<Log>,
        log_format: FormatName,
        shape: Shape,
        reasons: Reasons,
    ) -> Output {
        Output {
            console,
            format,
            log,
            log_format,
            classic: Classic::new(shape),
            json: Json::default(),
            reasons,
            closed: false,
        }
    }

    /// Whether there is a line on standard output now that was not there before.
    fn both(&mut self, render: &dyn Fn(&mut dyn Format, &mut Vec<u8>)) -> bool {
        let (classic, json) = (&mut self.classic, &mut self.json);
        let mut append = |name: FormatName, out: &mut Vec<u8>| match name {
            FormatName::Classic => render(classic, out),
            FormatName::Json => render(json, out),
        };
        let out = self.console.buffer();
        let start = out.len();
        append(self.format, out);
        if let Some(log) = &mut self.log {
            if self.log_format == self.format {
                log.stream
                    .buffer()
                    .extend_from_slice(&self.console.buffer()[start..]);
            } else {
                append(self.log_format, log.stream.buffer());
            }
        }
        let grown = self.console.buffer().len() > start;
        if self.console.is_full() || self.log.as_ref().is_some_and(|l| l.stream.is_full()) {
            self.flush();
        }
        grown
    }

    /// Shows an event.
    pub fn event(&mut self, shown: &Shown<'_>) {
        self.both(&|format, out| format.event(out, shown));
    }

    /// Shows a connection that has ended, where the formats have a line for it;
    /// whether standard output has.
    pub fn connection(&mut self, record: &Record<'_>) -> bool {
        let reasons = std::mem::take(&mut self.reasons);
        let shown = self.both(&|format, out| format.connection(out, record, &reasons));
        self.reasons = reasons;
        shown
    }

    /// Says that something is missing.
    pub fn lost(&mut self, lost: &Lost) {
        self.both(&|format, out| format.lost(out, lost));
    }

    /// Makes the opening line ready, before any event; see
    /// [`Output::announced`].
    pub fn announce(&mut self, opening: &str) {
        if self.format == FormatName::Classic {
            let _ = writeln!(self.console.buffer(), "{opening}");
        }
    }

    /// Shows the opening line that was made ready: on the console where that is
    /// for people, else on standard error.
    pub fn announced(&mut self, opening: &str) {
        match self.format {
            FormatName::Classic => self.flush(),
            FormatName::Json => self.say(opening),
        }
    }

    /// A line for the person who started this: on the console where that is
    /// for people, else on standard error.
    pub fn say(&mut self, message: &str) {
        match self.format {
            FormatName::Classic => {
                let _ = writeln!(self.console.buffer(), "{message}");
                self.flush();
            }
            FormatName::Json => {
                let _ = writeln!(std::io::stderr(), "{message}");
            }
        }
    }

    /// Writes everything that is pending.
    pub fn flush(&mut self) {
        match self.console.flush() {
            Flushed::Fine | Flushed::StillFailing => {}
            Flushed::Closed => self.closed = true,
            Flushed::Failed(errno) => notice(&format!(
                "warning: cannot write to standard output: {errno}; lines are lost until it works again"
            )),
            Flushed::Recovered(lines) => notice(&format!(
                "warning: standard output works again; {lines} lines were lost"
            )),
        }
        let Some(log) = &mut self.log else { return };
        let path = crate::text::printable(log.path());
        match log.stream.flush() {
            Flushed::Fine | Flushed::StillFailing => {}
            Flushed::Failed(errno) => notice(&format!(
                "warning: cannot write the log {path}: {errno}; its lines are lost until it works again"
            )),
            Flushed::Recovered(count) => {
                notice(&format!(
                    "warning: the log {path} can be written again; {count} lines are missing in it"
                ));
                let lost = Lost {
                    wall: crate::sys::time::realtime(),
                    cpu: None,
                    count,
                    reason: Reason::LogWrite,
                };
                let out = log.stream.buffer();
                match self.log_format {
                    FormatName::Classic => self.classic.lost(out, &lost),
                    FormatName::Json => self.json.lost(out, &lost),
                }
            }
            Flushed::Closed => {
                notice(&format!("warning: the reader of the log {path} has left"));
                self.log = None;
            }
        }
    }

    /// Reopens the log after a rotation (SIGHUP).
    pub fn reopen_log(&mut self) {
        self.flush();
        if let Some(log) = &mut self.log {
            if let Err(errno) = log.reopen() {
                notice(&format!(
                    "warning: cannot reopen the log {}: {errno}; going on with the old file",
                    crate::text::printable(log.path())
                ));
            }
        }
    }

    /// The log, where there is one.
    pub fn log(&mut self) -> Option<&mut Log> {
        self.log.as_mut()
    }

    /// Whether the reader of standard output has left.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Notes that the reader of standard output has left.
    pub fn set_closed(&mut self) {
        self.closed = true;
    }

    /// Standard output's descriptor.
    pub fn console(&self) -> &Stream {
        &self.console
    }

    /// Lines that the log did not take so far.
    pub fn lost_log_lines(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.stream.lost())
    }

    /// The end of a run: the report (classic) or the summary object (json).
    pub fn finish(&mut self, connections: &Connections, mut summary: Summary, wall: u64) {
        self.flush();
        if self.closed {
            // Nobody reads any more: the end is quiet.
            return;
        }
        summary.lost_log_lines = self.lost_log_lines();
        match self.format {
            FormatName::Json => {
                self.say("Stopping monitoring...");
                let totals = connections.totals();
                self.json
                    .summary(self.console.buffer(), wall, &summary, &totals);
            }
            FormatName::Classic => self.report(connections, &summary),
        }
        self.flush();
        if summary.lost_log_lines > 0 {
            notice(&format!(
                "warning: {} lines are missing in the log",
                summary.lost_log_lines
            ));
        }
    }

    fn report(&mut self, connections: &Connections, summary: &Summary) {
        let mut out = Vec::new();
        if self.console.file().is_terminal() {
            // The terminal has just shown ^C.
            out.push(b'\n');
        }
        let console = &mut self.console;
        report::render(&mut out, connections, summary, &mut |out| {
            console.buffer().append(out);
            if console.is_full() {
                // What goes wrong now shows again at the last flush.
                console.flush();
            }
        });
        if summary.untouched > 0 {
            let _ = writeln!(
                out,
                "({} more connections were open before the start, and had no event)",
                summary.untouched
            );
        }
        let _ = writeln!(
            out,
            "Events: {} received, {} shown, {} lost.",
            summary.received, summary.shown, summary.lost
        );
        self.console.buffer().append(&mut out);
    }
}
