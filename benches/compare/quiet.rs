//! On a host on which little or nothing happens: what a tool costs there, how soon
//! after its start it sees, and how soon it tells.
//!
//! Contract: what is seen is dated by the clock of who made the connection, what is
//! told by who reads the tool's lines from a pipe; the tool is asked nothing. A
//! tool without lines has no such figures.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::kernel::{Counter, LINES};
use crate::common::net::{self, Netns};
use crate::common::{Guard, wait};
use crate::table::{self, Table};
use crate::tool::{Kind, Tool};
use crate::watch;

/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(5);
/// The probes' servers are at 127.68.0.0/16, one address for each purpose.
const AT_START: Ipv4Addr = Ipv4Addr::new(127, 68, 0, 1);
const LATER: Ipv4Addr = Ipv4Addr::new(127, 68, 0, 2);
/// Between two probes at a start, and their most.
const EVERY: Duration = Duration::from_micros(200);
const PROBES: usize = 20_000;
/// Probes of how soon it tells.
const TOLD: usize = 20;
/// How long it may take to see or to tell.
const PATIENCE: Duration = Duration::from_secs(10);

/// Wake-ups and CPU where nothing happens.
pub fn idle(tools: &[Tool], reps: u32, each: &mut dyn FnMut(String)) -> Result<Table, String> {
    let title = format!("Idle, {} s, {reps} rounds", QUIET.as_secs());
    let mut figures: Vec<[Vec<f64>; 3]> = vec![Default::default(); tools.len()];
    for n in 1..=reps {
        for (tool, figures) in tools.iter().zip(&mut figures) {
            each(format!("idle, {n} of {reps}: {}", tool.name));
            let mut running = tool.start()?;
            let changes = Counter::new(&[LINES[0]]);
            let before = running.used();
            wait::pass("nothing happens", QUIET);
            let after = running.used();
            let seconds = QUIET.as_secs_f64();
            let cpu = (after.cpu - before.cpu).as_secs_f64();
            figures[0].push((after.wakes - before.wakes) as f64 / seconds);
            figures[1].push(100.0 * cpu / seconds);
            figures[2].push(changes.read() as f64);
            running.stop()?;
        }
    }
    let heads = ["wake-ups/s", "CPU %", "state changes of others"];
    let mut table = Table::new(title, &heads);
    for (tool, [wakes, cpu, others]) in tools.iter().zip(figures) {
        let [wakes, cpu, others] = [wakes, cpu, others].map(table::median);
        table.row(&tool.name, &[(wakes, 1), (cpu, 3), (others, 0)]);
    }
    Ok(table)
}

/// Lines, each with when it came.
type Lines = Arc<Mutex<Vec<(Instant, Vec<u8>)>>>;

/// A tool whose lines are read as they come.
struct Heard {
    child: Guard,
    /// When its program began to run.
    began: Instant,
    lines: Lines,
}

impl Heard {
    fn start(tool: &Tool) -> Result<Heard, String> {
        let err = File::create("/dev/null").map_err(|e| format!("/dev/null: {e}"))?;
        let mut child = tool.spawn(std::process::Stdio::piped(), err)?;
        let began = Instant::now();
        let out = child.0.stdout.take().expect("piped");
        let lines = Lines::default();
        let into = Arc::clone(&lines);
        thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = Vec::new();
            while out.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let whole = (Instant::now(), std::mem::take(&mut line));
                into.lock().expect("the lines").push(whole);
            }
        });
        Ok(Heard {
            child,
            began,
            lines,
        })
    }

    /// What the first line gives that gives something.
    fn first<T>(&self, of: impl Fn(Instant, &[u8]) -> Option<T>) -> Option<T> {
        let lines = self.lines.lock().expect("the lines");
        lines.iter().find_map(|(at, line)| of(*at, line))
    }
}

/// The numbers in a line that can be ports.
fn ports(line: &[u8]) -> impl Iterator<Item = u16> {
    let numbers = line.split(|b| !b.is_ascii_digit());
    numbers.filter_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
}

fn mentions(line: &[u8], server: Ipv4Addr) -> bool {
    let server = server.to_string();
    line.windows(server.len()).any(|w| w == server.as_bytes())
}

