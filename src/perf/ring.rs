//! The ring of one CPU.
//!
//! Contract: what the CPU's tracepoints counted and what came of it is the same
//! sum, or the difference is told; a ring that its CPU took with it is noticed.

use super::cursor::{Part, count_samples};
use super::feed::Feed;
use crate::sys::perf_event::SampleType;
use crate::sys::ring::RingMap;
use crate::sys::{Errno, perf_event};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The ring of one CPU.
#[derive(Debug)]
pub struct Ring {
    cpu: u32,
    event: OwnedFd,
    pub(super) map: RingMap,
    /// The tracepoints that sample into it.
    pub(super) sources: Vec<OwnedFd>,
    /// What PERF_RECORD_LOST told.
    pub(super) lost: Cell<u64>,
    /// Samples handed out of the sources that it has now.
    pub(super) samples: Cell<u64>,
    pub(super) missing: Cell<Missing>,
    /// Of `missing`, what was missing from sources that are gone.
    pub(super) missing_before: Missing,
    pub(super) unreadable: Cell<u64>,
    /// How long the event has been enabled, when last asked, in nanoseconds.
    enabled: u64,
    /// Of a retired one: whether it was empty when last asked.
    pub(super) idle: bool,
    /// Samples handed out of the rings that it replaced.
    pub(super) before: Cell<u64>,
}

/// Events that the tracepoints counted and that came to no sample.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Missing {
    /// For want of room.
    full: u64,
    /// For other reasons.
    other: u64,
}

impl Ring {
    /// The CPU's number.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Whether it holds nothing that nobody has read yet.
    pub(super) fn is_empty(&self) -> bool {
        self.map.unread().0.is_empty()
    }

    /// Whether half of it holds what nobody has read yet.
    pub fn is_filling(&self) -> bool {
        let (first, second) = self.map.unread();
        first.len() + second.len() > self.map.data_size() / 2
    }

    /// Samples that found no room, as far as the ring has said so, or the
    /// tracepoints when last asked.
    pub fn lost(&self) -> u64 {
        match self.sources.is_empty() {
            true => self.lost.get(),
            false => self.missing.get().full,
        }
    }

    /// Events that the kernel has counted and not sampled, though there was
    /// room; see [`Rings::count_missing`].
    pub fn unsampled(&self) -> u64 {
        self.missing.get().other
    }

    /// Records that were there and made no sense.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.get()
    }

    /// It as something to be read.
    pub(super) fn part(&mut self, layout: SampleType) -> Part<'_> {
        Part {
            cpu: self.cpu,
            layout,
            lost: &self.lost,
            samples: &self.samples,
            unreadable: &self.unreadable,
            news: None,
            drain: self.map.drain(),
        }
    }

    pub(super) fn new(cpu: u32, event: OwnedFd, size: usize) -> Result<Ring, Errno> {
        let map = RingMap::new(event.as_fd(), size)?;
        Ok(Ring {
            cpu,
            event,
            map,
            sources: Vec::new(),
            lost: Cell::new(0),
            samples: Cell::new(0),
            missing: Cell::default(),
            missing_before: Missing::default(),
            unreadable: Cell::new(0),
            enabled: 0,
            idle: false,
            before: Cell::new(0),
        })
    }

    /// Compares what the sources counted with what was sampled.
    pub(super) fn count_missing(&self, feed: &Feed) {
        let (mut counted, mut lost) = (0, 0);
        for source in &self.sources {
            let Ok((count, full)) = perf_event::read_counts(source.as_fd()) else {
                return;
            };
            counted += count;
            lost += full;
        }
        // Looked at after the count: what has come since makes the difference
        // too small, never too large, and only until the next time.
        let waiting = count_samples(self.map.unread(), feed.layout());
        let missing = counted.saturating_sub(self.samples.get() + waiting);
        let full = match feed.counts_lost() {
            true => lost.min(missing),
            false => missing,
        };
        let (told, before) = (self.missing.get(), self.missing_before);
        self.missing.set(Missing {
            full: told.full.max(before.full + full),
            other: told.other.max(before.other + missing - full),
        });
    }

    /// Whether its CPU went away, and the ring with it: its event is then no
    /// longer enabled. Each call looks at the time since the one before.
    pub(super) fn is_dead(&mut self) -> bool {
        let enabled = perf_event::read_counts(self.event.as_fd()).map_or(0, |(_, time)| time);
        std::mem::replace(&mut self.enabled, enabled) == enabled
    }

    /// Takes over what another ring of its CPU counted as lost.
    pub(super) fn take_losses(&self, other: &Ring) {
        self.lost.set(self.lost.get() + other.lost.take());
        self.unreadable
            .set(self.unreadable.get() + other.unreadable.take());
    }

    pub(super) fn switch(&self, on: bool) -> Result<(), Errno> {
        let switch = if on {
            perf_event::enable
        } else {
            perf_event::disable
        };
        self.sources.iter().try_for_each(|s| switch(s.as_fd()))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
