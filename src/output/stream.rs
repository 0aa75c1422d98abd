//! An output of lines: what waits for it, and what it has lost.
//!
//! Contract: writing waits for nobody. A line is written whole or counted as
//! lost; what a failed write leaves of a line is ended by a line break before
//! the next one, so that two lines never become one. A line that says a loss is
//! not lost itself: where it can't be written, what it says is said later. So in
//! the end what was put in is what came out and what it says is missing, exactly.
//! Nothing here prints: what happened is returned.

use super::queue::Queue;
use super::sink::Sink;
use crate::model::loss::{Lost, Reason};
use crate::sys::Errno;
use std::collections::VecDeque;

/// Bytes that wait for a reader at most; beyond that lines are dropped. That is
/// some 60,000 classic lines or 12,000 JSON ones: what two full rings of the
/// usual size make in one go, so that a reader that keeps up loses nothing.
pub(crate) const LIMIT: usize = 8 << 20;

/// What a flush has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All is written that there was room for.
    Fine,
    /// The rest would make the file too long.
    Full,
    /// Writing fails since now.
    Failed(Errno),
    /// Writing still fails.
    StillFailing,
    /// Writing works again; so many lines were lost in between.
    Recovered(u64),
    /// The reader has left.
    Closed,
}

/// Lines lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Because the reader was too slow.
    pub slow: u64,
    /// Because they could not be written.
    pub failed: u64,
}

impl Lines {
    /// All of them.
    pub fn all(self) -> u64 {
        self.slow.saturating_add(self.failed)
    }
}

/// An output.
#[derive(Debug)]
pub struct Stream {
    sink: Option<Sink>,
    /// How many sinks it has had.
    sinks: u64,
    queue: Queue,
    limit: usize,
    /// What lines are called that are lost by a slow reader, or by failures.
    reasons: (Reason, Reason),
    /// Lines that say losses and wait: where each ends, and what it says.
    notes: VecDeque<(u64, Lost)>,
    /// Losses that are still to be said.
    owed: Vec<Lost>,
    dropping: bool,
    given_up: bool,
    failing: Option<Errno>,
    closed: bool,
    /// The last byte written was not the end of a line.
    within: bool,
    /// A line was cut off there.
    torn: bool,
    written: u64,
    lost: Lines,
    /// Lost by the failure that lasts.
    lost_now: u64,
}

impl Stream {
    /// Lines to a sink, or to none as yet. `reasons`: how lines are called that
    /// a slow reader costs, and a failure.
    pub fn new(sink: Option<Sink>, limit: usize, reasons: (Reason, Reason)) -> Stream {
        Stream {
            sink,
            sinks: 0,
            queue: Queue::default(),
            limit,
            reasons,
            notes: VecDeque::new(),
            owed: Vec::new(),
            dropping: false,
            given_up: false,
            failing: None,
            closed: false,
            within: false,
            torn: false,
            written: 0,
            lost: Lines::default(),
            lost_now: 0,
        }
    }

