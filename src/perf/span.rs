//! Bytes of a ring, which may wrap around its end.

/// Bytes that may lie in two pieces because they wrap around the ring's end.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    first: &'a [u8],
    second: &'a [u8],
}

impl<'a> Span<'a> {
    /// The bytes of `first`, then those of `second`.
    #[inline]
    pub fn new(first: &'a [u8], second: &'a [u8]) -> Span<'a> {
        Span { first, second }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes from `at`.
    #[inline]
    pub fn slice(&self, at: usize, len: usize) -> Option<Span<'a>> {
        // Nearly always they don't reach the ring's end.
        let end = at.checked_add(len)?;
        match self.first.get(at..end) {
            Some(first) => Some(Span { first, second: &[] }),
            None => self.across(at, end),
        }
    }

    /// The bytes up to the ring's end.
    #[inline(always)]
    pub(super) fn in_place(&self) -> &'a [u8] {
        self.first
    }

    #[cold]
    fn across(&self, at: usize, end: usize) -> Option<Span<'a>> {
        if end > self.len() {
            return None;
        }
        let split = self.first.len();
        let first = &self.first[at.min(split)..end.min(split)];
        let second = &self.second[at.saturating_sub(split)..end.saturating_sub(split)];
        Some(Span { first, second })
    }

    /// Leaves out the first `len` bytes.
    #[inline(always)]
    pub fn skip(&mut self, len: usize) {
        match self.first.get(len..) {
            Some(first) if !first.is_empty() => self.first = first,
            _ => self.skip_across(len),
        }
    }

    #[cold]
    #[inline(never)]
    fn skip_across(&mut self, len: usize) {
        let len = len.saturating_sub(self.first.len());
        let first = self.second.get(len..).unwrap_or_default();
        (self.first, self.second) = (first, &[]);
    }

    /// The bytes in one piece: in place, or copied to `buffer` where they are
    /// in two. At most as many as the buffer holds.
    #[inline(always)]
    pub fn flatten<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        match self.second.is_empty() {
            true => self.first,
            false => self.flatten_across(buffer),
        }
    }

    #[cold]
    fn flatten_across<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        if self.first.is_empty() {
            return self.second;
        }
        let len = self.len().min(buffer.len());
        let split = self.first.len().min(len);
        buffer[..split].copy_from_slice(&self.first[..split]);
        buffer[split..len].copy_from_slice(&self.second[..len - split]);
        &buffer[..len]
    }

    #[inline(always)]
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        match self.first.get(at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => Some(*bytes),
            None => self.array_across(at),
        }
    }

    #[cold]
    fn array_across<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut buffer = [0; N];
        let bytes = self.slice(at, N)?;
        bytes.flatten(&mut buffer).try_into().ok()
    }

    /// A number at `at`.
    #[inline(always)]
    pub(super) fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_ne_bytes)
    }

    /// A number at `at`.
    #[inline(always)]
    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }

    /// A number at `at`.
    #[inline(always)]
    pub(super) fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slices_are_those_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            cut in any::<prop::sample::Index>(),
            at in 0usize..80,
            len in 0usize..80,
        ) {
            let cut = cut.index(bytes.len() + 1);
            let span = Span::new(&bytes[..cut], &bytes[cut..]);
            let mut buffer = [0; 64];
            let got = span.slice(at, len).map(|s| s.flatten(&mut buffer).to_vec());
            prop_assert_eq!(got, bytes.get(at..at + len).map(<[u8]>::to_vec));
            let rest = bytes.get(at..).unwrap_or_default();
            let mut skipped = span;
            skipped.skip(at);
            prop_assert_eq!(skipped.flatten(&mut buffer), rest);
            let number = rest.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
            prop_assert_eq!(span.u64(at), number);
        }
    }
}
