//! Live: plain perf samples tell the same as the programs, say what they lost,
//! name no task wrongly, and are taken where bpf(2) is refused.

mod common;

use common::event::{self, Value};
use common::net::{self, Netns};
use common::{Run, Tracer, binary, confine, eventually, kernel, live, skip};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use socket_snoop::attach::Wants;
use socket_snoop::event::{Event, What};
use socket_snoop::source::{Source, Transport};
use socket_snoop::tcp::State;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

const NOBODY: &str = "02:00:00:00:00:77";

/// The events of connections with this server, without what sums them up.
fn events_with(objects: &[Value], server: SocketAddr) -> Vec<Value> {
    let mut own = event::with(objects, server);
    own.retain(|e| event::text(e, "event").starts_with("tcp_"));
    own
}

/// Both ways side by side, with everything shown.
struct Both {
    perf: Tracer,
    programs: Tracer,
}

impl Both {
    fn start() -> Both {
        Both {
            perf: Tracer::json("--all --transport perf"),
            programs: Tracer::json("--all --transport tracepoint"),
        }
    }

    /// Waits until there are so many events of this kind with the server.
    fn until(&self, server: SocketAddr, kind: &str, count: usize) {
        self.programs.until(|lines| {
            let own = events_with(&event::objects(lines), server);
            own.iter().filter(|e| e["event"] == kind).count() >= count
        });
    }

