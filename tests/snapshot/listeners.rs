//! Listeners that are there before the start, and their children.

use std::net::{IpAddr, SocketAddr};

use super::actor::{Actor, Stage, Who};
use super::common::event::{self, Value};
use super::common::net::{Netns, own_ip};
use super::common::{Tracer, skip};
use super::{the, told, whose};

fn from_listener(who: &Who) -> (Option<u64>, String) {
    (Some(who.pid), "listener".into())
}

/// A conversation with a server that listens at `l`; the client closes first.
fn converse(server: &mut Actor, client: &mut Actor, at: SocketAddr) -> SocketAddr {
    let from = client.connect("c", at);
    server.ask("accept l s");
    client.ask("close c");
    server.ask("receive s all");
    server.ask("close s");
    from
}

/// The life of the child with this peer.
fn child(all: &[Value], at: SocketAddr, from: SocketAddr) -> Vec<Value> {
    let all = event::with(all, at).into_iter();
    let life: Vec<_> = all.filter(|e| event::local(e) == at).collect();
    let of = |e: &Value| event::text(e, "socket.id").to_owned();
    let id = life.iter().find(|e| event::peer(e) == from).map(of);
    let id = id.unwrap_or_else(|| panic!("no child for {from}: {life:#?}"));
    life.into_iter().filter(|e| of(e) == id).collect()
}

/// Specific, all of IPv4, all of IPv6, both at once.
pub fn children(stage: &Stage) {
    let own = IpAddr::from(own_ip());
    let v6: IpAddr = "::1".parse().unwrap();
    let cases = [
        (SocketAddr::new(own, 0), own),
        ("0.0.0.0:0".parse().unwrap(), own),
        ("[::1]:0".parse().unwrap(), v6),
        ("[::]:0".parse().unwrap(), v6),
        ("[::]:0".parse().unwrap(), own),
    ];
    for way in ["--transport tracepoint", "--transport btf"] {
        for (bound, ip) in cases {
            let (mut server, mut client) = (stage.actor("server"), stage.actor("client"));
            let at = SocketAddr::new(ip, server.listen("l", bound).port());
            let tracer = Tracer::json(&format!("--all {way}"));
            let from = converse(&mut server, &mut client, at);
            let all = told(tracer, at, 2);
            let life = child(&all, at, from);
            let first = the(&life, "LISTEN>SYN_RECV");
            assert_eq!(whose(first), from_listener(&server.who), "{way} {bound}");
            for event in &life {
                assert_eq!(
                    whose(event).0,
                    Some(server.who.pid),
                    "{way} {bound}: {event}"
                );
            }
        }
    }
}

pub fn two_namespaces(stage: &Stage) {
    let (a, b) = match (Netns::new(), Netns::new()) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(errno), _) | (_, Err(errno)) => {
            return skip(&format!("no network namespace: {errno}"));
        }
    };
    let at: SocketAddr = "127.0.0.1:7001".parse().unwrap();
    let mut ends = [&a, &b].map(|netns| {
        let mut server = stage.actor_in(netns, "server");
        server.listen("l", "0.0.0.0:7001".parse().unwrap());
        (server, stage.actor_in(netns, "client"))
    });
    let tracer = Tracer::json("--all");
    for (server, client) in &mut ends {
        converse(server, client, at);
    }
    let all = told(tracer, at, 4);
    let firsts = event::with(&all, at).into_iter();
    let firsts: Vec<_> = firsts
        .filter(|e| e["event.name"] == "tcp_state" && event::transition(e) == "LISTEN>SYN_RECV")
        .map(|e| whose(&e))
        .collect();
    // One after the other.
    assert_eq!(
        firsts,
        [from_listener(&ends[0].0.who), from_listener(&ends[1].0.who)]
    );
}

/// Binds and listens at a port that others may have, too.
fn share(actor: &mut Actor, name: &str, at: SocketAddr) -> SocketAddr {
    actor.ask(&format!("socket {name} 4"));
    let (level, option) = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
    actor.ask(&format!("option {name} {level} {option} 1"));
    actor.ask(&format!("bind {name} {at}"));
    actor.address(&format!("listen {name}"))
}

