//! The connections that have ended, for the report.
//!
//! Contract: of the last `room` that have ended those are held that the report will
//! tell of, each in the place that it had: all, or the latest ones by their beginning.
//! What came before is counted. What has not ended is not here.

use std::collections::VecDeque;

/// Those that ended, and of which something was shown.
#[derive(Debug)]
pub(super) struct History {
    room: usize,
    /// How many the report tells of at most, where that is fewer.
    latest: Option<usize>,
    /// Their numbers and places: in the order of their ends, or of their numbers where
    /// only the latest are held.
    ended: VecDeque<(u64, u32)>,
    /// How many have ended.
    count: u64,
}

impl History {
    /// An empty one with room for so many, at least one.
    pub(super) fn new(room: usize) -> History {
        History {
            room: room.max(1),
            latest: None,
            ended: VecDeque::new(),
            count: 0,
        }
    }

    /// From the first one on: no more than the `most` latest will be told of.
    pub(super) fn tell_latest(&mut self, most: usize) {
        self.latest = Some(most).filter(|most| *most < self.room);
    }

    /// Takes one more, which has this number and place. The place that is free then.
    #[inline]
    pub(super) fn push(&mut self, number: u64, slot: u32) -> Option<u32> {
        self.count += 1;
        let one = (number, slot);
        let Some(most) = self.latest else {
            self.ended.push_back(one);
            let full = self.ended.len() > self.room;
            return full.then(|| self.ended.pop_front())?.map(|(_, slot)| slot);
        };
        if self.ended.len() >= most {
            match self.ended.front() {
                Some(first) if first.0 < number => {}
                _ => return Some(slot),
            }
        }
        // Who began later has mostly ended later.
        match self.ended.iter().rposition(|(other, _)| *other < number) {
            Some(before) if before + 1 < self.ended.len() => self.ended.insert(before + 1, one),
            None => self.ended.push_front(one),
            Some(_) => self.ended.push_back(one),
        }
        let full = self.ended.len() > most;
        full.then(|| self.ended.pop_front())?.map(|(_, slot)| slot)
    }

    /// The places of those that are held.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ended.iter().map(|(_, slot)| *slot)
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.ended.len()
    }

    /// How many more there would be, were they held as long as there is room.
    pub(super) fn left_out(&self) -> u64 {
        self.count.min(self.room as u64) - self.ended.len() as u64
    }

    /// How many had to go, there being no room.
    pub(super) fn let_go(&self) -> u64 {
        self.count.saturating_sub(self.room as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whoever ends when, the report has the latest by their beginning.
        #[test]
        fn the_latest_are_held(
            numbers in prop::collection::vec(0u64..1000, 0..200),
            most in 0usize..20,
        ) {
            let mut history = History::new(500);
            history.tell_latest(most);
            let mut wanted = Vec::new();
            for (slot, number) in (0u32..).zip(numbers) {
                // No two have the same number.
                let number = number << 32 | u64::from(slot);
                let before: Vec<u32> = history.iter().collect();
                let gone = history.push(number, slot);
                wanted.push((number, slot));
                wanted.sort_unstable();
                let left = wanted.len().saturating_sub(most);
                let latest: Vec<u32> = wanted[left..].iter().map(|(_, slot)| *slot).collect();
                prop_assert_eq!(history.iter().collect::<Vec<u32>>(), latest.clone());
                prop_assert_eq!(history.left_out(), left as u64);
                // Every place is either held or free.
                let mut all = before;
                all.push(slot);
                all.retain(|slot| !latest.contains(slot));
                prop_assert_eq!(all, gone.into_iter().collect::<Vec<u32>>());
            }
            prop_assert_eq!(history.let_go(), 0);
        }
    }

    #[test]
    fn all_are_held_as_long_as_there_is_room() {
        let mut history = History::new(3);
        history.tell_latest(3);
        let gone: Vec<Option<u32>> = [9, 7, 8, 1, 2]
            .into_iter()
            .map(|n| history.push(n, n as u32))
            .collect();
        assert_eq!(gone, [None, None, None, Some(9), Some(7)]);
        assert_eq!(
            (history.len(), history.left_out(), history.let_go()),
            (3, 0, 2)
        );
    }
}
