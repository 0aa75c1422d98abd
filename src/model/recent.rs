//! A bounded table that forgets what was not used lately.
//!
//! Contract: what was put in or looked up among the last `room` different keys
//! is there; at most twice as many are held. No order is kept: there are two
//! generations, and the older one is dropped when the younger is full.

use super::hash::Keyed;
use std::hash::BuildHasher;

/// No slot.
const NONE: u32 = u32::MAX;
/// Chains at first.
const FEW: usize = 16;

/// The table. All of them find the places of their values by the same code.
#[derive(Debug)]
pub(crate) struct Recent<V, S = Keyed> {
    hasher: S,
    index: Index,
    /// Those of the index's slots; of an empty one, what was there before.
    values: Vec<V>,
}

/// Which keys there are, and where.
#[derive(Debug)]
struct Index {
    /// The first slots of chains, by hash: a power of two of them, or none.
    heads: Vec<u32>,
    slots: Vec<Slot>,
    /// The first of the slots that are empty, which are a chain, too.
    free: u32,
    /// The younger generation's mark, and how many are of it.
    mark: bool,
    young: usize,
    room: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u64,
    hash: u32,
    /// The next of its chain.
    next: u32,
    mark: bool,
    is_empty: bool,
}

impl Index {
    /// Where the chain of a hash begins; none where there is nothing.
    #[inline(always)]
    fn chain(&mut self, hash: u32) -> Option<&mut u32> {
        let mask = self.heads.len().wrapping_sub(1);
        self.heads.get_mut(hash as usize & mask)
    }

    /// The slot of a key.
    #[inline]
    fn find(&self, hash: u32, key: u64) -> Option<u32> {
        let mask = self.heads.len().wrapping_sub(1);
        let mut at = *self.heads.get(hash as usize & mask)?;
        loop {
            let slot = self.slots.get(at as usize)?;
            if slot.key == key {
                return Some(at);
            }
            at = slot.next;
        }
    }

    /// Makes one the youngest.
    #[inline(always)]
    fn touch(&mut self, at: u32) {
        let mark = self.mark;
        if self.slots.get(at as usize).is_some_and(|s| s.mark != mark) {
            self.renew(at);
        }
    }

    #[cold]
    #[inline(never)]
    fn renew(&mut self, at: u32) {
        if self.young >= self.room {
            // It is not to go with the others of its age.
            self.slots[at as usize].mark = self.mark;
            self.turn();
        }
        self.slots[at as usize].mark = self.mark;
        self.young += 1;
    }

    /// The slot of a key, the youngest from here on.
    #[inline]
    fn claim(&mut self, hash: u32, key: u64) -> u32 {
        if let Some(at) = self.find(hash, key) {
            self.touch(at);
            return at;
        }
        if self.young >= self.room {
            self.turn();
        }
        let slot = Slot {
            key,
            hash,
            next: NONE,
            mark: self.mark,
            is_empty: false,
        };
        self.young += 1;
        let at = self.free;
        if let Some(place) = self.slots.get_mut(at as usize) {
            self.free = place.next;
            *place = slot;
            self.link(at);
            return at;
        }
        let at = self.slots.len() as u32;
        self.slots.push(slot);
        match self.slots.len() > self.heads.len() {
            true => self.relink(FEW.max(2 * self.heads.len())),
            false => self.link(at),
        }
        at
    }

    /// Puts a slot where it belongs: before all of its chain.
    #[inline]
    fn link(&mut self, at: u32) {
        let slot = self.slots[at as usize];
        let head = match slot.is_empty {
            true => Some(&mut self.free),
            false => self.chain(slot.hash),
        };
        if let Some(head) = head {
            let next = std::mem::replace(head, at);
            self.slots[at as usize].next = next;
        }
    }

    /// Makes so many chains of all slots.
    #[cold]
    fn relink(&mut self, chains: usize) {
        self.heads.clear();
        self.heads.resize(chains, NONE);
        self.free = NONE;
        for at in 0..self.slots.len() as u32 {
            self.link(at);
        }
    }

    /// Forgets a key.
    #[inline]
    fn forget(&mut self, hash: u32, key: u64) {
        let Some(mut at) = self.chain(hash).copied() else {
            return;
        };
        let mut before = NONE;
        loop {
            let Some(slot) = self.slots.get_mut(at as usize) else {
                return;
            };
            if slot.key == key {
                slot.is_empty = true;
                self.young -= usize::from(slot.mark == self.mark);
                let next = slot.next;
                match self.slots.get_mut(before as usize) {
                    Some(slot) => slot.next = next,
                    None => self.chain(hash).into_iter().for_each(|head| *head = next),
                }
                return self.link(at);
            }
            (before, at) = (at, slot.next);
        }
    }

