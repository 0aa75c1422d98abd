//! Connections that are open before the start.

use std::net::SocketAddr;
use std::process::Command;

use super::actor::{Actor, Stage};
use super::common::event::{self, number, text};
use super::common::net::{Netns, own_ip};
use super::common::{Run, Tracer, skip};
use super::{WAYS, from_scan, the, told, whose};

fn anywhere() -> SocketAddr {
    SocketAddr::new(own_ip().into(), 0)
}

/// A connection, open: the server's socket is `s`, the client's `c`.
struct Pair {
    server: Actor,
    client: Actor,
    at: SocketAddr,
    from: SocketAddr,
}

impl Pair {
    fn open(stage: &Stage) -> Pair {
        Pair::of(stage.actor("server"), stage.actor("client"), anywhere())
    }

    fn of(mut server: Actor, mut client: Actor, at: SocketAddr) -> Pair {
        let at = server.listen("l", at);
        let from = client.connect("c", at);
        server.ask("accept l s");
        client.ask("send c 3");
        server.ask("receive s 3");
        Pair {
            server,
            client,
            at,
            from,
        }
    }

    /// The server closes first, then the client.
    fn close(&mut self) {
        self.server.ask("close s");
        self.client.ask("receive c all");
        self.client.ask("close c");
    }
}

/// The events of the socket with these ends.
fn life(all: &[event::Value], local: SocketAddr, peer: SocketAddr) -> Vec<event::Value> {
    let mine = |e: &&event::Value| event::local(e) == local && event::peer(e) == peer;
    let found: Vec<_> = event::with(all, local)
        .iter()
        .filter(mine)
        .cloned()
        .collect();
    let ids: Vec<_> = found.iter().map(|e| text(e, "socket.id")).collect();
    assert!(ids.windows(2).all(|w| w[0] == w[1]), "two: {found:#?}");
    found
}

/// By every way, in both directions: what the owner doesn't do itself is the
/// owner's nevertheless.
pub fn known_at_every_event(stage: &Stage) {
    for way in WAYS {
        let mut pair = Pair::open(stage);
        let tracer = Tracer::json(way);
        pair.close();
        let all = told(tracer, pair.at, 2);
        let client = life(&all, pair.from, pair.at);
        let expected = [
            "ESTABLISHED>CLOSE_WAIT",
            "CLOSE_WAIT>LAST_ACK",
            "LAST_ACK>CLOSE",
        ];
        assert_eq!(event::transitions(&client), expected, "{way}");
        let first = the(&client, "ESTABLISHED>CLOSE_WAIT");
        assert_eq!(whose(first), from_scan(&pair.client.who), "{way}");
        assert_eq!(text(first, "process.name"), "client");
        assert_eq!(number(first, "process.thread.id"), pair.client.who.pid);
        assert_eq!(number(first, "process.parent_pid"), pair.client.who.parent);
        // Its user at the start is not its user now.
        assert!(first.get("user.id").is_none(), "{way}: {first}");
        assert_eq!(number(the(&client, "CLOSE_WAIT>LAST_ACK"), "user.id"), 0);
        let server = life(&all, pair.at, pair.from);
        let expected = [
            "ESTABLISHED>FIN_WAIT1",
            "FIN_WAIT1>FIN_WAIT2",
            "FIN_WAIT2>CLOSE",
        ];
        assert_eq!(event::transitions(&server), expected, "{way}");
        for (life, who) in [(&client, &pair.client.who), (&server, &pair.server.who)] {
            for event in life {
                assert_eq!(whose(event).0, Some(who.pid), "{way}: {event}");
            }
        }
    }
}

pub fn without_a_scan(stage: &Stage) {
    let mut pair = Pair::open(stage);
    let tracer = Tracer::json("--no-snapshot");
    pair.close();
    let all = told(tracer, pair.at, 2);
    let client = life(&all, pair.from, pair.at);
    let first = the(&client, "ESTABLISHED>CLOSE_WAIT");
    assert_eq!(whose(first), (None, "none".into()));
    assert_eq!(number(event::summary(&all), "connections.untouched"), 0);
}

