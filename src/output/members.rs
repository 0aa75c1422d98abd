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
use crate::model::tcp::{Endpoint, State, Wire};
use crate::model::text::{self, Stamps};
use crate::sys::append::{append, append_padded, append_word};
use std::net::IpAddr;

/// Texts that never differ, as one piece.
macro_rules! piece {
    ($($part:expr),*) => {{
        const PARTS: &[&str] = &[$($part),*];
        const PIECE: [u8; keys::length(PARTS)] = keys::join(PARTS);
        &PIECE
    }};
}
pub(super) use piece;

#[inline(always)]
pub(crate) fn number(out: &mut Vec<u8>, key: Key<Number>, value: u64) {
    text::number_behind(out, key.text().as_bytes(), value);
}

/// A number, if it is known.
#[inline]
pub(super) fn known(out: &mut Vec<u8>, key: Key<Number>, value: Option<u64>) {
    if let Some(value) = value {
        number(out, key, value);
    }
}

/// What a connection's socket has counted.
#[inline]
pub(super) fn counted(out: &mut Vec<u8>, counters: &Counters) {
    let number = |out: &mut Vec<u8>, key, value: Option<u32>| {
        known(out, key, value.map(u64::from));
    };
    known(
        out,
        keys::TCP_BYTES_RETRANSMITTED,
        counters.bytes_retransmitted,
    );
    known(out, keys::TCP_BYTES_SENT, counters.bytes_sent);
    known(out, keys::TCP_BYTES_RECEIVED, counters.bytes_received);
    number(out, keys::TCP_SEGMENTS_SENT, counters.segments_sent);
    number(out, keys::TCP_SEGMENTS_RECEIVED, counters.segments_received);
    number(out, keys::TCP_RTT_US, counters.rtt_us);
    number(out, keys::TCP_MIN_RTT_US, counters.min_rtt_us);
}

#[inline]
pub(super) fn boolean(out: &mut Vec<u8>, key: Key<Boolean>, value: bool) {
    key.next(out);
    append(out, if value { b"true" } else { b"false" });
}

/// A string that needs no escaping: a name of ours.
#[inline]
pub(crate) fn plain(out: &mut Vec<u8>, key: Key<Text>, value: &str) {
    key.next(out);
    append(out, value.as_bytes());
    quote(out);
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

/// The names of states, each with its length behind it.
static STATES: [[u8; 16]; State::ALL.len()] = {
    let (mut all, mut n) = ([[0; 16]; State::ALL.len()], 0);
    while n < State::ALL.len() {
        let name = State::ALL[n].name();
        let mut place: [u8; 16] = keys::join(&[name]);
        place[15] = name.len() as u8;
        all[n] = place;
        n += 1;
    }
    all
};

/// A state's name within a string that this piece begins.
#[inline]
pub(super) fn state(out: &mut Vec<u8>, piece: &[u8], state: State) {
    append(out, piece);
    let name = &STATES[state as usize - 1];
    append_padded(out, name, usize::from(name[15]));
}

/// The end of a string.
#[inline(never)]
pub(super) fn quote(out: &mut Vec<u8>) {
    append_word(out, b'"'.into(), 1);
}

/// A time, in nanoseconds since the epoch.
#[inline]
pub(super) fn time(out: &mut Vec<u8>, key: Key<Text>, stamps: &mut Stamps, wall: u64) {
    key.next(out);
    stamps.rfc3339(out, wall);
    quote(out);
}

/// What connections are called: the run is mostly the same.
#[derive(Debug, Default)]
pub(super) struct Ids {
    run: u64,
    /// All but the number; empty where no run was named yet.
    text: Vec<u8>,
}

impl Ids {
    /// Which connection it is.
    #[inline]
    pub(super) fn append(&mut self, out: &mut Vec<u8>, id: SocketId) {
        let (run, number) = id.parts();
        if run != self.run || self.text.is_empty() {
            self.change(run);
        }
        text::number_behind(out, &self.text, number);
        quote(out);
    }

    #[cold]
    #[inline(never)]
    fn change(&mut self, run: u64) {
        self.run = run;
        self.text.clear();
        keys::SOCKET_ID.next(&mut self.text);
        text::hex(&mut self.text, run);
        self.text.push(b'-');
    }
}

pub(super) fn address(out: &mut Vec<u8>, key: Key<Text>, addr: IpAddr) {
    key.next(out);
    text::address(out, addr);
    quote(out);
}

/// One end behind the key of its address; `port` is that of its port, and what ends an
/// address.
#[inline]
fn end(out: &mut Vec<u8>, key: Key<Text>, port: &[u8], end: &Endpoint) {
    key.next(out);
    text::address(out, end.addr);
    match end.port {
        0 => quote(out),
        number => text::number_behind(out, port, number.into()),
    }
}

/// Both ends, and how they talk.
#[inline]
pub(super) fn ends(out: &mut Vec<u8>, (local, peer, wire): Both<'_>) {
    let port = piece!("\"", keys::NETWORK_LOCAL_PORT.text());
    end(out, keys::NETWORK_LOCAL_ADDRESS, port, local);
    let port = piece!("\"", keys::NETWORK_PEER_PORT.text());
    end(out, keys::NETWORK_PEER_ADDRESS, port, peer);
    const IPV4: &[u8] = piece!(
        keys::NETWORK_TYPE.text(),
        "ipv4\"",
        keys::NETWORK_TRANSPORT.text(),
        "tcp\""
    );
    const IPV6: &[u8] = piece!(
        keys::NETWORK_TYPE.text(),
        "ipv6\"",
        keys::NETWORK_TRANSPORT.text(),
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
#[inline]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_what_it_is_called() {
        for of in State::ALL {
            let mut out = Vec::new();
            state(&mut out, b"\"", of);
            assert_eq!(out, format!("\"{}", of.name()).as_bytes());
        }
    }

    #[test]
    fn ids_of_several_runs_in_any_order() {
        let runs = [0, 0x1a2_3b4c_5d6e, 7, u64::MAX];
        let mut ids = Ids::default();
        for number in [0, 1, 1, 99_999_999, 1 << 47] {
            for run in [0, 1, 1, 0, 3, 2] {
                let id = SocketId::of(&runs, (run as u64) << 48 | number);
                let mut out = Vec::new();
                ids.append(&mut out, id);
                let text = format!(r#","socket.id":"{:x}-{number}""#, runs[run]);
                assert_eq!(String::from_utf8_lossy(&out), text);
                let mut plain = Vec::new();
                id.render(&mut plain);
                assert_eq!(plain, &out[14..out.len() - 1]);
            }
        }
    }
}
