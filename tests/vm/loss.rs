//! The smallest rings and a tracer that is asleep, and a kernel that keeps
//! events from the programs: what was lost is said, to the last event. The guest is quiet, so the sums are exact, but for accepts and
//! destroyed sockets that got lost: those that came are no events to be shown.

use nix::sys::signal::Signal;
use socket_snoop::bpf::misses;

use crate::common::busy::{BusyMap, sent_again, unanswered};
use crate::common::event;
use crate::common::{Run, Tracer, eventually, net};
use crate::lives::{joined, programs};
use crate::suite::{Done, Variant, say, witness};

const CONNECTIONS: usize = 400;

fn traffic(connections: usize) -> std::net::SocketAddr {
    let listener = net::listen(net::own_ip());
    for _ in 0..connections {
        net::converse(&listener);
    }
    listener.local_addr().unwrap()
}

/// Received and lost are what the kernel generated.
pub fn every_loss_is_said() -> Done {
    let tracer = Tracer::json("--all --buffer 4K");
    let witness = witness();
    let has = |program: &str| programs().iter().any(|name| name == program);
    let accepts = has("socket_snoop_ac");
    let destroyed = has("socket_snoop_ds") || Variant::here().way() == "perf";
    tracer.child.signal(Signal::SIGSTOP);
    traffic(CONNECTIONS);
    tracer.child.signal(Signal::SIGCONT);
    let said = |lines: &[String]| lines.iter().any(|l| l.contains("\"event.name\":\"lost\""));
    assert!(tracer.until(said), "no loss was said");
    // One more, whole: the stream goes on after a loss.
    let last = traffic(1);
    // Both ends' five of each connection, and two of each listener.
    let generated = witness.generated((CONNECTIONS as u64 + 1) * 10 + 2 * 2);
    tracer.until(|lines| event::with(&event::objects(lines), last).len() >= 12);
    let all = event::objects(&tracer.stop().ok().lines());
    let summary = event::summary(&all);
    let lost = event::losses(&all, &["ring_full", "output_failed"]);
    assert!(lost > 1000, "{summary}");
    let received = event::number(summary, "events.received");
    let connections = CONNECTIONS as u64 + 1;
    // Both ends of each, and the listeners.
    let unshown = u64::from(accepts) * connections + u64::from(destroyed) * (2 * connections + 2);
    assert!(
        (generated..=generated + unshown).contains(&(received + lost)),
        "received {received}, lost {lost}, generated {generated}"
    );
    // Both ends' five, and the listener's own two.
    let mut own = event::with(&all, last);
    own.retain(|e| e["event.name"] == "tcp_state");
    assert_eq!(own.len(), 12);
    Ok(())
}

/// The classic stream and the report say it, too.
pub fn the_report_says_it() -> Done {
    let tracer = Run::quiet("--buffer 4K").start();
    tracer.child.signal(Signal::SIGSTOP);
    traffic(CONNECTIONS);
    tracer.child.signal(Signal::SIGCONT);
    let lines = tracer.stop().ok().lines();
    let in_stream: u64 = event::event_lines(&lines)
        .iter()
        .filter_map(|l| event::lost(l))
        .map(|(count, _)| count)
        .sum();
    assert!(in_stream > 1000, "{in_stream}");
    let last = lines.last().unwrap();
    let end = format!(" {in_stream} lost.");
    assert!(last.ends_with(&end), "{last}, in the stream {in_stream}");
    Ok(())
}

/// How often it is tried to have the kernel keep something from the programs:
/// whether a timer fires just then is a matter of chance.
const ROUNDS: usize = 5;

/// What the kernel keeps from the programs while bpf(2) is busy is said, on those
/// that count it themselves (Linux 6.7) and on those where a program does.
pub fn what_bpf_keeps_is_said() -> Done {
    if Variant::here().has("noproc") {
        return Err("without /proc nothing tells what was sent again".to_owned());
    }
    if Variant::here().has("small") {
        return Err("the check itself takes more memory than there is".to_owned());
    }
    let by_tracefs = Variant::here().way() == "tracepoint";
    let (mut kept, mut rounds) = (0, 0);
    while rounds < ROUNDS && (rounds == 0 || by_tracefs && kept == 0) {
        kept += a_busy_bpf(by_tracefs)?;
        rounds += 1;
    }
    say(&format!(
        "info bpf(2) is busy: {kept} events lost in {rounds} rounds"
    ));
    // By the other ways nothing is kept.
    assert_eq!(kept > 0, by_tracefs, "in {rounds} rounds");
    Ok(())
}

/// How many events of a round were said to be kept from the programs.
fn a_busy_bpf(by_tracefs: bool) -> Result<u64, String> {
    const SOCKETS: u64 = 100;
    let (here, _there) = joined()?;
    // First: a busy real-time kernel takes long to attach the program of accepts.
    let tracer = Tracer::json("--all");
    let counts = programs().iter().any(|name| name == "socket_snoop_ct");
    assert_eq!(counts, by_tracefs && !misses::kernel_counts());
    let busy = BusyMap::start(0)?;
    let before = sent_again(&here);
    let sockets = unanswered(&here, 0, SOCKETS as usize);
    assert!(eventually(|| sent_again(&here) >= before + SOCKETS));
    drop(busy);
    drop(sockets);
    // Each is opened and closed.
    let made = 2 * SOCKETS + sent_again(&here) - before;
    let all = event::objects(&tracer.stop().ok().lines());
    let summary = event::summary(&all);
    let received = event::number(summary, "events.received");
    let lost = event::losses(&all, &["recursion"]);
    // What is told of a destroyed socket is no event to be shown, but may be lost.
    assert!(
        (made..=made + SOCKETS).contains(&(received + lost)),
        "received {received}, lost {lost}, made {made}"
    );
    Ok(lost)
}
