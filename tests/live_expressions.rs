//! Live: filters as tcpdump and ss write them, and their file that is read again.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::event::{self, Value};
use common::net::{self, Netns};
use common::{Run, TempDir, Tracer, live, skip, wait};
use nix::sys::signal::Signal;
use story::story;

/// What is shown of a connection: the server's port, and whether it is the
/// server's end.
type Ends = BTreeSet<(u16, bool)>;

const HTTPS: u16 = 443;
const SSH: u16 = 22;
const OTHER: u16 = 8080;
const REFUSED: u16 = 9;

/// Both ends of the connections to these ports.
fn both(ports: &[u16]) -> Ends {
    let ends = |port: &u16| [(*port, false), (*port, true)];
    ports.iter().flat_map(ends).collect()
}

/// The client's.
fn clients(ports: &[u16]) -> Ends {
    ports.iter().map(|port| (*port, false)).collect()
}

fn with(mut ends: Ends, more: &[(u16, bool)]) -> Ends {
    ends.extend(more);
    ends
}

fn ends(objects: &[Value]) -> Ends {
    let ports = [HTTPS, SSH, OTHER, REFUSED];
    let end = |e: &Value| {
        let (local, peer) = (event::local(e).port(), event::peer(e).port());
        let server = ports.contains(&local);
        (if server { local } else { peer }, server)
    };
    objects.iter().map(end).collect()
}

/// A program of this name that connects to an address and closes: bash.
fn connect_as(folder: &TempDir, name: &str, to: SocketAddr) -> std::io::Result<Command> {
    let program = folder.join(name);
    if !program.exists() {
        fs::copy("/bin/bash", &program)?;
    }
    let mut command = Command::new(program);
    command.args(["-c", &format!("exec 3<>/dev/tcp/{}/{}", to.ip(), to.port())]);
    Ok(command)
}

/// The expressions that people write most, each by a run of its own, all of the
/// same connections.
#[story]
fn the_expressions_that_people_write() {
    if !live() {
        return;
    }
    let netns = match Netns::new() {
        Ok(netns) => netns,
        Err(e) => return skip(&format!("no network namespace: {e}")),
    };
    netns.ip("address add 10.0.0.5/8 dev lo");
    netns.ip("address add 192.168.7.1/24 dev lo");
    let own = process::id();
    let pid = format!("pid {own}");
    let everything = || with(both(&[HTTPS, SSH, OTHER]), &[(REFUSED, false)]);
    let at_ten = || with(both(&[HTTPS, SSH]), &[(REFUSED, false)]);
    let expected: [(&str, Ends); 12] = [
        ("port 443", both(&[HTTPS])),
        ("dst port 443", clients(&[HTTPS])),
        ("dport = :443", clients(&[HTTPS])),
        ("host 10.0.0.5", at_ten()),
        ("dst net 10.0.0.0/8", at_ten()),
        (
            "not port 22",
            with(both(&[HTTPS, OTHER]), &[(REFUSED, false)]),
        ),
        ("state established", both(&[HTTPS, SSH, OTHER])),
        ("( dport = :ssh or sport = :ssh )", both(&[SSH])),
        (&pid, everything()),
        ("comm nginx", clients(&[HTTPS])),
        (
            "not ( src net 10.0.0.0/8 and dst net 10.0.0.0/8 )",
            both(&[OTHER]),
        ),
        ("cause refused or cause timed_out", clients(&[REFUSED])),
    ];
    let start = |expr: &str| Run::quiet("--format json --buffer 256K").arg(expr).start();
    let tracers: Vec<Tracer> = expected.iter().map(|(expr, _)| start(expr)).collect();
    let folder = TempDir::new();
    let inode = netns.run(move || {
        for at in ["10.0.0.5:443", "10.0.0.5:22", "192.168.7.1:8080"] {
            let listener = std::net::TcpListener::bind(at).expect("the port");
            net::converse(&listener);
            if at.ends_with(":443") {
                let to = listener.local_addr().unwrap();
                let nginx = connect_as(&folder, "nginx", to).and_then(net::output);
                assert!(nginx.is_ok_and(|out| out.status.success()), "no bash");
                net::drain(listener.accept().unwrap().0);
            }
        }
        TcpStream::connect("10.0.0.5:9").expect_err("nobody listens");
        let own = fs::metadata("/proc/thread-self/ns/net");
        own.expect("a network namespace").ino()
    });
    for (tracer, (expr, expected)) in tracers.into_iter().zip(expected) {
        let mut all = event::objects(&tracer.stop().ok().lines());
        all.retain(|e| e["network.namespace"] == inode);
        let record = |e: &Value| e["event.name"] == "connection";
        let (records, events): (Vec<_>, Vec<_>) = all.into_iter().partition(record);
        assert_eq!(ends(&records), expected, "{expr}: {records:#?}");
        if expr.starts_with("cause") {
            assert_eq!(events, [] as [Value; 0]);
            assert!(records.iter().all(|e| e["connection.cause"] == "refused"));
            continue;
        }
        assert_eq!(ends(&events), expected, "{expr}: {events:#?}");
        if expr == "state established" {
            assert!(events.iter().all(|e| e["tcp.state.new"] == "ESTABLISHED"));
            continue;
        }
        for life in event::lives(&events) {
            let states = event::transitions(&life);
            let first = states.first().map(String::as_str);
            assert!(
                matches!(first, Some("CLOSE>SYN_SENT" | "LISTEN>SYN_RECV")),
                "{expr}: {life:#?}"
            );
            assert!(
                states.last().is_some_and(|last| last.ends_with(">CLOSE")),
                "{expr}: {life:#?}"
            );
        }
        if expr == "comm nginx" {
            let named = |e: &Value| e["process.name"] == "nginx";
            assert!(events.iter().all(named), "{events:#?}");
        }
    }
}

