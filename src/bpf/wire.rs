//! The wire event: what a program of bpf-asm/ sent, checked and decoded.
//!
//! Contract: where what stands is known from [`super::layout`] alone. Numbers are in the byte order of the host, of which
//! the programs are, too; a test may ask for another.

use super::cards::{Card, Cards, NOWHERE};
use super::held;
use super::layout::*;
use crate::model::ability::Abilities;
use crate::model::event::{
    COMM_LEN, Counters, Event, Owner, OwnerSource, Resending, Sent, Task, What, comm,
};
use crate::model::tcp::{Endpoint, State, Wire};
use crate::order::{Order, Value};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const AF_INET: u16 = libc::AF_INET as u16;

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
    /// What they tell of is no matter of TCP.
    Foreign,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::Short => "too short",
            DecodeError::Version => "of another version",
            DecodeError::Kind => "of an unknown kind",
            DecodeError::State => "with an unknown TCP state",
            DecodeError::Foreign => "not of TCP",
        })
    }
}

/// A task's name, without what an older one may have left behind its end.
fn name(mut name: [u8; COMM_LEN]) -> [u8; COMM_LEN] {
    let end = comm(&name).len();
    let all = u128::from_le_bytes(name);
    // A shift by all bits is none.
    let kept = all & !u128::MAX.checked_shl(8 * end as u32).unwrap_or(0);
    name = kept.to_le_bytes();
    name
}

/// The thread and process id of [`EV_TASK`] and [`OW_TASK`].
fn ids(task: u64) -> (u32, u32) {
    (task as u32, (task >> 32) as u32)
}

/// How a program knows an owner, by its number.
fn source(number: u8) -> Option<OwnerSource> {
    Some(match number {
        SOURCE_TASK => OwnerSource::Task,
        SOURCE_CACHED => OwnerSource::Cached,
        SOURCE_LISTENER => OwnerSource::Listener,
        SOURCE_ACCEPT => OwnerSource::Accept,
        SOURCE_SNAPSHOT => OwnerSource::Snapshot,
        SOURCE_TAKEN => OwnerSource::ListenerAccepted,
        _ => return None,
    })
}

/// The number of it.
fn number(source: OwnerSource) -> u8 {
    match source {
        OwnerSource::Task => SOURCE_TASK,
        OwnerSource::Cached => SOURCE_CACHED,
        OwnerSource::Listener => SOURCE_LISTENER,
        OwnerSource::Accept => SOURCE_ACCEPT,
        OwnerSource::Snapshot | OwnerSource::Descendant => SOURCE_SNAPSHOT,
        OwnerSource::ListenerAccepted => SOURCE_TAKEN,
    }
}

impl Event {
    /// Decodes what a program of this host sent, all by itself. Trailing bytes
    /// (perf pads its records) are passed over.
    pub fn decode(
        time: u64,
        cpu: u32,
        bytes: &[u8],
        known: Abilities,
    ) -> Result<Event, DecodeError> {
        Event::decode_from(Order::NATIVE, (time, cpu), bytes, known, &mut Cards::new(0))
    }

