//! Live: the whole life of a connection in one record.

mod common;

use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Instant;
use story::story;

use common::event::{self, Value};
use common::life::{
    both, causes, connected, exchange, joined, lose, read_then_close, shut_then_read, to_end,
};
use common::{Run, Tracer, live, net, skip};

/// The client closes first; what both counted is what was sent.
#[story]
fn bytes_are_those_that_were_sent() {
    if !live() {
        return;
    }
    const UP: usize = 123_457;
    const DOWN: usize = 1_048_583;
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Tracer::json("");
    let before = net::now();
    let address = exchange(&listener, (UP, DOWN), shut_then_read, read_then_close);
    let after = net::now();

    let (client, at_server) = both(tracer, server);
    for (record, local, peer, sent, received) in [
        (&client, address, server, UP, DOWN),
        (&at_server, server, address, DOWN, UP),
    ] {
        assert_eq!((event::local(record), event::peer(record)), (local, peer));
        assert_eq!(event::number(record, "tcp.bytes.sent"), sent as u64);
        assert_eq!(event::number(record, "tcp.bytes.received"), received as u64);
        assert!(event::number(record, "tcp.segments.sent") > 3, "{record}");
        assert!(event::number(record, "tcp.rtt_us") > 0, "{record}");
        assert_eq!(
            event::number(record, "process.pid"),
            u64::from(std::process::id())
        );
        // On a busy host the kernel probes with data that was not lost.
        for kind in ["syn", "synack", "failed"] {
            let key = format!("tcp.retransmits.{kind}");
            assert!(record.get(&key).is_none_or(|n| *n == 0), "{record}");
        }

        // Its time is that of its end, and its parts add up.
        let duration = event::number(record, "connection.duration_ns");
        assert!(duration < after - before, "{record}");
        let states = record["connection.states_ns"].as_object().unwrap();
        let sum: u64 = states.values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(sum, duration, "{record}");
        let start = serde_json::json!({ "time": record["connection.start"] });
        let apart = (event::nanos(&start) + duration).abs_diff(event::nanos(record));
        assert!(apart < 1_000_000, "{apart} {record}");
        assert!((before - 1_000_000..after).contains(&event::nanos(&start)));
    }
    let names = |r: &Value| -> Vec<String> {
        let states = r["connection.states_ns"].as_object().unwrap();
        states.keys().cloned().collect()
    };
    assert_eq!(
        names(&client),
        ["SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"]
    );
    assert_eq!(
        names(&at_server),
        ["SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK"]
    );
    assert_eq!(client["connection.direction"], "outgoing");
    assert_eq!(at_server["connection.direction"], "incoming");
    let connect = event::number(&client, "tcp.connect_ns");
    assert_eq!(client["connection.states_ns"]["SYN_SENT"], connect);
    assert!(at_server.get("tcp.connect_ns").is_none());
    assert_eq!(
        causes(&client, &at_server),
        ("closed_by_us".into(), "closed_by_peer".into())
    );
    assert_eq!(client["tcp.time_wait"], true);
    assert_eq!(at_server["tcp.time_wait"], false);
}

