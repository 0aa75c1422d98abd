//! What a run comes to: counts, and the busiest processes and peers.
//!
//! Contract: memory is bounded whatever comes. The busiest are found by the
//! space-saving algorithm (Metwally and others, 2005): a table of fixed size in
//! which a newcomer takes the place, and the count, of the least. Every key
//! with more than a [`PLACES`]th of all is in it, and no count is too low;
//! [`Busiest::is_exact`] tells whether all are right.

use super::connection::Connection;
use crate::model::cause::Cause;
use crate::model::event::COMM_LEN;
use crate::model::sort;
use std::net::IpAddr;

/// Keys that are counted at once.
const PLACES: usize = 64;
/// How many are told of.
const TOP: usize = 5;

/// Counts the most frequent of any number of keys.
#[derive(Clone, Debug)]
pub struct Busiest<K> {
    counts: Vec<(K, u64)>,
    exact: bool,
}

impl<K> Default for Busiest<K> {
    fn default() -> Self {
        Busiest {
            counts: Vec::new(),
            exact: true,
        }
    }
}

impl<K: Copy + PartialEq> Busiest<K> {
    fn add(&mut self, key: K) {
        let mut least = 0;
        for at in 0..self.counts.len() {
            if self.counts[at].0 == key {
                self.counts[at].1 += 1;
                return;
            }
            if self.counts[at].1 < self.counts[least].1 {
                least = at;
            }
        }
        if self.counts.len() < PLACES {
            self.counts.push((key, 1));
            return;
        }
        self.exact = false;
        let (victim, count) = &mut self.counts[least];
        *victim = key;
        *count += 1;
    }

    /// The most frequent keys with their counts, the first one most.
    pub fn top(&self) -> Vec<(K, u64)> {
        let mut all = self.counts.clone();
        sort::few_by_key(&mut all, |(_, count)| std::cmp::Reverse(*count));
        all.truncate(TOP);
        all
    }

    /// Whether every count is right; otherwise some are too high.
    pub fn is_exact(&self) -> bool {
        self.exact
    }
}

/// A process: its id, and its name as the kernel has it.
pub(crate) type Process = (u32, [u8; COMM_LEN]);

/// What all connections that were shown come to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Connections whose beginning was seen.
    pub opened: u64,
    /// Of these, those that were answered.
    pub established: u64,
    /// Connections refused.
    pub refused: u64,
    /// Attempts that were never answered, and ended by the program itself.
    pub given_up: u64,
    /// Connections reset, by either side.
    pub reset: u64,
    /// Connections that have not ended.
    pub open: u64,
    /// The processes with the most connections.
    pub processes: Busiest<Process>,
    /// The peers with the most connections.
    pub peers: Busiest<IpAddr>,
}

impl Totals {
    /// Counts a connection: when it has ended, and at the end of the run.
    pub(super) fn add(&mut self, connection: &Connection) {
        if connection.is_listener() || connection.cause() == Some(Cause::Duplicate) {
            return;
        }
        self.opened += u64::from(connection.began());
        self.established += u64::from(connection.was_answered());
        match connection.cause() {
            Some(Cause::Refused) => self.refused += 1,
            Some(Cause::GivenUp) => self.given_up += 1,
            Some(Cause::ResetByPeer | Cause::ResetByUs) => self.reset += 1,
            Some(_) => {}
            None => self.open += 1,
        }
        if let Some(owner) = connection.owner() {
            self.processes.add((owner.task.pid, owner.task.name));
        }
        self.peers.add(connection.peer().addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_of_a_few_are_exact() {
        let mut busiest = Busiest::default();
        for (key, times) in [(1, 3), (2, 9), (3, 1), (4, 5), (5, 2), (6, 4)] {
            (0..times).for_each(|_| busiest.add(key));
        }
        assert!(busiest.is_exact());
        assert_eq!(busiest.top(), [(2, 9), (4, 5), (6, 4), (1, 3), (5, 2)]);
    }

    #[test]
    fn of_many_the_frequent_ones_stay() {
        let mut busiest = Busiest::default();
        for round in 0..10_000u32 {
            busiest.add(1_000_000);
            busiest.add(round);
        }
        assert!(!busiest.is_exact());
        assert_eq!(busiest.counts.len(), PLACES);
        let (key, count) = busiest.top()[0];
        assert_eq!(key, 1_000_000);
        assert!((10_000..10_400).contains(&count), "{count}");
    }
}
