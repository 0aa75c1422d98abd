//! Live: retransmissions made in namespaces of the test's own, answered by
//! nobody, and those that the kernel could not even send.

mod common;

use socket_snoop::btf;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;
use story::story;

use common::event::{self, Value};
use common::net::{self, Netns};
use common::{Run, Tracer, kernel, live, skip};

/// A hardware address that no one has.
const NOBODY: &str = "02:00:00:00:00:77";

fn joined() -> Option<(Netns, Netns)> {
    if !live() {
        return None;
    }
    Netns::joined()
        .inspect_err(|e| skip(&format!("no network namespaces: {e}")))
        .ok()
}

fn of_kind(all: &[Value], server: SocketAddr, kind: &str) -> Vec<Value> {
    let mut own = event::with(all, server);
    own.retain(|e| e["event.name"] == kind);
    own
}

fn until(tracer: &Tracer, server: SocketAddr, kind: &str, count: usize) {
    tracer.until(|lines| of_kind(&event::objects(lines), server, kind).len() >= count);
}

/// A connection over veth, client in the first namespace.
fn connected(here: &Netns, there: &Netns, ip: &str) -> (TcpStream, TcpStream, SocketAddr) {
    let ip: IpAddr = ip.parse().unwrap();
    let listener = there.run(move || net::listen(ip));
    let server = listener.local_addr().unwrap();
    let client = here.run(move || TcpStream::connect(server).expect("connect over veth"));
    (client, listener.accept().unwrap().0, server)
}

/// SYNs to a neighbour that is not there.
#[story]
fn a_syn_that_nobody_answers() {
    let Some((here, _there)) = joined() else {
        return;
    };
    here.ip(&format!(
        "neigh add 10.77.0.9 lladdr {NOBODY} nud permanent dev v0"
    ));
    here.ip(&format!(
        "neigh add fd77::9 lladdr {NOBODY} nud permanent dev v0"
    ));
    let tracer = Tracer::json("");
    let classic = Run::quiet("").start();
    let servers: [SocketAddr; 2] = ["10.77.0.9:4477", "[fd77::9]:4477"].map(|s| s.parse().unwrap());
    let attempts = servers.map(|server| {
        here.run(move || {
            thread::spawn(move || TcpStream::connect_timeout(&server, Duration::from_secs(3)))
        })
    });
    for attempt in attempts {
        attempt.join().unwrap().expect_err("nobody answers");
    }
    for server in servers {
        until(&tracer, server, "tcp_retransmit", 1);
    }
    let all = event::objects(&tracer.stop().ok().lines());
    let lines = classic.stop().ok().lines();
    for server in servers {
        let again = of_kind(&all, server, "tcp_retransmit");
        assert!(!again.is_empty(), "no retransmission to {server}");
        let first = &event::with(&all, server)[0];
        for e in &again {
            assert_eq!(e["tcp.state.current"], "SYN_SENT", "{e}");
            assert_eq!(e["tcp.retransmit.kind"], "syn", "{e}");
            assert_eq!(e["socket.id"], first["socket.id"], "{e}");
            assert_eq!(event::peer(e), server);
            assert_ne!(event::local(e).port(), 0, "{e}");
            assert!(e.get("error.type").is_none(), "{e}");
            assert!(e.get("tcp.state.old").is_none(), "{e}");
        }
        let mut own = event::lines_with(&lines, server);
        own.retain(|l| l.kind == "Retransmit");
        assert_eq!(own.len(), again.len());
        for (line, e) in own.iter().zip(&again) {
            assert_eq!(line.state, "Connection Opening (SYN_SENT)");
            assert_eq!(line.src, event::local(e));
        }
    }
}

