//! Keys of JSON objects, and what stands under several of them in each object.
//!
//! Contract: a key is constant text and follows another one.

use super::escape;
use crate::model::event::{Owner, comm};
use crate::model::tcp::{Endpoint, Wire};
use crate::model::text;

pub(crate) fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

pub(crate) fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    text::number(out, value);
}

pub(super) fn boolean(out: &mut Vec<u8>, name: &str, value: bool) {
    key(out, name);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// A string that needs no escaping: a name of ours, an address.
pub(crate) fn plain(out: &mut Vec<u8>, name: &str, value: &str) {
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
