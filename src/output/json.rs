//! One JSON object a line; OpenTelemetry's names where it has one.
//!
//! Contract: keys are flat and constant text; what isn't known is left out.

use super::keys::{boolean, ends, key, number, owner, plain};
use super::{Format, Reasons, Record, Shown, Summary, connection, errno_name, escape};
use crate::lifecycle::totals::Totals;
use crate::model::event::What;
use crate::model::loss::Lost;
use crate::model::tcp::State;
use crate::model::text::Stamps;

/// JSON lines.
#[derive(Debug, Default)]
pub struct Json {
    stamps: Stamps,
}

impl Json {
    pub(crate) fn open(&mut self, out: &mut Vec<u8>, wall: u64, event: &str) {
        out.extend_from_slice(b"{\"time\":\"");
        self.stamps.rfc3339(out, wall);
        out.push(b'"');
        plain(out, "event", event);
    }

    /// The last object of a run.
    pub fn summary(&mut self, out: &mut Vec<u8>, wall: u64, summary: &Summary, totals: &Totals) {
        self.open(out, wall, "summary");
        plain(out, "transport", summary.transport);
        number(out, "events.received", summary.received);
        number(out, "events.shown", summary.shown);
        number(out, "connections.seen", summary.connections);
        number(out, "connections.not_held", summary.not_held);
        number(out, "connections.birth_missed", summary.birth_missed);
        number(out, "connections.untouched", summary.untouched);
        number(out, "lost.events", summary.lost);
        number(out, "lost.console_lines", summary.lost_console_lines);
        number(out, "lost.connections", summary.homeless);
        number(out, "lost.log_lines", summary.lost_log_lines);
        number(out, "connections.shown", summary.records);
        connection::json_totals(out, summary, totals);
        out.extend_from_slice(b"}\n");
    }
}

impl Format for Json {
    fn event(&mut self, out: &mut Vec<u8>, shown: &Shown<'_>) {
        let event = shown.event;
        let name = match event.what {
            What::State { .. } => "tcp_state",
            What::Retransmit { error: None, .. } | What::SynAck => "tcp_retransmit",
            What::Retransmit { .. } => "tcp_retransmit_failed",
            What::ResetSent { .. }
            | What::ResetReceived
            | What::Accepted
            | What::Destroyed { .. } => return,
        };
        self.open(out, shown.wall, name);
        ends(out, &event.local, &event.peer, event.wire);
        match event.what {
            What::State { old, new } => {
                plain(out, "tcp.state.old", old.name());
                plain(out, "tcp.state.new", new.name());
                if let Some(time_wait) = shown.time_wait {
                    boolean(out, "tcp.time_wait", time_wait);
                }
            }
            What::Retransmit { state, error, .. } => {
                if let Some(state) = state {
                    plain(out, "tcp.state", state.name());
                }
                if let Some(errno) = error {
                    plain(out, "error.type", &errno_name(errno));
                }
            }
            What::SynAck => plain(out, "tcp.state", State::SynRecv.name()),
            What::ResetSent { .. }
            | What::ResetReceived
            | What::Accepted
            | What::Destroyed { .. } => {}
        }
        if let Some(segments) = shown.segments {
            number(out, "tcp.retransmit.segments", u64::from(segments));
        }
        if let Some(id) = shown.id {
            key(out, "socket.id");
            out.push(b'"');
            id.render(out);
            out.push(b'"');
        }
        owner(out, event.owner.as_ref(), event.netns);
        let named = !event.on_cpu.comm().is_empty();
        // A task without an id that has no name is one that isn't known.
        if named || event.on_cpu.pid != 0 {
            number(out, "on_cpu.pid", u64::from(event.on_cpu.pid));
        }
        if named {
            key(out, "on_cpu.name");
            escape::json_string(out, event.on_cpu.comm());
        }
        number(out, "cpu", u64::from(event.cpu));
        out.extend_from_slice(b"}\n");
    }

    fn connection(&mut self, out: &mut Vec<u8>, record: &Record<'_>, reasons: &Reasons) {
        self.open(out, record.ended.wall, "connection");
        connection::json(&mut self.stamps, out, record, reasons);
        out.extend_from_slice(b"}\n");
    }

    fn lost(&mut self, out: &mut Vec<u8>, lost: &Lost) {
        self.open(out, lost.wall, "lost");
        number(out, "lost.count", lost.count);
        plain(out, "lost.reason", lost.reason.name());
        if let Some(cpu) = lost.cpu {
            number(out, "cpu", u64::from(cpu));
        }
        out.extend_from_slice(b"}\n");
    }
}
