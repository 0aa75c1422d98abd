//! Live: the flags that choose what is shown.

mod common;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{self, Command};
use story::story;

use common::event::{self, Value};
use common::net::{self, Netns};
use common::{Tracer, eventually, live, skip};

/// Runs two connections under a filter, one to each listener; the shown
/// events of both servers when the unfiltered tracer beside has seen all.
fn filtered(args: &str, ips: [IpAddr; 2]) -> (Vec<Value>, [SocketAddr; 2], [SocketAddr; 2]) {
    let listeners = ips.map(net::listen);
    let servers = listeners.each_ref().map(|l| l.local_addr().unwrap());
    let ports = servers.map(|s| s.port().to_string());
    let args = args
        .replace("PORT0", &ports[0])
        .replace("IP0", &ips[0].to_string());
    let tracer = Tracer::json(&args);
    let clients = listeners.each_ref().map(net::converse);
    let all = settled(tracer, &servers);
    (all, clients, servers)
}

/// What the tracer has shown of these servers when it is stopped; at its stop
/// it drains what happened before.
fn settled(tracer: Tracer, servers: &[SocketAddr]) -> Vec<Value> {
    let all = event::objects(&tracer.stop().ok().lines());
    let own = |e: &Value| {
        servers
            .iter()
            .any(|s| !event::with(std::slice::from_ref(e), *s).is_empty())
    };
    let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(own);
    assert!(others.iter().any(|e| e["event.name"] == "summary"));
    own
}

fn all_transitions(events: &[Value]) -> Vec<Vec<String>> {
    event::lives(events)
        .iter()
        .map(|l| event::transitions(l))
        .collect()
}

fn own_ips() -> [IpAddr; 2] {
    [net::own_ip().into(), net::own_ip().into()]
}

/// The local address: only the server's own socket has it.
#[story]
fn by_source_address() {
    if !live() {
        return;
    }
    let (shown, _, servers) = filtered("--src-ip IP0", own_ips());
    assert!(
        shown.iter().all(|e| event::local(e) == servers[0]),
        "{shown:#?}"
    );
    assert_eq!(all_transitions(&shown), [event::SERVER]);
}

/// The peer's address: only the client's socket has it.
#[story]
fn by_destination_address() {
    if !live() {
        return;
    }
    let (shown, _, servers) = filtered("--dst-ip IP0", own_ips());
    assert!(
        shown.iter().all(|e| event::peer(e) == servers[0]),
        "{shown:#?}"
    );
    assert_eq!(all_transitions(&shown), [event::CLIENT]);
}

/// An IPv6 address means IPv6 only, in any of its spellings.
#[story]
fn by_ipv6_address() {
    if !live() {
        return;
    }
    for spelling in ["::1", "0:0:0:0:0:0:0:1"] {
        let ips = [net::LOOPBACK6, net::own_ip().into()];
        for flag in ["--src-ip", "--dst-ip"] {
            let (shown, _, servers) = filtered(&format!("{flag}={spelling}"), ips);
            assert_eq!(
                event::with(&shown, servers[0]).len(),
                10,
                "{flag} {spelling}"
            );
            assert_eq!(
                event::with(&shown, servers[1]).len(),
                0,
                "{flag} {spelling}"
            );
        }
    }
}

/// A mapped address is the IPv4 address it maps.
#[story]
fn by_mapped_address() {
    if !live() {
        return;
    }
    let (shown, _, servers) = filtered("--dst-ip=::ffff:IP0", own_ips());
    assert_eq!(all_transitions(&shown), [event::CLIENT]);
    assert_eq!(event::with(&shown, servers[0]).len(), 5);
}

#[story]
fn by_destination_port() {
    if !live() {
        return;
    }
    let (shown, _, servers) = filtered("--dst-port PORT0", own_ips());
    assert!(
        shown.iter().all(|e| event::peer(e) == servers[0]),
        "{shown:#?}"
    );
    assert_eq!(all_transitions(&shown), [event::CLIENT]);
}

#[story]
fn by_source_port_of_a_server() {
    if !live() {
        return;
    }
    let (shown, _, servers) = filtered("--src-port PORT0", own_ips());
    assert!(
        shown.iter().all(|e| event::local(e) == servers[0]),
        "{shown:#?}"
    );
    assert_eq!(all_transitions(&shown), [event::SERVER]);
}

