//! Live: readers that stop reading. Whatever they do, the other output misses
//! nothing, what they miss is said to them exactly, and the end comes in time.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use story::story;

use common::event::{self, Value};
use common::{Guard, Run, TempDir, eventually, live, net, wait};
use nix::fcntl::{FcntlArg, fcntl};
use nix::pty::openpty;
use nix::sys::signal::Signal;

/// A stop takes at most so long, whatever the readers do.
const END: Duration = Duration::from_secs(2);

/// Each of these tests keeps all CPUs busy: one at a time.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    live().then_some(guard)
}

/// So many connections, at a pace that the rings can hold.
fn traffic(connections: usize) {
    let one = move || {
        let listener = net::listen(net::own_ip());
        for n in 0..connections / 2 {
            net::converse(&listener);
            if n % 25 == 0 {
                wait::pace(Duration::from_millis(5));
            }
        }
    };
    let workers = [thread::spawn(one), thread::spawn(one)];
    workers.into_iter().for_each(|w| w.join().unwrap());
}

/// Both ends of a pipe: to read, and to write.
fn pipe() -> (File, File) {
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    (reader.into(), writer.into())
}

/// Reads a stream to its end.
fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut all = Vec::new();
        // A terminal whose last writer has gone is an error.
        let _ = from.read_to_end(&mut all);
        String::from_utf8(all).expect("UTF-8").replace('\r', "")
    })
}

/// The program with this standard output, once it has attached and shut its
/// doors; what it says on standard error from then on.
fn start(run: Run) -> (Guard, JoinHandle<String>) {
    let mut child = run.spawn();
    let mut stderr = child.0.stderr.take().unwrap();
    loop {
        let line = common::first_line(&mut stderr);
        if line.starts_with(common::OPENING) {
            break;
        }
        assert!(line.contains(" note: "), "{line:?}");
    }
    (child, read_all(stderr))
}

/// Ends it, in time; what it said.
fn stop(mut child: Guard, said: JoinHandle<String>) -> String {
    let asked = Instant::now();
    child.signal(Signal::SIGTERM);
    let status = child.wait(Duration::from_secs(20)).expect("an end");
    let said = said.join().unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    let took = asked.elapsed();
    assert!(took < END, "the end took {took:?}: {said}");
    said
}

/// Lines that tell of events or connections, and what is said to be missing for
/// this reason.
fn told(objects: &[Value], reason: &str) -> (u64, u64) {
    let lines = |e: &&Value| e["event.name"] != "lost" && e["event.name"] != "summary";
    let lost = |e: &&Value| e["event.name"] == "lost" && e["lost.reason"] == reason;
    let lost = objects.iter().filter(lost);
    (
        objects.iter().filter(lines).count() as u64,
        lost.map(|e| event::number(e, "lost.count")).sum(),
    )
}

fn objects(text: &str) -> Vec<Value> {
    event::objects(&text.lines().collect::<Vec<_>>())
}

/// Lines that the run had for a JSON output, by its summary.
fn sent(summary: &Value) -> u64 {
    event::number(summary, "events.shown") + event::number(summary, "connections.shown")
}

/// What a stopped reader of standard output got in the end: all but what is said
/// to be missing, and the classic log has every event.
fn check(console: &str, log: &Path) {
    let console = objects(console);
    let summary = event::summary(&console);
    let (shown, missing) = told(&console, "console_slow");
    assert_eq!(shown + missing, sent(summary), "{summary}");
    assert!(missing > 0, "nothing was missed: {summary}");
    assert_eq!(event::number(summary, "lost.console_lines"), missing);
    assert_eq!(event::number(summary, "lost.log_lines"), 0);
    let log = fs::read_to_string(log).unwrap();
    let events = log.lines().filter(|l| event::line(l).is_some()).count() as u64;
    assert_eq!(events, event::number(summary, "events.shown"));
}

