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

/// Copies all of some bytes, by registers where they are 16 or more.
///
/// # Safety
/// `to` is memory for as many, and elsewhere.
#[inline(always)]
pub(super) unsafe fn whole<const N: usize>(to: *mut u8, from: &[u8; N]) {
    const WIDE: usize = 16;
    const { assert!(N <= 4 * WIDE) };
    let from = from.as_ptr();
    // SAFETY: what is copied lies within the N bytes.
    let some = |at: usize, n: usize| unsafe {
        std::ptr::copy_nonoverlapping(from.add(at), to.add(at), n);
    };
    if N < WIDE {
        return some(0, N);
    }
    some(0, WIDE);
    if N > 2 * WIDE {
        some(WIDE, WIDE);
    }
    if N > 3 * WIDE {
        some(2 * WIDE, WIDE);
    }
    if N > WIDE {
        some(N - WIDE, WIDE);
    }
}

/// Copies 32 bytes at most to a place that is apart.
///
/// # Safety
/// As for [`apart`].
#[inline(always)]
pub(super) unsafe fn short(to: *mut u8, from: *const u8, n: usize) {
    let both_ends = |wide: usize| {
        let last = n - wide;
        // SAFETY: both pieces lie within the n bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(from, to, wide);
            std::ptr::copy_nonoverlapping(from.add(last), to.add(last), wide);
        }
    };
    match n {
        16.. => both_ends(16),
        8..16 => both_ends(8),
        4..8 => both_ends(4),
        2..4 => both_ends(2),
        1 => both_ends(1),
        0 => {}
    }
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
