//! Memory that can't be changed any more, at an address known beforehand.
//!
//! A seccomp filter sees the pointers that a call is given, not what they point
//! to. What may still be pointed to is therefore copied here; the filter then
//! asks for a pointer into [`Sealed::START`]`..`[`Sealed::START`]` + `[`Sealed::LEN`]
//! and lets no call change the mapping.
//!
//! Contract: there is one such area in a process, and it stays to its end.
#![allow(unsafe_code, reason = "owns a mapping")]

use super::{Errno, Result};
use std::ffi::CStr;

/// The area while it can still be written to.
#[derive(Debug)]
pub struct Sealed {
    used: usize,
}

impl Sealed {
    /// Where it is: below everything that the kernel or the C library puts
    /// anywhere in a process of 64 bits, even in one of 36 (arm64).
    pub const START: usize = 0x4_8000_0000;
    /// Its size in bytes: a multiple of every page size, and a power of two.
    pub const LEN: usize = 1 << 16;

    /// Maps it. EEXIST: there is one already.
    pub fn new() -> Result<Sealed> {
        // SAFETY: a new private mapping that replaces none.
        let base = unsafe {
            libc::mmap(
                std::ptr::with_exposed_provenance_mut(Sealed::START),
                Sealed::LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        if base.addr() != Sealed::START {
            // Linux before 4.17 takes the address as a hint.
            // SAFETY: this is the mapping made above, which nothing uses.
            unsafe { libc::munmap(base, Sealed::LEN) };
            return Err(Errno::EEXIST);
        }
        Ok(Sealed { used: 0 })
    }

    fn room(&mut self, size: usize, align: usize) -> Result<*mut u8> {
        let at = self.used.next_multiple_of(align);
        let end = at.checked_add(size).ok_or(Errno::ENOMEM)?;
        if end > Sealed::LEN {
            return Err(Errno::ENOMEM);
        }
        self.used = end;
        Ok(std::ptr::with_exposed_provenance_mut(Sealed::START + at))
    }

    /// Copies a value into it.
    pub fn value<T: Clone + Send + Sync + 'static>(&mut self, value: &T) -> Result<&'static T> {
        let at = self.room(size_of::<T>(), align_of::<T>())?.cast::<T>();
        // SAFETY: room for a T, aligned and used for nothing else; the mapping
        // is never undone.
        unsafe {
            at.write(value.clone());
            Ok(&*at)
        }
    }

    /// Copies a string into it.
    pub fn text(&mut self, text: &CStr) -> Result<&'static CStr> {
        let bytes = text.to_bytes_with_nul();
        let at = self.room(bytes.len(), 1)?;
        // SAFETY: room for these bytes, used for nothing else, never unmapped;
        // the last of them is the only NUL.
        unsafe {
            at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Ok(CStr::from_ptr(at.cast()))
        }
    }

    /// Makes it unwritable.
    pub fn seal(self) -> Result<()> {
        let base = std::ptr::with_exposed_provenance_mut(Sealed::START);
        // SAFETY: what was handed out of the mapping is only read.
        match unsafe { libc::mprotect(base, Sealed::LEN, libc::PROT_READ) } {
            0 => Ok(()),
            _ => Err(Errno::last()),
        }
    }
}