/// Hundreds of thousands of events while the reader of a pipe stands still.
#[story]
fn a_stopped_reader_costs_its_own_lines_only() {
    let Some(_alone) = alone() else { return };
    let dir = TempDir::new();
    let log = dir.join("log");
    let run = Run::new("--format=json --log-file").arg(&log);
    let (mut child, said) = start(run);
    let stdout = child.0.stdout.take().unwrap();
    traffic(20_000);
    // The log has it all while the reader stands.
    let logged = || fs::metadata(&log).unwrap().len();
    assert!(eventually(|| logged() > 20_000_000), "{}", logged());
    let console = read_all(stdout);
    // Said as soon as it moves, not at the end.
    let listener = net::listen(net::own_ip());
    for _ in 0..10 {
        net::converse(&listener);
        wait::pace(Duration::from_millis(50));
    }
    stop(child, said);
    let console = console.join().unwrap();
    check(&console, &log);
    let console = objects(&console);
    let at = |found: &dyn Fn(&Value) -> bool| console.iter().position(found);
    let slow = at(&|e| e["lost.reason"] == "console_slow").expect("a loss");
    let server = listener.local_addr().unwrap().to_string();
    let (ip, _) = server.split_once(':').unwrap();
    let later = at(&|e| e["network.local.address"] == ip).expect("later ones");
    assert!(slow < later, "{slow} {later}");
}

#[story]
fn a_terminal_is_stopped_by_ctrl_s() {
    let Some(_alone) = alone() else { return };
    let dir = TempDir::new();
    let log = dir.join("log");
    let pty = openpty(None, None).expect("a terminal");
    let run = Run::new("--format=json --log-file").arg(&log);
    let run = run.stdout(pty.slave.try_clone().unwrap());
    nix::unistd::write(&pty.master, b"\x13").expect("Ctrl-S");
    let (child, said) = start(run);
    traffic(2500);
    nix::unistd::write(&pty.master, b"\x11").expect("Ctrl-Q");
    let console = read_all(File::from(pty.master.try_clone().unwrap()));
    // What waits takes a while, a terminal being slow.
    wait::settled("what it wrote", || child.written());
    stop(child, said);
    // The other end, by which the reader is told of the end.
    drop(pty);
    check(&console.join().unwrap(), &log);
}

/// As systemd gives.
#[story]
fn a_stalled_socket_costs_its_own_lines_only() {
    let Some(_alone) = alone() else { return };
    let dir = TempDir::new();
    let log = dir.join("log");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let run = Run::new("--format=json --log-file").arg(&log);
    let flags = fcntl(theirs.as_fd(), FcntlArg::F_GETFL).unwrap();
    let kept = theirs.try_clone().unwrap();
    let (child, said) = start(run.stdout(OwnedFd::from(theirs)));
    traffic(2500);
    assert_eq!(fcntl(kept.as_fd(), FcntlArg::F_GETFL).unwrap(), flags);
    drop(kept);
    let console = read_all(ours);
    stop(child, said);
    check(&console.join().unwrap(), &log);
}

/// The reader of a socket leaves: the end, as with a pipe.
#[story]
fn a_socket_that_is_closed_is_the_end() {
    if !live() {
        return;
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut child, said) = start(Run::quiet("--format=json").stdout(OwnedFd::from(theirs)));
    drop(ours);
    let status = child.wait(Duration::from_secs(5)).expect("an end");
    assert_eq!(
        (status.code(), said.join().unwrap().as_str()),
        (Some(0), "")
    );
}

