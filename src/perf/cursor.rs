//! Reading one ring, record by record.
//!
//! Contract: whatever the bytes are, the reading ends, and every one of them is
//! used up: what makes no sense is counted.

use super::Sample;
use super::record::{self, Body, Record};
use super::span::Span;
use crate::sys::perf_event::SampleType;
use crate::sys::ring::Drain;
use std::cell::Cell;

/// A ring that is being read.
#[derive(Debug)]
pub struct Part<'a> {
    /// Its CPU.
    pub cpu: u32,
    /// Where to count what PERF_RECORD_LOST tells.
    pub lost: &'a Cell<u64>,
    /// Where to count samples.
    pub samples: &'a Cell<u64>,
    /// Where to count what makes no sense.
    pub unreadable: &'a Cell<u64>,
    /// Its bytes.
    pub drain: Drain<'a>,
}

/// Reads one ring, a record with a time ahead.
#[derive(Debug)]
pub struct Cursor<'a> {
    cpu: u32,
    layout: SampleType,
    rest: Span<'a>,
    next: Option<(u64, Body<'a>, usize)>,
    used: &'a Cell<usize>,
    lost: &'a Cell<u64>,
    samples: &'a Cell<u64>,
    unreadable: &'a Cell<u64>,
}

impl<'a> Cursor<'a> {
    /// Starts at the oldest record.
    pub fn new(part: &'a Part<'_>, layout: SampleType) -> Cursor<'a> {
        let (first, second) = part.drain.unread();
        let mut cursor = Cursor {
            cpu: part.cpu,
            layout,
            rest: Span::new(first, second),
            next: None,
            used: part.drain.used(),
            lost: part.lost,
            samples: part.samples,
            unreadable: part.unreadable,
        };
        cursor.look();
        cursor
    }

    /// Whether there is no next record.
    pub fn is_done(&self) -> bool {
        self.next.is_none()
    }

    /// The next record's time.
    pub fn time(&self) -> u64 {
        self.next.map_or(u64::MAX, |(time, ..)| time)
    }

    fn skip(&mut self, len: usize) {
        self.used.set(self.used.get() + len);
        let left = self.rest.len().saturating_sub(len);
        self.rest = self.rest.slice(len, left).unwrap_or(Span::new(&[], &[]));
    }

    /// Finds the next record with a time; what stands before it is accounted for.
    fn look(&mut self) {
        self.next = None;
        while let Some(result) = record::first(self.rest, self.layout) {
            match result {
                Ok((Record::Timed { time, body }, len)) => {
                    self.next = Some((time, body, len));
                    return;
                }
                Ok((other, len)) => {
                    match other {
                        Record::Lost(count) => {
                            self.lost.set(self.lost.get().saturating_add(count));
                        }
                        Record::Malformed => {
                            self.unreadable.set(self.unreadable.get() + 1);
                            self.samples.set(self.samples.get() + 1);
                        }
                        Record::Timed { .. } | Record::Other => {}
                    }
                    self.skip(len);
                }
                Err(record::Corrupt) => {
                    self.unreadable.set(self.unreadable.get() + 1);
                    self.skip(self.rest.len());
                }
            }
        }
    }

    /// The next record; `None` at the end.
    // Not an iterator: several of these are merged.
    pub fn take(&mut self) -> Option<Sample<'a>> {
        let (time, body, len) = self.next?;
        if let Body::Sample { .. } = body {
            self.samples.set(self.samples.get() + 1);
        }
        self.skip(len);
        self.look();
        let cpu = self.cpu;
        Some(Sample { cpu, time, body })
    }
}

/// How many samples there are in a ring's bytes.
pub fn count_samples(bytes: (&[u8], &[u8]), layout: SampleType) -> u64 {
    let mut rest = Span::new(bytes.0, bytes.1);
    let mut count = 0;
    while let Some(Ok((record, len))) = record::first(rest, layout) {
        let sample = match record {
            Record::Timed { body, .. } => matches!(body, Body::Sample { .. }),
            Record::Malformed => true,
            Record::Lost(_) | Record::Other => false,
        };
        count += u64::from(sample);
        let left = rest.len().saturating_sub(len);
        rest = rest.slice(len, left).unwrap_or(Span::new(&[], &[]));
    }
    count
}
