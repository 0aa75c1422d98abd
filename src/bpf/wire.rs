//! The wire event: what a program of bpf-asm/ sent, checked and decoded.
//!
//! Contract: where what stands is known from [`super::layout`] alone. Numbers are in the byte order of the host, of which
//! the programs are, too; a test may ask for another.

use super::cards::{Card, Cards, NOWHERE};
use super::held;
use super::layout::*;
use crate::model::ability::Abilities;
use crate::model::event::{
    COMM_LEN, Counters, Event, Owner, OwnerSource, Resending, Sent, Task, What,
};
use crate::model::tcp::{State, Wire};
use crate::order::{Order, Value};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the counters.
const EV_COUNTED: usize = EV_CLOSE_SIZE - EV_SIZE;

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
#[inline]
fn name(name: [u8; COMM_LEN]) -> [u8; COMM_LEN] {
    let all = u128::from_le_bytes(name);
    let (first, last) = (before_end(all as u64), before_end((all >> 64) as u64));
    let kept = match first {
        u64::MAX => u128::from(last) << 64 | u128::from(first),
        _ => u128::from(first),
    };
    (all & kept).to_le_bytes()
}

/// All bits of the bytes before the first that is 0.
#[inline(always)]
fn before_end(bytes: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    // The highest bit of the first byte that is 0, and of some behind it.
    let zeros = bytes.wrapping_sub(ONES) & !bytes & (ONES << 7);
    ((zeros & zeros.wrapping_neg()) >> 7).wrapping_sub(1)
}

/// The thread and process id of [`EV_TASK`] and [`OW_TASK`].
#[inline]
fn ids(task: u64) -> (u32, u32) {
    (task as u32, (task >> 32) as u32)
}

/// How a program knows an owner, by its number.
#[inline]
pub(super) fn source(number: u8) -> Option<OwnerSource> {
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
    #[inline]
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
        at: (u64, u32),
        bytes: &[u8],
        known: Abilities,
        cards: &mut Cards,
    ) -> Result<Event, DecodeError> {
        let mut event = Event::blank();
        event
            .read_from(order, at, bytes, known, cards)
            .map(|()| event)
    }

    /// The same into the place of an event that was read before, or of none, for an event is
    /// not small. Counters are written at a change to CLOSE alone, and are those of none
    /// elsewhere. What is there where it is no event is none.
    #[inline]
    pub fn read_from(
        &mut self,
        order: Order,
        (time, cpu): (u64, u32),
        bytes: &[u8],
        known: Abilities,
        cards: &mut Cards,
    ) -> Result<(), DecodeError> {
        let head: &[u8; EV_HEAD] = bytes.first_chunk().ok_or(DecodeError::Short)?;
        if EV_VERSION.get(head, order) != VERSION {
            return Err(DecodeError::Version);
        }
        let flags = EV_FLAGS.get(head, order);
        let has = |flag| flags & flag != 0;
        let long = |len: usize| match bytes.len() < len {
            true => Err(DecodeError::Short),
            false => Ok(()),
        };
        let had_counters = self.is_close();
        let (mut closed, mut head_alone) = (false, false);
        if EV_KIND.get(head, order) == KIND_STATE {
            let state = |number| State::from_number(number).ok_or(DecodeError::State);
            let old = state(EV_OLDSTATE.get(head, order))?;
            let new = state(EV_NEWSTATE.get(head, order))?;
            closed = new == State::Close;
            self.what = What::State { old, new };
        } else {
            (self.what, head_alone) = told(order, bytes, known)?;
        }
        if had_counters && !closed {
            self.counters = Counters::default();
        }
        self.socket = EV_SOCKET.get(head, order);
        (self.time, self.cpu, self.last) = (time, cpu, has(FLAG_LAST));
        let (tid, pid) = ids(EV_TASK.get(head, order));
        self.on_cpu = Task {
            tid,
            pid,
            ..Task::default()
        };
        let card = if head_alone {
            None
        } else if has(FLAG_BRIEF) {
            cards.get(self.socket)
        } else {
            let len = if closed { EV_CLOSE_SIZE } else { EV_SIZE };
            long(len)?;
            let told = known.contains(Abilities::CARDS);
            if !told {
                // Then its name is behind the event.
                self.on_cpu.name = name(<[u8; COMM_LEN]>::read(
                    bytes.get(len..).unwrap_or_default(),
                    order,
                ));
            }
            let keep = has(FLAG_CARD) && !closed && told;
            let card = cards.place(keep.then_some(self.socket));
            card.read(order, bytes, known);
            Some(&*card)
        };
        self.take(card, source(EV_HOW.get(head, order)), has(FLAG_USER));
        self.local.port = EV_LOCAL_PORT.get(head, order);
        if closed || has(FLAG_LAST) {
            cards.remove(self.socket);
        }
        if closed {
            // What is not there of the card before them.
            let less = match has(FLAG_BRIEF) {
                true => EV_SIZE - EV_HEAD - held::before_counters(order, bytes),
                false => 0,
            };
            let counted = bytes.get(EV_SIZE - less..).and_then(<[u8]>::first_chunk);
            self.counters
                .read(order, head, counted.ok_or(DecodeError::Short)?, known);
        }
        Ok(())
    }

    /// Takes what belongs to its socket, and how its owner is known, if it is.
    #[inline(always)]
    fn take(&mut self, card: Option<&Card>, how: Option<OwnerSource>, user: bool) {
        let Some(card) = card else {
            (self.owner, self.netns) = (None, None);
            (self.wire, self.local.addr, self.peer) = NOWHERE;
            return;
        };
        self.netns = Some(card.netns).filter(|n| *n != 0);
        self.wire = card.wire;
        self.local.addr = card.local;
        self.peer = card.peer;
        let Some(source) = how else {
            self.owner = None;
            return;
        };
        let Owner { task, thread, .. } = &card.owner;
        let mut owner = Owner {
            source,
            thread: [0; COMM_LEN],
            task: Task {
                uid: task.uid.filter(|_| user),
                ..*task
            },
            ..card.owner
        };
        if source == OwnerSource::Task || matches!(self.what, What::Accepted) {
            // It is the one on the CPU.
            (self.on_cpu.name, owner.thread) = (*thread, *thread);
        }
        self.owner = Some(owner);
    }
}

