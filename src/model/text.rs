//! Numbers, addresses and times as text, appended without allocating.

use crate::model::tcp::Endpoint;
use crate::sys::time::{self, Civil};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};

/// Appends a number in decimal.
pub fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the last `width` decimal digits of a number, with leading zeros.
pub fn padded(out: &mut Vec<u8>, value: u32, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = value;
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Appends a number in hexadecimal.
pub fn hex(out: &mut Vec<u8>, value: u64) {
    // Writing to a Vec can't fail.
    let _ = write!(out, "{value:x}");
}

/// Appends an address.
pub fn address(out: &mut Vec<u8>, addr: IpAddr) {
    match addr {
        IpAddr::V4(v4) => ipv4(out, v4),
        // Writing to a Vec can't fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

fn ipv4(out: &mut Vec<u8>, addr: Ipv4Addr) {
    for (i, octet) in addr.octets().into_iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        number(out, u64::from(octet));
    }
}

/// Appends `10.0.0.1:80` or `[2001:db8::1]:443`.
pub fn endpoint(out: &mut Vec<u8>, end: &Endpoint) {
    match end.addr {
        IpAddr::V4(v4) => ipv4(out, v4),
        IpAddr::V6(_) => {
            out.push(b'[');
            address(out, end.addr);
            out.push(b']');
        }
    }
    out.push(b':');
    number(out, u64::from(end.port));
}

/// Whether a terminal may obey a character, or show nothing for it: controls,
/// marks of writing direction and other format characters, separators and blanks
/// but the space, fillers, variation selectors, tags, what is for private use, and
/// what is no character or in planes that have none. (Unicode 16.0: general
/// categories Cc, Cf, Zl, Zp, Zs, Co, and Default_Ignorable_Code_Point. Of what
/// is not assigned elsewhere nothing is known here.)
pub fn is_unseen(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{ad}' | '\u{34f}'
        | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}'
        | '\u{1680}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3000}' | '\u{3164}'
        | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{1fffe}'..='\u{1ffff}' | '\u{2fffe}'..='\u{2ffff}'
        | '\u{3fffe}'..='\u{10ffff}')
}

/// A path or message for a person, characters escaped that are not seen.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

const NANOS: u64 = 1_000_000_000;
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Renders times; remembers the last second, since breaking one down is slow.
#[derive(Debug, Default)]
pub struct Stamps {
    local: (u64, Vec<u8>),
    utc: (u64, Vec<u8>),
}

impl Stamps {
    /// Appends `Dec 30 2024 22:05:25.454`, local time. `nanos` is nanoseconds
    /// since the epoch.
    pub fn local(&mut self, out: &mut Vec<u8>, nanos: u64) {
        let (seconds, rest) = (nanos / NANOS, nanos % NANOS);
        let (cached, text) = &mut self.local;
        if *cached != seconds || text.is_empty() {
            *cached = seconds;
            text.clear();
            let civil = time::local(seconds);
            text.extend_from_slice(MONTHS[usize::from(civil.month)]);
            text.push(b' ');
            padded(text, u32::from(civil.day), 2);
            text.push(b' ');
            number(text, civil.year.max(0) as u64);
            text.push(b' ');
            clock(text, &civil);
        }
        out.extend_from_slice(text);
        out.push(b'.');
        padded(out, (rest / 1_000_000) as u32, 3);
    }

    /// Appends `2024-12-30T22:05:25.454123456Z` (RFC 3339, UTC).
    pub fn rfc3339(&mut self, out: &mut Vec<u8>, nanos: u64) {
        let (seconds, rest) = (nanos / NANOS, nanos % NANOS);
        let (cached, text) = &mut self.utc;
        if *cached != seconds || text.is_empty() {
            *cached = seconds;
            text.clear();
            let civil = time::utc(seconds);
            padded(text, civil.year.max(0) as u32, 4);
            text.push(b'-');
            padded(text, u32::from(civil.month) + 1, 2);
            text.push(b'-');
            padded(text, u32::from(civil.day), 2);
            text.push(b'T');
            clock(text, &civil);
        }
        out.extend_from_slice(text);
        out.push(b'.');
        padded(out, rest as u32, 9);
        out.push(b'Z');
    }
}

fn clock(out: &mut Vec<u8>, civil: &Civil) {
    for (i, part) in [civil.hour, civil.minute, civil.second]
        .into_iter()
        .enumerate()
    {
        if i > 0 {
            out.push(b':');
        }
        padded(out, u32::from(part), 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn numbers() {
        for value in [0, 7, 10, 65535, u64::MAX] {
            assert_eq!(text(|o| number(o, value)), value.to_string());
        }
        assert_eq!(text(|o| padded(o, 7, 3)), "007");
        assert_eq!(text(|o| padded(o, 12345, 3)), "345");
    }

    #[test]
    fn endpoints() {
        let end = |addr: &str, port| {
            let addr = addr.parse().expect("address");
            text(|o| endpoint(o, &Endpoint { addr, port }))
        };
        assert_eq!(end("10.100.10.150", 39134), "10.100.10.150:39134");
        assert_eq!(end("2001:db8::1", 443), "[2001:db8::1]:443");
        assert_eq!(end("::", 0), "[::]:0");
    }

    #[test]
    fn times() {
        let mut stamps = Stamps::default();
        let nanos = 1_735_596_325 * NANOS + 454_123_456;
        for _ in 0..2 {
            let utc = text(|o| stamps.rfc3339(o, nanos));
            assert_eq!(utc, "2024-12-30T22:05:25.454123456Z");
        }
        let later = text(|o| stamps.rfc3339(o, nanos + NANOS - 454_123_456));
        assert_eq!(later, "2024-12-30T22:05:26.000000000Z");
        let local = text(|o| stamps.local(o, nanos));
        assert!(local.ends_with(".454") && local.len() == 24, "{local}");
    }

    #[test]
    fn printable_escapes_controls() {
        assert_eq!(printable("/a\n\x1b[1mb"), "/a\\n\\u{1b}[1mb");
        assert_eq!(printable("/\u{202e}\u{e9}"), "/\\u{202e}\u{e9}");
    }
}
