//! Live: what a service manager is told (sd_notify), and when.
//!
//! Contract: the test is the service manager: it binds the socket. The program
//! runs with `--sandbox=strict`, where a call too many would kill it.

mod common;

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use story::story;

use common::{OPENING, PATIENCE, Run, TempDir, Tracer, live};
use nix::sys::signal::Signal;

/// Shows nothing.
const NOTHING: &str = "--src-ip=127.255.255.254";

fn next(socket: &UnixDatagram) -> String {
    let mut message = [0; 512];
    let length = socket.recv(&mut message).expect("a message in time");
    String::from_utf8(message[..length].to_vec()).expect("text")
}

fn listens(socket: std::io::Result<UnixDatagram>) -> UnixDatagram {
    let socket = socket.expect("bind");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket
}

/// From the start to the end: ready, two reloads, stopping.
fn whole_run(socket: &UnixDatagram, name: OsString, dir: &TempDir) {
    let log = dir.join("log");
    let run = Run::new(NOTHING).env("NOTIFY_SOCKET", name);
    let tracer = run.arg("--log-file").arg(&log).start();
    assert_eq!(next(socket), "READY=1");
    // It is so by then.
    let status = fs::read_to_string(format!("/proc/{}/status", tracer.child.pid())).unwrap();
    if socket_snoop::sandbox::offered().seccomp.is_ok() {
        assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
    }
    assert!(tracer.lines()[0].starts_with(OPENING));

    for turn in 0..2 {
        let old = dir.join(&format!("log.{turn}"));
        fs::rename(&log, old).unwrap();
        let before = monotonic();
        tracer.child.signal(Signal::SIGHUP);
        let message = next(socket);
        let (first, second) = message.split_once('\n').expect("two lines");
        assert_eq!(first, "RELOADING=1");
        let at = second.strip_prefix("MONOTONIC_USEC=").expect("the time");
        let at: u64 = at.parse().expect("a number");
        assert!((before..=monotonic()).contains(&at), "{before} {at}");
        assert_eq!(next(socket), "READY=1");
        assert!(log.exists(), "the log was opened again by then");
    }

    tracer.child.signal(Signal::SIGTERM);
    assert_eq!(next(socket), "STOPPING=1");
    let out = tracer.finish(PATIENCE).ok();
    assert_eq!(out.stderr, "");
    socket.set_nonblocking(true).unwrap();
    let more = socket.recv(&mut [0; 512]).unwrap_err();
    assert_eq!(more.kind(), ErrorKind::WouldBlock, "nothing else is said");
}

/// CLOCK_MONOTONIC in microseconds.
fn monotonic() -> u64 {
    socket_snoop::sys::time::monotonic() / 1000
}

#[story]
fn a_path_is_told() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let path = dir.join("notify");
    let socket = listens(UnixDatagram::bind(&path));
    whole_run(&socket, path.into(), &dir);
}

#[story]
fn an_abstract_name_is_told() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let name = format!("socket-snoop-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = listens(UnixDatagram::bind_addr(&address));
    whole_run(&socket, format!("@{name}").into(), &dir);
}

/// A manager that has no room at this moment is told as soon as it has.
#[story]
fn a_full_socket_is_told_later() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let path = dir.join("notify");
    let socket = listens(UnixDatagram::bind(&path));
    let other = UnixDatagram::unbound().unwrap();
    other.connect(&path).unwrap();
    other.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while other.send(b"X=1").is_ok() {
        filled += 1;
        assert!(filled < 10_000, "a bound");
    }
    let run = Run::quiet(NOTHING).env("NOTIFY_SOCKET", &path);
    // It goes on all the same.
    let tracer = run.start();
    for _ in 0..filled {
        assert_eq!(next(&socket), "X=1");
    }
    assert_eq!(next(&socket), "READY=1");
    tracer.stop().ok();
}

/// A manager that has left costs nothing.
#[story]
fn a_manager_may_leave() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let path = dir.join("notify");
    let socket = listens(UnixDatagram::bind(&path));
    let tracer = Run::quiet(NOTHING).env("NOTIFY_SOCKET", &path).start();
    assert_eq!(next(&socket), "READY=1");
    drop(socket);
    tracer.child.signal(Signal::SIGHUP);
    let out = tracer.stop_by(Signal::SIGTERM).ok();
    assert_eq!(out.stderr, "");
}

fn sockets(tracer: &Tracer) -> Vec<String> {
    let folder = format!("/proc/{}/fd", tracer.child.pid());
    let links = fs::read_dir(folder).expect("its descriptors").flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let links = links.map(|link| link.to_string_lossy().into_owned());
    links.filter(|link| link.starts_with("socket:")).collect()
}

/// One line on standard error, and no socket.
#[story]
fn what_cannot_be_told_is_said() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let file = dir.join("file");
    fs::write(&file, "").unwrap();
    let none = dir.join("none");
    let bare = Run::quiet(NOTHING).env("NOTIFY_SOCKET", "").start();
    let usual = sockets(&bare).len();
    assert_eq!(bare.stop().ok().stderr, "");
    for (name, why) in [
        (file.as_os_str(), "ECONNREFUSED"),
        (none.as_os_str(), "ENOENT"),
        ("notify".as_ref(), "neither a path nor"),
        ("vsock:2:9999".as_ref(), "neither a path nor"),
        ("@".as_ref(), "neither a path nor"),
        (format!("/{}", "x".repeat(200)).as_ref(), "too long"),
    ] {
        let tracer = Run::quiet(NOTHING).env("NOTIFY_SOCKET", name).start();
        assert_eq!(sockets(&tracer).len(), usual, "{name:?}");
        let out = tracer.stop().ok();
        assert!(
            out.stderr.contains("the service manager is told nothing"),
            "{}",
            out.stderr
        );
        assert!(out.stderr.contains(why), "{}", out.stderr);
        assert_eq!(out.stderr.lines().count(), 1, "{}", out.stderr);
    }
}

/// The start as a whole is what is waited for: nothing is said before its end.
#[story]
fn a_failed_start_says_nothing() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let path = dir.join("notify");
    let socket = listens(UnixDatagram::bind(&path));
    let run = Run::quiet("--transport=btf").env("NOTIFY_SOCKET", &path);
    let out = run.user(65534).run();
    assert_ne!(out.code, Some(0));
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(!eventually_told(&socket));
}

fn eventually_told(socket: &UnixDatagram) -> bool {
    socket.recv(&mut [0; 512]).is_ok()
}
