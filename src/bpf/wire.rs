//! The wire event: what a program of bpf-asm/ sent, checked and decoded.
//!
//! The layout stands in bpf-asm/event.inc; the constants here repeat it and a
//! test holds the two together.

use crate::model::ability::Abilities;
use crate::model::event::{COMM_LEN, Counters, Event, Owner, OwnerSource, Sent, Task, What};
use crate::model::tcp::{Endpoint, State, Wire};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Size of the wire event in bytes.
pub const WIRE_LEN: usize = 140;
/// Size of the wire event of a change to CLOSE, with the socket's counters.
pub const WIRE_CLOSE_LEN: usize = 220;
/// Version of the wire event.
pub const WIRE_VERSION: u8 = 3;

const KIND_STATE: u8 = 1;
const KIND_RETRANSMIT: u8 = 2;
const KIND_SYNACK: u8 = 3;
const KIND_RESET_SENT: u8 = 4;
const KIND_RESET_RECEIVED: u8 = 5;
const KIND_ACCEPT: u8 = 6;
const KIND_DESTROY: u8 = 7;
const FLAG_ERR: u16 = 1;
const FLAG_FAMILY: u16 = 2;
const FLAG_REASON: u16 = 4;
const FLAG_SOCKET: u16 = 8;
/// Where the owner stands in the wire event, in bytes.
const OWNER: usize = 88;
/// Size of an owner there, and in the kernel's maps, in bytes.
pub const OWNER_LEN: usize = 48;
const AF_INET: u16 = libc::AF_INET as u16;

