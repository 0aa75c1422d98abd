//! Live: nobody can hold up the start.
//!
//! The test runner is this program's own, since it also plays the processes that
//! have many descriptors, or namespaces: `PROGRAM hold KIND N`.

#[path = "../common/actor.rs"]
mod actor;
#[path = "../common/mod.rs"]
mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use actor::Stage;
use common::event::{self, Value, number, text};
use common::net::own_ip;
use common::suite::{self, Test};
use common::{Guard, Tracer, skip, wait};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const TESTS: [(&str, Test<Stage>); 4] = [
    ("many_descriptors", many_descriptors),
    ("too_many_descriptors", too_many_descriptors),
    ("many_namespaces", many_namespaces),
    ("an_end_during_the_search", an_end_during_the_search),
];

/// A run begins within a second, says the program; this much more is for a host
/// that others use, too.
const SOON: Duration = Duration::from_millis(2500);

/// What it says when it has not found all by then.
const GOES_ON: &str = "the search for what was open before the start goes on";

/// Plays a process that holds things, until its standard input ends.
fn hold(kind: &str, n: usize) {
    let file = File::open("/dev/null").expect("/dev/null");
    let mut files = Vec::new();
    let mut threads = Vec::new();
    let (ready, readies) = std::sync::mpsc::channel();
    match kind {
        "descriptors" => {
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
            setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("raise the limit");
            files = (0..n)
                .map(|_| file.try_clone().expect("a descriptor"))
                .collect();
        }
        _ => {
            for _ in 0..n {
                let ready = ready.clone();
                let thread = std::thread::Builder::new().stack_size(64 << 10);
                let done = thread.spawn(move || {
                    let made = unshare(CloneFlags::CLONE_NEWNET).is_ok();
                    let _ = ready.send(made);
                    loop {
                        std::thread::park();
                    }
                });
                threads.push(done.expect("a thread"));
                assert!(readies.recv().expect("an answer"), "no namespace");
            }
        }
    }
    let _ = writeln!(stdout(), "ready");
    let _ = stdin().read_to_end(&mut Vec::new());
    drop((files, threads));
}

/// Processes that hold things; they end when this is dropped.
struct Holders {
    /// They end with their input.
    _all: Vec<(Guard, ChildStdin)>,
}

impl Holders {
    fn new(processes: usize, kind: &str, n: usize) -> Holders {
        let program = std::env::current_exe().expect("this program");
        let start = |_| {
            let mut child = Command::new(&program)
                .args(["hold", kind, &n.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("start a holder");
            let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            (Guard(child), input, output)
        };
        let all: Vec<_> = (0..processes).map(start).collect();
        let ready = |(guard, input, output)| {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).expect("a line");
            assert_eq!(line, "ready\n");
            (guard, input)
        };
        Holders {
            _all: all.into_iter().map(ready).collect(),
        }
    }
}

/// Connections that are open: the server is asked to close one after the other,
/// and the client's first event is then the kernel's doing.
struct Pairs {
    server: actor::Actor,
    client: actor::Actor,
    at: SocketAddr,
    from: Vec<SocketAddr>,
    closed: usize,
}

impl Pairs {
    fn open(stage: &Stage, n: usize) -> Pairs {
        let (mut server, mut client) = (stage.actor("server"), stage.actor("client"));
        let at = server.listen("l", SocketAddr::new(own_ip().into(), 0));
        let from = (0..n).map(|i| {
            let from = client.connect(&format!("c{i}"), at);
            server.ask(&format!("accept l s{i}"));
            from
        });
        let from = from.collect();
        Pairs {
            server,
            client,
            at,
            from,
            closed: 0,
        }
    }

    /// Closes one; its first event at the client's end.
    fn close(&mut self, tracer: &Tracer) -> Value {
        let (i, from) = (self.closed, self.from[self.closed]);
        self.server.ask(&format!("close s{i}"));
        self.closed += 1;
        let first = |lines: &[String]| {
            let all = event::objects(lines);
            let all = event::with(&all, self.at);
            all.into_iter().find(|e| event::local(e) == from)
        };
        assert!(tracer.until(|lines| first(lines).is_some()), "no event");
        first(&tracer.lines()).unwrap()
    }

