//! Appending to a buffer of bytes in a few instructions.
//!
//! Contract: as [`Vec::extend_from_slice`], which is two calls for each piece,
//! and lines are made of many short ones.
#![allow(unsafe_code, reason = "writes behind the length of a buffer")]

use super::copy;
use std::arch::asm;

/// Whether so many more bytes fit.
#[inline(always)]
fn has_room(out: &Vec<u8>, most: usize) -> bool {
    let len = out.len();
    in_place();
    let capacity = out.capacity();
    in_place();
    capacity - len >= most
}

/// Where the next byte goes.
#[inline(always)]
fn end(out: &mut Vec<u8>) -> *mut u8 {
    // SAFETY: the length is within the capacity.
    unsafe { out.as_mut_ptr().add(out.len()) }
}

/// Keeps what stands before it apart from what stands behind it. The compiler makes
/// a function of what many places have in common (`scripts/build`): here the calls
/// would take longer than what they do.
#[inline(always)]
fn in_place() {
    // SAFETY: there is no instruction in it.
    unsafe { asm!("", options(nomem, nostack, preserves_flags)) };
}

/// Appends bytes.
pub(crate) fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    if !has_room(out, bytes.len()) {
        return append_with_more(out, bytes);
    }
    let to = end(out);
    // SAFETY: there is room for them behind the others, and they are elsewhere,
    // since nobody else has the buffer.
    unsafe {
        copy::apart(to, bytes.as_ptr(), bytes.len());
        out.set_len(out.len() + bytes.len());
    }
}

/// The same with more room: as its last step, so that the usual way needs nothing
/// on the stack.
#[cold]
#[inline(never)]
fn append_with_more(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len());
    append(out, bytes);
}

/// Appends one piece, another one, and a byte.
pub(crate) fn append_three(out: &mut Vec<u8>, first: &[u8], second: &[u8], last: u8) {
    let len = first.len().saturating_add(second.len()).saturating_add(1);
    if !has_room(out, len) {
        out.reserve(len);
    }
    let to = end(out);
    // SAFETY: there is room for all of them, as in `append`.
    unsafe {
        copy::apart(to, first.as_ptr(), first.len());
        copy::apart(to.add(first.len()), second.as_ptr(), second.len());
        to.add(len - 1).write(last);
        out.set_len(out.len() + len);
    }
}

/// Appends the first `len` bytes of a number, the lowest one first; eight at
/// most.
#[inline(always)]
pub(crate) fn append_word(out: &mut Vec<u8>, word: u64, len: u32) {
    if !has_room(out, size_of::<u64>()) {
        return append_word_with_more(out, word, len);
    }
    let to = end(out);
    // SAFETY: there is room for all eight.
    unsafe {
        to.cast::<u64>().write_unaligned(word.to_le());
        out.set_len(out.len() + len.min(8) as usize);
    }
}

/// As [`append_with_more`].
#[cold]
#[inline(never)]
fn append_word_with_more(out: &mut Vec<u8>, word: u64, len: u32) {
    out.reserve(size_of::<u64>());
    append_word(out, word, len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_by_the_standard_library() {
        let bytes: Vec<u8> = (0..=255).collect();
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        for len in (0..=256).chain([1, 0, 7]) {
            append(&mut out, &bytes[..len]);
            expected.extend_from_slice(&bytes[..len]);
            append_three(&mut out, &bytes[len..], &bytes[..len], b'"');
            expected.extend_from_slice(&bytes[len..]);
            expected.extend_from_slice(&bytes[..len]);
            expected.push(b'"');
            append_word(&mut out, 0x0807_0605_0403_0201, len as u32 % 10);
            expected.extend_from_slice(&bytes[1..=8][..(len % 10).min(8)]);
        }
        assert!(out == expected);
    }
}
