//! Numbers, addresses and times as text, appended without allocating.

use crate::model::tcp::Endpoint;
use crate::sys::append::{append, append_word};
use crate::sys::time::{self, Civil};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The digits of eight, "00000000".
const ZEROS: u64 = 0x3030_3030_3030_3030;
/// The numbers of eight digits.
const EIGHT: u64 = 100_000_000;

/// The eight decimal digits of a number below 100,000,000, a byte each, the
/// highest one in the lowest byte: by pairs of halves, all at once.
#[inline(always)]
fn digits_here(value: u32) -> u64 {
    let value = u64::from(value);
    // Of fours, of twos, of ones; each is divided by a multiplication.
    let high = (value * 109_951_163) >> 40;
    let fours = high | (value - high * 10_000) << 32;
    let high = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = high | (fours - high * 100) << 16;
    let high = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    high | (twos - high * 10) << 8
}

/// The same as a call.
fn digits(value: u32) -> u64 {
    digits_here(value)
}

/// Appends eight digits without leading zeros; `text` is what they look like.
#[inline(always)]
fn trimmed(out: &mut Vec<u8>, digits: u64, text: u64) {
    // The last one stays.
    let zeros = (digits | 1 << 56).trailing_zeros() / 8;
    append_word(out, text >> (8 * zeros), 8 - zeros);
}

/// Appends a number in decimal.
pub fn number(out: &mut Vec<u8>, value: u64) {
    if value >= EIGHT {
        return long_number(out, value);
    }
    let digits = digits_here(value as u32);
    trimmed(out, digits, digits | ZEROS);
}

/// Appends one of more than eight digits: apart, so that the others need nothing on
/// the stack.
#[cold]
#[inline(never)]
fn long_number(out: &mut Vec<u8>, value: u64) {
    number(out, value / EIGHT);
    append_word(out, digits((value % EIGHT) as u32) | ZEROS, 8);
}

/// Appends the last `width` decimal digits of a number, eight at most, with
/// leading zeros.
pub fn padded(out: &mut Vec<u8>, value: u32, width: u32) {
    let digits = digits(value % EIGHT as u32) | ZEROS;
    let width = width.min(8);
    append_word(out, digits >> ((8 * (8 - width)) % 64), width);
}

/// The eight hexadecimal digits of a number as text, and as numbers.
fn hex_digits(value: u32) -> (u64, u64) {
    let value = u64::from(value);
    let fours = (value & 0xffff_0000) << 16 | value & 0xffff;
    let twos = (fours & 0xff00_0000_ff00) << 8 | fours & 0xff_0000_00ff;
    let ones = (twos & 0x00f0_00f0_00f0_00f0) << 4 | twos & 0x000f_000f_000f_000f;
    let digits = ones.swap_bytes();
    // Those from 10 on are letters.
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (digits + ZEROS + letters * 0x27, digits)
}

/// Appends a number in hexadecimal.
pub fn hex(out: &mut Vec<u8>, value: u64) {
    let (text, digits) = hex_digits(value as u32);
    match value >> 32 {
        0 => trimmed(out, digits, text),
        high => {
            hex(out, high);
            append_word(out, text, 8);
        }
    }
}

/// Appends an address.
pub fn address(out: &mut Vec<u8>, addr: IpAddr) {
    match addr {
        IpAddr::V4(v4) => ipv4(out, v4, 0, 0),
        IpAddr::V6(v6) => ipv6(out, v6),
    }
}

/// The text of a number below 256 with a byte behind it, and its length.
#[inline(always)]
fn octet(value: u8, end: u8) -> (u64, u32) {
    let value = u32::from(value);
    let (hundreds, tens) = ((value * 41) >> 12, (value * 205) >> 11);
    let ones = value - tens * 10;
    let tens = tens - hundreds * 10;
    let text = (hundreds | tens << 8 | ones << 16) + 0x30_3030 + (u32::from(end) << 24);
    let zeros = u32::from(value < 10) + u32::from(value < 100);
    (u64::from(text >> (8 * zeros)), 4 - zeros)
}

