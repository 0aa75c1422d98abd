//! Live: the time of an event is that of its moment, whatever the clocks here
//! are.

mod common;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use story::story;

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
#[story]
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
#[story]
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

/// Lines have the local time of `TZ`, which no file has to be opened for later.
#[story]
fn lines_have_the_zone_of_date() {
    if !live() {
        return;
    }
    for zone in ["EST5EDT", "Asia/Kolkata", "AAA-14:30BBB"] {
        let listener = net::listen(net::own_ip());
        let args = format!(
            "--src-port {} --count 5",
            listener.local_addr().unwrap().port()
        );
        let tracer = Run::quiet(&args).env("TZ", zone).start();
        let date = || {
            let mut date = Command::new("date");
            let date = date
                .arg("+%b %d %Y %H:%M:%S")
                .env("TZ", zone)
                .env("LC_ALL", "C");
            let out = date.output().expect("date(1)").stdout;
            String::from_utf8(out).expect("text").trim_end().to_owned()
        };
        let before = date();
        net::converse(&listener);
        let after = date();
        let lines = tracer.finish(common::PATIENCE).ok().lines();
        let times = lines.iter().filter(|line| line.contains(" State Change: "));
        let times: Vec<&str> = times.map(|line| &line[..after.len()]).collect();
        assert_eq!(times.len(), 5, "{lines:#?}");
        for time in times {
            // No more than two seconds have passed, or date(1) was slow.
            assert!(
                (&before[..]..=&after[..]).contains(&time),
                "{zone}: {before} {time} {after}"
            );
        }
    }
}
