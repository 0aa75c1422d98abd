//! Live: the log file, where it goes, what it holds, and disks that are full
//! or can't be written.

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use story::story;

use common::event::{self, Value};
use common::{OPENING, Output, Run, TempDir, Tracer, live, net, skip};
use nix::mount::{MsFlags, mount};

fn read(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "an unfinished line"
    );
    text.lines().map(str::to_owned).collect()
}

/// Runs with these and one connection to its end.
fn one_connection(run: Run) -> Output {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = run.start();
    net::converse(&listener);
    wait_for(&tracer, &server.to_string(), 10);
    tracer.stop().ok()
}

/// Waits for so many lines with this endpoint, in whatever format.
fn wait_for(tracer: &Tracer, server: &str, count: usize) {
    let (ip, port) = server.rsplit_once(':').unwrap();
    tracer.until(|lines| {
        let own = |l: &&String| l.contains(ip) && l.contains(port);
        lines.iter().filter(own).count() >= count
    });
}

#[story]
fn the_log_holds_the_consoles_lines() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let log = dir.join("new.log");
    let out = one_connection(Run::new("--log-file").arg(&log));
    let opening = format!("{OPENING} Logs will be written to {}", log.display());
    assert_eq!(out.lines()[0], opening);
    let logged = read(&log);
    assert!(logged.len() >= 10);
    assert_eq!(event::event_lines(&logged), logged, "events only");
    assert_eq!(logged, event::event_lines(&out.lines()));
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[story]
fn the_log_is_appended_to() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let log = dir.join("old.log");
    let mut options = OpenOptions::new();
    let mut old = options
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .unwrap();
    writeln!(old, "what was there").unwrap();
    drop(old);
    let out = one_connection(Run::new("--log-file").arg(&log));
    let logged = read(&log);
    assert_eq!(logged[0], "what was there");
    assert_eq!(logged[1..], event::event_lines(&out.lines()));
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "an existing log keeps its mode");
}

#[story]
fn the_log_can_hold_json() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let log = dir.join("json.log");
    let run = Run::new("--log-format json --log-file").arg(&log);
    let out = one_connection(run);
    let events = event::objects(&read(&log));
    let states = events
        .iter()
        .filter(|e| e["event.name"] == "tcp_state")
        .count();
    assert!(states >= 10);
    assert!(
        event::event_lines(&out.lines()).len() >= 10,
        "a classic console"
    );

    // And the other way round.
    let log = dir.join("classic.log");
    let run = Run::new("--format json --log-file").arg(&log);
    let out = one_connection(run);
    let mut shown = event::objects(&out.lines());
    let records = |e: &Value| e["event.name"] == "connection" || e["event.name"] == "summary";
    shown.retain(|e| !records(e));
    assert_eq!(event::event_lines(&read(&log)).len(), shown.len());
}

#[story]
fn the_environment_names_the_log_and_the_flag_beats_it() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let (by_env, by_flag) = (dir.join("env.log"), dir.join("flag.log"));
    let out = one_connection(Run::new("").env("SOCKET_SNOOP_LOG", &by_env));
    assert!(out.lines()[0].ends_with(by_env.to_str().unwrap()));
    assert_eq!(read(&by_env), event::event_lines(&out.lines()));
    fs::remove_file(&by_env).unwrap();

    let run = Run::new("--log-file").arg(&by_flag);
    let out = one_connection(run.env("SOCKET_SNOOP_LOG", &by_env));
    assert!(out.lines()[0].ends_with(by_flag.to_str().unwrap()));
    assert_eq!(read(&by_flag), event::event_lines(&out.lines()));
    assert!(!by_env.exists());

    let out = one_connection(Run::quiet("").env("SOCKET_SNOOP_LOG", &by_env));
    assert_eq!(out.lines()[0], format!("{OPENING} No log is written."));
    assert!(!by_env.exists(), "--no-log");
}

/// One line of warning, and on with the console.
#[story]
fn a_log_that_cannot_be_written_is_a_warning() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let by_flag = || Run::new("--log-file").arg(dir.join("no/such/folder.log"));
    let by_env = || Run::new("").env("SOCKET_SNOOP_LOG", dir.join("no/such/folder.log"));
    for run in [by_flag(), by_env()] {
        let out = one_connection(run.dir(dir.path()));
        assert!(event::event_lines(&out.lines()).len() >= 10);
        assert_eq!(out.stderr.lines().count(), 1, "{:?}", out.stderr);
        assert!(
            out.stderr.contains("no/such/folder.log"),
            "{:?}",
            out.stderr
        );
    }
    // It was asked for by name: no other file is written in its place.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Mounts a tmpfs of this size, in the caller's own mount namespace.
fn tmpfs(at: &Path, size: &str) {
    let options = format!("size={size}");
    let flags = MsFlags::empty();
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )
    .expect("a tmpfs");
}

