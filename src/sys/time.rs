//! Clocks and local time.
#![allow(unsafe_code)]

use nix::time::{ClockId, clock_gettime};

/// The clock of every event's timestamp (CLOCK_MONOTONIC), as perf wants it.
pub const EVENT_CLOCK: i32 = libc::CLOCK_MONOTONIC;

fn now(clock: ClockId) -> u64 {
    // These clocks always exist on Linux.
    clock_gettime(clock).map_or(0, |t| {
        (t.tv_sec() as u64) * 1_000_000_000 + t.tv_nsec() as u64
    })
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic() -> u64 {
    now(ClockId::CLOCK_MONOTONIC)
}

/// CLOCK_BOOTTIME in nanoseconds: as CLOCK_MONOTONIC, with the time asleep.
pub fn boottime() -> u64 {
    now(ClockId::CLOCK_BOOTTIME)
}

/// A clock tick as /proc counts it, in nanoseconds (USER_HZ).
pub fn tick() -> u64 {
    // SAFETY: sysconf has no memory effects.
    let hertz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000_000 / u64::try_from(hertz).unwrap_or(100).max(1)
}

/// CLOCK_REALTIME in nanoseconds since the epoch.
pub fn realtime() -> u64 {
    now(ClockId::CLOCK_REALTIME)
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
