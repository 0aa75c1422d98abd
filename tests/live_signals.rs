//! Live: how a run ends (signals, time, count, a reader that leaves) and how
//! the log is reopened.

mod common;

use std::fs;
use std::time::{Duration, Instant};
use story::story;

use common::event;
use common::{Run, TempDir, Tracer, eventually, first_line, live, net, wait};
use nix::sys::signal::Signal;

/// A signal gives the report and success.
fn ends_well(signal: Signal) {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Run::quiet("").start();
    net::converse(&listener);
    // What was not yet printed is printed before the end.
    let asked = Instant::now();
    let out = tracer.stop_by(signal).ok();
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    let lines = out.lines();
    assert_eq!(event::lines_with(&lines, server).len(), 10, "{lines:#?}");
    assert!(lines.iter().any(|l| l == "Connection Lifecycles:"));
    assert_eq!(out.stderr, "");
}

#[story]
fn sigint_gives_the_report() {
    ends_well(Signal::SIGINT);
}

#[story]
fn sigterm_gives_the_report() {
    ends_well(Signal::SIGTERM);
}

#[story]
fn a_duration_ends_it() {
    if !live() {
        return;
    }
    let tracer = Run::quiet("--duration 0.7").start();
    let started = Instant::now();
    let out = tracer.finish(Duration::from_secs(5)).ok();
    let ran = started.elapsed();
    assert!((400..2000).contains(&ran.as_millis()), "{ran:?}");
    assert!(out.stdout.contains("\nConnection Lifecycles:\n"));
}

#[story]
fn a_count_ends_it_at_exactly_that_many() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    for format in ["classic", "json"] {
        let args = format!("--count 7 --format={format} --dst-ip {}", server.ip());
        let tracer = Run::quiet(&args).start();
        for _ in 0..5 {
            net::converse(&listener);
        }
        let lines = tracer.finish(Duration::from_secs(5)).ok().lines();
        let events = match format {
            "classic" => event::event_lines(&lines).len(),
            _ => {
                let mut all = event::objects(&lines);
                all.retain(|e| e["event.name"] == "tcp_state");
                all.len()
            }
        };
        assert_eq!(events, 7, "{format}: {lines:#?}");
    }
}

/// The reader leaves: a quiet success, as with `| head`.
#[story]
fn a_closed_pipe_is_a_quiet_end() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    for format in ["--format=classic", "--format=json"] {
        let mut tracer = Run::quiet(format).spawn();
        let opening = match format {
            "--format=json" => first_line(tracer.0.stderr.as_mut().unwrap()),
            _ => first_line(tracer.0.stdout.as_mut().unwrap()),
        };
        assert!(opening.starts_with(common::OPENING), "{opening:?}");
        drop(tracer.0.stdout.take());
        net::converse(&listener);
        let status = tracer
            .wait(Duration::from_secs(5))
            .expect("it ends by itself");
        assert_eq!(status.code(), Some(0), "{format}");
        let mut rest = String::new();
        let mut stderr = tracer.0.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
        assert_eq!(common::split(&rest).rest, "", "{format}");
    }
}

/// Nearly what a pipe takes; a line more may not fit.
const PIPE: u64 = 60_000;

/// timeout(1) sends its signal twice: to its child, and to the group that it is in.
#[story]
fn two_signals_at_once_are_one() {
    if !live() {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for _ in 0..5 {
            let tracer = Tracer::json("");
            tracer.child.signal(signal);
            tracer.child.signal(signal);
            let out = tracer.finish(common::PATIENCE);
            assert_eq!(out.code, Some(0), "{out:?}");
            assert!(out.stdout.contains("\"event.name\":\"summary\""), "{out:?}");
        }
    }
}

/// Standard output is a full pipe that nobody reads: the second Ctrl-C ends it.
#[story]
fn a_second_sigint_ends_a_stuck_one() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let mut tracer = Run::quiet("").spawn();
    let opening = first_line(tracer.0.stdout.as_mut().unwrap());
    assert!(opening.starts_with(common::OPENING));
    // 2,000 lines are four times what a pipe takes.
    for _ in 0..200 {
        net::converse(&listener);
    }
    wait::until("a full pipe", || tracer.written() >= PIPE);
    assert_eq!(tracer.wait(Duration::ZERO), None, "it waits for its reader");
    tracer.signal(Signal::SIGINT);
    if tracer.wait(Duration::from_millis(300)).is_none() {
        tracer.signal(Signal::SIGINT);
    }
    let ended = tracer.wait(Duration::from_secs(1));
    assert!(ended.is_some(), "the second SIGINT has no effect");
}

/// A stuck reader costs events, which are said; it isn't the end.
#[story]
fn a_slow_reader_gets_everything_that_is_not_said_to_be_lost() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Run::quiet("--format=json").spawn();
    let mut tracer = tracer;
    first_line(tracer.0.stderr.as_mut().unwrap());
    for _ in 0..300 {
        net::converse(&listener);
    }
    wait::until("a full pipe", || tracer.written() >= PIPE);
    let mut stdout = tracer.0.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut all).unwrap();
        all
    });
    wait::settled("what it wrote", || tracer.written());
    tracer.signal(Signal::SIGINT);
    assert_eq!(tracer.wait(common::PATIENCE).unwrap().code(), Some(0));
    let all = reader.join().unwrap();
    let all = event::objects(&all.lines().collect::<Vec<_>>());
    let lost = event::number(event::summary(&all), "lost.events");
    assert_eq!(lost, 0, "the rings hold that much");
    assert_eq!(event::with(&all, server).len(), 3000);
}

/// logrotate: rename, SIGHUP; the old file rests, nothing is lost.
#[story]
fn sighup_reopens_the_log() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let (log, old) = (dir.join("snoop.log"), dir.join("snoop.log.1"));
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Run::new("--log-file").arg(&log).start();
    let lines_in = |path: &std::path::Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let shown = |tracer: &Tracer, n| {
        tracer.until(|lines| event::lines_with(lines, server).len() >= n);
    };
    net::converse(&listener);
    shown(&tracer, 10);
    fs::rename(&log, &old).unwrap();
    net::converse(&listener);
    shown(&tracer, 20);
    tracer.child.signal(Signal::SIGHUP);
    assert!(eventually(|| log.exists()), "no new log after SIGHUP");
    net::converse(&listener);
    shown(&tracer, 30);
    let rested = eventually(|| event::lines_with(&lines_in(&log), server).len() >= 10);
    assert!(rested, "the new log gets no lines");
    let size = fs::metadata(&old).unwrap().len();
    net::converse(&listener);
    let console = tracer.stop().ok().lines();
    assert_eq!(
        fs::metadata(&old).unwrap().len(),
        size,
        "the old log is still written"
    );
    let mut logged = lines_in(&old);
    logged.extend(lines_in(&log));
    assert_eq!(event::event_lines(&logged), event::event_lines(&console));
    assert_eq!(event::lines_with(&logged, server).len(), 40);
}

/// SIGHUP without a log is no end.
#[story]
fn sighup_without_a_log_is_nothing() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Run::quiet("").start();
    tracer.child.signal(Signal::SIGHUP);
    net::converse(&listener);
    tracer.until(|lines| event::lines_with(lines, server).len() >= 10);
    let out = tracer.stop().ok();
    assert_eq!(event::lines_with(&out.lines(), server).len(), 10);
}
