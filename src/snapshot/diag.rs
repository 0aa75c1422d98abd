//! The messages of socket diagnosis: what is asked, and what is answered.
//!
//! Contract: the bytes of an answer are not trusted; what is cut short or makes
//! no sense is [`Answer::Malformed`], never a panic. Sockets that are no longer
//! or not yet whole are left out: those in TIME_WAIT, whose last change has been
//! told, and requests, which have none yet.
//! Layouts: include/uapi/linux/netlink.h, sock_diag.h and inet_diag.h.

use crate::model::event::{Counters, Destroyed, Sent};
use crate::model::tcp::{Endpoint, State, Wire};
use crate::sys::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// struct nlmsghdr, in bytes.
const HEADER: usize = 16;
/// struct inet_diag_req_v2, in bytes.
const REQUEST: usize = 56;
/// struct inet_diag_msg, in bytes.
const MESSAGE: usize = 72;
/// INET_DIAG_INFO: struct tcp_info.
const INFO: u16 = 2;
/// INET_DIAG_CGROUP_ID, of every socket (Linux 5.9 and later).
const CGROUP_ID: u16 = 21;
/// Bits of an attribute's type that are no part of it (NLA_TYPE_MASK).
const TYPE_FLAGS: u16 = 0xc000;
/// `idiag_timer` of a time-wait socket (net/ipv4/inet_diag.c,
/// inet_twsk_diag_fill); its `idiag_state` may be FIN_WAIT2.
const TIMER_TIME_WAIT: u8 = 3;

/// The states of what exists. SYN_RECV brings requests along, too.
pub const STATES: [State; 9] = [
    State::Established,
    State::SynSent,
    State::SynRecv,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::LastAck,
    State::Listen,
    State::Closing,
];

/// AF_INET
pub const AF_INET: u16 = libc::AF_INET as u16;
/// AF_INET6
pub const AF_INET6: u16 = libc::AF_INET6 as u16;

/// A socket, as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// AF_INET or AF_INET6.
    pub family: u16,
    /// Its state.
    pub state: State,
    /// This end.
    pub local: Endpoint,
    /// The other end; unspecified for a listener.
    pub peer: Endpoint,
    /// IP version on the wire.
    pub wire: Wire,
    /// The user who made it, as the user namespace of this process has it.
    pub uid: u32,
    /// Its inode: what `/proc/PID/fd` calls it. 0 where no process has it:
    /// orphans, and what nobody has accepted yet.
    pub inode: u32,
    /// The network device it is bound to: its index, 0 for none.
    pub device: u32,
    /// Id of its cgroup (version 2), where the kernel tells.
    pub cgroup: Option<u64>,
    /// What it has counted, where that was asked for; see [`Destroyed::counters`].
    pub counters: Option<Counters>,
}

/// How a dump goes on after a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// More is to come.
    More,
    /// That was all.
    Done,
    /// The kernel gave up.
    Failed(Errno),
    /// What came can't be understood.
    Malformed,
}

