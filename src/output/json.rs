//! One JSON object a line; OpenTelemetry's names where it has one.
//!
//! Contract: keys are flat and constant text; what isn't known is left out.

use super::{Format, Lost, Shown, Summary, errno_name, escape};
use crate::event::{Owner, What};
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

/// Whose socket it is, and where. A cgroup's id has 64 bits, more than a number
/// of JSON keeps in many readers (2^53): it is a string.
fn owner(out: &mut Vec<u8>, owner: Option<&Owner>, netns: Option<u32>) {
    if let Some(owner) = owner {
        number(out, "process.pid", u64::from(owner.task.pid));
        number(out, "process.thread.id", u64::from(owner.task.tid));
        if !owner.task.comm().is_empty() {
            key(out, "process.name");
            escape::json_string(out, owner.task.comm());
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
    pub fn summary(&mut self, out: &mut Vec<u8>, wall: u64, summary: &Summary) {
        self.open(out, wall, "summary");
        plain(out, "transport", summary.transport);
        number(out, "events.received", summary.received);
        number(out, "events.shown", summary.shown);
        number(out, "connections.seen", summary.connections);
        number(out, "connections.not_held", summary.not_held);
        number(out, "connections.untouched", summary.untouched);
        number(out, "lost.events", summary.lost);
        number(out, "lost.log_lines", summary.lost_log_lines);
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
            What::ResetSent { .. } | What::ResetReceived | What::Accepted => return,
        };
        self.open(out, shown.wall, name);
        let names = ("network.local.address", "network.local.port");
        end(out, names, &event.local);
        let names = ("network.peer.address", "network.peer.port");
        end(out, names, &event.peer);
        let wire = match event.wire {
            Wire::Ipv4 => "ipv4",
            Wire::Ipv6 => "ipv6",
        };
        plain(out, "network.type", wire);
        plain(out, "network.transport", "tcp");
        match event.what {
            What::State { old, new } => {
                plain(out, "tcp.state.old", old.name());
                plain(out, "tcp.state.new", new.name());
            }
            What::Retransmit { state, error } => {
                if let Some(state) = state {
                    plain(out, "tcp.state", state.name());
                }
                if let Some(errno) = error {
                    plain(out, "error.type", &errno_name(errno));
                }
            }
            What::SynAck => plain(out, "tcp.state", State::SynRecv.name()),
            What::ResetSent { .. } | What::ResetReceived | What::Accepted => {}
        }
        key(out, "socket.id");
        out.push(b'"');
        shown.id.render(out);
        out.push(b'"');
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
