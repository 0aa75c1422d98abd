//! The connections that were open before the start, until an event or the end
//! tells which socket each one is.
//!
//! Contract: the scan that finds them and the events overlap in time, and
//! neither names the sockets as the other does: they are brought together by
//! their ends. [`Table::claim`] says of a socket that it is one of these only if
//! it cannot be another one with the same ends: it must have been there before
//! that one was seen, and still be there after. Each is claimed once at most.
//! One that was found may have been closed before it is told here: what closes
//! meanwhile is remembered by its ends. Memory is bounded: at most `capacity` are
//! held.

mod openers;

use crate::model::event::Owner;
use crate::model::hash::Keyed;
use crate::model::sieve::Sieve;
use crate::model::sort;
use crate::model::table::TableByNumber;
use crate::model::tcp::{Endpoint, State};
use openers::Openers;
use std::hash::BuildHasher;
use std::ops::RangeInclusive;

/// Closed ones that are remembered while the scan goes on; when there are more,
/// none that was seen before is believed to be open still.
const CLOSED: usize = 16384;

/// When the kernel looked at a socket: not before, and not after (CLOCK_MONOTONIC,
/// nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Not before.
    pub start: u64,
    /// Not after.
    pub end: u64,
}

/// Both ends of a connection, this host's first, and its network namespace.
pub type Ends<'a> = (&'a Endpoint, &'a Endpoint, u32);

/// A connection that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its network namespace: the inode number of /proc/PID/ns/net.
    pub netns: u32,
    /// This end.
    pub local: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// Its state then.
    pub state: State,
    /// When that was.
    pub seen: Seen,
}

/// A connection of which an event came.
#[derive(Clone, Copy, Debug)]
pub struct Claimant {
    /// The socket's address in the kernel.
    pub socket: u64,
    /// The number of its connection.
    pub number: u64,
    /// Its network namespace, where the event tells.
    pub netns: Option<u32>,
    /// This end.
    pub local: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// When it was opened; `None` if that was before the start.
    pub born: Option<u64>,
    /// A time at which it was there: that of the event.
    pub at: u64,
    /// Whether that is its last event.
    pub closing: bool,
}

/// Which of the connections a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// That one, with its owner as far as it is known by now and when the scan
    /// began that found it; and whether the peer opened it, as far as that is
    /// known.
    Is(Option<(Owner, u64)>, bool),
    /// None of them.
    None,
    /// It can't be told yet.
    NotYet,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    /// No event has come.
    Untouched(Seen),
    /// It is this socket and this connection's number.
    Claimed(u64, u64),
    /// It was closed meanwhile.
    Gone,
}

#[derive(Debug)]
struct Entry {
    netns: u32,
    local: Endpoint,
    peer: Endpoint,
    fate: Fate,
    /// 0 where it isn't known, else one more than an index of `owners`.
    owner: u32,
}

/// What a [`Sieve`] tells two ends apart by.
#[inline]
fn ports(local: &Endpoint, peer: &Endpoint) -> u32 {
    (u32::from(local.port) * 0x9e35) ^ u32::from(peer.port)
}

/// The connections that were open before the start.
#[derive(Debug)]
pub struct Table {
    capacity: usize,
    begun: u64,
    complete: bool,
    untouched: usize,
    entries: Vec<Entry>,
    /// The upper half of the hash of the ends, and the index of the entry.
    index: Vec<u64>,
    sorted: bool,
    /// Bits by the ports of all: most that come are none of them.
    sieve: Sieve,
    hasher: Keyed,
    owners: Vec<Owner>,
    openers: Openers,
    /// By the hash of the ends: the namespace of what was closed last, and when.
    closed: TableByNumber<(Option<u32>, u64)>,
    /// Until when something may have been closed that isn't remembered.
    forgotten: u64,
}

impl Table {
    /// An empty table that will stay so, until [`Table::begin`].
    pub fn new(capacity: usize) -> Table {
        Table {
            capacity: capacity.min(u32::MAX as usize - 1),
            begun: 0,
            complete: true,
            untouched: 0,
            entries: Vec::new(),
            index: Vec::new(),
            sorted: true,
            sieve: Sieve::new(),
            hasher: Keyed::default(),
            owners: Vec::new(),
            openers: Openers::default(),
            closed: TableByNumber::default(),
            forgotten: 0,
        }
    }