/// The request for the TCP sockets of a family that are in these states; for
/// none, it is answered without a look at them. `sequence` comes back in every
/// answer.
pub fn request(family: u16, sequence: u32, states: &[State]) -> [u8; HEADER + REQUEST] {
    let states = states.iter().fold(0u32, |all, s| all | 1 << *s as u8);
    let mut out = [0; HEADER + REQUEST];
    let mut put = |at: usize, part: &[u8]| out[at..at + part.len()].copy_from_slice(part);
    put(0, &((HEADER + REQUEST) as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    put(8, &sequence.to_ne_bytes());
    put(HEADER, &[family as u8, libc::IPPROTO_TCP as u8]);
    put(HEADER + 4, &states.to_ne_bytes());
    out
}

/// The request for those that are connections, with what they have counted.
pub(crate) fn request_counters(family: u16, sequence: u32) -> [u8; HEADER + REQUEST] {
    let connections = STATES.map(|state| match state {
        State::Listen => State::Established,
        other => other,
    });
    let mut out = request(family, sequence, &connections);
    out[HEADER + 2] = 1 << (INFO - 1);
    out
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Hands out the sockets of a datagram. Answers to other requests than that of
/// this `sequence` are passed over.
pub fn read(mut bytes: &[u8], sequence: u32, each: &mut dyn FnMut(&Socket)) -> Answer {
    let word = |b: &[u8], at| part(b, at).map(u32::from_ne_bytes);
    while !bytes.is_empty() {
        let (Some(len), Some(kind), Some(found)) = (
            word(bytes, 0).map(|len| len as usize),
            part(bytes, 4).map(u16::from_ne_bytes),
            word(bytes, 8),
        ) else {
            return Answer::Malformed;
        };
        let Some(message) = bytes.get(HEADER..len) else {
            return Answer::Malformed;
        };
        if found == sequence {
            match kind {
                SOCK_DIAG_BY_FAMILY => match socket(message) {
                    Some(Some(socket)) => each(&socket),
                    Some(None) => {}
                    None => return Answer::Malformed,
                },
                // The error, negative; a dump's end may carry one, too.
                NLMSG_DONE | NLMSG_ERROR => {
                    return match word(message, 0).map(|e| (e as i32).saturating_abs()) {
                        None | Some(0) if kind == NLMSG_DONE => Answer::Done,
                        None | Some(0) => Answer::Malformed,
                        Some(errno) => Answer::Failed(Errno(errno)),
                    };
                }
                _ => {}
            }
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Answer::More
}

/// A message's socket; `Some(None)` is one that is left out, `None` no socket.
fn socket(message: &[u8]) -> Option<Option<Socket>> {
    let base: &[u8; MESSAGE] = message.first_chunk()?;
    let state = State::from_number(base[1])?;
    let word = |at| part(base, at).map(u32::from_ne_bytes);
    let family = u16::from(base[0]);
    let address = |at| match family {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(part::<4>(base, at)?))),
        AF_INET6 => {
            let address = Ipv6Addr::from(part::<16>(base, at)?);
            Some(IpAddr::V6(address).to_canonical())
        }
        _ => None,
    };
    let end = |port, addr| {
        Some(Endpoint {
            addr: address(addr)?,
            port: part(base, port).map(u16::from_be_bytes)?,
        })
    };
    let (local, peer, uid, inode) = (end(4, 8)?, end(6, 24)?, word(64)?, word(68)?);
    let request = state == State::SynRecv && inode == 0;
    if base[2] == TIMER_TIME_WAIT || request || !STATES.contains(&state) {
        return Some(None);
    }
    Some(Some(Socket {
        family,
        state,
        local,
        peer,
        wire: match local.addr.is_ipv4() || peer.addr.is_ipv4() {
            true => Wire::Ipv4,
            false => Wire::Ipv6,
        },
        device: word(40)?,
        uid,
        inode,
        cgroup: attribute(&message[MESSAGE..], CGROUP_ID)
            .and_then(|value| part(value, 0).map(u64::from_ne_bytes))
            .filter(|id| *id != 0),
        counters: counters(message),
    }))
}

/// The value of this kind among a message's attributes. One that is cut short
/// ends them.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(part(attributes, 0).map(u16::from_ne_bytes)?);
        let kind = part(attributes, 2).map(u16::from_ne_bytes)?;
        let value = attributes.get(4..len)?;
        if kind & !TYPE_FLAGS == wanted {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// What a datagram says of a socket that was destroyed (v6.12
/// net/core/sock_diag.c, sock_diag_broadcast_destroy_work(): one message, with
/// the cookie and struct tcp_info). `None` where it makes no sense.
pub fn destroyed(datagram: &[u8]) -> Option<Destroyed> {
    let len = part(datagram, 0).map(u32::from_ne_bytes)?;
    let message = datagram.get(HEADER..len as usize)?;
    let base: &[u8; MESSAGE] = message.first_chunk()?;
    if part(datagram, 4).map(u16::from_ne_bytes)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    Some(Destroyed {
        cookie: part(base, 44).map(u64::from_ne_bytes)?,
        counters: counters(message)?,
        unread: part(base, 56).map(u32::from_ne_bytes)?,
    })
}

/// What a message says that its socket has counted.
fn counters(message: &[u8]) -> Option<Counters> {
    let base: &[u8; MESSAGE] = message.first_chunk()?;
    // Longer from one kernel to the next; what is beyond its end is not told.
    let info = attribute(&message[MESSAGE..], INFO)?;
    let word = |at| part(info, at).map(u32::from_ne_bytes);
    let long = |at| part(info, at).map(u64::from_ne_bytes);
    // tcpi_bytes_sent counts retransmissions again: tcpi_bytes_retrans.
    let handed = long(200).zip(long(208));
    let handed = handed.map(|(all, again)| all.saturating_sub(again));
    // idiag_wqueue is all from snd_una on, tcpi_notsent_bytes all from snd_nxt on
    // (v6.12 net/ipv4/tcp_diag.c and tcp.c, tcp_get_info()).
    let queued: u32 = part(base, 60).map(u32::from_ne_bytes)?;
    let sent = long(120).zip(word(144)).map(|(acked, unsent)| Sent {
        acked,
        in_flight: queued.saturating_sub(unsent),
        unsent,
        handed,
    });
    Some(Counters {
        sent,
        bytes_retransmitted: long(208),
        retransmits: word(100),
        bytes_received: long(128),
        segments_sent: word(136),
        segments_received: word(140),
        rtt_us: word(68).filter(|us| *us != 0),
        min_rtt_us: word(148).filter(|us| *us != u32::MAX),
        ..Counters::default()
    })
}

#[cfg(test)]
pub mod tests;
