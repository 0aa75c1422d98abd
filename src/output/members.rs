//! Members of JSON objects: keys of the table with their values, and what stands
//! under several keys in each object.
//!
//! Contract: a member follows another one; what isn't known is left out.

use super::ends::Both;
use super::escape;
use super::keys::{self, Boolean, Key, Number, Text, Texts};
use crate::host::cgroup::Cgroups;
use crate::lifecycle::SocketId;
use crate::model::event::{Counters, Owner, comm};
use crate::model::tcp::{Endpoint, Wire};
use crate::model::text::{self, Stamps};
use crate::sys::append::{append, append_three, append_word};
use std::net::IpAddr;

/// Members with values that never differ, as one piece.
macro_rules! piece {
    ($($key:expr, $value:literal),*) => {{
        const PARTS: &[&str] = &[$($key.text(), $value),*];
        const PIECE: [u8; keys::length(PARTS)] = keys::join(PARTS);
        &PIECE
    }};
}

pub(crate) fn number(out: &mut Vec<u8>, key: Key<Number>, value: u64) {
    key.next(out);
    text::number(out, value);
}

/// Those of these numbers that are known.
pub(super) fn numbers(out: &mut Vec<u8>, all: &[(Key<Number>, Option<u64>)]) {
    for (key, value) in all {
        if let Some(value) = *value {
            number(out, *key, value);
        }
    }
}

/// What a connection's socket has counted.
pub(super) fn counted(out: &mut Vec<u8>, counters: &Counters) {
    let all = [
        (keys::TCP_BYTES_RETRANSMITTED, counters.bytes_retransmitted),
        (keys::TCP_BYTES_SENT, counters.bytes_sent),
        (keys::TCP_BYTES_RECEIVED, counters.bytes_received),
        (
            keys::TCP_SEGMENTS_SENT,
            counters.segments_sent.map(u64::from),
        ),
        (
            keys::TCP_SEGMENTS_RECEIVED,
            counters.segments_received.map(u64::from),
        ),
        (keys::TCP_RTT_US, counters.rtt_us.map(u64::from)),
        (keys::TCP_MIN_RTT_US, counters.min_rtt_us.map(u64::from)),
    ];
    numbers(out, &all);
}

pub(super) fn boolean(out: &mut Vec<u8>, key: Key<Boolean>, value: bool) {
    key.next(out);
    append(out, if value { b"true" } else { b"false" });
}

/// A string that needs no escaping: a name of ours.
pub(crate) fn plain(out: &mut Vec<u8>, key: Key<Text>, value: &str) {
    append_three(out, key.text().as_bytes(), value.as_bytes(), b'"');
}

/// Any string, if it isn't empty.
pub(crate) fn string(out: &mut Vec<u8>, key: Key<Text>, value: &[u8]) {
    if !value.is_empty() {
        key.next(out);
        escape::json_text(out, value);
        quote(out);
    }
}

/// Any strings.
pub(crate) fn strings(out: &mut Vec<u8>, key: Key<Texts>, values: &[&str]) {
    key.next(out);
    for (n, value) in values.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        escape::json_string(out, value.as_bytes());
    }
    out.push(b']');
}

/// The end of a string.
#[inline(always)]
fn quote(out: &mut Vec<u8>) {
    append_word(out, b'"'.into(), 1);
}

/// A time, in nanoseconds since the epoch.
pub(super) fn time(out: &mut Vec<u8>, key: Key<Text>, stamps: &mut Stamps, wall: u64) {
    key.next(out);
    stamps.rfc3339(out, wall);
    quote(out);
}

/// Which connection it is.
pub(super) fn id(out: &mut Vec<u8>, id: SocketId) {
    keys::SOCKET_ID.next(out);
    id.render(out);
    quote(out);
}

pub(super) fn address(out: &mut Vec<u8>, key: Key<Text>, addr: IpAddr) {
    key.next(out);
    text::address(out, addr);
    quote(out);
}

fn end(out: &mut Vec<u8>, keys: (Key<Text>, Key<Number>), end: &Endpoint) {
    address(out, keys.0, end.addr);
    if end.port != 0 {
        number(out, keys.1, u64::from(end.port));
    }
}

/// Both ends, and how they talk.
pub(super) fn ends(out: &mut Vec<u8>, (local, peer, wire): Both<'_>) {
    let ours = (keys::NETWORK_LOCAL_ADDRESS, keys::NETWORK_LOCAL_PORT);
    end(out, ours, local);
    end(
        out,
        (keys::NETWORK_PEER_ADDRESS, keys::NETWORK_PEER_PORT),
        peer,
    );
    const IPV4: &[u8] = piece!(
        keys::NETWORK_TYPE,
        "ipv4\"",
        keys::NETWORK_TRANSPORT,
        "tcp\""
    );
    const IPV6: &[u8] = piece!(
        keys::NETWORK_TYPE,
        "ipv6\"",
        keys::NETWORK_TRANSPORT,
        "tcp\""
    );
    let wire = match wire {
        Wire::Ipv4 => IPV4,
        Wire::Ipv6 => IPV6,
    };
    append(out, wire);
}

/// Whose socket it is, and where; whether that is all that will be known. A cgroup's id
/// has 64 bits, more than a number of JSON keeps in many readers (2^53): it is a string.
pub(super) fn owner(
    out: &mut Vec<u8>,
    owner: Option<&Owner>,
    netns: Option<u32>,
    cgroups: &Cgroups,
) -> bool {
    let mut whole = true;
    if let Some(owner) = owner {
        number(out, keys::PROCESS_PID, u64::from(owner.task.pid));
        if owner.task.tid != 0 {
            number(out, keys::PROCESS_THREAD_ID, u64::from(owner.task.tid));
        }
        string(out, keys::PROCESS_NAME, owner.task.comm());
        string(out, keys::THREAD_NAME, comm(&owner.thread));
        if let Some(uid) = owner.task.uid {
            number(out, keys::USER_ID, u64::from(uid));
        }
        if let Some(parent) = owner.parent {
            number(out, keys::PROCESS_PARENT_PID, u64::from(parent));
        }
        if let Some(cgroup) = owner.cgroup {
            keys::PROCESS_CGROUP_ID.next(out);
            text::number(out, cgroup);
            quote(out);
            let (place, all) = cgroups.place(cgroup);
            whole = all;
            for (key, value) in [
                (keys::CONTAINER_ID, place.container.as_str()),
                (keys::CONTAINER_RUNTIME, place.runtime),
                (keys::K8S_NAMESPACE_NAME, &place.names.0),
                (keys::K8S_POD_NAME, &place.names.1),
                (keys::K8S_POD_UID, &place.pod),
            ] {
                string(out, key, value.as_bytes());
            }
        }
    }
    plain(
        out,
        keys::OWNER_SOURCE,
        owner.map_or("none", |o| o.source.name()),
    );
    if let Some(netns) = netns {
        number(out, keys::NETWORK_NAMESPACE, u64::from(netns));
    }
    whole
}
