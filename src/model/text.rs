//! Numbers, addresses and times as text, appended without allocating.

use crate::model::tcp::Endpoint;
use crate::sys::append::{append, append_stamp, append_two_words, append_word, try_append};
use crate::sys::time::{self, Civil};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Eight digits without leading zeros, and how many are left; `text` is what they look
/// like.
#[inline(always)]
fn trimmed(digits: u64, text: u64) -> (u64, u32) {
    // The last one stays.
    let zeros = (digits | 1 << 56).trailing_zeros() / 8;
    (text >> (8 * zeros), 8 - zeros)
}

/// The text of a number below 100,000,000, and its length.
#[inline(always)]
fn few_digits(value: u32) -> (u64, u32) {
    if value < 10 {
        return (u64::from(value) | 0x30, 1);
    }
    let digits = digits_here(value);
    trimmed(digits, digits | ZEROS)
}

/// Appends a number in decimal.
#[inline]
pub fn number(out: &mut Vec<u8>, value: u64) {
    number_behind(out, b"", value);
}

/// Appends a piece and a number in decimal.
#[inline]
pub(crate) fn number_behind(out: &mut Vec<u8>, piece: &[u8], value: u64) {
    if value < EIGHT {
        let (text, len) = few_digits(value as u32);
        if try_append(out, piece, (&text.to_le_bytes(), len as usize)) {
            return;
        }
    }
    number_apart(out, piece, value);
}

/// The same one after the other, and of more than eight digits: as the last step, so that
/// the usual way needs nothing on the stack.
#[cold]
#[inline(never)]
fn number_apart(out: &mut Vec<u8>, piece: &[u8], value: u64) {
    append(out, piece);
    if value < EIGHT {
        out.reserve(8);
        return number(out, value);
    }
    number(out, value / EIGHT);
    padded(out, (value % EIGHT) as u32, 8);
}

/// Appends the last `width` decimal digits of a number, eight at most, with
/// leading zeros.
#[inline]
pub fn padded(out: &mut Vec<u8>, value: u32, width: u32) {
    let digits = digits(value % EIGHT as u32) | ZEROS;
    let width = width.min(8);
    append_word(out, digits >> ((8 * (8 - width)) % 64), width);
}

/// Appends a dot and the last six decimal digits of a number.
pub(crate) fn fraction(out: &mut Vec<u8>, micros: u64) {
    let text = (digits(micros as u32) | ZEROS) >> 8;
    append_word(out, text & !0xff | u64::from(b'.'), 7);
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
        0 => {
            let (text, len) = trimmed(digits, text);
            append_word(out, text, len);
        }
        high => {
            hex(out, high);
            append_word(out, text, 8);
        }
    }
}

/// Appends an address.
#[inline]
pub fn address(out: &mut Vec<u8>, addr: IpAddr) {
    match addr {
        IpAddr::V4(v4) => ipv4(out, v4),
        IpAddr::V6(v6) => ipv6(out, v6),
    }
}

/// The text of each number below 256 with a dot behind it, the first byte in the lowest
/// one, and above its 32 bits how many of these it takes. They are made when the first is
/// asked for, that of 0 at last.
static OCTETS: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

#[cold]
#[inline(never)]
fn make_octets() {
    for value in (0..=255).rev() {
        let digit = |by: u32| u64::from(value / by % 10) | 0x30;
        let all = digit(100) | digit(10) << 8 | digit(1) << 16 | u64::from(b'.') << 24;
        let zeros = 8 * (u64::from(value < 10) + u64::from(value < 100));
        let text = all >> zeros | (32 - zeros) << 32;
        OCTETS[value as usize].store(text, Ordering::Release);
    }
}

/// An address and a dot in two words, and how many bytes these have.
#[inline(always)]
fn ipv4_words(addr: Ipv4Addr) -> [(u64, u32); 2] {
    if OCTETS[0].load(Ordering::Acquire) == 0 {
        make_octets();
    }
    let octet = |value: u8| {
        let all = OCTETS[usize::from(value)].load(Ordering::Relaxed);
        (u64::from(all as u32), (all >> 32) as u32)
    };
    let two = |first: u8, second: u8| {
        let ((low, bits), (high, more)) = (octet(first), octet(second));
        (low | high << (bits % 64), (bits + more) / 8)
    };
    let [first, second, third, last] = addr.octets();
    [two(first, second), two(third, last)]
}

#[inline]
fn ipv4(out: &mut Vec<u8>, addr: Ipv4Addr) {
    let [first, (last, len)] = ipv4_words(addr);
    append_two_words(out, first, (last, len - 1));
}

