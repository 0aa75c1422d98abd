//! What the programs do in network namespaces of the test's own: the slow, the
//! lost and the rare.

use std::fs;
use std::net::SocketAddr;

use crate::actor::{Actor, Stage};
use crate::check::{Life, Whose};
use crate::common::net::{Netns, own_ip};
use crate::common::{eventually, skip};
use crate::scenes::part;

/// A hardware address that no one has.
const NOBODY: &str = "02:00:00:00:00:77";
const TCP_USER_TIMEOUT: i32 = 18;
const TCP_FASTOPEN: i32 = 23;

fn no_namespaces<T>(error: nix::Error) -> Option<T> {
    skip(&format!("no network namespaces: {error}"));
    None
}

pub fn joined() -> Option<(Netns, Netns)> {
    Netns::joined().map_or_else(no_namespaces, Some)
}

/// From here on what is sent to the address is lost.
fn cut(netns: &Netns, ip: &str) {
    netns.ip(&format!(
        "neigh replace {ip} lladdr {NOBODY} nud permanent dev v0"
    ));
}

/// The end of that.
fn mend(netns: &Netns, ip: &str) {
    netns.ip(&format!("neigh del {ip} dev v0"));
}

/// Waits until a process's namespace has a socket in this state of
/// /proc/net/tcp.
fn wait_for(actor: &Actor, state: &str) {
    let path = format!("/proc/{}/net/tcp", actor.who.pid);
    let has = || fs::read_to_string(&path).unwrap().contains(state);
    assert!(eventually(has), "no socket in state {state}");
}

const SYN_SENT: &str = " 02 ";

/// A port of this run's own: namespaces alike are told apart by nothing else.
pub fn port(n: u16) -> u16 {
    2000 + (std::process::id() % 480) as u16 * 64 + n
}

/// An end in the first of two namespaces.
pub fn first(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 77, 0, 1], port(n)))
}

/// An end in the second.
pub fn second(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 77, 0, 2], port(n)))
}

/// The same address and port in two namespaces; one listens to all addresses.
pub fn two_namespaces(stage: &Stage) -> Option<Vec<Life>> {
    let mut lives = Vec::new();
    let mut parts = Vec::new();
    let to = SocketAddr::new(own_ip().into(), port(0));
    let all = SocketAddr::from(([0, 0, 0, 0], port(0)));
    for (number, listen) in [(1, to), (2, all)] {
        let netns = match Netns::new() {
            Ok(netns) => netns,
            Err(error) => return no_namespaces(error),
        };
        let mut server = stage.actor_in(&netns, &format!("server-{number}"));
        let client = stage.actor_in(&netns, &format!("client-{number}"));
        server.listen("l", listen);
        let from = SocketAddr::new(to.ip(), port(number));
        parts.push((netns, server, client, from));
    }
    for (_, server, client, from) in &mut parts {
        client.ask("socket c 4");
        client.ask(&format!("bind c {from}"));
        client.ask(&format!("connect c {to}"));
        server.ask("accept l s");
        part(client, "c", server, "s");
        lives.push(Life::client(*from, to, &client.who).closes(&client.who));
        lives.push(
            Life::server(to, *from, &server.who)
                .follows(&[&server.who], &server.who)
                .with_rivals(),
        );
    }
    Some(lives)
}