    /// When the scan began, in nanoseconds of the event clock.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// There is a listener at this address of a network namespace.
    pub fn listening(&mut self, netns: u32, local: Endpoint) {
        if self.openers.listening.len() < self.capacity {
            self.openers.listening.push((netns, local.port, local.addr));
        }
    }

    /// The kernel chooses ports from this range in a network namespace.
    pub fn ports(&mut self, netns: u32, range: RangeInclusive<u16>) {
        if self.openers.ranges.len() < self.capacity {
            self.openers.ranges.push((netns, range));
        }
    }

    fn is_incoming(&self, entry: &Entry) -> bool {
        self.openers
            .is_incoming(entry.netns, &entry.local, &entry.peer)
    }

    /// Those that turned out to be a connection, and that the peer opened: the
    /// socket and the number of each.
    pub fn incoming(&self) -> impl Iterator<Item = (u64, u64)> {
        let entries = self.entries.iter();
        entries.filter_map(|entry| match entry.fate {
            Fate::Claimed(socket, number) => self.is_incoming(entry).then_some((socket, number)),
            Fate::Untouched(_) | Fate::Gone => None,
        })
    }

    /// The scan begins, at this time.
    pub fn begin(&mut self, time: u64) {
        self.begun = time;
        self.complete = false;
    }

    /// The scan is done: no more come.
    pub fn complete(&mut self) {
        self.complete = true;
        self.openers.complete();
        self.closed = TableByNumber::default();
        self.sort();
        // What was listed twice, as the kernel does where sockets come and go
        // meanwhile, is retired but for the last time.
        for place in 0..self.index.len() {
            let entry = &self.entries[self.index[place] as u32 as usize];
            let ends = (entry.local, entry.peer, Some(entry.netns));
            if matches!(entry.fate, Fate::Untouched(_)) {
                self.find(ends);
            }
        }
    }

    fn sort(&mut self) {
        if !self.sorted {
            sort::numbers(&mut self.index);
            self.sorted = true;
        }
    }

    fn hash(&self, local: &Endpoint, peer: &Endpoint) -> u64 {
        self.hasher.hash_one((local, peer)) >> 32 << 32
    }

    /// A socket with these ends was closed. One that was seen before and is told
    /// only later is then known to be gone.
    #[inline]
    pub fn closes(&mut self, local: &Endpoint, peer: &Endpoint, netns: Option<u32>, at: u64) {
        if !self.complete {
            self.remember(local, peer, netns, at);
        }
    }

    #[inline(never)]
    fn remember(&mut self, local: &Endpoint, peer: &Endpoint, netns: Option<u32>, at: u64) {
        let hash = self.hasher.hash_one((local, peer));
        let room = self.closed.len() < CLOSED;
        match self.closed.get_mut(hash) {
            // In different namespaces: it may be either.
            Some(last) => *last = (netns.filter(|_| last.0 == netns), last.1.max(at)),
            None if room => self.closed.insert(hash, (netns, at)),
            None => self.forgotten = self.forgotten.max(at),
        }
    }

    /// Whether what was found may have been closed since.
    fn has_gone(&self, found: &Existing) -> bool {
        let hash = self.hasher.hash_one((found.local, found.peer));
        let same = self.closed.get(hash);
        let same = same.filter(|(netns, _)| netns.is_none_or(|netns| netns == found.netns));
        same.map_or(0, |(_, at)| *at).max(self.forgotten) >= found.seen.start
    }

    /// Adds one; the number to call it by, `None` where the table is full.
    pub fn add(&mut self, found: &Existing) -> Option<u32> {
        if self.entries.len() >= self.capacity {
            return None;
        }
        let number = self.entries.len() as u32;
        let hash = self.hash(&found.local, &found.peer);
        self.index.push(hash | u64::from(number));
        self.sorted = false;
        self.sieve.add(ports(&found.local, &found.peer));
        let fate = match self.has_gone(found) {
            true => Fate::Gone,
            false => Fate::Untouched(found.seen),
        };
        self.untouched += usize::from(matches!(fate, Fate::Untouched(_)));
        self.entries.push(Entry {
            netns: found.netns,
            local: found.local,
            peer: found.peer,
            fate,
            owner: 0,
        });
        Some(number)
    }

