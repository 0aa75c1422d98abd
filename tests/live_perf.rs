//! Live: plain perf samples say what they lost, name no task wrongly, do
//! without what a host lacks, and are taken where bpf(2) is refused.

mod common;

use common::event::{self, Value};
use common::ledger::Ledger;
use common::net;
use common::preflight::truth;
use common::{Run, Tracer, binary, confine, eventually, kernel, live, skip, wait};
use nix::sys::signal::Signal;
use socket_snoop::capture::{Source, Transport};
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::{Event, What};
use socket_snoop::model::tcp::State;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use story::story;

/// Longer than anything waits to be read.
const SOON: Duration = Duration::from_millis(400);

/// The events of connections with this server, without what sums them up.
fn events_with(objects: &[Value], server: SocketAddr) -> Vec<Value> {
    let mut own = event::with(objects, server);
    own.retain(|e| event::text(e, "event.name").starts_with("tcp_"));
    own
}

/// A listener, and a process that has connected to it and is gone, reaped.
fn short_lived() -> (TcpListener, SocketAddr, u32) {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let script = format!("exec 3<>/dev/tcp/{}/{}", server.ip(), server.port());
    let mut child = Command::new("bash")
        .args(["-c", &script])
        .spawn()
        .expect("bash");
    let pid = child.id();
    {
        let _whole = net::not_forking();
        net::drain(listener.accept().expect("accept").0);
    }
    assert!(child.wait().expect("wait").success());
    (listener, server, pid)
}

#[story]
fn a_process_that_is_gone_had_its_name() {
    if !live() {
        return;
    }
    let tracer = Tracer::json("--transport perf");
    for _ in 0..5 {
        let (_listener, server, pid) = short_lived();
        tracer.until(|lines| events_with(&event::objects(lines), server).len() >= 10);
        let own = events_with(&event::objects(&tracer.lines()), server);
        let (of_client, _) = event::pair(&own, server);
        for e in [&of_client[0], &of_client[2]] {
            assert_eq!(event::number(e, "process.pid"), u64::from(pid), "{e}");
            assert_eq!(event::text(e, "process.name"), "bash", "{e}");
        }
    }
    tracer.stop().ok();
}

#[story]
fn a_name_is_that_of_its_moment() {
    if !live() {
        return;
    }
    let tracer = Tracer::json("--transport perf");
    let (before, server) = (net::listen(net::own_ip()), net::listen(net::own_ip()));
    let [earlier, address] = [&before, &server].map(|l| l.local_addr().unwrap());
    // By a process of its own: what another test of this one starts has this
    // one's sockets, too, until it runs its program.
    let script = format!(
        "set -e; name() {{ printf %s \"$1\" > /proc/$$/comm; }}
         exec 4<>/dev/tcp/{}/{}
         read
         name name-of-before
         exec 3<>/dev/tcp/{}/{}
         name name-of-after
         exec 3>&-
         read || true",
        earlier.ip(),
        earlier.port(),
        address.ip(),
        address.port()
    );
    let mut client = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .expect("bash");
    // Its user is read upon its first events, and again upon the others.
    let _accepted = before.accept().expect("accept");
    tracer.until(|lines| events_with(&event::objects(lines), earlier).len() >= 3);
    let input = client.stdin.as_mut().expect("a pipe");
    input.write_all(b"\n").expect("go on");
    net::drain(server.accept().expect("accept").0);
    tracer.until(|lines| events_with(&event::objects(lines), address).len() >= 10);
    // Not before: its user is read from it.
    drop(client.stdin.take());
    assert!(client.wait().expect("wait").success());
    let all = event::objects(&tracer.stop().ok().lines());
    let (of_client, _) = event::pair(&all, address);
    assert_eq!(of_client[0]["process.name"], "name-of-before");
    assert_eq!(of_client[2]["process.name"], "name-of-after");
    // The user is known, for it is still there by that name, and was it before.
    assert_eq!(of_client[2]["user.id"], 0);
}

