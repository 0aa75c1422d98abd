//! Copying of memory, where the C library's is slow.
//!
//! musl's memcpy for x86-64 is `rep movsq`, which takes long to begin, and nearly
//! all that is copied here is shorter than a line of text. [`memcpy`] and
//! [`memmove`] take its place in the whole program.
//!
//! Contract: memcpy(3) and memmove(3). What is read is read before anything is
//! written over it.

use std::arch::asm;
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// From so many bytes on, `rep movsb` is the fastest.
const LONG: usize = 1024;

const WIDE: usize = size_of::<__m128i>();

/// Copies the first and the last `T` of `n` bytes, which may overlap.
///
/// # Safety
/// As for `memmove`, and `n` is from the size of `T` to twice that.
#[inline(always)]
unsafe fn both_ends<T: Copy>(to: *mut u8, from: *const u8, n: usize) {
    let last = n - size_of::<T>();
    // SAFETY: both lie within the n bytes.
    unsafe {
        let first = from.cast::<T>().read_unaligned();
        let second = from.add(last).cast::<T>().read_unaligned();
        to.cast::<T>().write_unaligned(first);
        to.add(last).cast::<T>().write_unaligned(second);
    }
}

/// Copies `n` bytes, more than two registers' width, the lowest first.
///
/// # Safety
/// As for `memmove`; `to` is not within the bytes behind `from`.
#[inline(always)]
unsafe fn upwards(to: *mut u8, from: *const u8, n: usize) {
    let last = n - 2 * WIDE;
    // SAFETY: all that is read and written lies within the n bytes.
    unsafe {
        let ends = both(from.add(last));
        let mut at = 0;
        loop {
            put(to.add(at), both(from.add(at)));
            at += 2 * WIDE;
            // Without this the compiler may see a memcpy in the loop.
            asm!("", options(nostack, preserves_flags));
            if at >= last {
                break;
            }
        }
        put(to.add(last), ends);
    }
}

/// What two registers hold.
type Both = (__m128i, __m128i);

/// # Safety
/// There is as much memory.
#[inline(always)]
unsafe fn both(from: *const u8) -> Both {
    // SAFETY: by contract.
    unsafe {
        (
            _mm_loadu_si128(from.cast()),
            _mm_loadu_si128(from.add(WIDE).cast()),
        )
    }
}

/// # Safety
/// There is as much memory.
#[inline(always)]
unsafe fn put(to: *mut u8, (first, second): Both) {
    // SAFETY: by contract.
    unsafe {
        _mm_storeu_si128(to.cast(), first);
        _mm_storeu_si128(to.add(WIDE).cast(), second);
    }
}

/// The same, the highest first.
///
/// # Safety
/// As for `memmove`; `from` is not within the bytes behind `to`.
#[inline(always)]
unsafe fn downwards(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: all that is read and written lies within the n bytes.
    unsafe {
        let start = _mm_loadu_si128(from.cast());
        let mut at = n;
        while at > WIDE {
            at -= WIDE;
            let some = _mm_loadu_si128(from.add(at).cast());
            _mm_storeu_si128(to.add(at).cast(), some);
            asm!("", options(nostack, preserves_flags));
        }
        _mm_storeu_si128(to.cast(), start);
    }
}

/// # Safety
/// As for `memmove` if they may OVERLAP, else as for `memcpy`.
#[inline(always)]
unsafe fn copy<const OVERLAP: bool>(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: each piece is asked for what it takes; the caller vouches for the
    // rest.
    unsafe {
        // The lengths that come most often first.
        if n > 2 * WIDE {
            if OVERLAP && to.addr().wrapping_sub(from.addr()) < n {
                downwards(to, from, n);
            } else if n >= LONG {
                asm!(
                    "rep movsb",
                    inout("rcx") n => _,
                    inout("rdi") to => _,
                    inout("rsi") from => _,
                    options(nostack, preserves_flags),
                );
            } else {
                upwards(to, from, n);
            }
        } else if n >= WIDE {
            both_ends::<__m128i>(to, from, n);
        } else if n >= 8 {
            both_ends::<u64>(to, from, n);
        } else if n >= 4 {
            both_ends::<u32>(to, from, n);
        } else if n >= 2 {
            both_ends::<u16>(to, from, n);
        } else if n == 1 {
            to.write(from.read());
        }
    }
}

/// Copies to a place that is apart.
///
/// # Safety
/// As for `memcpy`.
#[inline(always)]
pub(in crate::sys) unsafe fn apart(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: by contract.
    unsafe { copy::<false>(to, from, n) };
}

/// memcpy(3)
///
/// # Safety
/// Both are `n` bytes of memory, and don't overlap.
#[cfg(any(test, all(target_env = "musl", not(debug_assertions))))]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(super) unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: by contract.
    unsafe { copy::<false>(to, from, n) };
    to
}

/// memmove(3)
///
/// # Safety
/// Both are `n` bytes of memory.
#[cfg(any(test, all(target_env = "musl", not(debug_assertions))))]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(super) unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: by contract.
    unsafe { copy::<true>(to, from, n) };
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length that has a way of its own, and every way that the two places
    /// may overlap.
    #[test]
    fn what_was_there_is_there() {
        let lengths = (0..=100).chain([255, 256, 1023, 1024, 1025, 1500]);
        for n in lengths {
            let apart = (0..=40).chain([n / 2, n, n + 1]).filter(|at| *at <= 2000);
            for at in apart {
                for (to, from) in [(0, at), (at, 0)] {
                    let before: Vec<u8> = (0..4000).map(|b| (b * 7 % 251) as u8).collect();
                    let mut expected = before.clone();
                    expected.splice(to..to + n, before[from..from + n].iter().copied());
                    let mut memory = before;
                    let start = memory.as_mut_ptr();
                    // SAFETY: both places are within the memory.
                    let got = unsafe { memmove(start.add(to), start.add(from), n) };
                    assert_eq!(got.addr(), start.addr() + to);
                    assert!(memory == expected, "{n} bytes from {from} to {to}");
                    let mut apart = vec![0; n];
                    // SAFETY: they are two.
                    unsafe { memcpy(apart.as_mut_ptr(), memory.as_ptr().add(to), n) };
                    assert!(apart == memory[to..to + n], "{n} bytes apart");
                }
            }
        }
    }
}
