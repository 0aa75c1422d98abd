//! Start, report, signals, formats, the log, and what a run leaves behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::common::event;
use crate::common::{OPENING, Run, TempDir, Tracer, eventually, net};
use crate::lives::{both_closed, programs};
use crate::suite::{Done, Variant, retransmitted, say, with_mounts};

/// The opening line comes, alone; says how long that took.
pub fn start() -> Done {
    for _ in 0..2 {
        let began = Instant::now();
        let mut child = Run::quiet("").spawn();
        let out = child.0.stdout.take().expect("piped");
        let mut first = String::new();
        BufReader::new(out).read_line(&mut first).expect("read");
        let ms = began.elapsed().as_millis();
        if first.is_empty() {
            let err = child.0.stderr.take().expect("piped");
            let why = std::io::read_to_string(err).unwrap_or_default();
            panic!("it ended with {:?}: {why}", child.0.wait());
        }
        assert_eq!(first.trim_end(), format!("{OPENING} No log is written."));
        say(&format!("info attached after {ms} ms"));
    }
    Ok(())
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

/// The states listed for a connection in the report.
fn section(lines: &[String], local: SocketAddr, peer: SocketAddr) -> Vec<String> {
    let heading = format!("Connection: {local} -> {peer}");
    let (_, body) = event::section(lines, &heading);
    body.into_iter()
        .map(|l| {
            let (time, state) = l.split_at(event::TIME_LEN);
            assert!(event::is_time(time), "{l}");
            state.strip_prefix(": ").expect(l).to_owned()
        })
        .collect()
}

/// Whether the way to the events tells of the peer's FIN.
fn tells_time_wait() -> bool {
    let variant = Variant::here();
    variant.way() != "perf" && !variant.has("nobtf")
}

/// A signal ends the run well, with both ends' whole lives in the report; the
/// half-filled first event belongs to its connection.
fn ends_well(signal: Signal) -> Done {
    for ip in [net::own_ip().into(), net::LOOPBACK6] {
        let listener = net::listen(ip);
        let server = listener.local_addr().unwrap();
        let tracer = Run::quiet("").start();
        let before = retransmitted();
        let client = net::converse(&listener);
        let again = retransmitted() - before;
        let out = tracer.stop_by(signal).ok();
        let lines = out.lines();
        let shown = event::lines_with(&lines, server).len() - again as usize;
        assert!((9..=10).contains(&shown), "{shown} lines: {lines:#?}");
        let report = event::report(&lines);
        let mut expected = CLIENT;
        if !tells_time_wait() {
            expected[4] = "Connection Closed";
        }
        assert_eq!(section(report, client, server), expected);
        assert_eq!(section(report, server, client), SERVER);
        let last = lines.last().unwrap();
        assert!(last.ends_with(" 0 lost."), "{last}");
        let received = format!("Events: {} received, ", 10 + again);
        assert!(last.starts_with(&received), "{last}");
        assert_eq!(without_notes(&out.stderr), "");
    }
    Ok(())
}

/// Ctrl-C.
pub fn sigint() -> Done {
    ends_well(Signal::SIGINT)
}

/// kill.
pub fn sigterm() -> Done {
    ends_well(Signal::SIGTERM)
}

/// Standard output is JSON only, its last object the summary.
pub fn json() -> Done {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Tracer::json("");
    let before = retransmitted();
    net::converse(&listener);
    let again = retransmitted() - before;
    tracer.until(|lines| both_closed(lines, server));
    let out = tracer.stop().ok();
    assert!(
        without_notes(&out.stderr).starts_with(OPENING),
        "{}",
        out.stderr
    );
    let all = event::objects(&out.lines());
    let summary = event::summary(&all);
    let received = event::number(summary, "events.received");
    assert_eq!(received, 10 + again, "{summary}");
    assert_eq!(event::number(summary, "connections.seen"), 2, "{summary}");
    for key in ["connections.not_held", "lost.events", "lost.log_lines"] {
        assert_eq!(event::number(summary, key), 0, "{summary}");
    }
    let shown = event::number(summary, "events.shown");
    let records = event::number(summary, "connections.shown");
    assert_eq!(shown + records, all.len() as u64 - 1, "{summary}");
    assert_eq!(records, 2, "{summary}");
    for e in &all {
        event::nanos(e);
    }
    Ok(())
}

fn read(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(text.is_empty() || text.ends_with('\n'), "unfinished line");
    text.lines().map(str::to_owned).collect()
}

/// The log on tmpfs holds the console's event lines.
pub fn log() -> Done {
    let dir = TempDir::new();
    let log = dir.join("new.log");
    let listener = net::listen(net::own_ip());
    let tracer = Run::new("--log-file").arg(&log).start();
    net::converse(&listener);
    let lines = tracer.stop().ok().lines();
    let opening = format!("{OPENING} Logs will be written to {}", log.display());
    assert_eq!(lines[0], opening);
    let logged = read(&log);
    assert!(logged.len() >= 9, "{logged:#?}");
    assert_eq!(logged, event::event_lines(&lines));
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    Ok(())
}

/// SIGHUP reopens the log.
pub fn log_sighup() -> Done {
    let dir = TempDir::new();
    let (log, old) = (dir.join("the.log"), dir.join("the.log.1"));
    let listener = net::listen(net::own_ip());
    let tracer = Run::new("--log-file").arg(&log).start();
    net::converse(&listener);
    assert!(eventually(|| read(&log).len() >= 9), "{:#?}", read(&log));
    fs::rename(&log, &old).unwrap();
    tracer.child.signal(Signal::SIGHUP);
    assert!(eventually(|| log.exists()), "no new log after SIGHUP");
    net::converse(&listener);
    let lines = tracer.stop().ok().lines();
    let (before, after) = (read(&old), read(&log));
    assert!(before.len() >= 9 && after.len() >= 9);
    assert_eq!([before, after].concat(), event::event_lines(&lines));
    Ok(())
}

/// No mount is made that others can see, and no program stays loaded.
pub fn nothing_left() -> Done {
    let mounts = || {
        with_mounts(|| fs::read_to_string("/proc/1/mountinfo").expect("the mounts of process 1"))
    };
    let before = mounts();
    assert!(!before.contains(" - tracefs "), "{before}");
    // Those of the check before are freed after a grace period.
    eventually(|| programs().is_empty());
    assert_eq!(programs(), Vec::<String>::new(), "loaded before");
    let tracer = Tracer::json("");
    let none = Variant::here().way() == "perf";
    assert_eq!(programs().is_empty(), none, "{:?}", programs());
    assert_eq!(mounts(), before, "while it runs");
    tracer.stop().ok();
    assert_eq!(mounts(), before, "after it ran");
    // Freed after a grace period.
    eventually(|| programs().is_empty());
    assert_eq!(programs(), Vec::<String>::new(), "loaded after");
    Ok(())
}

/// Standard error without the notes on how this host is traced.
fn without_notes(stderr: &str) -> String {
    let lines = stderr.lines();
    lines
        .filter(|line| !line.starts_with("socket-snoop: note: "))
        .map(|line| format!("{line}\n"))
        .collect()
}
