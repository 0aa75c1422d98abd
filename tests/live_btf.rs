//! Live: the programs by BTF tell the same as those on tracefs' tracepoints,
//! and are taken where tracefs is out of reach.

mod common;

use common::event::{self, Value};
use common::net::{self, Netns};
use common::{Run, TempDir, Tracer, binary, eventually, kernel, live, skip};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

const NOBODY: &str = "02:00:00:00:00:77";

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

    /// Waits until both have so many events of this kind with the server.
    fn until(&self, server: SocketAddr, kind: &str, count: usize) {
        for tracer in [&self.btf, &self.tracefs] {
            tracer.until(|lines| {
                let own = event::with(&event::objects(lines), server);
                own.iter().filter(|e| e["event"] == kind).count() >= count
            });
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
        let mut own = Vec::new();
        for server in servers {
            let keys = comparable(&event::with(&tracefs, *server));
            assert!(!keys.is_empty(), "nothing of {server}");
            assert_eq!(comparable(&event::with(&btf, *server)), keys);
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
                keys.remove(key);
            }
            (end, Value::from(keys).to_string())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn connections_are_told_the_same() {
    let Some(both) = Both::start() else { return };
    let mut servers = Vec::new();
    // IPv4, IPv6, an IPv6 client and an IPv6 server of IPv4 connections.
    let v4 = net::listen(net::own_ip());
    let v6 = net::listen(net::LOOPBACK6);
    let mapped_ip = net::own_ip();
    let mapped = net::listen(mapped_ip);
    let dual = net::listen(Ipv6Addr::UNSPECIFIED);
    net::converse(&v4);
    net::converse(&v6);
    for listener in [&v4, &v6, &mapped] {
        servers.push(listener.local_addr().unwrap());
    }
    let as_mapped = IpAddr::from(mapped_ip.to_ipv6_mapped());
    net::converse_at(&mapped, SocketAddr::new(as_mapped, servers[2].port()));
    let port = dual.local_addr().unwrap().port();
    servers.push(SocketAddr::new(net::own_ip().into(), port));
    net::converse_at(&dual, servers[3]);
    // Refused: nobody listens there.
    let gone = net::listen(net::own_ip());
    servers.push(gone.local_addr().unwrap());
    drop(gone);
    TcpStream::connect(servers[4]).expect_err("refused");
    // From LISTEN to CLOSE, too.
    drop((v4, v6, mapped, dual));
    for server in &servers[..4] {
        both.until(*server, "tcp_state", 10);
    }
    let own = both.same(&servers);
    for (server, wire) in servers.iter().zip(["ipv4", "ipv6", "ipv4", "ipv4"]) {
        let (of_client, of_server) = event::pair(
            &own.iter()
                .filter(|e| !event::transition(e).ends_with(">LISTEN"))
                .filter(|e| event::transition(e) != "LISTEN>CLOSE")
                .cloned()
                .collect::<Vec<_>>(),
            *server,
        );
        assert_eq!(event::transitions(&of_client), event::CLIENT);
        assert_eq!(event::transitions(&of_server), event::SERVER);
        assert!(of_client.iter().all(|e| e["network.type"] == wire));
    }
}

fn joined() -> Option<(Netns, Netns)> {
    if !live() {
        return None;
    }
    Netns::joined()
        .inspect_err(|e| skip(&format!("no network namespaces: {e}")))
        .ok()
}

#[test]
fn retransmissions_are_told_the_same() {
    let Some((here, there)) = joined() else {
        return;
    };
    let Some(both) = Both::start() else { return };
    let nobody: [SocketAddr; 2] = ["10.77.0.9:4478", "[fd77::9]:4478"].map(|s| s.parse().unwrap());
    for server in nobody {
        here.ip(&format!(
            "neigh add {} lladdr {NOBODY} nud permanent dev v0",
            server.ip()
        ));
    }
    let attempts = nobody.map(|server| {
        here.run(move || {
            thread::spawn(move || TcpStream::connect_timeout(&server, Duration::from_secs(2)))
        })
    });
    for attempt in attempts {
        attempt.join().unwrap().expect_err("nobody answers");
    }
    // One that gets lost, and then can't even be sent.
    let listener = there.run(|| net::listen("10.77.0.2".parse::<IpAddr>().unwrap()));
    let server = listener.local_addr().unwrap();
    let mut client = here.run(move || TcpStream::connect(server).expect("connect over veth"));
    let accepted = listener.accept().unwrap().0;
    here.ip(&format!(
        "neigh replace 10.77.0.2 lladdr {NOBODY} nud permanent dev v0"
    ));
    client.write_all(&[7; 2000]).unwrap();
    both.until(server, "tcp_retransmit", 1);
    here.ip("link set v0 down");
    // Linux 6.17 and later tell of it.
    let format = kernel::tracefs("events/tcp/tcp_retransmit_skb/format");
    let last = match format.contains(" err;") {
        true => "tcp_retransmit_failed",
        false => "tcp_retransmit",
    };
    both.until(server, last, 1);
    net::abort(client);
    net::abort(accepted);
    for server in nobody {
        both.until(server, "tcp_retransmit", 1);
    }
    // What is under way while one of them stops would be seen by one only.
    thread::sleep(Duration::from_millis(300));
    let own = both.same(&[nobody[0], nobody[1], server]);
    for (server, kind) in [
        (nobody[0], "tcp_retransmit"),
        (nobody[1], "tcp_retransmit"),
        (server, last),
    ] {
        let found = event::with(&own, server);
        assert!(found.iter().any(|e| e["event"] == kind), "{found:#?}");
    }
}

#[test]
fn its_programs_have_names_and_go_away() {
    if !live() {
        return;
    }
    let list = || kernel::programs().map(|all| all.into_iter().collect::<BTreeMap<_, _>>());
    let before = match list() {
        Ok(before) => before,
        Err(e) => return skip(&format!("BPF programs can't be listed: {e}")),
    };
    let Some(both) = Both::start() else { return };
    let mut ours = list().unwrap();
    ours.retain(|id, name| !before.contains_key(id) && name.starts_with("socket_snoop"));
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

#[test]
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
#[test]
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
