//! What the program's two outputs hold: lines of each load, and what they say
//! is missing.
//!
//! Contract: read as a stream, without keeping it.

use std::io::{BufRead, BufReader, Read};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::wait;

/// The loads: the second number of their servers' addresses.
pub const NETS: [u8; 2] = [66, 67];
/// How their servers' addresses begin.
const SERVERS: [&[u8]; 2] = [b"=127.66.", b"=127.67."];

/// Why lines of events can be missing; other losses are not of events.
const REASONS: [&str; 6] = [
    "ring_full",
    "output_failed",
    "recursion",
    "unreadable",
    "log_write",
    "console_slow",
];

/// What lines there were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Changes of state, of each load.
    pub changes: [u64; 2],
    /// What `Lost:` lines say is missing.
    pub lost: u64,
    /// Lines of any kind.
    pub lines: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.changes[0] += other.changes[0];
        self.changes[1] += other.changes[1];
        self.lost += other.lost;
        self.lines += other.lines;
    }
}

/// Where these bytes stand in a line.
fn find(line: &[u8], what: &[u8]) -> Option<usize> {
    line.windows(what.len()).position(|w| w == what)
}

impl Count {
    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        if let Some(at) = find(line, b" State Change: SRC=") {
            // Both ends; only a server has such an address.
            let ends = &line[at..];
            let ends = &ends[..find(ends, b" PID=").unwrap_or(ends.len())];
            for (count, server) in self.changes.iter_mut().zip(SERVERS) {
                *count += u64::from(find(ends, server).is_some());
            }
        } else if let Some(at) = find(line, b" Lost: COUNT=") {
            let loss = String::from_utf8_lossy(&line[at..]);
            let count = loss.split(['=', ' ']).nth(3).unwrap_or("");
            let reason = loss.rsplit_once("REASON=").map_or("", |(_, reason)| reason);
            if REASONS.contains(&reason) {
                self.lost += count.parse::<u64>().unwrap_or(0);
            }
        }
    }

    /// Of everything that comes from here. `pause` keeps it from reading while it is set; `so_far`
    /// grows meanwhile.
    fn read(from: impl Read, pause: &AtomicBool, so_far: &Mutex<Count>) -> std::io::Result<()> {
        let mut from = BufReader::with_capacity(1 << 16, from);
        let mut line = Vec::new();
        loop {
            line.clear();
            if from.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let mut one = Count::default();
            one.line(line.trim_ascii_end());
            *so_far.lock().expect("a count") += one;
            while pause.load(Ordering::Relaxed) {
                wait::pace(Duration::from_millis(10));
            }
        }
    }

    /// Of a file.
    pub fn of(path: &std::path::Path) -> Result<Count, String> {
        let count = Mutex::default();
        let file = std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Count::read(file, &AtomicBool::new(false), &count).map_err(|e| e.to_string())?;
        Ok(count.into_inner().expect("a count"))
    }
}

/// The reader of a pipe, who may stop and go on.
pub struct Reader {
    /// Whether he stands still.
    pub pause: Arc<AtomicBool>,
    count: Arc<Mutex<Count>>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Starts to read.
    pub fn start(pipe: impl Read + Send + 'static) -> Reader {
        let (pause, count) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stop, sum) = (Arc::clone(&pause), Arc::clone(&count));
        let thread = thread::spawn(move || {
            let _ = Count::read(pipe, &stop, &sum);
        });
        Reader {
            pause,
            count,
            thread,
        }
    }

    /// So far.
    pub fn count(&self) -> Count {
        *self.count.lock().expect("a count")
    }

    /// Reads to the end.
    pub fn finish(self) -> Count {
        self.pause.store(false, Ordering::Relaxed);
        let _ = self.thread.join();
        *self.count.lock().expect("a count")
    }
}
