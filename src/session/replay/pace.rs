//! When a recorded line's turn is: at once, or at the pace of the recording.
//!
//! Contract: time is the lines'. While it is waited, the picture is drawn and its keys
//! are taken, and the outputs are looked after.

use crate::session::view::View;
use crate::sys::signal::Signals;
use crate::sys::time;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd};

const MILLI: u64 = 1_000_000;
/// Lines after which it is looked after keys where nothing is waited for.
const LOOK: u64 = 512;
/// The longest that is waited at once, in milliseconds.
const LONGEST: u64 = 60_000;

/// The clock of the lines.
pub(super) struct Pace<'a> {
    signals: &'a Signals,
    /// How many times as fast it goes; `None`: as the lines come.
    speed: Option<u64>,
    /// The first line: on the monotonic clock, and on its own.
    first: Option<(u64, u64)>,
    /// The time of the latest line.
    latest: u64,
    lines: u64,
}

impl Pace<'_> {
    pub(super) fn new(signals: &Signals, speed: Option<u64>) -> Pace<'_> {
        Pace {
            signals,
            speed,
            first: None,
            latest: 0,
            lines: 0,
        }
    }

    /// The time of the latest line.
    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    /// What the time is.
    fn now(&self) -> u64 {
        match (self.speed, self.first) {
            (Some(speed), Some((begun, wall))) => {
                let since = time::monotonic().saturating_sub(begun);
                wall.saturating_add(since.saturating_mul(speed))
            }
            _ => self.latest,
        }
    }

    /// Whether it is to be gone on.
    fn goes_on(&self, view: &View) -> bool {
        !self.signals.stop() && !view.is_done()
    }

    /// Looks after everything, for so many nanoseconds of the lines' time at most, or
    /// until this can be read.
    fn attend(&self, view: &mut View, most: u64, input: Option<BorrowedFd<'_>>) -> bool {
        view.output.flush();
        let wait = most.div_ceil(MILLI.saturating_mul(self.speed.unwrap_or(1)));
        let timeout = PollTimeout::from(wait.min(LONGEST) as u16);
        let fds = [
            Some(self.signals.as_fd()),
            Some(view.output.waits()),
            view.output.keys(),
            input,
        ];
        let mut fds: Vec<PollFd<'_>> = fds
            .iter()
            .filter_map(|fd| Some(PollFd::new((*fd)?, PollFlags::POLLIN)))
            .collect();
        let _ = poll(&mut fds, timeout);
        let came = |at: usize| {
            let fd: Option<&PollFd<'_>> = fds.get(at);
            fd.is_some_and(|fd| fd.any() == Some(true))
        };
        let (signal, output, third, fourth) = (came(0), came(1), came(2), came(3));
        let has_keys = view.output.keys().is_some();
        if signal {
            self.signals.acknowledge();
        }
        if output {
            view.output.attend();
        }
        if has_keys && third {
            view.key();
        }
        if has_keys { fourth } else { third }
    }

    /// Waits for the turn of a line of this time.
    pub(super) fn wait(&mut self, view: &mut View, wall: u64) {
        self.first.get_or_insert_with(|| (time::monotonic(), wall));
        self.lines += 1;
        while self.speed.is_some() && self.goes_on(view) {
            let now = self.now().min(wall.max(self.latest));
            view.draw_at(now, now);
            if now >= wall {
                break;
            }
            let next = view.output.due().clamp(now, wall);
            self.attend(view, (next - now).max(1), None);
        }
        self.latest = self.latest.max(wall);
        if self.speed.is_none() && view.output.has_picture() {
            view.draw_at(self.latest, self.latest);
            if self.lines % LOOK == 0 {
                self.attend(view, 0, None);
            }
        }
    }

    /// Waits until something can be read; whether to go on then.
    pub(super) fn wait_for(&mut self, view: &mut View, input: BorrowedFd<'_>) -> bool {
        view.output.flush();
        while view.output.has_picture() && self.goes_on(view) {
            let now = self.now().min(self.latest);
            view.draw_at(now, now);
            if self.attend(view, u64::MAX, Some(input)) {
                break;
            }
        }
        self.goes_on(view)
    }

    /// Keeps what is on the terminal until the user has seen it.
    pub(super) fn linger(&mut self, view: &mut View) {
        // What came last is shown, too: as at the end of the interval.
        let due = view.output.due();
        if self.goes_on(view) && due < u64::MAX {
            let end = due.max(self.latest);
            view.draw_at(end, end);
        }
        while view.output.keys().is_some() && self.goes_on(view) {
            view.draw_at(self.latest, self.latest);
            self.attend(view, u64::MAX, None);
        }
    }
}
