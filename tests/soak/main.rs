//! A long run under load: does it leak, and is everything that is missing said?
//!
//!     make soak ARGS="--minutes 10"
//!     make soak ARGS="--connections 5000000"
//!
//! Contract: a steady load, the log rotated each minute (renamed, SIGHUP), a reader of standard output
//! who stops for five seconds in each minute, a flood by another user for five, and the last CPU off
//! for three where that can be done. It ends with 1 unless memory and descriptors are flat, each output
//! holds or says to have lost every change of state that the loads made (whose number they know), and
//! the program ends in order. With a number of connections they are made as fast as can be instead: see
//! full.rs. Without arguments it is a short one, without touching CPUs.

#[path = "../common/mod.rs"]
mod common;
mod full;
mod lines;
mod load;

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Guard, Run, TempDir, eventually, live, wait};
use lines::{Count, NETS, Reader};
use load::{CHANGES, Load};
use nix::sys::signal::Signal;

/// Connections a second of the steady load.
const RATE: u32 = 2000;
const NOBODY: u32 = 65534;
/// What memory may grow by after the first round, in KiB.
const GROWTH: u64 = 1024;
/// What it may ever be, in KiB.
const MOST: u64 = 64 << 10;

fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// A number in /proc/PID/status, in KiB.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|v| v.trim_start_matches(':').split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The last CPU that can be taken away; it comes back on drop.
struct LastCpu(PathBuf);

impl LastCpu {
    fn find() -> Option<LastCpu> {
        let cpus = (1..4096).map(|n| format!("/sys/devices/system/cpu/cpu{n}/online"));
        let there = cpus.map(PathBuf::from).take_while(|path| path.exists());
        let cpu = LastCpu(there.last()?);
        cpu.set(true).then_some(cpu)
    }

    fn set(&self, online: bool) -> bool {
        fs::write(&self.0, if online { "1" } else { "0" }).is_ok()
    }
}

impl Drop for LastCpu {
    fn drop(&mut self) {
        self.set(true);
    }
}

/// One row of the table.
struct Sample {
    peak: u64,
    descriptors: usize,
}

/// The program, what reads it, and what was counted of its logs.
struct Soak {
    tracer: Guard,
    reader: Reader,
    log: PathBuf,
    logged: Count,
    samples: Vec<Sample>,
    /// VmRSS at the end of each round, in KiB.
    rounds: Vec<u64>,
    began: Instant,
    faults: Vec<String>,
}

