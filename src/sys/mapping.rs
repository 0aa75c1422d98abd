//! A mapping of a descriptor that is undone when it is dropped.
#![allow(unsafe_code, reason = "owns a mapping")]

use super::{Errno, Result};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// The mapping; its owner alone may touch the memory.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is owned by this value alone and stays where it is.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes, shared with the kernel, where it chooses; to be
    /// written to as well where `writable`.
    pub(super) fn new(fd: BorrowedFd<'_>, len: usize, writable: bool) -> Result<Mapping> {
        let prot = match writable {
            true => libc::PROT_READ | libc::PROT_WRITE,
            false => libc::PROT_READ,
        };
        Mapping::of(fd, len, prot, libc::MAP_SHARED)
    }

    /// Maps the first `len` bytes for nobody else, to be read.
    pub(super) fn of_private(fd: BorrowedFd<'_>, len: usize) -> Result<Mapping> {
        Mapping::of(fd, len, libc::PROT_READ, libc::MAP_PRIVATE)
    }

    fn of(fd: BorrowedFd<'_>, len: usize, prot: i32, flags: i32) -> Result<Mapping> {
        let fd = fd.as_raw_fd();
        // SAFETY: a new mapping of a descriptor, placed by the kernel.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let base = NonNull::new(base.cast()).ok_or(Errno::EINVAL)?;
        Ok(Mapping { base, len })
    }

    /// Where it is, aligned to a page.
    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are of the mapping made in `new`, unmapped once.
        unsafe { libc::munmap(self.base().cast(), self.len) };
    }
}
