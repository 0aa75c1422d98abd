//! Unpacks an LZ4 block (lz4 1.10, doc/lz4_Block_format.md).
//!
//! Contract: whatever the bytes are, what comes out is no longer than it is said to be, and nothing outside of the block
//! or of what was unpacked is read: such a block is `None`.

/// The shortest match.
const LEAST: usize = 4;

/// A length that goes on in further bytes if its four bits are all set.
fn length(bits: u8, rest: &mut &[u8]) -> Option<usize> {
    let mut all = usize::from(bits);
    let mut goes_on = bits == 15;
    while goes_on {
        let (more, left) = rest.split_first()?;
        *rest = left;
        all = all.checked_add(usize::from(*more))?;
        goes_on = *more == 255;
    }
    Some(all)
}

/// The `len` bytes that are in a block.
pub fn unpack(block: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(len);
    let mut rest = block;
    loop {
        let (token, left) = rest.split_first()?;
        rest = left;
        let count = length(token >> 4, &mut rest)?;
        let (literals, left) = rest.split_at_checked(count)?;
        if literals.len() > len - out.len() {
            return None;
        }
        out.extend_from_slice(literals);
        rest = left;
        // The last sequence has no match.
        if rest.is_empty() {
            return (out.len() == len).then_some(out);
        }
        let (distance, left) = rest.split_first_chunk()?;
        rest = left;
        let from = out
            .len()
            .checked_sub(u16::from_le_bytes(*distance).into())?;
        let more = length(token & 15, &mut rest)?.checked_add(LEAST)?;
        if from == out.len() || more > len - out.len() {
            return None;
        }
        // A match may reach into what it makes itself.
        for at in from..from + more {
            out.push(*out.get(at)?);
        }
    }
}
