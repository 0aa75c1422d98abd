//! Live: what becomes of processes is told in every way, and a flood of it
//! costs no event.

mod common;

use common::event::{self, Value};
use common::{Guard, TempDir, Tracer, eventually, live, net, skip};
use nix::sys::prctl;
use socket_snoop::capture::{Source, Transport};
use socket_snoop::model::ability::Abilities;
use socket_snoop::owner::processes::{Descendants, Processes};
use socket_snoop::sys::time;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use story::story;

/// A flood is no good neighbour: one test at a time.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    live().then_some(guard)
}

/// Renames itself until its standard input ends: started by a test.
#[story]
#[ignore = "no test but a process of one"]
fn renames() {
    if std::env::var_os("RENAMES").is_none() {
        return;
    }
    let reader = thread::spawn(|| std::io::stdin().read(&mut [0]));
    while !reader.is_finished() {
        for name in [c"one", c"another"] {
            prctl::set_name(name).expect("a name");
        }
    }
}

fn renamers(count: usize) -> Vec<Guard> {
    let start = |_| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", "renames", "--ignored"])
            .env("RENAMES", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        Guard(command.spawn().expect("a renamer"))
    };
    (0..count).map(start).collect()
}

/// A process that connects and closes, and its server. It is older than the
/// listener: a child that is younger might be who has it.
fn client() -> (Child, TcpListener) {
    let script = "read -r ip port; exec 3<>/dev/tcp/$ip/$port; exec 3>&-";
    let mut child = Command::new("bash")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .spawn()
        .expect("bash");
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{} {}", server.ip(), server.port()).expect("tell it");
    net::drain(listener.accept().expect("accept").0);
    (child, listener)
}

#[story]
fn a_flood_of_names_costs_no_event_and_no_owner() {
    let Some(_alone) = alone() else {
        return;
    };
    for transport in ["perf", "tracepoint", "btf"] {
        let tracer = Tracer::json(&format!("--transport {transport}"));
        let flood = renamers(8);
        let mut made: HashMap<SocketAddr, u32> = HashMap::new();
        for _ in 0..30 {
            let (mut child, listener) = client();
            made.insert(listener.local_addr().unwrap(), child.id());
            assert!(child.wait().expect("wait").success());
        }
        drop(flood);
        let of = |lines: &[Value]| -> Vec<Value> {
            let states = lines.iter().filter(|e| e["event.name"] == "tcp_state");
            states
                .filter(|e| {
                    [event::local(e), event::peer(e)]
                        .iter()
                        .any(|s| made.contains_key(s))
                })
                .cloned()
                .collect()
        };
        tracer.until(|lines| of(&event::objects(lines)).len() >= made.len() * 10);
        let all = event::objects(&tracer.stop().ok().lines());
        let own = of(&all);
        assert_eq!(own.len(), made.len() * 10, "{transport}");
        let summary = event::summary(&all);
        assert_eq!(summary["lost.events"], 0, "{transport}: {summary}");
        for e in &own {
            let (server, owner) = match made.get(&event::peer(e)) {
                Some(&client) => (event::peer(e), client),
                None => (event::local(e), std::process::id()),
            };
            if let Some(pid) = e["process.pid"].as_u64() {
                assert_eq!(pid, u64::from(owner), "{transport} {server}: {e}");
            } else {
                panic!("{transport}: no owner: {e}");
            }
            let name = e["process.name"].as_str().unwrap_or("");
            assert!(!["one", "another"].contains(&name), "{transport}: {e}");
        }
        // What was lost is said, and it is no event.
        let lost = all.iter().filter(|e| e["event.name"] == "lost");
        for e in lost {
            assert_eq!(e["lost.reason"], "tasks_full", "{transport}: {e}");
            assert!(
                event::number(e, "lost.count") > 0 && e["cpu.logical_number"].is_u64(),
                "{e}"
            );
        }
    }
}

/// What /proc says of a process.
struct Found {
    parent: u32,
    name: Vec<u8>,
    kernel: bool,
}

fn found() -> BTreeMap<u32, Found> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(stat) = fs::read(entry.path().join("stat")) else {
            continue;
        };
        let from = stat.iter().position(|&b| b == b'(').unwrap();
        let end = stat.iter().rposition(|&b| b == b')').unwrap();
        let rest = String::from_utf8_lossy(&stat[end + 2..]).into_owned();
        let rest: Vec<&str> = rest.split(' ').collect();
        if rest[0] == "Z" {
            continue;
        }
        let found = Found {
            parent: rest[1].parse().unwrap(),
            name: stat[from + 1..end].to_vec(),
            kernel: rest[6].parse::<u64>().unwrap() & 0x20_0000 != 0,
        };
        all.insert(pid, found);
    }
    all
}

