//! A map by numbers, of which there is little for each kind of value.
//!
//! Contract: as a map. Each kind of `HashMap` takes a kilobyte of the binary: here all
//! look up places by the same one, and only those hold values. A place that was left
//! is taken again, so that there are as many as there ever were values at once.

use super::hash::{Keyed, Mix};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault};

/// The map.
#[derive(Debug)]
pub(crate) struct Table<V, S = Keyed> {
    places: Places<S>,
    slots: Vec<Option<V>>,
}

/// One by numbers that only the kernel chooses, or we do.
pub(crate) type TableByNumber<V> = Table<V, BuildHasherDefault<Mix>>;

/// Which place is whose.
#[derive(Debug, Default)]
struct Places<S> {
    of: HashMap<u64, u32, S>,
    /// Those that were left.
    free: Vec<u32>,
}

impl<S: BuildHasher> Places<S> {
    #[inline(never)]
    fn find(&self, key: u64) -> Option<u32> {
        self.of.get(&key).copied()
    }

    /// The place of a key, which may be a new one behind all.
    #[inline(never)]
    fn take(&mut self, key: u64) -> u32 {
        if let Some(place) = self.find(key) {
            return place;
        }
        let behind = self.of.len() as u32;
        let place = self.free.pop().unwrap_or(behind);
        self.of.insert(key, place);
        place
    }

    #[inline(never)]
    fn leave(&mut self, key: u64) -> Option<u32> {
        let place = self.of.remove(&key)?;
        self.free.push(place);
        Some(place)
    }
}

impl<V, S: Default> Default for Table<V, S> {
    fn default() -> Table<V, S> {
        Table {
            places: Places::default(),
            slots: Vec::new(),
        }
    }
}

impl<V, S: BuildHasher> Table<V, S> {
    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, key: impl Into<u64>) -> Option<&V> {
        let place = self.places.find(key.into())?;
        self.slots.get(place as usize)?.as_ref()
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, key: impl Into<u64>) -> Option<&mut V> {
        let place = self.places.find(key.into())?;
        self.slots.get_mut(place as usize)?.as_mut()
    }

    /// Whether there is one.
    pub(crate) fn has(&self, key: impl Into<u64>) -> bool {
        self.places.find(key.into()).is_some()
    }

    fn slot(&mut self, key: u64) -> &mut Option<V> {
        let place = self.places.take(key) as usize;
        if place == self.slots.len() {
            self.slots.push(None);
        }
        &mut self.slots[place]
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: impl Into<u64>, value: V) {
        *self.slot(key.into()) = Some(value);
    }

    /// The value of a key; one that is not there yet is made.
    pub(crate) fn entry(&mut self, key: impl Into<u64>) -> &mut V
    where
        V: Default,
    {
        self.slot(key.into()).get_or_insert_default()
    }

    /// Takes the value of a key out.
    #[inline]
    pub(crate) fn remove(&mut self, key: impl Into<u64>) -> Option<V> {
        let place = self.places.leave(key.into())?;
        self.slots.get_mut(place as usize)?.take()
    }

    /// Takes all out.
    pub(crate) fn clear(&mut self) {
        self.places.of.clear();
        self.places.free.clear();
        self.slots.clear();
    }

    /// All keys, in any order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.places.of.keys().copied()
    }

    /// All values, in any order.
    #[inline]
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().flatten()
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.places.of.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u32..40, 0u32..9), 0..300)) {
            let mut table: Table<Vec<u32>> = Table::default();
            let mut map: HashMap<u64, Vec<u32>> = HashMap::new();
            let mut most = 0;
            for (key, what) in steps {
                let wide = u64::from(key);
                match what {
                    0..3 => prop_assert_eq!(table.remove(key), map.remove(&wide)),
                    3 | 4 => {
                        table.insert(key, vec![what]);
                        map.insert(wide, vec![what]);
                    }
                    5 => {
                        table.entry(key).push(what);
                        map.entry(wide).or_default().push(what);
                    }
                    6 if key == 0 => {
                        table.clear();
                        map.clear();
                    }
                    _ => {}
                }
                prop_assert_eq!(table.get(key), map.get(&wide));
                prop_assert_eq!(table.get_mut(key), map.get_mut(&wide));
                prop_assert_eq!(table.has(key), map.contains_key(&wide));
                prop_assert_eq!((table.len(), table.is_empty()), (map.len(), map.is_empty()));
                most = most.max(map.len());
                prop_assert!(table.slots.len() <= most);
            }
            let mut keys: Vec<u64> = table.keys().collect();
            let mut wanted: Vec<u64> = map.keys().copied().collect();
            keys.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(keys, wanted);
            let mut values: Vec<Vec<u32>> = table.values().cloned().collect();
            let mut wanted: Vec<Vec<u32>> = map.into_values().collect();
            values.sort();
            wanted.sort();
            prop_assert_eq!(values, wanted);
        }
    }
}
