//! The wire event: what a program of bpf-asm/ sent, checked and decoded.
//!
//! The layout stands in bpf-asm/event.inc; the constants here repeat it and a
//! test holds the two together.

use crate::event::{COMM_LEN, Counters, Event, Known, Owner, OwnerSource, Sent, Task, What};
use crate::tcp::{Endpoint, State, Wire};
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
    pub fn decode(time: u64, cpu: u32, bytes: &[u8], known: Known) -> Result<Event, DecodeError> {
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
                    .contains(Known::RETRANSMITS)
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
    fn decode(bytes: &[u8], known: Known) -> Option<Owner> {
        Some(Owner {
            source: OwnerSource::from_number(bytes[44])?,
            task: Task {
                tid: u32_at(bytes, 0),
                pid: u32_at(bytes, 4),
                uid: Some(u32_at(bytes, 32)).filter(|uid| *uid != u32::MAX),
                name: name(bytes, 16),
            },
            thread: [0; COMM_LEN],
            parent: Some(u32_at(bytes, 36)).filter(|id| *id != 0 && known.contains(Known::PARENT)),
            cgroup: Some(u64_at(bytes, 8)).filter(|id| *id != 0 && known.contains(Known::CGROUP)),
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
    fn decode(bytes: &[u8], known: Known) -> Counters {
        let if_known = |flag: Known| known.contains(flag).then_some(());
        let long = |at| u64_at(bytes, at);
        let word = |at| u32_at(bytes, at);
        Counters {
            error: if_known(Known::ERROR).map(|()| (word(136) as i32).saturating_abs()),
            bytes_sent: None,
            sent: if_known(Known::SENT).map(|()| Sent::decode(bytes, known)),
            bytes_retransmitted: if_known(Known::BYTES_SENT).map(|()| long(152)),
            retransmits: if_known(Known::RETRANSMITS).map(|()| word(184)),
            bytes_received: if_known(Known::BYTES_RECEIVED).map(|()| {
                let fin = u64::from(word(168) & SOCK_DONE != 0);
                long(160).saturating_sub(fin)
            }),
            fin_received: if_known(Known::BYTES_RECEIVED).map(|()| word(168) & SOCK_DONE != 0),
            segments_sent: if_known(Known::SEGMENTS_SENT).map(|()| word(140)),
            segments_received: if_known(Known::SEGMENTS_RECEIVED).map(|()| word(180)),
            // In eighths of a microsecond; 0 before the first measurement.
            rtt_us: if_known(Known::RTT)
                .map(|()| word(172) >> 3)
                .filter(|us| *us != 0),
            // All ones before the first measurement (tcp_init_sock()).
            min_rtt_us: if_known(Known::MIN_RTT)
                .map(|()| word(176))
                .filter(|us| *us != u32::MAX),
            has_socket: if_known(Known::SOCKET).map(|()| u16_at(bytes, 82) & FLAG_SOCKET != 0),
            time_wait_room: if_known(Known::TIME_WAIT).and_then(|()| time_wait_room(bytes)),
        }
    }
}

impl Sent {
    fn decode(bytes: &[u8], known: Known) -> Sent {
        let [una, next, written] = [188, 200, 204].map(|at| u32_at(bytes, at));
        Sent {
            acked: u64_at(bytes, 192),
            in_flight: next.wrapping_sub(una),
            unsent: written.wrapping_sub(next),
            // Retransmissions count again in bytes_sent (net/ipv4/tcp_output.c,
            // __tcp_transmit_skb and __tcp_retransmit_skb).
            handed: known
                .contains(Known::BYTES_SENT)
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
pub mod tests {
    //! Events for the tests of other modules, and the decoder's own.
    use super::*;

    /// The bytes of a state event, as the program would send them.
    pub fn wire(socket: u64, old: State, new: State, ports: (u16, u16)) -> [u8; WIRE_CLOSE_LEN] {
        let mut b = [0; WIRE_CLOSE_LEN];
        b[..8].copy_from_slice(&socket.to_le_bytes());
        b[8..12].copy_from_slice(&11u32.to_le_bytes());
        b[12..16].copy_from_slice(&10u32.to_le_bytes());
        b[26..32].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
        b[42..48].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 2]);
        b[48..52].copy_from_slice(b"curl");
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
        Event::decode(time, 0, &wire(socket, old, new, ports), Known::all()).expect("a valid event")
    }

    /// An owner with this process id.
    pub fn owner(pid: u32, source: OwnerSource) -> Owner {
        let mut task = Task {
            pid,
            tid: pid,
            uid: Some(0),
            ..Task::default()
        };
        task.name[..4].copy_from_slice(b"curl");
        Owner {
            task,
            thread: [0; COMM_LEN],
            parent: None,
            cgroup: None,
            source,
        }
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
        assert_eq!((e.on_cpu.pid, e.on_cpu.tid, e.on_cpu.uid), (10, 11, None));
        assert_eq!(e.on_cpu.comm(), b"curl");
        assert_eq!(e.local.addr.to_string(), "10.0.0.1");
        assert_eq!(e.peer.addr.to_string(), "10.0.0.2");
        assert_eq!((e.local.port, e.peer.port), (0, 80));
        assert_eq!(e.wire, Wire::Ipv4);
        assert!(!e.is_noise());
    }

    #[test]
    fn what_is_behind_a_name_is_none_of_it() {
        let mut bytes = wire(1, State::Close, State::SynSent, (0, 80));
        bytes[48..64].copy_from_slice(b"curl\0bash\0python");
        let event = Event::decode(5, 0, &bytes, Known::all()).expect("a valid event");
        assert_eq!(event.on_cpu.name, *b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn an_owner_comes_back_as_it_was() {
        let owner = Owner {
            task: Task {
                pid: 10,
                tid: 11,
                uid: Some(1000),
                name: *b"a name, 16 bytes",
            },
            thread: [0; COMM_LEN],
            parent: Some(9),
            cgroup: Some(77),
            source: OwnerSource::Listener,
        };
        let bytes = owner.encode(5);
        assert_eq!(Owner::decode(&bytes, Known::all()), Some(owner));
        let less = Owner {
            parent: None,
            cgroup: None,
            ..owner
        };
        assert_eq!(Owner::decode(&bytes, Known::empty()), Some(less));
        // Not every program knows what the others know.
        assert_eq!(Owner::decode(&less.encode(5), Known::all()), Some(less));
        assert_eq!(Owner::decode(&[0; OWNER_LEN], Known::all()), None);
        let mut nobody = owner;
        nobody.task.uid = None;
        assert_eq!(Owner::decode(&nobody.encode(5), Known::all()), Some(nobody));
    }

    #[test]
    fn counters_are_those_that_are_known() {
        let mut b = wire(1, State::Closing, State::Close, (1, 2));
        b[136..140].copy_from_slice(&104i32.to_le_bytes());
        b[144..152].copy_from_slice(&1500u64.to_le_bytes());
        b[152..160].copy_from_slice(&500u64.to_le_bytes());
        b[160..168].copy_from_slice(&8u64.to_le_bytes());
        b[168] = 2;
        b[172..176].copy_from_slice(&80u32.to_le_bytes());
        b[176..180].fill(0xff);
        b[184] = 3;
        // Sequence numbers that wrap.
        b[188..192].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
        b[192..200].copy_from_slice(&901u64.to_le_bytes());
        b[200..204].copy_from_slice(&98u32.to_le_bytes());
        b[204..208].copy_from_slice(&101u32.to_le_bytes());
        b[208] = 4;
        b[212] = 5;
        let counters = |known| Event::decode(0, 0, &b, known).expect("valid").counters;
        let all = counters(Known::all());
        assert_eq!(all.error, Some(104));
        let mut sent = Sent {
            acked: 901,
            in_flight: 100,
            unsent: 3,
            handed: Some(1000),
        };
        assert_eq!((all.bytes_sent, all.sent), (None, Some(sent)));
        sent.handed = None;
        assert_eq!(counters(Known::SENT).sent, Some(sent));
        assert_eq!(all.bytes_retransmitted, Some(500));
        assert_eq!(all.retransmits, Some(3));
        assert_eq!(all.has_socket, Some(false));
        assert_eq!(all.time_wait_room, Some(true));
        // Without the peer's FIN.
        assert_eq!(all.bytes_received, Some(7));
        assert_eq!(all.fin_received, Some(true));
        assert_eq!((all.rtt_us, all.min_rtt_us), (Some(10), None));
        assert_eq!(counters(Known::empty()), Counters::default());
        let with = |at: usize, value: u8| {
            let mut b = b;
            b[at] = value;
            Event::decode(0, 0, &b, Known::all())
                .expect("valid")
                .counters
        };
        assert_eq!(with(82, 10).has_socket, Some(true));
        assert_eq!(with(208, 5).time_wait_room, Some(false));
        assert_eq!(with(216, 5).time_wait_room, Some(true));
        assert_eq!(with(216, 6).time_wait_room, Some(false));
        assert_eq!(with(215, 0x80).time_wait_room, None);
        assert_eq!(with(74, State::LastAck as u8).time_wait_room, None);
        // Only the end has them.
        b[75] = State::LastAck as u8;
        let open = Event::decode(0, 0, &b[..WIRE_LEN], Known::all()).expect("valid");
        assert_eq!(open.counters, Counters::default());
        b[75] = State::Close as u8;
        let cut = Event::decode(0, 0, &b[..WIRE_LEN], Known::all());
        assert_eq!(cut, Err(DecodeError::Short));
    }

    #[test]
    fn a_name_of_sixteen_bytes_has_no_end() {
        let mut b = wire(1, State::Close, State::Listen, (1, 2));
        b[48..64].copy_from_slice(&[b'x'; 16]);
        assert_eq!(
            Event::decode(0, 0, &b, Known::all())
                .expect("valid")
                .on_cpu
                .comm(),
            [b'x'; 16]
        );
    }

    #[test]
    fn v4_unspecified_and_v6_are_told_apart() {
        let mut b = wire(1, State::Close, State::Listen, (1, 2));
        b[16..48].fill(0);
        let e = Event::decode(0, 0, &b, Known::all()).expect("valid");
        assert_eq!(e.local.addr.to_string(), "0.0.0.0");
        assert!(e.is_noise());
        b[80] = libc::AF_INET6 as u8;
        let e = Event::decode(0, 0, &b, Known::all()).expect("valid");
        assert_eq!(
            (e.wire, e.local.addr.to_string()),
            (Wire::Ipv6, "::".into())
        );
        b[42..48].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 2]);
        assert_eq!(
            Event::decode(0, 0, &b, Known::all()).expect("valid").wire,
            Wire::Ipv4
        );
        // Before 5.12 a retransmission doesn't say its family.
        b[82] = 0;
        assert_eq!(
            Event::decode(0, 0, &b, Known::all()).expect("valid").wire,
            Wire::Ipv4
        );
    }

    /// The name of the task on the CPU is that of the thread by which the owner
    /// became known just now; else it is anybody's.
    #[test]
    fn the_thread_is_the_one_on_the_cpu_where_it_is_the_owners() {
        let thread = |source: OwnerSource, kind: u8| {
            let mut b = wire(1, State::Established, State::FinWait1, (1, 2));
            b[73] = kind;
            b[OWNER..OWNER + OWNER_LEN].copy_from_slice(&owner(10, source).encode(5));
            let event = Event::decode(0, 0, &b, Known::all()).expect("valid");
            event.owner.expect("an owner").thread
        };
        let (known, unknown) = (*b"curl\0\0\0\0\0\0\0\0\0\0\0\0", [0; COMM_LEN]);
        assert_eq!(thread(OwnerSource::Task, KIND_STATE), known);
        assert_eq!(thread(OwnerSource::Accept, KIND_ACCEPT), known);
        assert_eq!(thread(OwnerSource::Accept, KIND_STATE), unknown);
        assert_eq!(thread(OwnerSource::Cached, KIND_RETRANSMIT), unknown);
        assert_eq!(thread(OwnerSource::Listener, KIND_STATE), unknown);
    }

    #[test]
    fn a_failed_retransmission_has_its_errno() {
        let mut b = wire(1, State::Close, State::Established, (1, 2));
        b[73] = KIND_RETRANSMIT;
        b[64] = 7;
        b[68..72].copy_from_slice(&(-16i32).to_le_bytes());
        let what = |b: &[u8]| Event::decode(0, 0, b, Known::all()).expect("valid").what;
        let with = |error| What::Retransmit {
            state: Some(State::Established),
            error,
            total: Some(7),
        };
        assert_eq!(what(&b), with(None));
        b[82] = 3;
        assert_eq!(what(&b), with(Some(16)));
        b[68..72].copy_from_slice(&i32::MIN.to_le_bytes());
        assert_eq!(what(&b), with(Some(i32::MAX)));
        let event = Event::decode(0, 0, &b, Known::all() - Known::RETRANSMITS);
        let What::Retransmit { total, .. } = event.expect("valid").what else {
            panic!("no retransmission");
        };
        assert_eq!(total, None);
    }

    #[test]
    fn refuses_what_is_no_event() {
        let b = wire(1, State::Close, State::Listen, (1, 2));
        assert_eq!(
            Event::decode(0, 0, &b[..139], Known::all()),
            Err(DecodeError::Short)
        );
        let with = |at: usize, value| {
            let mut b = b;
            b[at] = value;
            Event::decode(0, 0, &b, Known::all())
        };
        assert_eq!(with(72, 1), Err(DecodeError::Version));
        assert_eq!(with(73, 8), Err(DecodeError::Kind));
        assert_eq!(with(74, 0), Err(DecodeError::State));
        assert_eq!(with(75, 99), Err(DecodeError::State));
    }
}