/// Opens the source, lets things happen, makes one connection, and asks the
/// table as it is at that connection's last event.
fn at_the_end<T>(
    transport: Transport,
    happen: impl FnOnce() -> T,
    mut ask: impl FnMut(&Processes, &T),
) {
    let mut source = Source::open(None, Some(transport), Abilities::LOCK, None).expect("a source");
    let made = happen();
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    net::converse(&listener);
    source.detach();
    let mut seen = 0;
    source.drain(u64::MAX, &mut |event, processes| {
        let ends = [event.local, event.peer].map(|end| SocketAddr::new(end.addr, end.port));
        if event.is_line() && ends.contains(&server) {
            seen += 1;
            if seen == 11 {
                ask(processes, &made);
            }
        }
        true
    });
    assert!(seen >= 11, "{transport:?}: {seen}");
    source.losses(0, &mut |lost| panic!("{lost:?}"));
}

#[story]
fn processes_are_those_of_proc() {
    let Some(_alone) = alone() else {
        return;
    };
    for transport in Transport::LADDER {
        let happen = || {
            let mut ended = Vec::new();
            for _ in 0..50 {
                let mut child = Command::new("true").spawn().expect("true");
                ended.push((child.id(), time::monotonic()));
                child.wait().expect("wait");
            }
            let mut lives = Vec::new();
            for _ in 0..5 {
                let mut command = Command::new("cat");
                command.stdin(Stdio::piped());
                lives.push(Guard(command.spawn().expect("cat")));
            }
            let run = |pid: u32| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|c| c == b"cat\n");
            assert!(eventually(|| lives.iter().all(|l| run(l.pid()))));
            (ended, lives, found())
        };
        at_the_end(transport, happen, |processes, (ended, lives, found)| {
            let now = time::monotonic();
            for (pid, since) in ended {
                assert_eq!(processes.lives(*pid, *since), Some(false), "{pid}");
            }
            for child in lives {
                let pid = child.pid();
                assert_eq!(processes.parent(pid), Some(std::process::id()));
                let name = processes.name(pid).expect("a name");
                assert_eq!(&name[..4], b"cat\0");
            }
            let (mut named, mut sure) = (0, 0);
            let still = self::found();
            for (pid, process) in found.iter().filter(|(pid, _)| still.contains_key(pid)) {
                // Of one that other work of this host has, with threads that end, it
                // may be in doubt.
                let lives = processes.lives(*pid, now);
                assert_ne!(lives, Some(false), "{pid}");
                sure += u32::from(lives == Some(true));
                assert_eq!(processes.is_kernel_thread(*pid), process.kernel, "{pid}");
                if let Some(parent) = processes.parent(*pid) {
                    assert_eq!(parent, process.parent, "{pid}");
                }
                if !process.kernel && still[pid].name == process.name {
                    let name = processes.name(*pid).expect("a name");
                    let len = name.iter().position(|&b| b == 0).unwrap_or(16);
                    assert_eq!(&name[..len], process.name, "{pid}");
                    named += 1;
                }
            }
            assert!(named > 5 && sure > 5, "{named} {sure}");
        });
    }
}

/// The classical daemon: it forks twice, and its starters end.
#[story]
fn a_daemon_is_found_by_who_started_it() {
    let Some(_alone) = alone() else {
        return;
    };
    for transport in Transport::LADDER {
        let happen = || {
            let before = time::monotonic();
            let script = "( ( exec sleep 60 <&- >&- 2>&- & echo $! ) )";
            let mut starter = Command::new("bash")
                .args(["-c", &format!("{script}; true")])
                .stdout(Stdio::piped())
                .spawn()
                .expect("bash");
            let mut line = String::new();
            let out = starter.stdout.take().expect("a pipe");
            BufReader::new(out).read_line(&mut line).expect("a line");
            let pid = starter.id();
            starter.wait().expect("wait");
            let daemon: u32 = line.trim().parse().expect("a number");
            (before, pid, daemon)
        };
        let mut daemon_is = 0;
        at_the_end(
            transport,
            happen,
            |processes, &(before, starter, daemon)| {
                daemon_is = daemon;
                let born = processes.born(daemon).expect("it lives");
                let me = std::process::id();
                assert_eq!(processes.lives(starter, born), Some(false));
                let only = Descendants::Only(daemon, born);
                let since = processes.born(me).expect("me").max(before);
                assert_eq!(processes.descendants(me, since), only);
                // After its own birth, before it made the next.
                assert_eq!(processes.descendants(starter, before), Descendants::None);
                assert_eq!(processes.parent(daemon), None);
                assert_eq!(processes.descendants(me, born + 1), Descendants::None);
            },
        );
        let daemon = nix::unistd::Pid::from_raw(daemon_is as i32);
        nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGKILL).expect("kill");
    }
}

