//! What the search's helper says, as bytes in a pipe.
//!
//! Contract: all messages are equally long and are written whole, so that who
//! reads finds where each begins. The reader does not trust the writer: what
//! makes no sense is no message, whatever the bytes.

use super::Limits;
use super::lack::{Lack, Unlisted};
use crate::bpf::maps::Listener;
use crate::lifecycle::existing::{Existing, Seen};
use crate::model::event::{COMM_LEN, Owner, OwnerSource, Task};
use crate::model::tcp::{Endpoint, State};
use crate::sys::Errno;
use std::net::{IpAddr, Ipv6Addr};

/// A message, in bytes.
pub(crate) const LEN: usize = 128;

/// The search is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// When the first socket may have been seen (CLOCK_MONOTONIC, nanoseconds).
    pub start: u64,
    /// When the last one was.
    pub end: u64,
}

/// Something that the helper says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Every socket that was seen before has been told.
    Told(u64),
    /// A connection; they are numbered from 0 on.
    Connection(Existing),
    /// Whose the connection of this number is.
    Owner(u32, Owner),
    /// Listeners of one address.
    Listener(Listener),
    /// Something could not be had.
    Lack(Lack),
    /// There is a listener at this address of a network namespace.
    Listening(u32, Endpoint),
    /// The kernel chooses ports from this range, both ends in it, in a network
    /// namespace.
    Ports(u32, (u16, u16)),
    /// That was all.
    End(End),
}

/// What the search is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Whether the programs tell network namespaces apart.
    pub by_netns: bool,
    /// How many connections there is room for.
    pub room: u32,
    /// Until when it goes on.
    pub limits: Limits,
}

/// An order, in bytes.
pub(crate) const ORDER: usize = 24;

impl Order {
    /// As bytes.
    pub(crate) fn encode(&self) -> [u8; ORDER] {
        let mut out = Writer::<ORDER>::default();
        out.put(&self.limits.list.to_le_bytes());
        out.put(&self.limits.owners.to_le_bytes());
        out.put(&self.room.to_le_bytes());
        out.put(&[u8::from(self.by_netns)]);
        out.bytes
    }

    /// From bytes.
    pub(crate) fn decode(bytes: &[u8; ORDER]) -> Order {
        let mut from = Reader(bytes);
        let (list, owners) = (from.long(), from.long());
        Order {
            limits: Limits { list, owners },
            room: from.word(),
            by_netns: from.byte() != 0,
        }
    }
}

struct Writer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Writer<N> {
    fn default() -> Self {
        Writer {
            bytes: [0; N],
            len: 0,
        }
    }
}

impl<const N: usize> Writer<N> {
    /// What finds no room is left out; a test says that nothing is.
    fn put(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(part);
        }
        self.len = end;
    }

    fn optional(&mut self, word: Option<u64>) {
        self.put(&[u8::from(word.is_some())]);
        self.put(&word.unwrap_or(0).to_le_bytes());
    }

    fn endpoint(&mut self, end: &Endpoint) {
        let (four, address) = match end.addr {
            IpAddr::V4(v4) => (1, v4.to_ipv6_mapped()),
            IpAddr::V6(v6) => (0, v6),
        };
        self.put(&[four]);
        self.put(&address.octets());
        self.put(&end.port.to_le_bytes());
    }

    fn owner(&mut self, owner: &Owner) {
        self.put(&owner.task.pid.to_le_bytes());
        self.put(&owner.task.tid.to_le_bytes());
        self.put(&owner.task.name);
        self.optional(owner.task.uid.map(u64::from));
        self.optional(owner.parent.map(u64::from));
        self.optional(owner.cgroup);
        self.put(&[owner.source as u8]);
    }
}

