//! What is counted for a process, a peer or a listener, and all of a kind.
//!
//! Contract: of a kind so many are held; what finds no place is summed up as the others.
//! One goes when it has had neither an open connection nor anything new for a while.

use super::columns;
use super::figures::UNKNOWN;
use super::rows::{self, Heat, Row, Subject};
use std::collections::HashMap;

/// So many of a kind.
pub(super) const MOST: usize = 2048;
/// For how long one stays of which there is nothing new, in nanoseconds.
pub(super) const IDLE: u64 = 60_000_000_000;

/// What is counted.
pub(super) const OPENED: usize = 0;
pub(super) const REFUSED: usize = 1;
pub(super) const RESET: usize = 2;
pub(super) const TIMED_OUT: usize = 3;
pub(super) const FAILED_ELSE: usize = 4;
pub(super) const RESENT: usize = 5;
pub(super) const SENT: usize = 6;
pub(super) const RECEIVED: usize = 7;
/// Connections whose connect() took a known time, and the sum of these, in microseconds.
pub(super) const CONNECTS: usize = 8;
pub(super) const CONNECTING: usize = 9;
const COUNTS: usize = 10;
type Counts = [u64; COUNTS];

/// One that is counted for, or all.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) subject: Subject,
    key: u64,
    /// Since the last tick.
    now: Counts,
    /// Between the two before.
    last: Counts,
    /// Since it is held.
    pub(super) all: Counts,
    /// Connections that are open: established, opening, closing, and in a state that
    /// isn't known.
    pub(super) open: [u64; 4],
    pub(super) rtt: u64,
    /// The tick at which there was something.
    seen: u64,
}

fn failed(counts: &Counts) -> u64 {
    counts[REFUSED..=FAILED_ELSE].iter().sum()
}

/// Tenths a second, in so many nanoseconds.
fn rate(count: u64, elapsed: u64) -> u64 {
    count.saturating_mul(10_000) / (elapsed / 1_000_000).max(1)
}

impl Group {
    pub(super) fn new(subject: Subject, key: u64) -> Group {
        Group {
            subject,
            key,
            now: [0; COUNTS],
            last: [0; COUNTS],
            all: [0; COUNTS],
            open: [0; 4],
            rtt: UNKNOWN,
            seen: 0,
        }
    }

    pub(super) fn add(&mut self, what: usize, count: u64) {
        for counts in [&mut self.now, &mut self.all] {
            counts[what] = counts[what].saturating_add(count);
        }
    }

    /// Ends an interval; whether there is still a reason to hold it.
    pub(super) fn tick(&mut self, now: u64) -> bool {
        self.last = std::mem::take(&mut self.now);
        if self.seen == 0 || self.last != [0; COUNTS] || self.open != [0; 4] {
            self.seen = now.max(1);
        }
        now.saturating_sub(self.seen) < IDLE
    }

    /// Opened and failed in the last interval, which was this long: tenths a second.
    pub(super) fn rates(&self, elapsed: u64) -> [u64; 2] {
        [self.last[OPENED], failed(&self.last)].map(|count| rate(count, elapsed))
    }

    pub(super) fn failed(&self) -> u64 {
        failed(&self.all)
    }

    fn is_any(&self) -> bool {
        self.all != [0; COUNTS] || self.open != [0; 4]
    }

    fn row(&self, elapsed: u64) -> Row {
        let mut row = rows::blank(self.subject, self.key);
        let (all, last) = (&self.all, &self.last);
        let mean = [last, all].into_iter().find(|counts| counts[CONNECTS] > 0);
        let [new, failed] = self.rates(elapsed);
        let pid = u64::from(self.subject.pid);
        for (at, value) in [
            (columns::PID, if pid == 0 { UNKNOWN } else { pid }),
            (columns::ESTABLISHED, self.open[0]),
            (columns::OPENING, self.open[1]),
            (columns::CLOSING, self.open[2]),
            (columns::NEW, new),
            (columns::FAILED, failed),
            (columns::REFUSED, all[REFUSED]),
            (columns::RESET, all[RESET]),
            (columns::TIMED_OUT, all[TIMED_OUT]),
            (columns::RESENT, all[RESENT]),
            (columns::RTT, self.rtt),
            (columns::SENT, all[SENT]),
            (columns::RECEIVED, all[RECEIVED]),
        ] {
            row.cells[at] = value;
        }
        if let Some(counts) = mean {
            row.cells[columns::CONNECT] = counts[CONNECTING] / counts[CONNECTS];
        }
        row.heat = match (failed, last[RESENT]) {
            (0, 0) => Heat::None,
            (0, _) => Heat::Warm,
            _ => Heat::Hot,
        };
        row.weight = all[OPENED].saturating_add(self.open[0]);
        row
    }
}

/// Groups of a kind.
#[derive(Debug)]
pub(super) struct Table {
    places: HashMap<u64, u32>,
    groups: Vec<Group>,
    others: Group,
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            places: HashMap::default(),
            groups: Vec::new(),
            others: Group::new(Subject::OTHERS, 0),
        }
    }

    pub(super) fn group(&mut self, key: u64, subject: &Subject) -> &mut Group {
        let at = match self.places.get(&key) {
            Some(at) => *at as usize,
            None if self.groups.len() >= MOST => return &mut self.others,
            None => {
                let at = self.groups.len();
                self.places.insert(key, at as u32);
                self.groups.push(Group::new(*subject, key));
                at
            }
        };
        &mut self.groups[at]
    }

    /// None of them has an open connection, for now.
    pub(super) fn clear(&mut self) {
        let groups = self.groups.iter_mut().chain([&mut self.others]);
        groups.for_each(|group| group.open = [0; 4]);
    }

    /// Ends an interval.
    pub(super) fn tick(&mut self, now: u64) {
        if !self.others.tick(now) {
            self.others = Group::new(Subject::OTHERS, 0);
        }
        let mut at = 0;
        while let Some(group) = self.groups.get_mut(at) {
            if group.tick(now) {
                at += 1;
                continue;
            }
            let gone = self.groups.swap_remove(at);
            self.places.remove(&gone.key);
            if let Some(moved) = self.groups.get(at) {
                self.places.insert(moved.key, at as u32);
            }
        }
    }

    /// Their rows, by the counts of an interval this long.
    pub(super) fn rows(&self, elapsed: u64) -> Vec<Row> {
        let mut rows = Vec::new();
        for group in &self.groups {
            rows.push(group.row(elapsed));
        }
        if self.others.is_any() {
            rows.push(self.others.row(elapsed));
        }
        rows
    }
}
