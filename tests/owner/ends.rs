//! Who ends a connection, and who only seems to.

use std::os::unix::fs::MetadataExt;

use crate::actor::{Stage, cgroup2};
use crate::check::{Life, Whose};
use crate::common::skip;
use crate::scenes::{anywhere, part, talk, two};

/// The kernel closes for a process that is killed, in its context.
pub fn killed(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    talk(&mut client, &mut server, 3, 4);
    client.die();
    server.ask("receive s all");
    let mut other = stage.actor("client");
    let second = other.connect("c", at);
    server.ask("accept l t");
    server.die();
    other.ask("receive c all");
    other.ask("close c");
    Some(vec![
        Life::client(from, at, &client.who)
            .closes(&client.who)
            .bytes(3, 4),
        Life::server(at, from, &server.who)
            .follows(&[&server.who], &server.who)
            .bytes(4, 3),
        Life::client(second, at, &other.who).follows(&[&other.who], &other.who),
        Life::server(at, second, &server.who).closes(&server.who),
        Life::listener(at, &server.who, &server.who),
    ])
}

/// What it has not read makes its end a reset.
pub fn killed_with_data_unread(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    server.ask("send s 1234");
    client.die();
    server.fails("receive s all", "ECONNRESET");
    server.ask("close s");
    Some(vec![
        Life::client(from, at, &client.who)
            .within("ESTABLISHED>CLOSE", &client.who)
            .bytes(0, 1234)
            .cause(&["reset_by_us"]),
        Life::server(at, from, &server.who)
            .passive("ESTABLISHED>CLOSE", &[&server.who])
            .bytes(1234, 0)
            .cause(&["reset_by_peer"]),
    ])
}

/// Both ends go to another process each, which closes them.
pub fn passed_on(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let (mut heir, mut reset) = (stage.actor("heir"), stage.actor("resetter"));
    let from = client.connect("c", at);
    server.ask("accept l s");
    client.pass("c", &mut heir);
    server.pass("s", &mut reset);
    client.ask("close c");
    server.ask("close s");
    talk(&mut heir, &mut reset, 3, 4);
    heir.ask("close c");
    reset.ask("receive s all");
    reset.ask("linger s");
    reset.ask("close s");
    Some(vec![
        Life::client(from, at, &client.who)
            .by("ESTABLISHED>FIN_WAIT1", &heir.who)
            .maybe("FIN_WAIT1>FIN_WAIT2", Whose::Passive(Vec::new()))
            .maybe("FIN_WAIT2>CLOSE", Whose::Passive(Vec::new()))
            .maybe("FIN_WAIT1>CLOSE", Whose::Passive(Vec::new()))
            .bytes(3, 4),
        Life::server(at, from, &server.who)
            .passive("ESTABLISHED>CLOSE_WAIT", &[&server.who, &reset.who])
            .within("CLOSE_WAIT>CLOSE", &reset.who)
            .bytes(4, 3),
    ])
}

/// A kernel thread closes it, and is not its owner; on older kernels its owner
/// does, in whose context the collector then runs.
pub fn garbage(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    client.ask("garbage c");
    server.ask("receive s all");
    server.ask("close s");
    let collected = Whose::Collected(client.who.clone());
    Some(vec![
        Life::client(from, at, &client.who)
            .then("ESTABLISHED>FIN_WAIT1", collected)
            .passive("FIN_WAIT1>FIN_WAIT2", &[])
            .passive("FIN_WAIT2>CLOSE", &[]),
        Life::server(at, from, &server.who).follows(&[&server.who], &server.who),
    ])
}

pub fn refused(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    server.ask("close l");
    client.ask("socket c 4");
    client.ask(&format!("bind c {}", anywhere()));
    let from = client.address("local c");
    client.fails(&format!("connect c {at}"), "ECONNREFUSED");
    client.ask("close c");
    Some(vec![
        Life::new("client", from, at)
            .by("CLOSE>SYN_SENT", &client.who)
            .passive("SYN_SENT>CLOSE", &[&client.who])
            .bytes(0, 0)
            .cause(&["refused"]),
    ])
}

/// On loopback the server's end comes in the client's context.
pub fn reset_by_client(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    talk(&mut client, &mut server, 30, 40);
    client.ask("linger c");
    client.ask("close c");
    server.fails("receive s all", "ECONNRESET");
    server.ask("close s");
    Some(vec![
        Life::client(from, at, &client.who)
            .within("ESTABLISHED>CLOSE", &client.who)
            .bytes(30, 40)
            .cause(&["reset_by_us"]),
        Life::server(at, from, &server.who)
            .passive("ESTABLISHED>CLOSE", &[&server.who])
            .bytes(40, 30)
            .cause(&["reset_by_peer"]),
    ])
}

