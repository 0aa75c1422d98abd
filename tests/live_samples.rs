//! Live: plain perf samples and the programs, side by side, tell the same.
//!
//! The test runner is this program's own, since it also plays the server whose
//! listener is told of: while a child of a listener's process lives, such as a
//! program that another test runs, it could have the listener, and no owner is
//! told.

#[path = "common/actor.rs"]
mod actor;
mod common;

use actor::Stage;
use common::event::{self, Value};
use common::life::{connected, joined, lose, to_end};
use common::suite::{self, Test};
use common::{Tracer, kernel, net, traffic};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;

const TESTS: [(&str, Test<Stage>); 4] = [
    ("causes_are_told_the_same", causes),
    ("connections_are_told_the_same", connections),
    ("retransmissions_are_told_the_same", retransmissions),
    ("synacks_are_told_the_same", synacks),
];

/// Both ways side by side, with everything shown.
struct Both {
    perf: Tracer,
    programs: Tracer,
}

/// What they told.
struct Told {
    perf: Vec<Value>,
    programs: Vec<Value>,
    /// Events that the samples lack, as was said.
    lost: u64,
}

impl Both {
    fn start() -> Both {
        Both {
            perf: Tracer::json("--all --on-cpu --transport perf"),
            programs: Tracer::json("--all --on-cpu --transport tracepoint"),
        }
    }

    /// Stops them, once all sockets with these servers are closed: what comes while
    /// one of them stops would be seen by one only. Nothing may be lost but what
    /// the kernel did not sample.
    fn stop(self, servers: &[SocketAddr]) -> Told {
        traffic::closed(&self.programs, servers);
        let by = |tracer: Tracer, name| {
            let all = event::objects(&tracer.stop().ok().lines());
            assert_eq!(event::summary(&all)["events.transport"], name);
            (event::losses(&all, &["output_failed"]), all)
        };
        let (lost, perf) = by(self.perf, "perf");
        let (none, programs) = by(self.programs, "tracepoint");
        assert_eq!(none, 0);
        Told {
            perf,
            programs,
            lost,
        }
    }
}

impl Told {
    /// The events with these servers, which must be the same by both ways, or
    /// said to be missing.
    fn same(&self, servers: &[SocketAddr]) -> Vec<Value> {
        let (mut own, mut missing) = (Vec::new(), 0);
        for server in servers {
            let perf = event::with(&self.perf, *server);
            missing += compare(&perf, &event::with(&self.programs, *server));
            own.extend(perf);
        }
        let lost = self.lost;
        assert!(missing <= lost, "{missing} missing, {lost} said to be");
        own
    }

    /// Why the connection with this server ended, at the client's and at the
    /// server's end, as the samples tell. The programs say the same, or what
    /// would have told is said to be missing.
    fn causes(&self, server: SocketAddr) -> Vec<(bool, Value)> {
        let records = |all: &[Value]| {
            let mut own = event::records(all, server);
            own.sort_by_key(|r| event::peer(r) != server);
            own
        };
        let (ours, theirs) = (records(&self.perf), records(&self.programs));
        assert_eq!(ours.len(), theirs.len(), "{ours:#?}");
        let mut missing = 0;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            if ours["connection.cause"] == "unknown" {
                missing += 1;
                continue;
            }
            for key in ["connection.cause", "tcp.reset.reason"] {
                assert_eq!(ours.get(key), theirs.get(key), "{ours} {theirs}");
            }
        }
        assert!(missing <= self.lost, "{ours:#?}");
        let of_client = |r: &Value| event::peer(r) == server;
        ours.into_iter().map(|r| (of_client(&r), r)).collect()
    }
}

