//! Takes a line of JSON apart into members: our own lines, fast.
//!
//! Contract: any bytes may come; what is no flat object of members is an error,
//! never a panic. Keys are known as the writer puts them out, and looked for from
//! the one before on: lines have them in that order. One that is written otherwise
//! (with blanks, say) is read the slow way; an unknown one's value is passed over.
//! Where values stand is all that is noted: who asks for one reads it.

use super::known::{Known, same};
use super::values::Second;
use crate::host::cgroup::Place;
use crate::model::event::Owner;
use crate::output::keys;
use std::cell::{Cell, RefCell};

macro_rules! keys {
    ($($name:ident)*) => {
        /// A key that is read.
        #[allow(
            dead_code,
            non_camel_case_types,
            clippy::upper_case_acronyms,
            reason = "as the constants; some are only passed over"
        )]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum At { $($name,)* }

        /// What the writer puts out for each.
        const WRITTEN: &[&str] = &[$(keys::$name.text(),)*];
    };
}

// In the order of lines.
keys! {
    TIME EVENT_NAME
    NETWORK_LOCAL_ADDRESS NETWORK_LOCAL_PORT NETWORK_PEER_ADDRESS NETWORK_PEER_PORT
    NETWORK_TYPE NETWORK_TRANSPORT
    TCP_STATE_OLD TCP_STATE_NEW TCP_STATE_CURRENT TCP_RETRANSMIT_KIND ERROR_TYPE
    TCP_TIME_WAIT TCP_RETRANSMIT_SEGMENTS SOCKET_ID
    PROCESS_PID PROCESS_THREAD_ID PROCESS_NAME THREAD_NAME USER_ID PROCESS_PARENT_PID
    PROCESS_CGROUP_ID CONTAINER_ID CONTAINER_RUNTIME
    K8S_NAMESPACE_NAME K8S_POD_NAME K8S_POD_UID OWNER_SOURCE NETWORK_NAMESPACE ON_CPU_PID ON_CPU_NAME
    CONNECTION_DIRECTION CONNECTION_EXISTED CONNECTION_START CONNECTION_DURATION_NS
    CONNECTION_STATES_NS TCP_CONNECT_NS TCP_ACCEPT_DELAY_NS
    TCP_RETRANSMITS_TOTAL TCP_RETRANSMITS_SYN TCP_RETRANSMITS_SYNACK TCP_RETRANSMITS_DATA
    TCP_RETRANSMITS_DATA_EVENTS TCP_RETRANSMITS_FAILED TCP_BYTES_RETRANSMITTED
    TCP_BYTES_SENT TCP_BYTES_RECEIVED TCP_SEGMENTS_SENT TCP_SEGMENTS_RECEIVED
    TCP_RTT_US TCP_MIN_RTT_US CONNECTION_CAUSE CONNECTION_END_SEEN TCP_RESET_REASON
    LOST_COUNT LOST_REASON CPU_LOGICAL_NUMBER
    EVENTS_TRANSPORT FILTER_EXPRESSION FILTER_KEPT_AWAY EVENTS_RECEIVED CONNECTIONS_SEEN
    CONNECTIONS_BIRTH_MISSED CONNECTIONS_UNTOUCHED LOST_EVENTS LOST_CONNECTIONS
}

impl At {
    /// The key itself.
    pub(super) fn name(self) -> &'static str {
        let written = WRITTEN.get(self as usize).copied().unwrap_or_default();
        named(written)
    }
}

