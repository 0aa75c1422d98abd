//! The decoded event: what a program of bpf-asm/ sent, checked and named.
//!
//! The wire layout stands in bpf-asm/event.inc; the constants here repeat it
//! and a test holds the two together.

use crate::tcp::{Endpoint, State, Wire};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Size of the wire event in bytes.
pub const WIRE_LEN: usize = 84;
/// Version of the wire event.
pub const WIRE_VERSION: u8 = 1;

const KIND_STATE: u8 = 1;
const KIND_RETRANSMIT: u8 = 2;
const FLAG_ERR: u16 = 1;
const FLAG_FAMILY: u16 = 2;
const AF_INET: u16 = libc::AF_INET as u16;

#[cfg(not(target_endian = "little"))]
compile_error!("the wire event is little-endian, as are the hosts it is made for");

/// TASK_COMM_LEN: a task's name with its terminating NUL, in bytes.
pub const COMM_LEN: usize = 16;

/// The task on the CPU when the event happened. In softirq it is whatever was
/// interrupted; whose socket it really is comes from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Process id (tgid) in the initial PID namespace.
    pub pid: u32,
    /// Thread id in the initial PID namespace.
    pub tid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    comm: [u8; COMM_LEN],
}

impl Task {
    /// The task's name as the kernel has it: any bytes but NUL.
    pub fn comm(&self) -> &[u8] {
        let len = self.comm.iter().position(|&b| b == 0);
        &self.comm[..len.unwrap_or(COMM_LEN)]
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The socket went from one state to another.
    State {
        /// Before.
        old: State,
        /// After.
        new: State,
    },
    /// A segment was sent again, or failed to be.
    Retransmit {
        /// The socket's state, where the kernel says it (4.20 and later).
        state: Option<State>,
        /// Why it could not be sent: a positive errno. `None` where it was
        /// sent, or where the kernel doesn't tell (before 6.17).
        error: Option<i32>,
    },
}

/// One event of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC in nanoseconds, when the event happened.
    pub time: u64,
    /// The CPU it happened on.
    pub cpu: u32,
    /// The kernel's address of the socket: the same for all its events, and
    /// used again for another socket later. Never printed.
    pub socket: u64,
    /// The task on the CPU.
    pub task: Task,
    /// What happened.
    pub what: What,
    /// This end.
    pub local: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// IP version on the wire.
    pub wire: Wire,
}

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

