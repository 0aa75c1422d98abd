//! Clocks and local time.
#![allow(unsafe_code, reason = "owns system calls")]

use super::Result;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{self, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicI64, Ordering};

/// The clock of every event's timestamp (CLOCK_MONOTONIC), as perf wants it.
pub const EVENT_CLOCK: i32 = libc::CLOCK_MONOTONIC;

fn now(clock: ClockId) -> u64 {
    // These clocks always exist on Linux.
    clock_gettime(clock).map_or(0, |t| {
        (t.tv_sec() as u64) * 1_000_000_000 + t.tv_nsec() as u64
    })
}

/// How far CLOCK_MONOTONIC is ahead of the clock of events, in nanoseconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// Says so: this process is in a time namespace.
pub fn set_ahead(nanos: i64) {
    AHEAD.store(nanos, Ordering::Relaxed);
}

/// The event clock in nanoseconds: CLOCK_MONOTONIC of the first time namespace.
pub fn monotonic() -> u64 {
    let ahead = AHEAD.load(Ordering::Relaxed);
    now(ClockId::CLOCK_MONOTONIC).saturating_add_signed(ahead.saturating_neg())
}

/// CLOCK_BOOTTIME in nanoseconds: as CLOCK_MONOTONIC, with the time asleep.
pub fn boottime() -> u64 {
    now(ClockId::CLOCK_BOOTTIME)
}

/// A clock tick as /proc counts it, in nanoseconds (USER_HZ).
pub fn tick() -> u64 {
    let hertz = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    1_000_000_000
        / hertz
            .and_then(|hertz| u64::try_from(hertz).ok())
            .unwrap_or(100)
            .max(1)
}

/// CLOCK_REALTIME in nanoseconds since the epoch.
pub fn realtime() -> u64 {
    now(ClockId::CLOCK_REALTIME)
}

/// A timer's distant end, in seconds since the epoch: in the year 2200.
const DISTANT: i64 = 7_258_118_400;

/// Becomes readable when the wall clock is set, or moved by a sleep of the host;
/// not when its rate is changed (v6.12 fs/timerfd.c, timerfd_clock_was_set).
#[derive(Debug)]
pub struct ClockSet(TimerFd);

impl ClockSet {
    /// Watches from now on. Fails where the kernel has no timerfd.
    pub fn watch() -> Result<ClockSet> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(timerfd::ClockId::CLOCK_REALTIME, flags)?;
        let end = Expiration::OneShot(TimeSpec::new(DISTANT, 0));
        let flags =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        timer.set(end, flags)?;
        Ok(ClockSet(timer))
    }

    /// Forgets that it was readable. It goes on watching: reading starts that
    /// anew (timerfd_canceled).
    pub fn acknowledge(&self) {
        // Nothing to read is what a false wake-up looks like.
        let _ = self.0.wait();
    }
}

impl AsFd for ClockSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A broken-down time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year, such as 2024.
    pub year: i32,
    /// Month, 0 to 11.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 60.
    pub second: u8,
}

impl Civil {
    fn from_tm(tm: &libc::tm) -> Civil {
        Civil {
            year: tm.tm_year + 1900,
            month: tm.tm_mon.clamp(0, 11) as u8,
            day: tm.tm_mday as u8,
            hour: tm.tm_hour as u8,
            minute: tm.tm_min as u8,
            second: tm.tm_sec as u8,
        }
    }
}

fn empty_tm() -> libc::tm {
    // SAFETY: all-zero is a valid struct tm.
    unsafe { std::mem::zeroed() }
}

/// Seconds since the epoch in the zone of `TZ` or /etc/localtime (UTC where
/// neither is there).
pub fn local(seconds: u64) -> Civil {
    let mut tm = empty_tm();
    // SAFETY: both pointers are to live objects of the right type.
    unsafe { libc::localtime_r(&(seconds as _), &mut tm) };
    Civil::from_tm(&tm)
}

/// Lets `TZ` be this. For a process of one thread.
pub fn set_zone(tz: Vec<u8>) {
    if let Ok(tz) = CString::new(tz) {
        // SAFETY: both are strings that it copies, and nothing reads the environment
        // meanwhile: there is one thread.
        unsafe { libc::setenv(c"TZ".as_ptr(), tz.as_ptr(), 1) };
    }
}

/// Whether this process was given privileges by its file (AT_SECURE), and the
/// environment is another's.
pub fn is_secure() -> bool {
    // SAFETY: it takes a number and returns one.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Seconds since the epoch in UTC.
pub fn utc(seconds: u64) -> Civil {
    let mut tm = empty_tm();
    // SAFETY: both pointers are to live objects of the right type.
    unsafe { libc::gmtime_r(&(seconds as _), &mut tm) };
    Civil::from_tm(&tm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_of_known_times() {
        let c = utc(1_735_596_325);
        assert_eq!((c.year, c.month, c.day), (2024, 11, 30));
        assert_eq!((c.hour, c.minute, c.second), (22, 5, 25));
        assert_eq!(utc(0).year, 1970);
    }
}
