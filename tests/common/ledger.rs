//! Three counts of the same events, held against each other: the kernel's own (a
//! perf counter at the tracepoint), the runs of the tracer's programs, and what
//! the tracer received or said it lost.
//!
//! Contract: what the programs ran for and the tracer neither received nor said it
//! lost is the tracer's fault, at once ([`Account::balance`] panics): it is never
//! a reason to play again. What the kernel counted and ran no program for is the
//! kernel's; only for that may a story be played again, and each time is counted.

use std::fs::File;
use std::io::{Write, stderr};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Tracer;
use super::event::{self, Value};
use super::kernel::{self, Counter, Program};

/// The programs whose events are lines, one for each run at a TCP socket.
const LINES: [&str; 3] = ["socket_snoop_st", "socket_snoop_rt", "socket_snoop_sa"];

/// The program that counts passes before Linux 6.7.
const PASSES: &str = "socket_snoop_ct";

/// Set where the kernel is a stock one, in an emulated machine.
const STOCK: &str = "SOCKET_SNOOP_TEST_EMULATED";

/// The kernel's counts; to be opened before the tracers are started.
pub struct Ledger {
    _measuring: File,
    lines: Counter,
    all: Counter,
    /// Changes of state of sockets of other protocols: the programs run for them.
    aside: Counter,
}

impl Ledger {
    /// Starts to count.
    pub fn open() -> Ledger {
        Ledger {
            _measuring: kernel::measure_programs().expect("BPF_ENABLE_STATS (Linux 5.8)"),
            lines: Counter::new(&kernel::LINES),
            all: Counter::new(&kernel::ALL),
            aside: Counter::filtered(kernel::LINES[0], "protocol != 6"),
        }
    }

    /// That of a tracer that has started.
    pub fn account(&self, tracer: &Tracer) -> Account<'_> {
        let programs = kernel::programs_of(tracer.child.pid());
        let held = |id| Program::held(id).expect("a program of the tracer");
        Account {
            ledger: self,
            programs: programs.into_iter().map(held).collect(),
            lines: self.lines.read(),
            aside: self.aside.read(),
            before: None,
            filtered: false,
        }
    }
}

/// What there is of one tracer.
pub struct Account<'a> {
    ledger: &'a Ledger,
    /// None where it has plain samples.
    programs: Vec<Program>,
    lines: u64,
    aside: u64,
    /// The counts that the tracer has been there for, at the least.
    before: Option<(u64, u64)>,
    /// Whether its programs keep away what its filter refuses, uncounted.
    filtered: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Balance {
    /// Events that the kernel counted and ran no program for, and of which it says
    /// nothing: on a stock kernel there are none.
    pub kept: u64,
    /// Events that the kernel ran no program for, as it says or a program of the
    /// tracer's counts.
    pub passed_by: u64,
    /// Events that found no room, or no ring.
    pub unsent: u64,
}

impl Balance {
    /// Events that are missing by the kernel's doing.
    pub fn kernels(&self) -> u64 {
        self.kept + self.passed_by
    }

    /// Events that the tracer said it lost.
    pub fn lost(&self) -> u64 {
        self.passed_by + self.unsent
    }
}

impl Account<'_> {
    /// To be called when all events have come that are of interest, before the
    /// tracer is stopped.
    pub fn close(&mut self) {
        let lines = self.ledger.lines.read() - self.lines;
        let aside = self.ledger.aside.read() - self.aside;
        self.before = Some((lines, aside));
    }

    /// Of a tracer with a filter that its programs decide by.
    pub fn filtered(self) -> Self {
        Account {
            filtered: true,
            ..self
        }
    }

    /// Holds what the tracer said, which has ended, against the counts.
    pub fn balance(&self, said: &[Value]) -> Balance {
        let (lines, aside) = self.before.expect("an account that was closed");
        let summary = event::summary(said);
        let (unsent, passed_by) = lost(said);
        let told = event::number(summary, "events.received") + unsent;
        let balance = Balance {
            kept: 0,
            passed_by,
            unsent,
        };
        let aside = aside..=self.ledger.aside.read();
        let sums =
            |least: u64, most: u64| least.saturating_sub(*aside.end())..=most - aside.start();
        if self.programs.is_empty() {
            // It has the same counters as the ledger.
            let counted = sums(lines, self.ledger.all.read());
            assert!(
                counted.contains(&told),
                "received and lost {told}, the kernel counts {counted:?} ({aside:?} aside): {summary}"
            );
            return balance;
        }
        let (mut runs, mut others, mut missed, mut counts) = (0, 0, 0, false);
        for program in &self.programs {
            let (name, ran, left_out) = program.runs().expect("the program's counts");
            missed += left_out;
            counts |= name == PASSES;
            match LINES.contains(&name.as_str()) {
                true => runs += ran,
                false if name != PASSES => others += ran,
                false => {}
            }
        }
        // Of what the other programs sent only what was lost is in the sums.
        let ran = sums(runs, runs + others.min(unsent));
        assert!(
            ran.contains(&told) || self.filtered && (1..=*ran.end()).contains(&told),
            "received and lost {told}, the programs ran for {ran:?} ({aside:?} aside): {summary}"
        );
        // Where the kernel counts what it leaves out, it is what was said.
        assert!(
            counts || passed_by == missed || missed == 0,
            "{passed_by} said to be passed by, {missed} counted by the kernel: {summary}"
        );
        let kept = lines.saturating_sub(runs);
        let stock = std::env::var_os(STOCK).is_some();
        assert!(
            !stock || kept == 0,
            "a stock kernel ran no program for {kept}"
        );
        Balance { kept, ..balance }
    }
}

/// What was said to be lost: of what the programs had sent, and of what they never
/// ran for.
fn lost(said: &[Value]) -> (u64, u64) {
    let (mut unsent, mut passed_by) = (0, 0);
    for lost in said.iter().filter(|e| e["event.name"] == "lost") {
        let count = event::number(lost, "lost.count");
        match event::text(lost, "lost.reason") {
            "ring_full" | "output_failed" | "unreadable" => unsent += count,
            "recursion" => passed_by += count,
            _ => {}
        }
    }
    (unsent, passed_by)
}

/// Stories that were played again.
static REPLAYS: AtomicU64 = AtomicU64::new(0);

/// Says that one is played again, for so many events that the kernel kept from
/// the tracer.
pub fn replay(kept: u64) {
    let all = REPLAYS.fetch_add(1, Ordering::Relaxed) + 1;
    let text = format!("replay {all}: the kernel ran no program for {kept} events");
    // Past the capture of the test runner.
    let _ = writeln!(stderr(), "{text}");
}

/// How many there were.
pub fn replays() -> u64 {
    REPLAYS.load(Ordering::Relaxed)
}