/// Of processes in other PID namespaces nothing is told, rather than what their
/// numbers would mean elsewhere.
#[story]
fn nothing_is_told_of_tasks_out_of_sight() {
    if !live() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork"]).arg(binary());
    let args = "--transport perf --on-cpu --no-log --format json --duration 2";
    if Command::new("unshare").arg("--version").output().is_err() {
        return skip("no unshare");
    }
    let tracer = Run::through(command, args).start();
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    net::converse(&listener);
    let all = event::objects(&tracer.finish(common::PATIENCE).ok().lines());
    let (of_client, of_server) = event::pair(&all, server);
    assert_eq!(event::transitions(&of_client), event::CLIENT);
    for e in [&of_client[0], &of_client[2], &of_server[3]] {
        for key in [
            "process.pid",
            "process.name",
            "user.id",
            "on_cpu.pid",
            "on_cpu.name",
        ] {
            assert!(e.get(key).is_none(), "{key}: {e}");
        }
        assert_eq!(e["owner.source"], "none");
    }
}

#[story]
fn where_bpf_is_refused_it_is_taken() {
    if !live() {
        return;
    }
    for errno in [libc::EPERM, libc::ENOSYS] {
        let mut command = Command::new(binary());
        confine::refuse(&mut command, libc::SYS_bpf, errno);
        let tracer = Run::through(command, "--no-log --format json").start();
        let notes = tracer.stderr();
        let notes: Vec<&str> = notes
            .lines()
            .filter(|l| l.contains("note: tracing"))
            .collect();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("tracing by perf samples: "), "{notes:?}");
        assert!(notes[0].contains("bpf"), "{notes:?}");
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        net::converse(&listener);
        tracer.until(|lines| events_with(&event::objects(lines), server).len() >= 10);
        let all = event::objects(&tracer.stop().ok().lines());
        let (of_client, of_server) = event::pair(&all, server);
        assert_eq!(event::transitions(&of_client), event::CLIENT);
        assert_eq!(event::transitions(&of_server), event::SERVER);
        assert_eq!(event::summary(&all)["events.transport"], "perf");
        assert_eq!(event::summary(&all)["lost.events"], 0);
    }
}

/// So many connections from two threads; the servers.
fn traffic(connections: usize, pause: Duration) -> Vec<SocketAddr> {
    let work = move || {
        let listener = net::listen(net::own_ip());
        for n in 0..connections / 2 {
            if n % 25 == 0 {
                wait::pace(pause);
            }
            net::converse(&listener);
        }
        listener.local_addr().unwrap()
    };
    let workers = [thread::spawn(work), thread::spawn(work)];
    workers.map(|w| w.join().unwrap()).to_vec()
}

#[story]
fn two_thousand_connections_none_lost() {
    if !live() {
        return;
    }
    let ledger = Ledger::open();
    let tracer = Tracer::json("--transport perf");
    let mut account = ledger.account(&tracer);
    let servers = traffic(2000, Duration::from_millis(20));
    account.close();
    let all = event::objects(&tracer.stop().ok().lines());
    account.balance(&all);
    let summary = event::summary(&all);
    assert_eq!(summary["lost.events"], 0, "{summary}");
    let received = event::number(summary, "events.received");
    assert!(received >= 20_000, "{summary}");
    let lives = event::lives(
        &all.iter()
            .filter(|e| e["event.name"] == "tcp_state")
            .filter(|e| servers.contains(&event::local(e)) || servers.contains(&event::peer(e)))
            .cloned()
            .collect::<Vec<_>>(),
    );
    assert_eq!(lives.len(), 4000);
    for life in lives {
        let transitions = event::transitions(&life);
        assert!(
            transitions == event::CLIENT || transitions == event::SERVER,
            "{life:#?}"
        );
    }
}

/// The smallest ring and a tracer that is asleep: what is lost is counted to
/// the last event, and what was known of names is no longer told as sure.
#[story]
fn every_loss_is_said() {
    if !live() {
        return;
    }
    let ledger = Ledger::open();
    let tracer = Tracer::json("--transport perf --buffer 4K");
    let mut account = ledger.account(&tracer);
    tracer.child.signal(Signal::SIGSTOP);
    traffic(500, Duration::ZERO);
    tracer.child.signal(Signal::SIGCONT);
    // The stream goes on after a loss.
    let goes_on = eventually(|| {
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        net::converse(&listener);
        wait::within(SOON, || {
            events_with(&event::objects(&tracer.lines()), server).len() == 10
        })
    });
    assert!(goes_on, "no connection is whole any more");
    account.close();
    let all = event::objects(&tracer.stop().ok().lines());
    account.balance(&all);
    let summary = event::summary(&all);
    let lost = event::losses(&all, &["ring_full", "output_failed"]);
    assert!(lost > 2500, "{summary}");
}