    /// Decodes what a program of a host with this byte order sent; `cards` are
    /// those of the events before.
    pub fn decode_from(
        order: Order,
        (time, cpu): (u64, u32),
        bytes: &[u8],
        known: Abilities,
        cards: &mut Cards,
    ) -> Result<Event, DecodeError> {
        let long = |len: usize| match bytes.len() < len {
            true => Err(DecodeError::Short),
            false => Ok(()),
        };
        long(EV_HEAD)?;
        if EV_VERSION.get(bytes, order) != VERSION {
            return Err(DecodeError::Version);
        }
        let flags = EV_FLAGS.get(bytes, order);
        let has = |flag| flags & flag != 0;
        let (old, new) = (EV_OLDSTATE.get(bytes, order), EV_NEWSTATE.get(bytes, order));
        let state = |number| State::from_number(number).ok_or(DecodeError::State);
        let what = match EV_KIND.get(bytes, order) {
            KIND_STATE => What::State {
                old: state(old)?,
                new: state(new)?,
            },
            KIND_RETRANS => What::Retransmit {
                state: State::from_number(new),
                error: match EV_ERR.get(bytes, order) {
                    0 => None,
                    _ if !has(FLAG_ERR) => None,
                    err => Some(err.checked_neg().unwrap_or(i32::MAX)),
                },
                total: known
                    .contains(Abilities::RETRANSMITS)
                    .then(|| EV_TOTAL.get(bytes, order)),
                kind: match (has(FLAG_TIMER), has(FLAG_LOST)) {
                    (true, false) => Some(Resending::Timeout),
                    (false, true) => Some(Resending::Fast),
                    (true, true) => Some(Resending::TailLossProbe),
                    (false, false) => None,
                },
            },
            KIND_SYNACK => What::SynAck,
            KIND_RST_SENT => What::ResetSent {
                reason: has(FLAG_REASON).then(|| EV_TOTAL.get(bytes, order)),
            },
            KIND_RST_RCVD => What::ResetReceived,
            KIND_ACCEPT => What::Accepted,
            KIND_DESTROY => {
                long(EV_GONE_SIZE.into())?;
                let cookie = u64::read(&bytes[EV_OWNER.at..], order);
                What::Destroyed { cookie }
            }
            KIND_HELD => return Err(DecodeError::Foreign),
            _ => return Err(DecodeError::Kind),
        };
        let closed = matches!(
            what,
            What::State {
                new: State::Close,
                ..
            }
        );
        let head_alone = matches!(
            what,
            What::ResetSent { .. } | What::ResetReceived | What::Destroyed { .. }
        );
        let socket = EV_SOCKET.get(bytes, order);
        let (tid, pid) = ids(EV_TASK.get(bytes, order));
        let mut on_cpu = Task {
            tid,
            pid,
            ..Task::default()
        };
        let made;
        let card = if head_alone {
            None
        } else if has(FLAG_BRIEF) {
            cards.get(socket)
        } else {
            let len = if closed { EV_CLOSE_SIZE } else { EV_SIZE };
            long(len)?;
            if !known.contains(Abilities::CARDS) {
                // Then its name is behind the event.
                on_cpu.name = name(<[u8; COMM_LEN]>::read(
                    bytes.get(len..).unwrap_or_default(),
                    order,
                ));
            }
            made = Card::decode(order, bytes, known);
            if has(FLAG_CARD) && !closed && known.contains(Abilities::CARDS) {
                cards.keep(socket, made);
            }
            Some(&made)
        };
        let how = source(EV_HOW.get(bytes, order));
        let owner = how.zip(card).map(|(source, card)| {
            let mut owner = Owner {
                source,
                ..card.owner
            };
            if !has(FLAG_USER) {
                owner.task.uid = None;
            }
            match source == OwnerSource::Task || matches!(what, What::Accepted) {
                // It is the one on the CPU.
                true => on_cpu.name = owner.thread,
                false => owner.thread = [0; COMM_LEN],
            }
            owner
        });
        let ends = card.map(|card| (card.wire, card.local, card.peer));
        let (wire, addr, peer) = ends.unwrap_or(NOWHERE);
        let netns = card.map(|card| card.netns).filter(|n| *n != 0);
        if closed || has(FLAG_LAST) {
            cards.remove(socket);
        }
        let mut event = Event {
            time,
            cpu,
            socket,
            last: has(FLAG_LAST),
            on_cpu,
            owner,
            netns,
            what,
            local: Endpoint {
                addr,
                port: EV_LOCAL_PORT.get(bytes, order),
            },
            peer,
            wire,
            counters: Counters::default(),
        };
        if closed {
            // What is not there of the card before them.
            let less = match has(FLAG_BRIEF) {
                true => EV_SIZE - EV_HEAD - held::before_counters(order, bytes),
                false => 0,
            };
            long(EV_CLOSE_SIZE - less)?;
            event.counters = Counters::decode(order, bytes, less, known);
        }
        Ok(event)
    }
}

impl Card {
    fn decode(order: Order, bytes: &[u8], known: Abilities) -> Card {
        let family = EV_FLAGS.get(bytes, order) & FLAG_FAMILY != 0;
        let family = family.then(|| EV_FAMILY.get(bytes, order));
        let (local, peer) = (EV_LOCAL.get(bytes, order), EV_PEER.get(bytes, order));
        let (wire, local, addr) = addresses(family, local, peer);
        let port = EV_PEER_PORT.get(bytes, order);
        let kept = EV_OWNER.get(bytes, order);
        Card {
            owner: Owner::decode(order, &kept, known),
            netns: OW_NETNS.get(&kept, order),
            local,
            peer: Endpoint { addr, port },
            wire,
        }
    }
}

impl Owner {
    /// Reads an owner as the programs keep it; how it is known is told elsewhere.
    fn decode(order: Order, kept: &[u8; OW_SIZE], known: Abilities) -> Owner {
        let (tid, pid) = ids(OW_TASK.get(kept, order));
        let parent = OW_PARENT.get(kept, order);
        let cgroup = OW_CGROUP.get(kept, order);
        Owner {
            source: OwnerSource::Cached,
            task: Task {
                tid,
                pid,
                uid: Some(OW_UID.get(kept, order)).filter(|uid| *uid != u32::MAX),
                name: name(OW_COMM.get(kept, order)),
            },
            thread: name(OW_THREAD.get(kept, order)),
            parent: Some(parent).filter(|id| *id != 0 && known.contains(Abilities::PARENT)),
            cgroup: Some(cgroup).filter(|id| *id != 0 && known.contains(Abilities::CGROUP)),
        }
    }

