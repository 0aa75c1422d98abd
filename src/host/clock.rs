//! From the event clock to wall time.
//!
//! CLOCK_REALTIME and CLOCK_MONOTONIC run at one rate and differ by an offset
//! that changes only when the wall clock is set or the host sleeps
//! (kernel/time/timekeeping.c, tk_set_wall_to_mono); a slew changes both.
//!
//! Contract: an event has the wall time of its moment, also if the wall clock
//! is set before the event is read: what is older than the change keeps the
//! offset of before. The offset is looked at again at every drain and replaced
//! only when it has really moved, so that the jitter of reading two clocks can't
//! reorder events. Memory is bounded: the last few changes are known.

use crate::sys::time::{self, ClockSet};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

/// Reading the clocks apart takes less than this, unless interrupted.
const JITTER: u64 = 50_000;

/// Changes that are known at once. Events are read at most a fraction of a
/// second after they happened, so more would be of use to nobody.
const CHANGES: usize = 16;

/// The two clocks, read in one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// On the event clock.
    at: u64,
    /// How far the wall clock is ahead of it.
    offset: u64,
    /// Within what time both were read.
    width: u64,
}

impl Reading {
    fn now() -> Reading {
        let read = || {
            let before = time::monotonic();
            let wall = time::realtime();
            let width = time::monotonic().saturating_sub(before);
            let at = before.saturating_add(width / 2);
            Reading {
                at,
                offset: wall.saturating_sub(at),
                width,
            }
        };
        let (first, second) = (read(), read());
        if second.width < first.width {
            second
        } else {
            first
        }
    }
}

/// An offset that was true until the wall clock was set.
#[derive(Clone, Copy, Debug)]
struct Past {
    until: u64,
    offset: u64,
}

/// Turns the event clock into wall time.
#[derive(Debug)]
pub(crate) struct WallClock {
    offset: u64,
    /// Since when that is true, on the event clock.
    since: u64,
    /// When it was looked at last.
    looked: u64,
    /// The offsets of before, the latest first.
    past: VecDeque<Past>,
    set: Option<ClockSet>,
}

impl WallClock {
    /// Reads the offset, and watches it from now on.
    pub(crate) fn new() -> WallClock {
        // Without a timerfd, a change is noticed at the next look.
        let set = ClockSet::watch().ok();
        WallClock::of(Reading::now(), set)
    }

    fn of(now: Reading, set: Option<ClockSet>) -> WallClock {
        WallClock {
            offset: now.offset,
            since: 0,
            looked: now.at,
            past: VecDeque::new(),
            set,
        }
    }

    /// Is readable when the wall clock was set: [`WallClock::refresh`] is due
    /// then. `None` where the kernel doesn't tell.
    pub(crate) fn set(&self) -> Option<BorrowedFd<'_>> {
        self.set.as_ref().map(ClockSet::as_fd)
    }

    /// Forgets that it was readable.
    pub(crate) fn acknowledge(&self) {
        if let Some(set) = &self.set {
            set.acknowledge();
        }
    }

    /// Looks whether the wall clock was set.
    pub(crate) fn refresh(&mut self) {
        self.look(Reading::now());
    }

    /// Where the kernel says so at once, the wall clock was set just now; else
    /// some time since the last look, and what is not known to be older gets the
    /// new time.
    fn look(&mut self, now: Reading) {
        let looked = std::mem::replace(&mut self.looked, now.at);
        if now.offset.abs_diff(self.offset) <= JITTER.saturating_add(now.width) {
            return;
        }
        let until = match self.set {
            Some(_) => now.at,
            None => looked,
        };
        self.past.truncate(CHANGES - 1);
        let offset = std::mem::replace(&mut self.offset, now.offset);
        self.past.push_front(Past { until, offset });
        self.since = until;
    }

    /// Nanoseconds since the epoch for nanoseconds of the event clock.
    #[inline]
    pub(crate) fn wall(&self, event: u64) -> u64 {
        let offset = match event < self.since {
            true => self.offset_of(event),
            false => self.offset,
        };
        event.saturating_add(offset)
    }

    /// The offset at a moment before the last change.
    fn offset_of(&self, event: u64) -> u64 {
        let mut fitting = self.offset;
        for past in self.past.iter().take_while(|past| event < past.until) {
            fitting = past.offset;
        }
        fitting
    }
}

