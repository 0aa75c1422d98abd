//! Live: what a run comes to, told at its end, and read again.
//!
//! Contract: one test at a time. While another one starts a program, whose a new
//! connection is can't be told, and events that are not shown are not recorded.

mod common;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard};

use common::{Run, TempDir, event, full, live, net};
use story::story;

/// The right to make connections.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    live().then_some(guard)
}

/// What follows the events.
fn report(text: &str) -> &str {
    let at = text.find("Stopping monitoring...\n");
    &text[at.unwrap_or_else(|| panic!("no report: {text}"))..]
}

/// The numbers of a row of the table by ports.
fn row<'a>(report: &'a str, name: &str) -> Vec<&'a str> {
    let rows = report.lines().skip_while(|l| !l.ends_with("  BY PORT"));
    let mut rows = rows.take_while(|l| !l.is_empty());
    let row = rows.find_map(|l| l.strip_suffix(name));
    row.unwrap_or_else(|| panic!("no {name}: {report}"))
        .split_whitespace()
        .collect()
}

#[story]
fn the_report_counts_by_port_and_pairs_both_ends() {
    let Some(_alone) = alone() else { return };
    let ip = net::own_ip();
    let listener = net::listen(ip);
    let port = listener.local_addr().expect("an address").port();
    let flags = format!("--connections --lifecycles 3 host {ip}");
    let tracer = Run::quiet(&flags).start();
    for _ in 0..3 {
        net::converse(&listener);
    }
    TcpStream::connect(SocketAddr::new(ip.into(), 9)).expect_err("nobody listens");
    tracer.until(|lines| {
        let records = lines.iter().filter(|l| l.contains(" Connection: SRC="));
        records.count() == 7
    });
    let out = tracer.stop().ok();
    let report = report(&out.stdout);
    let outgoing = row(report, &format!("  outgoing {port}"));
    assert_eq!(outgoing[..2], ["3", "0"], "{report}");
    assert_ne!(outgoing[5], "-", "{report}");
    let incoming = row(report, &format!("  incoming {port}"));
    assert_eq!((incoming[0], incoming[5]), ("3", "-"), "{report}");
    let refused = row(report, "  outgoing 9: refused 1");
    assert_eq!(refused[..2], ["1", "1"], "{report}");
    // The latest: both ends of one connection, and the refused one.
    let left = "(4 earlier connections are left out; --lifecycles all tells of them)\n";
    assert!(report.contains(left), "{report}");
    let both = report.matches("Both ends of a connection:\n").count();
    let lives = report.lines().filter(|l| l.starts_with("Connection: "));
    assert_eq!((both, lives.count()), (1, 3), "{report}");
}

/// Connections that end in several ways, and one that does not.
fn traffic(ip: std::net::Ipv4Addr) -> TcpStream {
    let listener = net::listen(ip);
    for _ in 0..4 {
        net::converse(&listener);
    }
    let server = listener.local_addr().expect("an address");
    let reset = TcpStream::connect(server).expect("connect");
    let accepted = listener.accept().expect("accept").0;
    net::abort(reset);
    drop(accepted);
    let nobody = SocketAddr::new(ip.into(), 9);
    TcpStream::connect(nobody).expect_err("nobody listens");
    let open = TcpStream::connect(server).expect("connect");
    // This end stays in CLOSE_WAIT, with an owner that its last event names.
    drop(listener.accept().expect("accept").0);
    open
}

/// The report of a run and that of its recorded lines are the same, and so are the
/// lines.
#[story]
fn the_report_of_what_was_recorded_is_that_of_the_run() {
    let Some(_alone) = alone() else { return };
    let (dir, ip) = (TempDir::new(), net::own_ip());
    let path = dir.join("recorded");
    let log = path.display();
    let flags = format!("--connections --lifecycles all --log-file {log}");
    let tracer = Run::new(&format!("{flags} --log-format json host {ip}")).start();
    let open = traffic(ip);
    // All have ended but one end of the last.
    tracer.until(|lines| {
        let records = lines.iter().filter(|l| l.contains(" Connection: SRC="));
        records.count() == 12
    });
    let live = tracer.stop().ok();
    drop(open);
    let lines = |text: &str| {
        let at = text.find("Stopping monitoring...\n").expect("a report");
        let lines = text[..at].lines().filter(|l| !l.starts_with("Monitoring"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let again = Run::of(full(), &format!("--connections --lifecycles all -r {log}"))
        .run()
        .ok();
    assert_eq!(lines(&again.stdout), lines(&live.stdout));
    let said = report(&live.stdout);
    // A log has no sums of its own.
    let body = |text: &str| {
        let at = text.rfind("\nEvents: ").expect("sums");
        // Nor does it tell of others' connections.
        let others = |line: &&str| line.ends_with("nor were they found at the start)");
        let lines = text[..at].lines().filter(|line| !others(line));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = text.replace(&format!("Of what passes the filter: host {ip}\n"), "");
        text.split_once("Connections: ")
            .expect("totals")
            .1
            .to_owned()
    };
    assert_eq!(body(report(&again.stdout)), body(said));
    assert!(said.contains("Both ends of a connection:\n"), "{said}");
    assert!(said.contains("1 refused"), "{said}");
    assert!(said.contains("still open\n"), "{said}");

    let json = Run::of(full(), &format!("--format json -r {log}"))
        .run()
        .ok();
    let recorded = fs::read_to_string(&path).expect("the log");
    let all = json.lines();
    let (sums, all) = all.split_last().expect("lines");
    assert_eq!(all, recorded.lines().collect::<Vec<_>>());
    assert_eq!(
        event::number(
            &event::objects(std::slice::from_ref(sums))[0],
            "connections.open"
        ),
        1
    );
}