/// The first SYN is lost: the connection comes about by a timer.
pub fn slow_connect(stage: &Stage) -> Option<Vec<Life>> {
    let (here, there) = joined()?;
    let mut server = stage.actor_in(&there, "server");
    let mut waits = stage.actor_in(&here, "waiting");
    let mut polls = stage.actor_in(&here, "polling");
    let to = server.listen("l", second(1));
    cut(&here, "10.77.0.2");
    polls.ask("socket c 4");
    polls.ask("nonblocking c");
    let polling = polls.address(&format!("connect c {to}"));
    wait_for(&polls, SYN_SENT);
    let from = first(2);
    waits.ask("socket c 4");
    waits.ask(&format!("bind c {from}"));
    waits.tell(&format!("connect c {to}"));
    wait_for(&waits, &format!(":{:04X} 0200", from.port()));
    mend(&here, "10.77.0.2");
    waits.answer();
    server.ask("accept l s");
    server.ask("accept l t");
    for name in ["s", "t"] {
        server.ask(&format!("close {name}"));
    }
    for client in [&mut polls, &mut waits] {
        client.ask("blocking c");
        client.ask("receive c all");
        client.ask("close c");
    }
    let mut lives = Vec::new();
    for (from, client) in [(polling, polls), (from, waits)] {
        let who = &client.who;
        lives.push(Life::client(from, to, who).follows(&[who], who).bytes(0, 0));
        lives.push(Life::server(to, from, &server.who).closes(&server.who));
    }
    Some(lives)
}

/// Nobody answers: to a SYN, and to data.
pub fn timed_out(stage: &Stage) -> Option<Vec<Life>> {
    let (here, there) = joined()?;
    let mut server = stage.actor_in(&there, "server");
    let (mut opens, mut sends) = (
        stage.actor_in(&here, "opens"),
        stage.actor_in(&here, "sends"),
    );
    let to = server.listen("l", second(11));
    let sending = sends.connect("c", to);
    server.ask("accept l s");
    cut(&here, "10.77.0.2");
    sends.ask(&format!("option c 6 {TCP_USER_TIMEOUT} 300"));
    sends.ask("send c 5000");
    opens.ask("socket c 4");
    opens.ask(&format!("bind c {}", first(12)));
    opens.ask(&format!("option c 6 {TCP_USER_TIMEOUT} 300"));
    opens.fails(&format!("connect c {to}"), "ETIMEDOUT");
    sends.fails("receive c all", "ETIMEDOUT");
    server.ask("linger s");
    server.ask("close s");
    Some(vec![
        Life::new("never open", first(12), to)
            .by("CLOSE>SYN_SENT", &opens.who)
            .passive("SYN_SENT>CLOSE", &[])
            .bytes(0, 0)
            .cause(&["timed_out"]),
        Life::client(sending, to, &sends.who)
            .passive("ESTABLISHED>CLOSE", &[])
            .bytes(5000, 0)
            .cause(&["timed_out"]),
        Life::server(to, sending, &server.who)
            .within("ESTABLISHED>CLOSE", &server.who)
            .bytes(0, 0)
            .cause(&["reset_by_us"]),
    ])
}

/// Two sockets connect to each other; their first SYNs are lost.
pub fn simultaneous_open(stage: &Stage) -> Option<Vec<Life>> {
    let (here, there) = joined()?;
    let (mut one, mut two) = (stage.actor_in(&here, "one"), stage.actor_in(&there, "two"));
    let ends = [first(21), second(22)];
    cut(&here, "10.77.0.2");
    cut(&there, "10.77.0.1");
    for (actor, from, to) in [(&mut one, ends[0], ends[1]), (&mut two, ends[1], ends[0])] {
        actor.ask("socket c 4");
        actor.ask(&format!("bind c {from}"));
        actor.tell(&format!("connect c {to}"));
        wait_for(actor, SYN_SENT);
    }
    mend(&here, "10.77.0.2");
    mend(&there, "10.77.0.1");
    one.answer();
    two.answer();
    one.ask("send c 10");
    two.ask("receive c 10");
    two.ask("send c 20");
    one.ask("receive c 20");
    part(&mut one, "c", &mut two, "c");
    let opened = |actor: &Actor, from, to| {
        let passive = || Whose::Passive(vec![actor.who.clone()]);
        Life::new(&actor.who.comm, from, to)
            .by("CLOSE>SYN_SENT", &actor.who)
            .maybe("SYN_SENT>SYN_RECV", passive())
            .maybe("SYN_RECV>ESTABLISHED", passive())
            .maybe("SYN_SENT>ESTABLISHED", passive())
    };
    Some(vec![
        opened(&one, ends[0], ends[1])
            .closes(&one.who)
            .bytes(10, 20),
        opened(&two, ends[1], ends[0])
            .follows(&[&two.who], &two.who)
            .bytes(20, 10),
    ])
}