    /// Closes them in turn until whose they are is known, which must never be
    /// another's; how many were nobody's.
    fn until_known(&mut self, tracer: &Tracer) -> usize {
        while self.closed < self.from.len() {
            let first = self.close(tracer);
            match first.get("process.pid").and_then(Value::as_u64) {
                Some(pid) => {
                    assert_eq!(pid, self.client.who.pid, "{first}");
                    assert_eq!(text(&first, "owner.source"), "snapshot");
                    return self.closed - 1;
                }
                None => assert_eq!(text(&first, "owner.source"), "none"),
            }
            wait::pace(Duration::from_millis(100));
        }
        panic!("never known");
    }
}

/// Starts a tracer, which must begin soon.
fn start_soon(args: &str) -> Tracer {
    let begin = Instant::now();
    let tracer = Tracer::json(args);
    let took = begin.elapsed();
    assert!(took < SOON, "it began after {took:?}");
    tracer
}

/// Those who have few are found soon, and nothing wrong is told.
fn many_descriptors(stage: &Stage) {
    let mut pairs = Pairs::open(stage, 80);
    let holders = Holders::new(40, "descriptors", 5000);
    let tracer = start_soon("");
    let late = pairs.until_known(&tracer);
    // A new connection's owner is that of the listener that was found.
    let went_on = tracer.stderr().contains(GOES_ON);
    assert!(went_on || late == 0, "{late} unknown: {}", tracer.stderr());
    let left = pairs.from.len() - pairs.closed;
    let out = tracer.stop().ok();
    let all = event::objects(&out.lines());
    let summary = event::summary(&all);
    assert_eq!(number(summary, "lost.events"), 0, "{summary}");
    // Each pair that is still open is two connections, and all are known.
    let untouched = number(summary, "connections.untouched");
    assert!(untouched >= 2 * left as u64, "{untouched}: {summary}");
    drop(holders);
}

/// More than there is time for: that is said, and those with few are known.
fn too_many_descriptors(stage: &Stage) {
    const ALL: usize = 3_000_000;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    let each = usize::try_from(most).unwrap_or(usize::MAX).min(20_000) - 64;
    if each < 4000 {
        return skip("the limit of open files is too low");
    }
    let mut pairs = Pairs::open(stage, 120);
    let holders = Holders::new(ALL / each, "descriptors", each);
    let tracer = start_soon("");
    pairs.until_known(&tracer);
    let said = common::eventually(|| tracer.stderr().contains("left out are "));
    let stderr = tracer.stderr();
    assert!(said && stderr.contains(GOES_ON), "{stderr}");
    let (_, left) = stderr.split_once("left out are ").unwrap();
    let numbers: Vec<usize> = left
        .split(' ')
        .filter_map(|word| word.trim().parse().ok())
        .collect();
    let [processes, descriptors] = numbers[..] else {
        panic!("{stderr}");
    };
    assert!((1..=ALL / each).contains(&processes), "{stderr}");
    assert!(descriptors >= processes * each, "{stderr}");
    tracer.stop().ok();
    drop(holders);
}

/// Every one is searched, or it is said how many are not.
fn many_namespaces(stage: &Stage) {
    let mut pairs = Pairs::open(stage, 80);
    let holders = Holders::new(1, "namespaces", 300);
    let tracer = start_soon("");
    pairs.until_known(&tracer);
    let stderr = tracer.stderr();
    // On a slow host there is no time for all.
    if let Some((_, left)) = stderr.split_once("left out are the sockets of ") {
        let left = left.split(' ').next().and_then(|n| n.parse::<u32>().ok());
        assert!(left.is_some_and(|n| (1..=300).contains(&n)), "{stderr}");
        assert!(stderr.contains(GOES_ON), "{stderr}");
    }
    tracer.stop().ok();
    drop(holders);
}

/// The helper doesn't outlive the run, however that ends, and the end doesn't
/// wait for it.
fn an_end_during_the_search(stage: &Stage) {
    let _pairs = Pairs::open(stage, 1);
    let holders = Holders::new(60, "descriptors", 10_000);
    for signal in [
        nix::sys::signal::Signal::SIGTERM,
        nix::sys::signal::Signal::SIGKILL,
    ] {
        let tracer = start_soon("");
        let pid = tracer.child.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let comm = |child: &str| std::fs::read_to_string(format!("/proc/{child}/comm"));
        let helper = children
            .split_whitespace()
            .find(|child| comm(child).is_ok_and(|name| name == "snoop-search\n"));
        let Some(helper) = helper else {
            return skip("the search was over before the start was");
        };
        let begin = Instant::now();
        let out = tracer.stop_by(signal);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        let gone = || comm(helper).is_err();
        assert!(common::eventually(gone), "{helper} is left: {out:?}");
    }
    drop(holders);
}

fn main() -> ExitCode {
    actor::play();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, kind, n] = &args[..] {
        if first == "hold" {
            hold(kind, n.parse().expect("a number"));
            return ExitCode::SUCCESS;
        }
    }
    suite::run(&TESTS, &args, Stage::new)
}
