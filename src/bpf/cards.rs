//! What belongs to a socket and was told once: its card.
//!
//! Contract: the programs' map `owners` is the truth, and this follows it. What a program marks as a card (FLAG_CARD) is
//! kept until the socket's CLOSE; an event without one is filled in from it. Memory is bounded: there are no more sockets
//! with a card than the map has room for, but for those whose CLOSE was lost, and of these the ones that were not heard of
//! for longest go first.

use crate::model::event::{COMM_LEN, Owner, OwnerSource, Task};
use crate::model::hash::Mix;
use crate::model::recent::Recent;
use crate::model::tcp::{Endpoint, Wire};
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, Ipv6Addr};

/// What belongs to a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Card {
    /// Its owner, with the name of the owner's thread; how it is known is told by each event.
    pub(crate) owner: Owner,
    /// Its network namespace, 0 where it isn't known.
    pub(crate) netns: u32,
    /// The address of this end.
    pub(crate) local: IpAddr,
    /// The other end.
    pub(crate) peer: Endpoint,
    /// IP version on the wire.
    pub(crate) wire: Wire,
}

/// The ends of an event that doesn't tell them.
pub(crate) const NOWHERE: (Wire, IpAddr, Endpoint) = {
    let addr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    (Wire::Ipv6, addr, Endpoint { addr, port: 0 })
};

/// A card that tells nothing.
const BLANK: Card = Card {
    owner: Owner {
        task: Task {
            pid: 0,
            tid: 0,
            uid: None,
            name: [0; COMM_LEN],
        },
        thread: [0; COMM_LEN],
        parent: None,
        cgroup: None,
        source: OwnerSource::Cached,
    },
    netns: 0,
    local: NOWHERE.1,
    peer: NOWHERE.2,
    wire: NOWHERE.0,
};

/// The cards of all sockets.
#[derive(Debug)]
pub struct Cards {
    known: Recent<Card, BuildHasherDefault<Mix>>,
    /// That of an event which is not to be kept.
    other: Card,
    missing: u64,
}

impl Cards {
    /// None yet, with room for so many.
    pub fn new(room: usize) -> Cards {
        Cards {
            known: Recent::new(room),
            other: BLANK,
            missing: 0,
        }
    }

    /// Events so far whose card was not here.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Where the card of a socket is to be written to, all of it; `None` is one that is not
    /// kept.
    #[inline]
    pub(super) fn place(&mut self, socket: Option<u64>) -> &mut Card {
        let kept = socket.and_then(|socket| self.known.place(socket, &BLANK));
        kept.unwrap_or(&mut self.other)
    }

    /// The card of a socket; where it is missing, that is counted.
    #[inline(always)]
    pub(super) fn get(&mut self, socket: u64) -> Option<&Card> {
        let card = self.known.get(socket);
        self.missing += u64::from(card.is_none());
        card.map(|card| &*card)
    }

    /// The same, where that it is missing is no matter.
    #[inline]
    pub(super) fn find(&mut self, socket: u64) -> Option<&Card> {
        self.known.get(socket).map(|card| &*card)
    }

    /// The socket is closed.
    #[inline]
    pub(super) fn remove(&mut self, socket: u64) {
        self.known.remove(socket);
    }
}
