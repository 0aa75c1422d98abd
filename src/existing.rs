//! The connections that were open before the start, until an event or the end
//! tells which socket each one is.
//!
//! Contract: the scan that finds them and the events overlap in time, and
//! neither names the sockets as the other does: they are brought together by
//! their ends. [`Table::claim`] says of a socket that it is one of these only if
//! it cannot be another one with the same ends: it must have been there before
//! that one was seen, and still be there after. Each is claimed once at most.
//! Memory is bounded: at most `capacity` are held.

mod openers;

use crate::event::Owner;
use crate::tcp::{Endpoint, State};
use openers::Openers;
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;

/// When the kernel looked at a socket: not before, and not after (CLOCK_MONOTONIC,
/// nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Not before.
    pub start: u64,
    /// Not after.
    pub end: u64,
}

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
    hasher: RandomState,
    owners: Vec<Owner>,
    openers: Openers,
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
            hasher: RandomState::new(),
            owners: Vec::new(),
            openers: Openers::default(),
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
            self.index.sort_unstable();
            self.sorted = true;
        }
    }

    fn hash(&self, local: &Endpoint, peer: &Endpoint) -> u64 {
        self.hasher.hash_one((local, peer)) >> 32 << 32
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
        self.untouched += 1;
        self.entries.push(Entry {
            netns: found.netns,
            local: found.local,
            peer: found.peer,
            fate: Fate::Untouched(found.seen),
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
    pub fn claim(&mut self, claimant: &Claimant) -> Claim {
        let unknown = match self.complete {
            true => Claim::None,
            false => Claim::NotYet,
        };
        if self.untouched == 0 {
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

    /// Those of which no event has come: their ends and owners.
    pub fn untouched(&self) -> impl Iterator<Item = (&Endpoint, &Endpoint, Option<Owner>)> {
        let entries = self.entries.iter();
        let entries = entries.filter(|entry| matches!(entry.fate, Fate::Untouched(_)));
        entries.map(|entry| (&entry.local, &entry.peer, self.owner(entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{OwnerSource, Task};

    fn end(port: u16) -> Endpoint {
        Endpoint {
            addr: [10, 0, 0, 1].into(),
            port,
        }
    }

    fn existing(netns: u32, port: u16) -> Existing {
        Existing {
            netns,
            local: end(port),
            peer: end(80),
            state: State::Established,
            seen: Seen {
                start: 100,
                end: 200,
            },
        }
    }

    fn claimant(port: u16, born: Option<u64>, at: u64) -> Claimant {
        Claimant {
            socket: 7,
            number: 1,
            netns: Some(5),
            local: end(port),
            peer: end(80),
            born,
            at,
            closing: false,
        }
    }

    fn owner(pid: u32) -> Owner {
        Owner {
            task: Task {
                pid,
                tid: pid,
                ..Task::default()
            },
            thread: [0; 16],
            parent: None,
            cgroup: None,
            source: OwnerSource::Snapshot,
        }
    }

    fn table(found: &[Existing]) -> Table {
        let mut table = Table::new(100);
        table.begin(90);
        for (i, found) in found.iter().enumerate() {
            assert_eq!(table.add(found), Some(i as u32));
        }
        table
    }

    fn left(table: &Table) -> usize {
        assert_eq!(table.untouched().count(), table.untouched);
        table.untouched
    }

    #[test]
    fn a_socket_that_was_there_all_the_time_is_it() {
        let mut table = table(&[existing(5, 1), existing(5, 2)]);
        assert_eq!(table.own(0, &owner(10)), None);
        assert_eq!(
            table.claim(&claimant(1, None, 200)),
            Claim::Is(Some((owner(10), 90)), false)
        );
        // Once only.
        assert_eq!(table.claim(&claimant(1, None, 201)), Claim::NotYet);
        table.complete();
        assert_eq!(table.claim(&claimant(1, None, 202)), Claim::None);
        assert_eq!(left(&table), 1);
    }

    #[test]
    fn an_owner_may_be_found_later() {
        let mut table = table(&[existing(5, 1)]);
        assert_eq!(table.claim(&claimant(1, None, 300)), Claim::Is(None, false));
        assert_eq!(table.own(0, &owner(10)), Some((7, 1)));
        assert_eq!(table.own(9, &owner(10)), None);
    }

    #[test]
    fn before_it_was_seen_nothing_can_be_told() {
        let mut table = table(&[existing(5, 1)]);
        table.complete();
        assert_eq!(table.claim(&claimant(1, None, 99)), Claim::NotYet);
        assert_eq!(table.claim(&claimant(1, None, 199)), Claim::NotYet);
        // Closed before: the one that was seen came after it.
        let close = |at| Claimant {
            closing: true,
            ..claimant(1, None, at)
        };
        assert_eq!(table.claim(&close(99)), Claim::NotYet);
        assert_eq!(left(&table), 1);
        // While it was seen: it may be either, and is not open any more.
        assert_eq!(table.claim(&close(150)), Claim::None);
        assert_eq!(left(&table), 0);
    }

    #[test]
    fn a_later_socket_with_the_same_ends_ends_it() {
        let mut table = table(&[existing(5, 1), existing(5, 2)]);
        table.complete();
        assert_eq!(table.claim(&claimant(1, Some(250), 260)), Claim::None);
        // Opened before it was seen, and open since: the same.
        assert_eq!(
            table.claim(&claimant(2, Some(50), 260)),
            Claim::Is(None, false)
        );
        assert_eq!(left(&table), 0);
    }

    #[test]
    fn the_same_ends_in_two_namespaces() {
        let mut table = table(&[existing(5, 1), existing(6, 1)]);
        table.own(0, &owner(10));
        table.own(1, &owner(11));
        table.complete();
        let anywhere = Claimant {
            netns: None,
            ..claimant(1, None, 300)
        };
        assert_eq!(table.claim(&anywhere), Claim::None);
        let other = Claimant {
            netns: Some(7),
            ..anywhere
        };
        assert_eq!(table.claim(&other), Claim::None);
        let sixth = Claimant {
            netns: Some(6),
            ..anywhere
        };
        let is = |pid| Claim::Is(Some((owner(pid), 90)), false);
        assert_eq!(table.claim(&sixth), is(11));
        assert_eq!(table.claim(&anywhere), is(10));
    }

    #[test]
    fn what_is_listed_twice_is_one() {
        let mut table = table(&[
            existing(5, 1),
            existing(6, 1),
            existing(5, 1),
            existing(5, 2),
        ]);
        let later = Existing {
            seen: Seen {
                start: 300,
                end: 400,
            },
            ..existing(5, 2)
        };
        assert_eq!(table.add(&later), Some(4));
        table.own(2, &owner(10));
        table.own(4, &owner(11));
        table.complete();
        assert_eq!(left(&table), 3);
        assert_eq!(
            table.claim(&claimant(1, None, 300)),
            Claim::Is(Some((owner(10), 90)), false)
        );
        assert_eq!(
            table.claim(&claimant(2, None, 400)),
            Claim::Is(Some((owner(11), 90)), false)
        );
        assert_eq!(left(&table), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut table = Table::new(2);
        table.begin(90);
        assert_eq!(table.add(&existing(5, 1)), Some(0));
        assert_eq!(table.add(&existing(5, 2)), Some(1));
        assert_eq!(table.add(&existing(5, 3)), None);
        assert_eq!(left(&table), 2);
        table.own(0, &owner(1));
        table.own(1, &owner(1));
        assert_eq!(table.owners.len(), 1);
        assert!(size_of::<Entry>() <= 80, "{}", size_of::<Entry>());
    }
}
