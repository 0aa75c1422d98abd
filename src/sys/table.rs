//! The values of a BPF array, mapped: looked at without bpf(2).
//!
//! Contract: numbers of 64 bits, which the kernel's programs change at any
//! time; each is read and written whole, and in the order of the calls.
#![allow(unsafe_code, reason = "owns a mapping")]

use super::mapping::Mapping;
use super::{Errno, Result};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// The values of an array map that was made with
/// [`MMAPABLE`](super::bpf::MMAPABLE).
#[derive(Debug)]
pub(crate) struct Table {
    memory: Mapping,
    writable: bool,
}

impl Table {
    /// Maps the first `words` numbers of the array's values, which follow each
    /// other without a gap where their size is a multiple of 8 bytes
    /// (kernel/bpf/arraymap.c, array_map_alloc).
    pub(crate) fn new(map: BorrowedFd<'_>, words: usize) -> Result<Table> {
        Table::map(map, words, false)
    }

    /// The same, to be written to.
    pub(crate) fn writable(map: BorrowedFd<'_>, words: usize) -> Result<Table> {
        Table::map(map, words, true)
    }

    fn map(map: BorrowedFd<'_>, words: usize, writable: bool) -> Result<Table> {
        let len = words.checked_mul(8).ok_or(Errno::EINVAL)?;
        let memory = Mapping::new(map, len, writable)?;
        Ok(Table { memory, writable })
    }

    fn word(&self, word: usize) -> Option<&AtomicU64> {
        if word >= self.memory.len() / 8 {
            return None;
        }
        // SAFETY: within the mapping and aligned; programs change it by atomic
        // adds, and it is written to here by `set` alone, atomically.
        Some(unsafe { AtomicU64::from_ptr(self.memory.base().cast::<u64>().add(word)) })
    }

    /// A number; 0 behind the last one.
    pub(crate) fn get(&self, word: usize) -> u64 {
        self.word(word)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Sets a number of a table that is [writable](Table::writable).
    pub(crate) fn set(&self, word: usize, number: u64) {
        if let Some(word) = self.word(word).filter(|_| self.writable) {
            word.store(number, Ordering::Release);
        }
    }
}
