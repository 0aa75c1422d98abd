//! A map in front of which there are the answers of lately.
//!
//! Contract: as a map, which is asked several times an event, mostly for the same few
//! keys.

use super::hash::GOLDEN;
use super::table::Table;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::BuildHasher;

/// What can be a key: a number that says by itself where its answer is kept.
pub(crate) trait Key: Copy + Default + Eq + Into<u64> {
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
        (self.wrapping_mul(GOLDEN) >> 32) as usize
    }
}

/// The map behind them: one of the kinds that there are anyway.
pub(crate) trait Map: Default {
    type Value: Copy;
    fn value(&self, key: u64) -> Option<Self::Value>;
    fn set(&mut self, key: u64, value: Self::Value);
    fn forget(&mut self, key: u64);
    fn count(&self) -> usize;
}

/// Of numbers: they need no places.
impl<S: BuildHasher + Default> Map for HashMap<u64, u32, S> {
    type Value = u32;

    #[inline]
    fn value(&self, key: u64) -> Option<u32> {
        self.get(&key).copied()
    }

    #[inline]
    fn set(&mut self, key: u64, value: u32) {
        self.insert(key, value);
    }

    #[inline]
    fn forget(&mut self, key: u64) {
        self.remove(&key);
    }

    fn count(&self) -> usize {
        self.len()
    }
}

impl<V: Copy, S: BuildHasher + Default> Map for Table<V, S> {
    type Value = V;

    #[inline]
    fn value(&self, key: u64) -> Option<V> {
        self.get(key).copied()
    }

    #[inline]
    fn set(&mut self, key: u64, value: V) {
        self.insert(key, value);
    }

    #[inline]
    fn forget(&mut self, key: u64) {
        self.remove(key);
    }

    fn count(&self) -> usize {
        self.len()
    }
}

/// The map, and the answers of so many keys: a power of two.
#[derive(Debug)]
pub(crate) struct Lately<K: Copy, M: Map, const N: usize> {
    all: M,
    /// Keys that were asked for lately, each at its place, and the answers.
    lately: [Cell<(K, Option<M::Value>)>; N],
}

impl<K: Key, M: Map, const N: usize> Default for Lately<K, M, N> {
    fn default() -> Lately<K, M, N> {
        Lately {
            all: M::default(),
            lately: [const { None }; N].map(|none| Cell::new((K::default(), none))),
        }
    }
}

impl<K: Key, M: Map, const N: usize> Lately<K, M, N> {
    #[inline(always)]
    fn place(&self, key: K) -> &Cell<(K, Option<M::Value>)> {
        &self.lately[key.place() & (N - 1)]
    }

    /// The value of a key.
    #[inline(always)]
    pub(crate) fn get(&self, key: K) -> Option<M::Value> {
        match self.place(key).get() {
            (lately, answer) if lately == key => answer,
            _ => self.look(key),
        }
    }

    #[cold]
    #[inline(never)]
    fn look(&self, key: K) -> Option<M::Value> {
        let answer = self.all.value(key.into());
        self.place(key).set((key, answer));
        answer
    }

    /// Sets the value of a key.
    #[inline]
    pub(crate) fn insert(&mut self, key: K, value: M::Value) {
        self.all.set(key.into(), value);
        self.place(key).set((key, Some(value)));
    }

    /// Forgets a key.
    #[inline]
    pub(crate) fn remove(&mut self, key: K) {
        self.all.forget(key.into());
        self.place(key).set((key, None));
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.all.count()
    }
}

impl<K: Key, S: BuildHasher + Default, const N: usize> Lately<K, HashMap<u64, u32, S>, N> {
    /// All values, in any order.
    pub(crate) fn values(&self) -> impl Iterator<Item = u32> + '_ {
        self.all.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash::ByNumber;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((1u64..40, 0u32..6), 0..200)) {
            let mut lately: Lately<u64, ByNumber<u64, u32>, 16> = Lately::default();
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