/// Nothing was asked for and the default can't be written: as the original
/// does, the log goes to the current folder.
#[story]
fn the_default_log_falls_back_to_the_current_folder() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let here = dir.path().to_owned();
    let work = move || {
        // A /var/log of the test's own that nobody can write.
        let at = "/var/log";
        mount(
            Some("tmpfs"),
            at,
            Some("tmpfs"),
            MsFlags::MS_RDONLY,
            None::<&str>,
        )
        .expect("tmpfs");
        let out = one_connection(Run::new("").dir(&here));
        assert_eq!(out.stderr.lines().count(), 1, "{:?}", out.stderr);
        assert!(
            out.stderr.contains("/var/log/socket_monitor.log"),
            "{:?}",
            out.stderr
        );
        let logged = read(&here.join("socket_monitor.log"));
        assert_eq!(logged, event::event_lines(&out.lines()));
    };
    if let Err(e) = net::in_mount_ns(work) {
        skip(&format!("no mount namespace: {e}"));
    }
}

#[story]
fn the_default_log_is_in_var_log() {
    if !live() {
        return;
    }
    let work = || {
        tmpfs(Path::new("/var/log"), "1m");
        let out = one_connection(Run::new(""));
        let log = "/var/log/socket_monitor.log";
        assert_eq!(
            out.lines()[0],
            format!("{OPENING} Logs will be written to {log}")
        );
        assert_eq!(read(Path::new(log)), event::event_lines(&out.lines()));
    };
    if let Err(e) = net::in_mount_ns(work) {
        skip(&format!("no mount namespace: {e}"));
    }
}

/// A disk that fills up loses log lines, counted and said, keeps the console,
/// and goes on when there is room again.
#[story]
fn a_full_disk_costs_log_lines_only() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let disk = dir.path().to_owned();
    let work = move || {
        tmpfs(&disk, "128k");
        let (log, ballast) = (disk.join("small.log"), disk.join("ballast"));
        fs::write(&ballast, vec![0; 64 << 10]).unwrap();
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        let tracer = Run::new("--log-file").arg(&log).start();
        // 64 KiB hold some 500 lines.
        for _ in 0..100 {
            net::converse(&listener);
        }
        tracer.until(|lines| event::lines_with(lines, server).len() >= 1000);
        fs::remove_file(&ballast).unwrap();
        for _ in 0..10 {
            net::converse(&listener);
        }
        tracer.until(|lines| event::lines_with(lines, server).len() >= 1100);
        let out = tracer.stop().ok();
        let console = out.lines();
        assert_eq!(event::lines_with(&console, server).len(), 1100);
        let missing = check_partial_log(&console, &log);
        assert!(missing > 0, "the disk was not full");
        let said = |l: &str| l.contains(&missing.to_string()) && l.contains("small.log");
        assert!(
            out.stderr.lines().any(said),
            "{missing} lines are missing, and this is said: {:?}",
            out.stderr
        );
        assert!(out.stderr.lines().count() <= 4, "{:?}", out.stderr);
        // The log says itself where something is missing.
        let in_log: u64 = read(&log)
            .iter()
            .filter_map(|l| event::lost(l))
            .filter(|(_, reason)| reason == "log_write")
            .map(|(count, _)| count)
            .sum();
        assert_eq!(in_log, missing, "Lost: lines with REASON=log_write");
        let logged = console.len() as u64 - missing;
        assert!(logged >= 400, "{logged} lines logged");
    };
    if let Err(e) = net::in_mount_ns(work) {
        skip(&format!("no mount namespace: {e}"));
    }
}

/// Every line of the log is one of the console's, whole and in order, or the
/// beginning of one that was cut off by the end of the disk and stands alone;
/// how many event lines are missing.
fn check_partial_log(console: &[String], log: &Path) -> u64 {
    let event_only = |mut lines: Vec<String>| {
        lines.retain(|l| event::lost(l).is_none());
        lines
    };
    let shown = event_only(event::event_lines(console));
    let mut rest = shown.iter();
    let mut whole = 0;
    for line in event_only(read(log)) {
        if event::line(&line).is_some() {
            assert!(
                rest.any(|l| *l == line),
                "out of order or damaged: {line:?}"
            );
            whole += 1;
        } else {
            let cut = rest.any(|l| l.starts_with(&line));
            assert!(cut, "glued or damaged: {line:?}");
        }
    }
    shown.len() as u64 - whole
}

/// /dev/full fails every write: all lines are lost, none is kept from the console.
#[story]
fn a_log_that_takes_nothing() {
    if !live() {
        return;
    }
    let out = one_connection(Run::new("--log-file /dev/full"));
    let shown = event::event_lines(&out.lines());
    let events = shown.iter().filter(|l| event::line(l).is_some()).count();
    assert!(events >= 10);
    assert!(
        out.stderr.contains(&events.to_string()),
        "{events}: {:?}",
        out.stderr
    );
}
