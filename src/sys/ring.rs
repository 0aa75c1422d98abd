//! The mmap pages of a perf event: one control page, then the data ring.
//!
//! Contract: bytes between tail and head belong to us, the rest to the kernel
//! (kernel/events/ring_buffer.c, "data_head / data_tail" barriers). A
//! [`RingMap`] hands out only the former, and only while its tail can't move.
#![allow(unsafe_code, reason = "owns a mapping")]

use super::mapping::Mapping;
use super::{Errno, Result};
use nix::unistd::{SysconfVar, sysconf};
use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Offsets in struct perf_event_mmap_page, in bytes.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;
const DATA_OFFSET: usize = 1040;
const DATA_SIZE: usize = 1048;

/// What a CPU fetches at once, in bytes.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// The size of a page of memory, in bytes.
pub fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok())
        .unwrap_or(4096)
}

/// A mapped perf ring.
#[derive(Debug)]
pub struct RingMap {
    memory: Mapping,
    data_offset: usize,
    data_size: usize,
    fullest: usize,
}

impl RingMap {
    /// Maps the ring of a perf event with `data_size` bytes of data, a power
    /// of two and a multiple of the page size. `EPERM` means that the locked
    /// memory limit (perf_event_mlock_kb, RLIMIT_MEMLOCK) is reached.
    pub fn new(event: BorrowedFd<'_>, data_size: usize) -> Result<RingMap> {
        let page = page_size();
        if !data_size.is_power_of_two() || data_size % page != 0 {
            return Err(Errno::EINVAL);
        }
        let len = data_size.checked_add(page).ok_or(Errno::EINVAL)?;
        let mut map = RingMap {
            memory: Mapping::new(event, len, true)?,
            data_offset: 0,
            data_size: 0,
            fullest: 0,
        };
        let offset = map.control(DATA_OFFSET).load(Ordering::Relaxed) as usize;
        let size = map.control(DATA_SIZE).load(Ordering::Relaxed) as usize;
        // Before Linux 4.1 both are 0; what lies outside of the mapping is a lie.
        (map.data_offset, map.data_size) = match (offset, size) {
            (0, 0) => (page, data_size),
            (o, s) if s.is_power_of_two() && o.checked_add(s).is_some_and(|e| e <= len) => (o, s),
            _ => return Err(Errno::EINVAL),
        };
        Ok(map)
    }

    fn control(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: offset is one of the four above, 8-aligned and within the
        // control page; the kernel accesses these words atomically.
        unsafe { AtomicU64::from_ptr(self.memory.base().add(offset).cast()) }
    }

    /// Size of the data ring in bytes.
    pub fn data_size(&self) -> usize {
        self.data_size
    }

    /// The unread bytes, oldest first, in two slices (the second is empty
    /// unless the unread part wraps around the ring's end).
    pub fn unread(&self) -> (&[u8], &[u8]) {
        let head = self.control(DATA_HEAD).load(Ordering::Acquire);
        let tail = self.control(DATA_TAIL).load(Ordering::Relaxed);
        let len = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX);
        let len = len.min(self.data_size);
        let start = (tail as usize) & (self.data_size - 1);
        let first = len.min(self.data_size - start);
        // SAFETY: both slices lie within the data area, between tail and head,
        // where the kernel writes nothing until `consume` moves the tail; that
        // takes `&mut self`, which the slices' lifetimes forbid.
        unsafe {
            let data = self.memory.base().add(self.data_offset);
            (
                std::slice::from_raw_parts(data.add(start), first),
                std::slice::from_raw_parts(data, len - first),
            )
        }
    }

    /// Gives `len` bytes, the oldest unread ones, back to the kernel.
    pub fn consume(&mut self, len: usize) {
        let head = self.control(DATA_HEAD).load(Ordering::Relaxed);
        let tail = self.control(DATA_TAIL).load(Ordering::Relaxed);
        let len = (len as u64).min(head.wrapping_sub(tail));
        self.control(DATA_TAIL)
            .store(tail.wrapping_add(len), Ordering::SeqCst);
        // What came up to here met the old tail.
        let head = self.control(DATA_HEAD).load(Ordering::SeqCst);
        let fill = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX);
        self.fullest = self.fullest.max(fill);
    }

    /// The most unread bytes that there were since the last call. The kernel
    /// drops a record only where it and these don't fit together.
    pub fn take_fullest(&mut self) -> usize {
        let unread = self.unread();
        let unread = unread.0.len() + unread.1.len();
        std::mem::take(&mut self.fullest).max(unread)
    }
}

/// Says that the bytes from `at` of these will be read soon, so that the CPU may
/// fetch them meanwhile: so many, where there are.
#[inline(always)]
pub fn expect(bytes: &[u8], at: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let mut line = 0;
        while line < len {
            let place = bytes.as_ptr().wrapping_add(at + line);
            // SAFETY: it changes nothing but what is in the caches, wherever it is.
            unsafe { _mm_prefetch(place.cast(), _MM_HINT_T0) };
            line += CACHE_LINE;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, at, len);
}

/// A ring being read: what was used of it goes back to the kernel once, when
/// this is dropped, also by a panic.
#[derive(Debug)]
pub struct Drain<'a> {
    map: &'a mut RingMap,
    used: Cell<usize>,
}

impl RingMap {
    /// Starts to read.
    pub fn drain(&mut self) -> Drain<'_> {
        Drain {
            map: self,
            used: Cell::new(0),
        }
    }
}

impl Drain<'_> {
    /// The unread bytes; see [`RingMap::unread`].
    pub fn unread(&self) -> (&[u8], &[u8]) {
        self.map.unread()
    }

    /// How many of the unread bytes are done with.
    #[inline]
    pub fn used(&self) -> &Cell<usize> {
        &self.used
    }
}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        self.map.consume(self.used.get());
    }
}