/// The peer is gone without a word: what is sent is sent again.
pub fn retransmission(stage: &Stage) {
    let netns = match Netns::new() {
        Ok(netns) => netns,
        Err(errno) => return skip(&format!("no network namespace: {errno}")),
    };
    let (server, client) = (
        stage.actor_in(&netns, "server"),
        stage.actor_in(&netns, "client"),
    );
    let at = SocketAddr::new([127, 0, 0, 1].into(), 0);
    let mut pair = Pair::of(server, client, at);
    let tracer = Tracer::json("");
    netns.ip("link set lo down");
    pair.client.ask("send c 5");
    let again = |lines: &[String]| {
        let all = event::with(&event::objects(lines), pair.at);
        let mut again = all
            .into_iter()
            .filter(|e| text(e, "event.name").starts_with("tcp_retransmit"));
        again.next()
    };
    tracer.until(|lines| again(lines).is_some());
    let lines = tracer.stop().ok().lines();
    let first = again(&lines).unwrap_or_else(|| panic!("nothing is sent again: {lines:#?}"));
    assert_eq!(whose(&first), from_scan(&pair.client.who));
}

pub fn hostile_names(stage: &Stage) {
    for name in ["a)S1", ")(", "\"\\=\u{1b}[3m", "\u{7f}\u{20ac}", "x\ty)"] {
        let mut pair = Pair::of(stage.actor("server"), stage.actor(name), anywhere());
        let tracer = Tracer::json("");
        pair.close();
        let all = told(tracer, pair.at, 2);
        let client = life(&all, pair.from, pair.at);
        let first = the(&client, "ESTABLISHED>CLOSE_WAIT");
        assert_eq!(whose(first), from_scan(&pair.client.who));
        assert_eq!(text(first, "process.name"), name);
        assert_eq!(number(first, "process.parent_pid"), pair.client.who.parent);
    }
}

/// Both have it: it is the one's who opened it, not the child's.
pub fn shared(stage: &Stage) {
    let mut pair = Pair::open(stage);
    let mut child = stage.fork(&mut pair.client);
    let tracer = Tracer::json("");
    pair.server.ask("close s");
    pair.client.ask("receive c all");
    child.ask("close c");
    pair.client.ask("close c");
    let all = told(tracer, pair.at, 2);
    let client = life(&all, pair.from, pair.at);
    let first = the(&client, "ESTABLISHED>CLOSE_WAIT");
    assert_eq!(whose(first), from_scan(&pair.client.who));
}

/// The one who opened it has closed it: it is the other's.
pub fn passed_on(stage: &Stage) {
    let mut pair = Pair::open(stage);
    let mut heir = stage.actor("heir");
    pair.client.pass("c", &mut heir);
    pair.client.ask("close c");
    let tracer = Tracer::json("");
    pair.server.ask("close s");
    heir.ask("receive c all");
    heir.ask("close c");
    let all = told(tracer, pair.at, 2);
    for event in life(&all, pair.from, pair.at) {
        assert_eq!(whose(&event).0, Some(heir.who.pid), "{event}");
    }
}

pub fn two_namespaces(stage: &Stage) {
    let (a, b) = match (Netns::new(), Netns::new()) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(errno), _) | (_, Err(errno)) => {
            return skip(&format!("no network namespace: {errno}"));
        }
    };
    let open = |netns: &Netns| {
        let mut server = stage.actor_in(netns, "server");
        let mut client = stage.actor_in(netns, "client");
        let at = server.listen("l", "127.0.0.1:7000".parse().unwrap());
        client.ask("socket c 4");
        client.ask("bind c 127.0.0.1:40000");
        let from = client.address(&format!("connect c {at}"));
        server.ask("accept l s");
        Pair {
            server,
            client,
            at,
            from,
        }
    };
    let mut pairs = [open(&a), open(&b)];
    let tracer = Tracer::json("");
    pairs.iter_mut().for_each(Pair::close);
    let all = told(tracer, pairs[0].at, 4);
    let lives = event::lives(&event::with(&all, pairs[0].at));
    assert_eq!(lives.len(), 4, "{lives:#?}");
    let mut owners: Vec<u64> = Vec::new();
    for life in &lives {
        let pid = whose(&life[0]).0;
        assert!(life.iter().all(|e| whose(e).0 == pid), "{life:#?}");
        owners.extend(pid);
    }
    let mut expected: Vec<u64> = Vec::new();
    for pair in &pairs {
        expected.extend([pair.server.who.pid, pair.client.who.pid]);
    }
    owners.sort_unstable();
    expected.sort_unstable();
    assert_eq!(owners, expected);
    // The clients' first event is the kernel's doing: by their namespaces alone.
    for pair in &pairs {
        let first = lives
            .iter()
            .map(|life| &life[0])
            .find(|e| whose(e).0 == Some(pair.client.who.pid));
        assert_eq!(first.map(whose), Some(from_scan(&pair.client.who)));
    }
}

