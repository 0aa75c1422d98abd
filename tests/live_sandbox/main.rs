//! Live: what the program under test has given up by its opening line, as the
//! kernel tells it, and that everything it has to do still works then.
//!
//! Contract: what it can't do any more is tried out in tests/sandbox.rs. The
//! other live suites run with `--sandbox=strict`, where a call that is missing
//! in the list kills the program.

#[path = "../common/mod.rs"]
mod common;
mod users;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use story::story;

use common::{
    DENIED, Guard, OPENING, Run, SANDBOX, TempDir, Tracer, UNSEEN, binary, event, eventually,
    first_line, live, net, skip, split,
};
use nix::sys::signal::Signal;
use socket_snoop::sandbox;

const NOBODY: u32 = 65534;

/// Shows nothing: standard output, which is not read, can't fill up.
const NOTHING: &str = "--src-ip=127.255.255.254";

/// A line of /proc/PID/status.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}"))
        .trim()
        .to_owned()
}

fn caps(pid: u32, set: &str) -> u64 {
    u64::from_str_radix(&status(pid, set), 16).expect("hexadecimal")
}

const PERFMON: u64 = 1 << 38;
const SYS_ADMIN: u64 = 1 << 21;
const IPC_LOCK: u64 = 1 << 14;
const DAC_OVERRIDE: u64 = 1 << 1;

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// Whether this kernel has seccomp. (All that the tests run on do.)
fn filters() -> bool {
    sandbox::offered().seccomp.is_ok()
}

