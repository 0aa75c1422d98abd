//! Live: the time of an event is that of its moment, whatever the clocks here
//! are.

mod common;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use common::{Output, Run, binary, event, live, net, skip};

/// Starts the program through unshare(1) in a time namespace with these
/// offsets; `None`, with the reason said, where there can't be one.
fn in_time_ns(offsets: &str) -> Option<Command> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.arg("--time").args(offsets.split(' ')).arg("--");
        command
    };
    let mut probe = unshare();
    probe.arg("true").stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        skip("unshare(1) can't make a time namespace");
        return None;
    }
    let mut command = unshare();
    command.arg(binary());
    Some(command)
}

/// A conversation, once the tracer that ends after its server's five events is
/// attached; what it said of it, and when it was.
fn trace(command: Command, way: &str) -> (Output, SocketAddr, [u64; 2]) {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let args = format!("--src-port {} --count 5 {way}", server.port());
    let tracer = Run::through(command, &args)
        .arg("--no-log")
        .arg("--format=json")
        .start();
    let before = net::now();
    net::converse(&listener);
    let after = net::now();
    (tracer.finish(common::PATIENCE), server, [before, after])
}

/// In another time namespace, days off in both directions, by programs and by
/// samples.
#[test]
fn another_time_namespace_changes_no_times() {
    if !live() {
        return;
    }
    for (offsets, way) in [
        ("--monotonic 100000", "--transport tracepoint"),
        ("--monotonic 100000 --boottime 7", "--transport perf"),
        ("--monotonic -100", "--transport tracepoint"),
        ("--boottime 100000", "--transport btf"),
    ] {
        let Some(command) = in_time_ns(offsets) else {
            return;
        };
        let (out, server, [before, after]) = trace(command, way);
        let all = event::objects(&out.ok().lines());
        let mine = event::with(&all, server);
        assert_eq!(mine.len(), 5, "{offsets}: {all:#?}");
        for event in &mine {
            let time = event::nanos(event);
            // Reading two clocks takes a moment, too.
            let slack = 1_000_000;
            let fits = (before - slack..after + slack).contains(&time);
            assert!(fits, "{offsets}: {before} {time} {after}");
        }
    }
}

/// A process that can't know how far off its clock is does not start.
#[test]
fn a_time_namespace_that_says_nothing_is_refused() {
    if !live() {
        return;
    }
    if in_time_ns("--mount --monotonic 100000").is_none() {
        return;
    }
    let hide = "mount --bind /dev/null /proc/$$/timens_offsets && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--time", "--mount", "--monotonic", "100000", "--"]);
    command.args(["sh", "-c", hide, "sh"]).arg(binary());
    let out = Run::through(command, "--no-log --duration 1").run();
    assert_eq!((out.code, out.stdout.as_str()), (Some(4), ""), "{out:?}");
    assert_eq!(out.stderr.lines().count(), 1, "{out:?}");
    assert!(out.stderr.contains("timens_offsets"), "{out:?}");
}