impl Soak {
    fn start(dir: &Path) -> Soak {
        let log = dir.join("log");
        let run = Run::new("--sandbox=on").arg("--log-file").arg(&log);
        let mut tracer = run.spawn();
        let reader = Reader::start(tracer.0.stdout.take().expect("piped"));
        // What it says goes where ours goes.
        let mut stderr = tracer.0.stderr.take().expect("piped");
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::stderr()));
        assert!(eventually(|| reader.count().lines > 0), "no opening line");
        Soak {
            tracer,
            reader,
            log,
            logged: Count::default(),
            samples: Vec::new(),
            rounds: Vec::new(),
            began: Instant::now(),
            faults: Vec::new(),
        }
    }

    fn sample(&mut self, what: &str) {
        let pid = self.tracer.pid();
        let rss = status(pid, "VmRSS");
        let sample = Sample {
            peak: status(pid, "VmHWM"),
            descriptors: descriptors(pid),
        };
        let count = self.reader.count();
        say(&format!(
            "{:>5} {:>8} {:>8} {:>5} {:>11} {:>9}  {what}",
            self.began.elapsed().as_secs(),
            rss,
            sample.peak,
            sample.descriptors,
            count.changes[0] + count.changes[1],
            count.lost
        ));
        self.samples.push(sample);
    }

    /// Moves the log away, and counts what is in it once the program has a new one.
    fn rotate(&mut self) {
        let old = self.log.with_extension("old");
        if let Err(e) = fs::rename(&self.log, &old) {
            self.faults.push(format!("the log can't be renamed: {e}"));
            return;
        }
        self.tracer.signal(Signal::SIGHUP);
        if !eventually(|| self.log.exists()) {
            self.faults.push("the log was not opened again".into());
        }
        self.count(&old);
    }

    fn count(&mut self, log: &Path) {
        match Count::of(log) {
            Ok(count) => self.logged += count,
            Err(why) => self.faults.push(why),
        }
        let _ = fs::remove_file(log);
    }

    /// Waits for so many changes of state: what is in the rings comes within a drain.
    /// What never comes is told later.
    fn catch_up(&mut self, sent: u64) {
        eventually(|| {
            let count = self.reader.count();
            count.changes.iter().sum::<u64>() + count.lost >= sent
        });
        self.sample("the load has ended");
    }

    /// Stops it; what is wrong.
    fn stop(mut self, sent: [u64; 2]) -> Vec<String> {
        self.tracer.signal(Signal::SIGTERM);
        match self.tracer.wait(Duration::from_secs(10)) {
            None => self.faults.push("it does not end".into()),
            Some(status) if status.success() => {}
            Some(status) => self.faults.push(format!("it ended with {status}")),
        }
        drop(self.tracer.0.kill());
        let log = self.log.clone();
        self.count(&log);
        let shown = self.reader.finish();
        let mut faults = self.faults;
        say("");
        say("                      sent      shown     logged");
        for (index, name) in ["steady", "flood"].into_iter().enumerate() {
            let (shown, logged) = (shown.changes[index], self.logged.changes[index]);
            say(&format!(
                "{name:<16}{:>10} {shown:>10} {logged:>10}",
                sent[index]
            ));
        }
        say(&format!(
            "{:<26} {:>10} {:>10}",
            "said to be lost", shown.lost, self.logged.lost
        ));
        let missing = |count: &Count| {
            (sent[0] + sent[1]).saturating_sub(count.changes[0] + count.changes[1] + count.lost)
        };
        let silent = [missing(&shown), missing(&self.logged)];
        say(&format!(
            "{:<26} {:>10} {:>10}",
            "missing without a word", silent[0], silent[1]
        ));
        for (name, count, silent) in [
            ("standard output", &shown, silent[0]),
            ("the log", &self.logged, silent[1]),
        ] {
            if silent > 0 {
                faults.push(format!("{silent} are missing in {name} and not said"));
            }
            if count
                .changes
                .iter()
                .zip(sent)
                .any(|(&shown, sent)| shown > sent)
            {
                faults.push(format!("{name} has more than there was"));
            }
            if count.changes[0] == 0 {
                faults.push(format!("{name} has nothing"));
            }
        }
        let (first, last) = (self.rounds.first(), self.rounds.last());
        let (first, last) = (*first.unwrap_or(&0), *last.unwrap_or(&0));
        let peak = self.samples.last().map_or(0, |s| s.peak);
        if last > first + GROWTH || peak > MOST {
            faults.push(format!(
                "memory is not flat: {first} to {last} KiB, at most {peak}"
            ));
        }
        let first = self.samples.first().map_or(0, |s| s.descriptors);
        let last = self.samples.last().map_or(0, |s| s.descriptors);
        if first != last {
            faults.push(format!("{first} descriptors at first, {last} at last"));
        }
        faults
    }
}

fn heads() {
    say(
        "    s    VmRSS    VmHWM   fds       lines      lost  (KiB; lines and losses on standard output)",
    );
}

