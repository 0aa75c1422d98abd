//! Numbers, addresses and figures with units, as they are written.
//!
//! Contract: text that isn't one whole is none.

use super::words;
use crate::model::text::is_digits;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A number.
pub(super) fn number(text: &str) -> Option<u32> {
    is_digits(text).then(|| text.parse().ok())?
}

/// From where to where, both included.
pub(super) type Ports = (u32, u32);

/// From where to where a port or several of them are.
pub(super) fn ports(text: &str) -> Option<Ports> {
    let one = |text: &str| match is_digits(text) {
        true => text.parse().ok(),
        false => words::service(text),
    };
    let same = one(text).map(|port| (port, port));
    let range = || {
        let (first, last) = text.split_once('-')?;
        Some((one(first)?, one(last)?))
    };
    let (first, last) = same.or_else(range)?;
    (first <= last).then_some((first.into(), last.into()))
}

/// An IPv4 address of which the last numbers may be missing, and how many bits
/// there are.
fn partial(text: &str) -> Option<(Ipv4Addr, u8)> {
    let mut octets = [0; 4];
    let mut count = 0;
    for part in text.split('.') {
        *octets.get_mut(count)? = part.parse().ok().filter(|_| is_digits(part))?;
        count += 1;
    }
    Some((octets.into(), count as u8 * 8))
}

/// An address with the number of bits that count.
pub(super) type Net = (IpAddr, u8);

/// An address or network; `short`: also one of which the last numbers are missing.
pub(super) fn net(text: &str, short: bool) -> Option<Net> {
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(number(len)?)),
        None => (text, None),
    };
    let bare = addr.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let (addr, bits) = match bare.unwrap_or(addr).parse::<Ipv6Addr>() {
        Ok(v6) => (IpAddr::V6(v6), 128),
        Err(_) => {
            let (v4, bits) = partial(addr)?;
            if bits < 32 && !short && len.is_none() {
                return None;
            }
            (IpAddr::V4(v4), bits)
        }
    };
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let len = len.unwrap_or(bits.into());
    (len <= most).then_some((addr, len as u8))
}

/// An IPv6 address without brackets, and behind it what may be a port; and whether
/// the whole is an address just as well.
pub(super) fn torn(text: &str) -> Option<(&str, &str, bool)> {
    let (addr, port) = text.rsplit_once(':')?;
    addr.parse::<Ipv6Addr>().ok()?;
    // Nobody means port 0, nor the end of an address that is made from a MAC's.
    let (first, _) = ports(port)?;
    let whole = text.parse::<Ipv6Addr>().is_ok();
    let made = whole && addr.as_bytes().windows(5).any(|part| part == b"ff:fe");
    (first > 0 && !made).then_some((addr, port, whole))
}

/// An end as ss writes it: address or network, and ports, each unless it is `*`
/// or missing.
pub(super) fn end(text: &str) -> Option<(Option<Net>, Option<Ports>)> {
    let (addr, port) = match text.rfind([':', ']']) {
        // The last of several without brackets is the address's own.
        Some(at) if text.as_bytes()[at] == b':' => {
            let (addr, port) = (text.get(..at)?, text.get(at + 1..)?);
            match addr.contains(':') && !addr.contains([']', '/']) {
                true => (text, None),
                false => (addr, Some(port)),
            }
        }
        _ => (text, None),
    };
    let addr = match addr {
        "" | "*" if port.is_some() || addr == "*" => None,
        addr => Some(net(addr, false)?),
    };
    let port = match port {
        None | Some("*") => None,
        Some(port) => Some(ports(port)?),
    };
    Some((addr, port))
}

/// A figure with a unit: at most and at least so many of the base unit, where it
/// isn't a whole number of them. `units` has each with the base units in it.
pub(super) fn figure(text: &str, units: &[(&str, u64)], base: u64) -> Option<(u64, u64)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (figure, unit) = text.split_at_checked(end)?;
    let (whole, fraction) = figure.split_once('.').unwrap_or((figure, ""));
    if !is_digits(whole) || fraction.len() > 6 || figure.ends_with('.') {
        return None;
    }
    let mut units = units.iter();
    let (_, scale) = units.find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    // What can be counted in the base unit is.
    let (scale, base) = match scale % base {
        0 => (scale / base, 1),
        _ => (*scale, base),
    };
    let parts = 10u64.pow(fraction.len() as u32);
    let fraction: u64 = match fraction {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    // At most 10^6 hours in nanoseconds.
    let fraction = fraction.checked_mul(scale)?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let all = whole.checked_add(fraction / parts)?;
    let exact = fraction % parts == 0 && all % base == 0;
    let floor = all / base;
    Some((floor, floor.checked_add(u64::from(!exact))?))
}

/// Units of time.
pub(super) const TIMES: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Units of bytes.
pub(super) const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
];