    /// The bytes of an owner in the kernel's maps.
    pub(crate) fn encode(&self, order: Order, netns: u32) -> [u8; OW_SIZE] {
        let mut out = [0; OW_SIZE];
        let task = u64::from(self.task.pid) << 32 | u64::from(self.task.tid);
        OW_TASK.put(&mut out, task, order);
        OW_CGROUP.put(&mut out, self.cgroup.unwrap_or(0), order);
        OW_COMM.put(&mut out, self.task.name, order);
        OW_UID.put(&mut out, self.task.uid.unwrap_or(u32::MAX), order);
        OW_PARENT.put(&mut out, self.parent.unwrap_or(0), order);
        OW_NETNS.put(&mut out, netns, order);
        OW_SOURCE.put(&mut out, number(self.source).into(), order);
        OW_THREAD.put(&mut out, self.thread, order);
        out
    }
}

/// SOCK_DONE (include/net/sock.h, enum sock_flags; set by tcp_fin()): the
/// peer's FIN has come, and counts as a byte received.
const SOCK_DONE: u32 = 1 << 1;

impl Counters {
    /// Those of an event, of which so many bytes before them are left out.
    fn decode(order: Order, bytes: &[u8], less: usize, known: Abilities) -> Counters {
        let if_known = |flag: Abilities| known.contains(flag).then_some(());
        let fin = EV_SKFLAGS.get_without(bytes, less, order) & SOCK_DONE != 0;
        Counters {
            error: if_known(Abilities::SOCKET_ERROR)
                .map(|()| EV_SKERR.get_without(bytes, less, order).saturating_abs()),
            bytes_sent: None,
            sent: if_known(Abilities::SENT).map(|()| Sent::decode(order, bytes, less, known)),
            bytes_retransmitted: if_known(Abilities::BYTES_SENT)
                .map(|()| EV_RETRANS.get_without(bytes, less, order)),
            retransmits: if_known(Abilities::RETRANSMITS)
                .map(|()| EV_ALL_RETRANS.get_without(bytes, less, order)),
            bytes_received: if_known(Abilities::BYTES_RECEIVED).map(|()| {
                EV_RECEIVED
                    .get_without(bytes, less, order)
                    .saturating_sub(fin.into())
            }),
            fin_received: if_known(Abilities::BYTES_RECEIVED).map(|()| fin),
            segments_sent: if_known(Abilities::SEGMENTS_SENT)
                .map(|()| EV_SEGS_OUT.get_without(bytes, less, order)),
            segments_received: if_known(Abilities::SEGMENTS_RECEIVED)
                .map(|()| EV_SEGS_IN.get_without(bytes, less, order)),
            // In eighths of a microsecond; 0 before the first measurement.
            rtt_us: if_known(Abilities::RTT)
                .map(|()| EV_SRTT.get_without(bytes, less, order) >> 3)
                .filter(|us| *us != 0),
            // All ones before the first measurement (tcp_init_sock()).
            min_rtt_us: if_known(Abilities::MIN_RTT)
                .map(|()| EV_MINRTT.get_without(bytes, less, order))
                .filter(|us| *us != u32::MAX),
            has_socket: if_known(Abilities::SOCKET)
                .map(|()| EV_FLAGS.get(bytes, order) & FLAG_SOCKET != 0),
            time_wait_room: if_known(Abilities::TIME_WAIT)
                .and_then(|()| time_wait_room(order, bytes, less)),
        }
    }
}

impl Sent {
    fn decode(order: Order, bytes: &[u8], less: usize, known: Abilities) -> Sent {
        let [una, next, written] =
            [EV_UNA, EV_NXT, EV_WRITTEN].map(|number| number.get_without(bytes, less, order));
        let [sent, again] =
            [EV_BYTES_SENT, EV_RETRANS].map(|number| number.get_without(bytes, less, order));
        Sent {
            acked: EV_ACKED.get_without(bytes, less, order),
            in_flight: next.wrapping_sub(una),
            unsent: written.wrapping_sub(next),
            // Retransmissions count again in bytes_sent (net/ipv4/tcp_output.c,
            // __tcp_transmit_skb and __tcp_retransmit_skb).
            handed: known
                .contains(Abilities::BYTES_SENT)
                .then(|| sent.saturating_sub(again)),
        }
    }
}

/// Whether there was room for one more time-wait socket after this change; `None`
/// where it leads to none. This one is counted if it became one: the last that
/// had room finds the table full.
fn time_wait_room(order: Order, bytes: &[u8], less: usize) -> Option<bool> {
    let old = State::from_number(EV_OLDSTATE.get(bytes, order))?;
    if !matches!(old, State::FinWait2 | State::Closing) {
        return None;
    }
    let count = EV_TW_COUNT.get_without(bytes, less, order);
    // A negative limit means one thing or the other, by the kernel's age.
    let limit = u32::try_from(EV_TW_LIMIT.get_without(bytes, less, order)).ok()?;
    Some(count < limit)
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
pub(crate) mod tests;
