//! Appending to a buffer of bytes in a few instructions.
//!
//! Contract: as [`Vec::extend_from_slice`], which is two calls for each piece,
//! and lines are made of many short ones.
#![allow(unsafe_code, reason = "writes behind the length of a buffer")]

use super::copy;

/// Where the next bytes go, of which there will be so many at most.
#[inline(always)]
fn room(out: &mut Vec<u8>, most: usize) -> *mut u8 {
    if out.capacity() - out.len() < most {
        grow(out, most);
    }
    // SAFETY: the length is within the capacity.
    unsafe { out.as_mut_ptr().add(out.len()) }
}

#[cold]
#[inline(never)]
fn grow(out: &mut Vec<u8>, most: usize) {
    out.reserve(most);
}

/// Appends bytes.
pub(crate) fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    let to = room(out, bytes.len());
    // SAFETY: there is room for them behind the others, and they are elsewhere,
    // since nobody else has the buffer.
    unsafe {
        copy::apart(to, bytes.as_ptr(), bytes.len());
        out.set_len(out.len() + bytes.len());
    }
}

/// Appends one piece, another one, and a byte.
pub(crate) fn append_three(out: &mut Vec<u8>, first: &[u8], second: &[u8], end: u8) {
    let len = first.len().saturating_add(second.len()).saturating_add(1);
    let to = room(out, len);
    // SAFETY: there is room for all of them, as in `append`.
    unsafe {
        copy::apart(to, first.as_ptr(), first.len());
        copy::apart(to.add(first.len()), second.as_ptr(), second.len());
        to.add(len - 1).write(end);
        out.set_len(out.len() + len);
    }
}

/// Appends the first `len` bytes of a number, the lowest one first; eight at
/// most.
#[inline(always)]
pub(crate) fn append_word(out: &mut Vec<u8>, word: u64, len: u32) {
    let to = room(out, size_of::<u64>());
    // SAFETY: there is room for all eight.
    unsafe {
        to.cast::<u64>().write_unaligned(word.to_le());
        out.set_len(out.len() + len.min(8) as usize);
    }
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
