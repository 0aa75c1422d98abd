//! Live: figures for Prometheus: what they come to, and who reads them.
//!
//! Contract: the readers are Debian's promtool and node_exporter.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use story::story;

use common::event::{self, Value};
use common::{Guard, PATIENCE, Run, TempDir, Tracer, eventually, live, net, skip, wait};

/// Values by their names with labels.
type Figures = BTreeMap<String, f64>;

fn read(path: &Path) -> Figures {
    let text = fs::read_to_string(path).expect("the file of figures");
    let mut all = Figures::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let before = all.insert(name.to_string(), value.parse().expect("a number"));
        assert_eq!(before, None, "{name} twice");
    }
    assert!(text.ends_with('\n'));
    all
}

/// The sum of all whose names have all of these parts.
fn sum(all: &Figures, parts: &[&str]) -> f64 {
    let is = |name: &str| parts.iter().all(|part| name.contains(part));
    all.iter()
        .filter(|(name, _)| is(name))
        .map(|(_, n)| n)
        .sum()
}

fn start(path: &Path, args: &str) -> Tracer {
    let run = Run::quiet(&format!("--format=json --metrics-interval=0.2 {args}"));
    run.arg("--metrics").arg(path).start()
}

/// What goes up only, from one to the next.
fn only_up(before: &Figures, after: &Figures) {
    for (name, value) in before.iter().filter(|(name, _)| !name.contains("_open{")) {
        assert!(after.get(name) >= Some(value), "{name}: {value}");
    }
}

/// They are those of the lines, in every mode.
#[story]
fn figures_are_those_of_the_lines() {
    if !live() {
        return;
    }
    for mode in ["off", "on", "strict"] {
        let dir = TempDir::new();
        let path = dir.join("snoop.prom");
        let server = net::listen(net::own_ip());
        let place = server.local_addr().expect("its address");
        // Nobody listens there any more.
        let closed = net::listen(place.ip());
        let refused = closed.local_addr().expect("its address");
        drop(closed);
        let filter = format!("host {}", place.ip());
        let tracer = {
            let run = Run::quiet(&format!(
                "--format=json --metrics-interval=0.2 --sandbox={mode}"
            ));
            run.arg("--metrics").arg(&path).arg(filter).start()
        };
        let begun = read(&path);
        assert_eq!(sum(&begun, &["_connections_"]), 0.0, "{begun:?}");
        let port = format!("port=\"{}\"", place.port());
        let open = TcpStream::connect(place).expect("connect");
        let accepted = server.accept().expect("accept").0;
        let opened = |all: &Figures| sum(all, &["connections_open{", &port]);
        assert!(
            eventually(|| opened(&read(&path)) == 2.0),
            "{:?}",
            read(&path)
        );
        let mut before = read(&path);
        for round in 1..=3u16 {
            net::converse(&server);
            assert!(TcpStream::connect(refused).is_err());
            let ended = f64::from(2 * round);
            let orderly = |all: &Figures| sum(all, &["closed_total", "cause=\"closed_by_"]);
            assert!(eventually(|| orderly(&read(&path)) == ended), "{mode}");
            let now = read(&path);
            only_up(&before, &now);
            before = now;
        }
        drop((open, accepted));
        let over = |lines: &[String]| {
            let records = event::records(&event::objects(lines), place);
            records.len() == 8
        };
        assert!(tracer.until(over), "{:?}", tracer.lines());
        let out = tracer.stop().ok();
        let all = read(&path);
        only_up(&before, &all);
        let objects = event::objects(&out.lines());
        let summary = event::summary(&objects);
        let records: Vec<&Value> = objects
            .iter()
            .filter(|e| e["event.name"] == "connection")
            .collect();
        let total = |key: &str| -> u64 { records.iter().filter_map(|e| e[key].as_u64()).sum() };
        for (parts, wanted) in [
            (
                &["opened_total"][..],
                event::number(summary, "connections.opened"),
            ),
            (
                &["established_total"],
                event::number(summary, "connections.established"),
            ),
            (&["closed_total"], records.len() as u64),
            (&["closed_total", "cause=\"refused\""], 3),
            (&["sent_bytes_total"], total("tcp.bytes.sent")),
            (&["received_bytes_total"], total("tcp.bytes.received")),
            (&["connect_seconds_count"], 4),
            (&["opened_total", "direction=\"outgoing\"", &port], 4),
            (&["opened_total", "direction=\"incoming\"", &port], 4),
            (&["connections_open{"], 0),
        ] {
            assert_eq!(sum(&all, parts), wanted as f64, "{mode} {parts:?} {all:#?}");
        }
        assert!(total("tcp.bytes.sent") > 0);
        let own: Vec<_> = all
            .keys()
            .filter(|name| name.contains("direction="))
            .collect();
        let ports = [port, format!("port=\"{}\"", refused.port())];
        assert!(
            own.iter()
                .all(|n| ports.iter().any(|p| n.contains(p.as_str()))),
            "{own:?}"
        );
        assert!(!out.stderr.contains("socket-snoop: "), "{}", out.stderr);
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1);
    }
}