/// One round, of a minute or less: everything happens once in it. The flood's connections.
fn round(soak: &mut Soak, lasts: Duration, cpu: Option<&LastCpu>) -> u64 {
    let end = Instant::now() + lasts;
    let piece = lasts / 12;
    let tick = |soak: &mut Soak, what: &str| {
        wait::pass("a piece of the load's time", piece);
        soak.sample(what);
    };
    tick(soak, "");
    soak.rotate();
    tick(soak, "the log was rotated");
    soak.reader.pause.store(true, Ordering::Relaxed);
    tick(soak, "the reader stands still");
    soak.reader.pause.store(false, Ordering::Relaxed);
    tick(soak, "");
    let flood = Load {
        net: NETS[1],
        rate: 0,
        lasts: piece,
        connections: u64::MAX,
        threads: 1,
        user: NOBODY,
    };
    let flood = flood.start();
    tick(soak, "a flood by another user");
    let made = flood.finish(Duration::from_secs(20));
    let made = made.unwrap_or_else(|why| {
        soak.faults.push(why);
        0
    });
    if let Some(cpu) = cpu {
        cpu.set(false);
        wait::pass("a CPU is away", Duration::from_secs(3).min(piece));
        cpu.set(true);
        soak.sample("a CPU went and came");
    }
    while Instant::now() + piece < end {
        tick(soak, "");
    }
    let rest = end.saturating_duration_since(Instant::now());
    wait::pass("the rest of a round", rest);
    soak.rounds.push(status(soak.tracer.pid(), "VmRSS"));
    made
}

fn soak(total: Duration, cpu: Option<&LastCpu>) -> Vec<String> {
    let dir = TempDir::new();
    let mut soak = Soak::start(dir.path());
    let rounds = u32::try_from(total.as_secs().div_ceil(60))
        .unwrap_or(1)
        .max(1);
    let steady = Load {
        net: NETS[0],
        rate: RATE,
        lasts: total,
        connections: u64::MAX,
        threads: 1,
        user: 0,
    };
    let steady = steady.start();
    heads();
    soak.sample("");
    let mut floods = 0;
    for _ in 0..rounds {
        floods += round(&mut soak, total / rounds, cpu);
    }
    let made = steady
        .finish(Duration::from_secs(30))
        .unwrap_or_else(|why| {
            soak.faults.push(why);
            0
        });
    soak.catch_up((made + floods) * CHANGES);
    say(&format!(
        "{made} connections at {:.0} a second, {floods} by the flood; {CHANGES} changes each",
        made as f64 / total.as_secs_f64()
    ));
    soak.stop([made * CHANGES, floods * CHANGES])
}

/// What is wanted.
enum Plan {
    /// So long, with CPUs that go or without.
    Steady(Duration, bool),
    /// So many connections, as fast as can be.
    Full(u64),
}

/// `None` where the arguments are not understood.
fn arguments(args: &[String]) -> Option<Plan> {
    match args {
        [flag, minutes] if flag == "--minutes" => {
            let minutes: u32 = minutes.parse().ok().filter(|n| (1..=10_000).contains(n))?;
            Some(Plan::Steady(Duration::from_secs(60) * minutes, true))
        }
        [flag, connections] if flag == "--connections" => {
            let connections = connections.parse().ok();
            let connections = connections.filter(|n| (1000..=50_000_000).contains(n))?;
            Some(Plan::Full(connections))
        }
        // cargo test passes on what is meant for its own harness.
        _ => (!args
            .iter()
            .any(|arg| arg.contains("minutes") || arg.contains("connections")))
        .then_some(Plan::Steady(Duration::from_secs(12), false)),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "load") {
        return load::child(&args[1..]);
    }
    let Some(plan) = arguments(&args) else {
        say("usage: make soak ARGS=\"--minutes N\", or \"--connections N\"");
        return ExitCode::from(2);
    };
    let faults = match (live(), plan) {
        (true, Plan::Steady(total, cpus)) => {
            let cpu = cpus.then(LastCpu::find).flatten();
            if cpus && cpu.is_none() {
                say("no CPU can be taken away here");
            }
            soak(total, cpu.as_ref())
        }
        (true, Plan::Full(connections)) => full::soak(connections),
        (false, _) => Vec::new(),
    };
    for fault in &faults {
        say(&format!("FAIL: {fault}"));
    }
    let (word, failed) = match faults.is_empty() {
        true => ("ok", 0),
        false => ("FAILED", 1),
    };
    say(&format!(
        "test result: {word}. {} passed; {failed} failed",
        1 - failed
    ));
    ExitCode::from(failed)
}
