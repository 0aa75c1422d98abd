//! Who has a socket when those who had it have gone, forked, passed it on or
//! become somebody else.

use std::net::SocketAddr;

use crate::actor::{Actor, Stage, Who};
use crate::check::{Life, Whose};
use crate::common::net::{Netns, own_ip};
use crate::common::skip;
use crate::nets::{first, joined, port, second};
use crate::scenes::{anywhere, part, talk, two};

/// The client ends it with a reset: what the other end has to say of it comes in
/// the context of the client, or of nobody.
fn reset(client: &mut Actor) {
    client.ask("linger c");
    client.ask("close c");
}

/// A child whose first three changes are told of like this; reset by the peer.
fn of(local: SocketAddr, peer: SocketAddr, whose: [Whose; 3], accepted: &Who) -> Life {
    let [born, open, end] = whose;
    Life::new("server", local, peer)
        .then("LISTEN>SYN_RECV", born)
        .then("SYN_RECV>ESTABLISHED", open)
        .accepted(accepted)
        .then("ESTABLISHED>CLOSE", end)
        .cause(&["reset_by_peer"])
}

fn three(whose: Whose) -> [Whose; 3] {
    [whose.clone(), whose.clone(), whose]
}

/// Listens, forks and ends, as a classical daemon does; then its child forks.
pub fn daemon(stage: &Stage) -> Option<Vec<Life>> {
    let (mut starter, mut client, at) = two(stage);
    let mut daemon = stage.fork(&mut starter);
    starter.die();
    daemon.look();
    daemon.rename("daemon");
    let from = client.connect("c", at);
    daemon.ask("accept l s");
    reset(&mut client);
    daemon.ask("close s");
    let heir = Whose::Heir(daemon.who.clone());
    let mut lives = vec![of(at, from, three(heir), &daemon.who)];
    // Now it may be the daemon's or its worker's.
    let mut worker = stage.fork(&mut daemon);
    daemon.ask("close l");
    let from = client.connect("c", at);
    worker.ask("accept l s");
    reset(&mut client);
    lives.push(of(at, from, three(Whose::Unsure), &worker.who));
    Some(lives)
}

/// Two forks, as a daemon does that is to have no terminal.
pub fn daemon_by_two_forks(stage: &Stage) -> Option<Vec<Life>> {
    let (mut starter, mut client, at) = two(stage);
    let mut between = stage.fork(&mut starter);
    let mut daemon = stage.fork(&mut between);
    starter.die();
    between.die();
    daemon.look();
    let from = client.connect("c", at);
    daemon.ask("accept l s");
    reset(&mut client);
    let heir = Whose::Heir(daemon.who.clone());
    Some(vec![of(at, from, three(heir), &daemon.who)])
}

/// A supervisor that closes its listener when it has forked.
pub fn supervisor(stage: &Stage) -> Option<Vec<Life>> {
    let (mut supervisor, mut client, at) = two(stage);
    let mut worker = stage.fork(&mut supervisor);
    worker.rename("worker");
    supervisor.ask("close l");
    let mut lives = Vec::new();
    for _ in 0..2 {
        let from = client.connect("c", at);
        worker.ask("accept l s");
        reset(&mut client);
        worker.ask("close s");
        lives.push(of(at, from, three(Whose::Unsure), &worker.who));
    }
    let from = client.connect("c", at);
    worker.ask("accept l s");
    part(&mut worker, "s", &mut client, "c");
    let life = Life::new("server", at, from)
        .then("LISTEN>SYN_RECV", Whose::Unsure)
        .then("SYN_RECV>ESTABLISHED", Whose::Unsure);
    lives.push(life.accepted(&worker.who).closes(&worker.who));
    Some(lives)
}

/// Listens as root, then is somebody else, by another name.
pub fn dropped_privileges(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    server.become_user(4711);
    server.rename("dropped");
    let from = client.connect("c", at);
    server.ask("accept l s");
    part(&mut client, "c", &mut server, "s");
    client.become_user(4712);
    Some(vec![
        Life::server(at, from, &server.who).follows(&[&server.who], &server.who),
    ])
}

/// Forks for a connection, and ends while the child serves.
pub fn acceptor_ends(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    let mut child = stage.fork(&mut server);
    child.ask("close l");
    let listens = server.who.clone();
    server.die();
    child.look();
    talk(&mut client, &mut child, 3, 4);
    reset(&mut client);
    child.fails("receive s all", "ECONNRESET");
    let whose = [
        Whose::Child(Some(listens.clone())),
        Whose::Passive(vec![]),
        Whose::HeirOfAcceptor(child.who.clone()),
    ];
    Some(vec![of(at, from, whose, &listens)])
}

/// Passes the connection to another process, and ends.
pub fn passed_on_and_ended(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut other = stage.actor("other");
    let from = client.connect("c", at);
    server.ask("accept l s");
    server.pass("s", &mut other);
    let listens = server.who.clone();
    server.die();
    talk(&mut client, &mut other, 3, 4);
    reset(&mut client);
    let whose = [
        Whose::Child(Some(listens.clone())),
        Whose::Passive(vec![]),
        Whose::Nobody,
    ];
    Some(vec![of(at, from, whose, &listens)])
}