/// Appends an address and, if `ends` is 1, the byte behind it.
fn ipv4(out: &mut Vec<u8>, addr: Ipv4Addr, end: u8, ends: u32) {
    let [first, second, third, last] = addr.octets();
    // Two of them fit into a word.
    let ((high, len), (low, more)) = (octet(first, b'.'), octet(second, b'.'));
    append_word(out, high | low << (8 * len), len + more);
    let ((high, len), (low, more)) = (octet(third, b'.'), octet(last, end));
    append_word(out, high | low << (8 * len), len + more - 1 + ends);
}

/// As RFC 5952 has it: the first of the longest runs of zeros is left out.
fn ipv6(out: &mut Vec<u8>, addr: Ipv6Addr) {
    if let Some(v4) = addr.to_ipv4_mapped() {
        append(out, b"::ffff:");
        return ipv4(out, v4, 0, 0);
    }
    let parts = addr.segments();
    // From where to where, and the same of the run that is looked at.
    let (mut longest, mut run) = (0..0, 0..0);
    for (at, part) in parts.into_iter().enumerate() {
        if part != 0 {
            continue;
        }
        if run.end != at {
            run.start = at;
        }
        run.end = at + 1;
        if run.len() > longest.len().max(1) {
            longest = run.clone();
        }
    }
    for (at, part) in parts.into_iter().enumerate() {
        if longest.contains(&at) {
            continue;
        }
        if at > 0 {
            append_word(
                out,
                u64::from_le_bytes(*b"::      "),
                1 + u32::from(at == longest.end),
            );
        }
        hex(out, part.into());
    }
    if longest.end == parts.len() {
        append(out, b"::");
    }
}

/// Appends `10.0.0.1:80` or `[2001:db8::1]:443`.
pub fn endpoint(out: &mut Vec<u8>, end: &Endpoint) {
    match end.addr {
        IpAddr::V4(v4) => ipv4(out, v4, b':', 1),
        IpAddr::V6(v6) => {
            append_word(out, b'['.into(), 1);
            ipv6(out, v6);
            append_word(out, u64::from_le_bytes(*b"]:      "), 2);
        }
    }
    number(out, u64::from(end.port));
}

/// What stands before and after the first `by`, as `str::split_once` has it, without
/// the search of all of std's patterns: a kilobyte and a half.
pub(crate) fn cut<'a>(text: &'a str, by: &str) -> Option<(&'a str, &'a str)> {
    let mut places = text.as_bytes().windows(by.len().max(1));
    let at = places.position(|place| place == by.as_bytes())?;
    Some((text.get(..at)?, text.get(at + by.len()..)?))
}

/// Whether it is decimal digits alone, one at least.
pub(crate) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
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
    local: Second,
    utc: Second,
}

/// A second: when it begins in nanoseconds since the epoch, and its text.
#[derive(Debug, Default)]
struct Second(u64, Vec<u8>);

impl Second {
    /// Appends the text of the second that a time is in, which `render` makes;
    /// the nanoseconds that are left.
    #[inline(always)]
    fn append(&mut self, out: &mut Vec<u8>, nanos: u64, render: fn(&mut Vec<u8>, u64)) -> u64 {
        if nanos.wrapping_sub(self.0) >= NANOS || self.1.is_empty() {
            self.change(nanos, render);
        }
        append(out, &self.1);
        nanos - self.0
    }

    #[cold]
    fn change(&mut self, nanos: u64, render: fn(&mut Vec<u8>, u64)) {
        let seconds = nanos / NANOS;
        self.0 = seconds * NANOS;
        self.1.clear();
        render(&mut self.1, seconds);
        append_word(&mut self.1, b'.'.into(), 1);
    }
}

impl Stamps {
    /// Appends `Dec 30 2024 22:05:25.454`, local time. `nanos` is nanoseconds
    /// since the epoch.
    pub fn local(&mut self, out: &mut Vec<u8>, nanos: u64) {
        let rest = self.local.append(out, nanos, |text, seconds| {
            let civil = time::local(seconds);
            append(text, MONTHS[usize::from(civil.month)]);
            text.push(b' ');
            padded(text, u32::from(civil.day), 2);
            text.push(b' ');
            number(text, civil.year.max(0) as u64);
            text.push(b' ');
            clock(text, &civil);
        });
        // By 1,000,000: less than a second is divided by a multiplication.
        let millis = (rest * 1_125_899_907) >> 50;
        append_word(out, (digits(millis as u32) | ZEROS) >> 40, 3);
    }