/// By sockets: between CPUs, the order is that of two clocks' readings.
fn sorted(events: &[Value]) -> Vec<(String, &Value)> {
    let end = |e| format!("{} {}", event::local(e), event::peer(e));
    let mut all: Vec<_> = events.iter().map(|e| (end(e), e)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// What of an event must be known by either way.
fn needed(key: &str) -> bool {
    let ends = key.starts_with("network.") && key != "network.namespace";
    ends || key.starts_with("tcp.state")
        || ["event.name", "error.type", "cpu.logical_number"].contains(&key)
}

/// What samples say is what programs say. They may know less of a task that is
/// gone, but nothing less of the connection. There are kernels that don't sample
/// the idle task: how many events are missing for that.
fn compare(perf: &[Value], programs: &[Value]) -> u64 {
    assert!(!programs.is_empty(), "no events");
    let mut ours = sorted(perf).into_iter().peekable();
    let mut missing = 0;
    for (end, theirs) in sorted(programs) {
        let is_it = |(of, e): &(String, &Value)| {
            let same = |key: &str| e.get(key) == theirs.get(key);
            *of == end
                && ["event.name", "tcp.state.new", "cpu.logical_number"]
                    .into_iter()
                    .all(same)
                && near(e, theirs)
        };
        let Some((_, ours)) = ours.next_if(is_it) else {
            assert_eq!(theirs["on_cpu.pid"], 0, "{theirs} is not among {perf:#?}");
            missing += 1;
            continue;
        };
        for (key, value) in ours.as_object().expect("an object") {
            // Either way may know an owner by another event.
            if !["time", "socket.id", "owner.source"].contains(&key.as_str()) {
                assert_eq!(theirs.get(key), Some(value), "{key}: {ours} {theirs}");
            }
        }
        for (key, _) in theirs.as_object().expect("an object") {
            assert!(!needed(key) || ours.get(key).is_some(), "{key}: {ours}");
        }
    }
    assert_eq!(ours.next(), None);
    missing
}

/// Whether two events may be the same by time: the clocks are read in a row.
fn near(a: &Value, b: &Value) -> bool {
    event::nanos(a).abs_diff(event::nanos(b)) < 50_000_000
}

fn connections(_: &Stage) {
    let both = Both::start();
    let until = |server, kind: &str, count| traffic::until(&both.programs, server, kind, count);
    let servers = traffic::connections(&until);
    let own = both.stop(&servers).same(&servers);
    traffic::check_connections(&own, &servers);
}

fn retransmissions(_: &Stage) {
    let Some((here, there)) = joined() else {
        return;
    };
    let both = Both::start();
    let until = |server, kind: &str, count| traffic::until(&both.programs, server, kind, count);
    let made = traffic::retransmissions(&here, &there, &until);
    let servers = made.map(|(server, _)| server);
    let own = both.stop(&servers).same(&servers);
    assert!(own.iter().any(|e| e["event.name"] == "tcp_state"));
}

/// A timer sends them again, for a connection without a socket: the listener's
/// owner is known all the same.
fn synacks(stage: &Stage) {
    let Some((here, there)) = joined() else {
        return;
    };
    let both = Both::start();
    let mut serving = stage.actor_in(&there, "server");
    let server = serving.listen("l", "10.77.0.2:0".parse().unwrap());
    lose(&there, "10.77.0.1");
    let sent_again = |e: &Value| e["event.name"] == "tcp_retransmit" && event::local(e) == server;
    let until = |done: &dyn Fn(&[Value]) -> bool| {
        for tracer in [&both.perf, &both.programs] {
            tracer.until(|lines| done(&event::objects(lines)));
        }
    };
    traffic::awake(|| {
        let connect = move || TcpStream::connect(server).unwrap();
        let connecting = here.run(move || thread::spawn(connect));
        until(&|all| all.iter().any(sent_again));
        there.ip("neigh del 10.77.0.1 dev v0");
        let client = connecting.join().unwrap();
        serving.ask("accept l accepted");
        client.shutdown(Shutdown::Write).unwrap();
        serving.ask("receive accepted all");
        serving.ask("close accepted");
        drop(client);
        until(&|all| event::records(all, server).len() >= 2);
    });
    // Its listener is open.
    let told = both.stop(&[]);
    let own = told.same(&[server]);
    let again: Vec<&Value> = own.iter().filter(|e| sent_again(e)).collect();
    assert!(!again.is_empty(), "{own:#?}");
    let causes = told.causes(server);
    let (_, record) = causes.iter().find(|(client, _)| !client).expect("a server");
    let count = event::number(record, "tcp.retransmits.synack");
    assert_eq!(count, again.len() as u64, "{record}");
    for e in again {
        assert_eq!(e["tcp.state.current"], "SYN_RECV", "{e}");
        assert_eq!(e["socket.id"], record["socket.id"], "{e}");
        assert_eq!(e["process.pid"], serving.who.pid, "{e}");
        assert_eq!(e["owner.source"], "listener", "{e}");
    }
}

/// A connection that `end` ends by a reset of the client's.
fn reset(end: impl FnOnce(TcpStream, &mut TcpStream)) -> SocketAddr {
    let (_listener, client, mut accepted, server) = connected();
    end(client, &mut accepted);
    server
}

fn causes(_: &Stage) {
    let both = Both::start();
    let fails = |accepted: &mut TcpStream| {
        accepted.read(&mut [0]).expect_err("the reset has come");
    };
    let refused = traffic::refused();
    let unread = reset(|client, accepted| {
        accepted.write_all(b"never read").unwrap();
        client.peek(&mut [0]).unwrap();
        drop(client);
        fails(accepted);
    });
    let aborted = reset(|client, accepted| {
        net::abort(client);
        fails(accepted);
    });
    let after_its_end = reset(|client, accepted| {
        client.shutdown(Shutdown::Write).unwrap();
        to_end(accepted);
        net::abort(client);
    });
    let listener = net::listen(net::own_ip());
    net::converse(&listener);
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let cases = [
        (refused, vec!["refused"]),
        (unread, vec!["reset_by_us", "reset_by_peer"]),
        (aborted, vec!["reset_by_us", "reset_by_peer"]),
        (after_its_end, vec!["reset_by_us", "reset_by_peer"]),
        (closed, vec!["closed_by_us", "closed_by_peer"]),
    ];
    for (server, causes) in &cases {
        for tracer in [&both.perf, &both.programs] {
            tracer.until(|lines| {
                event::records(&event::objects(lines), *server).len() >= causes.len()
            });
        }
    }
    let told = both.stop(&cases.each_ref().map(|(server, _)| *server));
    let format = kernel::tracefs("events/tcp/tcp_send_reset/format");
    let mut known = 0;
    for (server, causes) in &cases {
        let found = told.causes(*server);
        assert_eq!(found.len(), causes.len(), "{found:#?}");
        for ((_, record), cause) in found.iter().zip(causes) {
            let told = event::text(record, "connection.cause");
            if told == "unknown" {
                continue;
            }
            assert_eq!(told, *cause, "{record}");
            known += 1;
            if told == "reset_by_us" && format.contains("sk_rst_reason") {
                let reason = event::text(record, "tcp.reset.reason");
                assert!(format.contains(&format!("\"{reason}\"")), "{reason}");
                let on_close = *server == unread && format.contains("TCP_ABORT_ON_CLOSE");
                assert_eq!(reason == "TCP_ABORT_ON_CLOSE", on_close, "{record}");
            }
        }
    }
    assert!(known >= 5, "of 9 ends, {known} are known");
}

fn main() -> ExitCode {
    actor::play();
    let args: Vec<String> = std::env::args().skip(1).collect();
    suite::run(&TESTS, &args, Stage::new)
}
