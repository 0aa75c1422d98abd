//! Live: the classic lines and the report.

mod common;

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use story::story;

use common::event::{self, Line};
use common::{OPENING, Output, Run, Tracer, live, net};

/// Runs one connection under the classic format and stops.
fn one_connection(ip: impl Into<std::net::IpAddr>) -> (Output, SocketAddr, SocketAddr) {
    let listener = net::listen(ip);
    let server = listener.local_addr().unwrap();
    let tracer = Run::quiet("").start();
    let client = net::converse(&listener);
    tracer.until(|lines| event::lines_with(lines, server).len() >= 10);
    (tracer.stop().ok(), client, server)
}

const CLIENT: [&str; 5] = [
    "Connection Opening (SYN_SENT)",
    "Connection Established",
    "Connection Closing (FIN_WAIT1)",
    "Connection Closing (FIN_WAIT2)",
    "Connection Closed (TIME_WAIT)",
];

const SERVER: [&str; 5] = [
    "Connection Opening (SYN_RECV)",
    "Connection Established",
    "Connection Closing (CLOSE_WAIT)",
    "Connection Closing (LAST_ACK)",
    "Connection Closed",
];

/// The parts of the output: opening, events, report.
fn lines_and_report(ip: impl Into<std::net::IpAddr>) {
    let (out, client, server) = one_connection(ip);
    let all = out.lines();
    assert_eq!(all[0], format!("{OPENING} No log is written."));
    let lines = event::lines_with(&all, server);
    let unset = SocketAddr::new(client.ip(), 0);
    for (local, peer, states) in [(client, server, CLIENT), (server, client, SERVER)] {
        let mine = |l: &&Line| l.dst == peer && (l.src == local || l.src == unset);
        let own: Vec<_> = lines.iter().filter(mine).collect();
        let got: Vec<_> = own.iter().map(|l| l.state.as_str()).collect();
        assert_eq!(got, states, "{local} -> {peer}");
        assert!(own.iter().all(|l| l.kind == "State Change"));

        // The report has the same times, and one connection for all five.
        let report = report(&all);
        let heading = format!("Connection: {local} -> {peer}");
        let (_, body) = event::section(&report, &heading);
        let expected: Vec<_> = own
            .iter()
            .map(|l| format!("{}: {}", l.time, l.state))
            .collect();
        assert_eq!(body, expected);
    }
    // A port that wasn't chosen yet is 0 in its line, and never a connection.
    assert!(lines.iter().any(|l| l.src == unset));
    assert!(!report(&all).contains(&format!("Connection: {unset} -> {server}")));
}

/// What follows "Connection Lifecycles:", the lines before it checked.
fn report(all: &[String]) -> Vec<String> {
    let report = event::report(all);
    let last = all.last().unwrap();
    let numbers: Vec<u64> = last
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect();
    let [received, shown, lost] = numbers[..] else {
        panic!("no sums: {last:?}");
    };
    let expected = format!("Events: {received} received, {shown} shown, {lost} lost.");
    assert_eq!(*last, expected);
    assert!(received >= shown && shown >= 10);
    assert_eq!(lost, 0);
    report.to_vec()
}

#[story]
fn ipv4_lines_and_report() {
    if live() {
        lines_and_report(net::own_ip());
    }
}

#[story]
fn ipv6_lines_and_report() {
    if live() {
        lines_and_report(net::LOOPBACK6);
    }
}

/// The report holds so many connections, the newest, and says what it dropped.
#[story]
fn the_history_is_bounded() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let classic = Run::quiet("--history 4").start();
    let json = Tracer::json("--history 4");
    for _ in 0..10 {
        net::converse(&listener);
    }
    classic.until(|lines| event::lines_with(lines, server).len() >= 100);
    let all = classic.stop().ok().lines();
    let report = report(&all);
    let held = report
        .iter()
        .filter(|l| l.starts_with("Connection: "))
        .count();
    assert!((1..=4).contains(&held), "{report:#?}");
    let said = report
        .iter()
        .find(|l| l.contains("held") && !l.starts_with("Connection"));
    let said = said.unwrap_or_else(|| panic!("nothing on what is not held: {report:#?}"));
    assert!(said.contains(|c: char| c.is_ascii_digit()), "{said:?}");

    json.until(|lines| event::with(&event::objects(lines), server).len() >= 100);
    let all = event::objects(&json.stop().ok().lines());
    let summary = event::summary(&all);
    // Other tests' listeners are seen, too, but no report would show them.
    let seen = event::number(summary, "connections.seen");
    let not_held = event::number(summary, "connections.not_held");
    assert!(seen >= 20, "{summary}");
    assert!((16..seen).contains(&not_held), "{summary}");
}