/// Whose socket it is, learned from the events: never the other end's process,
/// which on loopback is on the CPU as often as not.
#[story]
fn owners_are_right_or_unknown() {
    if !live() {
        return;
    }
    let open = Source::open(None, Some(Transport::Perf), Abilities::LOCK, None);
    let mut source = open.expect("perf samples");
    let (_listener, server, client) = short_lived();
    source.detach();
    let mut events: Vec<Event> = Vec::new();
    source.drain(u64::MAX, &mut |event, _| {
        events.push(*event);
        true
    });
    let me = std::process::id();
    let mut seen = 0;
    for event in &events {
        let ends = [event.local, event.peer].map(|end| SocketAddr::new(end.addr, end.port));
        let Some(side) = ends.iter().position(|end| *end == server) else {
            continue;
        };
        let owner = [me, client][side];
        let told = event.owner.map(|o| o.task.pid);
        assert_eq!(told, Some(owner), "{event:#?}");
        seen += 1;
        if let What::State {
            old: State::Listen, ..
        } = event.what
        {
            // Nothing but the listener tells.
            assert_eq!(event.owner.map(|o| o.source.name()), Some("listener"));
        }
    }
    // Ten of the connection, one of the listener.
    assert_eq!(seen, 11, "{events:#?}");
}

/// A host may lack any tracepoint but two: the rest goes on, and is told.
#[story]
fn each_tracepoint_may_be_missing_alone() {
    if !live() {
        return;
    }
    const HIDDEN: [(&[&str], &str, &str); 3] = [
        (
            &["/sys/kernel/tracing/events/tcp/tcp_retransmit_synack"],
            "tcp:tcp_retransmit_synack",
            "retransmitted SYN+ACKs",
        ),
        (
            &["/sys/kernel/tracing/events/tcp/tcp_send_reset"],
            "tcp:tcp_send_reset",
            "reset reason",
        ),
        (
            &["/sys/kernel/tracing/events/tcp/tcp_receive_reset"],
            "tcp:tcp_receive_reset",
            "",
        ),
    ];
    let check = || {
        let start = |args: &str| Run::new(args).run();
        truth(&start, "--transport perf")
    };
    let reasons = kernel::tracefs("events/tcp/tcp_send_reset/format").contains("sk_rst_reason");
    let all = check();
    assert_eq!(all.verdict("retransmitted SYN+ACKs"), "yes");
    assert_eq!(all.verdict("reset reason") == "yes", reasons);
    for (place, tracepoint, feature) in HIDDEN {
        let hide = move || {
            kernel::show_tracefs();
            confine::with_empty(place, move || {
                let open = Source::open(None, Some(Transport::Perf), Abilities::LOCK, None);
                let source = open.expect("perf samples");
                let absent = source.given().lacks().map(|(_, why)| why.to_string());
                let absent: Vec<_> = absent.filter(|why| why.contains(tracepoint)).collect();
                (check(), absent)
            })
        };
        let hidden = net::in_mount_ns(hide).expect("a mount namespace");
        let (report, absent) = hidden.expect("an empty folder");
        assert_eq!(absent.len(), 1, "{absent:?}");
        for finding in report.section("feature") {
            let name = event::text(finding, "check.name");
            match name == feature {
                true => {
                    assert_eq!(finding["check.verdict"], "no");
                    assert!(report.evidence(name).contains(tracepoint), "{finding}");
                }
                // That of an end has other reasons to be off.
                false if name == "cause of an end" => {}
                false => assert_eq!(finding["check.verdict"], all.verdict(name), "{name}"),
            }
        }
    }
}

/// Each CPU takes several descriptors: as many as this process may have.
#[story]
fn few_open_files_are_no_hindrance_but_a_limit() {
    if !live() {
        return;
    }
    let start = |limit: &str| {
        let mut command = Command::new("sh");
        let script = format!("ulimit {limit}; exec \"$@\"");
        command.args(["-c", &script, "sh"]).arg(binary());
        Run::through(command, "--transport perf --no-log --duration 0.1").run()
    };
    start("-Sn 12").ok();
    let out = start("-n 12");
    assert_eq!((out.code, out.stdout.as_str()), (Some(1), ""), "{out:?}");
    assert_eq!(out.stderr.lines().count(), 1, "{out:?}");
    assert!(out.stderr.contains("ulimit -n"), "{out:?}");
}