/// What an event tells that is no change of state, and whether that is its head alone.
#[inline(never)]
fn told(order: Order, bytes: &[u8], known: Abilities) -> Result<(What, bool), DecodeError> {
    let flags = EV_FLAGS.get(bytes, order);
    let has = |flag| flags & flag != 0;
    Ok(match EV_KIND.get(bytes, order) {
        KIND_RETRANS => {
            let what = What::Retransmit {
                state: State::from_number(EV_NEWSTATE.get(bytes, order)),
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
            };
            (what, false)
        }
        KIND_SYNACK => (What::SynAck, false),
        KIND_RST_SENT => {
            let reason = has(FLAG_REASON).then(|| EV_TOTAL.get(bytes, order));
            (What::ResetSent { reason }, true)
        }
        KIND_RST_RCVD => (What::ResetReceived, true),
        KIND_ACCEPT => (What::Accepted, false),
        KIND_DESTROY => {
            if bytes.len() < EV_GONE_SIZE.into() {
                return Err(DecodeError::Short);
            }
            let cookie = u64::read(&bytes[EV_OWNER.at..], order);
            (What::Destroyed { cookie }, true)
        }
        KIND_HELD => return Err(DecodeError::Foreign),
        _ => return Err(DecodeError::Kind),
    })
}

impl Card {
    /// Reads that of an event that has one.
    #[inline]
    fn read(&mut self, order: Order, bytes: &[u8], known: Abilities) {
        let Some(bytes) = bytes.first_chunk::<EV_SIZE>() else {
            return;
        };
        let family = EV_FLAGS.get(bytes, order) & FLAG_FAMILY != 0;
        let family = family.then(|| EV_FAMILY.get(bytes, order));
        let (local, peer) = (EV_LOCAL.get(bytes, order), EV_PEER.get(bytes, order));
        (self.wire, self.local, self.peer.addr) = addresses(family, local, peer);
        self.peer.port = EV_PEER_PORT.get(bytes, order);
        let kept = EV_OWNER.get(bytes, order);
        self.netns = OW_NETNS.get(&kept, order);
        self.owner.read(order, &kept, known);
    }
}

