//! What connections come to by process, by peer and by port.
//!
//! Contract: memory is bounded whatever comes: [`PLACES`] groups of each kind, and
//! one for all others. A newcomer takes the place of the group that weighs least,
//! and with it its weight (space saving: Metwally and others, 2005), so that every
//! key with more than a [`PLACES`]th of all has a place in the end, and no weight is
//! too low; what the other one had goes to the others. So the sums are right, and a
//! group that came late has too few in them, never too many.

use super::connection::{Connection, Direction};
use super::ended::Ended;
use crate::model::cause::Cause;
use crate::model::event::COMM_LEN;
use crate::model::sort;
use std::cmp::Reverse;
use std::net::IpAddr;

/// Groups of a kind at once.
const PLACES: usize = 64;

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Connections of one process: its id, and its name as the kernel has it.
    Process(u32, [u8; COMM_LEN]),
    /// Connections with one peer.
    Peer(IpAddr),
    /// Connections that this host opened to one port, or accepted on one.
    Port(Direction, u16),
}

/// Bits of a hint where a key's place is.
const HINT: u32 = 8;

impl Key {
    /// A number that keys which differ little have not in common.
    #[inline]
    fn hint(&self) -> usize {
        let number = match self {
            Key::Process(pid, _) => *pid,
            Key::Peer(IpAddr::V4(addr)) => addr.to_bits(),
            Key::Peer(IpAddr::V6(addr)) => addr.to_bits() as u32,
            Key::Port(direction, port) => u32::from(*port) * 2 + *direction as u32,
        };
        (number.wrapping_mul(0x9e37_79b9) >> (u32::BITS - HINT)) as usize
    }
}

/// Causes that are failures, in the order in which they are told.
pub(crate) const FAILURES: [Cause; 8] = [
    Cause::Refused,
    Cause::GivenUp,
    Cause::TimedOut,
    Cause::Unreachable,
    Cause::ResetByPeer,
    Cause::ResetByUs,
    Cause::Aborted,
    Cause::NeverAccepted,
];

/// Buckets of a histogram for each power of two, as a power of two.
const FINE: u32 = 4;

/// How often which nanoseconds came, in buckets that are a 16th of a power of two
/// wide: what is told is off by 3 % at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: Vec<u32>,
    all: u64,
}

/// The bucket of a value.
#[inline]
fn bucket(value: u64) -> usize {
    let value = value.max(1 << FINE);
    let power = value.ilog2() - FINE;
    ((power << FINE) as u64 + (value >> power) - (1 << FINE)) as usize
}

/// The value in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let power = (bucket >> FINE) as u32;
    let low = ((bucket & ((1 << FINE) - 1)) as u64 + (1 << FINE)) << power;
    low + (1 << power) / 2
}

impl Histogram {
    #[inline]
    fn count(&mut self, bucket: usize, count: u32) {
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
        self.all += u64::from(count);
    }

    /// The least value that so many of a hundred don't exceed; `None` where there
    /// was none.
    pub(crate) fn percentile(&self, percent: u64) -> Option<u64> {
        let mut left = (self.all * percent).div_ceil(100);
        let at = self.counts.iter().position(|count| {
            left = left.saturating_sub(u64::from(*count));
            left == 0
        });
        at.filter(|_| self.all > 0).map(middle)
    }
}

/// What a group of connections comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// How many there were.
    pub connections: u64,
    /// Of these, how many ended by each of [`FAILURES`].
    pub failures: [u64; FAILURES.len()],
    /// Bytes sent, of those of which they are known.
    pub sent: Option<u64>,
    /// Bytes received, likewise.
    pub received: Option<u64>,
    /// Segments sent again; events, where of some only they are known.
    pub resent: u64,
    /// How long it took to open those that this host opened.
    pub connect: Histogram,
}

/// What one connection adds to each of its groups.
#[derive(Debug)]
pub(super) struct One {
    /// Its place in [`FAILURES`].
    failure: Option<usize>,
    sent: Option<u64>,
    received: Option<u64>,
    resent: u64,
    /// Where in the histogram it is.
    connect: Option<usize>,
}