/// A key without what stands around it.
fn named(written: &'static str) -> &'static str {
    let rest = written.get(2..).unwrap_or_default();
    let end = rest.bytes().position(|b| b == b'"');
    rest.get(..end.unwrap_or(0)).unwrap_or_default()
}

const ONES: u64 = u64::MAX / 0xff;

/// The highest bit of each byte that is zero; of those behind the first one, perhaps of
/// others.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

/// Where the first line break is.
pub(super) fn line_break(bytes: &[u8]) -> Option<usize> {
    const BREAKS: u64 = ONES * b'\n' as u64;
    let mut rest = bytes;
    while let Some((chunk, more)) = rest.split_first_chunk::<32>() {
        let word = |at: usize| {
            let word = chunk.get(at..).and_then(|rest| rest.first_chunk::<8>());
            word.map_or(0, |word| zeros(u64::from_le_bytes(*word) ^ BREAKS))
        };
        if word(0) | word(8) | word(16) | word(24) != 0 {
            break;
        }
        rest = more;
    }
    let found = rest.iter().position(|byte| *byte == b'\n')?;
    Some(bytes.len() - rest.len() + found)
}

/// Where the first of two bytes is, from `at` on.
fn find(bytes: &[u8], mut at: usize, [one, other]: [u8; 2]) -> Option<usize> {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (ONES * u64::from(one))) | zeros(word ^ (ONES * u64::from(other)));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    loop {
        let byte = *bytes.get(at)?;
        if byte == one || byte == other {
            return Some(at);
        }
        at += 1;
    }
}

/// Where the string ends whose first byte is at `at`: at its quote.
fn string_end(line: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = find(line, at, [b'"', b'\\'])?;
        if line.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[inline(always)]
fn skip_blanks(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(|b| matches!(b, b' ' | b'\t')) {
        at += 1;
    }
    at
}

/// Where the array or object ends that begins at `at`: behind it.
fn nested_end(line: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match line.get(at)? {
            b'"' => at = string_end(line, at + 1)?,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// The bytes that numbers and words are made of.
static PARTS: [bool; 256] = {
    let (mut parts, mut byte) = ([false; 256], 0u8);
    while byte < 128 {
        let part = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        parts[byte as usize] = part;
        byte += 1;
    }
    parts
};

/// Where a value begins and ends, without quotes, and where what follows it stands.
fn value(line: &[u8], at: usize) -> Option<(usize, usize, usize)> {
    match line.get(at)? {
        b'"' => {
            let end = string_end(line, at + 1)?;
            Some((at + 1, end, end + 1))
        }
        b'[' | b'{' => {
            let end = nested_end(line, at)?;
            Some((at, end, end))
        }
        _ => {
            let mut end = at;
            while line.get(end).is_some_and(|byte| PARTS[usize::from(*byte)]) {
                end += 1;
            }
            (end > at).then_some((at, end, end))
        }
    }
}

/// Where the values of a line stand.
#[derive(Clone, Debug)]
pub(super) struct Members {
    places: [(u32, u32); WRITTEN.len()],
    /// Which of them are of the line that was read last.
    there: [u64; 2],
    /// What followed each key when it was last there.
    follows: [u8; WRITTEN.len() + 1],
    /// The part that tells of the owner: where it stands, and whether it is known.
    part: (usize, usize),
    at: Option<usize>,
    pub(super) known: RefCell<Known>,
    /// The second of a time that was read last.
    pub(super) second: Cell<Second>,
}

// Each has its bit.
const _: () = assert!(WRITTEN.len() < 128);

impl Members {
    /// `alone`: no other file is read.
    pub(super) fn new(alone: bool) -> Members {
        Members {
            places: [(0, 0); WRITTEN.len()],
            there: [0; 2],
            follows: [0; WRITTEN.len() + 1],
            part: (0, 0),
            at: None,
            known: RefCell::new(Known::new(alone)),
            second: Cell::default(),
        }
    }

    /// Takes a line apart; whether it is a whole object.
    pub(super) fn read(&mut self, line: &[u8]) -> bool {
        self.there = [0; 2];
        self.part = (0, 0);
        self.at = None;
        self.members(line).is_some()
    }

    fn members(&mut self, line: &[u8]) -> Option<()> {
        let mut last = 0;
        let mut at = skip_blanks(line, 0);
        if line.get(at) != Some(&b'{') {
            return None;
        }
        loop {
            // At the brace or the comma.
            if last == At::PROCESS_PID as usize {
                let rest = line.get(at + 1..)?;
                let known = self.known.get_mut().find(rest);
                self.part.0 = at + 1;
                if let Some((known, len)) = known {
                    self.at = Some(known);
                    at += 1 + len;
                    last = At::OWNER_SOURCE as usize;
                }
            }
            let follows = self.follows.get_mut(last)?;
            let (key, start) = match guess(line, at + 1, usize::from(*follows)) {
                Some(found) => found,
                None => match search(line, at + 1, last) {
                    Some(found) => found,
                    None => slowly(line, at + 1)?,
                },
            };
            let (from, to, end) = value(line, skip_blanks(line, start))?;
            if let Some(place) = self.places.get_mut(key) {
                *place = (from as u32, to as u32);
                *self.there.get_mut(key / 64)? |= 1 << (key % 64);
                *follows = key as u8;
                if key == At::OWNER_SOURCE as usize {
                    self.part.1 = at;
                }
                last = key + 1;
            }
            at = skip_blanks(line, end);
            match line.get(at)? {
                b',' => {}
                b'}' => return (skip_blanks(line, at + 1) == line.len()).then_some(()),
                _ => return None,
            }
        }
    }

    /// The value of a key as it stands in this line, which was read last; empty where
    /// there is none.
    #[inline(always)]
    pub(super) fn value<'a>(&self, line: &'a [u8], at: At) -> &'a [u8] {
        let there = self.there.get(at as usize / 64).copied().unwrap_or(0);
        if there >> (at as u32 % 64) & 1 == 0 {
            return b"";
        }
        let (from, to) = self.places.get(at as usize).copied().unwrap_or_default();
        line.get(from as usize..to as usize).unwrap_or_default()
    }

    /// The owner's part of the line that was read last, where its bytes are known.
    pub(super) fn known_part(&self) -> Option<usize> {
        self.at
    }

    fn part<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (from, to) = self.part;
        line.get(from..to).filter(|part| !part.is_empty())
    }

    /// Remembers whom that part tells of.
    pub(super) fn learn(&self, line: &[u8], owner: &Owner) {
        if let Some(part) = self.part(line) {
            self.known.borrow_mut().learn(part, *owner);
        }
    }

    /// Remembers what it says of a cgroup.
    pub(super) fn learn_place(&self, line: &[u8], told: &(u64, Place)) {
        if let Some(part) = self.part(line) {
            self.known.borrow_mut().learn_place(part, told);
        }
    }
}