/// Takes bytes apart; behind their end there are zeroes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((part, rest)) => {
                self.0 = rest;
                *part
            }
            None => [0; N],
        }
    }

    fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn optional(&mut self) -> Option<u64> {
        let there = self.byte() != 0;
        let value = self.long();
        there.then_some(value)
    }

    fn endpoint(&mut self) -> Option<Endpoint> {
        let four = self.byte() != 0;
        let address = Ipv6Addr::from(self.take::<16>());
        let addr = match four {
            true => IpAddr::V4(address.to_ipv4_mapped()?),
            false => IpAddr::V6(address),
        };
        let port = self.short();
        Some(Endpoint { addr, port })
    }

    fn seen(&mut self) -> Option<Seen> {
        let (start, end) = (self.long(), self.long());
        (start <= end).then_some(Seen { start, end })
    }

    fn owner(&mut self) -> Option<Owner> {
        let (pid, tid) = (self.word(), self.word());
        let name = self.take::<COMM_LEN>();
        let word = |long: Option<u64>| long.and_then(|long| u32::try_from(long).ok());
        let (uid, parent) = (word(self.optional()), word(self.optional()));
        let cgroup = self.optional();
        // It knows an owner by nothing else.
        let source = OwnerSource::from_number(self.byte())
            .filter(|s| matches!(s, OwnerSource::Snapshot | OwnerSource::Listener))?;
        Some(Owner {
            task: Task {
                pid,
                tid,
                uid,
                name,
            },
            thread: [0; COMM_LEN],
            parent,
            cgroup,
            source,
        })
    }
}

impl Message {
    /// As bytes.
    pub(crate) fn encode(&self) -> [u8; LEN] {
        self.write().bytes
    }

    fn write(&self) -> Writer<LEN> {
        let mut out = Writer::<LEN>::default();
        match self {
            Message::Told(time) => {
                out.put(&[1]);
                out.put(&time.to_le_bytes());
            }
            Message::Connection(found) => {
                out.put(&[2, found.state as u8]);
                out.put(&found.netns.to_le_bytes());
                out.put(&found.seen.start.to_le_bytes());
                out.put(&found.seen.end.to_le_bytes());
                out.endpoint(&found.local);
                out.endpoint(&found.peer);
            }
            Message::Owner(number, owner) => {
                out.put(&[3]);
                out.put(&number.to_le_bytes());
                out.owner(owner);
            }
            Message::Listener(listener) => {
                let flags = [listener.owner.is_some(), listener.shared].map(u8::from);
                out.put(&[4, flags[0] | flags[1] << 1]);
                out.put(&listener.netns.to_le_bytes());
                out.put(&listener.family.to_le_bytes());
                out.put(&listener.device.to_le_bytes());
                out.put(&listener.count.to_le_bytes());
                out.endpoint(&listener.local);
                if let Some(owner) = &listener.owner {
                    out.owner(owner);
                }
            }
            Message::Lack(lack) => {
                let (kind, a, b, c) = match *lack {
                    Lack::NoProc(errno) => (1, errno.0 as u64, 0, 0),
                    Lack::Unlisted(Unlisted::Namespace(errno)) => (2, errno.0 as u64, 0, 0),
                    Lack::Unlisted(Unlisted::Diag(errno)) => (3, errno.0 as u64, 0, 0),
                    Lack::Unlisted(Unlisted::Answer) => (4, 0, 0, 0),
                    Lack::OneNamespace => (5, 0, 0, 0),
                    Lack::OwnPids => (6, 0, 0, 0),
                    Lack::Denied { processes, allowed } => (7, processes.into(), allowed.into(), 0),
                    Lack::Beyond(connections) => (8, connections, 0, 0),
                    Lack::ListenersBeyond(listeners) => (9, listeners, 0, 0),
                    Lack::Short(errno) => (10, errno.0 as u64, 0, 0),
                    Lack::LeftOut {
                        namespaces,
                        processes,
                        descriptors,
                    } => (11, namespaces.into(), processes.into(), descriptors),
                    Lack::Broken(errno) => (12, errno.0 as u64, 0, 0),
                };
                out.put(&[5, kind]);
                [a, b, c]
                    .iter()
                    .for_each(|n: &u64| out.put(&n.to_le_bytes()));
            }
            Message::Listening(netns, local) => {
                out.put(&[7]);
                out.put(&netns.to_le_bytes());
                out.endpoint(local);
            }
            Message::Ports(netns, (first, last)) => {
                out.put(&[8]);
                out.put(&netns.to_le_bytes());
                out.put(&first.to_le_bytes());
                out.put(&last.to_le_bytes());
            }
            Message::End(end) => {
                out.put(&[6]);
                out.put(&end.start.to_le_bytes());
                out.put(&end.end.to_le_bytes());
            }
        }
        out
    }

