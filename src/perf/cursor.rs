//! Reading one ring, record by record.
//!
//! Contract: whatever the bytes are, the reading ends, and every one of them is
//! used up: what makes no sense is counted.

use super::gap::Gap;
use super::record::{self, Body, News, Record, Sample, Whole};
use super::span::Span;
use crate::sys::perf_event::SampleType;
use crate::sys::ring::{self, Drain};
use std::cell::Cell;
use std::os::fd::BorrowedFd;

/// Bytes to have at hand behind the beginning of the next record: some more. With many
/// rings each is read bit by bit, and all else in between.
const SOON: usize = 256;

/// A ring that is being read.
#[derive(Debug)]
pub struct Part<'a> {
    /// Its CPU.
    pub cpu: u32,
    /// What its records hold.
    pub layout: SampleType,
    /// Where to count what PERF_RECORD_LOST tells.
    pub lost: &'a Cell<u64>,
    /// Where to count samples.
    pub samples: &'a Cell<u64>,
    /// Where to count what makes no sense.
    pub unreadable: &'a Cell<u64>,
    /// Of a ring of news: from when to when something may be missing, and the
    /// event that can be asked.
    pub(super) news: Option<(&'a Gap, BorrowedFd<'a>)>,
    /// Its bytes.
    pub drain: Drain<'a>,
}

/// What comes next in a ring.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// A sample that lies in one piece, as programs send them: its data.
    Whole(&'a [u8]),
    /// Another record.
    Body(Body<'a>),
    /// From here on news may be missing.
    Opens,
    /// Up to here; so many, as PERF_RECORD_LOST says.
    Closes(u64),
    /// A record that makes no sense.
    Broken,
}

#[derive(Clone, Copy, Debug)]
struct Next<'a> {
    time: u64,
    step: Step<'a>,
    len: usize,
}

/// Reads one ring, a record with a time ahead.
#[derive(Debug)]
pub struct Cursor<'a> {
    part: &'a Part<'a>,
    rest: Span<'a>,
    next: Option<Next<'a>>,
}

fn add(to: &Cell<u64>, count: u64) {
    to.set(to.get().saturating_add(count));
}

impl<'a> Part<'a> {
    /// A ring of samples; what is found in it is counted in these: samples, lost
    /// ones, and what makes no sense.
    pub fn of_samples(
        cpu: u32,
        layout: SampleType,
        [samples, lost, unreadable]: [&'a Cell<u64>; 3],
        drain: Drain<'a>,
    ) -> Part<'a> {
        Part {
            cpu,
            layout,
            lost,
            samples,
            unreadable,
            news: None,
            drain,
        }
    }

    /// Where something may be missing, of a ring of news.
    pub(super) fn gap(&self) -> Option<&'a Gap> {
        self.news.map(|(gap, _)| gap)
    }
}