/// Whether this key is at `at`, written as we do, and where its value begins.
#[inline(always)]
fn guess(line: &[u8], at: usize, key: usize) -> Option<(usize, usize)> {
    // Behind the comma; without what its value begins with.
    let written = WRITTEN.get(key)?.as_bytes().get(1..)?;
    let there = line.get(at..at + written.len())?;
    if !same(there, written) {
        return None;
    }
    let before = matches!(written.last(), Some(b'"' | b'[')) as usize;
    Some((key, at + written.len() - before))
}

/// The key at `at`, if it is written as we do, looked for from `first` on.
fn search(line: &[u8], at: usize, first: usize) -> Option<(usize, usize)> {
    let keys = (first..WRITTEN.len()).chain(0..first);
    keys.filter_map(|key| guess(line, at, key)).next()
}

/// The key at `at`, however it is written; beyond the last where it is none of ours.
#[cold]
fn slowly(line: &[u8], at: usize) -> Option<(usize, usize)> {
    let at = skip_blanks(line, at);
    if line.get(at) != Some(&b'"') {
        return None;
    }
    let end = string_end(line, at + 1)?;
    let key = line.get(at + 1..end)?;
    let colon = skip_blanks(line, end + 1);
    let mut all = WRITTEN.iter();
    let found = all.position(|written| named(written).as_bytes() == key);
    (line.get(colon) == Some(&b':')).then_some((found.unwrap_or(usize::MAX), colon + 1))
}