    /// From bytes; `None` where they make no sense.
    pub(crate) fn decode(bytes: &[u8; LEN]) -> Option<Message> {
        let mut from = Reader(bytes);
        Some(match from.byte() {
            1 => Message::Told(from.long()),
            2 => {
                let state = State::from_number(from.byte())?;
                let netns = from.word();
                let seen = from.seen()?;
                Message::Connection(Existing {
                    netns,
                    seen,
                    local: from.endpoint()?,
                    peer: from.endpoint()?,
                    state,
                })
            }
            3 => Message::Owner(from.word(), from.owner()?),
            4 => {
                let flags = from.byte();
                let owned = flags & 1 != 0;
                let (netns, family) = (from.word(), from.short());
                let (device, count) = (from.word(), from.word());
                let local = from.endpoint()?;
                let owner = match owned {
                    true => Some(from.owner()?),
                    false => None,
                };
                Message::Listener(Listener {
                    netns,
                    family,
                    local,
                    device,
                    owner,
                    count,
                    shared: flags & 2 != 0,
                })
            }
            5 => {
                let kind = from.byte();
                let (a, b, c) = (from.long(), from.long(), from.long());
                let (errno, word) = (Errno(a as i32), |n: u64| u32::try_from(n).ok());
                Message::Lack(match kind {
                    1 => Lack::NoProc(errno),
                    2 => Lack::Unlisted(Unlisted::Namespace(errno)),
                    3 => Lack::Unlisted(Unlisted::Diag(errno)),
                    4 => Lack::Unlisted(Unlisted::Answer),
                    5 => Lack::OneNamespace,
                    6 => Lack::OwnPids,
                    7 => Lack::Denied {
                        processes: word(a)?,
                        allowed: b != 0,
                    },
                    8 => Lack::Beyond(a),
                    9 => Lack::ListenersBeyond(a),
                    10 => Lack::Short(errno),
                    11 => Lack::LeftOut {
                        namespaces: word(a)?,
                        processes: word(b)?,
                        descriptors: c,
                    },
                    12 => Lack::Broken(errno),
                    _ => return None,
                })
            }
            6 => {
                let Seen { start, end } = from.seen()?;
                Message::End(End { start, end })
            }
            7 => Message::Listening(from.word(), from.endpoint()?),
            8 => Message::Ports(from.word(), (from.short(), from.short())),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::tests::owner;
    use proptest::prelude::*;

    fn all() -> Vec<Message> {
        let end = |address: &str, port| Endpoint {
            addr: address.parse().expect("an address"),
            port,
        };
        let mut whose = owner(7, OwnerSource::Snapshot);
        (whose.parent, whose.cgroup) = (Some(3), Some(u64::MAX));
        whose.task.uid = Some(1000);
        let listener = Listener {
            netns: 9,
            family: 10,
            local: end("2001:db8::1", 443),
            device: 4,
            owner: Some(whose),
            count: 3,
            shared: true,
        };
        let mut all = vec![
            Message::Told(u64::MAX),
            Message::Connection(Existing {
                netns: u32::MAX,
                local: end("10.0.0.1", 65535),
                peer: end("::", 1),
                state: State::CloseWait,
                seen: Seen { start: 1, end: 2 },
            }),
            Message::Owner(u32::MAX, whose),
            Message::Listener(listener),
            Message::Listener(Listener {
                owner: None,
                ..listener
            }),
            Message::End(End { start: 3, end: 4 }),
        ];
        all.extend(super::super::lack::tests::ALL.map(Message::Lack));
        all
    }

    #[test]
    fn what_is_said_is_understood() {
        for message in all() {
            assert!(message.write().len <= LEN, "{message:?}");
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        let order = Order {
            by_netns: true,
            room: 7,
            limits: Limits {
                list: 8,
                owners: u64::MAX,
            },
        };
        assert_eq!(Order::decode(&order.encode()), order);
    }

    #[test]
    fn no_other_source_of_an_owner_is_believed() {
        for source in [OwnerSource::Task, OwnerSource::Cached, OwnerSource::Accept] {
            let message = Message::Owner(1, owner(7, source));
            assert_eq!(Message::decode(&message.encode()), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(kind in 0u8..8, rest in prop::collection::vec(any::<u8>(), LEN - 1)) {
            let mut bytes = [kind; LEN];
            bytes[1..].copy_from_slice(&rest);
            if let Some(message) = Message::decode(&bytes) {
                prop_assert_eq!(Message::decode(&message.encode()), Some(message));
            }
        }
    }
}
