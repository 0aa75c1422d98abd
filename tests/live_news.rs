//! Live: the rings of what becomes of tasks, one kind each.

mod common;

use common::live;
use socket_snoop::perf::Rings;
use socket_snoop::perf::feed::Feed;
use socket_snoop::perf::record::{Body, News, Topic};
use socket_snoop::sys::time;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use story::story;

/// What one makes is in the other's rings, too: one test at a time.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    live().then_some(guard)
}

/// Rings that are replaced again and again while processes come and go: those
/// of a CPU that comes up are like others, and the rest is told.
#[story]
fn rings_of_news_are_replaced() {
    let Some(_alone) = alone() else {
        return;
    };
    let mut rings = Rings::open(Some(1 << 20), Feed::Programs).expect("rings");
    let cpus = rings.cpus();
    let (mut made, mut missing) = (Vec::new(), 0);
    let (mut forks, mut ends) = (Vec::new(), Vec::new());
    for round in 0..50 {
        let mut child = Command::new("true").spawn().expect("true");
        made.push(child.id());
        child.wait().expect("wait");
        if round % 5 == 4 {
            rings.revive(cpus[round / 5 % cpus.len()]).expect("a ring");
            rings.release_retired();
        }
        rings.drain(time::monotonic(), &mut |sample| {
            if let Body::News(news) = sample.body {
                match news {
                    News::Fork { task, .. } => forks.push(task.pid),
                    News::Exit { task } => ends.push(task.pid),
                    News::Missing(_) => missing += 1,
                    News::Comm { .. } => {}
                }
            }
            true
        });
    }
    // All rings were alive all the time.
    for pid in made {
        assert!(forks.contains(&pid) && ends.contains(&pid), "{pid}");
    }
    // Each replaced one is said to miss something of both.
    assert_eq!(missing, 20);
    assert_eq!(cpus.iter().map(|&cpu| rings.lost_news(cpu)).sum::<u64>(), 0);
}

/// More threads than a ring holds: what is missing is counted, told before
/// anything that comes later, and what comes later is whole again.
#[story]
fn what_finds_no_room_is_told_at_its_place() {
    let Some(_alone) = alone() else {
        return;
    };
    const THREADS: usize = 8000;
    let mut rings = Rings::open(Some(4096), Feed::Programs).expect("rings");
    let cpus = rings.cpus();
    let drain = |rings: &mut Rings| {
        let mut all = Vec::new();
        rings.drain(time::monotonic(), &mut |sample| {
            if let Body::News(news) = sample.body {
                all.push(news);
            }
            true
        });
        let lost: u64 = cpus.iter().map(|&cpu| rings.lost_news(cpu)).sum();
        (all, lost)
    };
    let missing = |news: &News| *news == News::Missing(Topic::Lives);
    let (quiet, none) = drain(&mut rings);
    assert!(none == 0 && !quiet.iter().any(missing));
    for _ in 0..THREADS {
        thread::spawn(|| ()).join().expect("a thread");
    }
    let (flood, lost) = drain(&mut rings);
    let lives = |news: &&News| matches!(news, News::Fork { .. } | News::Exit { .. });
    let received = flood.iter().filter(lives).count();
    assert!(lost > 0 && received > 1000, "{lost} {received}");
    assert!(received + lost as usize >= 2 * THREADS, "{received} {lost}");
    // It opens after what found room.
    assert!(flood.iter().take(1000).all(|news| !missing(news)));
    assert!(flood.iter().any(missing));
    let mut child = Command::new("true").spawn().expect("true");
    let pid = child.id();
    child.wait().expect("wait");
    let (after, still) = drain(&mut rings);
    assert_eq!(still, lost);
    let fork = |news: &News| matches!(news, News::Fork { task, .. } if task.pid == pid);
    let exit = |news: &News| matches!(news, News::Exit { task } if task.pid == pid);
    let born = after.iter().position(fork).expect("it is born");
    let ends = after.iter().position(exit).expect("it ends");
    let closed = after.iter().rposition(missing).expect("it closes");
    assert!(closed < born && born < ends, "{closed} {born} {ends}");
    let (later, _) = drain(&mut rings);
    assert!(!later.iter().any(missing));
}
