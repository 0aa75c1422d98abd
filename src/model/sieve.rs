//! A set that is quick to say no.
//!
//! Contract: what was added may be there; of what was not, most is not.

/// The set: bits by a few bits of what is in it.
#[derive(Debug)]
pub(crate) struct Sieve([u64; 64]);

impl Sieve {
    /// Of nothing.
    pub(crate) fn new() -> Sieve {
        Sieve([0; 64])
    }

    #[inline]
    fn bit(of: u32) -> (usize, u64) {
        ((of >> 6 & 63) as usize, 1 << (of & 63))
    }

    /// Adds something.
    pub(crate) fn add(&mut self, of: u32) {
        let (word, bit) = Sieve::bit(of);
        self.0[word] |= bit;
    }

    /// Whether it may be there.
    #[inline]
    pub(crate) fn may_have(&self, of: u32) -> bool {
        let (word, bit) = Sieve::bit(of);
        self.0[word] & bit != 0
    }
}
