//! How far a zone is ahead of UTC, from moment to moment.
//!
//! Contract: up to its last change as its file says (tzfile(5)), from there on by the
//! rule at the file's end, or by a rule alone (tzset(3)). Leap seconds are passed over.
//! No text is trusted: of what makes no sense, something is made.

use crate::sys::time::days;

const DAY: i64 = 86_400;
/// Bytes of a header, and what it begins with.
const HEADER: usize = 44;
const MAGIC: &[u8] = b"TZif";
/// When a change is, if its rule doesn't say: at two o'clock.
const TWO: i64 = 2 * 3600;

/// A zone. Offsets are in seconds, to the east.
#[derive(Debug, Default)]
pub(super) struct Zone {
    /// The offset before the first change.
    first: i64,
    /// Since when which offset is in force.
    changes: Vec<(i64, i64)>,
    /// After the last one.
    rule: Option<Rule>,
}

#[derive(Debug)]
struct Rule {
    offset: i64,
    summer: Option<Summer>,
}

#[derive(Debug)]
struct Summer {
    offset: i64,
    begin: Day,
    end: Day,
}

/// A day of each year, and a time of it in seconds.
#[derive(Debug)]
struct Day {
    /// `M`, `J`, or none.
    kind: u8,
    numbers: [i64; 3],
    time: i64,
}

/// A number of as many bytes, the highest first.
fn signed(bytes: &[u8]) -> i64 {
    let high = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = if high { -1 } else { 0 };
    bytes
        .iter()
        .fold(start, |number, byte| number << 8 | i64::from(*byte))
}

/// What one part of a file says, whose moments are numbers of `width` bytes; what
/// follows it.
fn part(text: &[u8], width: usize) -> Option<(Zone, &[u8])> {
    let (header, rest) = text.split_at_checked(HEADER)?;
    // Marks of UTC and of standard time, leap seconds, changes, offsets, and letters.
    let [utc, standard, leaps, changes, offsets, letters] =
        [20, 24, 28, 32, 36, 40].map(|at| signed(&header[at..at + 4]) as u32 as usize);
    let (moments, rest) = rest.split_at_checked(changes * width)?;
    let (which, rest) = rest.split_at_checked(changes)?;
    let (kinds, rest) = rest.split_at_checked(offsets * 6)?;
    let rest = rest.get(letters + leaps * (width + 4) + standard + utc..)?;
    // Four bytes of an offset, and whether that is summer's.
    let winter = kinds.chunks_exact(6).find(|kind| kind[4] == 0);
    let first = signed(winter.or(kinds.get(..6))?.get(..4)?);
    let mut zone = Zone {
        first,
        ..Zone::default()
    };
    for (moment, which) in moments.chunks_exact(width).zip(which) {
        let kind = kinds.get(usize::from(*which) * 6..)?.get(..4)?;
        zone.changes.push((signed(moment), signed(kind)));
    }
    Some((zone, rest))
}

