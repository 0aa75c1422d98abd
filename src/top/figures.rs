//! Figures in few columns.
//!
//! Contract: a figure takes five columns at most, whatever it is.

use crate::model::text;
use crate::sys::append::append;

/// What isn't known.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// What a figure is, and with that how it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// As it is: a process id.
    Whole,
    /// A number of things: 12345, 123k.
    Count,
    /// Tenths of a thing for each second: 0.3, 12.5, 1.2k.
    Rate,
    /// Bytes: 987, 1.2k, 34M.
    Bytes,
    /// Microseconds: 71us, 1.2ms, 3.4s.
    Micros,
    /// Microseconds that may be days: 3.4s, 12m03, 7d03h.
    Age,
}

/// One and a tenth of it: `1.2`.
fn tenths(out: &mut Vec<u8>, value: u64) {
    text::number(out, value / 10);
    out.push(b'.');
    text::number(out, value % 10);
}

/// Up to four columns, by thousands.
fn short(out: &mut Vec<u8>, mut value: u64) {
    if value < 1000 {
        return text::number(out, value);
    }
    for unit in *b"kMGTPE" {
        if value < 1_000_000 {
            match value < 10_000 {
                true => tenths(out, value / 100),
                false => text::number(out, value / 1000),
            }
            return out.push(unit);
        }
        value /= 1000;
    }
}

fn micros(out: &mut Vec<u8>, value: u64) {
    const MILLI: u64 = 1_000;
    const SECOND: u64 = 1_000_000;
    let unit: &[u8] = match value {
        0..MILLI => {
            text::number(out, value);
            b"us"
        }
        MILLI..SECOND => {
            match value < 10 * MILLI {
                true => tenths(out, value / 100),
                false => text::number(out, value / MILLI),
            }
            b"ms"
        }
        _ => {
            match value < 100 * SECOND {
                true => tenths(out, value / 100_000),
                false => short(out, value / SECOND),
            }
            b"s"
        }
    };
    append(out, unit);
}

fn age(out: &mut Vec<u8>, value: u64) {
    let minutes = value / 60_000_000;
    let (large, small, units) = match minutes {
        0 => return micros(out, value),
        1..60 => (minutes, value / 1_000_000 % 60, *b"m "),
        60..1440 => (minutes / 60, minutes % 60, *b"h "),
        1440..14400 => (minutes / 1440, minutes / 60 % 24, *b"dh"),
        _ => {
            short(out, minutes / 1440);
            return out.push(b'd');
        }
    };
    text::number(out, large);
    out.push(units[0]);
    text::padded(out, small as u32, 2);
    if units[1] != b' ' {
        out.push(units[1]);
    }
}

/// Appends a figure; `-` where it isn't known.
pub(super) fn figure(out: &mut Vec<u8>, value: u64, unit: Unit) {
    match unit {
        _ if value == UNKNOWN => out.push(b'-'),
        Unit::Whole => text::number(out, value),
        Unit::Count if value < 100_000 => text::number(out, value),
        Unit::Count | Unit::Bytes => short(out, value),
        Unit::Rate if value < 1000 => tenths(out, value),
        Unit::Rate => short(out, value / 10),
        Unit::Micros => micros(out, value),
        Unit::Age => age(out, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(value: u64, unit: Unit) -> String {
        let mut out = Vec::new();
        figure(&mut out, value, unit);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn figures_are_short() {
        const SECOND: u64 = 1_000_000;
        for (value, unit, text) in [
            (4_194_304, Unit::Whole, "4194304"),
            (99_999, Unit::Count, "99999"),
            (100_000, Unit::Count, "100k"),
            (0, Unit::Rate, "0.0"),
            (999, Unit::Rate, "99.9"),
            (1000, Unit::Rate, "100"),
            (123_456, Unit::Rate, "12k"),
            (999, Unit::Bytes, "999"),
            (1000, Unit::Bytes, "1.0k"),
            (9_999, Unit::Bytes, "9.9k"),
            (10_000, Unit::Bytes, "10k"),
            (999_999, Unit::Bytes, "999k"),
            (1_234_567, Unit::Bytes, "1.2M"),
            (u64::MAX - 1, Unit::Bytes, "18E"),
            (71, Unit::Micros, "71us"),
            (1_234, Unit::Micros, "1.2ms"),
            (12_345, Unit::Micros, "12ms"),
            (3_456_789, Unit::Micros, "3.4s"),
            (59 * SECOND, Unit::Age, "59.0s"),
            (723 * SECOND, Unit::Age, "12m03"),
            (7_500 * SECOND, Unit::Age, "2h05"),
            (86_400 * SECOND * 7 + 3_600 * SECOND * 3, Unit::Age, "7d03h"),
            (86_400 * SECOND * 70, Unit::Age, "70d"),
            (UNKNOWN, Unit::Rate, "-"),
        ] {
            assert_eq!(told(value, unit), text);
        }
    }

    proptest! {
        #[test]
        fn no_figure_is_wide(value in any::<u64>(), down in 0u32..64) {
            for unit in [Unit::Count, Unit::Rate, Unit::Bytes, Unit::Micros, Unit::Age] {
                let text = told(value >> down, unit);
                prop_assert!((1..=5).contains(&text.len()), "{text}");
            }
        }
    }
}