/// Of a process that changes its user and then runs a program that changes it
/// back, the reads before and after agree; it ran another program in between.
#[story]
fn a_user_before_another_program_is_not_the_one_after() {
    let Some(_alone) = alone() else {
        return;
    };
    let tool = |name: &str| {
        let path = Command::new("sh")
            .args(["-c", &format!("command -v {name}")])
            .output();
        let path = String::from_utf8(path.expect("sh").stdout).expect("UTF-8");
        (!path.is_empty()).then(|| path.trim().to_owned())
    };
    let (Some(perl), Some(setpriv), Some(cat)) = (tool("perl"), tool("setpriv"), tool("cat"))
    else {
        return skip("no perl or setpriv");
    };
    // Programs of one name, so that the name tells nothing.
    let (outer, inner) = (TempDir::new(), TempDir::new());
    let (sudo, waits) = (outer.join("sudo"), inner.join("sudo"));
    for (from, to, mode) in [(setpriv, &sudo, 0o4755), (cat, &waits, 0o755)] {
        fs::copy(from, to).expect("a copy");
        fs::set_permissions(to, fs::Permissions::from_mode(mode)).expect("a mode");
    }
    let tracer = Tracer::json("--transport perf --all");
    for round in 0..5 {
        let (first, second) = (net::listen(net::own_ip()), net::listen(net::own_ip()));
        let [a, b] = [&first, &second].map(|l| l.local_addr().unwrap());
        let script = format!(
            "use Socket; use POSIX; open(C, '>', '/proc/self/comm'); print C 'sudo'; close C;
             sub go {{ socket($s, PF_INET, SOCK_STREAM, 0);
                connect($s, pack_sockaddr_in($_[1], inet_aton($_[0]))) or die; close $s }}
             go('{}', {}); <STDIN>; POSIX::setuid(1000); go('{}', {});
             exec '{}', '--reuid', '0', '--clear-groups', '{}';",
            a.ip(),
            a.port(),
            b.ip(),
            b.port(),
            sudo.display(),
            waits.display(),
        );
        let mut command = Command::new(&perl);
        command.args(["-e", &script]).stdin(Stdio::piped());
        let mut child = Guard(command.spawn().expect("perl"));
        let told = |server: SocketAddr| {
            net::drain(
                if server == a { &first } else { &second }
                    .accept()
                    .expect("accept")
                    .0,
            );
            tracer.until(|lines| {
                let own = event::with(&event::objects(lines), server);
                own.iter()
                    .filter(|e| e["event.name"] == "tcp_state")
                    .count()
                    >= 11
            });
            event::with(&event::objects(&tracer.lines()), server)
        };
        told(a);
        let mut input = child.0.stdin.take().expect("a pipe");
        input.write_all(b"\n").expect("go on");
        let own = told(b);
        for e in own.iter().filter(|e| event::peer(e) == b) {
            assert_eq!(
                event::number(e, "process.pid"),
                u64::from(child.pid()),
                "{e}"
            );
            assert!(e.get("user.id").is_none(), "round {round}: {e}");
        }
        // It did run as another user again.
        let status = fs::read_to_string(format!("/proc/{}/status", child.pid()));
        assert!(
            eventually(
                || fs::read_to_string(format!("/proc/{}/status", child.pid()))
                    .is_ok_and(|s| s.contains("\nUid:\t0\t0\t"))
            ),
            "{status:?}"
        );
        drop(input);
        child.wait(Duration::from_secs(5));
    }
    tracer.stop().ok();
}

/// A process that is killed closes its connections as it ends: what it does then
/// is its own, whichever of the two the kernel tells first.
#[story]
fn what_ends_closes_its_connections_itself() {
    let Some(_alone) = alone() else {
        return;
    };
    for transport in [Transport::Tracepoint, Transport::Perf] {
        let mut source =
            Source::open(None, Some(transport), Abilities::LOCK, None).expect("a source");
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        let script = format!(
            "exec 3<>/dev/tcp/{}/{}; kill -9 $$",
            server.ip(),
            server.port()
        );
        let mut command = Command::new("bash");
        let mut child = command.args(["-c", &script]).spawn().expect("bash");
        let pid = child.id();
        net::drain(listener.accept().expect("accept").0);
        child.wait().expect("wait");
        source.detach();
        let mut told = Vec::new();
        source.drain(u64::MAX, &mut |event, processes| {
            if event.peer.port == server.port() && event.on_cpu.pid == pid {
                told.push(processes.lives(pid, event.time));
            }
            true
        });
        // It was alive, then it was or had just ended; never unknown, and what
        // it did did not call it back.
        assert!(told.len() >= 2 && told[0] == Some(true), "{told:?}");
        let ended = told.iter().position(|lives| *lives == Some(false));
        let ended = ended.unwrap_or(told.len());
        let after = &told[ended..];
        assert!(after.iter().all(|lives| *lives == Some(false)), "{told:?}");
        assert!(told.iter().all(Option::is_some), "{told:?}");
    }
}
