//! The connections that have ended, for the report.
//!
//! Contract: at most `room` are held, the latest; those that had to go are
//! counted. What has not ended is not here.

use super::connection::Connection;
use std::collections::VecDeque;

/// Those that ended last, and of which something was shown.
#[derive(Debug)]
pub(super) struct History {
    room: usize,
    ended: VecDeque<Connection>,
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

    /// Takes one more; the oldest makes room.
    pub(super) fn push(&mut self, connection: Connection) {
        if self.ended.len() >= self.room {
            self.ended.pop_front();
            self.let_go += 1;
        }
        self.ended.push_back(connection);
    }

    /// Those that are held, in the order of their ends.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.ended.iter()
    }

    /// How many had to go.
    pub(super) fn let_go(&self) -> u64 {
        self.let_go
    }
}
