//! The values of flags, as they are written.
//!
//! Contract: what can't be taken is an error, in words that go behind the flag.

use crate::capture::Transport;
use crate::model::text::is_digits;
use crate::output::FormatName;
use crate::sandbox;
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn parse_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse::<IpAddr>()
        .map(|addr| addr.to_canonical())
        .map_err(|_| "not an IPv4 or IPv6 address".into())
}

/// What lines are.
pub(super) fn parse_lines(text: &str) -> Result<FormatName, String> {
    match text {
        "classic" => Ok(FormatName::Classic),
        "json" => Ok(FormatName::Json),
        _ => Err("must be classic or json".into()),
    }
}

/// What standard output carries.
pub(super) fn parse_format(text: &str) -> Result<FormatName, String> {
    match text {
        "trace" => Ok(FormatName::Picture),
        _ => parse_lines(text).map_err(|_| "must be classic, json or trace".into()),
    }
}

/// So many times; as fast as it goes is `u64::MAX`.
pub(super) fn parse_speed(text: &str) -> Result<u64, String> {
    match text {
        "max" => Ok(u64::MAX),
        _ => parse_positive(text).map_err(|_| "must be a whole number above 0, or max".into()),
    }
}

/// Whether owners are told by transitions.
pub(super) fn parse_belief(text: &str) -> Result<bool, String> {
    match text {
        "lock" => Ok(false),
        "transitions" => Ok(true),
        _ => Err("must be lock or transitions".into()),
    }
}

pub(super) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".into()),
    }
}

pub(super) fn parse_transport(text: &str) -> Result<Transport, String> {
    match text {
        "tracepoint" => Ok(Transport::Tracepoint),
        "btf" => Ok(Transport::Btf),
        "perf" => Ok(Transport::Perf),
        _ => Err("must be tracepoint, btf or perf".into()),
    }
}

pub(super) fn parse_sandbox(text: &str) -> Result<sandbox::Mode, String> {
    match text {
        "off" => Ok(sandbox::Mode::Off),
        "on" => Ok(sandbox::Mode::On),
        "strict" => Ok(sandbox::Mode::Strict),
        _ => Err("must be off, on or strict".into()),
    }
}

/// Seconds in decimal, to the nanosecond. (std's f64 would do, at 16 KiB.)
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let bad = || "must be a number of seconds above 0, such as 10 or 0.5".to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return Err(bad());
    }
    let seconds = whole.parse().map_err(|_| bad())?;
    let nanos = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    Some(Duration::new(seconds, nanos))
        .filter(|duration| !duration.is_zero())
        .ok_or_else(bad)
}

pub(super) fn parse_positive(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("must be a whole number above 0".into()),
    }
}

/// So many, or all.
pub(super) fn parse_lifecycles(text: &str) -> Result<Option<usize>, String> {
    match text {
        "all" => Ok(None),
        _ => text
            .parse()
            .map(Some)
            .map_err(|_| "must be a whole number, or all".into()),
    }
}

/// Bytes, with K, M or G for powers of 1024.
fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at)?, 10),
        Some((at, 'm' | 'M')) => (text.get(..at)?, 20),
        Some((at, 'g' | 'G')) => (text.get(..at)?, 30),
        _ => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (bytes > 0).then_some(bytes)
}

/// At most 1 GiB per CPU.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text).filter(|bytes| *bytes <= 1 << 30);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| "must be a size such as 65536, 256K or 4M, up to 1G".into())
}

pub(super) fn parse_log_size(text: &str) -> Result<u64, String> {
    parse_bytes(text).ok_or_else(|| "must be a size such as 512K, 64M or 1G".into())
}
