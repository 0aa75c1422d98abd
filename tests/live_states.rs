//! Live: connections on loopback and between namespaces give exactly the
//! expected transitions, tuples, owners and times.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process;
use std::time::Duration;
use story::story;

use common::event::{self, CLIENT, SERVER, Value};
use common::net::{self, Netns};
use common::{Run, Tracer, live, skip, wait};
use nix::sys::signal::Signal;
use nix::unistd::gettid;

/// Stops the tracer when all ten events of the connections with these servers
/// were shown.
fn collect(tracer: Tracer, servers: &[SocketAddr]) -> Vec<Value> {
    tracer.until(|lines| {
        let all = event::objects(lines);
        servers.iter().all(|s| event::with(&all, *s).len() >= 10)
    });
    event::objects(&tracer.stop().ok().lines())
}

/// Client's and server's life, complete and with the right tuples.
fn check(all: &[Value], client: SocketAddr, server: SocketAddr) -> (Vec<Value>, Vec<Value>) {
    let (of_client, of_server) = event::pair(all, server);
    assert_eq!(event::transitions(&of_client), CLIENT);
    assert_eq!(event::transitions(&of_server), SERVER);
    for (life, local, peer) in [(&of_client, client, server), (&of_server, server, client)] {
        for e in life {
            let wire = if local.is_ipv4() { "ipv4" } else { "ipv6" };
            assert_eq!(e["network.type"], wire, "{e}");
            assert_eq!(e["network.transport"], "tcp", "{e}");
            assert_eq!(event::peer(e), peer, "{e}");
            assert_eq!(event::local(e).ip(), local.ip(), "{e}");
            let unset = event::text(e, "tcp.state.new") == "SYN_SENT";
            if unset {
                assert!(e.get("network.local.port").is_none(), "{e}");
            } else {
                assert_eq!(event::local(e), local, "{e}");
            }
            assert!(e["cpu.logical_number"].is_u64(), "{e}");
            assert!(!e.as_object().unwrap().values().any(Value::is_null), "{e}");
            assert_eq!(e["socket.id"], life[0]["socket.id"]);
        }
    }
    assert_ne!(of_client[0]["socket.id"], of_server[0]["socket.id"]);
    (of_client, of_server)
}

/// The events that are always in process context name this very thread.
fn check_owner(of_client: &[Value], of_server: &[Value]) {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let thread = nix::sys::prctl::get_name().unwrap();
    for e in [&of_client[0], &of_client[2], &of_server[3]] {
        assert_eq!(e["process.pid"], process::id(), "{e}");
        assert_eq!(e["process.thread.id"], gettid().as_raw(), "{e}");
        assert_eq!(e["process.name"], name.trim_end(), "{e}");
        assert_eq!(e["thread.name"], thread.to_str().unwrap(), "{e}");
        assert_eq!(e["user.id"], 0, "{e}");
    }
}

fn loopback(ip: impl Into<IpAddr>) {
    if !live() {
        return;
    }
    let listener = net::listen(ip);
    let server = listener.local_addr().unwrap();
    let tracer = Tracer::json("");
    let client = net::converse(&listener);
    let all = collect(tracer, &[server]);
    let (of_client, of_server) = check(&all, client, server);
    check_owner(&of_client, &of_server);
}

#[story]
fn ipv4_on_loopback() {
    loopback(net::own_ip());
}

#[story]
fn ipv6_on_loopback() {
    loopback(net::LOOPBACK6);
}

/// An AF_INET6 client to a mapped address talks IPv4, and is shown so.
#[story]
fn a_mapped_client_is_ipv4() {
    if !live() {
        return;
    }
    let ip = net::own_ip();
    let listener = net::listen(ip);
    let server = listener.local_addr().unwrap();
    let mapped = SocketAddr::new(ip.to_ipv6_mapped().into(), server.port());
    let tracer = Tracer::json("");
    let client = net::converse_at(&listener, mapped);
    let all = collect(tracer, &[server]);
    check(&all, unmapped(client), server);
}