/// A worker ends the connection; its parent, which has it too, closes it last.
pub fn ended_by_a_worker(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut lives = Vec::new();
    for _ in 0..2 {
        let from = client.connect("c", at);
        server.ask("accept l s");
        let mut worker = stage.fork(&mut server);
        worker.rename("worker");
        worker.ask("close l");
        worker.ask("shutdown s");
        client.ask("receive c all");
        worker.ask("close s");
        server.ask("close s");
        client.ask("close c");
        let passive = Whose::Passive(vec![]);
        lives.push(
            Life::new("server", at, from)
                .then("LISTEN>SYN_RECV", Whose::Child(Some(server.who.clone())))
                .then("SYN_RECV>ESTABLISHED", passive.clone())
                .of_many()
                .accepted(&server.who)
                .by("ESTABLISHED>FIN_WAIT1", &worker.who)
                .maybe("FIN_WAIT1>FIN_WAIT1", passive.clone())
                .then("FIN_WAIT1>FIN_WAIT2", passive.clone())
                .maybe("FIN_WAIT2>FIN_WAIT2", passive.clone())
                .then("FIN_WAIT2>CLOSE", passive),
        );
    }
    Some(lives)
}

/// What a thread does is told by the name of its process, with its own beside.
pub fn named_thread(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut thread = stage.thread(&mut client);
    thread.rename("bio_close_file");
    let from = thread.connect("c", at);
    server.ask("accept l s");
    part(&mut thread, "c", &mut server, "s");
    assert_eq!(thread.who.comm, client.who.comm);
    Some(vec![
        Life::client(from, at, &thread.who).closes(&thread.who),
        Life::server(at, from, &server.who).follows(&[&server.who], &server.who),
    ])
}

/// The kernel moves what waits for its accept to another process's listener.
pub fn migrated(stage: &Stage) -> Option<Vec<Life>> {
    let netns = match Netns::new() {
        Ok(netns) => netns,
        Err(error) => {
            skip(&format!("no network namespaces: {error}"));
            return None;
        }
    };
    let set = || std::fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1");
    if let Err(error) = netns.run(set) {
        skip(&format!("no tcp_migrate_req (Linux 5.14): {error}"));
        return None;
    }
    let (mut old, mut new) = (stage.actor_in(&netns, "old"), stage.actor_in(&netns, "new"));
    let mut client = stage.actor_in(&netns, "client");
    let at = SocketAddr::new(own_ip().into(), port(40));
    let (level, option) = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
    let share = |actor: &mut Actor| {
        actor.ask("socket l 4");
        actor.ask(&format!("option l {level} {option} 1"));
        actor.ask(&format!("bind l {at}"));
        actor.ask("listen l");
    };
    share(&mut old);
    let from = client.connect("c", at);
    share(&mut new);
    old.ask("close l");
    new.ask("nonblocking l");
    new.tell("accept l s");
    if let Some(error) = new.answer().get("error") {
        skip(&format!(
            "the kernel moves nothing to another listener: {error}"
        ));
        return None;
    }
    reset(&mut client);
    let whose = [
        Whose::Child(Some(old.who.clone())),
        Whose::Passive(vec![]),
        Whose::Unsure,
    ];
    Some(vec![of(at, from, whose, &new.who)])
}

/// A second subflow of an MPTCP connection, which a worker of the kernel opens.
pub fn second_subflow(stage: &Stage) -> Option<Vec<Life>> {
    let (here, there) = joined()?;
    let more = "10.77.0.3";
    here.ip(&format!("addr add {more}/24 dev v0"));
    let limits = [
        (&here, "mptcp limits set subflow 2"),
        (&there, "mptcp limits set subflow 2"),
    ];
    let set = limits
        .iter()
        .try_for_each(|(netns, how)| netns.tool("ip", how));
    let set =
        set.and_then(|()| here.tool("ip", &format!("mptcp endpoint add {more} dev v0 subflow")));
    if let Err(why) = set {
        skip(&format!("no MPTCP, or no ip that knows of it: {why}"));
        return None;
    }
    let mut server = stage.actor_in(&there, "server");
    let mut client = stage.actor_in(&here, "client");
    let (from, at) = (first(41), second(42));
    server.ask("socket l mptcp");
    server.ask(&format!("bind l {at}"));
    server.ask("listen l");
    client.ask("socket c mptcp");
    client.ask(&format!("bind c {from}"));
    client.ask(&format!("connect c {at}"));
    server.ask("accept l s");
    talk(&mut client, &mut server, 3, 4);
    // The second one is opened when the first has been used.
    let path = format!("/proc/{}/net/tcp", client.who.pid);
    let mut other = None;
    let found = crate::common::eventually(|| {
        let all = std::fs::read_to_string(&path).unwrap();
        let line = all.lines().find(|l| l.contains(" 03004D0A:"));
        other = line.map(str::to_owned);
        other.is_some()
    });
    assert!(found, "no second subflow");
    let line = other.unwrap();
    let local = line.split_ascii_whitespace().nth(1).unwrap();
    let number = u16::from_str_radix(local.split_once(':').unwrap().1, 16).unwrap();
    client.ask("close c");
    server.ask("receive s all");
    server.ask("close s");
    let by = SocketAddr::new(more.parse().unwrap(), number);
    Some(vec![
        Life::new("second subflow", by, at)
            .then("CLOSE>SYN_SENT", Whose::Nobody)
            .then("SYN_SENT>ESTABLISHED", Whose::Nobody)
            .any_end(),
    ])
}

/// Renamed between events: each has the name of its moment.
pub fn renamed_meanwhile(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    client.ask("socket c 4");
    client.ask(&format!("bind c {}", anywhere()));
    let before = client.who.clone();
    let from = client.address(&format!("connect c {at}"));
    server.ask("accept l s");
    client.rename("other-name");
    part(&mut server, "s", &mut client, "c");
    Some(vec![
        Life::client(from, at, &before)
            .then("ESTABLISHED>CLOSE_WAIT", Whose::Now(client.who.clone()))
            .by("CLOSE_WAIT>LAST_ACK", &client.who)
            .passive("LAST_ACK>CLOSE", &[&client.who]),
        Life::server(at, from, &server.who).closes(&server.who),
    ])
}