/// One connection, as short as can be; the client's port.
fn probe(listener: &TcpListener, server: SocketAddr) -> u16 {
    let client = TcpStream::connect(server).expect("connect");
    let port = client.local_addr().expect("its address").port();
    let (accepted, _) = listener.accept().expect("accept");
    drop(client);
    drop(accepted);
    port
}

/// Makes probes until it is told to stop: when each began, by its port.
fn probes(stop: &AtomicBool) -> HashMap<u16, Instant> {
    let listener = net::listen(AT_START);
    let server = listener.local_addr().expect("its address");
    let mut made = HashMap::new();
    while !stop.load(Ordering::Relaxed) && made.len() < PROBES {
        let began = Instant::now();
        made.insert(probe(&listener, server), began);
        wait::pace(EVERY);
    }
    made.remove(&server.port());
    made
}

/// From exec to the first connection that it sees, and from a connection to its
/// first line on a quiet host: the median and the slowest; in milliseconds.
fn sees_and_tells(tool: &Tool, netns: &Netns) -> Result<[f64; 3], String> {
    let stop = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&stop);
    let (heard, made) = thread::scope(|scope| {
        let prober = scope.spawn(move || netns.run(move || probes(&until)));
        let heard = Heard::start(tool);
        if let Ok(heard) = &heard {
            let seen = |_, line: &[u8]| mentions(line, AT_START).then_some(());
            wait::within(PATIENCE, || heard.first(seen).is_some());
        }
        stop.store(true, Ordering::Relaxed);
        (heard, prober.join().expect("the probes"))
    });
    let mut heard = heard?;
    let seen = heard.first(|_, line| {
        let mut ports = ports(line).filter_map(|port| made.get(&port));
        mentions(line, AT_START).then(|| ports.next().copied())?
    });
    let seen = seen.ok_or(format!("{} sees nothing", tool.name))?;
    let attached = seen.saturating_duration_since(heard.began);

    watch::settle(heard.child.pid());
    let mut took = Vec::new();
    for n in 0..TOLD {
        // Not in step with whatever it does by its own clock.
        wait::pace(Duration::from_millis(60 + n as u64 * 37 % 80));
        let (port, began) = netns.run(|| {
            let listener = net::listen(LATER);
            let server = listener.local_addr().expect("its address");
            let began = Instant::now();
            probe(&listener, server);
            (server.port(), began)
        });
        // Of the connection, not of its listener.
        let line = |at, line: &[u8]| {
            let whole = mentions(line, LATER) && ports(line).any(|p| p == port);
            (whole && at > began).then_some(at)
        };
        let told = wait::within(PATIENCE, || heard.first(line).is_some());
        let told = told.then(|| heard.first(line)).flatten();
        let told = told.ok_or(format!("{} tells nothing", tool.name))?;
        took.push((told - began).as_secs_f64() * 1000.0);
    }
    heard.child.signal(Signal::SIGINT);
    heard.child.wait(PATIENCE).ok_or("it does not end")?;
    let slowest = took.iter().copied().fold(0.0, f64::max);
    let attached = attached.as_secs_f64() * 1000.0;
    Ok([attached, table::median(took), slowest])
}

/// How soon it sees, and how soon it tells.
pub fn start(tools: &[Tool], reps: u32, each: &mut dyn FnMut(String)) -> Result<Table, String> {
    let netns = Netns::new().map_err(|e| format!("a network namespace: {e}"))?;
    let tools: Vec<_> = tools.iter().filter(|t| t.kind != Kind::Nothing).collect();
    let mut figures: Vec<[Vec<f64>; 3]> = vec![Default::default(); tools.len()];
    for n in 1..=reps {
        for (tool, figures) in tools.iter().zip(&mut figures) {
            each(format!("start, {n} of {reps}: {}", tool.name));
            let told = sees_and_tells(tool, &netns)?;
            for (figures, figure) in figures.iter_mut().zip(told) {
                figures.push(figure);
            }
        }
    }
    let heads = ["exec to attached ms", "event to line ms", "the slowest ms"];
    let title = format!("From the start, and on a quiet host, {reps} rounds");
    let mut table = Table::new(title, &heads);
    for (tool, figures) in tools.iter().zip(figures) {
        let [attached, told, slowest] = figures.map(table::median);
        table.row(&tool.name, &[(attached, 1), (told, 1), (slowest, 1)]);
    }
    Ok(table)
}