#[cfg(not(target_endian = "little"))]
compile_error!("the wire event is little-endian, as are the hosts it is made for");

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Too few bytes.
    Short,
    /// Another version of the wire event.
    Version,
    /// An unknown kind of event.
    Kind,
    /// A state that TCP doesn't have.
    State,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::Short => "too short",
            DecodeError::Version => "of another version",
            DecodeError::Kind => "of an unknown kind",
            DecodeError::State => "with an unknown TCP state",
        })
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        out.copy_from_slice(found);
    }
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(take(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

/// A task's name, without what an older one may have left behind its end.
fn name(bytes: &[u8], at: usize) -> [u8; COMM_LEN] {
    let mut name: [u8; COMM_LEN] = take(bytes, at);
    let end = name.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
    name[end..].fill(0);
    name
}

impl Event {
    /// Decodes what a program sent. Trailing bytes (perf pads its records) are
    /// passed over.
    pub fn decode(
        time: u64,
        cpu: u32,
        bytes: &[u8],
        known: Abilities,
    ) -> Result<Event, DecodeError> {
        if bytes.len() < WIRE_LEN {
            return Err(DecodeError::Short);
        }
        if bytes[72] != WIRE_VERSION {
            return Err(DecodeError::Version);
        }
        let flags = u16_at(bytes, 82);
        let state = |at: usize| State::from_number(bytes[at]).ok_or(DecodeError::State);
        let what = match bytes[73] {
            KIND_STATE => What::State {
                old: state(74)?,
                new: state(75)?,
            },
            KIND_RETRANSMIT => What::Retransmit {
                state: State::from_number(bytes[75]),
                error: match u32_at(bytes, 68) as i32 {
                    0 => None,
                    _ if flags & FLAG_ERR == 0 => None,
                    err => Some(err.checked_neg().unwrap_or(i32::MAX)),
                },
                total: known
                    .contains(Abilities::RETRANSMITS)
                    .then(|| u32_at(bytes, 64)),
            },
            KIND_SYNACK => What::SynAck,
            KIND_RESET_SENT => What::ResetSent {
                reason: (flags & FLAG_REASON != 0).then(|| u32_at(bytes, 84)),
            },
            KIND_RESET_RECEIVED => What::ResetReceived,
            KIND_ACCEPT => What::Accepted,
            KIND_DESTROY => What::Destroyed {
                cookie: u64_at(bytes, 16),
            },
            _ => return Err(DecodeError::Kind),
        };
        let closed = matches!(
            what,
            What::State {
                new: State::Close,
                ..
            }
        );
        if closed && bytes.len() < WIRE_CLOSE_LEN {
            return Err(DecodeError::Short);
        }
        let family = (flags & FLAG_FAMILY != 0).then(|| u16_at(bytes, 80));
        let (wire, local, peer) = addresses(family, take(bytes, 16), take(bytes, 32));
        let on_cpu = Task {
            tid: u32_at(bytes, 8),
            pid: u32_at(bytes, 12),
            uid: None,
            name: name(bytes, 48),
        };
        let owner = Owner::decode(&bytes[OWNER..OWNER + OWNER_LEN], known);
        let learned = |owner: &Owner| owner.source == OwnerSource::Task || what == What::Accepted;
        Ok(Event {
            time,
            cpu,
            socket: u64_at(bytes, 0),
            on_cpu,
            owner: owner.map(|owner| match learned(&owner) {
                true => Owner {
                    thread: on_cpu.name,
                    ..owner
                },
                false => owner,
            }),
            netns: Some(u32_at(bytes, OWNER + 40)).filter(|n| *n != 0),
            what,
            local: Endpoint {
                addr: local,
                port: u16_at(bytes, 76),
            },
            peer: Endpoint {
                addr: peer,
                port: u16_at(bytes, 78),
            },
            wire,
            counters: match closed {
                true => Counters::decode(bytes, known),
                false => Counters::default(),
            },
        })
    }
}

impl Owner {
    /// Reads an owner as the programs keep it; see bpf-asm/event.inc.
    fn decode(bytes: &[u8], known: Abilities) -> Option<Owner> {
        Some(Owner {
            source: OwnerSource::from_number(bytes[44])?,
            task: Task {
                tid: u32_at(bytes, 0),
                pid: u32_at(bytes, 4),
                uid: Some(u32_at(bytes, 32)).filter(|uid| *uid != u32::MAX),
                name: name(bytes, 16),
            },
            thread: [0; COMM_LEN],
            parent: Some(u32_at(bytes, 36))
                .filter(|id| *id != 0 && known.contains(Abilities::PARENT)),
            cgroup: Some(u64_at(bytes, 8))
                .filter(|id| *id != 0 && known.contains(Abilities::CGROUP)),
        })
    }

    /// The bytes of an owner in the kernel's maps.
    pub fn encode(&self, netns: u32) -> [u8; OWNER_LEN] {
        let mut out = [0; OWNER_LEN];
        let mut put = |at: usize, part: &[u8]| out[at..at + part.len()].copy_from_slice(part);
        put(0, &self.task.tid.to_le_bytes());
        put(4, &self.task.pid.to_le_bytes());
        put(8, &self.cgroup.unwrap_or(0).to_le_bytes());
        put(16, &self.task.name);
        put(32, &self.task.uid.unwrap_or(u32::MAX).to_le_bytes());
        put(36, &self.parent.unwrap_or(0).to_le_bytes());
        put(40, &netns.to_le_bytes());
        put(44, &[self.source as u8]);
        out
    }
}

/// SOCK_DONE (include/net/sock.h, enum sock_flags; set by tcp_fin()): the
/// peer's FIN has come, and counts as a byte received.
const SOCK_DONE: u32 = 1 << 1;

impl Counters {
    fn decode(bytes: &[u8], known: Abilities) -> Counters {
        let if_known = |flag: Abilities| known.contains(flag).then_some(());
        let long = |at| u64_at(bytes, at);
        let word = |at| u32_at(bytes, at);
        Counters {
            error: if_known(Abilities::SOCKET_ERROR).map(|()| (word(136) as i32).saturating_abs()),
            bytes_sent: None,
            sent: if_known(Abilities::SENT).map(|()| Sent::decode(bytes, known)),
            bytes_retransmitted: if_known(Abilities::BYTES_SENT).map(|()| long(152)),
            retransmits: if_known(Abilities::RETRANSMITS).map(|()| word(184)),
            bytes_received: if_known(Abilities::BYTES_RECEIVED).map(|()| {
                let fin = u64::from(word(168) & SOCK_DONE != 0);
                long(160).saturating_sub(fin)
            }),
            fin_received: if_known(Abilities::BYTES_RECEIVED).map(|()| word(168) & SOCK_DONE != 0),
            segments_sent: if_known(Abilities::SEGMENTS_SENT).map(|()| word(140)),
            segments_received: if_known(Abilities::SEGMENTS_RECEIVED).map(|()| word(180)),
            // In eighths of a microsecond; 0 before the first measurement.
            rtt_us: if_known(Abilities::RTT)
                .map(|()| word(172) >> 3)
                .filter(|us| *us != 0),
            // All ones before the first measurement (tcp_init_sock()).
            min_rtt_us: if_known(Abilities::MIN_RTT)
                .map(|()| word(176))
                .filter(|us| *us != u32::MAX),
            has_socket: if_known(Abilities::SOCKET).map(|()| u16_at(bytes, 82) & FLAG_SOCKET != 0),
            time_wait_room: if_known(Abilities::TIME_WAIT).and_then(|()| time_wait_room(bytes)),
        }
    }
}

impl Sent {
    fn decode(bytes: &[u8], known: Abilities) -> Sent {
        let [una, next, written] = [188, 200, 204].map(|at| u32_at(bytes, at));
        Sent {
            acked: u64_at(bytes, 192),
            in_flight: next.wrapping_sub(una),
            unsent: written.wrapping_sub(next),
            // Retransmissions count again in bytes_sent (net/ipv4/tcp_output.c,
            // __tcp_transmit_skb and __tcp_retransmit_skb).
            handed: known
                .contains(Abilities::BYTES_SENT)
                .then(|| u64_at(bytes, 144).saturating_sub(u64_at(bytes, 152))),
        }
    }
}

/// Whether there was room for one more time-wait socket after this change; `None`
/// where it leads to none. This one is counted if it became one: the last that
/// had room finds the table full.
fn time_wait_room(bytes: &[u8]) -> Option<bool> {
    let old = State::from_number(bytes[74])?;
    if !matches!(old, State::FinWait2 | State::Closing) {
        return None;
    }
    let [counted, limit, refs] = [208, 212, 216].map(|at| u32_at(bytes, at));
    let count = match refs {
        0 => counted,
        refs => refs - 1,
    };
    // A negative limit means one thing or the other, by the kernel's age.
    i32::try_from(limit).ok().map(|_| count < limit)
}

/// The v6 fields hold every address, a v4 one as ::ffff:a.b.c.d
/// (include/trace/events/sock.h, TP_STORE_ADDRS). The connection is IPv4 on the
/// wire if the socket is, or if either end is v4-mapped.
pub fn addresses(family: Option<u16>, local: [u8; 16], peer: [u8; 16]) -> (Wire, IpAddr, IpAddr) {
    let (local, peer) = (Ipv6Addr::from(local), Ipv6Addr::from(peer));
    let mapped = local.to_ipv4_mapped().is_some() || peer.to_ipv4_mapped().is_some();
    if family == Some(AF_INET) || mapped {
        let v4 = |a: Ipv6Addr| IpAddr::V4(a.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED));
        (Wire::Ipv4, v4(local), v4(peer))
    } else {
        (Wire::Ipv6, IpAddr::V6(local), IpAddr::V6(peer))
    }
}

#[cfg(test)]
pub mod tests;
