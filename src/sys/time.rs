//! Clocks and local time.
#![allow(unsafe_code, reason = "owns system calls")]

use super::Result;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{self, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
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

/// What [`days`] counts from: March 1 of the year 0, and the era of 400 years that it
/// begins; leap days are then at the end of a year (Howard Hinnant, chrono-compatible
/// low-level date algorithms).
const TO_1970: i64 = 719_468;
const ERA: i64 = 146_097;

/// Days from 1970 to the first of a month, 1 to 12.
pub(crate) fn days(year: i32, month: u8) -> i64 {
    let since_march = i64::from((month + 9) % 12);
    let year = i64::from(year) - i64::from(month <= 2);
    let of_years = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    of_years + (153 * since_march + 2) / 5 - TO_1970
}

/// Seconds since the epoch, broken down.
pub(crate) fn civil(seconds: i64) -> Civil {
    let of_day = seconds.rem_euclid(86_400);
    let days = seconds.div_euclid(86_400) + TO_1970;
    let of_era = days.rem_euclid(ERA);
    let of_years = of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096;
    let year = of_years / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let since_march = (5 * of_year + 2) / 153;
    let year = year + days.div_euclid(ERA) * 400 + i64::from(since_march >= 10);
    Civil {
        year: year as i32,
        month: ((since_march + 2) % 12) as u8,
        day: (of_year - (153 * since_march + 2) / 5 + 1) as u8,
        hour: (of_day / 3600) as u8,
        minute: (of_day / 60 % 60) as u8,
        second: (of_day % 60) as u8,
    }
}

/// How far local time is ahead of UTC, in seconds, at a moment of UTC.
type Offset = Box<dyn Fn(i64) -> i64 + Send + Sync>;
static ZONE: OnceLock<Offset> = OnceLock::new();

/// Lets local time be by this; the first that is given counts.
pub(crate) fn set_zone(offset: Offset) {
    let _ = ZONE.set(offset);
}

/// Seconds since the epoch in local time: UTC if there is no other.
pub fn local(seconds: u64) -> Civil {
    let seconds = seconds as i64;
    let offset = ZONE.get().map_or(0, |offset| offset(seconds));
    civil(seconds.saturating_add(offset))
}

/// Whether this process was given privileges by its file (AT_SECURE), and the
/// environment is another's.
pub fn is_secure() -> bool {
    // SAFETY: it takes a number and returns one.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Seconds since the epoch in UTC.
pub fn utc(seconds: u64) -> Civil {
    civil(seconds as i64)
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
        assert_eq!(local(0), utc(0));
    }

    #[test]
    fn time_is_that_of_the_c_library() {
        // Each 17 days and some from 1600 to 2400, and the ends of years.
        let steps = (-11_676_096_000..13_569_465_600).step_by(1_500_007);
        let ends = (1969..2101).flat_map(|year| {
            let day = days(year, 1) * 86_400;
            [day - 1, day, days(year, 3) * 86_400 - 1]
        });
        for seconds in steps.chain(ends) {
            // SAFETY: all-zero is a valid struct tm.
            let mut tm: libc::tm = unsafe { std::mem::zeroed() };
            // SAFETY: both pointers are to live objects of the right type.
            unsafe { libc::gmtime_r(&seconds, &mut tm) };
            let c = civil(seconds);
            let clock = [c.hour, c.minute, c.second].map(i32::from);
            assert_eq!((c.year, i32::from(c.month)), (tm.tm_year + 1900, tm.tm_mon));
            assert_eq!(i32::from(c.day), tm.tm_mday, "{seconds}");
            assert_eq!(clock, [tm.tm_hour, tm.tm_min, tm.tm_sec]);
            let first = days(c.year, c.month + 1) + i64::from(c.day) - 1;
            assert_eq!(first, seconds.div_euclid(86_400));
        }
    }
}
