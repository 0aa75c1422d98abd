//! Changes of state that were held back, without an event of each.
//!
//! Contract: see [`View::take_held`].

use super::{LOOK, View};
use crate::bpf::changes::Changes;

impl View {
    /// Whether nothing is shown but records, and nothing is judged by events.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.closed_only && self.output.metrics.is_none() && self.judging.is_idle()
    }

    /// Takes changes as if each was taken by [`View::take`], where that shows nothing and
    /// judges nothing: they were before the next event, which is a change of the same
    /// socket. False where they are to be taken as events.
    #[inline]
    pub fn take_held(&mut self, changes: &Changes<'_>) -> bool {
        if !self.is_plain() {
            return false;
        }
        let clock = &self.clock;
        let wall = &|time| clock.wall(time);
        let Some(connection) = self.connections.take_held(changes, wall) else {
            return false;
        };
        if self.judging.shows_any(changes) {
            connection.mark_shown();
        }
        let (count, before) = (changes.count(), self.taken / LOOK);
        self.summary.received += count;
        self.taken = self.taken.wrapping_add(count);
        if self.taken / LOOK != before {
            self.refresh();
        }
        true
    }
}