/// Where standard output can't be opened once more: flags are left alone all
/// the same, and nothing is held up.
#[story]
fn without_proc_it_is_the_same() {
    let Some(_alone) = alone() else { return };
    let work = || {
        let none = None::<&str>;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), "/proc", Some("tmpfs"), flags, none).expect("a tmpfs");
        let dir = TempDir::new();
        let log = dir.join("log");
        let (reader, stdout) = pipe();
        let kept = stdout.try_clone().unwrap();
        let flags = fcntl(&kept, FcntlArg::F_GETFL).unwrap();
        let run = Run::new("--format=json --log-file").arg(&log);
        let (child, said) = start(run.stdout(stdout));
        traffic(2500);
        assert_eq!(fcntl(&kept, FcntlArg::F_GETFL).unwrap(), flags);
        drop(kept);
        let console = read_all(reader);
        stop(child, said);
        check(&console.join().unwrap(), &log);
    };
    if let Err(e) = net::in_mount_ns(work) {
        common::skip(&format!("no mount namespace: {e}"));
    }
}

fn fifo(dir: &TempDir) -> std::path::PathBuf {
    let path = dir.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path
}

fn open_fifo(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path).unwrap();
    // From here on it waits for its writer.
    let flags = nix::fcntl::OFlag::empty();
    fcntl(&file, FcntlArg::F_SETFL(flags)).unwrap();
    file
}

#[story]
fn a_fifo_as_log_that_nobody_reads_costs_its_own_lines_only() {
    let Some(_alone) = alone() else { return };
    let dir = TempDir::new();
    let (path, shown) = (fifo(&dir), dir.join("shown"));
    let reader = open_fifo(&path);
    let run = Run::new("--format=json --log-format=json --log-file").arg(&path);
    let (child, said) = start(run.stdout_to(&shown));
    traffic(2500);
    let log = read_all(reader);
    let said = stop(child, said);
    let console = objects(&fs::read_to_string(&shown).unwrap());
    let summary = event::summary(&console);
    assert_eq!(told(&console, "console_slow"), (sent(summary), 0));
    let (logged, missing) = told(&objects(&log.join().unwrap()), "log_slow");
    assert_eq!(logged + missing, sent(summary), "{summary}");
    assert!(missing > 0, "nothing was missed");
    assert_eq!(event::number(summary, "lost.log_lines"), missing);
    assert!(
        said.contains(&format!("{missing} lines are missing")),
        "{said}"
    );
}

/// Nobody will ever read: neither standard output, nor the log, nor standard error.
#[story]
fn the_end_comes_in_time_if_nobody_reads() {
    let Some(_alone) = alone() else { return };
    let dir = TempDir::new();
    let path = fifo(&dir);
    let _reader = open_fifo(&path);
    for format in ["classic", "json"] {
        let run = Run::new(&format!("--format={format} --log-file")).arg(&path);
        let (_out, stdout) = pipe();
        let (mut err, stderr) = pipe();
        let mut child = run
            .stdout(stdout)
            .stderr(stderr.try_clone().unwrap())
            .spawn();
        // The line on the sandbox: after that all is attached.
        let mut byte = [0];
        while err.read(&mut byte).unwrap() == 1 && byte != *b"\n" {}
        fill(&stderr);
        traffic(2500);
        child.signal(Signal::SIGTERM);
        let ended = child.wait(END);
        assert_eq!(ended.and_then(|s| s.code()), Some(0), "{format}");
    }
}

/// Fills a pipe to the brim.
fn fill(pipe: &File) {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(pipe));
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    let mut again = options.open(path).unwrap();
    while std::io::Write::write(&mut again, b"x").is_ok() {}
}

/// The sums are said on standard error where standard output doesn't take them.
#[story]
fn the_sums_are_said_where_nobody_reads_standard_output() {
    let Some(_alone) = alone() else { return };
    for format in ["classic", "json"] {
        for end in [Signal::SIGTERM, Signal::SIGINT] {
            let (_reader, stdout) = pipe();
            fill(&stdout);
            let run = Run::quiet(&format!("--format={format} --sandbox=strict"));
            let mut child = run.stdout(stdout).spawn();
            let mut stderr = child.0.stderr.take().unwrap();
            common::until_shut(&mut stderr);
            let listener = net::listen(net::own_ip());
            net::converse(&listener);
            let asked = Instant::now();
            child.signal(end);
            let status = child.wait(Duration::from_secs(20)).expect("an end");
            assert!(asked.elapsed() < END, "{:?}", asked.elapsed());
            assert_eq!(status.code(), Some(0));
            let said = read_all(stderr).join().unwrap();
            let sums = said
                .lines()
                .find(|l| l.contains("missing on standard output"));
            let sums = sums.unwrap_or_else(|| panic!("{format}: {said}"));
            assert!(sums.contains("Events: "), "{sums}");
            let lines: u64 = sums
                .split_once("warning: ")
                .and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok())
                .expect("a number");
            assert!(lines >= 11, "{sums}");
        }
    }
}