/// The accepted socket of a dual-stack listener talks IPv4, and is shown so.
#[story]
fn a_dual_stack_server_is_ipv4_to_an_ipv4_client() {
    if !live() {
        return;
    }
    let listener = net::listen(Ipv6Addr::UNSPECIFIED);
    let port = listener.local_addr().unwrap().port();
    let server = SocketAddr::new(net::own_ip().into(), port);
    let tracer = Tracer::json("");
    let client = net::converse_at(&listener, server);
    let all = collect(tracer, &[server]);
    check(&all, client, server);
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The tracer stands outside of both namespaces and sees both sides.
#[story]
fn between_two_namespaces() {
    if !live() {
        return;
    }
    let (here, there) = match Netns::joined() {
        Ok(pair) => pair,
        Err(e) => return skip(&format!("no network namespaces: {e}")),
    };
    let tracer = Tracer::json("");
    for ip in ["10.77.0.2", "fd77::2"] {
        let ip: IpAddr = ip.parse().unwrap();
        let whole = net::not_forking();
        let listener = there.run(move || net::listen(ip));
        let server = listener.local_addr().unwrap();
        let accepting = std::thread::spawn(move || net::drain(listener.accept().unwrap().0));
        let client = here.run(move || {
            let stream = std::net::TcpStream::connect(server).expect("connect over veth");
            stream.local_addr().unwrap()
        });
        accepting.join().unwrap();
        drop(whole);
        tracer.until(|lines| event::with(&event::objects(lines), server).len() >= 10);
        let so_far = event::objects(&tracer.lines());
        let (of_client, of_server) = check(&so_far, client, server);
        // SYN_SENT and FIN_WAIT1 are the client's own doing, LAST_ACK the server's.
        for e in [&of_client[0], &of_client[2], &of_server[3]] {
            assert_eq!(e["process.pid"], process::id(), "{e}");
        }
    }
    tracer.stop().ok();
}

/// A listener without a peer is noise: shown with --all only.
#[story]
fn listeners_are_shown_with_all_only() {
    if !live() {
        return;
    }
    let every = Tracer::json("--all");
    let usual = Tracer::json("");
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    net::converse(&listener);
    drop(listener);
    let shown = collect(every, &[server]);
    let own: Vec<String> = event::with(&shown, server)
        .iter()
        .filter(|e| event::text(e, "tcp.state.old") == "CLOSE" || e["tcp.state.new"] == "CLOSE")
        .filter(|e| e.get("network.peer.port").is_none_or(|p| p == 0))
        .map(event::transition)
        .collect();
    assert_eq!(own, ["CLOSE>LISTEN", "LISTEN>CLOSE"]);
    let shown = collect(usual, &[server]);
    let listening =
        |e: &Value| e["tcp.state.new"] == "LISTEN" || event::transition(e) == "LISTEN>CLOSE";
    assert!(!event::with(&shown, server).iter().any(listening));
}

/// Times are those of the events, not of the printing: the tracer is asleep
/// while the connection happens, and wakes half a second later.
#[story]
fn times_are_the_kernels() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Tracer::json("");
    tracer.child.signal(Signal::SIGSTOP);
    let before = net::now();
    let client = std::net::TcpStream::connect(server).unwrap();
    let connected = net::now();
    drop(client);
    net::drain(listener.accept().unwrap().0);
    wait::pass(
        "the printing is later than the events",
        Duration::from_millis(500),
    );
    tracer.child.signal(Signal::SIGCONT);
    let all = collect(tracer, &[server]);
    let (of_client, of_server) = event::pair(&all, server);
    // The clock of the events is brought to UTC with an error of its own.
    const SLACK: u64 = 1_000_000;
    for e in of_client[..2].iter().chain(&of_server[..2]) {
        let time = event::nanos(e);
        assert!(
            (before - SLACK..connected + SLACK).contains(&time),
            "{before} {connected} {e}"
        );
    }
    let end = event::nanos(&of_client[4]);
    assert!(
        end < connected + 400_000_000,
        "{end} is the printing's time"
    );
    for life in [of_client, of_server] {
        assert!(life.is_sorted_by_key(event::nanos), "{life:?}");
    }
}

/// Classic lines have local time, by TZ.
#[story]
fn classic_time_is_local() {
    if !live() {
        return;
    }
    // POSIX: west is positive, so this is five and a half hours ahead of UTC.
    let mut zones = vec![("IST-05:30", 19_800_000), ("UTC0", 0)];
    if std::path::Path::new("/usr/share/zoneinfo/Asia/Kolkata").exists() {
        zones.push(("Asia/Kolkata", 19_800_000));
    }
    for (zone, ahead) in zones {
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        let tracer = Run::quiet("").env("TZ", zone).start();
        let before = net::now() / 1_000_000;
        net::converse(&listener);
        let after = net::now() / 1_000_000;
        tracer.until(|lines| event::lines_with(lines, server).len() >= 10);
        let lines = event::lines_with(&tracer.stop().ok().lines(), server);
        assert_eq!(lines.len(), 10);
        for line in lines {
            let utc = event::classic_millis(&line.time) - ahead;
            assert!((before - 1..=after + 1).contains(&utc), "{zone} {line:?}");
        }
    }
}

/// A refused connection goes straight back to CLOSE.
#[story]
fn a_refused_connection() {
    if !live() {
        return;
    }
    let ip = net::own_ip();
    let port = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
    let tracer = Tracer::json("");
    std::net::TcpStream::connect(port).expect_err("nobody listens");
    tracer.until(|lines| event::with(&event::objects(lines), port).len() >= 2);
    let all = event::objects(&tracer.stop().ok().lines());
    let lives = event::lives(&event::with(&all, port));
    assert_eq!(lives.len(), 1);
    assert_eq!(
        event::transitions(&lives[0]),
        ["CLOSE>SYN_SENT", "SYN_SENT>CLOSE"]
    );
    assert_eq!(event::local(&lives[0][1]).ip(), Ipv4Addr::LOCALHOST);
}
