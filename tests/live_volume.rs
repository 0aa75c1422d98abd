//! Live: 10,000 connections, counted independently, the memory they take, and
//! losses that are said to the last event.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use story::story;

use common::event::{self, Value};
use common::ledger::{Balance, Ledger, replay};
use common::{Run, TempDir, Tracer, eventually, live, net, wait};
use nix::sys::signal::Signal;

/// Tests here count all events of the host: one at a time.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    live().then_some(guard)
}

/// Not more than some 30,000 events a second with four threads: what one without
/// optimisation can take on a CPU that it shares.
const STEADY: Duration = Duration::from_millis(30);

/// Longer than anything waits to be read.
const SOON: Duration = Duration::from_millis(400);

/// So many connections from a few threads, with a pause after every 25;
/// (client, server) of each.
fn traffic(connections: usize, threads: usize, pause: Duration) -> Vec<(SocketAddr, SocketAddr)> {
    let each = connections / threads;
    let work = move || {
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        let one = |n| {
            if n % 25 == 0 {
                wait::pace(pause);
            }
            (net::converse(&listener), server)
        };
        (0..each).map(one).collect::<Vec<_>>()
    };
    let workers: Vec<_> = (0..threads).map(|_| thread::spawn(work)).collect();
    workers
        .into_iter()
        .flat_map(|w| w.join().unwrap())
        .collect()
}

/// How often each tuple had a complete life of its side's shape.
type Counts = BTreeMap<(SocketAddr, SocketAddr), usize>;

fn complete_lives(all: &[Value], servers: &[SocketAddr]) -> (Counts, Counts) {
    let own: Vec<Value> = all
        .iter()
        .filter(|e| e["event.name"] == "tcp_state")
        .filter(|e| servers.contains(&event::local(e)) || servers.contains(&event::peer(e)))
        .cloned()
        .collect();
    let (mut clients, mut at_servers) = (Counts::new(), Counts::new());
    let mut wrong: BTreeMap<Vec<String>, (usize, Vec<Value>)> = BTreeMap::new();
    for life in event::lives(&own) {
        // The second event has both ports.
        let second = life.get(1).unwrap_or(&life[0]);
        let (local, peer) = (event::local(second), event::peer(second));
        let transitions = event::transitions(&life);
        if transitions == event::CLIENT {
            *clients.entry((local, peer)).or_default() += 1;
        } else if transitions == event::SERVER {
            *at_servers.entry((peer, local)).or_default() += 1;
        } else {
            wrong.entry(transitions).or_insert((0, life)).0 += 1;
        }
    }
    let summary = event::summary(all);
    assert!(
        wrong.is_empty(),
        "{} wrong, with the first of each kind: {wrong:#?} {summary}",
        wrong.len()
    );
    (clients, at_servers)
}

/// A run of the tracer over ten thousand connections.
struct Volume {
    made: Vec<(SocketAddr, SocketAddr)>,
    all: Vec<Value>,
    balance: Balance,
    /// Peak memory in KiB.
    peak: u64,
}

impl Volume {
    fn run() -> Volume {
        let ledger = Ledger::open();
        let dir = TempDir::new();
        let shown = dir.join("shown");
        let run = Run::quiet("--format=json --lifecycles=50");
        let tracer = run.stdout_to(&shown).start();
        let mut account = ledger.account(&tracer);
        let made = traffic(10_000, 4, STEADY);
        account.close();
        let peak = peak_rss(tracer.child.pid());
        tracer.stop().ok();
        let text = fs::read_to_string(&shown).unwrap();
        let all = event::objects(&text.lines().collect::<Vec<_>>());
        Volume {
            made,
            balance: account.balance(&all),
            all,
            peak,
        }
    }
}