/// --duration and --count are ends, too.
#[story]
fn other_ends_come_in_time_if_nobody_reads() {
    let Some(_alone) = alone() else { return };
    for args in ["--duration=1", "--count=5"] {
        let (_reader, stdout) = pipe();
        fill(&stdout);
        let mut child = Run::quiet(args).stdout(stdout).spawn();
        let mut stderr = child.0.stderr.take().unwrap();
        common::until_shut(&mut stderr);
        let listener = net::listen(net::own_ip());
        net::converse(&listener);
        // The duration begins when it is attached.
        let ended = child.wait(Duration::from_secs(1) + END);
        assert_eq!(ended.and_then(|s| s.code()), Some(0), "{args}");
        assert!(read_all(stderr).join().unwrap().contains("Events: "));
    }
}

/// Reads so much at a time, with pauses, to the end.
fn read_slowly(mut from: File, bytes: usize, pause: Duration) -> String {
    let mut all = Vec::new();
    let mut block = vec![0; bytes];
    while let Ok(n @ 1..) = from.read(&mut block) {
        all.extend_from_slice(&block[..n]);
        wait::pace(pause);
    }
    String::from_utf8(all).unwrap()
}

/// A reader that is slow, but reads, gets the whole report.
#[story]
fn a_slow_reader_gets_the_whole_report() {
    let Some(_alone) = alone() else { return };
    let (reader, stdout) = pipe();
    let mut child = Run::quiet("").stdout(stdout).spawn();
    let slow = thread::spawn(move || {
        let begun = Instant::now();
        (read_slowly(reader, 1500, Duration::from_millis(3)), begun)
    });
    common::until_shut(child.0.stderr.as_mut().unwrap());
    traffic(1500);
    let asked = Instant::now();
    child.signal(Signal::SIGTERM);
    let status = child.wait(Duration::from_secs(60)).expect("an end");
    let took = asked.elapsed();
    let (text, _) = slow.join().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(
        took > END,
        "the reader was too fast for this test: {took:?}"
    );
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let report = event::report(&lines);
    let connections = report.iter().filter(|l| l.starts_with("Connection: "));
    assert!(connections.count() >= 3000);
    assert!(report.last().unwrap().starts_with("Events: "));
    assert!(event::event_lines(&lines).len() >= 15_000);
}

/// What the shell shares with us is as it was: during the run and after it.
#[story]
fn shared_descriptors_keep_their_flags() {
    if !live() {
        return;
    }
    let pty = openpty(None, None).unwrap();
    let (reader, pipe) = pipe();
    let (_peer, socket) = UnixStream::pair().unwrap();
    let ends: [OwnedFd; 3] = [pty.slave, pipe.into(), socket.into()];
    for end in &ends {
        let flags = || fcntl(end, FcntlArg::F_GETFL).unwrap();
        let before = flags();
        let (out, err) = (end.try_clone().unwrap(), end.try_clone().unwrap());
        let run = Run::quiet("--duration=0.8");
        let mut child = run.stdout(out).stderr(err).spawn();
        let mut ended = None;
        wait::until("the end of the run", || {
            assert_eq!(flags(), before);
            ended = child.0.try_wait().expect("wait for it");
            ended.is_some()
        });
        assert_eq!((ended.unwrap().code(), flags()), (Some(0), before));
    }
    drop(reader);
}
