//! Precedence over other processes, so that nobody who keeps the CPUs busy keeps
//! it from reading the rings in time.
//!
//! Contract: it can't starve a host. Real-time priority is taken only where there
//! is another CPU and the kernel bounds the time that it gives to such tasks
//! (kernel.sched_rt_runtime_us), and [`Room`] leaves some of it; else it is a nice
//! value that leaves every tenth moment to the others.

use crate::error::{Error, Kind};
use crate::sys::{self, Errno, file, sched};
use nix::poll::{PollTimeout, poll};
use std::fmt;

/// Where there is one CPU, or no bound to real time: a weight of 9548 among those
/// of 1024 (kernel/sched/core.c, sched_prio_to_weight).
const NICE: i32 = -10;

/// How long it may be busy without a pause, in nanoseconds.
const BUSY: u64 = 200_000_000;
/// The pause then, in milliseconds.
const PAUSE: u8 = 10;

/// What was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precedence {
    /// SCHED_RR, priority 1.
    RealTime,
    /// A real-time priority that whoever started this process has given it.
    Given,
    /// A nice value.
    Nice(i32),
}

/// `real-time (SCHED_RR 1)`
impl fmt::Display for Precedence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Precedence::RealTime => f.write_str("real-time (SCHED_RR 1)"),
            Precedence::Given => f.write_str("real-time, as it was started"),
            Precedence::Nice(value) => write!(f, "nice {value}"),
        }
    }
}

/// Whether the kernel bounds the time of real-time tasks.
fn is_bounded(runtime: &[u8]) -> bool {
    let text = std::str::from_utf8(runtime).unwrap_or("");
    text.trim().parse::<u64>().is_ok()
}

/// Takes precedence, as much as is good for this host; what a service manager has
/// given stays as it is.
pub(crate) fn take() -> Result<Precedence, Error> {
    if sched::is_real_time() {
        return Ok(Precedence::Given);
    }
    let runtime = file::text("/proc/sys/kernel/sched_rt_runtime_us").unwrap_or_default();
    let real_time = sched::cpus() > 1 && is_bounded(&runtime);
    by(real_time, &sched::real_time, &sched::nice)
}

fn by(
    real_time: bool,
    set_real_time: &dyn Fn() -> sys::Result<()>,
    set_nice: &dyn Fn(i32) -> sys::Result<()>,
) -> Result<Precedence, Error> {
    // EPERM also where a control group has no real time to give.
    if real_time && set_real_time().is_ok() {
        return Ok(Precedence::RealTime);
    }
    match set_nice(NICE) {
        Ok(()) => Ok(Precedence::Nice(NICE)),
        Err(errno) => Err(refused(errno)),
    }
}

fn refused(errno: Errno) -> Error {
    let why = format!(
        "no precedence over other processes ({errno}): who keeps all CPUs busy may cost events"
    );
    Error::new(Kind::Permission, why)
        .advise("run as root or with CAP_SYS_NICE, or raise RLIMIT_RTPRIO to 1 (LimitRTPRIO=)")
}

/// Room for others on this CPU.
#[derive(Debug)]
pub(crate) struct Room {
    real_time: bool,
    /// When it last had nothing to do for a moment.
    rested: u64,
}

impl Room {
    /// For a process that has this precedence.
    pub(crate) fn new(precedence: Option<Precedence>, now: u64) -> Room {
        Room {
            real_time: matches!(precedence, Some(Precedence::RealTime | Precedence::Given)),
            rested: now,
        }
    }

    /// It waited from one time to another (nanoseconds): makes a pause where that
    /// has been too short for too long. Whether it made one.
    pub(crate) fn leave(&mut self, from: u64, to: u64) -> bool {
        if to.saturating_sub(from) >= u64::from(PAUSE) * 100_000 {
            self.rested = to;
        }
        let pause = self.real_time && to.saturating_sub(self.rested) > BUSY;
        if pause {
            let _ = poll(&mut [], PollTimeout::from(PAUSE));
            self.rested = to;
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn real_time_needs_a_bound() {
        for (text, bounded) in [
            ("950000\n", true),
            ("0\n", true),
            ("-1\n", false),
            ("", false),
        ] {
            assert_eq!(is_bounded(text.as_bytes()), bounded, "{text}");
        }
    }

    #[test]
    fn the_next_best_is_taken() {
        let no = || Err(Errno::EPERM);
        let asked = Cell::new(0);
        let nice = |value| {
            asked.set(value);
            Ok(())
        };
        assert_eq!(by(true, &|| Ok(()), &nice), Ok(Precedence::RealTime));
        assert_eq!(asked.get(), 0);
        assert_eq!(by(false, &|| Ok(()), &nice), Ok(Precedence::Nice(NICE)));
        assert_eq!(by(true, &no, &nice), Ok(Precedence::Nice(NICE)));
        assert_eq!(asked.get(), NICE);
        let error = by(true, &no, &|_| no()).expect_err("none");
        assert!(error.remedy().contains("CAP_SYS_NICE"));
    }

    #[test]
    fn who_never_waits_makes_a_pause() {
        const MILLI: u64 = 1_000_000;
        let mut room = Room::new(Some(Precedence::RealTime), 0);
        let pauses = (1..=1000)
            .filter(|n| room.leave(n * MILLI, n * MILLI))
            .count();
        assert_eq!(pauses, 4);
        // Who waits now and then makes none, nor does who has no real time.
        let mut room = Room::new(Some(Precedence::RealTime), 0);
        let waits = |n: &u64| (n * MILLI, n * MILLI + u64::from(n % 100 == 0) * MILLI);
        assert!(
            !(1..=1000u64)
                .map(|n| waits(&n))
                .any(|(a, b)| room.leave(a, b))
        );
        let mut room = Room::new(Some(Precedence::Nice(NICE)), 0);
        assert!(!(1..=1000).any(|n| room.leave(n * MILLI, n * MILLI)));
    }
}
