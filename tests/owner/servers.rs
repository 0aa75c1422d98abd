//! Who serves, and who may be taken for it: forks, workers and threads.

use std::net::SocketAddr;

use crate::actor::{Actor, Stage};
use crate::check::Life;
use crate::common::net::own_ip;
use crate::scenes::{anywhere, part, talk, two};

pub fn plain(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    talk(&mut client, &mut server, 100_000, 70_001);
    part(&mut client, "c", &mut server, "s");
    server.ask("close l");
    Some(vec![
        Life::listener(at, &server.who, &server.who),
        Life::client(from, at, &client.who)
            .closes(&client.who)
            .bytes(100_000, 70_001)
            .cause(&["closed_by_us"]),
        Life::server(at, from, &server.who)
            .follows(&[&server.who], &server.who)
            .bytes(70_001, 100_000)
            .cause(&["closed_by_peer"]),
    ])
}

pub fn server_closes_first(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    talk(&mut client, &mut server, 1, 0);
    part(&mut server, "s", &mut client, "c");
    Some(vec![
        Life::client(from, at, &client.who)
            .follows(&[&client.who], &client.who)
            .bytes(1, 0)
            .cause(&["closed_by_peer"]),
        Life::server(at, from, &server.who)
            .closes(&server.who)
            .bytes(0, 1)
            .cause(&["closed_by_us"]),
    ])
}

/// A wildcard listener of both families: two children, by IPv6 and by IPv4.
pub fn ipv6_and_dual_stack(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client) = (stage.actor("server"), stage.actor("client"));
    let any = server.listen("l", "[::]:0".parse().unwrap());
    let mut lives = Vec::new();
    for ip in ["::1".parse().unwrap(), own_ip().into()] {
        let at = SocketAddr::new(ip, any.port());
        let from = client.connect("c", at);
        server.ask("accept l s");
        talk(&mut client, &mut server, 5, 7);
        part(&mut client, "c", &mut server, "s");
        lives.push(
            Life::client(from, at, &client.who)
                .closes(&client.who)
                .bytes(5, 7),
        );
        lives.push(
            Life::server(at, from, &server.who)
                .follows(&[&server.who], &server.who)
                .bytes(7, 5),
        );
    }
    server.ask("close l");
    lives.push(Life::listener(any, &server.who, &server.who));
    Some(lives)
}

pub fn forking_server(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut lives = Vec::new();
    for _ in 0..2 {
        let from = client.connect("c", at);
        server.ask("accept l s");
        let mut child = stage.fork(&mut server);
        server.ask("close s");
        child.ask("close l");
        assert_eq!(child.who.parent, server.who.pid);
        talk(&mut client, &mut child, 10, 20);
        part(&mut client, "c", &mut child, "s");
        lives.push(Life::client(from, at, &client.who).closes(&client.who));
        lives.push(
            Life::server(at, from, &server.who)
                .of_many()
                .follows(&[&server.who, &child.who], &child.who)
                .bytes(20, 10),
        );
    }
    server.ask("close l");
    lives.push(Life::listener(at, &server.who, &server.who));
    Some(lives)
}

pub fn preforked_server(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut lives = Vec::new();
    let mut workers = [stage.fork(&mut server), stage.fork(&mut server)];
    let mut last = None;
    for worker in &mut workers {
        let from = client.connect("c", at);
        worker.ask("accept l s");
        talk(&mut client, worker, 10, 20);
        part(worker, "s", &mut client, "c");
        lives.push(Life::client(from, at, &client.who).follows(&[&client.who], &client.who));
        let queued = Life::queued(at, from, Some(&server.who)).of_many();
        let queued = queued.renewed(last.as_ref());
        lives.push(queued.accepted(&worker.who).closes(&worker.who));
        last = Some(worker.who.clone());
    }
    // The one that listened goes; the listener lives on.
    server.ask("close l");
    let from = client.connect("c", at);
    workers[1].ask("accept l s");
    part(&mut client, "c", &mut workers[1], "s");
    let [one, two] = &mut workers;
    one.ask("close l");
    two.ask("close l");
    lives.push(Life::client(from, at, &client.who).closes(&client.who));
    let queued = Life::queued(at, from, Some(&server.who)).of_many();
    let queued = queued.renewed(last.as_ref());
    lives.push(queued.accepted(&two.who).follows(&[&two.who], &two.who));
    lives.push(Life::listener(at, &server.who, &two.who));
    Some(lives)
}