impl One {
    /// Of this one, with its end if that was seen.
    #[inline]
    pub(super) fn new(connection: &Connection, ended: Option<&Ended>) -> One {
        let cause = connection.cause();
        let mut one = One {
            failure: FAILURES.iter().position(|c| cause == Some(*c)),
            sent: None,
            received: None,
            resent: 0,
            connect: connection.connect_time().map(bucket),
        };
        match ended {
            Some(ended) => {
                one.sent = ended.counters.bytes_sent;
                one.received = ended.counters.bytes_received;
                one.resent = ended.resent.all.unwrap_or_else(|| ended.resent.events());
            }
            None => one.resent = connection.resent.so_far(),
        }
        one
    }
}

#[inline]
fn more(sum: &mut Option<u64>, value: Option<u64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or(0).saturating_add(value));
    }
}

impl Tally {
    /// How many failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    #[inline]
    fn add(&mut self, one: &One) {
        self.connections += 1;
        if let Some(count) = one.failure.and_then(|at| self.failures.get_mut(at)) {
            *count += 1;
        }
        more(&mut self.sent, one.sent);
        more(&mut self.received, one.received);
        self.resent += one.resent;
        if let Some(bucket) = one.connect {
            self.connect.count(bucket, 1);
        }
    }

    fn merge(&mut self, other: &Tally) {
        self.connections += other.connections;
        for (sum, count) in self.failures.iter_mut().zip(other.failures) {
            *sum += count;
        }
        more(&mut self.sent, other.sent);
        more(&mut self.received, other.received);
        self.resent += other.resent;
        for (bucket, count) in other.connect.counts.iter().enumerate() {
            self.connect.count(bucket, *count);
        }
    }
}

/// A group in its place.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub key: Key,
    /// How many there were at most.
    pub weight: u64,
    pub tally: Tally,
}

/// A place for each hint.
#[derive(Clone, Debug)]
struct Hints([u8; 1 << HINT]);

impl Default for Hints {
    fn default() -> Hints {
        Hints([0; 1 << HINT])
    }
}

/// The groups of a kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    places: Vec<Place>,
    others: Tally,
    /// Where the places of keys are that came lately, by [`Key::hint`].
    lately: Hints,
    /// Whether a group has lost its place.
    moved: bool,
}

impl Groups {
    #[inline]
    fn place(&mut self, key: Key) -> &mut Place {
        let hint = key.hint();
        let mut at = usize::from(self.lately.0[hint]);
        if self.places.get(at).is_none_or(|place| place.key != key) {
            at = self.search(key);
            self.lately.0[hint] = at as u8;
        }
        &mut self.places.as_mut_slice()[at]
    }

    /// Where the place of a key is, from now on.
    #[inline(never)]
    fn search(&mut self, key: Key) -> usize {
        let mut least = 0;
        for at in 0..self.places.len() {
            if self.places[at].key == key {
                return at;
            }
            if self.places[at].weight < self.places[least].weight {
                least = at;
            }
        }
        if self.places.len() < PLACES {
            least = self.places.len();
            self.places.push(Place {
                key,
                weight: 0,
                tally: Tally::default(),
            });
        } else {
            self.moved = true;
            let place = &mut self.places[least];
            place.key = key;
            self.others.merge(&std::mem::take(&mut place.tally));
        }
        least
    }

    #[inline]
    pub(super) fn add(&mut self, key: Key, one: &One) {
        let place = self.place(key);
        place.weight += 1;
        place.tally.add(one);
    }

    /// The groups with the most connections, `most` at most, the first one most.
    pub(crate) fn top(&self, most: usize) -> Vec<&Place> {
        let mut all: Vec<&Place> = self.places.iter().collect();
        sort::few_by_key(&mut all, |place| Reverse(place.weight));
        all.truncate(most);
        all
    }

    /// What all but those that have the most come to, and how many groups that are, as
    /// far as they have a place.
    pub(crate) fn rest(&self, most: usize) -> (usize, Tally) {
        let mut others = self.others.clone();
        let rest = self.top(PLACES).split_off(most.min(self.places.len()));
        rest.iter().for_each(|place| others.merge(&place.tally));
        (rest.len(), others)
    }

