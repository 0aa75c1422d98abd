//! A host on which connections come and go while the tracer starts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::actor::Stage;
use super::common::event::{self, number, text};
use super::common::ledger::Ledger;
use super::common::net::{converse, listen, own_ip};
use super::common::{Run, TempDir, eventually, wait};
use super::whose;

/// Connections that come and go in each round.
const MANY: usize = 2000;
/// Threads that make them.
const THREADS: usize = 2;
/// Between two of a thread's: an unoptimised tracer has to keep up.
const PAUSE: Duration = Duration::from_micros(300);
/// Connections that stay open.
const IDLE: usize = 5;
/// Connections that are open before, and closed after.
const OLD: usize = 5;

/// None is doubled, none is missing, none has a wrong owner.
pub fn busy(stage: &Stage) {
    for args in ["", "", "--buffer 16K"] {
        round(stage, args);
    }
}

fn round(stage: &Stage, args: &str) {
    let ip = own_ip();
    let (mut server, mut client) = (stage.actor("server"), stage.actor("client"));
    let at = server.listen("l", SocketAddr::new(ip.into(), 0));
    let mut ends = Vec::new();
    for i in 0..IDLE + OLD {
        ends.push(client.connect(&format!("c{i}"), at));
        server.ask(&format!("accept l s{i}"));
    }

    let (count, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (count, stop) = (count.clone(), stop.clone());
            thread::spawn(move || {
                let listener = listen(ip);
                while !stop.load(Ordering::Relaxed) || count.load(Ordering::Relaxed) < MANY {
                    converse(&listener);
                    wait::pace(PAUSE);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    assert!(eventually(|| count.load(Ordering::Relaxed) > MANY / 10));
    // Into a file: a reader would compete for the CPUs.
    let dir = TempDir::new();
    let file = dir.join("out");
    let lines = || {
        let text = std::fs::read_to_string(&file).unwrap();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines = text[..whole].lines();
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    let ledger = Ledger::open();
    let tracer = Run::quiet(&format!("--format json --dst-ip {ip} {args}"));
    let tracer = tracer.stdout_to(&file).start();
    let mut account = ledger.account(&tracer).filtered();
    let so_far = count.load(Ordering::Relaxed);
    assert!(eventually(
        || count.load(Ordering::Relaxed) > so_far + MANY / 10
    ));
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    for i in 0..OLD {
        server.ask(&format!("close s{i}"));
        client.ask(&format!("receive c{i} all"));
        client.ask(&format!("close c{i}"));
    }
    let old = |e: &&event::Value| ends[..OLD].contains(&event::local(e)) && event::peer(e) == at;
    let closed = || {
        let all = event::with(&event::objects(&lines()), at);
        let closes = all.iter().filter(|e| e["tcp.state.new"] == "CLOSE");
        closes.filter(old).count() == OLD
    };
    eventually(closed);
    account.close();
    tracer.stop().ok();
    let all = event::objects(&lines());
    account.balance(&all);
    let summary = event::summary(&all);
    let lost = number(summary, "lost.events");

    // One socket for each pair of ends; on loopback the kernel uses ports again
    // while the one before is in TIME_WAIT (tcp_tw_reuse).
    let mut sockets: HashMap<(SocketAddr, SocketAddr), (&str, bool)> = HashMap::new();
    for event in all.iter().filter(|e| e["event.name"] == "tcp_state") {
        let key = (event::local(event), event::peer(event));
        assert_eq!(key.1.ip(), ip);
        let pid = whose(event).0;
        let held = ends.contains(&key.0) && key.1 == at;
        let held = held.then_some(client.who.pid);
        // Of the rest, the beginning may be missing, and the owner with it.
        let right = held.unwrap_or_else(|| u64::from(std::process::id()));
        assert!(pid.is_none_or(|pid| pid == right), "{event}");
        // A client's first event has no port yet.
        if key.0.port() != 0 {
            let (id, last) = (text(event, "socket.id"), event["tcp.state.new"] == "CLOSE");
            let before = sockets.insert(key, (id, last));
            let other = before.filter(|(before, _)| *before != id);
            let free = other.is_none_or(|(_, closed)| closed);
            assert!(free || lost > 0, "two sockets: {event}");
        }
    }
    if lost > 0 {
        // Only what was said is to be right.
        return;
    }
    for end in &ends[..OLD] {
        let mine =
            |e: &&event::Value| e["event.name"] == "tcp_state" && old(e) && event::local(e) == *end;
        let life: Vec<_> = all.iter().filter(mine).collect();
        assert_eq!(life.len(), 3, "{life:#?}");
        for event in life {
            assert_eq!(whose(event).0, Some(client.who.pid), "{event}");
        }
    }
    // What is left are those that stayed open, and none of the many.
    let untouched = number(summary, "connections.untouched");
    assert_eq!(untouched, IDLE as u64, "{summary}");
}