    /// Where to append lines; every line must end in a line break. Then comes
    /// [`Stream::keep`].
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.queue.last()
    }

    /// How long that buffer is.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.queue.last_len()
    }

    /// Keeps what was appended since the buffer was so long; where there is no
    /// room for it, it is dropped and counted.
    #[inline]
    pub fn keep(&mut self, start: usize) {
        let over = self.queue.len_with(start) > self.limit;
        match self.dropping || over {
            true => self.drop_since(start),
            false => {
                self.queue.keep(start);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_since(&mut self, start: usize) {
        let lines = self.queue.take_back(start);
        self.dropping |= lines > 0;
        self.miss(lines, true);
    }

    /// Appends a line that says a loss, for which there is always room.
    pub fn say(&mut self, lost: Lost, render: &mut dyn FnMut(&mut Vec<u8>, &Lost)) {
        let start = self.queue.last().len();
        render(self.queue.last(), &lost);
        let end = self.queue.keep(start);
        self.notes.push_back((end, lost));
    }

    /// Losses to be said now by [`Stream::say`], before any other line.
    pub fn take_owed(&mut self) -> Vec<Lost> {
        // Not at each line that finds room again, but where some have.
        if self.queue.len() <= self.limit / 4 * 3 && !self.given_up {
            self.dropping = false;
        }
        match self.dropping {
            true => Vec::new(),
            false => std::mem::take(&mut self.owed),
        }
    }

    /// Whether [`Stream::take_owed`] may have something.
    #[inline]
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether lines are dropped; what is lost meanwhile is to be owed.
    pub fn is_dropping(&mut self) -> bool {
        self.dropping |= self.queue.len() >= self.limit;
        self.dropping
    }

    /// Notes a loss that is to be said once lines have room again.
    pub fn owe(&mut self, lost: Lost) {
        let same = |l: &&mut Lost| (l.cpu, l.reason) == (lost.cpu, lost.reason);
        match self.owed.iter_mut().find(same) {
            Some(owed) => owed.count = owed.count.saturating_add(lost.count),
            None => self.owed.push(lost),
        }
    }

    fn miss(&mut self, lines: u64, slow: bool) {
        if lines == 0 {
            return;
        }
        let (count, reason) = match slow {
            true => (&mut self.lost.slow, self.reasons.0),
            false => (&mut self.lost.failed, self.reasons.1),
        };
        *count = count.saturating_add(lines);
        // The time is that of saying it.
        self.owe(Lost {
            wall: 0,
            cpu: None,
            count: lines,
            reason,
        });
    }

    /// Whether enough is pending to be written.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that were taken so far: what moves when the reader does.
    pub fn moved(&self) -> (u64, Option<u32>) {
        let unread = self.sink.as_ref().and_then(Sink::unread);
        (self.written, unread)
    }

    /// Bytes that were written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Lines lost so far.
    pub fn lost(&self) -> Lines {
        self.lost
    }

    /// Where its bytes go, if it has such a place now.
    pub fn sink(&self) -> Option<&Sink> {
        self.sink.as_ref()
    }

    /// Another number for each sink that it has had.
    pub fn sinks(&self) -> u64 {
        self.sinks
    }

    /// Why writing fails, where it does.
    pub fn failing(&self) -> Option<Errno> {
        self.failing
    }

    /// Whether the reader has left.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Notes that the reader has left.
    pub fn set_closed(&mut self) {
        self.closed = true;
    }

    /// Goes on with another sink; what is pending goes there. `same`: it is the
    /// file that it was.
    pub fn replace(&mut self, sink: Sink, same: bool) {
        self.sink = Some(sink);
        self.sinks += 1;
        self.closed = false;
        if !same {
            self.queue.rewind();
            (self.torn, self.within) = (false, false);
        }
    }

    /// Has no sink from now on: its lines are lost for this reason, until there
    /// is another one.
    pub fn lack(&mut self, why: Errno) {
        self.sink = None;
        self.sinks += 1;
        self.discard(false);
        self.failing = Some(why);
    }

    /// Throws away what waits: nobody takes it. So is all that comes later.
    pub fn give_up(&mut self) {
        self.discard(true);
        self.given_up = true;
        self.dropping = true;
    }

    /// Counts what waits as lost.
    fn discard(&mut self, slow: bool) {
        let notes = std::mem::take(&mut self.notes);
        let mut lines = self.queue.lines();
        self.torn |= self.within;
        self.within = false;
        self.queue.clear();
        for (_, lost) in notes {
            lines = lines.saturating_sub(1);
            self.owe(lost);
        }
        if !slow {
            self.lost_now = self.lost_now.saturating_add(lines);
        }
        self.miss(lines, slow);
    }

    fn wrote(&mut self, bytes: usize, last: u8) {
        self.within = last != b'\n';
        self.written += bytes as u64;
        self.queue.advance(bytes);
        while self
            .notes
            .front()
            .is_some_and(|(end, _)| *end <= self.queue.gone())
        {
            self.notes.pop_front();
        }
    }

    fn fail(&mut self, errno: Errno) -> Flushed {
        if matches!(errno, Errno::EPIPE | Errno::ECONNRESET) {
            self.closed = true;
            return Flushed::Closed;
        }
        self.discard(false);
        match self.failing.replace(errno) {
            Some(_) => Flushed::StillFailing,
            None => Flushed::Failed(errno),
        }
    }

    fn fine(&mut self) -> Flushed {
        match self.failing.take() {
            Some(_) => Flushed::Recovered(std::mem::take(&mut self.lost_now)),
            None => Flushed::Fine,
        }
    }

    /// Writes what waits, as far as there is room.
    pub fn flush(&mut self) -> Flushed {
        self.flush_within(u64::MAX, false)
    }

    /// Writes what waits, as far as there is room, and at most so many bytes of
    /// whole lines; `one` whole line in any case.
    pub fn flush_within(&mut self, mut most: u64, mut one: bool) -> Flushed {
        if self.queue.is_full() {
            self.queue.close();
        }
        let Some(mut sink) = self.sink.take_if(|_| !self.queue.is_empty()) else {
            if self.sink.is_none() && !self.queue.is_empty() {
                self.discard(false);
                return Flushed::StillFailing;
            }
            return Flushed::Fine;
        };
        let flushed = loop {
            if self.torn {
                match sink.write(b"\n") {
                    Ok(_) => self.torn = false,
                    Err(Errno::EINTR) => continue,
                    Err(Errno::EAGAIN) => break Flushed::Fine,
                    Err(errno) => break self.fail(errno),
                }
            }
            let within = self.within || one;
            let front = self.queue.front();
            if front.is_empty() {
                break self.fine();
            }
            let next = fitting(front, most, within);
            if next.is_empty() {
                break Flushed::Full;
            }
            match sink.write(next) {
                Ok(0) => break self.fail(Errno::EIO),
                Ok(bytes) => {
                    let last = next.get(bytes - 1).copied().unwrap_or(b'\n');
                    most = most.saturating_sub(bytes as u64);
                    one = false;
                    self.wrote(bytes, last);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break Flushed::Fine,
                Err(errno) => break self.fail(errno),
            }
        };
        self.sink = Some(sink);
        flushed
    }
}

/// As many whole lines as fit, and the rest of one that was begun in any case.
fn fitting(front: &[u8], most: u64, within: bool) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if front.len() <= most {
        return front;
    }
    let fits = front.get(..most).unwrap_or(front);
    let end = match fits.iter().rposition(|&b| b == b'\n') {
        Some(at) => at + 1,
        None if within => front
            .iter()
            .position(|&b| b == b'\n')
            .map_or(front.len(), |at| at + 1),
        None => 0,
    };
    front.get(..end).unwrap_or(front)
}

#[cfg(test)]
mod tests;