/// Data lost on the way is sent again, and the connection goes on when the
/// way is open again.
#[story]
fn data_that_gets_lost() {
    let Some((here, there)) = joined() else {
        return;
    };
    let tracer = Tracer::json("");
    let (mut client, accepted, server) = connected(&here, &there, "10.77.0.2");
    here.ip(&format!(
        "neigh replace 10.77.0.2 lladdr {NOBODY} nud permanent dev v0"
    ));
    let counters = || ["TCPTimeouts", "TCPLossProbes"].map(|name| here.tcp_ext(name));
    let before = counters();
    client.write_all(b"into the void").unwrap();
    until(&tracer, server, "tcp_retransmit", 3);
    let after = counters();
    here.ip("neigh del 10.77.0.2 dev v0");
    let address = client.local_addr().unwrap();
    drop(client);
    net::drain(accepted);
    tracer.until(|lines| {
        let own = event::with(&event::objects(lines), server);
        own.iter()
            .filter(|e| e["event.name"] == "tcp_state")
            .count()
            >= 10
    });
    let all = event::objects(&tracer.stop().ok().lines());
    let again = of_kind(&all, server, "tcp_retransmit");
    assert!(again.len() >= 3, "{again:#?}");
    let summary = event::summary(&all);
    let told = summary["events.transport"] != "perf" && Path::new(btf::PATH).exists();
    if told {
        // A probe first, then by the timer, more of which may have come since.
        assert_eq!(after[1] - before[1], 1, "{again:#?}");
        assert!(after[0] - before[0] >= 2, "{again:#?}");
        assert_eq!(
            again[0]["tcp.retransmit.kind"], "tail_loss_probe",
            "{again:#?}"
        );
        for e in &again[1..3] {
            assert_eq!(e["tcp.retransmit.kind"], "timeout", "{e}");
        }
    }
    let (of_client, of_server) = event::pair(&all, server);
    assert_eq!(event::transitions(&of_client), event::CLIENT);
    assert_eq!(event::transitions(&of_server), event::SERVER);
    assert_eq!(again[0]["tcp.state.current"], "ESTABLISHED");
    assert_eq!(event::local(&again[0]), address);
    assert_eq!(again[0]["socket.id"], of_client[0]["socket.id"]);
}

/// Where the kernel's record has `err`, a retransmission that failed is no
/// retransmission. The way to the peer is damaged before data is sent, and
/// once more when it has been.
fn failed(
    name: &str,
    before: impl Fn(&Netns) -> Result<(), String>,
    after: impl Fn(&Netns) -> Result<(), String>,
) {
    let Some((here, there)) = joined() else {
        return;
    };
    if !kernel::tracefs("events/tcp/tcp_retransmit_skb/format").contains(" err;") {
        return skip("the kernel's tcp_retransmit_skb has no err (Linux 6.17 has)");
    }
    let tracer = Tracer::json("");
    let classic = Run::quiet("").start();
    let (mut client, accepted, server) = connected(&here, &there, "10.77.0.2");
    if let Err(why) = before(&here) {
        net::abort(client);
        net::abort(accepted);
        return skip(&why);
    }
    client.write_all(&[7; 20_000]).unwrap();
    after(&here).expect("after the data");
    until(&tracer, server, "tcp_retransmit_failed", 1);
    net::abort(client);
    net::abort(accepted);
    let all = event::objects(&tracer.stop().ok().lines());
    let lines = classic.stop().ok().lines();
    let again = of_kind(&all, server, "tcp_retransmit_failed");
    assert!(!again.is_empty(), "no failed retransmission: {all:#?}");
    for e in &again {
        assert_eq!(e["error.type"], name, "{e}");
        assert_eq!(e["tcp.state.current"], "ESTABLISHED", "{e}");
    }
    let mut own = event::lines_with(&lines, server);
    own.retain(|l| l.kind == "Retransmit Failed");
    assert!(own.len() >= again.len(), "{lines:#?}");
    assert!(own.iter().all(|l| l.error.as_deref() == Some(name)));
}

/// The original still waits in the device's queue.
#[story]
fn a_retransmission_while_the_original_is_queued() {
    let slow = "qdisc add dev v0 root tbf rate 8kbit burst 2000 latency 60s";
    let slow_down = |here: &Netns| {
        let result = here.tool("tc", slow);
        result.map_err(|why| format!("no token bucket: {why}"))
    };
    failed("EBUSY", slow_down, |_| Ok(()));
}

/// There is no way to the peer any more.
#[story]
fn a_retransmission_without_a_route() {
    let lose = format!("neigh replace 10.77.0.2 lladdr {NOBODY} nud permanent dev v0");
    let lose = |here: &Netns| here.tool("ip", &lose);
    let cut = |here: &Netns| here.tool("ip", "link set v0 down");
    failed("EHOSTUNREACH", lose, cut);
}
