//! Harness of the live suites: starts the program under test, waits until it
//! is attached, collects what it prints and stops it by signal.
//!
//! Contract: a [`Tracer`] never outlives its test (the child is killed on
//! drop), every wait has an end, and a suite that can't run here says why
//! through [`skip`], which fails where `CI=true`. The program is the one that
//! cargo built, or the one named by `SOCKET_SNOOP_BIN`. It runs with
//! `--sandbox=strict`, where a refused call kills it, unless the test or
//! `SOCKET_SNOOP_ARGS` (arguments for every run) says something else.

// Each suite is a crate of its own and uses only a part of the harness.
#![allow(dead_code, reason = "no test uses all of it")]

pub mod again;
pub mod btf;
pub mod busy;
pub mod confine;
pub mod doors;
pub mod event;
pub mod filters;
pub mod kernel;
pub mod layouts;
pub mod ledger;
pub mod life;
pub mod machine;
pub mod net;
pub mod preflight;
pub mod programs;
pub mod schema;
pub mod suite;
pub mod traffic;
pub mod verifier;
pub mod wait;
pub mod ways;
pub mod xlated;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// What the opening line starts with, on standard output or (JSON) standard error.
pub const OPENING: &str = "Monitoring socket connections with enhanced metrics.";

/// What the line on what the sandbox enforces starts with, on standard error.
pub const SANDBOX: &str = "socket-snoop: note: sandbox";

/// What the line starts with on accepts that this host does not show: then every
/// run by programs says so on standard error.
pub const UNSEEN: &str = "socket-snoop: note: who accepts ";

/// What the line has on processes that even root may not look into: a host can
/// have them, and then every run says so on standard error.
pub const DENIED: &str = " processes may not be looked into: ";

/// How long a start, an expected line or an end may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The program under test.
pub fn binary() -> PathBuf {
    std::env::var_os("SOCKET_SNOOP_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_socket-snoop").into(), PathBuf::from)
}

/// The full edition, which lies beside it.
pub fn full() -> PathBuf {
    let small = binary();
    let name = small.file_name().and_then(|name| name.to_str());
    let name = name
        .expect("a name")
        .replacen("socket-snoop", "socket-snoop-full", 1);
    small.with_file_name(name)
}

/// Says why a test can't run here; fails instead where `CI=true`.
pub fn skip(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|v| v != "true"),
        "skipped in CI: {reason}"
    );
    // Past the capture of the test runner: a skip is to be seen.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// Whether live tests can run: root is needed. Says so where it is missing.
pub fn live() -> bool {
    let root = Uid::effective().is_root();
    if !root {
        skip("live tests need root");
    }
    root
}

/// Polls until `done` holds; false when [`PATIENCE`] is used up.
pub fn eventually(done: impl FnMut() -> bool) -> bool {
    wait::within(PATIENCE, done)
}

/// A folder of the test's own, removed on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes an empty folder that every user may enter.
    pub fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let path = std::env::temp_dir().join(format!("socket-snoop-test-{pid}-{n}"));
        std::fs::create_dir_all(&path).expect("make a folder for the test");
        TempDir(path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child that is killed and reaped when the test lets go of it.
pub struct Guard(pub Child);

impl Guard {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a pid fits i32");
        kill(Pid::from_raw(pid), signal).expect("signal the tracer");
    }

    /// Waits for the end; `None` when it takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait::within(limit, || {
            status = self.0.try_wait().expect("wait for the tracer");
            status.is_some()
        });
        status
    }

    /// Bytes that it has written so far, to whatever.
    pub fn written(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid())).expect("its io");
        let count = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        count.expect("wchar").parse().expect("a number")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One stream of the child, growing while it runs.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    fn from(
        mut stream: impl Read + Send + 'static,
        readers: &mut Vec<JoinHandle<()>>,
    ) -> Collected {
        let collected = Collected::default();
        let into = collected.clone();
        readers.push(thread::spawn(move || {
            let mut block = vec![0; 1 << 16];
            while let Ok(n @ 1..) = stream.read(&mut block) {
                into.0.lock().unwrap().extend_from_slice(&block[..n]);
            }
        }));
        collected
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("the output is UTF-8")
    }

    fn has(&self, what: &str) -> bool {
        let bytes = self.0.lock().unwrap();
        bytes.windows(what.len()).any(|w| w == what.as_bytes())
    }
}

