//! The values of a BPF array, mapped: looked at without bpf(2).
//!
//! Contract: numbers of 64 bits, which the kernel's programs change at any
//! time; each is read whole, and in the order of the calls. Nothing is written.
#![allow(unsafe_code)]

use super::{Errno, Result};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The values of an array map that was made with
/// [`MMAPABLE`](super::bpf::MMAPABLE).
#[derive(Debug)]
pub struct Table {
    base: NonNull<u64>,
    words: usize,
}

// SAFETY: the mapping is owned by this value alone and stays where it is.
unsafe impl Send for Table {}

impl Table {
    /// Maps the first `words` numbers of the array's values, which follow each
    /// other without a gap where their size is a multiple of 8 bytes
    /// (kernel/bpf/arraymap.c, array_map_alloc).
    pub fn new(map: BorrowedFd<'_>, words: usize) -> Result<Table> {
        let len = words.checked_mul(8).ok_or(Errno::EINVAL)?;
        // SAFETY: a new shared mapping of a descriptor, placed by the kernel.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let base = NonNull::new(base.cast()).ok_or(Errno::EINVAL)?;
        Ok(Table { base, words })
    }

    /// A number; 0 behind the last one.
    pub fn get(&self, word: usize) -> u64 {
        if word >= self.words {
            return 0;
        }
        // SAFETY: within the mapping and aligned; programs change it by atomic
        // adds, and nobody writes through this reference.
        let number = unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(word)) };
        number.load(Ordering::Acquire)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: base and length are of the mapping made in `new`, unmapped once.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.words * 8) };
    }
}
