//! A transition in eight bytes: thousands of connections are held, with several each.
//!
//! Contract: what is put in comes out again, up to 36 years.

use crate::model::tcp::State;

/// A transition: nanoseconds since the first event, and the new state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packed(u64);

impl Packed {
    /// Of a change at this time; of one after 36 years, at that.
    pub(super) fn new(since: u64, state: State) -> Packed {
        // 36 years are enough.
        Packed(since.min(u64::MAX >> 4) << 4 | state as u64)
    }

    /// Nanoseconds since the first event.
    pub(super) fn since(self) -> u64 {
        self.0 >> 4
    }

    /// The new state.
    pub(super) fn state(self) -> Option<State> {
        State::from_number(self.0 as u8 & 15)
    }
}