/// How the program is to be run.
pub struct Run {
    command: Command,
}

impl Run {
    /// The program with these arguments, separated by spaces, and no log.
    pub fn quiet(args: &str) -> Run {
        let run = Run::new(args).arg("--no-log");
        // However many connections other tests make meanwhile.
        match args.contains("--lifecycles") {
            true => run,
            false => run.arg("--lifecycles=all"),
        }
    }

    /// The program with these arguments, separated by spaces.
    pub fn new(args: &str) -> Run {
        Run::of(binary(), args)
    }

    /// Another copy of the program with these arguments.
    pub fn of(program: PathBuf, args: &str) -> Run {
        Run::through(Command::new(program), args)
    }

    /// The program with these arguments, by a command that starts it.
    pub fn through(mut command: Command, args: &str) -> Run {
        let always = std::env::var("SOCKET_SNOOP_ARGS").unwrap_or("--sandbox=strict".into());
        if !args.contains("--sandbox") {
            command.args(always.split_ascii_whitespace());
        }
        command
            .args(args.split_ascii_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("SOCKET_SNOOP_LOG");
        Run { command }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Run {
        self.command.arg(arg.into());
        self
    }

    /// One environment variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Run {
        self.command.env(name, value.into());
        self
    }

    /// The folder to run in.
    pub fn dir(mut self, dir: &Path) -> Run {
        self.command.current_dir(dir);
        self
    }

    /// As this user and group.
    pub fn user(mut self, id: u32) -> Run {
        self.command.uid(id).gid(id);
        self
    }

    /// Standard input from this.
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Run {
        self.command.stdin(from);
        self
    }

    /// Standard output into a file: no reader competes for the CPUs.
    pub fn stdout_to(mut self, path: &Path) -> Run {
        self.command.stdout(File::create(path).expect("the file"));
        self
    }

    /// Standard output into this.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Run {
        self.command.stdout(to);
        self
    }

    /// Standard error into this.
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Run {
        self.command.stderr(to);
        self
    }

    /// Starts it with its streams left to the test.
    pub fn spawn(mut self) -> Guard {
        let _forking = net::forking();
        Guard(self.command.spawn().expect("start the program"))
    }

    /// Starts it and waits for the opening line.
    pub fn start(self) -> Tracer {
        let tracer = self.launch();
        let mut tracer = Some(tracer);
        let opened = eventually(|| {
            let t = tracer.as_mut().unwrap();
            t.out.has(OPENING) || t.err.has(OPENING) || t.child.0.try_wait().unwrap().is_some()
        });
        let mut tracer = tracer.unwrap();
        if !opened || tracer.child.0.try_wait().unwrap().is_some() {
            let _ = tracer.child.0.kill();
            let out = tracer.finish(PATIENCE);
            panic!("no opening line: {out:?}");
        }
        tracer
    }

    /// Runs it to its end, which must come by itself.
    pub fn run(self) -> Output {
        self.launch().finish(PATIENCE * 3)
    }

    fn launch(self) -> Tracer {
        let mut child = self.spawn();
        let mut readers = Vec::new();
        let out = match child.0.stdout.take() {
            Some(stdout) => Collected::from(stdout, &mut readers),
            None => Collected::default(),
        };
        let err = Collected::from(child.0.stderr.take().expect("piped"), &mut readers);
        Tracer {
            child,
            out,
            err,
            readers,
        }
    }
}

/// The running program.
pub struct Tracer {
    /// The process.
    pub child: Guard,
    out: Collected,
    err: Collected,
    readers: Vec<JoinHandle<()>>,
}