impl Zone {
    /// What a file says. `complete` makes a rule what [`Zone::of_rule`] takes.
    pub(super) fn of_file(
        text: &[u8],
        complete: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<Zone> {
        if !text.starts_with(MAGIC) {
            return None;
        }
        let (old, rest) = part(text, 4)?;
        // The version: from 2 on all stands there again, with more room.
        if text.get(MAGIC.len()) == Some(&0) {
            return Some(old);
        }
        let (mut zone, rest) = part(rest, 8)?;
        let rule = rest.split(|&b| b == b'\n').nth(1).unwrap_or_default();
        zone.rule = complete(rule).as_deref().and_then(rule_of);
        Some(zone)
    }

    /// What a rule says in which nothing is left out.
    pub(super) fn of_rule(text: &[u8]) -> Option<Zone> {
        Some(Zone {
            rule: Some(rule_of(text)?),
            ..Zone::default()
        })
    }

    /// The offset of a moment in UTC.
    pub(super) fn offset(&self, at: i64) -> i64 {
        let before = self.changes.partition_point(|(since, _)| *since <= at);
        match (&self.rule, before.checked_sub(1)) {
            (Some(rule), _) if before == self.changes.len() => rule.offset(at),
            (_, Some(last)) => self.changes[last].1,
            _ => self.first,
        }
    }
}

impl Rule {
    fn offset(&self, at: i64) -> i64 {
        let Some(summer) = &self.summer else {
            return self.offset;
        };
        let year = crate::sys::time::civil(at.saturating_add(self.offset)).year;
        let begin = summer.begin.at(year) - self.offset;
        let end = summer.end.at(year) - summer.offset;
        let is_summer = match begin < end {
            true => begin <= at && at < end,
            false => begin <= at || at < end,
        };
        if is_summer {
            summer.offset
        } else {
            self.offset
        }
    }
}

impl Day {
    /// When that is in a year, by the clocks of the place.
    fn at(&self, year: i32) -> i64 {
        let [first, week, weekday] = self.numbers;
        let new_year = days(year, 1);
        let day = match self.kind {
            b'M' => {
                let month = first.clamp(1, 12) as u8;
                let start = days(year, month);
                // 1970 began on a Thursday.
                let mut day = start + (weekday - start - 4).rem_euclid(7);
                day += 7 * (week.clamp(1, 5) - 1);
                let next = match month {
                    12 => days(year.saturating_add(1), 1),
                    _ => days(year, month + 1),
                };
                // The fifth is the last.
                if day >= next { day - 7 } else { day }
            }
            // February 29 is not counted.
            b'J' => new_year + first - 1 + i64::from(first >= 60 && days(year, 3) - new_year == 60),
            _ => new_year + first,
        };
        day * DAY + self.time
    }
}

/// Takes a number's digits, of which there may be none.
fn number(text: &mut &[u8]) -> i64 {
    let mut number = 0;
    while let Some((digit @ b'0'..=b'9', rest)) = text.split_first() {
        // More than any that makes sense.
        number = (number * 10 + i64::from(digit - b'0')).min(100_000);
        *text = rest;
    }
    number
}

fn take(text: &mut &[u8], byte: u8) -> bool {
    let rest = text.strip_prefix(&[byte]);
    *text = rest.unwrap_or(text);
    rest.is_some()
}

/// Takes hours, minutes and seconds.
fn clock(text: &mut &[u8]) -> i64 {
    let sign = if take(text, b'-') { -1 } else { 1 };
    take(text, b'+');
    let mut seconds = number(text) * 3600;
    for unit in [60, 1] {
        if take(text, b':') {
            seconds += number(text) * unit;
        }
    }
    sign * seconds
}

fn day(text: &mut &[u8]) -> Day {
    let kind = text.first().copied().filter(|kind| b"MJ".contains(kind));
    let kind = kind.unwrap_or(0);
    take(text, kind);
    let mut numbers = [number(text), 0, 0];
    for number_of in &mut numbers[1..] {
        if take(text, b'.') {
            *number_of = number(text);
        }
    }
    let time = if take(text, b'/') { clock(text) } else { TWO };
    Day {
        kind,
        numbers,
        time,
    }
}

/// `<NAME>OFFSET[<NAME>[OFFSET],BEGIN,END]`; there an offset is how far UTC is ahead.
fn rule_of(text: &[u8]) -> Option<Rule> {
    let mut parts = text.splitn(3, |&b| b == b'>');
    let (_, mut winter) = (parts.next(), parts.next()?);
    let offset = -clock(&mut winter);
    let summer = parts.next().map(|mut text| {
        let offset = match text.first() {
            Some(b',') => offset + 3600,
            _ => -clock(&mut text),
        };
        take(&mut text, b',');
        let begin = day(&mut text);
        take(&mut text, b',');
        Summer {
            offset,
            begin,
            end: day(&mut text),
        }
    });
    Some(Rule { offset, summer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file of version 2 with two changes and this rule.
    fn file(rule: &str) -> Vec<u8> {
        let header = |changes: u8, offsets: u8| {
            let mut header = [MAGIC, b"2", &[0; 39]].concat();
            (header[35], header[39]) = (changes, offsets);
            header
        };
        let moments = [1000i64, 2000].map(i64::to_be_bytes).concat();
        // Summer's offset comes first; before the first change it is not in force.
        let kinds = [(7200i32, 1), (3600, 0), (-60, 0)]
            .map(|(offset, summer)| [&offset.to_be_bytes()[..], &[summer, 0]].concat());
        let rule = ["\n", rule, "\n"].concat();
        let old = [header(0, 1), vec![0; 6]].concat();
        [
            &old,
            &header(2, 3),
            &moments,
            &[0, 2][..],
            &kinds.concat(),
            rule.as_bytes(),
        ]
        .concat()
    }

    fn complete(text: &[u8]) -> Option<Vec<u8>> {
        (!text.is_empty()).then(|| text.to_vec())
    }

    #[test]
    fn changes_then_the_rule() {
        let zone = |rule| Zone::of_file(&file(rule), &complete).expect("a zone");
        let at = |zone: &Zone| [-1 << 40, 999, 1000, 1999, 2000, 1 << 33].map(|at| zone.offset(at));
        assert_eq!(at(&zone("")), [3600, 3600, 7200, 7200, -60, -60]);
        assert_eq!(at(&zone("<A>+2")), [3600, 3600, 7200, 7200, -7200, -7200]);
        let text = file("<A>-1");
        for len in 0..text.len() {
            let zone = Zone::of_file(&text[..len], &complete);
            assert!(zone.is_none_or(|zone| zone.offset(1500) == 7200), "{len}");
        }
    }

    #[test]
    fn days_of_a_year() {
        let on = |text: &[u8], year| day(&mut &*text).at(year) - days(year, 1) * DAY;
        let leap = 2028;
        for (text, year, of_year, time) in [
            ("J1", leap, 0, TWO),
            ("J59/0", leap, 58, 0),
            ("J60/0", leap, 60, 0),
            ("J60/0", 2027, 59, 0),
            ("60/-1", leap, 60, -3600),
            // 2028 began on a Saturday.
            ("M1.1.6/1:02:03", leap, 0, 3723),
            ("M1.5.6/0", leap, 28, 0),
            ("M2.5.2/0", leap, 31 + 28, 0),
            ("M12.5.0/26", leap, 365, 26 * 3600),
            ("M12.5.1/0", leap, 359, 0),
            // December 31, 2027, was a Friday.
            ("M12.5.5/0", 2027, 364, 0),
            ("M12.5.6/0", 2027, 358, 0),
        ] {
            assert_eq!(on(text.as_bytes(), year), of_year * DAY + time, "{text}");
        }
    }

    #[test]
    fn summers() {
        let rule = |text: &str| Zone::of_rule(text.as_bytes()).expect("a rule");
        // Both sides of the equator, and changes at the very ends of a year.
        let south = rule("<A>-12<B>,M9.5.0,M4.1.0/3");
        let all = rule("<A>+0<B>+0,J1/0,J365/24");
        let (january, july) = (days(2026, 1) * DAY, days(2026, 7) * DAY);
        assert_eq!(
            (south.offset(january), south.offset(july)),
            (46_800, 43_200)
        );
        assert_eq!((all.offset(january), all.offset(january - 1)), (0, 0));
        assert!(Zone::of_rule(b"no rule").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_taken(mut text in prop::collection::vec(any::<u8>(), 0..200), at: i64) {
            if let Some(zone) = Zone::of_rule(&text) {
                zone.offset(at);
            }
            text.splice(..0, [MAGIC, b"2", &[0; 39]].concat());
            if let Some(zone) = Zone::of_file(&text, &complete) {
                zone.offset(at);
            }
        }

        #[test]
        fn any_rule_is_taken(text in "<A>[-+]?[0-9:]{0,20}(<B>[-+0-9]{0,5},[MJ0-9./-]{0,20},[MJ0-9./-]{0,20})?", at: i64) {
            if let Some(zone) = Zone::of_rule(text.as_bytes()) {
                zone.offset(at);
            }
        }
    }
}