    /// Whether every weight is right, and every group has a place; otherwise some
    /// weights are too high.
    pub(crate) fn is_exact(&self) -> bool {
        !self.moved
    }
}

/// The key of the port of a connection's listening end, where it is known which that is.
#[inline]
pub(super) fn port(connection: &Connection) -> Option<Key> {
    let direction = connection.direction();
    let end = match direction {
        Direction::Outgoing => connection.peer(),
        Direction::Incoming => connection.local(),
        Direction::Unknown => return None,
    };
    Some(Key::Port(direction, end.port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_holds_what_is_near_its_middle() {
        let values = (0..50).flat_map(|n| [1u64 << n, (1 << n) + (1 << n) / 3, (2 << n) - 1]);
        for value in values.filter(|v| *v >= 1 << FINE) {
            let told = middle(bucket(value));
            assert!(value.abs_diff(told) * 100 <= value * 4, "{value} {told}");
        }
        assert!(bucket(u64::MAX) < 1000, "{}", bucket(u64::MAX));
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_all(mut all in prop::collection::vec(20u64..1 << 40, 1..300)) {
            let mut histogram = Histogram::default();
            all.iter().for_each(|value| histogram.count(bucket(*value), 1));
            all.sort_unstable();
            for percent in [1u64, 50, 95, 100] {
                let rank = (all.len() as u64 * percent).div_ceil(100) as usize;
                let wanted = all[rank - 1];
                let got = histogram.percentile(percent).expect("a value");
                prop_assert!(wanted.abs_diff(got) * 100 <= wanted * 4, "{} {}", wanted, got);
            }
        }
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Histogram::default().percentile(50), None);
    }

    /// As `add` does, of a connection of which only the key counts.
    fn add(groups: &mut Groups, port: u16) {
        let place = groups.place(Key::Port(Direction::Incoming, port));
        place.weight += 1;
        place.tally.connections += 1;
    }

    fn counts(groups: &Groups, most: usize) -> Vec<(u16, u64)> {
        let of = |place: &&Place| match place.key {
            Key::Port(_, port) => (port, place.weight),
            other => panic!("{other:?}"),
        };
        groups.top(most).iter().map(of).collect()
    }

    #[test]
    fn the_busiest_of_a_few_are_exact() {
        let mut groups = Groups::default();
        for (port, times) in [(1, 3), (2, 9), (3, 1), (4, 5), (5, 2), (6, 4)] {
            (0..times).for_each(|_| add(&mut groups, port));
        }
        assert!(groups.is_exact());
        assert_eq!(counts(&groups, 5), [(2, 9), (4, 5), (6, 4), (1, 3), (5, 2)]);
        let (rest, others) = groups.rest(5);
        assert_eq!((rest, others.connections), (1, 1));
    }

    #[test]
    fn sums_are_right_and_who_has_many_has_a_place() {
        let mut groups = Groups::default();
        // Others were there before.
        (1..=64).for_each(|port| (0..20).for_each(|_| add(&mut groups, port)));
        for round in 0..5000u16 {
            add(&mut groups, 7777);
            add(&mut groups, 10_000 + round);
        }
        let (top, (rest, others)) = (groups.top(10), groups.rest(10));
        assert_eq!((top.len(), rest, groups.is_exact()), (10, 54, false));
        let told: u64 = top.iter().map(|place| place.tally.connections).sum();
        assert_eq!(told + others.connections, 64 * 20 + 10_000);
        let (port, weight) = counts(&groups, 1)[0];
        assert_eq!(port, 7777);
        assert!((5000..5400).contains(&weight), "{weight}");
        let seen = top[0].tally.connections;
        assert!((4000..=5000).contains(&seen), "{seen}");
    }

    #[test]
    fn the_same_many_come_in_the_order_of_their_coming() {
        let mut groups = Groups::default();
        [3, 1, 2, 1].iter().for_each(|port| add(&mut groups, *port));
        assert_eq!(counts(&groups, 10), [(1, 2), (3, 1), (2, 1)]);
        let (rest, others) = groups.rest(10);
        assert_eq!((rest, others.connections), (0, 0));
    }
}
