//! A map in front of which there are the answers of lately.
//!
//! Contract: as a map, which is asked several times an event, mostly for the same few
//! keys.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// What can be a key: a number that says by itself where its answer is kept.
pub(crate) trait Key: Copy + Default + Eq + Hash {
    /// Numbers that differ little have different places.
    fn place(self) -> usize;
}

impl Key for u32 {
    #[inline(always)]
    fn place(self) -> usize {
        self as usize
    }
}

/// Addresses of what the kernel has in a slab: the low bits say little.
impl Key for u64 {
    #[inline(always)]
    fn place(self) -> usize {
        (self.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }
}

/// The map, and the answers of so many keys: a power of two.
#[derive(Debug)]
pub(crate) struct Lately<K: Copy, V: Copy, S, const N: usize> {
    all: HashMap<K, V, S>,
    /// Keys that were asked for lately, each at its place, and the answers.
    lately: [Cell<(K, Option<V>)>; N],
}

impl<K: Key, V: Copy, S: Default, const N: usize> Default for Lately<K, V, S, N> {
    fn default() -> Lately<K, V, S, N> {
        Lately {
            all: HashMap::default(),
            lately: [const { None }; N].map(|none: Option<V>| Cell::new((K::default(), none))),
        }
    }
}

impl<K: Key, V: Copy, S: BuildHasher, const N: usize> Lately<K, V, S, N> {
    #[inline(always)]
    fn place(&self, key: K) -> &Cell<(K, Option<V>)> {
        &self.lately[key.place() & (N - 1)]
    }

    /// The value of a key.
    #[inline(always)]
    pub(crate) fn get(&self, key: K) -> Option<V> {
        match self.place(key).get() {
            (lately, answer) if lately == key => answer,
            _ => self.look(key),
        }
    }

    #[cold]
    #[inline(never)]
    fn look(&self, key: K) -> Option<V> {
        let answer = self.all.get(&key).copied();
        self.place(key).set((key, answer));
        answer
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.all.insert(key, value);
        self.place(key).set((key, Some(value)));
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, key: K) {
        self.all.remove(&key);
        self.place(key).set((key, None));
    }

    /// All values, in any order.
    pub(crate) fn values(&self) -> impl Iterator<Item = V> + '_ {
        self.all.values().copied()
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash::Mix;
    use proptest::prelude::*;
    use std::hash::BuildHasherDefault;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((1u64..40, 0u32..6), 0..200)) {
            let mut lately: Lately<u64, u32, BuildHasherDefault<Mix>, 16> = Lately::default();
            let mut map = HashMap::new();
            for (key, what) in steps {
                match what {
                    0 => {
                        lately.remove(key);
                        map.remove(&key);
                    }
                    1 | 2 => {
                        lately.insert(key, what);
                        map.insert(key, what);
                    }
                    _ => {}
                }
                prop_assert_eq!(lately.get(key), map.get(&key).copied());
                prop_assert_eq!(lately.len(), map.len());
            }
            let mut values: Vec<u32> = lately.values().collect();
            let mut wanted: Vec<u32> = map.into_values().collect();
            values.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(values, wanted);
        }
    }
}