fn take<const N: usize>(bytes: &[u8; WIRE_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl Event {
    /// Decodes what a program sent. Trailing bytes (perf pads its records) are
    /// passed over.
    pub fn decode(time: u64, cpu: u32, bytes: &[u8]) -> Result<Event, DecodeError> {
        let bytes: &[u8; WIRE_LEN] = bytes
            .get(..WIRE_LEN)
            .and_then(|b| b.try_into().ok())
            .ok_or(DecodeError::Short)?;
        if bytes[72] != WIRE_VERSION {
            return Err(DecodeError::Version);
        }
        let u16_at = |at| u16::from_le_bytes(take(bytes, at));
        let u32_at = |at| u32::from_le_bytes(take(bytes, at));
        let flags = u16_at(82);
        let state = |at: usize| State::from_number(bytes[at]).ok_or(DecodeError::State);
        let what = match bytes[73] {
            KIND_STATE => What::State {
                old: state(74)?,
                new: state(75)?,
            },
            KIND_RETRANSMIT => What::Retransmit {
                state: State::from_number(bytes[75]),
                error: match u32_at(68) as i32 {
                    0 => None,
                    _ if flags & FLAG_ERR == 0 => None,
                    err => Some(err.checked_neg().unwrap_or(i32::MAX)),
                },
            },
            _ => return Err(DecodeError::Kind),
        };
        let family = (flags & FLAG_FAMILY != 0).then(|| u16_at(80));
        let (wire, local, peer) = addresses(family, take(bytes, 16), take(bytes, 32));
        Ok(Event {
            time,
            cpu,
            socket: u64::from_le_bytes(take(bytes, 0)),
            task: Task {
                tid: u32_at(8),
                pid: u32_at(12),
                uid: u32_at(64),
                comm: take(bytes, 48),
            },
            what,
            local: Endpoint {
                addr: local,
                port: u16_at(76),
            },
            peer: Endpoint {
                addr: peer,
                port: u16_at(78),
            },
            wire,
        })
    }

    /// Whether an end is unspecified (0.0.0.0 or ::): listeners, and children
    /// that are not filled in yet.
    pub fn is_noise(&self) -> bool {
        self.local.addr.is_unspecified() || self.peer.addr.is_unspecified()
    }
}

/// The v6 fields hold every address, a v4 one as ::ffff:a.b.c.d
/// (include/trace/events/sock.h, TP_STORE_ADDRS). The connection is IPv4 on the
/// wire if the socket is, or if either end is v4-mapped.
fn addresses(family: Option<u16>, local: [u8; 16], peer: [u8; 16]) -> (Wire, IpAddr, IpAddr) {
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
pub mod tests {
    //! Events for the tests of other modules, and the decoder's own.
    use super::*;

    /// The bytes of a state event, as the program would send them.
    pub fn wire(socket: u64, old: State, new: State, ports: (u16, u16)) -> [u8; WIRE_LEN] {
        let mut b = [0; WIRE_LEN];
        b[..8].copy_from_slice(&socket.to_le_bytes());
        b[8..12].copy_from_slice(&11u32.to_le_bytes());
        b[12..16].copy_from_slice(&10u32.to_le_bytes());
        b[26..32].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
        b[42..48].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 2]);
        b[48..52].copy_from_slice(b"curl");
        b[64..68].copy_from_slice(&1000u32.to_le_bytes());
        b[72] = WIRE_VERSION;
        b[73] = KIND_STATE;
        b[74] = old as u8;
        b[75] = new as u8;
        b[76..78].copy_from_slice(&ports.0.to_le_bytes());
        b[78..80].copy_from_slice(&ports.1.to_le_bytes());
        b[80..82].copy_from_slice(&AF_INET.to_le_bytes());
        b[82] = 2;
        b
    }

    /// A state event at `time`.
    pub fn state(time: u64, socket: u64, old: State, new: State, ports: (u16, u16)) -> Event {
        Event::decode(time, 0, &wire(socket, old, new, ports)).expect("a valid event")
    }

    #[test]
    fn decodes_every_field() {
        let e = state(
            5,
            0xffff_8880_0000_0001,
            State::Close,
            State::SynSent,
            (0, 80),
        );
        assert_eq!(e.socket, 0xffff_8880_0000_0001);
        assert_eq!((e.task.pid, e.task.tid, e.task.uid), (10, 11, 1000));
        assert_eq!(e.task.comm(), b"curl");
        assert_eq!(e.local.addr.to_string(), "10.0.0.1");
        assert_eq!(e.peer.addr.to_string(), "10.0.0.2");
        assert_eq!((e.local.port, e.peer.port), (0, 80));
        assert_eq!(e.wire, Wire::Ipv4);
        assert!(!e.is_noise());
    }

    #[test]
    fn a_name_of_sixteen_bytes_has_no_end() {
        let mut b = wire(1, State::Close, State::Listen, (1, 2));
        b[48..64].copy_from_slice(&[b'x'; 16]);
        assert_eq!(
            Event::decode(0, 0, &b).expect("valid").task.comm(),
            [b'x'; 16]
        );
    }

    #[test]
    fn v4_unspecified_and_v6_are_told_apart() {
        let mut b = wire(1, State::Close, State::Listen, (1, 2));
        b[16..48].fill(0);
        let e = Event::decode(0, 0, &b).expect("valid");
        assert_eq!(e.local.addr.to_string(), "0.0.0.0");
        assert!(e.is_noise());
        b[80] = libc::AF_INET6 as u8;
        let e = Event::decode(0, 0, &b).expect("valid");
        assert_eq!(
            (e.wire, e.local.addr.to_string()),
            (Wire::Ipv6, "::".into())
        );
        b[42..48].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 2]);
        assert_eq!(Event::decode(0, 0, &b).expect("valid").wire, Wire::Ipv4);
        // Before 5.12 a retransmission doesn't say its family.
        b[82] = 0;
        assert_eq!(Event::decode(0, 0, &b).expect("valid").wire, Wire::Ipv4);
    }

    #[test]
    fn a_failed_retransmission_has_its_errno() {
        let mut b = wire(1, State::Close, State::Established, (1, 2));
        b[73] = KIND_RETRANSMIT;
        b[68..72].copy_from_slice(&(-16i32).to_le_bytes());
        let what = |b: &[u8]| Event::decode(0, 0, b).expect("valid").what;
        let with = |error| What::Retransmit {
            state: Some(State::Established),
            error,
        };
        assert_eq!(what(&b), with(None));
        b[82] = 3;
        assert_eq!(what(&b), with(Some(16)));
        b[68..72].copy_from_slice(&i32::MIN.to_le_bytes());
        assert_eq!(what(&b), with(Some(i32::MAX)));
    }

    #[test]
    fn refuses_what_is_no_event() {
        let b = wire(1, State::Close, State::Listen, (1, 2));
        assert_eq!(Event::decode(0, 0, &b[..83]), Err(DecodeError::Short));
        let with = |at: usize, value| {
            let mut b = b;
            b[at] = value;
            Event::decode(0, 0, &b)
        };
        assert_eq!(with(72, 2), Err(DecodeError::Version));
        assert_eq!(with(73, 3), Err(DecodeError::Kind));
        assert_eq!(with(74, 0), Err(DecodeError::State));
        assert_eq!(with(75, 99), Err(DecodeError::State));
    }
}