/// The client's first event has no local port yet; it belongs to the
/// connection nevertheless. In a namespace of its own the client can have
/// one port only, so the filter can name it.
#[story]
fn by_source_port_of_a_client() {
    if !live() {
        return;
    }
    let netns = match Netns::new() {
        Ok(netns) => netns,
        Err(e) => return skip(&format!("no network namespace: {e}")),
    };
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    let listener = netns.run(|| net::listen(std::net::Ipv4Addr::LOCALHOST));
    let server = listener.local_addr().unwrap();
    let port = if server.port() == 45_777 {
        45_778
    } else {
        45_777
    };
    netns
        .run(move || std::fs::write(range, format!("{port} {port}")))
        .expect("a port range of one");
    let tracer = Tracer::json(&format!("--src-port {port}"));
    let client = netns.run(move || net::converse(&listener));
    assert_eq!(client.port(), port);
    let shown = settled(tracer, &[server]);
    assert_eq!(all_transitions(&shown), [event::CLIENT], "{shown:#?}");
    // A connection at another port is not shown, its first event neither.
    let (other, _, _) = filtered(&format!("--src-port {port}"), own_ips());
    assert_eq!(other, [] as [Value; 0]);
}

/// Several flags must all hold.
#[story]
fn flags_together() {
    if !live() {
        return;
    }
    let (shown, _, _) = filtered("--dst-ip IP0 --dst-port PORT0", own_ips());
    assert_eq!(all_transitions(&shown), [event::CLIENT]);
    let (shown, _, _) = filtered("--dst-ip IP0 --dst-port 1", own_ips());
    assert_eq!(shown, [] as [Value; 0]);
}

#[story]
fn active_only_shows_what_gets_established() {
    if !live() {
        return;
    }
    let (shown, clients, servers) = filtered("--active-only", own_ips());
    assert!(
        shown.iter().all(|e| e["tcp.state.new"] == "ESTABLISHED"),
        "{shown:#?}"
    );
    let mut locals: Vec<_> = shown.iter().map(event::local).collect();
    let mut expected = [clients, servers].concat();
    locals.sort();
    expected.sort();
    assert_eq!(locals, expected);
}

/// The connections of one process, from their first event to their last, also
/// while it can't be told whose they are; and not another one's.
#[story]
fn by_process() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Tracer::json(&format!("--pid {}", process::id()));
    let beside = Tracer::json("");
    net::converse(&listener);
    let script = format!("exec 3<>/dev/tcp/{}/{}", server.ip(), server.port());
    let mut other = Command::new("bash");
    other.args(["-c", &script]);
    if !net::output(other).is_ok_and(|out| out.status.success()) {
        return skip("no bash to make another process's connection");
    }
    net::drain(listener.accept().unwrap().0);
    assert!(eventually(|| {
        event::with(&event::objects(&beside.lines()), server).len() >= 20
    }));
    beside.stop().ok();
    let shown = settled(tracer, &[server]);
    let own = |e: &&Value| e["process.pid"] == process::id();
    assert!(
        shown.iter().all(|e| own(&e) || e["process.pid"].is_null()),
        "{shown:#?}"
    );
    let lives = event::lives(&shown);
    assert!(lives.iter().all(|life| life.iter().any(|e| own(&e))));
    let transitions = all_transitions(&shown);
    assert_eq!(transitions.len(), 3, "{shown:#?}");
    let of_clients = transitions.iter().filter(|t| **t == event::CLIENT);
    assert_eq!(of_clients.count(), 1, "{shown:#?}");
    let first = |life: &Vec<String>| life.first().is_some_and(|t| t.starts_with("LISTEN"));
    assert_eq!(transitions.iter().filter(|t| first(t)).count(), 2);
}

/// What a filter hides still feeds the connection it belongs to.
#[story]
fn a_hidden_event_feeds_its_connection() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = common::Run::quiet("--active-only").start();
    let stream = TcpStream::connect(server).unwrap();
    let client = stream.local_addr().unwrap();
    drop(stream);
    net::drain(listener.accept().unwrap().0);
    tracer.until(|lines| event::lines_with(lines, server).len() >= 2);
    let lines = tracer.stop().ok().lines();
    let heading = format!("Connection: {client} -> {server}");
    assert!(lines.contains(&heading), "{lines:#?}");
}
