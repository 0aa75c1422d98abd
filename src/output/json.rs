//! One JSON object a line; OpenTelemetry's names where it has one.
//!
//! Contract: keys are flat and constant text; what isn't known is left out.

use super::{Format, Lost, Reasons, Record, Shown, Summary, connection, errno_name, escape};
use crate::event::{Owner, What, comm};
use crate::lifecycle::totals::Totals;
use crate::tcp::{Endpoint, State, Wire};
use crate::text::{self, Stamps};

/// JSON lines.
#[derive(Debug, Default)]
pub struct Json {
    stamps: Stamps,
}

pub(super) fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

pub(super) fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    text::number(out, value);
}

pub(super) fn boolean(out: &mut Vec<u8>, name: &str, value: bool) {
    key(out, name);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// A string that needs no escaping: a name of ours, an address.
pub(super) fn plain(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn end(out: &mut Vec<u8>, names: (&str, &str), end: &Endpoint) {
    key(out, names.0);
    out.push(b'"');
    text::address(out, end.addr);
    out.push(b'"');
    if end.port != 0 {
        number(out, names.1, u64::from(end.port));
    }
}

/// Both ends, and how they talk.
pub(super) fn ends(out: &mut Vec<u8>, local: &Endpoint, peer: &Endpoint, wire: Wire) {
    end(out, ("network.local.address", "network.local.port"), local);
    end(out, ("network.peer.address", "network.peer.port"), peer);
    let wire = match wire {
        Wire::Ipv4 => "ipv4",
        Wire::Ipv6 => "ipv6",
    };
    plain(out, "network.type", wire);
    plain(out, "network.transport", "tcp");
}

/// Whose socket it is, and where. A cgroup's id has 64 bits, more than a number
/// of JSON keeps in many readers (2^53): it is a string.
pub(super) fn owner(out: &mut Vec<u8>, owner: Option<&Owner>, netns: Option<u32>) {
    if let Some(owner) = owner {
        number(out, "process.pid", u64::from(owner.task.pid));
        if owner.task.tid != 0 {
            number(out, "process.thread.id", u64::from(owner.task.tid));
        }
        if !owner.task.comm().is_empty() {
            key(out, "process.name");
            escape::json_string(out, owner.task.comm());
        }
        let thread = comm(&owner.thread);
        if !thread.is_empty() {
            key(out, "thread.name");
            escape::json_string(out, thread);
        }
        if let Some(uid) = owner.task.uid {
            number(out, "user.id", u64::from(uid));
        }
        if let Some(parent) = owner.parent {
            number(out, "process.parent_pid", u64::from(parent));
        }
        if let Some(cgroup) = owner.cgroup {
            key(out, "process.cgroup.id");
            out.push(b'"');
            text::number(out, cgroup);
            out.push(b'"');
        }
    }
    plain(
        out,
        "owner.source",
        owner.map_or("none", |o| o.source.name()),
    );
    if let Some(netns) = netns {
        number(out, "network.namespace", u64::from(netns));
    }
}

impl Json {
    pub(super) fn open(&mut self, out: &mut Vec<u8>, wall: u64, event: &str) {
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
