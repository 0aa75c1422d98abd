//! Live: the programs by BTF tell the same as those on tracefs' tracepoints,
//! and are taken where tracefs is out of reach.

mod common;

use common::event::{self, Value};
use common::life::joined;
use common::{Run, TempDir, Tracer, binary, eventually, kernel, live, skip, traffic};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use story::story;

/// Both ways side by side, with everything shown.
struct Both {
    btf: Tracer,
    tracefs: Tracer,
}

impl Both {
    fn start() -> Option<Both> {
        if !live() {
            return None;
        }
        if fs::metadata(socket_snoop::btf::PATH).is_err() {
            skip("this kernel shows no BTF");
            return None;
        }
        Some(Both {
            btf: Tracer::json("--all --transport btf"),
            tracefs: Tracer::json("--all --transport=tracepoint"),
        })
    }

    fn until(&self, server: SocketAddr, kind: &str, count: usize) {
        for tracer in [&self.btf, &self.tracefs] {
            traffic::until(tracer, server, kind, count);
        }
    }

    /// The events with these servers, which must be the same by both ways.
    fn same(self, servers: &[SocketAddr]) -> Vec<Value> {
        let by = |tracer: Tracer| {
            let all = event::objects(&tracer.stop().ok().lines());
            assert_eq!(event::summary(&all)["lost.events"], 0);
            all
        };
        let (btf, tracefs) = (by(self.btf), by(self.tracefs));
        // The user of a process that is not on the CPU is told by tracefs alone, at
        // retransmissions, and at the first and the last event.
        let alike = |all: &[Value], server| {
            let mut own = event::with(all, server);
            let of_others = |e: &&mut Value| {
                let ends = e["tcp.state.old"] == "LISTEN" || e["tcp.state.new"] == "CLOSE";
                (ends || e["event.name"] != "tcp_state") && e["owner.source"] != "task"
            };
            for e in own.iter_mut().filter(of_others) {
                e.as_object_mut().unwrap().shift_remove("user.id");
            }
            comparable(&own)
        };
        let mut own = Vec::new();
        for server in servers {
            let keys = alike(&tracefs, *server);
            assert!(!keys.is_empty(), "nothing of {server}");
            assert_eq!(alike(&btf, *server), keys);
            own.extend(event::with(&btf, *server));
        }
        own
    }
}

/// Without what differs from run to run, and by sockets: between CPUs, the
/// order is that of two clocks' readings.
fn comparable(events: &[Value]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = events
        .iter()
        .map(|e| {
            let end = format!("{} {}", event::local(e), event::peer(e));
            let mut keys = e.as_object().expect("an object").clone();
            for key in ["time", "socket.id"] {
                keys.shift_remove(key);
            }
            (end, Value::from(keys).to_string())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[story]
fn connections_are_told_the_same() {
    let Some(both) = Both::start() else { return };
    let servers = traffic::connections(&|server, kind, count| both.until(server, kind, count));
    let own = both.same(&servers);
    traffic::check_connections(&own, &servers);
}

#[story]
fn retransmissions_are_told_the_same() {
    let Some((here, there)) = joined() else {
        return;
    };
    let Some(both) = Both::start() else { return };
    let until = |server, kind: &str, count| both.until(server, kind, count);
    let made = traffic::retransmissions(&here, &there, &until);
    let servers = made.map(|(server, _)| server);
    // What is under way while one of them stops would be seen by one only.
    traffic::closed(&both.btf, &servers);
    let own = both.same(&servers);
    for (server, kind) in made {
        let found = event::with(&own, server);
        assert!(found.iter().any(|e| e["event.name"] == kind), "{found:#?}");
    }
}

#[story]
fn its_programs_have_names_and_go_away() {
    if !live() {
        return;
    }
    let list = || kernel::programs().map(|all| all.into_iter().collect::<BTreeMap<_, _>>());
    if let Err(e) = list() {
        return skip(&format!("BPF programs can't be listed: {e}"));
    }
    let Some(both) = Both::start() else { return };
    // By their descriptors: others are loaded beside them.
    let mut held = kernel::programs_of(both.btf.child.pid());
    held.extend(kernel::programs_of(both.tracefs.child.pid()));
    let mut ours = list().unwrap();
    ours.retain(|id, _| held.contains(id));
    for name in ["socket_snoop_st", "socket_snoop_rt"] {
        let count = ours.values().filter(|n| *n == name).count();
        assert!(count >= 2, "{name} by both ways: {ours:?}");
    }
    both.btf.stop().ok();
    both.tracefs.stop().ok();
    let gone = eventually(|| {
        let after = list().unwrap();
        !ours.keys().any(|id| after.contains_key(id))
    });
    assert!(gone, "still loaded: {ours:?}");
}

#[story]
fn the_way_is_said_in_one_line_unless_it_is_the_first() {
    let Some(both) = Both::start() else { return };
    let said = |tracer: &Tracer| {
        let lines: Vec<String> = tracer.stderr().lines().map(str::to_owned).collect();
        lines.into_iter().filter(|l| l.contains("BTF")).count()
    };
    assert_eq!((said(&both.btf), said(&both.tracefs)), (1, 0));
    both.btf.stop().ok();
    both.tracefs.stop().ok();
    let out = Run::quiet("--transport carrier-pigeon").run();
    assert_eq!(out.code, Some(2));
    assert!(out.stderr.contains("tracepoint, btf or perf"), "{out:?}");
}

/// tracefs is for root (or CAP_DAC_READ_SEARCH), BTF is for everybody.
#[story]
fn without_the_right_to_tracefs_it_is_by_btf() {
    if !live() {
        return;
    }
    if fs::metadata(socket_snoop::btf::PATH).is_err() {
        return skip("this kernel shows no BTF");
    }
    let dir = TempDir::new();
    let copy = dir.join("socket-snoop");
    fs::copy(binary(), &copy).expect("copy the program");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |more: &str| {
        let caps = "-all,+bpf,+perfmon";
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}={caps}")))
            .arg(&copy)
            .args(["--no-log", "--duration=0.1", "--buffer=64K"])
            .args(more.split_ascii_whitespace())
            .output()
    };
    let Ok(out) = run("") else {
        return skip("no setpriv");
    };
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(0), "{text}");
    let said = text
        .lines()
        .any(|l| l.contains("tracing by BTF: ") && l.contains("tracefs"));
    assert!(said, "{text}");
    let out = run("--transport=tracepoint").expect("setpriv");
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(3), "{text}");
    assert!(text.contains("CAP_DAC_READ_SEARCH"), "{text}");
}
