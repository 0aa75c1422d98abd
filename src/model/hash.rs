//! A hash for numbers that only the kernel chooses, or we do: addresses of its
//! structures, its cookies, our slots.
//!
//! Contract: fast, and no protection against who chooses the keys: what others
//! choose (addresses, process ids) is not to be hashed by this, but for ports, of
//! which there are so few that all of them do no harm.

use crate::sys::random;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

/// A map by such a number.
pub type ByNumber<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// 2^64 by the golden ratio: its multiples are spread evenly (Knuth, volume 3,
/// 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies; the table takes the low bits of the result, and the high ones.
#[derive(Debug, Default)]
pub struct Mix(u64);

impl Hasher for Mix {
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

/// The same for numbers that others choose: SipHash-1-3 with keys that nobody else knows,
/// as that of the standard library, which for its keys and its bytes takes 5 KB of the
/// binary.
#[derive(Clone, Copy, Debug)]
pub struct Keyed([u64; 2]);

impl Default for Keyed {
    fn default() -> Keyed {
        Keyed(random::keys())
    }
}

impl BuildHasher for Keyed {
    type Hasher = Sip;

    #[inline(always)]
    fn build_hasher(&self) -> Sip {
        let [one, other] = self.0;
        Sip {
            state: [
                one ^ 0x736f_6d65_7073_6575,
                other ^ 0x646f_7261_6e64_6f6d,
                one ^ 0x6c79_6765_6e65_7261,
                other ^ 0x7465_6462_7974_6573,
            ],
            len: 0,
        }
    }
}

/// A hash of words, of which each number is one.
#[derive(Debug)]
pub struct Sip {
    state: [u64; 4],
    len: u64,
}

/// A round of it.
#[inline(always)]
fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    c = c.wrapping_add(d);
    b = b.rotate_left(13) ^ a;
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32).wrapping_add(d);
    c = c.wrapping_add(b);
    d = d.rotate_left(21) ^ a;
    b = b.rotate_left(17) ^ c;
    [a, b, c.rotate_left(32), d]
}

#[inline(always)]
fn take([a, b, c, d]: [u64; 4], word: u64) -> [u64; 4] {
    let [a, b, c, d] = round([a, b, c, d ^ word]);
    [a ^ word, b, c, d]
}

impl Sip {
    /// What is not the one number of a key.
    #[inline(never)]
    fn word(&mut self, word: u64) {
        self.write_u64(word);
    }
}

impl Hasher for Sip {
    #[inline(always)]
    fn finish(&self) -> u64 {
        let [a, b, c, d] = take(self.state, self.len << 56);
        let mut state = [a, b, c ^ 0xff, d];
        for _ in 0..3 {
            state = round(state);
        }
        let [a, b, c, d] = state;
        a ^ b ^ c ^ d
    }

    /// Their number is known, or comes before them.
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.word(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.word(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.word(number.into());
    }

    #[inline(always)]
    fn write_u64(&mut self, number: u64) {
        self.len = self.len.wrapping_add(8);
        self.state = take(self.state, number);
    }

    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::DefaultHasher;

    /// The standard library's has no keys of its own.
    #[test]
    fn numbers_give_siphash() {
        let (mut ours, mut theirs) = (Keyed([0, 0]).build_hasher(), DefaultHasher::new());
        for number in [0, 1, 1 << 63, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(ours.finish(), theirs.finish());
            ours.write_u64(number);
            theirs.write_u64(number);
        }
        ours.write(b"12345678abcdefgh");
        theirs.write(b"12345678abcdefgh");
        assert_eq!(ours.finish(), theirs.finish());
    }

    #[test]
    fn keys_count_and_stay() {
        let number = 0x0123_4567_89ab_cdefu64;
        let mut all = vec![
            Keyed([0, 0]).hash_one(number),
            Keyed([1, 0]).hash_one(number),
        ];
        all.extend([Keyed([0, 1]), Keyed::default()].map(|keyed| keyed.hash_one(number)));
        all.dedup();
        assert_eq!(all.len(), 4);
        assert_eq!(Keyed::default().hash_one(number), all[3]);
        assert_ne!(
            Keyed::default().hash_one([1u8, 2]),
            Keyed::default().hash_one([1u8, 3])
        );
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