    /// Says whose it is. Returns the socket and the number of the connection
    /// that it has turned out to be meanwhile.
    pub fn own(&mut self, number: u32, owner: &Owner) -> Option<(u64, u64)> {
        let entry = self.entries.get_mut(number as usize)?;
        if self.owners.last() != Some(owner) {
            self.owners.push(*owner);
        }
        entry.owner = self.owners.len() as u32;
        match entry.fate {
            Fate::Claimed(socket, number) => Some((socket, number)),
            Fate::Untouched(_) | Fate::Gone => None,
        }
    }

    fn owner(&self, entry: &Entry) -> Option<Owner> {
        let index = entry.owner.checked_sub(1)?;
        self.owners.get(index as usize).copied()
    }

    /// The untouched one with these ends, in this namespace or any; `None` also
    /// if several namespaces have one. Of those that a namespace seems to have
    /// only the last is: the others were the same, or closed before it.
    fn find(&mut self, (local, peer, netns): (Endpoint, Endpoint, Option<u32>)) -> Option<usize> {
        self.sort();
        let hash = self.hash(&local, &peer);
        let first = self.index.partition_point(|place| *place < hash);
        let (mut found, mut ambiguous) = (None::<usize>, false);
        for place in &self.index[first..] {
            if place >> 32 != hash >> 32 {
                break;
            }
            let number = *place as u32 as usize;
            let entry = &self.entries[number];
            let same = matches!(entry.fate, Fate::Untouched(_))
                && (entry.local, entry.peer) == (local, peer)
                && netns.is_none_or(|netns| netns == entry.netns);
            if !same {
                continue;
            }
            let netns = entry.netns;
            if let Some(before) = found.replace(number) {
                if self.entries[before].netns == netns {
                    self.entries[before].fate = Fate::Gone;
                    self.untouched -= 1;
                } else {
                    ambiguous = true;
                }
            }
        }
        found.filter(|_| !ambiguous)
    }

    /// Which of the connections a socket is. To be asked at each of its events
    /// until the answer is another one than [`Claim::NotYet`].
    #[inline]
    pub fn claim(&mut self, claimant: &Claimant) -> Claim {
        let unknown = match self.complete {
            true => Claim::None,
            false => Claim::NotYet,
        };
        let ports = ports(&claimant.local, &claimant.peer);
        if self.untouched == 0 || !self.sieve.may_have(ports) {
            return unknown;
        }
        let Some(found) = self.find((claimant.local, claimant.peer, claimant.netns)) else {
            return unknown;
        };
        let entry = &mut self.entries[found];
        let Fate::Untouched(seen) = entry.fate else {
            return unknown;
        };
        let before = claimant.born.is_none_or(|born| born < seen.start);
        let fate = match (before, claimant.at >= seen.end) {
            (true, true) => Fate::Claimed(claimant.socket, claimant.number),
            // What was seen must have been closed before this one was opened.
            (false, true) => Fate::Gone,
            // Closed while it was seen: it or one before it.
            (_, false) if claimant.closing && claimant.at >= seen.start => Fate::Gone,
            (_, false) => return Claim::NotYet,
        };
        entry.fate = fate;
        self.untouched -= 1;
        match fate {
            Fate::Claimed(..) => {
                let entry = &self.entries[found];
                let owner = self.owner(entry).map(|owner| (owner, self.begun));
                Claim::Is(owner, self.is_incoming(entry))
            }
            Fate::Untouched(_) | Fate::Gone => Claim::None,
        }
    }

    /// How many were found.
    pub(crate) fn places(&self) -> usize {
        self.entries.len()
    }

    /// The one in this place, if no event of it has come: its ends, its network
    /// namespace, its owner, and whether it is known that the peer opened it.
    pub(crate) fn at(
        &self,
        place: usize,
    ) -> Option<(Endpoint, Endpoint, u32, Option<Owner>, bool)> {
        let entry = self.entries.get(place)?;
        matches!(entry.fate, Fate::Untouched(_)).then_some(())?;
        let (owner, incoming) = (self.owner(entry), self.is_incoming(entry));
        Some((entry.local, entry.peer, entry.netns, owner, incoming))
    }

    /// Those of which no event has come: their ends, network namespaces and owners.
    pub fn untouched(&self) -> impl Iterator<Item = (Ends<'_>, Option<Owner>)> {
        let entries = self.entries.iter();
        let entries = entries.filter(|entry| matches!(entry.fate, Fate::Untouched(_)));
        entries.map(|entry| ((&entry.local, &entry.peer, entry.netns), self.owner(entry)))
    }
}

#[cfg(test)]
mod tests;
