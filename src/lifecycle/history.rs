//! The connections that have ended, for the report.
//!
//! Contract: at most `room` are held, the latest, each in the place that it had; those
//! that had to go are counted. What has not ended is not here.

use std::collections::VecDeque;

/// The places of those that ended last, and of which something was shown.
#[derive(Debug)]
pub(super) struct History {
    room: usize,
    ended: VecDeque<u32>,
    let_go: u64,
}

impl History {
    /// An empty one with room for so many, at least one.
    pub(super) fn new(room: usize) -> History {
        History {
            room: room.max(1),
            ended: VecDeque::new(),
            let_go: 0,
        }
    }

    /// Takes one more. The place of the oldest, where that has to go.
    pub(super) fn push(&mut self, slot: u32) -> Option<u32> {
        let mut gone = None;
        if self.ended.len() >= self.room {
            gone = self.ended.pop_front();
            self.let_go += 1;
        }
        self.ended.push_back(slot);
        gone
    }

    /// The places of those that are held, in the order of their ends.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ended.iter().copied()
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.ended.len()
    }

    /// How many had to go.
    pub(super) fn let_go(&self) -> u64 {
        self.let_go
    }
}
