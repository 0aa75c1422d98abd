//! A transition in eight bytes: thousands of connections are held, with several each.
//!
//! Contract: what is put in comes out again, up to 36 years.

use crate::model::tcp::State;

/// A transition: nanoseconds since the first event, and the new state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packed(u64);

impl Packed {
    /// Of a change at this time; of one after 36 years, at that.
    #[inline]
    pub(super) fn new(since: u64, state: State) -> Packed {
        // 36 years are enough.
        Packed(since.min(u64::MAX >> 4) << 4 | state as u64)
    }

    /// Nanoseconds since the first event.
    #[inline]
    pub(super) fn since(self) -> u64 {
        self.0 >> 4
    }

    /// The new state.
    #[inline]
    pub(super) fn state(self) -> Option<State> {
        State::from_number(self.0 as u8 & 15)
    }
}

/// Whether two of them are of one state.
#[inline]
fn is_any_twice(all: &[Packed]) -> bool {
    let mut seen = 0u16;
    all.iter().any(|one| {
        let bit = 1 << (one.0 & 15);
        let again = seen & bit != 0;
        seen |= bit;
        again
    })
}

/// Hands out each state but the last one, once, with the nanoseconds in it.
#[inline]
pub(super) fn each_state(all: &[Packed], see: &mut dyn FnMut(State, u64)) {
    let ends = all.iter().skip(1);
    let twice = is_any_twice(all);
    for (at, (first, end)) in all.iter().zip(ends.clone()).enumerate() {
        let Some(state) = first.state() else {
            continue;
        };
        let time = |(from, to): (&Packed, &Packed)| to.since().saturating_sub(from.since());
        if !twice {
            see(state, time((first, end)));
            continue;
        }
        let of_it = |one: &Packed| one.state() == Some(state);
        if all.iter().take(at).any(of_it) {
            continue;
        }
        let times = all.iter().zip(ends.clone()).filter(|(from, _)| of_it(from));
        see(state, times.map(time).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Each state once, in the order of their first times, with the sum of its times.
        #[test]
        fn states_are_told_once(all in prop::collection::vec((0u64..50, 1u8..14), 0..9)) {
            let packed = |&(since, state)| Packed::new(since, State::from_number(state).expect("one"));
            let all: Vec<Packed> = all.iter().map(packed).collect();
            let mut expected: Vec<(State, u64)> = Vec::new();
            for pair in all.windows(2) {
                let state = pair[0].state().expect("one");
                let time = pair[1].since().saturating_sub(pair[0].since());
                match expected.iter_mut().find(|(known, _)| *known == state) {
                    Some((_, sum)) => *sum += time,
                    None => expected.push((state, time)),
                }
            }
            let mut got = Vec::new();
            each_state(&all, &mut |state, time| got.push((state, time)));
            prop_assert_eq!(got, expected);
        }
    }
}