/// As RFC 5952 has it: the first of the longest runs of zeros is left out.
fn ipv6(out: &mut Vec<u8>, addr: Ipv6Addr) {
    if let Some(v4) = addr.to_ipv4_mapped() {
        append(out, b"::ffff:");
        return ipv4(out, v4);
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
#[inline]
pub fn endpoint(out: &mut Vec<u8>, end: &Endpoint) {
    match end.addr {
        IpAddr::V4(v4) => {
            let port = digits(end.port.into());
            let [(first, first_len), (last, len)] = ipv4_words(v4);
            let colon = u64::from(b'.' ^ b':') << (8 * len - 8);
            append_stamp(
                out,
                (&first.to_le_bytes(), first_len as usize),
                (last ^ colon, len),
                trimmed(port, port | ZEROS),
            );
        }
        IpAddr::V6(v6) => {
            append_word(out, b'['.into(), 1);
            ipv6(out, v6);
            append_word(out, b']'.into(), 1);
            number_behind(out, b":", end.port.into());
        }
    }
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

/// Seconds and the nanoseconds that are left: divided by a multiplication.
#[inline(always)]
pub(crate) fn seconds_of(nanos: u64) -> (u64, u64) {
    let seconds = (u128::from(nanos >> 9) * 0x0044_b82f_a09b_5a53) >> (64 + 11);
    let seconds = seconds as u64;
    (seconds, nanos - seconds * NANOS)
}

/// Bytes of a second's text, the piece before it included: at most.
const SECOND: usize = 32;

/// Renders times; remembers the last second, since breaking one down is slow.
#[derive(Debug, Default)]
pub struct Stamps {
    local: Second,
    utc: Second,
    behind: Second,
}

/// A second: when it begins in nanoseconds since the epoch, and its text.
#[derive(Debug, Default)]
struct Second {
    start: u64,
    text: [u8; SECOND],
    len: usize,
}

impl Second {
    /// Whether a time is in another second.
    #[inline(always)]
    fn is_other(&self, nanos: u64) -> bool {
        nanos.wrapping_sub(self.start) >= NANOS || self.len == 0
    }

    /// Goes to the second that a time is in, whose text `render` makes behind a piece that
    /// never differs.
    fn change(&mut self, nanos: u64, before: &[u8], render: fn(&mut Vec<u8>, u64)) {
        let seconds = nanos / NANOS;
        self.start = seconds * NANOS;
        let mut text = before.to_vec();
        render(&mut text, seconds);
        text.push(b'.');
        self.len = text.len().min(SECOND);
        for (to, from) in self.text.iter_mut().zip(text) {
            *to = from;
        }
    }

    /// Appends the text of a time in UTC to the nanosecond.
    #[inline]
    fn utc(&mut self, out: &mut Vec<u8>, before: &[u8], nanos: u64) {
        if self.is_other(nanos) {
            return self.next_utc(out, before, nanos);
        }
        let rest = nanos - self.start;
        // By 100,000,000: less than a second is divided by a multiplication.
        let first = (rest * 1_441_151_881) >> 57;
        let others = digits((rest - first * EIGHT) as u32) | ZEROS;
        append_stamp(
            out,
            (&self.text, self.len),
            (first | 0x30 | others << 8, 8),
            (others >> 56 | u64::from(b'Z') << 8, 2),
        );
    }

    #[cold]
    #[inline(never)]
    fn next_utc(&mut self, out: &mut Vec<u8>, before: &[u8], nanos: u64) {
        self.change(nanos, before, |text, seconds| {
            let civil = time::utc(seconds);
            padded(text, civil.year.max(0) as u32, 4);
            text.push(b'-');
            padded(text, u32::from(civil.month) + 1, 2);
            text.push(b'-');
            padded(text, u32::from(civil.day), 2);
            text.push(b'T');
            clock(text, &civil);
        });
        self.utc(out, before, nanos);
    }
}

impl Stamps {
    /// Appends `Dec 30 2024 22:05:25.454`, local time. `nanos` is nanoseconds
    /// since the epoch.
    #[inline]
    pub fn local(&mut self, out: &mut Vec<u8>, nanos: u64) {
        let second = &self.local;
        if second.is_other(nanos) {
            return self.next_local(out, nanos);
        }
        // By 1,000,000, and then by 100 and 10, likewise.
        let millis = ((nanos - second.start) * 1_125_899_907) >> 50;
        let hundreds = (millis * 41) >> 12;
        let tens = (millis * 205) >> 11;
        let ones = millis - tens * 10;
        let text = hundreds | (tens - hundreds * 10) << 8 | ones << 16;
        let all = (&second.text, second.len);
        append_stamp(out, all, (text | 0x30_3030, 3), (0, 0));
    }

    #[cold]
    #[inline(never)]
    fn next_local(&mut self, out: &mut Vec<u8>, nanos: u64) {
        self.local.change(nanos, b"", |text, seconds| {
            let civil = time::local(seconds);
            append(text, MONTHS[usize::from(civil.month)]);
            text.push(b' ');
            padded(text, u32::from(civil.day), 2);
            text.push(b' ');
            number(text, civil.year.max(0) as u64);
            text.push(b' ');
            clock(text, &civil);
        });
        self.local(out, nanos);
    }

    /// Appends `2024-12-30T22:05:25.454123456Z` (RFC 3339, UTC).
    #[inline]
    pub fn rfc3339(&mut self, out: &mut Vec<u8>, nanos: u64) {
        self.utc.utc(out, b"", nanos);
    }

    /// The same behind a piece that is the same each time, and has 12 bytes at most. Such
    /// times are remembered apart from the others.
    #[inline]
    pub(crate) fn rfc3339_behind(&mut self, out: &mut Vec<u8>, piece: &[u8], nanos: u64) {
        self.behind.utc(out, piece, nanos);
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
mod tests;
