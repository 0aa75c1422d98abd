//! Live: outputs that can't be written: what they lost is said to the end, and
//! the log is tried again.

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use story::story;

use common::event;
use common::{Output, Run, TempDir, Tracer, binary, eventually, live, net};
use nix::sys::signal::Signal;
use socket_snoop::sandbox;

fn lines_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// So many connections, and all they are to be shown of.
fn connections(tracer: &Tracer, count: usize) {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    for _ in 0..count {
        net::converse(&listener);
    }
    let shown = tracer.until(|lines| event::lines_with(lines, server).len() >= 10 * count);
    assert!(shown, "{:?}", tracer.lines().last());
}

/// The number before these words on standard error.
fn number(out: &Output, words: &str) -> u64 {
    let found = out.stderr.lines().find_map(|line| {
        let (before, _) = line.split_once(words)?;
        before.rsplit([' ', ':']).next()?.parse().ok()
    });
    found.unwrap_or_else(|| panic!("no {words:?}: {}", out.stderr))
}

/// COUNT of all lines of a log that say a loss for this reason.
fn lost_in(log: &[String], reason: &str) -> u64 {
    let lost = log.iter().filter_map(|l| event::lost(l));
    lost.filter(|(_, r)| r == reason)
        .map(|(count, _)| count)
        .sum()
}

#[story]
fn a_full_standard_output_is_a_failure_with_a_number() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    for format in ["classic", "json"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let run = Run::quiet(&format!("--format={format} --duration=1.5"));
        let mut child = run.stdout(full).spawn();
        let mut stderr = BufReader::new(child.0.stderr.take().unwrap());
        common::until_shut(&mut stderr);
        net::converse(&listener);
        let status = child.wait(common::PATIENCE).expect("an end");
        let said: Vec<String> = stderr.lines().map(Result::unwrap).collect();
        assert_eq!(status.code(), Some(1), "{said:#?}");
        let last = said.last().unwrap();
        assert!(last.contains("ENOSPC"), "{last}");
        let (lost, _) = last.split_once(" lines are missing").expect("a number");
        let lost: u64 = lost.rsplit(' ').next().unwrap().parse().unwrap();
        // Ten events, and the sums.
        assert!(lost >= 11, "{last}");
        let sums = last.split_once("Events: ").expect("the sums").1;
        assert!(sums.contains(&format!("Lines lost: {lost} ")), "{sums}");
    }
}

/// A file that may not grow: counted, not killed by SIGXFSZ.
#[story]
fn a_limit_of_files_costs_lines() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let limited = |args: &str| {
        let mut shell = Command::new("bash");
        let script = r#"ulimit -f 16; exec "$0" "$@""#;
        shell.args(["-c", script]).arg(binary());
        Run::through(shell, args)
    };
    let log = dir.join("log");
    let tracer = limited("--log-file").arg(&log).start();
    connections(&tracer, 30);
    let out = tracer.stop().ok();
    let logged = lines_of(&log);
    let whole = logged.iter().filter(|l| event::line(l).is_some()).count();
    let shown = event::event_lines(&out.lines()).len();
    let missing = number(&out, " lines are missing in the log");
    assert_eq!(whole as u64 + missing, shown as u64);
    assert!(
        missing > 0 && out.stderr.contains("EFBIG"),
        "{}",
        out.stderr
    );
    let last = out.lines().last().unwrap().clone();
    assert!(last.ends_with(&format!(
        "Lines lost: 0 on standard output, {missing} in the log."
    )));

    let shown = dir.join("shown");
    let run = limited("--no-log --format=json").stdout_to(&shown);
    let tracer = run.start();
    let listener = net::listen(net::own_ip());
    for _ in 0..30 {
        net::converse(&listener);
    }
    let grown = || fs::metadata(&shown).unwrap().len() >= 16 << 10;
    assert!(eventually(grown));
    let out = tracer.stop();
    assert_eq!(out.code, Some(1), "{}", out.stderr);
    assert!(out.stderr.contains("EFBIG"), "{}", out.stderr);
    assert!(number(&out, " lines are missing on standard output") > 200);
}