/// What a string says whose bytes stand between its quotes; `None` where an
/// escape makes no sense. At most so many bytes of it, by whole characters.
pub(super) fn unescaped(text: &[u8], most: usize) -> Option<Vec<u8>> {
    let unit = |rest: &[u8]| {
        let digits = std::str::from_utf8(rest.get(..4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let start = out.len();
        if first == b'\\' {
            let (&kind, after) = rest.split_first()?;
            rest = after;
            let mut code = match kind {
                b'n' => 10,
                b't' => 9,
                b'r' => 13,
                b'b' => 8,
                b'f' => 12,
                b'u' => {
                    let code = unit(rest)?;
                    rest = rest.get(4..)?;
                    code
                }
                b'"' | b'\\' | b'/' => kind.into(),
                _ => return None,
            };
            if (0xd800..0xdc00).contains(&code) {
                let low = unit(rest.strip_prefix(b"\\u")?)?;
                rest = rest.get(6..)?;
                code = 0x10000 + (code - 0xd800) * 0x400 + low.checked_sub(0xdc00)?;
            }
            let c = char::from_u32(code)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            // With what continues its character.
            out.push(first);
            while let Some((&more, after)) = rest.split_first() {
                if more & 0xc0 != 0x80 {
                    break;
                }
                out.push(more);
                rest = after;
            }
        }
        if out.len() > most {
            out.truncate(start);
            break;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Option<Members> {
        let mut members = Members::new(true);
        members.read(line.as_bytes()).then_some(members)
    }

    #[test]
    fn values_stand_where_they_are() {
        for line in [
            r#"{"time":"t\"x","network.local.port":80,"a":[{"b":"]"}],"connection.states_ns":{"A":1}}"#,
            r#" { "connection.states_ns" : {"A":1} , "a": null, "network.local.port": 80,"time": "t\"x" } "#,
        ] {
            let members = read(line).expect(line);
            let value = |at| members.value(line.as_bytes(), at);
            assert_eq!(value(At::TIME), br#"t\"x"#);
            assert_eq!(value(At::NETWORK_LOCAL_PORT), b"80");
            assert_eq!(value(At::CONNECTION_STATES_NS), br#"{"A":1}"#);
            assert_eq!(value(At::SOCKET_ID), b"");
        }
    }

    #[test]
    fn the_first_line_break_is_found() {
        for len in 0..100 {
            let mut bytes = vec![b'\n' + 1; len];
            assert_eq!(line_break(&bytes), None);
            for at in (0..len).rev() {
                bytes[at] = b'\n';
                assert_eq!(line_break(&bytes), Some(at), "{len}");
            }
        }
    }

    #[test]
    fn each_key_is_one_of_the_writers() {
        for (n, written) in WRITTEN.iter().enumerate() {
            assert_eq!(
                search(&written.as_bytes()[1..], 0, n + 1).expect("a key").0,
                n
            );
            assert!(keys::TABLE.iter().any(|row| row.key == named(written)));
        }
        assert_eq!(At::LOST_CONNECTIONS.name(), "lost.connections");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let whole = r#"{"time":"t","network.local.port":80,"a":["x",{"y":1}]}"#;
        assert!(read(whole).is_some());
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_none(), "{len}");
        }
        for line in [
            "{}",
            "{\"time\" \"t\"}",
            "[]",
            "{\"a\":}",
            "{\"a\":1}}",
            "{\"a\":1,}",
        ] {
            assert!(read(line).is_none(), "{line}");
        }
    }

    #[test]
    fn escapes() {
        let of = |text: &str, most| unescaped(text.as_bytes(), most);
        let all = of(r#"a\"\\\/\n\t\r\b\f\u00e9\ud83d\ude00é"#, 99).expect("text");
        assert_eq!(all, "a\"\\/\n\t\r\u{8}\u{c}é😀é".as_bytes());
        assert_eq!(of("aé", 2), Some(b"a".to_vec()));
        for bad in [r"\x", r"\u12", r"\ud800", r"\ud800\u0000", "\\"] {
            assert_eq!(of(bad, 99), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_first_of_two_bytes_is_found(bytes in prop::collection::vec(0u8..6, 0..40), at in 0usize..44) {
            let wanted = (at..bytes.len()).find(|n| matches!(bytes[*n], 2 | 5));
            prop_assert_eq!(find(&bytes, at, [2, 5]), wanted);
        }

        #[test]
        fn any_bytes_may_come(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ t1".to_vec()), 0..60)) {
            let mut members = Members::new(true);
            let _ = members.read(&bytes);
            let _ = unescaped(&bytes, 9);
        }
    }
}
