//! What a tool printed: lines of events of the load, told by the addresses of its
//! servers.
//!
//! Contract: read as a stream. What is said of listeners is not counted, nor the
//! report at the end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What lines there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Changes of state.
    pub changes: u64,
    /// Connections that have ended.
    pub records: u64,
    /// Events that the tool says to have lost.
    pub lost: u64,
}

fn has(line: &[u8], what: &[u8]) -> bool {
    line.windows(what.len()).any(|w| w == what)
}

/// What lines of the report at the end begin with that name a connection's ends: its
/// tables are set in, as no tool's lines are.
const REPORT: [&[u8]; 3] = [b"Connection: ", b"Busiest ", b"  "];

/// Adds a line. `address` begins the servers' addresses, as `127.66.`.
fn add(count: &mut Count, line: &[u8], address: &[u8]) {
    let lost = [&b" Lost: COUNT="[..], b"\"lost.count\":"];
    for said in lost {
        if let Some(at) = line.windows(said.len()).position(|w| w == said) {
            let digits = line[at + said.len()..]
                .iter()
                .take_while(|b| b.is_ascii_digit());
            count.lost += digits.fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
        }
    }
    if !has(line, address) {
        return;
    }
    if line.starts_with(b"{") {
        count.records += u64::from(has(line, b"\"event.name\":\"connection\""));
        count.changes += u64::from(has(line, b"\"event.name\":\"tcp_state\""));
    } else if has(line, b" Connection: SRC=") {
        count.records += 1;
    } else if REPORT.iter().any(|what| line.starts_with(what)) {
        // It was counted before.
    } else if !has(line, b"LISTEN") || has(line, b"SYN_RECV") {
        count.changes += 1;
    }
}

impl Count {
    /// Of a file: events of the load in this net.
    pub fn of(path: &Path, net: u8) -> Result<Count, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let address = format!("127.{net}.");
        let mut from = BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?);
        let (mut count, mut line) = (Count::default(), Vec::new());
        while from.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            add(&mut count, &line, address.as_bytes());
            line.clear();
        }
        Ok(count)
    }
}