/// A folder that is made later: the log begins with what it missed.
#[story]
fn a_log_that_could_not_be_opened_is_opened_on_sighup() {
    if !live() {
        return;
    }
    for mode in ["off", "on", "strict"] {
        let dir = TempDir::new();
        let folder = dir.join("later/on");
        let log = folder.join("log");
        let run = Run::new(&format!("--sandbox={mode} --log-file")).arg(&log);
        let tracer = run.start();
        connections(&tracer, 1);
        fs::create_dir_all(&folder).unwrap();
        tracer.child.signal(Signal::SIGHUP);
        assert!(eventually(|| log.exists()), "{mode}: {}", tracer.stderr());
        connections(&tracer, 1);
        assert!(
            eventually(|| lines_of(&log).len() > 10),
            "{:?}",
            lines_of(&log)
        );
        let out = tracer.stop().ok();
        let logged = lines_of(&log);
        let missing = lost_in(&logged, "log_write");
        assert!(event::lost(&logged[0]).is_some(), "{logged:#?}");
        let whole = logged.iter().filter(|l| event::line(l).is_some()).count();
        let shown = event::event_lines(&out.lines()).len();
        assert_eq!(whole as u64 + missing, shown as u64, "{mode}");
        assert_eq!(number(&out, " lines are missing in the log"), missing);
    }
}

/// The reader of a FIFO leaves, another one comes: without any signal.
#[story]
fn a_log_whose_reader_left_is_tried_again() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let path = dir.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Not there at first: ENXIO.
    let tracer = Run::new("--log-file").arg(&path).start();
    connections(&tracer, 2);
    let begun = Instant::now();
    // Opening waits for the writer to come.
    let mut first = BufReader::new(File::open(&path).unwrap());
    assert!(begun.elapsed() < Duration::from_secs(13));
    connections(&tracer, 1);
    let mut line = String::new();
    first.read_line(&mut line).unwrap();
    let (missed, reason) = event::lost(line.trim_end()).expect("a loss");
    assert_eq!(reason, "log_write");
    assert!(missed >= 20, "{line}");
    drop(first);
    let left = || tracer.stderr().contains("has left");
    assert!(eventually(left), "{}", tracer.stderr());
    connections(&tracer, 1);
    let second = BufReader::new(File::open(&path).unwrap());
    connections(&tracer, 1);
    let out = tracer.stop().ok();
    let logged: Vec<String> = second.lines().map(Result::unwrap).collect();
    assert!(event::lost(&logged[0]).is_some(), "{logged:#?}");
    assert!(logged.iter().filter(|l| event::line(l).is_some()).count() >= 10);
    assert!(number(&out, " lines are missing in the log") >= missed + 10);
}

/// A pipe is on no file system: Landlock stays on.
#[story]
fn standard_output_as_log_keeps_the_sandbox() {
    if !live() {
        return;
    }
    let tracer = Run::new("--log-file=/dev/stdout").start();
    connections(&tracer, 1);
    tracer.child.signal(Signal::SIGHUP);
    connections(&tracer, 1);
    let out = tracer.stop().ok();
    let offered = sandbox::offered();
    assert!(
        out.sandbox.contains(&offered.to_string()),
        "{}",
        out.sandbox
    );
    assert_eq!(out.stderr, "");
    // Each line twice.
    let events = event::event_lines(&out.lines());
    assert!(events.len() >= 40, "{}", events.len());
}

#[story]
fn a_log_named_in_another_encoding_is_an_error() {
    let name = std::ffi::OsString::from_vec(b"/tmp/\xff.log".to_vec());
    let out = Run::new("--duration=0.1").env("SOCKET_SNOOP_LOG", name.clone());
    let out = out.run();
    assert_eq!(out.code, Some(2));
    assert_eq!(out.stderr.lines().count(), 1);
    assert!(out.stderr.contains("SOCKET_SNOOP_LOG"), "{}", out.stderr);
    if live() {
        // Not asked for.
        let run = Run::quiet("--duration=0.1").env("SOCKET_SNOOP_LOG", name);
        run.run().ok();
    }
}
