//! The floors' lines: what one of their records says, as text.
//!
//! Contract: thin. One buffer, no call that the compiler does not see through, no
//! allocation but for a card.

use socket_snoop::model::hash::ByNumber;
use socket_snoop::sys::time;

/// Where the members are: as floors/record.inc and k.s have them.
pub const LAYOUT: [(&str, usize); 16] = [
    ("RE_SOCKET", RE_SOCKET),
    ("RE_OLD", RE_OLD),
    ("RE_NEW", RE_NEW),
    ("RE_LOCAL_PORT", RE_LOCAL_PORT),
    ("RE_PEER_PORT", RE_PEER_PORT),
    ("RE_LOCAL", RE_LOCAL),
    ("RE_PEER", RE_PEER),
    ("RE_TASK", RE_TASK),
    ("RE_TIME", RE_TIME),
    ("RE_COMM", RE_COMM),
    ("RE_SINCE", RE_SINCE),
    ("RE_SIZE", RE_SIZE),
    ("SH_SOCKET", RE_SOCKET),
    ("SH_STATES", RE_OLD),
    ("SH_TASK", SH_TASK),
    ("SH_SIZE", SH_SIZE),
];
const RE_SOCKET: usize = 0;
const RE_OLD: usize = 8;
const RE_NEW: usize = 12;
const RE_LOCAL_PORT: usize = 16;
const RE_PEER_PORT: usize = 18;
const RE_LOCAL: usize = 24;
const RE_PEER: usize = 28;
const RE_TASK: usize = 64;
const RE_TIME: usize = 72;
const RE_COMM: usize = 80;
const RE_SINCE: usize = 104;
const SH_TASK: usize = 16;
/// Bytes of a whole record, and of a short one.
pub const RE_SIZE: usize = 112;
pub const SH_SIZE: usize = 24;

/// TCP_CLOSE
const CLOSE: u32 = 7;

/// A text of at most so many bytes, and how many it has.
type Text<const N: usize> = ([u8; N], usize);

const fn text<const N: usize>(of: &str) -> Text<N> {
    let (mut bytes, mut at) = ([0; N], 0);
    while at < of.len() {
        bytes[at] = of.as_bytes()[at];
        at += 1;
    }
    (bytes, at)
}

/// The states' names.
static STATES: [Text<12>; 13] = [
    text("?"),
    text("ESTABLISHED"),
    text("SYN_SENT"),
    text("SYN_RECV"),
    text("FIN_WAIT1"),
    text("FIN_WAIT2"),
    text("TIME_WAIT"),
    text("CLOSE"),
    text("CLOSE_WAIT"),
    text("LAST_ACK"),
    text("LISTEN"),
    text("CLOSING"),
    text("NEW_SYN_RECV"),
];

/// The parts of an IPv4 address, with the dot behind each.
static PARTS: [Text<4>; 256] = {
    let mut parts = [([0; 4], 0); 256];
    let mut n = 0;
    while n < 256 {
        let all = [
            b'0' + (n / 100) as u8,
            b'0' + (n / 10 % 10) as u8,
            b'0' + (n % 10) as u8,
            b'.',
        ];
        let skip = if n >= 100 {
            0
        } else if n >= 10 {
            1
        } else {
            2
        };
        let mut at = skip;
        while at < 4 {
            parts[n].0[at - skip] = all[at];
            at += 1;
        }
        parts[n].1 = 4 - skip;
        n += 1;
    }
    parts
};

/// The numbers up to 99, two digits each.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + n as u8 / 10, b'0' + n as u8 % 10];
        n += 1;
    }
    pairs
};

/// `2024-12-30T22:05:25.`
const STAMP: usize = 20;

/// Lines that are not written yet.
pub struct Lines {
    text: Vec<u8>,
    at: usize,
    second: u64,
    stamp: [u8; STAMP],
    /// What the wall clock is ahead of the monotonic one, in nanoseconds.
    ahead: u64,
    /// The first record of each socket, where short ones follow.
    cards: Option<ByNumber<u64, [u8; RE_SIZE]>>,
}