fn allow_fast_open(netns: &Netns) {
    netns.run(|| fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3").expect("tcp_fastopen"));
}

fn fast_listen(server: &mut Actor, on: SocketAddr) -> SocketAddr {
    server.ask("socket l 4");
    server.ask(&format!("option l 6 {TCP_FASTOPEN} 5"));
    server.ask(&format!("bind l {on}"));
    server.address("listen l")
}

/// First a request for a cookie, then data in the SYN.
pub fn fast_open(stage: &Stage) -> Option<Vec<Life>> {
    let netns = Netns::new().map_or_else(no_namespaces, Some)?;
    allow_fast_open(&netns);
    let mut server = stage.actor_in(&netns, "server");
    let mut client = stage.actor_in(&netns, "client");
    let to = fast_listen(&mut server, SocketAddr::new(own_ip().into(), 0));
    let mut lives = Vec::new();
    for _ in 0..2 {
        client.ask("socket c 4");
        let from = client.address(&format!("fastopen c {to} 321"));
        server.ask("accept l s");
        server.ask("receive s 321");
        server.ask("send s 54");
        client.ask("receive c 54");
        part(&mut client, "c", &mut server, "s");
        lives.push(
            Life::client(from, to, &client.who)
                .closes(&client.who)
                .bytes(321, 54),
        );
        lives.push(
            Life::server(to, from, &server.who)
                .follows(&[&server.who], &server.who)
                .bytes(54, 321),
        );
    }
    assert_eq!(counter(&server, "netstat", "TCPFastOpenPassive"), 1);
    Some(lives)
}

/// A counter of /proc/net/`file` of an actor's namespace.
fn counter(of: &Actor, file: &str, name: &str) -> u64 {
    let path = format!("/proc/{}/net/{file}", of.who.pid);
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let at = names.split(' ').position(|n| n == name);
        if let Some(at) = at {
            return values.split(' ').nth(at).unwrap().parse().unwrap();
        }
    }
    panic!("no {name} in /proc/net/{file}");
}

/// The server answers and shuts down before the handshake is over: the kernel
/// sends the FIN later, in softirq (since 6.10).
pub fn fast_open_shut_early(stage: &Stage) -> Option<Vec<Life>> {
    let (here, there) = joined()?;
    allow_fast_open(&here);
    allow_fast_open(&there);
    let mut server = stage.actor_in(&there, "server");
    let mut client = stage.actor_in(&here, "client");
    let to = fast_listen(&mut server, second(31));
    client.ask("socket c 4");
    client.ask(&format!("fastopen c {to} 1"));
    client.ask("close c");
    cut(&there, "10.77.0.1");
    server.ask("accept l s");
    server.ask("close s");
    client.ask("socket c 4");
    client.ask("nonblocking c");
    let from = client.address(&format!("fastopen c {to} 321"));
    server.ask("accept l s");
    server.ask("receive s 321");
    server.ask("send s 54");
    server.ask("finish s");
    // The kernel's next try comes after a second: let there be somebody else.
    let mut others: Vec<Actor> = (0..3).map(|_| stage.actor("bystander")).collect();
    others.iter_mut().for_each(|other| other.tell("burn 1200"));
    mend(&there, "10.77.0.1");
    client.ask("blocking c");
    client.ask("receive c all");
    part(&mut client, "c", &mut server, "s");
    let who = &server.who;
    Some(vec![
        Life::client(from, to, &client.who)
            .follows(&[&client.who], &client.who)
            .bytes(321, 54),
        Life::server(to, from, who)
            .passive("ESTABLISHED>FIN_WAIT1", &[who])
            .passive("FIN_WAIT1>FIN_WAIT2", &[who])
            .passive("FIN_WAIT2>CLOSE", &[who])
            .bytes(54, 321),
    ])
}

