//! A hash for numbers that only the kernel chooses, or we do: addresses of its
//! structures, its cookies, our slots.
//!
//! Contract: fast, and no protection against who chooses the keys: what others
//! choose (addresses, process ids) is not to be hashed by this, but for ports, of
//! which there are so few that all of them do no harm.

use crate::sys::random;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

/// A map by such a number.
pub type ByNumber<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// 2^64 by the golden ratio: its multiples are spread evenly (Knuth, volume 3,
/// 6.4).
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies; the table takes the low bits of the result, and the high ones.
#[derive(Debug, Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * u128::from(GOLDEN);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

/// The standard library's hash, for numbers that others choose: what comes first is what
/// nobody else knows. Its own way to that, `RandomState`, has a panic that takes 16 KB of
/// the binary.
#[derive(Clone, Debug)]
pub struct Keyed(DefaultHasher);

impl Default for Keyed {
    #[inline]
    fn default() -> Keyed {
        Keyed::by(random::keys())
    }
}

impl Keyed {
    fn by(keys: [u64; 2]) -> Keyed {
        let mut hasher = DefaultHasher::new();
        keys.into_iter().for_each(|key| hasher.write_u64(key));
        Keyed(hasher)
    }
}

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_count_and_stay() {
        let number = 0x0123_4567_89ab_cdefu64;
        let keyed = [[0, 0], [1, 0], [0, 1]].map(Keyed::by);
        let mut all: Vec<u64> = keyed.iter().map(|keyed| keyed.hash_one(number)).collect();
        all.push(Keyed::default().hash_one(number));
        assert_eq!(Keyed::default().hash_one(number), all[3]);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    /// All ports are in different places of a table of twice as many, or nearly so.
    #[test]
    fn no_choice_of_ports_does_harm() {
        let hash = |n: u32| BuildHasherDefault::<Mix>::default().hash_one(n);
        for bits in [4, 8, 12, 16] {
            let mut places = vec![0u32; 1 << bits];
            (0..1 << 16).for_each(|n| places[hash(n) as usize % (1 << bits)] += 1);
            let even = 1 << (16 - bits);
            let most = places.iter().max();
            assert!(most.is_some_and(|n| *n < even * 2 + 8), "{bits} {most:?}");
        }
    }

    /// What a slab's objects, pages, slots and cookies look like.
    #[test]
    fn neighbours_are_spread() {
        let hash = |n: u64| BuildHasherDefault::<Mix>::default().hash_one(n);
        for step in [1, 2, 8, 64, 2368, 4096, 1 << 20, 1 << 32] {
            let all = (0..4096).map(|n| hash(0xffff_8881_0000_0000u64.wrapping_add(n * step)));
            let all: Vec<u64> = all.collect();
            for shift in [0, 57] {
                let mut places = [0; 128];
                all.iter()
                    .for_each(|n| places[(n >> shift) as usize % 128] += 1);
                // 32 each, if it were by chance; of all in one it would be 4096.
                let most = places.iter().max();
                assert!(most.is_some_and(|n| *n < 128), "{step} {shift} {most:?}");
            }
        }
    }
}