fn u16_at(record: &[u8], at: usize) -> u32 {
    u16::from_ne_bytes([record[at], record[at + 1]]).into()
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(record[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(record[at..at + 8].try_into().expect("eight bytes"))
}

impl Lines {
    /// Room for so many bytes; with short records or without.
    pub fn new(size: usize, short: bool) -> Lines {
        Lines {
            text: vec![0; size],
            at: 0,
            second: 0,
            stamp: [0; STAMP],
            ahead: time::realtime().wrapping_sub(time::monotonic()),
            cards: short.then(ByNumber::default),
        }
    }

    /// The lines so far.
    pub fn text(&self) -> &[u8] {
        &self.text[..self.at]
    }

    /// They are written.
    pub fn clear(&mut self) {
        self.at = 0;
    }

    #[inline]
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.put_some((*bytes, N));
    }

    #[inline]
    fn put_some<const N: usize>(&mut self, (bytes, len): Text<N>) {
        self.text[self.at..self.at + N].copy_from_slice(&bytes);
        self.at += len;
    }

    /// A number that has at most ten digits.
    #[inline]
    fn number(&mut self, mut value: u32) {
        const MOST: usize = 10;
        let (mut digits, mut at) = ([0; 2 * MOST], MOST);
        while value >= 100 {
            at -= 2;
            digits[at..at + 2].copy_from_slice(&PAIRS[value as usize % 100]);
            value /= 100;
        }
        let last = PAIRS[value as usize];
        at -= 1;
        digits[at] = last[1];
        if value >= 10 {
            at -= 1;
            digits[at] = last[0];
        }
        let mut number = [0; MOST];
        number.copy_from_slice(&digits[at..at + MOST]);
        self.put_some((number, MOST - at));
    }

    #[inline]
    fn end(&mut self, record: &[u8], address: usize, port: usize) {
        for part in &record[address..address + 4] {
            self.put_some(PARTS[usize::from(*part)]);
        }
        self.text[self.at - 1] = b':';
        self.number(u16_at(record, port));
    }

    #[inline]
    fn hex(&mut self, value: u64) {
        let mut digits = [0; 16];
        for (n, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(value >> (60 - n * 4)) as usize & 15];
        }
        self.put(&digits);
    }

    fn time(&mut self, monotonic: u64) {
        let wall = monotonic.wrapping_add(self.ahead);
        let (second, nanos) = (wall / 1_000_000_000, wall % 1_000_000_000);
        if second != self.second {
            self.second = second;
            let civil = time::utc(second);
            let text = format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.",
                civil.year,
                civil.month + 1,
                civil.day,
                civil.hour,
                civil.minute,
                civil.second
            );
            self.stamp.copy_from_slice(text.as_bytes());
        }
        let micros = nanos as usize / 1000;
        let stamp = self.stamp;
        self.put(&stamp);
        self.put(&PAIRS[micros / 10_000]);
        self.put(&PAIRS[micros / 100 % 100]);
        self.put(&PAIRS[micros % 100]);
        self.put(b" ");
    }

    #[inline]
    fn state(&mut self, state: u32) {
        self.put_some(*STATES.get(state as usize).unwrap_or(&STATES[0]));
    }

    /// The line of a record that says what changed, and of one that says whose.
    #[inline]
    fn line(&mut self, record: &[u8; RE_SIZE], change: &[u8], task: u64) {
        self.time(u64_at(record, RE_TIME));
        self.hex(u64_at(change, RE_SOCKET));
        self.put(b" ");
        self.number((task >> 32) as u32);
        self.put(b" ");
        for &byte in &record[RE_COMM..RE_COMM + 16] {
            if byte == 0 {
                break;
            }
            let shown = byte.is_ascii_graphic();
            self.put(&[if shown { byte } else { b'?' }]);
        }
        self.put(b" ");
        self.end(record, RE_LOCAL, RE_LOCAL_PORT);
        self.put(b" -> ");
        self.end(record, RE_PEER, RE_PEER_PORT);
        self.put(b" ");
        self.state(u32_at(change, RE_OLD));
        self.put(b" -> ");
        self.state(u32_at(change, RE_NEW));
        self.put(b" ");
        let since = u64_at(record, RE_SINCE) / 1000;
        self.number((since / 1000) as u32);
        let part = since as usize % 1000;
        self.put(&[b'.', b'0' + (part / 100) as u8]);
        self.put(&PAIRS[part % 100]);
        self.put(b"\n");
    }

    /// A whole record.
    pub fn whole(&mut self, record: &[u8]) {
        let record: &[u8; RE_SIZE] = record[..RE_SIZE].try_into().expect("its size");
        if let Some(cards) = &mut self.cards {
            cards.insert(u64_at(record, RE_SOCKET), *record);
        }
        self.line(record, record, u64_at(record, RE_TASK));
    }

    /// A short one. Without its card (another ring's, that is read later) it is none.
    pub fn short(&mut self, record: &[u8]) {
        let socket = u64_at(record, RE_SOCKET);
        let closed = u32_at(record, RE_NEW) == CLOSE;
        let Some(cards) = &mut self.cards else {
            return;
        };
        let card = match closed {
            true => cards.remove(&socket),
            false => cards.get(&socket).copied(),
        };
        if let Some(card) = card {
            self.line(&card, record, u64_at(record, SH_TASK));
        }
    }
}
