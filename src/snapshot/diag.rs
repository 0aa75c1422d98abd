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
    Some(Destroyed {
        cookie: part(base, 44).map(u64::from_ne_bytes)?,
        counters: Counters {
            sent,
            bytes_retransmitted: long(208),
            retransmits: word(100),
            bytes_received: long(128),
            segments_sent: word(136),
            segments_received: word(140),
            rtt_us: word(68).filter(|us| *us != 0),
            min_rtt_us: word(148).filter(|us| *us != u32::MAX),
            ..Counters::default()
        },
        unread: part(base, 56).map(u32::from_ne_bytes)?,
    })
}

#[cfg(test)]
pub mod tests {
    //! Answers for the tests of other modules, and the reader's own.
    use super::*;
    use proptest::prelude::*;

    /// A message with these contents.
    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut out = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend([0; 2]);
        out.extend(sequence.to_ne_bytes());
        out.extend([0; 4]);
        out.extend(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// An IPv4 socket 10.0.0.1:80 - 10.0.0.2:4000 of user 1000.
    fn body(state: u8, timer: u8, inode: u32) -> Vec<u8> {
        let mut out = vec![0; MESSAGE];
        out[0] = AF_INET as u8;
        out[1] = state;
        out[2] = timer;
        out[4..6].copy_from_slice(&80u16.to_be_bytes());
        out[6..8].copy_from_slice(&4000u16.to_be_bytes());
        out[8..12].copy_from_slice(&[10, 0, 0, 1]);
        out[24..28].copy_from_slice(&[10, 0, 0, 2]);
        out[40..44].copy_from_slice(&3u32.to_ne_bytes());
        out[64..68].copy_from_slice(&1000u32.to_ne_bytes());
        out[68..72].copy_from_slice(&inode.to_ne_bytes());
        out
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn all(bytes: &[u8], sequence: u32) -> (Vec<Socket>, Answer) {
        let mut found = Vec::new();
        let answer = read(bytes, sequence, &mut |socket| found.push(*socket));
        (found, answer)
    }

    #[test]
    fn a_socket_with_everything() {
        let mut bytes = body(1, 0, 77);
        bytes.extend(attribute(8, &[0]));
        bytes.extend(attribute(CGROUP_ID, &5000u64.to_ne_bytes()));
        let mut datagram = message(SOCK_DIAG_BY_FAMILY, 9, &bytes);
        datagram.extend(message(NLMSG_DONE, 9, &[0; 4]));
        let (found, answer) = all(&datagram, 9);
        assert_eq!(answer, Answer::Done);
        let end = |text: &str, port| Endpoint {
            addr: text.parse().expect("an address"),
            port,
        };
        let expected = Socket {
            family: AF_INET,
            state: State::Established,
            local: end("10.0.0.1", 80),
            peer: end("10.0.0.2", 4000),
            wire: Wire::Ipv4,
            device: 3,
            uid: 1000,
            inode: 77,
            cgroup: Some(5000),
        };
        assert_eq!(found, [expected]);
        // Somebody else's.
        assert_eq!(all(&datagram, 8), (vec![], Answer::More));
    }

    #[test]
    fn ipv6_and_ipv4_within_it() {
        let mut bytes = body(10, 0, 1);
        bytes[0] = AF_INET6 as u8;
        bytes[8..40].fill(0);
        let (found, _) = all(&message(SOCK_DIAG_BY_FAMILY, 1, &bytes), 1);
        assert_eq!(found[0].local.addr.to_string(), "::");
        assert_eq!((found[0].wire, found[0].family), (Wire::Ipv6, AF_INET6));
        bytes[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        let (found, _) = all(&message(SOCK_DIAG_BY_FAMILY, 1, &bytes), 1);
        assert_eq!(found[0].local.addr.to_string(), "127.0.0.1");
        assert_eq!((found[0].wire, found[0].family), (Wire::Ipv4, AF_INET6));
    }

    #[test]
    fn what_is_not_whole_is_left_out() {
        let one = |body: Vec<u8>| all(&message(SOCK_DIAG_BY_FAMILY, 1, &body), 1);
        let none = (vec![], Answer::More);
        // TIME_WAIT, by its name and as FIN_WAIT2; a request; no state asked for.
        assert_eq!(one(body(6, 0, 1)), none);
        assert_eq!(one(body(5, TIMER_TIME_WAIT, 0)), none);
        assert_eq!(one(body(3, 1, 0)), none);
        assert_eq!(one(body(7, 0, 1)), none);
        // Whole: an orphan, and a socket of TCP fast open.
        assert_eq!(one(body(5, 0, 0)).0.len(), 1);
        assert_eq!(one(body(3, 1, 5)).0.len(), 1);
    }

    /// A message about a destroyed socket, with so much of struct tcp_info.
    fn last_word(info: usize) -> Vec<u8> {
        let mut bytes = body(7, 0, 0);
        bytes[44..52].copy_from_slice(&77u64.to_ne_bytes());
        bytes[56..60].copy_from_slice(&1u32.to_ne_bytes());
        bytes[60..64].copy_from_slice(&30u32.to_ne_bytes());
        let mut all = vec![0; 280];
        for (at, value) in [(120, 971u64), (128, 11), (200, 1500), (208, 500)] {
            all[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        for (at, value) in [
            (68, 21u32),
            (100, 9),
            (136, 6),
            (140, 4),
            (144, 10),
            (148, 8),
        ] {
            all[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes.extend(attribute(10, &[6]));
        bytes.extend(attribute(INFO, &all[..info]));
        message(SOCK_DIAG_BY_FAMILY, 0, &bytes)
    }

    #[test]
    fn a_destroyed_socket() {
        let mut expected = Destroyed {
            cookie: 77,
            counters: Counters {
                sent: Some(Sent {
                    acked: 971,
                    in_flight: 20,
                    unsent: 10,
                    handed: Some(1000),
                }),
                bytes_retransmitted: Some(500),
                retransmits: Some(9),
                bytes_received: Some(11),
                segments_sent: Some(6),
                segments_received: Some(4),
                rtt_us: Some(21),
                min_rtt_us: Some(8),
                ..Counters::default()
            },
            unread: 1,
        };
        assert_eq!(destroyed(&last_word(280)), Some(expected));
        // Older kernels tell less (before Linux 4.19).
        expected.counters.sent = expected.counters.sent.map(|sent| Sent {
            handed: None,
            ..sent
        });
        expected.counters.bytes_retransmitted = None;
        assert_eq!(destroyed(&last_word(200)), Some(expected));
        expected.counters = Counters::default();
        assert_eq!(destroyed(&last_word(0)), Some(expected));
        let whole = last_word(280);
        for cut in 0..whole.len() {
            assert_eq!(destroyed(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(destroyed(&message(NLMSG_DONE, 0, &[0; 400])), None);
        assert_eq!(
            destroyed(&message(SOCK_DIAG_BY_FAMILY, 0, &body(7, 0, 0))),
            None
        );
    }

    #[test]
    fn errors_are_told() {
        let errno = |kind, value: i32| all(&message(kind, 1, &value.to_ne_bytes()), 1).1;
        assert_eq!(errno(NLMSG_ERROR, -2), Answer::Failed(Errno::ENOENT));
        assert_eq!(errno(NLMSG_DONE, -12), Answer::Failed(Errno::ENOMEM));
        assert_eq!(errno(NLMSG_DONE, 0), Answer::Done);
        assert_eq!(errno(NLMSG_ERROR, 0), Answer::Malformed);
        assert_eq!(
            errno(NLMSG_ERROR, i32::MIN),
            Answer::Failed(Errno(i32::MAX))
        );
    }

    #[test]
    fn what_makes_no_sense_is_malformed() {
        let whole = message(SOCK_DIAG_BY_FAMILY, 1, &body(1, 0, 1));
        for cut in 1..whole.len() {
            assert_eq!(all(&whole[..cut], 1), (vec![], Answer::Malformed), "{cut}");
        }
        let mut bad = body(1, 0, 1);
        bad[0] = 1;
        let unix = message(SOCK_DIAG_BY_FAMILY, 1, &bad);
        assert_eq!(all(&unix, 1).1, Answer::Malformed);
        let stateless = message(SOCK_DIAG_BY_FAMILY, 1, &body(0, 0, 1));
        assert_eq!(all(&stateless, 1).1, Answer::Malformed);
        // A length that leads nowhere.
        assert_eq!(all(&[0; 16], 0).1, Answer::Malformed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            all(&bytes, 0);
            destroyed(&bytes);
        }

        #[test]
        fn any_damage_is_survived(at in 0usize..200, value in any::<u8>(), cut in 0usize..200) {
            let mut bytes = body(1, 0, 77);
            bytes.extend(attribute(CGROUP_ID, &5000u64.to_ne_bytes()));
            let mut datagram = message(SOCK_DIAG_BY_FAMILY, 1, &bytes);
            datagram.extend(message(NLMSG_DONE, 1, &[0; 4]));
            let len = datagram.len();
            datagram[at % len] = value;
            let (found, _) = all(&datagram[..len - cut % len], 1);
            prop_assert!(found.len() <= 1);
        }

        #[test]
        fn what_is_written_is_read(
            v6 in any::<bool>(), state in 1u8..=12, local in any::<[u8; 16]>(),
            peer in any::<[u8; 16]>(), ports in any::<(u16, u16)>(), uid in any::<u32>(),
            inode in 1u32.., group in 1u64..
        ) {
            let mut bytes = body(state, 0, inode);
            bytes[0] = if v6 { AF_INET6 } else { AF_INET } as u8;
            bytes[4..6].copy_from_slice(&ports.0.to_be_bytes());
            bytes[6..8].copy_from_slice(&ports.1.to_be_bytes());
            bytes[8..24].copy_from_slice(&local);
            bytes[24..40].copy_from_slice(&peer);
            bytes[64..68].copy_from_slice(&uid.to_ne_bytes());
            bytes.extend(attribute(CGROUP_ID, &group.to_ne_bytes()));
            let (found, answer) = all(&message(SOCK_DIAG_BY_FAMILY, 3, &bytes), 3);
            prop_assert_eq!(answer, Answer::More);
            let kept = STATES.iter().any(|s| *s as u8 == state);
            prop_assert_eq!(found.len(), usize::from(kept));
            for socket in found {
                prop_assert_eq!((socket.local.port, socket.peer.port), ports);
                prop_assert_eq!((socket.uid, socket.inode), (uid, inode));
                prop_assert_eq!(socket.cgroup, Some(group));
                let expected = if v6 {
                    IpAddr::from(local).to_canonical()
                } else {
                    IpAddr::from([local[0], local[1], local[2], local[3]])
                };
                prop_assert_eq!(socket.local.addr, expected);
            }
        }
    }
}