#[story]
fn ten_thousand_connections_none_lost_none_doubled() {
    let Some(_alone) = alone() else { return };
    let mut run = Volume::run();
    if run.balance.kernels() > 0 {
        replay(run.balance.kernels());
        run = Volume::run();
    }
    let Volume {
        made, all, peak, ..
    } = run;

    let mut expected = Counts::new();
    for tuple in &made {
        *expected.entry(*tuple).or_default() += 1;
    }
    let mut servers: Vec<_> = made.iter().map(|(_, server)| *server).collect();
    servers.dedup();
    // First, for it tells where something was lost.
    let summary = event::summary(&all);
    assert_eq!(event::number(summary, "lost.events"), 0, "{summary}");
    assert!(event::number(summary, "events.received") >= 100_000);
    let (clients, at_servers) = complete_lives(&all, &servers);
    assert!(clients == expected, "{} clients' tuples", clients.len());
    assert!(
        at_servers == expected,
        "{} servers' tuples",
        at_servers.len()
    );
    assert!(
        event::number(summary, "connections.seen") >= 20_000,
        "{summary}"
    );
    // The budget is that of the program as it is shipped, and with its defaults.
    if std::env::var_os("SOCKET_SNOOP_BIN").is_some() {
        assert!(peak <= 2048, "peak RSS without the rings is {peak} KiB");
    }
}

/// Peak memory of a process in KiB, without what it has mapped of rings
/// (on Linux 6.18 their pages don't count as resident at all).
fn peak_rss(pid: u32) -> u64 {
    let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let kib = |line: &str| -> u64 {
        line.split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    };
    let status = read("status");
    let peak = status.lines().find(|l| l.starts_with("VmHWM:"));
    let mut in_ring = false;
    let mut rings = 0;
    for line in read("smaps").lines() {
        if line.starts_with("Rss:") && in_ring {
            rings += kib(line);
        } else if line.starts_with("Size:") {
            continue;
        } else if line.contains('-') {
            in_ring = line.ends_with("[perf_event]");
        }
    }
    kib(peak.expect("VmHWM")) - rings
}

/// The smallest ring and a tracer that is asleep: what is lost is counted by
/// the last event, in the stream and in the summary.
#[story]
fn every_loss_is_said() {
    let Some(_alone) = alone() else { return };
    let ledger = Ledger::open();
    let tracer = Tracer::json("--buffer 4K");
    let mut account = ledger.account(&tracer);
    tracer.child.signal(Signal::SIGSTOP);
    traffic(1000, 2, Duration::ZERO);
    tracer.child.signal(Signal::SIGCONT);
    // The stream goes on after a loss: with so small a ring others on the host
    // can take the room of a connection, but not of every one.
    let goes_on = eventually(|| {
        let server = traffic(1, 1, Duration::ZERO)[0].1;
        wait::within(SOON, || {
            event::with(&event::objects(&tracer.lines()), server).len() == 10
        })
    });
    assert!(goes_on, "no connection is whole any more");
    account.close();
    let all = event::objects(&tracer.stop().ok().lines());
    account.balance(&all);
    let summary = event::summary(&all);
    let lost = event::losses(&all, &["ring_full", "output_failed"]);
    assert!(lost > 5000, "{summary}");
}

/// At whatever speed the host can make connections: each event is either
/// received or counted as lost, and neither twice.
#[story]
fn at_full_speed_nothing_goes_uncounted() {
    let Some(_alone) = alone() else { return };
    let dir = TempDir::new();
    let shown = dir.join("shown");
    let ledger = Ledger::open();
    let tracer = Run::quiet("--format=json").stdout_to(&shown).start();
    let mut account = ledger.account(&tracer);
    traffic(10_000, 4, Duration::ZERO);
    account.close();
    tracer.stop().ok();
    let text = fs::read_to_string(&shown).unwrap();
    let all = event::sums(&text);
    account.balance(&all);
    let summary = event::summary(&all);
    let received = event::number(summary, "events.received");
    assert!(received > 10_000, "{summary}");
}

/// The classic stream and the report say it, too.
#[story]
fn the_report_says_what_was_lost() {
    let Some(_alone) = alone() else { return };
    let tracer = Run::quiet("--buffer 4K").start();
    tracer.child.signal(Signal::SIGSTOP);
    traffic(500, 2, Duration::ZERO);
    tracer.child.signal(Signal::SIGCONT);
    let lines = tracer.stop().ok().lines();
    let in_stream: u64 = event::event_lines(&lines)
        .iter()
        .filter_map(|l| event::lost(l))
        .map(|(count, _)| count)
        .sum();
    assert!(in_stream > 2000, "{in_stream}");
    let last = lines.last().unwrap();
    assert!(
        last.ends_with(&format!(" {in_stream} lost.")),
        "{last}, in the stream {in_stream}"
    );
}