/// Which of several processes gets a connection can't be told.
pub fn workers(stage: &Stage) {
    let mut workers = [stage.actor("one"), stage.actor("two")];
    let at = share(&mut workers[0], "l", SocketAddr::new(own_ip().into(), 0));
    share(&mut workers[1], "l", at);
    let tracer = Tracer::json("--all");
    let mut client = stage.actor("client");
    let from = client.connect("c", at);
    client.ask("close c");
    // Nobody accepts it: it ends with its listener.
    workers
        .iter_mut()
        .for_each(|worker| drop(worker.ask("close l")));
    let all = told(tracer, at, 2);
    let life = child(&all, at, from);
    for transition in [
        "LISTEN>SYN_RECV",
        "SYN_RECV>ESTABLISHED",
        "ESTABLISHED>CLOSE_WAIT",
    ] {
        let event = the(&life, transition);
        assert_eq!(whose(event), (None, "none".into()), "{event}");
    }
}

/// Accepts one connection in whichever of these has it, from `l`.
fn accept(servers: &mut [Actor]) -> usize {
    for (index, server) in servers.iter_mut().enumerate() {
        server.ask("nonblocking l");
        server.tell("accept l s");
        if server.answer().get("error").is_none() {
            return index;
        }
    }
    panic!("no one has the connection");
}

/// Listeners from before the start are not looked for: one that comes to the
/// same address later must not be taken for them.
pub fn late(stage: &Stage) {
    for way in ["--transport tracepoint", "--transport btf"] {
        let (mut early, mut client) = (stage.actor("early"), stage.actor("client"));
        let at = share(&mut early, "l", SocketAddr::new(own_ip().into(), 0));
        let tracer = Tracer::json(&format!("--all --no-snapshot {way}"));
        let mut late = stage.actor("late");
        share(&mut late, "l", at);
        let mut servers = [early, late];
        let mut accepted = Vec::new();
        // Which of them gets a connection is for the kernel to say.
        while accepted.len() < 2 || accepted.iter().all(|(_, by)| *by == accepted[0].1) {
            assert!(accepted.len() < 40, "one of them gets everything");
            let from = client.connect("c", at);
            let by = accept(&mut servers);
            for command in ["send s 1", "close s"] {
                servers[by].ask(command);
            }
            client.ask("receive c all");
            client.ask("close c");
            accepted.push((from, by));
        }
        let all = told(tracer, at, 2 * accepted.len());
        for (from, by) in accepted {
            let wanted = match by {
                0 => (None, "none".into()),
                _ => from_listener(&servers[by].who),
            };
            let life = child(&all, at, from);
            let first = the(&life, "LISTEN>SYN_RECV");
            assert_eq!(whose(first), wanted, "{way}: {first}");
        }
    }
}

/// Two listeners of one process: whichever it is, it is the same. Not so once
/// one of another process has come.
pub fn twice(stage: &Stage) {
    let (mut server, mut client) = (stage.actor("server"), stage.actor("client"));
    let at = share(&mut server, "l", SocketAddr::new(own_ip().into(), 0));
    share(&mut server, "m", at);
    let tracer = Tracer::json("--all");
    let one = client.connect("c", at);
    let mut late = stage.actor("late");
    share(&mut late, "l", at);
    let two = client.connect("d", at);
    for (actor, close) in [(&mut client, ["c", "d"]), (&mut server, ["l", "m"])] {
        close
            .iter()
            .for_each(|name| drop(actor.ask(&format!("close {name}"))));
    }
    late.ask("close l");
    let all = told(tracer, at, 7);
    let certain = child(&all, at, one);
    assert_eq!(
        whose(the(&certain, "LISTEN>SYN_RECV")),
        from_listener(&server.who)
    );
    // The one that was seen to come is known; the others could be either's.
    let other = child(&all, at, two);
    let told = whose(the(&other, "LISTEN>SYN_RECV"));
    assert!(
        told == (None, "none".into()) || told == from_listener(&late.who),
        "{told:?}"
    );
}