impl<'a> Cursor<'a> {
    /// Starts at the oldest record.
    #[inline]
    pub fn new(part: &'a Part<'a>) -> Cursor<'a> {
        let (first, second) = part.drain.unread();
        let mut cursor = Cursor {
            part,
            rest: Span::new(first, second),
            next: None,
        };
        ring::expect(first, 0, SOON);
        cursor.look();
        cursor
    }

    /// Whether there is no next record.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.next.is_none()
    }

    /// The next record's time.
    #[inline(always)]
    pub fn time(&self) -> u64 {
        self.next.map_or(u64::MAX, |next| next.time)
    }

    #[inline(always)]
    fn skip(&mut self, len: usize) {
        let used = self.part.drain.used();
        used.set(used.get() + len);
        self.rest.skip(len);
    }

    /// Finds what comes next.
    #[inline(never)]
    pub(super) fn look(&mut self) {
        self.look_ahead();
    }

    /// The same, in place.
    #[inline(always)]
    fn look_ahead(&mut self) {
        // Of news the layout is another one.
        let Some(whole) = record::whole_sample(&self.rest, self.part.layout) else {
            return self.look_closely();
        };
        let Whole { time, data, len } = whole;
        ring::expect(self.rest.in_place(), SOON, len);
        let step = Step::Whole(data);
        self.next = Some(Next { time, step, len });
    }

    #[inline(never)]
    fn look_closely(&mut self) {
        self.next = match self.part.gap() {
            None => self.next_sample(),
            Some(gap) => self.next_news(gap),
        };
    }

    /// The next record with a time; what stands before it is accounted for.
    #[inline]
    fn next_sample(&mut self) -> Option<Next<'a>> {
        let part = self.part;
        loop {
            match record::first(self.rest, part.layout)? {
                Ok((Record::Timed { time, body }, len)) => {
                    let step = Step::Body(body);
                    return Some(Next { time, step, len });
                }
                Ok((other, len)) => {
                    match other {
                        Record::Lost(count) => add(part.lost, count),
                        Record::Malformed => {
                            add(part.unreadable, 1);
                            add(part.samples, 1);
                        }
                        Record::Timed { .. } | Record::Other => {}
                    }
                    self.skip(len);
                }
                Err(record::Corrupt) => {
                    add(part.unreadable, 1);
                    self.skip(self.rest.len());
                }
            }
        }
    }

    /// The next record, or an end of a time from which news may be missing. All
    /// is accounted for when it is taken.
    fn next_news(&mut self, gap: &Gap) -> Option<Next<'a>> {
        let last = gap.last.get();
        let part = self.part;
        let known = || part.lost.get();
        let opens = Next {
            time: last,
            step: Step::Opens,
            len: 0,
        };
        let mut next = None;
        while let Some(result) = record::first(self.rest, self.part.layout) {
            next = Some(match result {
                Ok((Record::Timed { time, body }, len)) => {
                    let step = Step::Body(body);
                    Next { time, step, len }
                }
                // Of what found no room between two records, the first one's
                // time is the beginning and this one's the end.
                Ok((Record::Lost(count), _)) if gap.is_news(known().saturating_add(count)) => opens,
                // All of it was told when it was counted, and there has been
                // room again since.
                Ok((Record::Lost(count), len)) if !gap.is_open() => {
                    add(self.part.lost, count);
                    self.skip(len);
                    continue;
                }
                Ok((Record::Lost(count), len)) => {
                    let time = match len {
                        32.. => self.rest.u64(len - 8).unwrap_or(last),
                        _ => last,
                    };
                    let step = Step::Closes(count);
                    Next { time, step, len }
                }
                Ok((Record::Malformed, len)) => {
                    let (time, step) = (last, Step::Broken);
                    Next { time, step, len }
                }
                Ok((Record::Other, len)) => {
                    self.skip(len);
                    continue;
                }
                Err(record::Corrupt) => {
                    let (time, step, len) = (last, Step::Broken, self.rest.len());
                    Next { time, step, len }
                }
            });
            break;
        }
        match (gap.closing(), next) {
            (Some(time), next) if next.is_none_or(|next| next.time >= time) => Some(Next {
                time,
                step: Step::Closes(0),
                len: 0,
            }),
            (_, None) if gap.is_pending(known()) => Some(opens),
            (_, next) => next,
        }
    }

    /// Its CPU.
    #[inline]
    pub(super) fn cpu(&self) -> u32 {
        self.part.cpu
    }

    /// The next record's data, if it is a sample that lies in one piece.
    #[inline(always)]
    pub(super) fn take_whole(&mut self) -> Option<&'a [u8]> {
        let next = self.next.as_ref()?;
        let (Step::Whole(data), len) = (next.step, next.len) else {
            return None;
        };
        let samples = self.part.samples;
        samples.set(samples.get() + 1);
        self.skip(len);
        self.look_ahead();
        Some(data)
    }

    /// The next record.
    // Not an iterator: several of these are merged.
    #[inline(never)]
    pub fn take(&mut self) -> Option<Sample<'a>> {
        let Next { time, step, len } = self.next?;
        let cpu = self.part.cpu;
        let body = self.account(time, step, len);
        self.skip(len);
        self.look();
        let body = body?;
        Some(Sample { cpu, time, body })
    }

    /// Accounts for a record; what is to be told of it.
    fn account(&self, time: u64, step: Step<'a>, len: usize) -> Option<Body<'a>> {
        let part = self.part;
        let Some(gap) = part.gap() else {
            let body = match step {
                Step::Whole(data) => Sample::whole(part.cpu, time, data).body,
                Step::Body(body) => body,
                _ => return None,
            };
            if let Body::Sample { .. } = body {
                add(part.samples, 1);
            }
            return Some(body);
        };
        gap.last.set(gap.last.get().max(time));
        match step {
            Step::Body(body) => return Some(body),
            Step::Whole(_) => return None,
            Step::Broken => add(part.unreadable, 1),
            Step::Opens => gap.open(self.rest.is_empty()),
            Step::Closes(count) => {
                add(part.lost, count);
                gap.close(len == 0);
            }
        }
        Some(Body::News(News::Missing(gap.topic)))
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
        rest.skip(len);
    }
    count
}
