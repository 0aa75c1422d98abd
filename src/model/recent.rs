//! A bounded table that forgets what was not used lately.
//!
//! Contract: what was put in or looked up among the last `room` different keys
//! is there; at most twice as many are held. No order is kept: there are two
//! generations, and the older one is dropped when the younger is full.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The table.
#[derive(Debug)]
pub(crate) struct Recent<V, S = RandomState> {
    young: HashMap<u64, V, S>,
    old: HashMap<u64, V, S>,
    room: usize,
}

impl<V, S: BuildHasher + Default> Recent<V, S> {
    /// An empty table.
    pub(crate) fn new(room: usize) -> Recent<V, S> {
        Recent {
            young: HashMap::default(),
            old: HashMap::default(),
            room: room.max(1),
        }
    }

    /// The value of a key.
    pub(crate) fn get(&mut self, key: u64) -> Option<&mut V> {
        if !self.old.is_empty() {
            if let Some(value) = self.old.remove(&key) {
                self.insert(key, value);
            }
        }
        self.young.get_mut(&key)
    }

    /// The value of a key, which is not used by that.
    pub(crate) fn peek(&self, key: u64) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: u64, value: V) {
        if self.young.len() >= self.room && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_memory_is_bounded() {
        let mut table: Recent<&str> = Recent::new(100);
        table.insert(7, "kept");
        for key in 1000..100_000 {
            table.insert(key, "passing");
            assert_eq!(table.get(key), Some(&mut "passing"));
            if key % 50 == 0 {
                assert_eq!(table.get(7), Some(&mut "kept"), "{key}");
            }
            assert!(table.young.len() + table.old.len() <= 200);
        }
        assert_eq!(table.get(1000), None);
        for key in 99_901..100_000 {
            assert!(table.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn one_value_a_key() {
        let mut table: Recent<u32> = Recent::new(2);
        for (key, value) in [(1, 1), (2, 2), (3, 3), (1, 4), (2, 5)] {
            table.insert(key, value);
            assert_eq!(table.get(key).copied(), Some(value));
        }
        table.remove(1);
        assert_eq!(table.get(1), None);
        table.clear();
        assert_eq!(table.get(2), None);
    }
}
