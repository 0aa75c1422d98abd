//! Copying of memory: by code of our own where the C library's is slow.
//!
//! Contract: see [`apart`].
#![allow(unsafe_code, reason = "copies by pointers")]

#[cfg(target_arch = "x86_64")]
mod short;

#[cfg(target_arch = "x86_64")]
pub(super) use short::apart;

/// Copies to a place that is apart.
///
/// # Safety
/// Both are `n` bytes of memory, and don't overlap.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) unsafe fn apart(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: by contract.
    unsafe { std::ptr::copy_nonoverlapping(from, to, n) };
}