/// Listens at a port that others may share.
fn share(actor: &mut Actor, name: &str, at: SocketAddr) -> SocketAddr {
    let (level, option) = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
    actor.ask(&format!("socket {name} 4"));
    actor.ask(&format!("option {name} {level} {option} 1"));
    actor.ask(&format!("bind {name} {at}"));
    actor.address(&format!("listen {name}"))
}

/// Accepts in whichever of the two has the connection.
fn accept(at: [(&mut Actor, &str); 2]) -> usize {
    for (index, (actor, listener)) in at.into_iter().enumerate() {
        actor.ask(&format!("nonblocking {listener}"));
        actor.tell(&format!("accept {listener} s"));
        match actor.answer().get("error") {
            None => return index,
            Some(error) => assert_eq!(error, "EAGAIN"),
        }
    }
    panic!("no one has the connection");
}

/// Two processes at one address.
pub fn reuseport_workers(stage: &Stage) -> Option<Vec<Life>> {
    let mut lives = Vec::new();
    let mut workers = [stage.actor("worker-0"), stage.actor("worker-1")];
    let mut client = stage.actor("client");
    let at = share(&mut workers[0], "l", anywhere());
    share(&mut workers[1], "l", at);
    for _ in 0..6 {
        let from = client.connect("c", at);
        let [one, two] = &mut workers;
        let worker = &mut workers[accept([(one, "l"), (two, "l")])];
        talk(&mut client, worker, 3, 4);
        part(worker, "s", &mut client, "c");
        lives.push(Life::client(from, at, &client.who).follows(&[&client.who], &client.who));
        let child = Life::chosen(at, from, &worker.who, None);
        lives.push(child.closes(&worker.who).bytes(4, 3));
    }
    Some(lives)
}

/// Two listeners of one process agree.
pub fn reuseport_of_one_process(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client) = (stage.actor("server"), stage.actor("client"));
    let at = share(&mut server, "l", anywhere());
    share(&mut server, "m", at);
    let from = client.connect("c", at);
    server.ask("nonblocking l");
    server.tell("accept l s");
    if server.answer().get("error").is_some() {
        server.ask("accept m s");
    }
    part(&mut client, "c", &mut server, "s");
    Some(vec![
        Life::client(from, at, &client.who).closes(&client.who),
        Life::server(at, from, &server.who).follows(&[&server.who], &server.who),
    ])
}

/// A server that listens as root, and gives that up: its connections are those of
/// the user that it is then.
pub fn lesser_user(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    server.become_user(65534);
    let from = client.connect("c", at);
    server.ask("accept l s");
    part(&mut client, "c", &mut server, "s");
    Some(vec![
        Life::client(from, at, &client.who).closes(&client.who),
        Life::server(at, from, &server.who).follows(&[&server.who], &server.who),
    ])
}

/// One thread opens, another closes; one listens, another accepts.
pub fn threads(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut closer = stage.thread(&mut client);
    let mut worker = stage.thread(&mut server);
    closer.rename("closer");
    worker.rename("worker");
    // What is told is the process's name.
    closer.who.comm.clone_from(&client.who.comm);
    worker.who.comm.clone_from(&server.who.comm);
    let from = client.connect("c", at);
    worker.ask("accept l s");
    talk(&mut client, &mut worker, 3, 4);
    part(&mut closer, "c", &mut worker, "s");
    assert_ne!(client.who.tid, closer.who.tid);
    Some(vec![
        Life::client(from, at, &client.who).closes(&closer.who),
        Life::queued(at, from, Some(&server.who))
            .accepted(&worker.who)
            .follows(&[&worker.who], &worker.who),
    ])
}