pub fn reset_by_server(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    talk(&mut client, &mut server, 30, 40);
    client.ask("finish c");
    server.ask("receive s all");
    server.ask("linger s");
    server.ask("close s");
    client.fails("receive c all", "ECONNRESET");
    client.ask("close c");
    Some(vec![
        Life::client(from, at, &client.who)
            .by("ESTABLISHED>FIN_WAIT1", &client.who)
            .maybe("FIN_WAIT1>FIN_WAIT2", Whose::Passive(Vec::new()))
            .maybe("FIN_WAIT2>CLOSE", Whose::Passive(Vec::new()))
            .maybe("FIN_WAIT1>CLOSE", Whose::Passive(Vec::new()))
            .bytes(30, 40)
            .cause(&["reset_by_peer"]),
        Life::server(at, from, &server.who)
            .passive("ESTABLISHED>CLOSE_WAIT", &[&server.who])
            .within("CLOSE_WAIT>CLOSE", &server.who)
            .bytes(40, 30)
            .cause(&["reset_by_us"]),
    ])
}

/// Data go on after one side's FIN, first in one direction, then the other.
pub fn half_closed(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut lives = Vec::new();
    for client_first in [true, false] {
        let from = client.connect("c", at);
        server.ask("accept l s");
        talk(&mut client, &mut server, 11, 13);
        let of_client = Life::client(from, at, &client.who);
        let of_server = Life::server(at, from, &server.who);
        if client_first {
            client.ask("finish c");
            server.ask("receive s all");
            server.ask("send s 50000");
            part(&mut server, "s", &mut client, "c");
            lives.push(of_client.closes(&client.who).bytes(11, 50_013));
            lives.push(
                of_server
                    .follows(&[&server.who], &server.who)
                    .bytes(50_013, 11),
            );
        } else {
            server.ask("finish s");
            client.ask("receive c all");
            client.ask("send c 50000");
            part(&mut client, "c", &mut server, "s");
            lives.push(
                of_client
                    .follows(&[&client.who], &client.who)
                    .bytes(50_011, 13),
            );
            lives.push(of_server.closes(&server.who).bytes(13, 50_011));
        }
    }
    Some(lives)
}

/// A fork sends the FIN, its parent closes.
pub fn shut_down_by_another(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    let mut fork = stage.fork(&mut client);
    fork.rename("fork");
    fork.ask("finish c");
    server.ask("receive s all");
    part(&mut server, "s", &mut client, "c");
    fork.ask("close c");
    Some(vec![
        Life::client(from, at, &client.who).closes(&fork.who),
        Life::server(at, from, &server.who).follows(&[&server.who], &server.who),
    ])
}

/// A fork sends the FIN; its parent, which only held a duplicate, lets go of it
/// last.
pub fn let_go_by_another(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    let mut fork = stage.fork(&mut client);
    fork.rename("fork");
    fork.ask("finish c");
    server.ask("receive s all");
    fork.ask("close c");
    client.ask("close c");
    server.ask("close s");
    let fin = Life::client(from, at, &client.who).by("ESTABLISHED>FIN_WAIT1", &fork.who);
    // The acknowledgement of the FIN comes before the close or after it.
    let same = fin.maybe("FIN_WAIT1>FIN_WAIT1", Whose::Passive(Vec::new()));
    let acknowledged = same.passive("FIN_WAIT1>FIN_WAIT2", &[&fork.who]);
    let same = acknowledged.maybe("FIN_WAIT2>FIN_WAIT2", Whose::Passive(Vec::new()));
    Some(vec![same.passive("FIN_WAIT2>CLOSE", &[])])
}

/// The listener goes with connections in its queue.
pub fn never_accepted(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    client.ask("send c 9");
    server.ask("close l");
    client.fails("receive c all", "ECONNRESET");
    client.ask("close c");
    Some(vec![
        Life::listener(at, &server.who, &server.who),
        Life::client(from, at, &client.who)
            .passive("ESTABLISHED>CLOSE", &[&client.who])
            .bytes(9, 0)
            .cause(&["reset_by_peer"]),
        Life::queued(at, from, Some(&server.who))
            .passive("ESTABLISHED>CLOSE", &[&server.who])
            .bytes(0, 9)
            .cause(&["never_accepted"]),
    ])
}