/// SYN+ACKs that got lost belong to the connection that comes of them.
#[story]
fn a_synack_sent_again_is_the_connections() {
    let Some((here, there)) = joined() else {
        return;
    };
    let tracer = Tracer::json("");
    let ip: IpAddr = "10.77.0.2".parse().unwrap();
    let listener = there.run(move || net::listen(ip));
    let server = listener.local_addr().unwrap();
    lose(&there, "10.77.0.1");
    let connecting = here.run(move || thread::spawn(move || TcpStream::connect(server).unwrap()));
    let sent_again = |e: &Value| e["event.name"] == "tcp_retransmit" && event::local(e) == server;
    tracer.until(|lines| event::objects(lines).iter().any(sent_again));
    there.ip("neigh del 10.77.0.1 dev v0");
    let mut client = connecting.join().unwrap();
    let mut accepted = listener.accept().unwrap().0;
    client.shutdown(Shutdown::Write).unwrap();
    to_end(&mut accepted);
    drop(accepted);
    to_end(&mut client);
    tracer.until(|lines| event::records(&event::objects(lines), server).len() >= 2);
    let all = event::objects(&tracer.stop().ok().lines());
    let again: Vec<&Value> = all.iter().filter(|e| sent_again(e)).collect();
    if again.is_empty() {
        return skip("SYN+ACKs sent again are not told here");
    }
    let records = event::records(&all, server);
    let incoming = |r: &&Value| r["connection.direction"] == "incoming";
    let of_server: Vec<&Value> = records.iter().filter(incoming).collect();
    assert_eq!(of_server.len(), 1, "{records:#?}");
    let count = event::number(of_server[0], "tcp.retransmits.synack");
    assert_eq!(count, again.len() as u64, "{}", of_server[0]);
    for e in again {
        assert_eq!(e["socket.id"], of_server[0]["socket.id"], "{e}");
        // What other tests have started meanwhile might be who has the listener.
        let whose = (&e["owner.source"], e["process.pid"].as_u64());
        let own = Some(u64::from(std::process::id()));
        assert!(
            whose.0 == "none" || whose.0 == "listener" && whose.1 == own,
            "{e}"
        );
        assert_eq!(e["tcp.state.current"], "SYN_RECV", "{e}");
    }
}

/// Whether the kernel lists a socket with these ends in this state.
fn listed(state: &str, (local, peer): (SocketAddr, SocketAddr)) -> bool {
    let mut ss = Command::new("ss");
    ss.args(["-Htan", "state", state])
        .args(["src", &local.to_string(), "dst", &peer.to_string()]);
    let out = net::output(ss).expect("run ss");
    assert!(out.status.success(), "{out:?}");
    !out.stdout.is_empty()
}

/// What is said of TIME_WAIT is what the kernel's list says.
#[story]
fn time_wait_is_what_the_kernel_lists() {
    if !live() {
        return;
    }
    if Command::new("ss").arg("-V").output().is_err() {
        return skip("ss of iproute2 is not installed");
    }
    let classic = Run::quiet("").start();
    let tracer = Tracer::json("");

    // In order, and the client waits: it ends in TIME_WAIT.
    let (_a, mut client, accepted, waits) = connected();
    let in_time_wait = client.local_addr().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    net::drain(accepted);
    to_end(&mut client);
    drop(client);
    assert!(listed("time-wait", (in_time_wait, waits)));
    assert!(!listed("time-wait", (waits, in_time_wait)));

    // Reset: there is none.
    let (_b, client, mut accepted, reset) = connected();
    let was_reset = client.local_addr().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    to_end(&mut accepted);
    net::abort(client);
    drop(accepted);
    assert!(!listed("time-wait", (was_reset, reset)));
    assert!(!listed("time-wait", (reset, was_reset)));

    // An orphan: it stands in FIN_WAIT2 until the peer closes, if it does.
    let (_c, client, accepted, orphans) = connected();
    let orphan = client.local_addr().unwrap();
    drop(client);
    let closed = |lines: &[String], server, count| {
        event::records(&event::objects(lines), server).len() >= count
    };
    tracer.until(|lines| closed(lines, orphans, 1));
    assert!(listed("fin-wait-2", (orphan, orphans)));
    assert!(!listed("time-wait", (orphan, orphans)));
    net::drain(accepted);
    tracer.until(|lines| closed(lines, orphans, 2));
    assert!(listed("time-wait", (orphan, orphans)));

    for server in [waits, reset, orphans] {
        tracer.until(|lines| closed(lines, server, 2));
        classic.until(|lines| {
            let lines = event::lines_with(lines, server);
            lines
                .iter()
                .filter(|l| l.state.starts_with("Connection Closed"))
                .count()
                >= 2
        });
    }
    let all = event::objects(&tracer.stop().ok().lines());
    let lines = classic.stop().ok().lines();
    let closing = |server| {
        let lines = event::lines_with(&lines, server);
        let mut states: Vec<String> = lines
            .into_iter()
            .filter(|l| l.dst == server)
            .map(|l| l.state)
            .collect();
        states.pop().unwrap()
    };
    for (server, local, expected, state) in [
        (
            waits,
            in_time_wait,
            Some(true),
            "Connection Closed (TIME_WAIT)",
        ),
        (reset, was_reset, Some(false), "Connection Closed"),
        (orphans, orphan, None, "Connection Closed"),
    ] {
        let mut said: Vec<Value> = event::with(&all, server);
        said.retain(|e| e["tcp.state.new"] == "CLOSE");
        said.extend(event::records(&all, server));
        let of = |end| said.iter().filter(move |e| event::local(e) == end);
        assert_eq!((of(local).count(), of(server).count()), (2, 2), "{said:#?}");
        for e in of(local) {
            // Our own reset is known a moment after the change only.
            let early = e["event.name"] == "tcp_state" && expected == Some(false);
            if early && e.get("tcp.time_wait").is_none() {
                continue;
            }
            assert_eq!(
                e.get("tcp.time_wait").and_then(Value::as_bool),
                expected,
                "{e}"
            );
        }
        for e in of(server) {
            assert_eq!(e["tcp.time_wait"], false, "{e}");
        }
        assert_eq!(closing(server), state, "{local}");
    }
}