/// A process and those that descend from it, also those that are born later.
#[story]
fn a_tree_of_processes() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let mut shell = Command::new("bash");
    let Ok(mut shell) = shell.stdin(Stdio::piped()).stdout(Stdio::null()).spawn() else {
        return skip("no bash");
    };
    let tracer = Run::quiet("--format json")
        .arg(format!("tree {}", shell.id()))
        .start();
    net::converse(&listener);
    // A grandchild, whose parent ends.
    let connect = format!("exec 3<>/dev/tcp/{}/{}", server.ip(), server.port());
    let script = format!("( ( {connect} ) & )\n");
    shell
        .stdin
        .as_mut()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    net::drain(listener.accept().unwrap().0);
    drop(shell.stdin.take());
    shell.wait().expect("its end");
    let shown = event::with(&event::objects(&tracer.stop().ok().lines()), server);
    let lives = event::lives(&shown);
    assert_eq!(lives.len(), 1, "{shown:#?}");
    assert_eq!(
        event::transitions(&lives[0]).first().unwrap(),
        "CLOSE>SYN_SENT"
    );
    assert!(shown.iter().all(|e| event::peer(e) == server), "{shown:#?}");
}

/// Says to read the filter's file again, and waits until that is said.
fn again(tracer: &Tracer, file: &std::path::Path, text: &str, says: &str) {
    let said = |tracer: &Tracer| tracer.stderr().matches(says).count();
    let before = said(tracer);
    fs::write(file, text).expect("the filter");
    tracer.child.signal(Signal::SIGHUP);
    wait::until("the filter is read", || said(tracer) > before);
}

const READ: &str = "the filter was read again";

/// The filter is exchanged a hundred times under load; what both let through is
/// shown, each event once. In the sandbox it is in force in user space alone.
#[story]
fn a_filter_is_exchanged_under_load() {
    if live() {
        exchanged("", READ, 100);
    }
}

/// The same where each one gets into the kernel, too: it is exchanged there.
#[story]
fn a_filter_is_exchanged_in_the_kernel_under_load() {
    if !live() {
        return;
    }
    for (way, times) in [("tracepoint", 100), ("btf", 20)] {
        let args = format!("--sandbox off --transport {way}");
        let says = "note: the filter is in force in the kernel, too";
        let sums = exchanged(&args, says, times);
        assert!(sums["filter.kept_away"].as_u64() > Some(20), "{sums:#?}");
    }
}

