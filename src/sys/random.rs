//! What nobody else knows.
//!
//! Contract: no system call: it is there from the start, and the same all the time.
#![allow(unsafe_code, reason = "reads what the kernel has put above the stack")]

use std::ptr;

/// The 16 bytes that the kernel draws for each program that it starts (AT_RANDOM,
/// fs/binfmt_elf.c); zero where there are none.
pub(crate) fn keys() -> [u64; 2] {
    // SAFETY: it takes a number and returns one.
    let at = unsafe { libc::getauxval(libc::AT_RANDOM) };
    let at = ptr::with_exposed_provenance::<[u64; 2]>(at as usize);
    if at.is_null() {
        return [0, 0];
    }
    // SAFETY: the kernel has put 16 bytes there, wherever that is, and nobody changes them.
    unsafe { at.read_unaligned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_random_and_stay() {
        let keys = keys();
        assert!(keys.iter().all(|key| *key != 0) && keys[0] != keys[1]);
        assert_eq!(keys, super::keys());
    }
}