/// A connection that was there before has no beginning.
#[story]
fn one_that_began_before() {
    if !live() {
        return;
    }
    let (_listener, mut client, accepted, server) = connected();
    let tracer = Tracer::json("");
    client.shutdown(Shutdown::Write).unwrap();
    net::drain(accepted);
    to_end(&mut client);
    drop(client);
    let (client, at_server) = both(tracer, server);
    for record in [&client, &at_server] {
        assert!(record.get("connection.start").is_none(), "{record}");
        assert!(record.get("connection.duration_ns").is_none(), "{record}");
        assert!(record.get("tcp.connect_ns").is_none(), "{record}");
    }
    let expected = ("closed_by_us".into(), "closed_by_peer".into());
    assert_eq!(causes(&client, &at_server), expected);
}

/// One line for each connection, and with `--closed-only` none but these.
#[story]
fn classic_records() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracers = ["", "--connections", "--closed-only"].map(|flags| Run::quiet(flags).start());
    let client = net::converse(&listener);
    let mut counts = Vec::new();
    for tracer in tracers {
        let own = |l: &&String| l.contains(&server.to_string());
        let records = |lines: &[String]| -> Vec<String> {
            let lines = lines.iter().take_while(|l| *l != "Stopping monitoring...");
            let lines = lines
                .filter(own)
                .filter(|l| l.contains(" Connection: SRC="));
            lines.cloned().collect()
        };
        let with_records = !counts.is_empty();
        tracer.until(|lines| match with_records {
            true => records(lines).len() >= 2,
            false => event::lines_with(lines, server).len() >= 10,
        });
        let all = tracer.stop().ok().lines();
        let records = records(&all);
        for record in &records {
            let (time, rest) = record.split_at(event::TIME_LEN);
            assert!(event::is_time(time), "{record}");
            let pid = std::process::id();
            let (local, peer, tail) = match rest.contains("DIRECTION=outgoing") {
                true => (client, server, "CAUSE=closed_by_us"),
                false => (server, client, "CAUSE=closed_by_peer"),
            };
            let ends = format!(" Connection: SRC={local} DST={peer} PID={pid} COMM=");
            assert!(rest.starts_with(&ends) && rest.ends_with(tail), "{record}");
            let bytes = match local == client {
                true => " SENT=5 RECEIVED=0 ",
                false => " SENT=0 RECEIVED=5 ",
            };
            assert!(
                rest.contains(bytes) && rest.contains(" RETRANSMITS=0 "),
                "{record}"
            );
        }
        let lines = all.iter().take_while(|l| *l != "Stopping monitoring...");
        counts.push((lines.filter(own).count(), records.len()));
        // The report tells of them in any case.
        let report = event::report(&all);
        let (life, states) = event::section(report, &format!("Connection: {client} -> {server}"));
        assert!(life.ends_with(" s, closed by us"), "{life}");
        assert!(life.contains(" outgoing, "), "{life}");
        assert_eq!(states.len(), 5);
    }
    assert_eq!(counts, [(10, 0), (12, 2), (2, 2)]);
}