/// The sums of a run with these arguments that says this when a filter is in force.
fn exchanged(args: &str, says: &str, times: usize) -> Value {
    let [listener, other] = [net::own_ip(), net::own_ip()].map(net::listen);
    let server = listener.local_addr().unwrap();
    let folder = TempDir::new();
    let file = folder.join("filter");
    let port = server.port();
    let filters = [
        format!("# either end\nport {port}\n"),
        format!("src port {port} or\n dst port {port} # the same\n"),
    ];
    fs::write(&file, &filters[0]).expect("the filter");
    let log = folder.join("log");
    let tracer = Run::new(&format!(
        "--format json --log-format json --buffer 16M {args}"
    ))
    .arg(format!("--log-file={}", log.display()))
    .arg(format!("--filter-file={}", file.display()))
    .start();
    let done = AtomicBool::new(false);
    let connections = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut connections = 0;
            while !done.load(Ordering::Relaxed) {
                net::converse(&listener);
                net::converse(&other);
                connections += 1;
                // What changes a filter is to lose nothing, not what can't be read in time.
                wait::pace(Duration::from_micros(200));
            }
            connections
        });
        for n in 1..=times {
            again(&tracer, &file, &filters[n % 2], says);
        }
        done.store(true, Ordering::Relaxed);
        load.join().expect("the load")
    });
    let out = tracer.stop().ok();
    let sums = event::objects(&out.lines()[out.lines().len() - 1..]);
    let sums = event::summary(&sums).clone();
    assert_eq!(event::number(&sums, "lost.events"), 0, "{sums:#?}");
    // By the log: who reads the pipe may be slow.
    let log = fs::read_to_string(&log).expect("the log");
    let all = event::objects(&log.lines().collect::<Vec<_>>());
    assert!(all.iter().all(|e| e["event.name"] != "lost"));
    let shown = event::with(&all, server);
    assert!(connections > 10, "{connections}");
    assert_eq!(
        shown.len(),
        10 * connections,
        "of {connections} connections"
    );
    let lives = event::lives(&shown);
    assert_eq!(lives.len(), 2 * connections);
    for life in lives {
        let states = event::transitions(&life);
        assert!(
            states == event::CLIENT || states == event::SERVER,
            "{life:#?}"
        );
    }
    assert_eq!(sums["filter.changes"], times);
    // The last of an even number.
    assert_eq!(sums["filter.expression"], format!("port {port}"));
    sums
}

/// What can't be understood leaves the filter as it is; what can takes its place.
#[story]
fn a_broken_file_changes_nothing() {
    if !live() {
        return;
    }
    let [one, other] = [net::own_ip(), net::own_ip()].map(net::listen);
    let servers = [one.local_addr().unwrap(), other.local_addr().unwrap()];
    let folder = TempDir::new();
    let file = folder.join("filter");
    fs::write(&file, format!("dst port {}", servers[0].port())).expect("the filter");
    let tracer = Run::quiet("--format json")
        .arg(format!("--filter-file={}", file.display()))
        .start();
    let seen = |tracer: &Tracer, server, events| {
        tracer.until(|lines| event::with(&event::objects(lines), server).len() >= events)
    };
    again(&tracer, &file, "# what\nprot 80", "did you mean 'port'?");
    assert!(
        tracer.stderr().contains("filter:2: unknown word 'prot'"),
        "{}",
        tracer.stderr()
    );
    net::converse(&one);
    net::converse(&other);
    assert!(seen(&tracer, servers[0], 5));
    again(&tracer, &file, &format!("port {}", servers[1].port()), READ);
    net::converse(&one);
    net::converse(&other);
    assert!(seen(&tracer, servers[1], 10));
    fs::remove_file(&file).expect("the file");
    let said = |tracer: &Tracer| tracer.stderr().contains("cannot read the filter");
    tracer.child.signal(Signal::SIGHUP);
    wait::until("the file is missed", || said(&tracer));
    let all = event::objects(&tracer.stop().ok().lines());
    assert_eq!(event::with(&all, servers[0]).len(), 5);
    assert_eq!(event::with(&all, servers[1]).len(), 10);
}

