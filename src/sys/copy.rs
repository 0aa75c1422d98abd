//! Copying of memory: by code of our own where the C library's is slow.
//!
//! Contract: see [`apart`] and [`put`].
#![allow(unsafe_code, reason = "copies by pointers")]

use std::arch::asm;

#[cfg(target_arch = "x86_64")]
mod short;

#[cfg(target_arch = "x86_64")]
pub(super) use short::apart;

/// Puts a value into its place: as `*to = *from`, which where code is to be small the
/// compiler makes a `rep movsb`, and that takes longer to begin than all the rest.
#[inline(always)]
pub(crate) fn put<T: Copy>(to: &mut T, from: &T) {
    let mut n = size_of::<T>();
    // SAFETY: there is no instruction in it; from here on the compiler does not know
    // how much it is.
    unsafe { asm!("/* {} */", inout(reg) n, options(pure, nomem, nostack, preserves_flags)) };
    // SAFETY: both are a value of so many bytes, and nobody else has one of them.
    unsafe {
        std::ptr::copy_nonoverlapping::<u8>(
            std::ptr::from_ref(from).cast(),
            std::ptr::from_mut(to).cast(),
            n,
        )
    };
}

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