#[story]
fn strict_keeps_no_capability() {
    if !live() {
        return;
    }
    let tracer = Run::quiet("--sandbox=strict").start();
    let pid = tracer.child.pid();
    for set in SETS {
        assert_eq!(caps(pid, set), 0, "{set}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "Seccomp"), if filters() { "2" } else { "0" });
    let out = tracer.stop().ok();
    assert_eq!(out.stderr, "");
    let offered = sandbox::offered();
    let line = format!("{SANDBOX} strict: no capabilities; no new privileges; {offered}\n");
    assert_eq!(out.sandbox, line);
}

/// What is kept is said, and no more than what a ring needs.
#[story]
fn on_keeps_what_a_new_ring_needs() {
    if !live() {
        return;
    }
    // The default.
    let tracer = Run::quiet("--sandbox=on").start();
    let pid = tracer.child.pid();
    let kept = caps(pid, "CapEff");
    assert_eq!(kept & !(PERFMON | IPC_LOCK), 0, "{kept:x}");
    assert_eq!(caps(pid, "CapPrm"), kept);
    for set in ["CapInh", "CapBnd", "CapAmb"] {
        assert_eq!(caps(pid, set), 0, "{set}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "Seccomp"), if filters() { "2" } else { "0" });
    let out = tracer.stop().ok();
    assert_eq!(out.stderr, "");
    assert!(out.sandbox.starts_with(&format!("{SANDBOX} on: ")));
    for (bit, name) in [(PERFMON, "CAP_PERFMON"), (IPC_LOCK, "CAP_IPC_LOCK")] {
        assert_eq!(
            out.sandbox.contains(name),
            kept & bit != 0,
            "{}",
            out.sandbox
        );
    }
}

#[story]
fn off_changes_nothing() {
    if !live() {
        return;
    }
    let tracer = Run::quiet("--sandbox=off").start();
    let pid = tracer.child.pid();
    let own = std::process::id();
    for line in SETS.iter().chain(&["NoNewPrivs", "Seccomp"]) {
        assert_eq!(status(pid, line), status(own, line), "{line}");
    }
    let out = tracer.stop().ok();
    assert_eq!(out.sandbox, format!("{SANDBOX}: off\n"));
}

/// One line, before the opening line, whatever the mode.
#[story]
fn the_line_comes_first() {
    if !live() {
        return;
    }
    for mode in ["off", "on", "strict"] {
        let run = Run::new(&format!(
            "--no-log --format=json --duration=0.1 {NOTHING} --sandbox={mode}"
        ));
        let mut child = run.spawn();
        let mut text = String::new();
        let mut stderr = child.0.stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        let other = |line: &&str| !line.contains(DENIED) && !line.starts_with(UNSEEN);
        let mut lines = text.lines().filter(other);
        assert!(lines.next().unwrap().starts_with(SANDBOX), "{text}");
        assert!(lines.next().unwrap().starts_with(OPENING), "{text}");
        assert_eq!(text.matches(SANDBOX).count(), 1, "{text}");
    }
}

fn lines_in(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Rotates the log of a tracer to each of these files; every event shown is in
/// one of them.
fn rotate(tracer: Tracer, log: &Path, files: &[PathBuf]) {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let mut shown = 0;
    for old in files {
        net::converse(&listener);
        shown += 10;
        tracer.until(|lines| event::lines_with(lines, server).len() >= shown);
        fs::rename(log, old).unwrap();
        tracer.child.signal(Signal::SIGHUP);
        assert!(
            eventually(|| log.exists()),
            "no new log: {}",
            tracer.stderr()
        );
    }
    net::converse(&listener);
    shown += 10;
    tracer.until(|lines| event::lines_with(lines, server).len() >= shown);
    let out = tracer.stop().ok();
    assert_eq!(out.stderr, "");
    let mut logged = Vec::new();
    for file in files.iter().map(PathBuf::as_path).chain([log]) {
        logged.extend(lines_in(file));
    }
    assert_eq!(
        event::event_lines(&logged),
        event::event_lines(&out.lines())
    );
    assert_eq!(event::lines_with(&logged, server).len(), shown);
}

#[story]
fn the_log_is_rotated_behind_shut_doors() {
    if !live() {
        return;
    }
    for mode in ["off", "on", "strict"] {
        let dir = TempDir::new();
        let log = dir.join("snoop.log");
        let args = format!("--sandbox={mode} --log-file");
        let tracer = Run::new(&args).arg(&log).start();
        rotate(tracer, &log, &[dir.join("1"), dir.join("2")]);
    }
}

/// The folder is the current one.
#[story]
fn a_relative_log_is_rotated() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let run = Run::new("--log-file=snoop.log").dir(dir.path());
    rotate(run.start(), &dir.join("snoop.log"), &[dir.join("1")]);
}

/// The log's name stays a symbolic link into another folder.
#[story]
fn a_linked_log_is_rotated() {
    if !live() {
        return;
    }
    for mode in ["on", "strict"] {
        let (dir, other) = (TempDir::new(), TempDir::new());
        let (link, real) = (dir.join("link.log"), other.join("real.log"));
        symlink(&real, &link).unwrap();
        let args = format!("--sandbox={mode} --log-file");
        let tracer = Run::new(&args).arg(&link).start();
        rotate(tracer, &real, &[other.join("1")]);
    }
}

/// Root may write to another user's folder only by a capability, which is kept
/// for it, but not by a strict sandbox: then the old file stays in use.
#[story]
fn a_log_in_another_users_folder() {
    if !live() {
        return;
    }
    let folder = || {
        let dir = TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        dir
    };
    let dir = folder();
    let log = dir.join("snoop.log");
    let tracer = Run::new("--sandbox=on --log-file").arg(&log).start();
    let kept = caps(tracer.child.pid(), "CapEff");
    assert_eq!(kept & DAC_OVERRIDE, DAC_OVERRIDE, "{kept:x}");
    rotate(tracer, &log, &[dir.join("1")]);

    let dir = folder();
    let log = dir.join("snoop.log");
    let tracer = Run::new("--sandbox=strict --log-file").arg(&log).start();
    fs::rename(&log, dir.join("1")).unwrap();
    tracer.child.signal(Signal::SIGHUP);
    let said = |t: &Tracer| t.stderr().contains("EACCES");
    assert!(eventually(|| said(&tracer)), "{}", tracer.stderr());
    let out = tracer.stop().ok();
    assert!(out.stderr.contains("going on with the old file"), "{out:?}");
}

/// Copies the program for `nobody`, with these capabilities in the file.
fn with_file_caps(dir: &TempDir, caps: &str) -> Option<PathBuf> {
    let copy = dir.join("socket-snoop");
    fs::copy(binary(), &copy).expect("copy the program");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let set = Command::new("setcap").arg(caps).arg(&copy).status();
    set.is_ok_and(|s| s.success()).then_some(copy)
}

/// As any user, by the capabilities in the file, as docs/running.md says.
#[story]
fn nobody_traces_by_file_capabilities() {
    if !live() {
        return;
    }
    let caps_of_page = "cap_bpf,cap_perfmon,cap_dac_read_search+ep";
    assert!(include_str!("../../docs/running.md").contains(caps_of_page));
    for caps_given in [caps_of_page, "cap_sys_admin,cap_dac_read_search+ep"] {
        let dir = TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let Some(copy) = with_file_caps(&dir, caps_given) else {
            return skip("no setcap, or a file system without capabilities");
        };
        let log = dir.join("nobody.log");
        let run = Run::of(copy, "--sandbox=strict --buffer=64K --log-file");
        let tracer = run.arg(&log).user(NOBODY).start();
        let pid = tracer.child.pid();
        assert_eq!(status(pid, "Uid").split_whitespace().next(), Some("65534"));
        assert_eq!(caps(pid, "CapPrm"), 0, "{caps_given}");
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        net::converse(&listener);
        tracer.until(|lines| event::lines_with(lines, server).len() >= 10);
        fs::rename(&log, dir.join("1")).unwrap();
        tracer.child.signal(Signal::SIGHUP);
        assert!(eventually(|| log.exists()), "no new log");
        let out = tracer.stop().ok();
        assert_eq!(event::lines_with(&out.lines(), server).len(), 10);
    }
}

/// The same where tracefs is mounted: by the first way, without any warning.
#[story]
fn nobody_traces_by_tracefs() {
    if !live() {
        return;
    }
    let work = || {
        let at = "/sys/kernel/tracing";
        let none = None::<&str>;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tracefs"), at, Some("tracefs"), flags, none).expect("tracefs");
        let dir = TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = with_file_caps(&dir, "cap_bpf,cap_perfmon,cap_dac_read_search+ep")?;
        let run = Run::of(copy, "--buffer=64K --transport=tracepoint --no-log");
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        let tracer = run.user(NOBODY).start();
        net::converse(&listener);
        tracer.until(|lines| event::lines_with(lines, server).len() >= 10);
        let out = tracer.stop().ok();
        let note = |line: &str| line.starts_with("socket-snoop: note: ");
        assert!(out.stderr.lines().all(note), "{}", out.stderr);
        assert_eq!(event::lines_with(&out.lines(), server).len(), 10);
        Some(())
    };
    match net::in_mount_ns(work) {
        Ok(Some(())) => {}
        Ok(None) => skip("no setcap, or a file system without capabilities"),
        Err(e) => skip(&format!("no mount namespace: {e}")),
    }
}

/// The default without any flag, on the console alone.
#[story]
fn the_default_is_on() {
    if !live() {
        return;
    }
    let child = Command::new(binary())
        .args(["--no-log", "--duration=30", NOTHING])
        .env_remove("SOCKET_SNOOP_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Guard(child.expect("start the program"));
    let opening = first_line(child.0.stdout.as_mut().unwrap());
    assert!(opening.starts_with(OPENING), "{opening}");
    let pid = child.pid();
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    child.signal(Signal::SIGTERM);
    let end = child.wait(Duration::from_secs(5)).expect("it ends");
    assert_eq!(end.code(), Some(0));
    let mut said = String::new();
    child
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let said = split(&said);
    let line = said.sandbox;
    assert!(line.starts_with(&format!("{SANDBOX} on: ")), "{line}");
    assert_eq!((line.lines().count(), said.rest.as_str()), (1, ""));
}

/// The helper of this name that a tracer has started, once it has.
fn helper_of(pid: u32, name: &str) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let mut children = children.split_whitespace().filter_map(|c| c.parse().ok());
    children.find(|child| {
        let comm = fs::read_to_string(format!("/proc/{child}/comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    })
}

/// No process, no picture of its memory, nobody who looks into it.
#[story]
fn limits_are_shut_too() {
    if !live() {
        return;
    }
    for mode in ["on", "strict"] {
        let tracer = Run::quiet(&format!("--sandbox={mode}")).start();
        let pid = tracer.child.pid();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        for name in ["Max processes", "Max core file size"] {
            let line = limits.lines().find(|l| l.starts_with(name)).expect(name);
            let values: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
            assert_eq!(values, ["0", "0"], "{line}");
        }
        tracer.stop().ok();
    }
}

/// What is in /proc but names and users can't be had by samples: no descriptor
/// leads there, and who reads it has no capability.
#[story]
fn by_samples_nothing_of_proc_stays_open() {
    if !live() {
        return;
    }
    for mode in ["on", "strict"] {
        let tracer = Run::quiet(&format!("--transport=perf --sandbox={mode}")).start();
        let pid = tracer.child.pid();
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let target = fs::read_link(fd.unwrap().path()).unwrap_or_default();
            assert!(!target.starts_with("/proc"), "{target:?}");
        }
        let helper = helper_of(pid, "snoop-names").expect("who reads names");
        for set in SETS {
            assert_eq!(caps(helper, set) & !caps(helper, "CapBnd"), 0, "{set}");
        }
        assert_eq!(caps(helper, "CapEff"), 0);
        assert_eq!(status(helper, "NoNewPrivs"), "1");
        let kept = caps(pid, "CapEff");
        assert_eq!(kept & !(PERFMON | IPC_LOCK | SYS_ADMIN), 0, "{kept:x}");
        // More than CAP_PERFMON is kept only where that is not enough.
        let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
        if paranoid.trim().parse::<i32>().unwrap() < 3 {
            assert_eq!(kept & SYS_ADMIN, 0, "{kept:x}");
        }
        // Names and users are known all the same.
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        net::converse(&listener);
        tracer.until(|lines| event::lines_with(lines, server).len() >= 10);
        tracer.child.signal(Signal::SIGTERM);
        assert!(eventually(
            || !Path::new(&format!("/proc/{helper}/fd/0")).exists()
        ));
        let out = tracer.finish(common::PATIENCE).ok();
        let mine = event::lines_with(&out.lines(), server);
        let me = std::process::id();
        assert!(
            mine.iter().any(|line| line.pid == me && line.comm != "-"),
            "{mine:?}"
        );
    }
}