#[story]
fn promtool_and_node_exporter_read_them() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let path = dir.join("snoop.prom");
    let tracer = start(&path, "--sandbox=strict");
    let server = net::listen(net::own_ip());
    let port = server.local_addr().expect("its address").port();
    // A process whose name is none: a quote, a backslash, a line's end, no UTF-8.
    let script = format!(
        "open(\"/proc/self/comm\", \"wb\").write(b'a\"b\\\\c\\xff')\nimport socket\n\
         socket.create_connection((\"{}\", {port})).recv(1)",
        server.local_addr().expect("its address").ip()
    );
    let mut command = Command::new("python3");
    command.args(["-c", &script]);
    let forking = net::forking();
    let mut child = Guard(command.spawn().expect("python3"));
    drop(forking);
    drop(server.accept().expect("its connection"));
    child.wait(PATIENCE).expect("it ends");
    let name = r#"comm="a\"b\\c?""#;
    assert!(
        eventually(|| sum(&read(&path), &["closed_total", name]) > 0.0),
        "{:#?}",
        read(&path)
    );

    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(&path).expect("the figures"))
        .output();
    match checked {
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success() && said.is_empty(), "{said}");
        }
        Err(e) => skip(&format!("promtool (package prometheus): {e}")),
    }

    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let at = free.local_addr().expect("its address");
    drop(free);
    let mut command = Command::new("prometheus-node-exporter");
    command.args(["--collector.disable-defaults", "--collector.textfile"]);
    command.arg(format!(
        "--collector.textfile.directory={}",
        dir.path().display()
    ));
    command.arg(format!("--web.listen-address={at}"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let forking = net::forking();
    let exporter = command.spawn();
    drop(forking);
    let _exporter = match exporter {
        Ok(child) => Guard(child),
        Err(e) => return skip(&format!("prometheus-node-exporter: {e}")),
    };
    let mut page = String::new();
    wait::until("a page of node_exporter", || {
        page.clear();
        let Ok(mut stream) = TcpStream::connect(at) else {
            return false;
        };
        let asked = stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n");
        asked
            .and_then(|()| stream.read_to_string(&mut page))
            .is_ok()
    });
    for part in [
        "socket_snoop_connections_opened_total{",
        name,
        "# TYPE socket_snoop_connect_seconds histogram",
        "node_textfile_scrape_error 0",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    tracer.stop().ok();
}

/// One line, before anything is attached.
#[story]
fn what_cannot_be_written_is_said_at_once() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let missing = dir.join("none/snoop.prom");
    for path in [
        "/dev/null",
        "/proc/self/fd/1",
        missing.to_str().expect("a path"),
        "/",
    ] {
        let out = Run::new("--no-log --metrics").arg(path).run();
        assert_eq!((out.code, out.stdout.as_str()), (Some(2), ""), "{path}");
        assert_eq!(out.stderr.lines().count(), 1, "{}", out.stderr);
        let begin = format!("socket-snoop: cannot write the metrics {path}: ");
        assert!(out.stderr.starts_with(&begin), "{}", out.stderr);
    }
    let out = Run::quiet("--metrics-interval=5").run();
    assert_eq!(out.code, Some(2), "{}", out.stderr);
}

/// It is said once, counted, and goes on when it can.
#[story]
fn a_later_failure_is_said_once() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let path = dir.join("snoop.prom");
    let tracer = start(&path, "--sandbox=on");
    let beside = dir.join("snoop.prom.tmp");
    // Where a folder is, no file can be made. (It may be there for a moment.)
    wait::until("a folder in its place", || fs::create_dir(&beside).is_ok());
    let said = || tracer.stderr().matches("cannot write the metrics").count();
    assert!(eventually(|| said() == 1), "{}", tracer.stderr());
    let old = fs::read(&path).expect("the old ones");
    fs::remove_dir(&beside).expect("remove the folder");
    let failures = || sum(&read(&path), &["metrics_write_failures_total"]);
    assert!(eventually(|| failures() > 0.0));
    assert_ne!(fs::read(&path).expect("the new ones"), old);
    assert_eq!(said(), 1);
    let out = tracer.stop().ok();
    let said = out.stderr.matches("cannot write the metrics").count();
    assert_eq!(said, 1, "{}", out.stderr);
}
