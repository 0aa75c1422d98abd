//! Figures in the text format of Prometheus, for the textfile collector of
//! node_exporter.
//!
//! Contract: counters never go down within a run. Memory and series are bounded: what
//! is counted between two writes is counted by its own names first; then the busiest
//! of them take the places that are left, for good, and the rest is `other`. No label
//! is a process id, or a port that isn't listened at. The file is another one at each
//! write (see [`file`]).

pub(crate) mod file;
mod series;

use super::connection;
use super::format::Shown;
use crate::lifecycle::Ended;
use crate::lifecycle::connection::{Connection, Direction};
use crate::model::cause::Cause;
use crate::model::event::{Owner, Resending, What};
use crate::model::loss::{Lost, Reason};
use crate::model::tcp::State;
use crate::output::notice::notice;
use crate::sys::{Result, time};
use file::MetricsFile;
use series::{CLOSED, ESTABLISHED, Key, OPEN, OPENED, RECEIVED, RESENT, SENT, Table, put, value};
use std::time::Duration;

/// What stands before a family's lines: its name, its type, and what it is.
macro_rules! head {
    ($name:literal, $kind:literal, $help:literal) => {
        concat!(
            "# HELP socket_snoop_",
            $name,
            " ",
            $help,
            "\n# TYPE socket_snoop_",
            $name,
            " ",
            $kind,
            "\n"
        )
    };
}

/// Families of figures, and where each begins.
const FAMILIES: [(&str, usize); 7] = [
    (
        head!(
            "connections_opened_total",
            "counter",
            "Connections whose beginning was seen."
        ),
        OPENED,
    ),
    (
        head!(
            "connections_established_total",
            "counter",
            "Connections that came to ESTABLISHED."
        ),
        ESTABLISHED,
    ),
    (
        head!("connections_open", "gauge", "Connections that are open."),
        OPEN,
    ),
    (
        head!(
            "sent_bytes_total",
            "counter",
            "Bytes of data sent by connections that have ended, each once."
        ),
        SENT,
    ),
    (
        head!(
            "received_bytes_total",
            "counter",
            "Bytes of data received in order by connections that have ended."
        ),
        RECEIVED,
    ),
    (
        head!(
            "retransmitted_segments_total",
            "counter",
            "Segments sent again; an event counts as one where its segments are not known."
        ),
        RESENT,
    ),
    (
        head!(
            "connections_closed_total",
            "counter",
            "Connections that have ended, by cause."
        ),
        CLOSED,
    ),
];

/// Up to the first label, or the value, of other families.
const LOST: &str = "socket_snoop_lost_events_total{reason=\"";
const BUCKET: &str = "socket_snoop_connect_seconds_bucket{le=\"";

/// The upper bounds of the times of connect(), in microseconds; the last one is none.
const BOUNDS: [u64; 13] = [
    100,
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    2_500_000,
    10_000_000,
    u64::MAX / 1_000,
];

/// All that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    file: MetricsFile,
    interval: u64,
    /// When to write next.
    due: u64,
    table: Table,
    lost: Vec<(Reason, u64)>,
    /// How many took up to each bound and longer than the one before, and nanoseconds.
    connects: [u64; BOUNDS.len()],
    connecting: u64,
    failures: u64,
}

/// The names that a figure of a connection is counted by.
fn key(direction: Direction, event: (u16, u16), owner: Option<&Owner>) -> Key {
    let port = match direction {
        Direction::Incoming => event.0,
        Direction::Outgoing => event.1,
        // Either may be an ephemeral one.
        Direction::Unknown => 0,
    };
    let name = owner.map_or(&[][..], |owner| owner.task.comm());
    Key::new(direction, port, name)
}

fn key_of(connection: &Connection) -> Key {
    let ports = (connection.local().port, connection.peer().port);
    key(connection.direction(), ports, connection.owner().as_ref())
}

impl Metrics {
    /// Writes the first ones. ENOTDIR, EACCES, EINVAL and others: it can't be.
    pub(crate) fn open(path: &str, interval: Duration) -> Result<Metrics> {
        let mut metrics = Metrics {
            file: MetricsFile::at(path)?,
            interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
            due: 0,
            table: Table::default(),
            lost: vec![(Reason::RingFull, 0)],
            connects: [0; BOUNDS.len()],
            connecting: 0,
            failures: 0,
        };
        metrics.file.write(&metrics.text())?;
        metrics.put_off();
        Ok(metrics)
    }

    fn put_off(&mut self) {
        self.due = time::monotonic().saturating_add(self.interval);
    }

    /// The file.
    pub(crate) fn file(&mut self) -> &mut MetricsFile {
        &mut self.file
    }