/// One socket, two connections, of two processes.
pub fn connected_again(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut heir = stage.actor("heir");
    let from = client.connect("c", at);
    server.ask("accept l s");
    client.pass("c", &mut heir);
    client.ask("close c");
    heir.ask("disconnect c");
    let second = heir.address(&format!("connect c {at}"));
    server.ask("accept l t");
    part(&mut heir, "c", &mut server, "t");
    assert_ne!(from, second);
    Some(vec![
        Life::client(from, at, &client.who).within("ESTABLISHED>CLOSE", &heir.who),
        Life::client(second, at, &heir.who).closes(&heir.who),
        Life::server(at, from, &server.who).passive("ESTABLISHED>CLOSE", &[&server.who]),
        Life::server(at, second, &server.who).follows(&[&server.who], &server.who),
    ])
}

/// A socket that connects to itself: the smallest simultaneous open.
pub fn to_itself(stage: &Stage) -> Option<Vec<Life>> {
    let mut own = stage.actor("narcissus");
    own.ask("socket c 4");
    own.ask(&format!("bind c {}", anywhere()));
    let at = own.address("local c");
    own.ask(&format!("connect c {at}"));
    own.ask("send c 77");
    own.ask("receive c 77");
    own.ask("close c");
    let who = &own.who;
    Some(vec![
        Life::new("itself", at, at)
            .by("CLOSE>SYN_SENT", who)
            .passive("SYN_SENT>SYN_RECV", &[who])
            .passive("SYN_RECV>ESTABLISHED", &[who])
            .by("ESTABLISHED>FIN_WAIT1", who)
            .passive("FIN_WAIT1>CLOSING", &[who])
            .passive("CLOSING>CLOSE", &[who])
            .bytes(77, 77),
    ])
}

/// The name at each event is the one it was learned with.
pub fn renamed(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    let opened = client.who.clone();
    server.ask("accept l s");
    client.rename("after");
    part(&mut client, "c", &mut server, "s");
    assert_ne!(opened.comm, client.who.comm);
    Some(vec![
        Life::client(from, at, &opened).closes(&client.who),
        Life::server(at, from, &server.who).follows(&[&server.who], &server.who),
    ])
}

/// A control group of the test's own, gone with it.
struct Cgroup(std::path::PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

pub fn other_user_and_cgroup(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut id = None;
    let mut own = None;
    match cgroup2() {
        Some(root) => {
            let dir = root.join(format!("socket-snoop-{}", std::process::id()));
            std::fs::create_dir(&dir).expect("a control group");
            let procs = dir.join("cgroup.procs");
            std::fs::write(procs, client.who.pid.to_string()).expect("join the control group");
            id = Some(std::fs::metadata(&dir).unwrap().ino());
            own = Some(Cgroup(dir));
        }
        None => skip("no unified control groups are mounted: their ids are not checked"),
    }
    client.become_user(4711);
    let from = client.connect("c", at);
    server.ask("accept l s");
    part(&mut client, "c", &mut server, "s");
    let who = client.who.clone();
    drop(client);
    drop(own);
    Some(vec![
        Life::client(from, at, &who).closes(&who).cgroup(id),
        Life::server(at, from, &server.who).follows(&[&server.who], &server.who),
    ])
}

/// `ss -K` closes sockets of others; they don't become its own.
pub fn killed_by_an_admin(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    let kill = |filter: String| {
        let mut ss = std::process::Command::new("ss");
        let filter = filter.split(' ').map(str::to_owned);
        let out = ss
            .args(["-K", "-H", "-t", "-a", "-n"])
            .args(filter)
            .output();
        out.is_ok_and(|out| !out.stdout.is_empty())
    };
    if !kill(format!(
        "src {} sport = {} dst {} dport = {}",
        from.ip(),
        from.port(),
        at.ip(),
        at.port()
    )) {
        skip("no ss, or a kernel without CONFIG_INET_DIAG_DESTROY");
        return None;
    }
    client.fails("receive c all", "ECONNABORTED");
    client.ask("close c");
    server.ask("close s");
    assert!(kill(format!(
        "state listening src {} sport = {}",
        at.ip(),
        at.port()
    )));
    server.ask("close l");
    let listened = Whose::By(server.who.clone());
    Some(vec![
        Life::client(from, at, &client.who).passive("ESTABLISHED>CLOSE", &[]),
        Life::server(at, from, &server.who).passive("ESTABLISHED>CLOSE", &[&server.who]),
        Life::new("listener", at, "0.0.0.0:0".parse().unwrap())
            .then("CLOSE>LISTEN", listened)
            .passive("LISTEN>CLOSE", &[]),
    ])
}