/// `--closed-only` in JSON, and `--count`, which then counts records.
#[story]
fn json_with_records_only() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let port = server.port();
    let tracer = Tracer::json(&format!("--closed-only --count 3 --src-port {port}"));
    let started = Instant::now();
    for _ in 0..4 {
        net::converse(&listener);
    }
    let all = event::objects(&tracer.finish(common::PATIENCE).ok().lines());
    assert!(started.elapsed() < common::PATIENCE, "{all:#?}");
    assert_eq!(all.len(), 4, "{all:#?}");
    assert!(all[..3].iter().all(|r| r["event.name"] == "connection"));
    let summary = event::summary(&all);
    assert_eq!(summary["events.shown"], 0);
    assert_eq!(summary["connections.shown"], 3);
}

/// The summary counts what the records tell.
#[story]
fn the_summary_adds_up() {
    if !live() {
        return;
    }
    let ip = net::own_ip();
    let listener = net::listen(ip);
    let server = listener.local_addr().unwrap();
    let flags = format!("--dst-ip {ip}");
    let classic = Run::quiet(&flags).start();
    let tracer = Tracer::json(&flags);
    for _ in 0..3 {
        net::converse(&listener);
    }
    let open = TcpStream::connect(server).unwrap();
    let _accepted = listener.accept().unwrap();
    let reset = TcpStream::connect(server).unwrap();
    let _reset = listener.accept().unwrap();
    net::abort(reset);
    let nobody = SocketAddr::new(ip.into(), 9);
    TcpStream::connect(nobody).expect_err("nobody listens");
    tracer.until(|lines| event::records(&event::objects(lines), nobody).len() == 1);
    let all = event::objects(&tracer.stop().ok().lines());
    let lines = classic.stop().ok().lines();
    drop(open);
    let summary = event::summary(&all);
    for (key, count) in [
        ("connections.opened", 6),
        ("connections.established", 5),
        ("connections.refused", 1),
        ("connections.given_up", 0),
        ("connections.reset", 1),
        ("connections.open", 1),
        ("connections.shown", 5),
        ("tcp.retransmits.total", 0),
    ] {
        assert_eq!(event::number(summary, key), count, "{key} {summary}");
    }
    let process = &summary["busiest.processes"][0];
    assert_eq!(process["process.pid"], std::process::id(), "{summary}");
    let peer = serde_json::json!([{ "connections.count": 6, "network.peer.address": ip }]);
    assert_eq!(summary["busiest.peers"], peer);
    let said = "Connections: 6 opened, 5 established, 1 refused, 0 given up, 1 reset, 1 still open; 0 retransmissions, 0 events lost.";
    assert!(lines.iter().any(|l| l == said), "{lines:#?}");
    let peers = format!("Busiest peers: {ip} 6.");
    assert!(lines.contains(&peers), "{lines:#?}");
    let heading = format!("Connection: {} -> {server}", open_end(&all, server));
    let (life, _) = event::section(event::report(&lines), &heading);
    assert!(life.ends_with(" outgoing, still open"), "{life}");
}

/// The local end of the one connection of which there is no record.
fn open_end(all: &[Value], server: SocketAddr) -> SocketAddr {
    let ended: Vec<SocketAddr> = event::records(all, server)
        .iter()
        .map(event::local)
        .collect();
    let events = event::with(all, server);
    let ends = events.iter().map(event::local);
    let mut open = ends.filter(|e| e.port() != 0 && !ended.contains(e));
    open.next_back().expect("an open connection")
}