impl Tracer {
    /// The usual one: JSON lines on standard output, no log.
    pub fn json(args: &str) -> Tracer {
        Run::quiet(args).arg("--format=json").start()
    }

    /// The lines of standard output so far, without an unfinished one.
    pub fn lines(&self) -> Vec<String> {
        let text = self.out.text();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text[..whole].lines().map(str::to_owned).collect()
    }

    /// Standard error so far, without the lines that every run may have.
    pub fn stderr(&self) -> String {
        split(&self.err.text()).rest
    }

    /// Waits until the output so far satisfies `done`; false on time-out,
    /// which the test's own assertions then explain.
    pub fn until(&self, mut done: impl FnMut(&[String]) -> bool) -> bool {
        eventually(|| done(&self.lines()))
    }

    /// Stops it as Ctrl-C does.
    pub fn stop(self) -> Output {
        self.stop_by(Signal::SIGINT)
    }

    /// Stops it by a signal and collects everything.
    pub fn stop_by(self, signal: Signal) -> Output {
        self.child.signal(signal);
        self.finish(PATIENCE * 3)
    }

    /// Waits for the end and collects everything.
    pub fn finish(mut self, limit: Duration) -> Output {
        let status = self.child.wait(limit);
        if status.is_none() {
            let _ = self.child.0.kill();
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let said = split(&self.err.text());
        let out = Output {
            code: status.and_then(|s| s.code()),
            stdout: self.out.text(),
            stderr: said.rest,
            sandbox: said.sandbox,
            denied: said.denied,
            unseen: said.unseen,
        };
        assert!(status.is_some(), "no end after {limit:?}: {out:?}");
        out
    }
}

/// Standard error: the lines on the sandbox, those on processes that may not be
/// looked into, that on accepts, and the rest.
#[derive(Default)]
pub struct Said {
    pub sandbox: String,
    pub denied: String,
    pub unseen: String,
    pub rest: String,
}

/// Takes standard error apart.
pub fn split(stderr: &str) -> Said {
    let mut said = Said::default();
    for line in stderr.split_inclusive('\n') {
        let part = match line {
            _ if line.starts_with(SANDBOX) => &mut said.sandbox,
            _ if line.contains(DENIED) => &mut said.denied,
            _ if line.starts_with(UNSEEN) => &mut said.unseen,
            _ => &mut said.rest,
        };
        part.push_str(line);
    }
    said
}

/// Reads a line byte by byte, and none that every run may have: nothing after
/// it is taken away.
pub fn first_line(stream: &mut impl Read) -> String {
    loop {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            line.push(byte[0]);
        }
        let line = String::from_utf8(line).unwrap();
        if line.is_empty() || !split(&line).rest.is_empty() {
            return line;
        }
    }
}

/// Reads standard error until it says what the sandbox enforces: then everything
/// is attached, and the doors are shut. Nothing after it is taken away.
pub fn until_shut(stderr: &mut impl Read) {
    let mut line = Vec::new();
    let mut byte = [0];
    while stderr.read(&mut byte).unwrap_or(0) == 1 {
        line.push(byte[0]);
        if byte == *b"\n" {
            if line.starts_with(SANDBOX.as_bytes()) {
                return;
            }
            line.clear();
        }
    }
    panic!("it ended before it began");
}

/// What a finished run left.
#[derive(Debug)]
pub struct Output {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error but the lines below.
    pub stderr: String,
    /// The line on what the sandbox enforces.
    pub sandbox: String,
    /// The line on processes that may not be looked into, where there are any.
    pub denied: String,
    /// The line on accepts, where they are not seen.
    pub unseen: String,
}

impl Output {
    /// The run was a success.
    pub fn ok(self) -> Output {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self
    }

    /// The lines of standard output.
    pub fn lines(&self) -> Vec<String> {
        self.stdout.lines().map(str::to_owned).collect()
    }
}
