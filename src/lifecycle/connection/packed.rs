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

/// Hands out each state but the last one, once, with the nanoseconds in it.
pub(super) fn each_state(all: &[Packed], see: &mut dyn FnMut(State, u64)) {
    let ends = all.iter().skip(1);
    for (at, (first, _)) in all.iter().zip(ends.clone()).enumerate() {
        let Some(state) = first.state() else {
            continue;
        };
        let of_it = |one: &Packed| one.state() == Some(state);
        if all.iter().take(at).any(of_it) {
            continue;
        }
        let times = all.iter().zip(ends.clone()).filter(|(from, _)| of_it(from));
        see(
            state,
            times
                .map(|(from, to)| to.since().saturating_sub(from.since()))
                .sum(),
        );
    }
}