    /// How it is written to later.
    pub(crate) fn access(&self) -> crate::sandbox::LogAccess<'_> {
        self.file.access()
    }

    /// When it is to be written.
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Counts an event that is shown, of this connection.
    pub(crate) fn event(&mut self, connection: Option<&Connection>, shown: &Shown<'_>) {
        let event = shown.event;
        let (figure, count) = match event.what {
            What::State {
                old: State::Close,
                new: State::SynSent,
            }
            | What::State {
                old: State::Listen,
                new: State::SynRecv,
            } => (OPENED, 1),
            What::State {
                old: State::SynSent | State::SynRecv,
                new: State::Established,
            } => {
                let took = connection.and_then(Connection::connect_time);
                if let Some(took) = took {
                    let at = BOUNDS.iter().position(|bound| took <= *bound * 1_000);
                    if let Some(place) = self.connects.get_mut(at.unwrap_or(0)) {
                        *place += 1;
                    }
                    self.connecting = self.connecting.saturating_add(took);
                }
                (ESTABLISHED, 1)
            }
            What::SynAck => (RESENT + 1, 1),
            What::Retransmit {
                error: None,
                state,
                kind,
                ..
            } => {
                let kind = match (state, kind) {
                    (Some(State::SynSent), _) => 0,
                    (_, Some(Resending::Timeout)) => 2,
                    (_, Some(Resending::Fast)) => 3,
                    (_, Some(Resending::TailLossProbe)) => 4,
                    _ => 5,
                };
                (RESENT + kind, shown.segments.unwrap_or(1))
            }
            _ => return,
        };
        let direction = match (connection, event.what) {
            (Some(connection), _) => connection.direction(),
            (
                None,
                What::SynAck
                | What::State {
                    old: State::Listen, ..
                },
            ) => Direction::Incoming,
            (
                None,
                What::State {
                    new: State::SynSent,
                    ..
                },
            ) => Direction::Outgoing,
            (None, _) => Direction::Unknown,
        };
        let ports = (event.local.port, event.peer.port);
        let key = key(direction, ports, event.owner.as_ref());
        self.table.add(key, figure, count.into());
    }

    /// Counts the end of a connection that is shown.
    pub(crate) fn ended(&mut self, connection: &Connection, ended: &Ended) {
        if connection.is_listener() {
            return;
        }
        let (key, counters) = (key_of(connection), &ended.counters);
        let cause = connection.cause().unwrap_or(Cause::Unknown);
        for (figure, count) in [
            (SENT, counters.bytes_sent.unwrap_or(0)),
            (RECEIVED, counters.bytes_received.unwrap_or(0)),
            (CLOSED + cause as usize, 1),
        ] {
            self.table.add(key, figure, count);
        }
    }

    /// Counts what is missing.
    pub(crate) fn lost(&mut self, lost: &Lost) {
        match self.lost.iter_mut().find(|(why, _)| *why == lost.reason) {
            Some((_, count)) => *count = count.saturating_add(lost.count),
            None => self.lost.push((lost.reason, lost.count)),
        }
    }

    /// Begins to count what is open, before it is written.
    pub(crate) fn begin(&mut self) {
        self.put_off();
        self.table.settle();
        self.table.clear(OPEN);
    }

    /// Counts one that is open.
    pub(crate) fn opened(&mut self, connection: &Connection) {
        if !connection.is_listener() && connection.cause().is_none() {
            self.table.put(key_of(connection), OPEN, 1);
        }
    }

    /// Counts those that are open, and of which no more is known.
    pub(crate) fn untouched(&mut self, count: u64) {
        self.table
            .put(key(Direction::Unknown, (0, 0), None), OPEN, count);
    }

    /// Writes them. What goes wrong is said once, and counted.
    pub(crate) fn write(&mut self) {
        if let Err(errno) = self.file.write(&self.text()) {
            if self.failures == 0 {
                notice(&format!(
                    "warning: cannot write the metrics {}: {errno}; they are as they were until \
                     they can be written",
                    self.file.path()
                ));
            }
            self.failures += 1;
        }
    }

    fn text(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let out = &mut all;
        for &(head, from) in &FAMILIES {
            put(out, head);
            self.table.family(out, head, from);
        }
        put(
            out,
            head!(
                "lost_events_total",
                "counter",
                "What is missing, by reason: events, if the reason says nothing else."
            ),
        );
        for (reason, count) in &self.lost {
            put(out, LOST);
            put(out, reason.name());
            value(out, "\"} ", *count);
        }
        put(
            out,
            head!(
                "connect_seconds",
                "histogram",
                "From SYN_SENT to ESTABLISHED."
            ),
        );
        let mut sum = 0;
        for (bound, count) in BOUNDS.iter().zip(self.connects) {
            sum += count;
            put(out, BUCKET);
            match *bound < BOUNDS[BOUNDS.len() - 1] {
                true => seconds(out, *bound * 1_000),
                false => put(out, "+Inf"),
            }
            value(out, "\"} ", sum);
        }
        put(out, "socket_snoop_connect_seconds_sum ");
        seconds(out, self.connecting);
        value(out, "\nsocket_snoop_connect_seconds_count ", sum);
        let failures = concat!(
            head!(
                "metrics_write_failures_total",
                "counter",
                "Times that this file could not be written."
            ),
            "socket_snoop_metrics_write_failures_total "
        );
        value(out, failures, self.failures);
        all
    }
}

#[inline(never)]
fn seconds(out: &mut Vec<u8>, nanos: u64) {
    connection::seconds(out, nanos);
}

#[cfg(test)]
mod tests;
