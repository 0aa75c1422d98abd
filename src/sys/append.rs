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
#[inline]
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

/// Makes room for so many more bytes.
#[cold]
#[inline(never)]
fn grow(out: &mut Vec<u8>, more: usize) {
    out.reserve(more);
}

/// Appends a piece whose length never differs.
#[inline(always)]
pub(crate) fn append_piece<const N: usize>(out: &mut Vec<u8>, piece: &[u8; N]) {
    append_padded(out, piece, N);
}

/// Appends the first `len` of some bytes, by copying all.
#[inline(always)]
pub(crate) fn append_padded<const N: usize>(out: &mut Vec<u8>, all: &[u8; N], len: usize) {
    if !has_room(out, N) {
        grow(out, N);
    }
    let to = end(out);
    // SAFETY: there is room for all of them, as in `append`.
    unsafe {
        copy::whole(to, all);
        out.set_len(out.len() + len.min(N));
    }
}

/// The same, and the first bytes of two words behind them, as by [`append_word`].
#[inline(always)]
pub(crate) fn append_stamp<const N: usize>(
    out: &mut Vec<u8>,
    (all, len): (&[u8; N], usize),
    (first, first_len): (u64, u32),
    (second, second_len): (u64, u32),
) {
    if !has_room(out, N + 2 * size_of::<u64>()) {
        grow(out, N + 2 * size_of::<u64>());
    }
    let (len, first_len) = (len.min(N), first_len.min(8) as usize);
    let to = end(out);
    // SAFETY: there is room for all of them and for both words.
    unsafe {
        copy::whole(to, all);
        let to = to.add(len);
        to.cast::<u64>().write_unaligned(first.to_le());
        let to = to.add(first_len);
        to.cast::<u64>().write_unaligned(second.to_le());
        out.set_len(out.len() + len + first_len + second_len.min(8) as usize);
    }
}

/// Appends the first bytes of two words, as by [`append_word`].
#[inline(always)]
pub(crate) fn append_two_words(out: &mut Vec<u8>, first: (u64, u32), second: (u64, u32)) {
    append_stamp(out, (&[], 0), first, second);
}

/// Appends a piece, and the first `len` of some bytes behind it; not if there is no room,
/// or the piece has more than 32 bytes.
#[inline(always)]
pub(crate) fn try_append<const N: usize>(
    out: &mut Vec<u8>,
    piece: &[u8],
    (all, len): (&[u8; N], usize),
) -> bool {
    if piece.len() > 32 || !has_room(out, piece.len() + N) {
        return false;
    }
    let to = end(out);
    // SAFETY: there is room for the piece, which is elsewhere, and for all of the others.
    unsafe {
        copy::short(to, piece.as_ptr(), piece.len());
        copy::whole(to.add(piece.len()), all);
        out.set_len(out.len() + piece.len() + len.min(N));
    }
    true
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
            let word = (0x0807_0605_0403_0201, len as u32 % 10);
            let of_word = &bytes[1..=8][..(len % 10).min(8)];
            append_word(&mut out, word.0, word.1);
            expected.extend_from_slice(of_word);
            out.reserve(300);
            if try_append(&mut out, &bytes[..len], (b"0123456789", len / 2)) {
                expected.extend_from_slice(&bytes[..len]);
                expected.extend_from_slice(&b"0123456789"[..(len / 2).min(10)]);
            } else {
                assert!(len > 32);
            }
            append_two_words(&mut out, word, (word.0, 7));
            expected.extend_from_slice(of_word);
            expected.extend_from_slice(&bytes[1..=7]);
            let all: &[u8; 48] = bytes.first_chunk().expect("so many");
            append_padded(&mut out, all, len);
            expected.extend_from_slice(&all[..len.min(48)]);
            append_stamp(&mut out, (all, len), word, (word.0, 2));
            expected.extend_from_slice(&all[..len.min(48)]);
            expected.extend_from_slice(of_word);
            expected.extend_from_slice(&bytes[1..=2]);
        }
        assert!(out == expected);
    }

    #[test]
    fn pieces_of_any_length() {
        fn one<const N: usize>() {
            let piece: [u8; N] = std::array::from_fn(|n| n as u8 + 1);
            for before in [0, 5] {
                let mut out = vec![0; before];
                append_piece(&mut out, &piece);
                assert!(out[before..] == piece);
            }
        }
        macro_rules! each {
            ($($n:literal)*) => { $(one::<$n>();)* };
        }
        each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28);
        each!(29 30 31 32 33 34 47 48 49 50 62 63 64);
    }
}