impl Owner {
    /// Reads an owner as the programs keep it; how it is known is told elsewhere.
    #[inline]
    fn read(&mut self, order: Order, kept: &[u8; OW_SIZE], known: Abilities) {
        let (tid, pid) = ids(OW_TASK.get(kept, order));
        let parent = OW_PARENT.get(kept, order);
        let cgroup = OW_CGROUP.get(kept, order);
        (self.task.tid, self.task.pid) = (tid, pid);
        self.task.uid = Some(OW_UID.get(kept, order)).filter(|uid| *uid != u32::MAX);
        self.task.name = name(OW_COMM.get(kept, order));
        self.thread = name(OW_THREAD.get(kept, order));
        self.parent = Some(parent).filter(|id| *id != 0 && known.contains(Abilities::PARENT));
        self.cgroup = Some(cgroup).filter(|id| *id != 0 && known.contains(Abilities::CGROUP));
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
    /// Reads those of an event from behind its card.
    #[inline]
    fn read(
        &mut self,
        order: Order,
        head: &[u8; EV_HEAD],
        bytes: &[u8; EV_COUNTED],
        known: Abilities,
    ) {
        let if_known = |flag: Abilities| known.contains(flag).then_some(());
        let fin = EV_SKFLAGS.get_behind(EV_SIZE, bytes, order) & SOCK_DONE != 0;
        *self = Counters {
            error: if_known(Abilities::SOCKET_ERROR)
                .map(|()| EV_SKERR.get_behind(EV_SIZE, bytes, order).saturating_abs()),
            bytes_sent: None,
            sent: if_known(Abilities::SENT).map(|()| Sent::decode(order, bytes, known)),
            bytes_retransmitted: if_known(Abilities::BYTES_SENT)
                .map(|()| EV_RETRANS.get_behind(EV_SIZE, bytes, order)),
            retransmits: if_known(Abilities::RETRANSMITS)
                .map(|()| EV_ALL_RETRANS.get_behind(EV_SIZE, bytes, order)),
            bytes_received: if_known(Abilities::BYTES_RECEIVED).map(|()| {
                EV_RECEIVED
                    .get_behind(EV_SIZE, bytes, order)
                    .saturating_sub(fin.into())
            }),
            fin_received: if_known(Abilities::BYTES_RECEIVED).map(|()| fin),
            segments_sent: if_known(Abilities::SEGMENTS_SENT)
                .map(|()| EV_SEGS_OUT.get_behind(EV_SIZE, bytes, order)),
            segments_received: if_known(Abilities::SEGMENTS_RECEIVED)
                .map(|()| EV_SEGS_IN.get_behind(EV_SIZE, bytes, order)),
            // In eighths of a microsecond; 0 before the first measurement.
            rtt_us: if_known(Abilities::RTT)
                .map(|()| EV_SRTT.get_behind(EV_SIZE, bytes, order) >> 3)
                .filter(|us| *us != 0),
            // All ones before the first measurement (tcp_init_sock()).
            min_rtt_us: if_known(Abilities::MIN_RTT)
                .map(|()| EV_MINRTT.get_behind(EV_SIZE, bytes, order))
                .filter(|us| *us != u32::MAX),
            has_socket: if_known(Abilities::SOCKET)
                .map(|()| EV_FLAGS.get(head, order) & FLAG_SOCKET != 0),
            time_wait_room: if_known(Abilities::TIME_WAIT)
                .and_then(|()| time_wait_room(order, head, bytes)),
        };
    }
}

impl Sent {
    #[inline]
    fn decode(order: Order, bytes: &[u8; EV_COUNTED], known: Abilities) -> Sent {
        let number = |number: &Field<u32>| number.get_behind(EV_SIZE, bytes, order);
        let (una, next, written) = (number(&EV_UNA), number(&EV_NXT), number(&EV_WRITTEN));
        let sent = EV_BYTES_SENT.get_behind(EV_SIZE, bytes, order);
        let again = EV_RETRANS.get_behind(EV_SIZE, bytes, order);
        Sent {
            acked: EV_ACKED.get_behind(EV_SIZE, bytes, order),
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
#[inline]
fn time_wait_room(order: Order, head: &[u8; EV_HEAD], bytes: &[u8; EV_COUNTED]) -> Option<bool> {
    let old = State::from_number(EV_OLDSTATE.get(head, order))?;
    if !matches!(old, State::FinWait2 | State::Closing) {
        return None;
    }
    let count = EV_TW_COUNT.get_behind(EV_SIZE, bytes, order);
    // A negative limit means one thing or the other, by the kernel's age.
    let limit = u32::try_from(EV_TW_LIMIT.get_behind(EV_SIZE, bytes, order)).ok()?;
    Some(count < limit)
}

/// The v6 fields hold every address, a v4 one as ::ffff:a.b.c.d
/// (include/trace/events/sock.h, TP_STORE_ADDRS). The connection is IPv4 on the
/// wire if the socket is, or if either end is v4-mapped.
#[inline]
pub fn addresses(family: Option<u16>, local: [u8; 16], peer: [u8; 16]) -> (Wire, IpAddr, IpAddr) {
    let mapped = |addr: [u8; 16]| u128::from_be_bytes(addr) >> 32 == 0xffff;
    if family == Some(AF_INET) || mapped(local) || mapped(peer) {
        let v4 = |addr: [u8; 16]| {
            let [.., a, b, c, d] = addr;
            IpAddr::V4(match mapped(addr) {
                true => Ipv4Addr::new(a, b, c, d),
                false => Ipv4Addr::UNSPECIFIED,
            })
        };
        (Wire::Ipv4, v4(local), v4(peer))
    } else {
        let v6 = |addr| IpAddr::V6(Ipv6Addr::from(addr));
        (Wire::Ipv6, v6(local), v6(peer))
    }
}

#[cfg(test)]
pub(crate) mod tests;
