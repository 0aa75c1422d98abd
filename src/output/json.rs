//! One JSON object a line; OpenTelemetry's names where it has one.
//!
//! Contract: objects are flat, their keys those of [`keys`]; what isn't known is
//! left out.

use super::ends::Ends;
use super::format::{Format, Reasons, Record, Shape, Shown, Summary, errno_name};
use super::members::{Ids, boolean, ends, number, owner, piece, plain, quote, state, string};
use super::owners::Owners;
use super::{connection, keys, open};
use crate::host::cgroup::Cgroups;
use crate::lifecycle::connection::Connection;
use crate::lifecycle::open::Open;
use crate::lifecycle::totals::Totals;
use crate::model::event::{Resending, What};
use crate::model::loss::Lost;
use crate::model::tcp::State;
use crate::model::text::Stamps;
use crate::sys::append::{append, append_piece};
use std::rc::Rc;

/// What ends a time, and the event's name with its quote.
macro_rules! named {
    ($name:literal) => {
        piece!("\"", keys::EVENT_NAME.text(), $name)
    };
}

/// JSON lines.
#[derive(Debug)]
pub struct Json {
    stamps: Stamps,
    ends: Ends,
    owners: Owners,
    ids: Ids,
    /// There are lines of events, too.
    events: bool,
    on_cpu: bool,
}

impl Default for Json {
    fn default() -> Json {
        Json {
            stamps: Stamps::default(),
            ends: Ends::new(ends),
            owners: Owners::new(owner, false),
            ids: Ids::default(),
            events: false,
            on_cpu: false,
        }
    }
}

impl Json {
    /// Objects of this shape.
    pub fn new(shape: Shape) -> Json {
        Json {
            on_cpu: shape.on_cpu,
            ..Json::default()
        }
    }

    /// What is known of cgroups.
    pub(super) fn cgroups(&self) -> &Cgroups {
        &self.owners.cgroups
    }

    /// These are known from here on.
    pub(crate) fn know(&mut self, cgroups: Rc<Cgroups>) {
        self.owners.cgroups = cgroups;
    }

    /// Begins an object; its event is in this piece.
    #[inline(always)]
    fn begin(&mut self, out: &mut Vec<u8>, wall: u64, event: &[u8]) {
        const TIME: &[u8] = {
            const PARTS: &[&str] = &[keys::TIME.text()];
            const FIRST: [u8; keys::length(PARTS)] = {
                let mut first = keys::join(PARTS);
                first[0] = b'{';
                first
            };
            &FIRST
        };
        self.stamps.rfc3339_behind(out, TIME, wall);
        append(out, event);
    }

    pub(crate) fn open(&mut self, out: &mut Vec<u8>, wall: u64, event: &str) {
        self.begin(out, wall, b"\"");
        plain(out, keys::EVENT_NAME, event);
    }

    /// The last object of a run.
    pub fn summary(&mut self, out: &mut Vec<u8>, wall: u64, summary: &Summary, totals: &Totals) {
        self.open(out, wall, "summary");
        plain(out, keys::EVENTS_TRANSPORT, summary.transport);
        let filter = &summary.filter;
        if !filter.text.is_empty() {
            string(out, keys::FILTER_EXPRESSION, filter.text.as_bytes());
            number(out, keys::FILTER_CHANGES, filter.changes);
        }
        if let Some(kept) = filter.kept_away {
            number(out, keys::FILTER_KEPT_AWAY, kept);
        }
        number(out, keys::EVENTS_RECEIVED, summary.received);
        number(out, keys::EVENTS_SHOWN, summary.shown);
        number(out, keys::CONNECTIONS_SEEN, summary.connections);
        number(out, keys::CONNECTIONS_NOT_HELD, summary.not_held);
        number(out, keys::CONNECTIONS_BIRTH_MISSED, summary.birth_missed);
        number(out, keys::CONNECTIONS_UNTOUCHED, summary.untouched);
        number(out, keys::LOST_EVENTS, summary.lost);
        number(out, keys::LOST_CONSOLE_LINES, summary.lost_console_lines);
        number(out, keys::LOST_CONNECTIONS, summary.refused_connections);
        number(out, keys::LOST_LOG_LINES, summary.lost_log_lines);
        number(out, keys::CONNECTIONS_SHOWN, summary.records);
        connection::json_totals(out, summary, totals);
        append(out, b"}\n");
    }