    /// The events with these servers, which must be the same by both ways, or
    /// said to be missing.
    fn same(self, servers: &[SocketAddr]) -> Vec<Value> {
        // Longer than anything waits to be read.
        thread::sleep(Duration::from_millis(300));
        let by = |tracer: Tracer, name| {
            let all = event::objects(&tracer.stop().ok().lines());
            let summary = event::summary(&all);
            assert_eq!(summary["transport"], name);
            let said = all.iter().filter(|e| e["event"] == "lost");
            let other = said.filter(|e| e["lost.reason"] != "output_failed").count();
            assert_eq!(other, 0, "{all:#?}");
            (event::number(summary, "lost.events"), all)
        };
        let (lost, perf) = by(self.perf, "perf");
        let (none, programs) = by(self.programs, "tracepoint");
        assert_eq!(none, 0);
        let (mut own, mut missing) = (Vec::new(), 0);
        for server in servers {
            let perf = events_with(&perf, *server);
            missing += compare(&perf, &events_with(&programs, *server));
            own.extend(perf);
        }
        assert!(missing <= lost, "{missing} missing, {lost} said to be");
        own
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
    ends || key.starts_with("tcp.state") || ["event", "error.type", "cpu"].contains(&key)
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
            *of == end && ["event", "tcp.state.new", "cpu"].into_iter().all(same) && near(e, theirs)
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

#[test]
fn connections_are_told_the_same() {
    if !live() {
        return;
    }
    let both = Both::start();
    let mut servers = Vec::new();
    // IPv4, IPv6, an IPv6 client and an IPv6 server of IPv4 connections.
    let v4 = net::listen(net::own_ip());
    let v6 = net::listen(net::LOOPBACK6);
    let mapped_ip = net::own_ip();
    let mapped = net::listen(mapped_ip);
    let dual = net::listen(Ipv6Addr::UNSPECIFIED);
    net::converse(&v4);
    net::converse(&v6);
    for listener in [&v4, &v6, &mapped] {
        servers.push(listener.local_addr().unwrap());
    }
    let as_mapped = IpAddr::from(mapped_ip.to_ipv6_mapped());
    net::converse_at(&mapped, SocketAddr::new(as_mapped, servers[2].port()));
    let port = dual.local_addr().unwrap().port();
    servers.push(SocketAddr::new(net::own_ip().into(), port));
    net::converse_at(&dual, servers[3]);
    // Refused: nobody listens there.
    let gone = net::listen(net::own_ip());
    servers.push(gone.local_addr().unwrap());
    drop(gone);
    TcpStream::connect(servers[4]).expect_err("refused");
    // From LISTEN to CLOSE, too.
    drop((v4, v6, mapped, dual));
    for server in &servers[..4] {
        both.until(*server, "tcp_state", 10);
    }
    let own = both.same(&servers);
    for (server, wire) in servers.iter().zip(["ipv4", "ipv6", "ipv4", "ipv4"]) {
        let (of_client, of_server) = event::pair(
            &own.iter()
                .filter(|e| !event::transition(e).ends_with(">LISTEN"))
                .filter(|e| event::transition(e) != "LISTEN>CLOSE")
                .cloned()
                .collect::<Vec<_>>(),
            *server,
        );
        assert_eq!(event::transitions(&of_client), event::CLIENT);
        assert_eq!(event::transitions(&of_server), event::SERVER);
        assert!(of_client.iter().all(|e| e["network.type"] == wire));
    }
}

#[test]
fn retransmissions_are_told_the_same() {
    if !live() {
        return;
    }
    let (here, there) = match Netns::joined() {
        Ok(both) => both,
        Err(e) => return skip(&format!("no network namespaces: {e}")),
    };
    let both = Both::start();
    let nobody: [SocketAddr; 2] = ["10.77.0.9:4479", "[fd77::9]:4479"].map(|s| s.parse().unwrap());
    for server in nobody {
        here.ip(&format!(
            "neigh add {} lladdr {NOBODY} nud permanent dev v0",
            server.ip()
        ));
    }
    let attempts = nobody.map(|server| {
        here.run(move || {
            thread::spawn(move || TcpStream::connect_timeout(&server, Duration::from_secs(2)))
        })
    });
    for attempt in attempts {
        attempt.join().unwrap().expect_err("nobody answers");
    }
    // One that gets lost, and then can't even be sent.
    let listener = there.run(|| net::listen("10.77.0.2".parse::<IpAddr>().unwrap()));
    let server = listener.local_addr().unwrap();
    let mut client = here.run(move || TcpStream::connect(server).expect("connect over veth"));
    let accepted = listener.accept().unwrap().0;
    here.ip(&format!(
        "neigh replace 10.77.0.2 lladdr {NOBODY} nud permanent dev v0"
    ));
    client.write_all(&[7; 2000]).unwrap();
    both.until(server, "tcp_retransmit", 1);
    here.ip("link set v0 down");
    // Linux 6.17 and later tell of it.
    let format = kernel::tracefs("events/tcp/tcp_retransmit_skb/format");
    let last = match format.contains(" err;") {
        true => "tcp_retransmit_failed",
        false => "tcp_retransmit",
    };
    both.until(server, last, 1);
    net::abort(client);
    net::abort(accepted);
    for server in nobody {
        both.until(server, "tcp_retransmit", 1);
    }
    let own = both.same(&[nobody[0], nobody[1], server]);
    assert!(own.iter().any(|e| e["event"] == "tcp_state"));
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
    net::drain(listener.accept().expect("accept").0);
    assert!(child.wait().expect("wait").success());
    (listener, server, pid)
}

#[test]
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

#[test]
fn a_name_is_that_of_its_moment() {
    if !live() {
        return;
    }
    let tracer = Tracer::json("--transport perf");
    let server = net::listen(net::own_ip());
    let address = server.local_addr().unwrap();
    let work = move || {
        prctl::set_name(c"name-of-before").unwrap();
        let client = TcpStream::connect(address).expect("connect");
        let accepted = server.accept().expect("accept").0;
        prctl::set_name(c"name-of-after").unwrap();
        drop(client);
        net::drain(accepted);
        // Until the events are read.
        let done = || events_with(&event::objects(&tracer.lines()), address).len() >= 10;
        assert!(eventually(done));
        tracer
    };
    let tracer = thread::spawn(work).join().expect("the work");
    let all = event::objects(&tracer.stop().ok().lines());
    let (of_client, _) = event::pair(&all, address);
    assert_eq!(of_client[0]["process.name"], "name-of-before");
    assert_eq!(of_client[2]["process.name"], "name-of-after");
    // The user is known, for it is still there by that name.
    assert_eq!(of_client[2]["user.id"], 0);
}

/// Of processes in other PID namespaces nothing is told, rather than what their
/// numbers would mean elsewhere.
#[test]
fn nothing_is_told_of_tasks_out_of_sight() {
    if !live() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork"]).arg(binary());
    let args = "--transport perf --no-log --format json --duration 2";
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

#[test]
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
        assert_eq!(event::summary(&all)["transport"], "perf");
        assert_eq!(event::summary(&all)["lost.events"], 0);
    }
}

const EVENTS: [&str; 2] = ["sock/inet_sock_set_state", "tcp/tcp_retransmit_skb"];

/// So many connections from two threads; the servers.
fn traffic(connections: usize, pause: Duration) -> Vec<SocketAddr> {
    let work = move || {
        let listener = net::listen(net::own_ip());
        for n in 0..connections / 2 {
            if n % 25 == 0 {
                thread::sleep(pause);
            }
            net::converse(&listener);
        }
        listener.local_addr().unwrap()
    };
    let workers = [thread::spawn(work), thread::spawn(work)];
    workers.map(|w| w.join().unwrap()).to_vec()
}

#[test]
fn two_thousand_connections_none_lost() {
    if !live() {
        return;
    }
    let outer = kernel::Counter::new(&EVENTS);
    let tracer = Tracer::json("--transport perf");
    let inner = kernel::Counter::new(&EVENTS);
    let servers = traffic(2000, Duration::from_millis(20));
    let at_least = inner.read();
    // Longer than the tracer lets anything wait.
    thread::sleep(Duration::from_millis(300));
    let all = event::objects(&tracer.stop().ok().lines());
    let at_most = outer.read();
    let summary = event::summary(&all);
    assert_eq!(summary["lost.events"], 0, "{summary}");
    let received = event::number(summary, "events.received");
    assert!(received >= 20_000, "{summary}");
    assert!(
        (at_least..=at_most).contains(&received),
        "received {received}, the kernel counts {at_least} to {at_most}"
    );
    let lives = event::lives(
        &all.iter()
            .filter(|e| e["event"] == "tcp_state")
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
#[test]
fn every_loss_is_said() {
    if !live() {
        return;
    }
    let outer = kernel::Counter::new(&EVENTS);
    let tracer = Tracer::json("--transport perf --buffer 4K");
    let inner = kernel::Counter::new(&EVENTS);
    tracer.child.signal(Signal::SIGSTOP);
    traffic(500, Duration::ZERO);
    let at_least = inner.read();
    tracer.child.signal(Signal::SIGCONT);
    // The stream goes on after a loss.
    let goes_on = eventually(|| {
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        net::converse(&listener);
        thread::sleep(Duration::from_millis(300));
        events_with(&event::objects(&tracer.lines()), server).len() == 10
    });
    assert!(goes_on, "no connection is whole any more");
    let all = event::objects(&tracer.stop().ok().lines());
    let at_most = outer.read();
    let summary = event::summary(&all);
    let lost = event::number(summary, "lost.events");
    assert!(lost > 2500, "{summary}");
    let said: Vec<&Value> = all.iter().filter(|e| e["event"] == "lost").collect();
    let in_stream: u64 = said.iter().map(|e| event::number(e, "lost.count")).sum();
    assert_eq!(in_stream, lost, "{said:#?}");
    for e in said {
        let reason = event::text(e, "lost.reason");
        assert!(["ring_full", "output_failed"].contains(&reason), "{e}");
        assert!(e["cpu"].is_u64() && e["time"].is_string(), "{e}");
    }
    let sum = event::number(summary, "events.received") + lost;
    assert!(
        (at_least..=at_most).contains(&sum),
        "received and lost {sum}, the kernel counts {at_least} to {at_most}"
    );
}

/// Whose socket it is, learned from the events: never the other end's process,
/// which on loopback is on the CPU as often as not.
#[test]
fn owners_are_right_or_unknown() {
    if !live() {
        return;
    }
    let open = Source::open(None, Some(Transport::Perf), Wants::default());
    let mut source = open.expect("perf samples");
    let (_listener, server, client) = short_lived();
    source.detach();
    let mut events: Vec<Event> = Vec::new();
    source.drain(u64::MAX, &mut |event| {
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
