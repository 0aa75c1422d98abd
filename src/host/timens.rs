//! The event clock in a time namespace.
//!
//! The kernel gives events the time of the first time namespace
//! (bpf_ktime_get_ns() and perf's clock, v6.12 kernel/bpf/helpers.c and
//! kernel/events/core.c), while CLOCK_MONOTONIC is that of the process's own,
//! which may differ by any offset (time_namespaces(7)).
//!
//! Contract: after [`align`] both are the same here, or it has failed. Without
//! /proc nothing tells of time namespaces, and none is assumed.

use crate::error::{Error, Kind};
use crate::sys::{file, time};

/// The inode number of the first time namespace (PROC_TIME_INIT_INO, v6.12
/// include/linux/proc_ns.h).
const FIRST: u64 = 0xEFFF_FFFA;

/// Lets the event clock be that of the kernel's events from now on.
pub fn align() -> Result<(), Error> {
    let own = file::inode("/proc/self/ns/time");
    let children = file::inode("/proc/self/ns/time_for_children");
    let offsets = file::text("/proc/self/timens_offsets").unwrap_or_default();
    let ahead = ahead(own, children, &offsets).map_err(|why| {
        Error::new(
            Kind::Unsupported,
            format!("cannot tell the time of events in this time namespace: {why}"),
        )
        .advise("run it in the first one: nsenter --target 1 --time")
    })?;
    time::set_ahead(ahead);
    Ok(())
}

/// How far CLOCK_MONOTONIC is ahead of the kernel's, in nanoseconds. Of
/// `offsets`, a file `timens_offsets`, the kernel says that it is of the
/// namespace that children are made in (v6.12 kernel/time/namespace.c,
/// proc_timens_show_offsets), which after unshare(2) is not yet the own one.
fn ahead(own: Option<u64>, children: Option<u64>, offsets: &[u8]) -> Result<i64, &'static str> {
    if own.is_none_or(|own| own == FIRST) {
        return Ok(0);
    }
    if own != children {
        return Err("its offset is not told once its children are to be in another");
    }
    monotonic(offsets).ok_or("/proc/self/timens_offsets can't be read")
}

/// The offset of CLOCK_MONOTONIC in a file `timens_offsets`: the line
/// `monotonic SECONDS NANOSECONDS`. Seconds may be below 0, nanoseconds not.
pub fn monotonic(offsets: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(offsets).ok()?;
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    let mut line = lines.find_map(|mut words| (words.next()? == "monotonic").then_some(words))?;
    let seconds: i64 = line.next()?.parse().ok()?;
    let nanos: u32 = line.next()?.parse().ok()?;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(nanos.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Option<u64> = Some(4026532177);
    const OTHER: Option<u64> = Some(4026532178);

    #[test]
    fn the_file_of_offsets() {
        for (text, offset) in [
            (
                "monotonic           0         0\nboottime            0         0\n",
                Some(0),
            ),
            (
                "monotonic      100000         0\nboottime            0         0\n",
                Some(100_000_000_000_000),
            ),
            ("boottime -7 5\nmonotonic -1 999999999\n", Some(-1)),
            ("monotonic 5\n", None),
            ("monotonic 5 x\n", None),
            ("monotonic 5 -1\n", None),
            ("monotonic 9223372036854775807 0\n", None),
            ("monotonic_raw 5 0\n", None),
            ("\u{feff}monotonic 5 0\n", None),
            ("", None),
        ] {
            assert_eq!(monotonic(text.as_bytes()), offset, "{text}");
        }
        assert_eq!(monotonic(b"monotonic 5 \xff\n"), None);
    }

    #[test]
    fn whose_offsets_they_are() {
        let offsets = b"monotonic 100 0\nboottime 0 0\n";
        let seconds = 100_000_000_000;
        assert_eq!(ahead(MINE, MINE, offsets), Ok(seconds));
        // No time namespaces, no /proc; the first one, by itself or after unshare(2).
        assert_eq!(ahead(None, None, b""), Ok(0));
        assert_eq!(ahead(Some(FIRST), Some(FIRST), b""), Ok(0));
        assert_eq!(ahead(Some(FIRST), MINE, offsets), Ok(0));
        // It can't be told.
        assert!(ahead(MINE, OTHER, offsets).is_err());
        assert!(ahead(MINE, None, offsets).is_err());
        assert!(ahead(MINE, MINE, b"").is_err());
    }
}
