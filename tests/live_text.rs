//! Live: the classic lines and the report, and process names that try to
//! break or forge them.

mod common;

use std::ffi::CString;
use std::net::SocketAddr;

use common::event::{self, Line};
use common::{OPENING, Output, Run, Tracer, live, net};
use nix::sys::prctl;

/// What the log line shows for a name: see the README's table.
fn shown(comm: &[u8]) -> String {
    let bare = |b: &u8| b.is_ascii_graphic() && !b"\"\\=".contains(b);
    if !comm.is_empty() && comm.iter().all(bare) {
        return String::from_utf8(comm.to_vec()).unwrap();
    }
    let mut text = String::from("\"");
    for &b in comm {
        match b {
            b'\n' => text += "\\n",
            b'\t' => text += "\\t",
            b'"' => text += "\\\"",
            b'\\' => text += "\\\\",
            b' '..=b'~' => text.push(b.into()),
            _ => text += &format!("\\x{b:02x}"),
        }
    }
    text + "\""
}

/// One connection made by a thread of this name.
fn named(comm: &'static [u8], server: std::net::TcpListener) {
    let work = move || {
        prctl::set_name(&CString::new(comm).unwrap()).unwrap();
        net::converse(&server);
    };
    std::thread::spawn(work).join().unwrap();
}

const NAMES: [&[u8]; 13] = [
    b"",
    b"plain-name_1.2",
    b"tmux: server",
    b"a\"b\\c",
    b"x=y",
    b"two\nlines",
    b"tab\there",
    b"\xff\xfe\x80",
    b" STATE=x",
    b"\" STATE=x",
    b" SRC=1.2.3.4:5",
    "n\u{e4}me \u{20ac}".as_bytes(),
    b"\x1b[31m\x7f\x01",
];

#[test]
fn a_hostile_name_breaks_no_line() {
    if !live() {
        return;
    }
    let classic = Run::quiet("").start();
    let json = Tracer::json("");
    for name in NAMES {
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        named(name, listener);
        classic.until(|lines| event::lines_with(lines, server).len() >= 10);
        let lines = event::lines_with(&classic.lines(), server);
        assert_eq!(lines.len(), 10, "{name:?}: {lines:#?}");
        let own = |state: &str| {
            let found: Vec<_> = lines.iter().filter(|l| l.state == state).collect();
            assert_eq!(found.len(), 1, "{state}: {lines:#?}");
            found[0].comm.clone()
        };
        assert_eq!(own("Connection Opening (SYN_SENT)"), shown(name));
        assert_eq!(own("Connection Closing (FIN_WAIT1)"), shown(name));

        json.until(|lines| event::with(&event::objects(lines), server).len() >= 10);
        let all = event::objects(&json.lines());
        let (of_client, _) = event::pair(&all, server);
        // A name that is empty may as well be absent.
        let text = of_client[0]["process.name"].as_str().unwrap_or_default();
        match std::str::from_utf8(name) {
            Ok(name) => assert_eq!(text, name),
            Err(_) => assert!(!text.is_empty() && text != "?"),
        }
    }
    classic.stop().ok();
    json.stop().ok();
}

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
    "Connection Closed",
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
        let at: Vec<_> = (0..report.len())
            .filter(|&i| report[i] == heading)
            .collect();
        assert_eq!(at.len(), 1, "{heading}: {report:#?}");
        let body: Vec<_> = report[at[0] + 1..]
            .iter()
            .take_while(|l| l.starts_with("  "))
            .collect();
        let expected: Vec<_> = own
            .iter()
            .map(|l| format!("  {}: {}", l.time, l.state))
            .collect();
        assert_eq!(body, expected.iter().collect::<Vec<_>>());
    }
    // A port that wasn't chosen yet is 0 in its line, and never a connection.
    assert!(lines.iter().any(|l| l.src == unset));
    assert!(!report(&all).contains(&format!("Connection: {unset} -> {server}")));
}

/// What follows "Connection Lifecycles:", the lines before it checked.
fn report(all: &[String]) -> Vec<String> {
    let stop = all.iter().position(|l| l == "Stopping monitoring...");
    let stop = stop.unwrap_or_else(|| panic!("no report: {all:#?}"));
    assert_eq!(all[stop + 1], "");
    assert_eq!(all[stop + 2], "Connection Lifecycles:");
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
    all[stop + 3..].to_vec()
}

#[test]
fn ipv4_lines_and_report() {
    if live() {
        lines_and_report(net::own_ip());
    }
}

#[test]
fn ipv6_lines_and_report() {
    if live() {
        lines_and_report(net::LOOPBACK6);
    }
}

/// The report holds so many connections, the newest, and says what it dropped.
#[test]
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
    // Up to three of the four places may be held by what is not shown.
    assert!((16..seen).contains(&not_held), "{summary}");
}

/// JSON on standard output and nothing else, the summary last.
#[test]
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
    assert_eq!(shown, all.len() as u64 - 1, "{summary}");
    assert!(event::number(summary, "connections.seen") >= 2);
    assert_eq!(event::number(summary, "lost.events"), 0);
    assert_eq!(event::number(summary, "lost.log_lines"), 0);
    assert!(out.stderr.starts_with(OPENING), "{}", out.stderr);
}
