//! Values as lines have them, read by hand.
//!
//! Contract: what is not written as the program writes it makes no sense.

use super::known::same;
use crate::model::tcp::State;
use std::cell::Cell;
use std::net::Ipv4Addr;

/// A whole number.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    let mut sum = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = match text.len() {
            // Not too many.
            ..20 => sum * 10 + u64::from(digit),
            _ => sum.checked_mul(10)?.checked_add(digit.into())?,
        };
    }
    (!text.is_empty()).then_some(sum)
}

/// The second that was read last, as it is written, and nanoseconds since the epoch.
pub(super) type Second = ([u64; 3], u64);

/// [`time`], faster where it is in the second that was read last.
pub(super) fn time_within(text: &[u8], second: &Cell<Second>) -> Option<u64> {
    let text: &[u8; 30] = text.try_into().ok()?;
    let word = |at: usize| {
        let word = text.get(at..).and_then(|rest| rest.first_chunk::<8>());
        word.map_or(0, |word| u64::from_ne_bytes(*word))
    };
    let written = [word(0), word(8), word(11)];
    let (known, start) = second.get();
    if written == known && text[19] == b'.' && text[29] == b'Z' {
        return start.checked_add(digits(&text[20..29])?);
    }
    let all = time(text)?;
    second.set((written, all - all % 1_000_000_000));
    Some(all)
}

/// Nanoseconds since the epoch of `2024-12-30T22:05:25.454123456Z`.
pub(super) fn time(text: &[u8]) -> Option<u64> {
    const LIKE: &[u8; 30] = b"dddd-dd-ddTdd:dd:dd.dddddddddZ";
    let text: &[u8; 30] = text.try_into().ok()?;
    let (mut parts, mut part) = ([0u64; 7], 0);
    for (byte, like) in text.iter().zip(LIKE) {
        if *like != b'd' {
            (byte == like).then_some(())?;
            part += 1;
            continue;
        }
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then_some(())?;
        let place = parts.get_mut(part)?;
        *place = *place * 10 + u64::from(digit);
    }
    let [year, month, day, hour, minute, second, nanos] = parts;
    let sane = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
    (sane && hour < 24 && minute < 60 && second < 61).then_some(())?;
    // Years that begin in March have the odd day at their end.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year;
    let days = days.checked_sub(719_468)?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

pub(super) fn state(text: &[u8]) -> Option<State> {
    let mut number = 1;
    while let Some(state) = State::from_number(number) {
        if same(state.name().as_bytes(), text) {
            return Some(state);
        }
        number += 1;
    }
    None
}

/// An address of four numbers.
pub(super) fn v4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut parts, mut part) = ([0u8; 4], 0);
    let mut number = None::<u32>;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        number = match (*byte, number) {
            (b'.', Some(number)) => {
                *parts.get_mut(part)? = u8::try_from(number).ok()?;
                part += 1;
                None
            }
            // None begins with a zero.
            (_, Some(0)) => return None,
            (_, number) if digit < 10 => {
                let number = number.unwrap_or(0) * 10 + u32::from(digit);
                Some(number).filter(|number| *number < 256)
            }
            _ => return None,
        };
        if number.is_none() && *byte != b'.' {
            return None;
        }
    }
    *parts.get_mut(part)? = u8::try_from(number?).ok()?;
    (part == 3).then(|| parts.into())
}

/// `18d3f2a1b00-42`
pub(super) fn id(text: &[u8]) -> Option<(u64, u64)> {
    let (mut run, mut at) = (0u64, 0);
    loop {
        let digit = match *text.get(at)? {
            byte @ b'0'..=b'9' => byte - b'0',
            byte @ b'a'..=b'f' => byte - b'a' + 10,
            b'-' if at > 0 => break,
            _ => return None,
        };
        run = run.checked_mul(16)? | u64::from(digit);
        at += 1;
    }
    Some((run, digits(text.get(at + 1..)?)?))
}

/// Times in states: `{"SYN_SENT":7,…}`, our own.
pub(super) fn states(object: &[u8]) -> Option<Vec<(State, u64)>> {
    let inside = object.strip_prefix(b"{")?.strip_suffix(b"}")?;
    let mut all = Vec::new();
    for member in inside.split(|b| *b == b',') {
        let member = member.trim_ascii().strip_prefix(b"\"")?;
        let at = member.iter().position(|b| *b == b'"')?;
        let nanos = member.get(at + 1..)?.trim_ascii().strip_prefix(b":")?;
        all.push((state(member.get(..at)?)?, digits(nanos.trim_ascii())?));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_writer() {
        let text = "2024-12-30T22:05:25.454123456Z";
        let second = Cell::default();
        time_within(text.as_bytes(), &second);
        assert_eq!(time(text.as_bytes()), Some(1_735_596_325_454_123_456));
        let mut stamps = crate::model::text::Stamps::default();
        for day in 0..40_000u64 {
            let wall = day * 86_400_000_000_000 + day * 1_000_000_007;
            let mut text = Vec::new();
            stamps.rfc3339(&mut text, wall);
            assert_eq!(time(&text), Some(wall));
            assert_eq!(time_within(&text, &second), Some(wall));
            assert_eq!(time_within(&text, &second), Some(wall));
        }
        for bad in [
            "",
            "2024-12-30T22:05:25.454123456",
            "2024-13-30T22:05:25.454123456Z",
            "2024-12-30T24:05:25.454123456Z",
            "2024-12-30 22:05:25.454123456Z",
            "1969-12-30T22:05:25.454123456Z",
            "2024-12-3xT22:05:25.454123456Z",
        ] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
            assert_eq!(time_within(bad.as_bytes(), &second), None, "{bad}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        assert_eq!(digits(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "18446744073709551616", "1x", "-1"] {
            assert_eq!(digits(bad.as_bytes()), None);
        }
        assert_eq!(v4(b"10.0.255.3"), Some(Ipv4Addr::new(10, 0, 255, 3)));
        for bad in [
            "",
            "1.2.3",
            "1.2.3.",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.03.4",
            "1..2.3",
            "1.2.3.x",
            "::1",
        ] {
            assert_eq!(v4(bad.as_bytes()), None, "{bad}");
            assert!(bad == "::1" || bad.parse::<Ipv4Addr>().is_err(), "{bad}");
        }
        assert_eq!(id(b"18d3f2a1b00-42"), Some((0x18d_3f2a_1b00, 42)));
        for bad in [
            &b"18d3f2a1b00"[..],
            b"-1",
            b"1g-1",
            b"1-",
            b"11111111111111111-1",
            b"",
        ] {
            assert_eq!(id(bad), None, "{bad:?}");
        }
        let both = Some(vec![(State::SynSent, 7), (State::Established, 8)]);
        assert_eq!(states(br#"{"SYN_SENT":7, "ESTABLISHED" : 8}"#), both);
        assert_eq!(states(br#"{"SYN_SENT":"7"}"#), None);
    }
}