    /// Appends `2024-12-30T22:05:25.454123456Z` (RFC 3339, UTC).
    pub fn rfc3339(&mut self, out: &mut Vec<u8>, nanos: u64) {
        let rest = self.utc.append(out, nanos, |text, seconds| {
            let civil = time::utc(seconds);
            padded(text, civil.year.max(0) as u32, 4);
            text.push(b'-');
            padded(text, u32::from(civil.month) + 1, 2);
            text.push(b'-');
            padded(text, u32::from(civil.day), 2);
            text.push(b'T');
            clock(text, &civil);
        });
        // By 100,000,000, likewise.
        let first = (rest * 1_441_151_881) >> 57;
        let others = digits((rest - first * EIGHT) as u32) | ZEROS;
        append_word(out, first | 0x30 | others << 8, 8);
        append_word(out, others >> 56 | u64::from(b'Z') << 8, 2);
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
    fn numbers_are_those_of_the_standard_library() {
        let around = (0..20).map(|n| 10u64.pow(n));
        let around = around.flat_map(|n| [n - 1, n, n + 1, n.wrapping_mul(7)]);
        let powers = (0..64).flat_map(|n| [1 << n, (1 << n) - 1]);
        for value in around.chain(powers).chain(0..2000) {
            assert_eq!(text(|o| number(o, value)), value.to_string());
            assert_eq!(text(|o| hex(o, value)), format!("{value:x}"));
            let low = value as u32;
            for width in 1..=8 {
                let all = format!("{low:08}");
                let last = &all[all.len() - width..];
                assert_eq!(text(|o| padded(o, low, width as u32)), last);
            }
        }
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
    fn addresses_are_those_of_the_standard_library() {
        let same = |addr: IpAddr| assert_eq!(text(|o| address(o, addr)), addr.to_string());
        for octet in 0..=255 {
            same(Ipv4Addr::new(octet, 255 - octet, octet ^ 0x55, octet).into());
        }
        // Zeros in all places.
        for zeros in 0..=255u16 {
            let part = |at: u16| if zeros >> at & 1 == 1 { 0 } else { 0xa07 << at };
            let parts: [u16; 8] = std::array::from_fn(|at| part(at as u16));
            same(Ipv6Addr::from(parts).into());
        }
        for addr in ["::ffff:10.0.0.1", "::ffff:0:1", "::1:ffff", "fe80::1:0:0:1"] {
            same(addr.parse().expect("an address"));
        }
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
    fn every_part_of_a_second_is_what_it_is() {
        let mut stamps = Stamps::default();
        let near = |n: u64| [n.saturating_sub(1), n, n + 1];
        let steps = (0..=1000).flat_map(|n| near(n * 1_000_000));
        let steps = steps.chain((0..=10).flat_map(|n| near(n * EIGHT)));
        for rest in steps.filter(|rest| *rest < NANOS) {
            let nanos = 1_735_596_325 * NANOS + rest;
            let utc = text(|o| stamps.rfc3339(o, nanos));
            assert_eq!(utc, format!("2024-12-30T22:05:25.{rest:09}Z"));
            let local = text(|o| stamps.local(o, nanos));
            let millis = format!("25.{:03}", rest / 1_000_000);
            assert!(local.ends_with(&millis), "{rest}: {local}");
        }
        // Back again.
        for second in [7, 5, 6] {
            let utc = text(|o| stamps.rfc3339(o, second * NANOS));
            assert_eq!(utc, format!("1970-01-01T00:00:0{second}.000000000Z"));
        }
    }

    #[test]
    fn printable_escapes_controls() {
        assert_eq!(printable("/a\n\x1b[1mb"), "/a\\n\\u{1b}[1mb");
        assert_eq!(printable("/\u{202e}\u{e9}"), "/\\u{202e}\u{e9}");
    }
}