    /// Drops the older generation; the younger becomes it.
    #[cold]
    fn turn(&mut self) {
        let mark = self.mark;
        for slot in &mut self.slots {
            slot.is_empty |= slot.mark != mark;
        }
        (self.mark, self.young) = (!mark, 0);
        self.relink(self.heads.len());
    }
}

impl<V, S: BuildHasher + Default> Recent<V, S> {
    /// An empty table.
    pub(crate) fn new(room: usize) -> Recent<V, S> {
        Recent {
            hasher: S::default(),
            index: Index {
                heads: Vec::new(),
                slots: Vec::new(),
                free: NONE,
                mark: false,
                young: 0,
                room: room.max(1),
            },
            values: Vec::new(),
        }
    }

    #[inline]
    fn hash(&self, key: u64) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&mut self, key: u64) -> Option<&mut V> {
        let at = self.index.find(self.hash(key), key)?;
        self.index.touch(at);
        self.values.get_mut(at as usize)
    }

    /// The value of a key, which is not used by that.
    pub(crate) fn peek(&self, key: u64) -> Option<&V> {
        let at = self.index.find(self.hash(key), key)?;
        self.values.get(at as usize)
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: u64, value: V) {
        let at = self.index.claim(self.hash(key), key) as usize;
        match self.values.get_mut(at) {
            Some(place) => *place = value,
            None => self.values.push(value),
        }
    }

    /// The place of a key's value: of a new key any value is there, or this one.
    #[inline]
    pub(crate) fn place(&mut self, key: u64, new: &V) -> Option<&mut V>
    where
        V: Copy,
    {
        let at = self.index.claim(self.hash(key), key) as usize;
        if at >= self.values.len() {
            self.values.push(*new);
        }
        self.values.get_mut(at)
    }

    /// Forgets a key.
    #[inline]
    pub(crate) fn remove(&mut self, key: u64) {
        self.index.forget(self.hash(key), key);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Recent::new(self.index.room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash::Mix;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::hash::BuildHasherDefault;

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
            assert!(table.index.slots.len() <= 201);
        }
        assert_eq!(table.get(1000), None);
        for key in 99_901..100_000 {
            assert!(table.get(key).is_some(), "{key}");
        }
    }

    proptest! {
        /// While there is room it is a map, whatever the hash.
        #[test]
        fn it_is_a_map(
            steps in prop::collection::vec((0u64..60, 0u32..6), 0..400),
            stride in prop::sample::select(vec![0u64, 1, 64, 2368, 1 << 32]),
        ) {
            let mut table: Recent<u32, BuildHasherDefault<Mix>> = Recent::new(60);
            let mut map = HashMap::new();
            for (n, (key, what)) in (0u32..).zip(steps) {
                let key = key.wrapping_mul(stride);
                match what {
                    0 => table.insert(key, n),
                    1 | 2 => *table.place(key, &n).expect("a place") = n,
                    3 => table.remove(key),
                    _ => {}
                }
                match what {
                    0..3 => drop(map.insert(key, n)),
                    3 => drop(map.remove(&key)),
                    _ => {}
                }
                prop_assert_eq!(table.get(key).copied(), map.get(&key).copied());
                let most = table.index.slots.len();
                prop_assert!(most <= 60 && table.values.len() == most);
                prop_assert!(map.keys().all(|key| table.peek(*key) == map.get(key)));
            }
        }

        /// Never another key's value, however little room there is.
        #[test]
        fn what_is_there_is_right(
            room in 1usize..6,
            steps in prop::collection::vec((0u64..12, 0u32..4), 0..200),
        ) {
            let (mut table, mut map) = (Recent::<u32>::new(room), HashMap::new());
            for (n, (key, what)) in (0u32..).zip(steps) {
                match what {
                    0 | 1 => {
                        table.insert(key, n);
                        map.insert(key, n);
                        prop_assert_eq!(table.peek(key), Some(&n));
                    }
                    2 => {
                        table.remove(key);
                        map.remove(&key);
                    }
                    _ => drop(table.get(key).copied()),
                }
                for key in 0..12 {
                    prop_assert!(table.peek(key).is_none_or(|n| Some(n) == map.get(&key)));
                }
                prop_assert!(table.index.slots.len() <= 2 * room + 1);
            }
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