/// How packets are dropped in a namespace.
enum Drops {
    /// Every eleventh that comes.
    Numgen,
    /// One out of eleven that go, at random.
    Netem,
}

impl Drops {
    /// From here on; whether that can be had.
    fn begin(&self, netns: &Netns) -> bool {
        match self {
            Drops::Numgen => [
                "add table ip t",
                "add chain ip t c { type filter hook input priority 0 ; }",
                "add rule ip t c tcp flags & (fin|syn|rst) == 0 numgen inc mod 11 0 drop",
            ]
            .iter()
            .all(|rule| netns.tool("nft", rule).is_ok()),
            Drops::Netem => netns
                .tool("tc", "qdisc add dev v0 root netem loss 9%")
                .is_ok(),
        }
    }

    /// The end of that.
    fn end(&self, netns: &Netns) {
        let (tool, words) = match self {
            Drops::Numgen => ("nft", "delete table ip t"),
            Drops::Netem => ("tc", "qdisc replace dev v0 root netem loss 0%"),
        };
        netns.tool(tool, words).expect("no more drops");
    }
}

/// Data that are lost and sent again count once.
pub fn lossy(stage: &Stage) -> Option<Vec<Life>> {
    let (here, there) = joined()?;
    let mut server = stage.actor_in(&there, "server");
    let mut client = stage.actor_in(&here, "client");
    let to = server.listen("l", second(41));
    let from = client.connect("c", to);
    server.ask("accept l s");
    cut(&here, "10.77.0.2");
    client.ask("send c 3000");
    let resent = |of: &Actor| counter(of, "snmp", "RetransSegs");
    assert!(eventually(|| resent(&client) >= 2));
    mend(&here, "10.77.0.2");
    server.ask("receive s 3000");
    // Then every eleventh packet, both ways.
    let dropping = [Drops::Numgen, Drops::Netem]
        .into_iter()
        .find(|how| [&here, &there].iter().all(|netns| how.begin(netns)));
    if dropping.is_none() {
        skip("neither nft with numgen nor tc with netem: only a gap is tested");
    }
    let before = resent(&client) + resent(&server);
    client.tell("send c 400000");
    server.ask("receive s 400000");
    client.answer();
    server.tell("send s 300000");
    client.ask("receive c 300000");
    server.answer();
    assert!(dropping.is_none() || resent(&client) + resent(&server) > before);
    // The namespaces go before a FIN could be sent again.
    for netns in [&here, &there] {
        dropping.iter().for_each(|how| how.end(netns));
    }
    part(&mut client, "c", &mut server, "s");
    Some(vec![
        Life::client(from, to, &client.who)
            .closes(&client.who)
            .bytes(403_000, 300_000),
        Life::server(to, from, &server.who)
            .follows(&[&server.who], &server.who)
            .bytes(300_000, 403_000),
    ])
}

/// A listener at the very address, but of a device that the connection does
/// not come by, and one at all addresses.
pub fn bound_to_device(stage: &Stage) -> Option<Vec<Life>> {
    let (here, there) = joined()?;
    let (mut bound, mut free) = (
        stage.actor_in(&here, "bound"),
        stage.actor_in(&here, "free"),
    );
    let mut client = stage.actor_in(&there, "client");
    let to = first(51);
    for (actor, on) in [
        (&mut bound, to),
        (&mut free, SocketAddr::from(([0, 0, 0, 0], port(51)))),
    ] {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
        actor.ask("socket l 4");
        actor.ask(&format!("option l {level} {option} 1"));
        if on == to {
            actor.ask("device l lo");
        }
        actor.ask(&format!("bind l {on}"));
        actor.ask("listen l");
    }
    let from = client.connect("c", to);
    free.ask("accept l s");
    part(&mut client, "c", &mut free, "s");
    Some(vec![
        Life::client(from, to, &client.who).closes(&client.who),
        Life::server(to, from, &free.who)
            .follows(&[&free.who], &free.who)
            .with_rivals(),
    ])
}
