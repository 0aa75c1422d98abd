//! Which process has an id, or had it last.
//!
//! Contract: as a map, which is asked several times an event, mostly for the same
//! few ids.

use super::process::Index;
use std::cell::Cell;
use std::collections::HashMap;

/// Answers that are remembered.
const LATELY: usize = 16;

/// The map.
#[derive(Debug, Default)]
pub(super) struct Pids {
    all: HashMap<u32, Index>,
    /// Ids that were asked for lately, each at its place, and the answers.
    lately: [Cell<(u32, Option<Index>)>; LATELY],
}

impl Pids {
    #[inline(always)]
    fn place(&self, pid: u32) -> &Cell<(u32, Option<Index>)> {
        &self.lately[pid as usize % LATELY]
    }

    /// The process that has an id.
    #[inline(always)]
    pub(super) fn get(&self, pid: u32) -> Option<Index> {
        match self.place(pid).get() {
            (lately, answer) if lately == pid => answer,
            _ => self.look(pid),
        }
    }

    #[cold]
    #[inline(never)]
    fn look(&self, pid: u32) -> Option<Index> {
        let answer = self.all.get(&pid).copied();
        self.place(pid).set((pid, answer));
        answer
    }

    /// From now on this one has the id.
    pub(super) fn insert(&mut self, pid: u32, process: Index) {
        self.all.insert(pid, process);
        self.place(pid).set((pid, Some(process)));
    }

    /// Ids that somebody has, or had.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// From now on nobody has any.
    #[cfg(test)]
    pub(super) fn clear(&mut self) {
        *self = Pids::default();
    }

    /// From now on none has it.
    pub(super) fn remove(&mut self, pid: u32) {
        self.all.remove(&pid);
        self.place(pid).set((pid, None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(slot: u32) -> Index {
        Index {
            slot,
            generation: 0,
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u32..40, 0u32..6), 0..200)) {
            let (mut pids, mut map) = (Pids::default(), HashMap::new());
            for (pid, what) in steps {
                match what {
                    0 => pids.remove(pid),
                    1 | 2 => pids.insert(pid, index(pid + what)),
                    _ => {}
                }
                match what {
                    0 => drop(map.remove(&pid)),
                    1 | 2 => drop(map.insert(pid, index(pid + what))),
                    _ => {}
                }
                prop_assert_eq!(pids.get(pid), map.get(&pid).copied());
            }
        }
    }
}
