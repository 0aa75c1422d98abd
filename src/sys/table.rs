//! The values of a BPF array, mapped: looked at without bpf(2).
//!
//! Contract: numbers of 64 bits, which the kernel's programs change at any
//! time; each is read whole, and in the order of the calls. Nothing is written.
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
}

impl Table {
    /// Maps the first `words` numbers of the array's values, which follow each
    /// other without a gap where their size is a multiple of 8 bytes
    /// (kernel/bpf/arraymap.c, array_map_alloc).
    pub(crate) fn new(map: BorrowedFd<'_>, words: usize) -> Result<Table> {
        let len = words.checked_mul(8).ok_or(Errno::EINVAL)?;
        let memory = Mapping::new(map, len, false)?;
        Ok(Table { memory })
    }

    /// A number; 0 behind the last one.
    pub(crate) fn get(&self, word: usize) -> u64 {
        if word >= self.memory.len() / 8 {
            return 0;
        }
        // SAFETY: within the mapping and aligned; programs change it by atomic
        // adds, and nobody writes through this reference.
        let number = unsafe { AtomicU64::from_ptr(self.memory.base().cast::<u64>().add(word)) };
        number.load(Ordering::Acquire)
    }
}
