//! Lines that wait to be written: whole lines, in blocks, within a bound.
//!
//! Contract: no line spans two blocks, and bytes leave in the order they came
//! in. Blocks are written as they are: nothing is moved or copied, and while
//! all is written at once the same two blocks are used over and over.

use std::collections::VecDeque;

/// Bytes of a block, more or less.
pub(crate) const BLOCK: usize = 256 * 1024;

/// Lines in blocks.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Full blocks, and perhaps a first one that was begun to be written.
    full: VecDeque<Vec<u8>>,
    /// So much of the first one is written.
    at: usize,
    /// Where lines are appended.
    last: Vec<u8>,
    spare: Vec<u8>,
    /// Bytes that came in, and that were written.
    put: u64,
    gone: u64,
}

pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&b| b == b'\n').count() as u64
}

impl Queue {
    /// Where a line is appended; then [`Queue::keep`] is called, or
    /// [`Queue::take_back`].
    #[inline]
    pub(crate) fn last(&mut self) -> &mut Vec<u8> {
        if self.last.capacity() == 0 {
            self.last.reserve(BLOCK);
        }
        &mut self.last
    }

    /// How long that block is.
    #[inline]
    pub(crate) fn last_len(&self) -> usize {
        self.last.len()
    }

    /// Whether the block that lines are appended to is as good as full.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.last.len() > BLOCK - 1024
    }

    /// Keeps what was appended since the block was so long; the position after it.
    #[inline]
    pub(crate) fn keep(&mut self, start: usize) -> u64 {
        self.put += self.last.len().saturating_sub(start) as u64;
        self.put
    }

    /// Takes back what was appended since the block was so long; its lines.
    pub(crate) fn take_back(&mut self, start: usize) -> u64 {
        let lines = count_lines(self.last.get(start..).unwrap_or_default());
        self.last.truncate(start);
        lines
    }

    /// Bytes that wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.put - self.gone).unwrap_or(usize::MAX)
    }

    /// The same with what was appended since the block was so long.
    #[inline(always)]
    pub(crate) fn len_with(&self, start: usize) -> usize {
        self.len() + self.last.len().saturating_sub(start)
    }

    /// Whether none wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.put == self.gone
    }

    /// Bytes that were written so far.
    pub(crate) fn gone(&self) -> u64 {
        self.gone
    }

    /// What is to be written next; empty where nothing waits.
    pub(crate) fn front(&mut self) -> &[u8] {
        if self.full.is_empty() && !self.last.is_empty() {
            self.close();
        }
        let front = self.full.front().map_or(&[][..], Vec::as_slice);
        front.get(self.at..).unwrap_or_default()
    }

    /// Closes the last block. A block that is all but empty is not worth it
    /// unless it is to be written.
    pub(crate) fn close(&mut self) {
        let next = std::mem::take(&mut self.spare);
        self.full.push_back(std::mem::replace(&mut self.last, next));
    }

    /// Notes that so much of the front is written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.gone += bytes as u64;
        if self
            .full
            .front()
            .is_some_and(|front| self.at >= front.len())
        {
            let mut done = self.full.pop_front().unwrap_or_default();
            self.at = 0;
            if self.spare.capacity() == 0 {
                done.clear();
                self.spare = done;
            }
        }
    }

    /// Goes back to the start of the line that was begun to be written.
    pub(crate) fn rewind(&mut self) {
        let front = self.full.front().map_or(&[][..], Vec::as_slice);
        let written = front.get(..self.at).unwrap_or_default();
        let start = written
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(0, |n| n + 1);
        self.gone -= (self.at - start) as u64;
        self.at = start;
    }

    /// Lines that wait, one that was begun to be written included.
    pub(crate) fn lines(&self) -> u64 {
        let mut skip = self.at;
        let mut lines = 0;
        for block in self.full.iter().chain([&self.last]) {
            lines += count_lines(block.get(skip..).unwrap_or_default());
            skip = 0;
        }
        lines
    }

    /// Throws away all that waits.
    pub(crate) fn clear(&mut self) {
        self.full.clear();
        self.last.clear();
        self.at = 0;
        self.gone = self.put;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(queue: &mut Queue, line: &[u8]) {
        let start = queue.last().len();
        queue.last().extend_from_slice(line);
        queue.keep(start);
        if queue.is_full() {
            queue.close();
        }
    }

    #[test]
    fn bytes_leave_in_order_whatever_the_steps() {
        let mut queue = Queue::default();
        let (mut came, mut left) = (Vec::new(), Vec::new());
        for n in 0..20_000usize {
            let line = format!("line {n} {}\n", "x".repeat(n % 97));
            came.extend_from_slice(line.as_bytes());
            put(&mut queue, line.as_bytes());
            assert_eq!(queue.len(), came.len() - left.len());
            let step = queue.front().len().min(n * 31 % 211);
            left.extend_from_slice(&queue.front()[..step]);
            queue.advance(step);
        }
        assert_eq!(queue.lines(), count_lines(&came[left.len()..]));
        while !queue.is_empty() {
            let front = queue.front().to_vec();
            queue.advance(front.len());
            left.extend(front);
        }
        assert!(left == came);
        assert_eq!(queue.front(), b"");
    }

    #[test]
    fn a_line_begun_is_begun_again() {
        let mut queue = Queue::default();
        put(&mut queue, b"one\n");
        put(&mut queue, b"two\n");
        assert_eq!(queue.front(), b"one\ntwo\n");
        queue.advance(6);
        assert_eq!(queue.front(), b"o\n");
        assert_eq!(queue.lines(), 1);
        queue.rewind();
        assert_eq!(queue.front(), b"two\n");
        assert_eq!(queue.len(), 4);
        queue.advance(2);
        let start = queue.last().len();
        queue.last().extend_from_slice(b"three\nfour\n");
        assert_eq!(queue.take_back(start), 2);
        queue.clear();
        assert_eq!(queue.front(), b"");
        assert_eq!(queue.gone(), 8);
    }
}