pub fn report(stage: &Stage) {
    let mut pairs: Vec<Pair> = (0..3).map(|_| Pair::open(stage)).collect();
    let at = pairs[0].at;
    let mut args: Vec<String> = Vec::new();
    args.push(format!("--src-port {}", at.port()));
    let tracer = Run::quiet(&args.join(" ")).start();
    let other = Run::quiet(&format!("--dst-ip {}", at.ip())).start();
    pairs[0].close();
    let closed = |lines: &[String]| {
        let all = event::lines_with(lines, at);
        all.iter().any(|l| l.state == "Connection Closed")
    };
    tracer.until(closed);
    other.until(closed);
    let text = tracer.stop().ok().stdout;
    let heading = format!("Connection: {at} -> {}\n  PID=", pairs[0].from);
    let life = text.split_once(&heading).map_or("", |(_, rest)| rest);
    let life = life.lines().next().unwrap_or_default();
    assert!(life.contains(" open since before the start, "), "{text}");
    assert_eq!(text.matches("Connection: ").count(), 1, "{text}");
    assert!(!text.contains("had no event"), "{text}");
    // Both ends of a connection have one of these; the other pairs are at other addresses.
    let text = other.stop().ok().stdout;
    assert!(!text.contains("had no event"), "{text}");
    // A filter that fits connections without an event, too.
    let idle = Run::quiet(&format!("--pid {} --duration 0.2", pairs[1].client.who.pid))
        .run()
        .ok();
    let line = "(1 more connections were open before the start, and had no event)\n";
    assert!(idle.stdout.contains(line), "{}", idle.stdout);
}

pub fn no_room(stage: &Stage) {
    let pairs: Vec<Pair> = (0..2).map(|_| Pair::open(stage)).collect();
    let run = Run::quiet("--connections-max 2 --duration 0.2").run().ok();
    assert!(
        run.stderr
            .contains("more connections are open than --connections-max has room for"),
        "{}",
        run.stderr
    );
    drop(pairs);
}

/// With the rights to trace alone: this namespace is searched, the others are
/// not, which is said once; and whose the sockets are is not known.
pub fn confined(stage: &Stage) {
    let pair = Pair::open(stage);
    let caps = "-all,+bpf,+perfmon";
    let out = Command::new("setpriv")
        .args(["--securebits=+noroot", "--reuid=65534", "--clear-groups"])
        .args([
            format!("--inh-caps={caps}"),
            format!("--ambient-caps={caps}"),
        ])
        .arg(super::common::binary())
        .args([
            "--no-log",
            "--transport=btf",
            "--duration=0.2",
            "--format=json",
        ])
        .arg(format!("--dst-ip={}", pair.at.ip()))
        .output();
    let Ok(out) = out else {
        return skip("no setpriv");
    };
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    let notes = stderr.lines().filter(|l| l.contains("before the start"));
    let notes: Vec<_> = notes.collect();
    assert_eq!(notes.len(), 2, "{stderr}");
    assert!(
        notes[0].contains("without CAP_SYS_ADMIN only this network namespace"),
        "{stderr}"
    );
    assert!(
        notes[1].contains("processes may not be looked into: "),
        "{stderr}"
    );
    let stdout = String::from_utf8_lossy(&out.stdout);
    let all = event::objects(&stdout.lines().collect::<Vec<_>>());
    assert_eq!(number(event::summary(&all), "connections.untouched"), 1);
}
