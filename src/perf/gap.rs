//! From when to when news of tasks may be missing.
//!
//! Contract: a gap opens right after the last record that found room, and
//! closes at a time at which there was room again. What a PERF_RECORD_LOST
//! tells, and what the event counts before there is one, is the same loss.

use super::record::Topic;
use std::cell::Cell;

const NEVER: u64 = u64::MAX;

/// The gap in one ring.
#[derive(Debug)]
pub(super) struct Gap {
    /// What the ring's records are about.
    pub(super) topic: Topic,
    /// The time of the last record that was taken, in nanoseconds.
    pub(super) last: Cell<u64>,
    /// Whether one is open.
    open: Cell<bool>,
    /// Records missing in all, as far as counted.
    total: Cell<u64>,
    /// Of these, those for which a gap was opened.
    told: Cell<u64>,
    /// When an open one closes, where no record says it.
    closes: Cell<u64>,
    /// Whether that is to be set once the ring has room.
    at_end: Cell<bool>,
}

impl Gap {
    /// None yet.
    pub(super) fn new(topic: Topic) -> Gap {
        Gap {
            topic,
            last: Cell::new(0),
            open: Cell::new(false),
            total: Cell::new(0),
            told: Cell::new(0),
            closes: Cell::new(NEVER),
            at_end: Cell::new(false),
        }
    }

    /// Whether one is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Records missing, as far as counted, where the ring's own records have
    /// told so many.
    pub(super) fn lost(&self, told: u64) -> u64 {
        told.max(self.told.get()).max(self.total.get())
    }

    /// Takes what was counted now.
    pub(super) fn count(&self, total: u64) {
        self.total.set(self.total.get().max(total));
    }

    /// Whether this sum of losses is more than was told, and no gap is open.
    pub(super) fn is_news(&self, sum: u64) -> bool {
        !self.open.get() && sum > self.told.get()
    }

    /// Whether something is missing after the last record that is there, of
    /// which `known` were told by records.
    pub(super) fn is_pending(&self, known: u64) -> bool {
        !self.open.get() && self.total.get() > known.max(self.told.get())
    }

    /// Opens it; `at_end`, where no record comes after it.
    pub(super) fn open(&self, at_end: bool) {
        self.open.set(true);
        if at_end {
            self.told.set(self.total.get().max(self.told.get()));
            self.at_end.set(true);
        }
    }

    /// Closes it; `by_time`, if that is because the time has come.
    pub(super) fn close(&self, by_time: bool) {
        self.open.set(false);
        if by_time {
            self.closes.set(NEVER);
        }
    }

    /// What has been read has made room at this time.
    pub(super) fn made_room(&self, now: u64) {
        if self.at_end.take() {
            self.closes.set(now);
        }
    }

    /// When it closes, where no record says it.
    pub(super) fn closing(&self) -> Option<u64> {
        Some(self.closes.get()).filter(|time| *time != NEVER)
    }
}
