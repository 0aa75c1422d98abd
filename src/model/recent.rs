//! A bounded table that forgets what was not used lately.
//!
//! Contract: what was put in or looked up among the last `room` different keys
//! is there; at most twice as many are held. No order is kept: there are two
//! generations, and the older one is dropped when the younger is full.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The table. All of them look up places by the same code: only these hold values.
#[derive(Debug)]
pub(crate) struct Recent<V, S = RandomState> {
    places: HashMap<u64, u32, S>,
    slots: Vec<Slot<V>>,
    /// Places of slots that are empty.
    free: Vec<u32>,
    /// The younger generation's mark, and how many are of it.
    mark: bool,
    young: usize,
    room: usize,
}

#[derive(Debug)]
struct Slot<V> {
    key: u64,
    mark: bool,
    value: Option<V>,
}

impl<V, S: BuildHasher + Default> Recent<V, S> {
    /// An empty table.
    pub(crate) fn new(room: usize) -> Recent<V, S> {
        Recent {
            places: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            mark: false,
            young: 0,
            room: room.max(1),
        }
    }

    /// The value of a key.
    pub(crate) fn get(&mut self, key: u64) -> Option<&mut V> {
        let place = *self.places.get(&key)?;
        self.touch(place);
        self.slots.get_mut(place as usize)?.value.as_mut()
    }

    /// The value of a key, which is not used by that.
    pub(crate) fn peek(&self, key: u64) -> Option<&V> {
        let place = *self.places.get(&key)?;
        self.slots.get(place as usize)?.value.as_ref()
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: u64, value: V) {
        if let Some(known) = self.get(key) {
            *known = value;
            return;
        }
        if self.young >= self.room {
            self.turn();
        }
        let (mark, value) = (self.mark, Some(value));
        let slot = Slot { key, mark, value };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.young += 1;
        self.places.insert(key, place);
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, key: u64) {
        if let Some(place) = self.places.remove(&key) {
            self.young -= usize::from(self.slots[place as usize].mark == self.mark);
            self.empty(place);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Recent::new(self.room);
    }

    /// Makes one the youngest.
    fn touch(&mut self, place: u32) {
        if self.slots[place as usize].mark == self.mark {
            return;
        }
        if self.young >= self.room {
            // It is not to go with the others of its age.
            self.slots[place as usize].mark = self.mark;
            self.turn();
        }
        self.slots[place as usize].mark = self.mark;
        self.young += 1;
    }

    /// Drops the older generation; the younger becomes it.
    fn turn(&mut self) {
        for place in 0..self.slots.len() as u32 {
            let slot = &self.slots[place as usize];
            if slot.mark != self.mark && slot.value.is_some() {
                self.places.remove(&slot.key);
                self.empty(place);
            }
        }
        (self.mark, self.young) = (!self.mark, 0);
    }

    fn empty(&mut self, place: u32) {
        self.slots[place as usize].value = None;
        self.free.push(place);
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
            assert!(table.places.len() <= 200 && table.slots.len() <= 201);
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