    /// Appends the line of a connection that is open; it is `now` on the event clock.
    pub(super) fn still_open(&mut self, out: &mut Vec<u8>, of: &Open, now: u64) {
        self.open(out, of.wall, "connection.open");
        let made = (&mut self.stamps, &mut self.owners, &mut self.ids);
        open::json(made, out, of, now);
        append(out, b"}\n");
    }
}

impl Format for Json {
    #[inline]
    fn event(&mut self, out: &mut Vec<u8>, shown: &Shown<'_>, _: Option<&Connection>) {
        let event = shown.event;
        let name: &[u8] = match event.what {
            What::State { .. } => named!("tcp_state\""),
            What::Retransmit { error: None, .. } | What::SynAck => named!("tcp_retransmit\""),
            What::Retransmit { .. } => named!("tcp_retransmit_failed\""),
            What::ResetSent { .. }
            | What::ResetReceived
            | What::Accepted
            | What::Destroyed { .. } => return,
        };
        self.events = true;
        self.begin(out, shown.wall, name);
        let both = (&event.local, &event.peer, event.wire);
        self.ends.append(out, both.0, both.1, both.2);
        match event.what {
            What::State { old, new } => {
                state(out, keys::TCP_STATE_OLD.text().as_bytes(), old);
                state(out, piece!("\"", keys::TCP_STATE_NEW.text()), new);
                quote(out);
                if let Some(time_wait) = shown.time_wait {
                    boolean(out, keys::TCP_TIME_WAIT, time_wait);
                }
            }
            What::Retransmit {
                state, error, kind, ..
            } => {
                if let Some(state) = state {
                    plain(out, keys::TCP_STATE_CURRENT, state.name());
                }
                let kind = match state {
                    Some(State::SynSent) => Some("syn"),
                    _ => kind.map(Resending::name),
                };
                if let (None, Some(kind)) = (error, kind) {
                    plain(out, keys::TCP_RETRANSMIT_KIND, kind);
                }
                if let Some(errno) = error {
                    plain(out, keys::ERROR_TYPE, &errno_name(errno));
                }
            }
            What::SynAck => plain(out, keys::TCP_STATE_CURRENT, State::SynRecv.name()),
            What::ResetSent { .. }
            | What::ResetReceived
            | What::Accepted
            | What::Destroyed { .. } => {}
        }
        if let Some(segments) = shown.segments {
            number(out, keys::TCP_RETRANSMIT_SEGMENTS, u64::from(segments));
        }
        if let Some(shown) = shown.id {
            self.ids.append(out, shown);
        }
        self.owners.append(out, event.owner.as_ref(), event.netns);
        if self.on_cpu {
            let named = !event.on_cpu.comm().is_empty();
            // A task without an id that has no name is one that isn't known.
            if named || event.on_cpu.pid != 0 {
                number(out, keys::ON_CPU_PID, u64::from(event.on_cpu.pid));
            }
            string(out, keys::ON_CPU_NAME, event.on_cpu.comm());
        }
        number(out, keys::CPU_LOGICAL_NUMBER, u64::from(event.cpu));
        append_piece(out, b"}\n");
    }

    #[inline]
    fn connection(&mut self, out: &mut Vec<u8>, record: &Record<'_>, reasons: &Reasons) {
        self.begin(out, record.ended.wall, named!("connection\""));
        let connection = record.connection;
        let both = (connection.local(), connection.peer(), connection.wire());
        match self.events {
            true => self.ends.append(out, both.0, both.1, both.2),
            false => self.ends.once(out, both),
        }
        self.ids.append(out, record.id);
        let made = (&mut self.stamps, &mut self.owners);
        connection::json(made, out, record, reasons);
        append_piece(out, b"}\n");
    }

    fn lost(&mut self, out: &mut Vec<u8>, lost: &Lost) {
        self.open(out, lost.wall, "lost");
        number(out, keys::LOST_COUNT, lost.count);
        plain(out, keys::LOST_REASON, lost.reason.name());
        if let Some(cpu) = lost.cpu {
            number(out, keys::CPU_LOGICAL_NUMBER, u64::from(cpu));
        }
        append(out, b"}\n");
    }
}