/// Nor does what is longer than any kernel takes, also where no jump reaches its end.
#[story]
fn a_filter_that_is_too_long_starts_nothing() {
    if !live() {
        return;
    }
    let set = |word: &str, count: u32, name: &str| {
        let one = |n: u32| format!("{name}{}", 3 * n + 1);
        let all: Vec<String> = (0..count).map(one).collect();
        format!("{word} {{ {} }}", all.join(", "))
    };
    let sets = |count| {
        [
            set("pid", count, ""),
            set("uid", count, ""),
            set("netns", count, ""),
        ]
    };
    let long = format!(
        "( {} ) and {}",
        sets(500).join(" or "),
        set("comm", 128, "name_")
    );
    let says = "the filter is too long: it has ";
    for args in ["", "-d"] {
        let out = Run::quiet(args).arg(&long).run();
        assert_eq!(out.code, Some(2), "{args}");
        assert!(out.stderr.contains(says), "{args}: {}", out.stderr);
    }
    // The same of a file, at the start and later.
    let folder = TempDir::new();
    let file = folder.join("filter");
    let flag = format!("--filter-file={}", file.display());
    fs::write(&file, &long).expect("the filter");
    let out = Run::quiet("").arg(&flag).run();
    assert!(
        out.code == Some(2) && out.stderr.contains(says),
        "{}",
        out.stderr
    );
    fs::write(&file, "port 9").expect("the filter");
    let tracer = Run::quiet("").arg(&flag).start();
    again(&tracer, &file, &long, says);
    tracer.stop().ok();
    // However much alternates, it takes no more room; nor do long sets, which are decided in
    // user space.
    for long in [
        "port 1 or ".repeat(9_000) + "port 2",
        (0..7_000)
            .map(|n| format!("port {n} or "))
            .collect::<String>()
            + "ip6",
        set("comm", 11_000, "x"),
        set("pid", 11_000, ""),
        (0..200)
            .map(|n| format!("comm x{n}* or "))
            .collect::<String>()
            + "pid 7",
    ] {
        let out = Run::quiet("--duration 0.1").arg(&long[..]).run();
        assert_eq!(out.code, Some(0), "{}: {}", &long[..40], out.stderr);
    }
}

/// What a way to the events does not tell, and a filter asks for, is said at once.
#[story]
fn what_is_not_told_is_said() {
    if !live() {
        return;
    }
    let says = "warning: what the filter asks for is not told here: netns, cgroup (";
    let folder = TempDir::new();
    let file = folder.join("filter");
    fs::write(&file, "port 9").expect("the filter");
    let tracer = Run::quiet("--transport perf")
        .arg(format!("--filter-file={}", file.display()))
        .start();
    assert!(
        !tracer.stderr().contains("not told here"),
        "{}",
        tracer.stderr()
    );
    again(&tracer, &file, "netns 7 and not cgroup 7", says);
    tracer.stop().ok();
    let out = Run::quiet("--transport perf --duration 0.1")
        .arg("netns 7 and not cgroup 7 and pid 7")
        .run()
        .ok();
    assert!(out.stderr.contains(says), "{}", out.stderr);
    assert!(
        out.stderr
            .contains("perf samples do not tell it; allow bpf(2))"),
        "{}",
        out.stderr
    );
    let out = Run::quiet("--transport perf --duration 0.1")
        .arg("pid 7 or tree 7 or comm x or uid 7 or failures")
        .run()
        .ok();
    assert!(!out.stderr.contains("netns"), "{}", out.stderr);
    assert!(out.stderr.contains("not told here: "), "{}", out.stderr);
}

/// What can't be understood at the start starts nothing.
#[story]
fn a_mistake_starts_nothing() {
    for (args, says) in [
        (
            "prot 80",
            "filter: unknown word 'prot'; did you mean 'port'?\n  prot 80\n  ^^^^\n",
        ),
        ("stray", "filter: unknown word 'stray'\n  stray\n  ^^^^^\n"),
        (
            "--filter-file /nonexistent",
            "cannot read the filter /nonexistent: ",
        ),
    ] {
        let out = Run::quiet(args).run();
        assert_eq!(out.code, Some(2), "{args}");
        assert!(
            out.stderr.contains(says) && out.stdout.is_empty(),
            "{}",
            out.stderr
        );
    }
    let out = Run::new("--help filter").run().ok();
    assert!(out.stdout.contains("( dport = :ssh or sport = :ssh )"));
}