/// Connections on loopback, all open at once, then closed in order.
fn open_at_once(ip: Ipv4Addr, count: usize, opened: impl FnOnce(SocketAddr)) -> SocketAddr {
    let listener = net::listen(ip);
    let server = listener.local_addr().unwrap();
    let pairs: Vec<_> = (0..count)
        .map(|_| {
            let client = TcpStream::connect(server).unwrap();
            (client, listener.accept().unwrap().0)
        })
        .collect();
    opened(server);
    for (client, accepted) in pairs {
        client.shutdown(Shutdown::Write).unwrap();
        net::drain(accepted);
        net::drain(client);
    }
    server
}

/// What is open needs no place in the history, and is whole at its end.
#[story]
fn what_is_open_is_held_whatever_the_history() {
    if !live() {
        return;
    }
    const PAIRS: usize = 300;
    // Of this test's address alone: another's on the host may stay open.
    let ip = net::own_ip();
    let tracer = Tracer::json(&format!("--history 4 host {ip}"));
    let server = open_at_once(ip, PAIRS, |_| {});
    let count = |lines: &[String]| event::records(&event::objects(lines), server).len();
    tracer.until(|lines| count(lines) >= 2 * PAIRS);
    let all = event::objects(&tracer.stop().ok().lines());
    let records = event::records(&all, server);
    assert_eq!(records.len(), 2 * PAIRS);
    for record in &records {
        assert!(record["connection.duration_ns"].is_u64(), "{record}");
        assert_ne!(record["connection.direction"], "unknown", "{record}");
    }
    for life in event::lives(&event::with(&all, server)) {
        assert_eq!(life.len(), 5, "{life:#?}");
    }
    let summary = event::summary(&all);
    assert_eq!(event::number(summary, "connections.open"), 0, "{summary}");
    assert_eq!(event::number(summary, "lost.connections"), 0, "{summary}");
}

/// What finds no room is said at once, and turns nobody out.
#[story]
fn too_many_open_connections_are_a_loss() {
    if !live() {
        return;
    }
    const PAIRS: usize = 20;
    let ip = net::own_ip();
    let flags = format!("--connections-max 16 --no-snapshot host {ip}");
    let classic = Run::quiet(&flags).start();
    let tracer = Tracer::json(&flags);
    let lost = |line: &String| event::lost(line).is_some_and(|(_, why)| why == "connections_full");
    let server = open_at_once(ip, PAIRS, |_| {
        // While they are open.
        assert!(classic.until(|lines| lines.iter().any(lost)));
    });
    tracer.until(|lines| event::with(&event::objects(lines), server).len() >= 10 * PAIRS);
    let all = event::objects(&tracer.stop().ok().lines());
    let summary = event::summary(&all);
    let refused_connections = event::number(summary, "lost.connections");
    let said = all
        .iter()
        .filter(|e| e["lost.reason"] == "connections_full");
    let told: u64 = said.map(|e| event::number(e, "lost.count")).sum();
    assert_eq!(told, refused_connections, "{summary}");
    assert!(refused_connections >= 2 * PAIRS as u64 - 16, "{summary}");
    assert_eq!(event::number(summary, "connections.open"), 0, "{summary}");
    // Every event is shown all the same; those with a place are whole.
    let events = event::with(&all, server);
    assert_eq!(events.len(), 10 * PAIRS);
    let (held, strays): (Vec<_>, Vec<_>) = events
        .into_iter()
        .partition(|e| e.get("socket.id").is_some());
    assert!(strays.len() as u64 >= 5 * (2 * PAIRS as u64 - 16));
    for life in event::lives(&held) {
        assert_eq!(life.len(), 5, "{life:#?}");
    }
    for record in event::records(&all, server) {
        assert!(record["connection.duration_ns"].is_u64(), "{record}");
    }
    let lines = classic.stop().ok().lines();
    let said = "more connections found no room; --connections-max";
    assert!(lines.iter().any(|l| l.contains(said)), "{lines:#?}");
}

/// JSON on standard output and nothing else, the summary last.
#[story]
fn json_is_all_of_standard_output() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Tracer::json("");
    net::converse(&listener);
    tracer.until(|lines| event::with(&event::objects(lines), server).len() >= 10);
    let out = tracer.stop().ok();
    let all = event::objects(&out.lines());
    let summary = event::summary(&all);
    assert!(event::number(summary, "events.received") >= 10);
    let shown = event::number(summary, "events.shown");
    let records = event::number(summary, "connections.shown");
    assert_eq!(shown + records, all.len() as u64 - 1, "{summary}");
    assert!(records >= 2, "{summary}");
    assert!(event::number(summary, "connections.seen") >= 2);
    assert_eq!(event::number(summary, "lost.events"), 0);
    assert_eq!(event::number(summary, "lost.log_lines"), 0);
    let mut said = out.stderr.lines();
    let opening = said.find(|l| !l.starts_with("socket-snoop: note: "));
    assert!(
        opening.is_some_and(|l| l.starts_with(OPENING)),
        "{}",
        out.stderr
    );
}