impl Default for WallClock {
    fn default() -> Self {
        WallClock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;
    const MILLI: u64 = 1_000_000;

    fn reading(at: u64, offset: u64) -> Reading {
        Reading {
            at,
            offset,
            width: 100,
        }
    }

    /// A clock that is told of changes at once.
    fn watched() -> WallClock {
        let set = ClockSet::watch().expect("a kernel with timerfd");
        WallClock::of(reading(0, 10 * HOUR), Some(set))
    }

    #[test]
    fn it_follows_the_event_clock() {
        let clock = WallClock::new();
        let apart = clock.wall(time::monotonic()).abs_diff(time::realtime());
        assert!(apart < 1000 * MILLI, "{apart}");
    }

    #[test]
    fn events_from_before_a_step_keep_the_time_of_before() {
        let mut clock = watched();
        clock.look(reading(100 * MILLI, 10 * HOUR));
        clock.look(reading(160 * MILLI, 11 * HOUR));
        for event in [0, 99, 101, 159] {
            let event = event * MILLI;
            assert_eq!(clock.wall(event), 10 * HOUR + event);
        }
        for event in [160, 161, 5000] {
            let event = event * MILLI;
            assert_eq!(clock.wall(event), 11 * HOUR + event);
        }
    }

    #[test]
    fn steps_there_and_back_are_both_known() {
        let mut clock = watched();
        clock.look(reading(100, 11 * HOUR));
        clock.look(reading(200, 10 * HOUR));
        clock.look(reading(300, 9 * HOUR));
        let hours = [50, 150, 250, 350].map(|event| (clock.wall(event) - event) / HOUR);
        assert_eq!(hours, [10, 11, 10, 9]);
        // As many as one likes: the last ones are known.
        for n in 0..100 {
            clock.look(reading(1000 + n, n * HOUR));
            assert!(clock.past.len() <= CHANGES);
        }
        assert_eq!(clock.wall(1098), 98 * HOUR + 1098);
        assert_eq!(clock.wall(1099), 99 * HOUR + 1099);
    }

    #[test]
    fn jitter_moves_nothing_and_keeps_the_order() {
        let mut clock = watched();
        for n in 1..1000 {
            let jitter = n * 7919 % JITTER;
            clock.look(reading(n, 10 * HOUR - jitter));
            assert_eq!(clock.wall(n), 10 * HOUR + n);
        }
        // A look that was interrupted says little.
        let slow = Reading {
            width: MILLI,
            ..reading(2000, 10 * HOUR + MILLI)
        };
        clock.look(slow);
        assert_eq!((clock.wall(3000), clock.past.len()), (10 * HOUR + 3000, 0));
    }

    #[test]
    fn where_nobody_tells_what_is_younger_than_the_last_look_is_new() {
        let mut clock = WallClock::of(reading(0, 10 * HOUR), None);
        clock.look(reading(100, 10 * HOUR));
        clock.look(reading(200, 11 * HOUR));
        let hours = [99, 100, 199, 200].map(|event| (clock.wall(event) - event) / HOUR);
        assert_eq!(hours, [10, 11, 11, 11]);
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        let mut clock = watched();
        clock.look(reading(u64::MAX, u64::MAX));
        clock.look(reading(0, 0));
        for event in [0, 1, u64::MAX - 1, u64::MAX] {
            clock.wall(event);
        }
    }

    #[test]
    fn what_watches_is_quiet_while_nothing_happens() {
        let set = ClockSet::watch().expect("a kernel with timerfd");
        set.acknowledge();
        let mut wait = [nix::poll::PollFd::new(
            set.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        assert_eq!(nix::poll::poll(&mut wait, 20u8), Ok(0));
    }
}
