//! What the programs do on loopback, and whose each event of it is.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;

use crate::actor::{Actor, Stage, Who, cgroup2};
use crate::check::{Life, Whose};
use crate::common::net::own_ip;
use crate::common::skip;
use crate::nets;

/// Plays, and says what is to be told of it; `None` where it can't be played.
pub type Scene = fn(&Stage) -> Option<Vec<Life>>;

/// Every scene but that of the sockets from before the start.
pub const ALL: [(&str, Scene); 31] = [
    ("plain", plain),
    ("server_closes_first", server_closes_first),
    ("ipv6_and_dual_stack", ipv6_and_dual_stack),
    ("forking_server", forking_server),
    ("preforked_server", preforked_server),
    ("reuseport_workers", reuseport_workers),
    ("reuseport_of_one_process", reuseport_of_one_process),
    ("threads", threads),
    ("killed", killed),
    ("killed_with_data_unread", killed_with_data_unread),
    ("passed_on", passed_on),
    ("left_to_the_garbage_collector", garbage),
    ("refused", refused),
    ("reset_by_client", reset_by_client),
    ("reset_by_server", reset_by_server),
    ("half_closed", half_closed),
    ("shut_down_by_another", shut_down_by_another),
    ("never_accepted", never_accepted),
    ("connected_again", connected_again),
    ("to_itself", to_itself),
    ("renamed", renamed),
    ("other_user_and_cgroup", other_user_and_cgroup),
    ("killed_by_an_admin", killed_by_an_admin),
    ("two_namespaces", nets::two_namespaces),
    ("slow_connect", nets::slow_connect),
    ("timed_out", nets::timed_out),
    ("simultaneous_open", nets::simultaneous_open),
    ("fast_open", nets::fast_open),
    ("fast_open_shut_early", nets::fast_open_shut_early),
    ("lossy", nets::lossy),
    ("bound_to_device", nets::bound_to_device),
];

/// The name of the scene that begins before the tracers do.
pub const OLD: &str = "open_before_the_start";

fn anywhere() -> SocketAddr {
    SocketAddr::new(own_ip().into(), 0)
}

/// A server that listens, and a client.
fn two(stage: &Stage) -> (Actor, Actor, SocketAddr) {
    let (mut server, client) = (stage.actor("server"), stage.actor("client"));
    let at = server.listen("l", anywhere());
    (server, client, at)
}

/// A request and its answer.
fn talk(client: &mut Actor, server: &mut Actor, there: u64, back: u64) {
    client.ask(&format!("send c {there}"));
    server.ask(&format!("receive s {there}"));
    server.ask(&format!("send s {back}"));
    client.ask(&format!("receive c {back}"));
}

fn plain(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    talk(&mut client, &mut server, 100_000, 70_001);
    client.ask("close c");
    server.ask("receive s all");
    server.ask("close s");
    server.ask("close l");
    Some(vec![
        Life::listener(at, &server.who, &server.who),
        Life::client(from, at, &client.who)
            .closes(&client.who)
            .bytes(100_000, 70_001)
            .cause(&["closed_by_us"]),
        Life::server(at, from, Some(&server.who))
            .follows(&[&server.who], &server.who)
            .bytes(70_001, 100_000)
            .cause(&["closed_by_peer"]),
    ])
}

fn server_closes_first(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    talk(&mut client, &mut server, 1, 0);
    server.ask("close s");
    client.ask("receive c all");
    client.ask("close c");
    Some(vec![
        Life::client(from, at, &client.who)
            .follows(&[&client.who], &client.who)
            .bytes(1, 0)
            .cause(&["closed_by_peer"]),
        Life::server(at, from, Some(&server.who))
            .closes(&server.who)
            .bytes(0, 1)
            .cause(&["closed_by_us"]),
    ])
}

/// A wildcard listener of both families: two children, by IPv6 and by IPv4.
fn ipv6_and_dual_stack(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client) = (stage.actor("server"), stage.actor("client"));
    let any = server.listen("l", "[::]:0".parse().unwrap());
    let mut lives = Vec::new();
    for ip in ["::1".parse().unwrap(), own_ip().into()] {
        let at = SocketAddr::new(ip, any.port());
        let from = client.connect("c", at);
        server.ask("accept l s");
        talk(&mut client, &mut server, 5, 7);
        client.ask("close c");
        server.ask("receive s all");
        server.ask("close s");
        lives.push(
            Life::client(from, at, &client.who)
                .closes(&client.who)
                .bytes(5, 7),
        );
        lives.push(
            Life::server(at, from, Some(&server.who))
                .follows(&[&server.who], &server.who)
                .bytes(7, 5),
        );
    }
    server.ask("close l");
    lives.push(Life::listener(any, &server.who, &server.who));
    Some(lives)
}

fn forking_server(stage: &Stage) -> Option<Vec<Life>> {
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
        client.ask("close c");
        child.ask("receive s all");
        child.ask("close s");
        lives.push(Life::client(from, at, &client.who).closes(&client.who));
        lives.push(
            Life::server(at, from, Some(&server.who))
                .follows(&[&server.who, &child.who], &child.who)
                .bytes(20, 10),
        );
    }
    server.ask("close l");
    lives.push(Life::listener(at, &server.who, &server.who));
    Some(lives)
}

fn preforked_server(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut lives = Vec::new();
    let mut workers = [stage.fork(&mut server), stage.fork(&mut server)];
    for worker in &mut workers {
        let from = client.connect("c", at);
        worker.ask("accept l s");
        talk(&mut client, worker, 10, 20);
        worker.ask("close s");
        client.ask("receive c all");
        client.ask("close c");
        lives.push(Life::client(from, at, &client.who).follows(&[&client.who], &client.who));
        lives.push(Life::server(at, from, Some(&server.who)).closes(&worker.who));
    }
    // The one that listened goes; the listener lives on, and is still its.
    server.ask("close l");
    let from = client.connect("c", at);
    workers[1].ask("accept l s");
    client.ask("close c");
    workers[1].ask("receive s all");
    workers[1].ask("close s");
    let [one, two] = &mut workers;
    one.ask("close l");
    two.ask("close l");
    lives.push(Life::client(from, at, &client.who).closes(&client.who));
    lives.push(Life::server(at, from, Some(&server.who)).follows(&[&two.who], &two.who));
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

/// Two processes: whose a child is can't be told before it is used.
fn reuseport_workers(stage: &Stage) -> Option<Vec<Life>> {
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
        worker.ask("close s");
        client.ask("receive c all");
        client.ask("close c");
        lives.push(Life::client(from, at, &client.who).follows(&[&client.who], &client.who));
        lives.push(Life::server(at, from, None).closes(&worker.who).bytes(4, 3));
    }
    Some(lives)
}

/// Two listeners of one process agree.
fn reuseport_of_one_process(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client) = (stage.actor("server"), stage.actor("client"));
    let at = share(&mut server, "l", anywhere());
    share(&mut server, "m", at);
    let from = client.connect("c", at);
    server.ask("nonblocking l");
    server.tell("accept l s");
    if server.answer().get("error").is_some() {
        server.ask("accept m s");
    }
    client.ask("close c");
    server.ask("receive s all");
    server.ask("close s");
    Some(vec![
        Life::client(from, at, &client.who).closes(&client.who),
        Life::server(at, from, Some(&server.who)).follows(&[&server.who], &server.who),
    ])
}

/// One thread opens, another closes; one listens, another accepts.
fn threads(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut closer = stage.thread(&mut client);
    let mut worker = stage.thread(&mut server);
    closer.rename("closer");
    worker.rename("worker");
    let from = client.connect("c", at);
    worker.ask("accept l s");
    talk(&mut client, &mut worker, 3, 4);
    closer.ask("close c");
    worker.ask("receive s all");
    worker.ask("close s");
    assert_ne!(client.who.tid, closer.who.tid);
    Some(vec![
        Life::client(from, at, &client.who).closes(&closer.who),
        Life::server(at, from, Some(&server.who)).follows(&[&worker.who], &worker.who),
    ])
}

/// The kernel closes for a process that is killed, in its context.
fn killed(stage: &Stage) -> Option<Vec<Life>> {
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
        Life::server(at, from, Some(&server.who))
            .follows(&[&server.who], &server.who)
            .bytes(4, 3),
        Life::client(second, at, &other.who).follows(&[&other.who], &other.who),
        Life::server(at, second, Some(&server.who)).closes(&server.who),
        Life::listener(at, &server.who, &server.who),
    ])
}

/// What it has not read makes its end a reset.
fn killed_with_data_unread(stage: &Stage) -> Option<Vec<Life>> {
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
        Life::server(at, from, Some(&server.who))
            .passive("ESTABLISHED>CLOSE", &[&server.who])
            .bytes(1234, 0)
            .cause(&["reset_by_peer"]),
    ])
}

/// Both ends go to another process each, which closes them.
fn passed_on(stage: &Stage) -> Option<Vec<Life>> {
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
        Life::server(at, from, Some(&server.who))
            .passive("ESTABLISHED>CLOSE_WAIT", &[&server.who, &reset.who])
            .within("CLOSE_WAIT>CLOSE", &reset.who)
            .bytes(4, 3),
    ])
}

/// A kernel thread closes it, and is not its owner.
fn garbage(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    client.ask("garbage c");
    server.ask("receive s all");
    server.ask("close s");
    Some(vec![
        Life::client(from, at, &client.who)
            .passive("ESTABLISHED>FIN_WAIT1", &[])
            .passive("FIN_WAIT1>FIN_WAIT2", &[])
            .passive("FIN_WAIT2>CLOSE", &[]),
        Life::server(at, from, Some(&server.who)).follows(&[&server.who], &server.who),
    ])
}

fn refused(stage: &Stage) -> Option<Vec<Life>> {
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
fn reset_by_client(stage: &Stage) -> Option<Vec<Life>> {
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
        Life::server(at, from, Some(&server.who))
            .passive("ESTABLISHED>CLOSE", &[&server.who])
            .bytes(40, 30)
            .cause(&["reset_by_peer"]),
    ])
}

fn reset_by_server(stage: &Stage) -> Option<Vec<Life>> {
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
        Life::server(at, from, Some(&server.who))
            .passive("ESTABLISHED>CLOSE_WAIT", &[&server.who])
            .within("CLOSE_WAIT>CLOSE", &server.who)
            .bytes(40, 30)
            .cause(&["reset_by_us"]),
    ])
}

/// Data go on after one side's FIN, first in one direction, then the other.
fn half_closed(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut lives = Vec::new();
    for client_first in [true, false] {
        let from = client.connect("c", at);
        server.ask("accept l s");
        talk(&mut client, &mut server, 11, 13);
        let of_client = Life::client(from, at, &client.who);
        let of_server = Life::server(at, from, Some(&server.who));
        if client_first {
            client.ask("finish c");
            server.ask("receive s all");
            server.ask("send s 50000");
            server.ask("close s");
            client.ask("receive c all");
            client.ask("close c");
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
            client.ask("close c");
            server.ask("receive s all");
            server.ask("close s");
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
fn shut_down_by_another(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    server.ask("accept l s");
    let mut fork = stage.fork(&mut client);
    fork.rename("fork");
    fork.ask("finish c");
    server.ask("receive s all");
    server.ask("close s");
    client.ask("receive c all");
    client.ask("close c");
    fork.ask("close c");
    Some(vec![
        Life::client(from, at, &client.who).closes(&fork.who),
        Life::server(at, from, Some(&server.who)).follows(&[&server.who], &server.who),
    ])
}

/// The listener goes with connections in its queue.
fn never_accepted(stage: &Stage) -> Option<Vec<Life>> {
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
        Life::server(at, from, Some(&server.who))
            .passive("ESTABLISHED>CLOSE", &[&server.who])
            .bytes(0, 9)
            .cause(&["never_accepted"]),
    ])
}

/// One socket, two connections, of two processes.
fn connected_again(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let mut heir = stage.actor("heir");
    let from = client.connect("c", at);
    server.ask("accept l s");
    client.pass("c", &mut heir);
    client.ask("close c");
    heir.ask("disconnect c");
    let second = heir.address(&format!("connect c {at}"));
    server.ask("accept l t");
    heir.ask("close c");
    server.ask("receive t all");
    server.ask("close t");
    assert_ne!(from, second);
    Some(vec![
        Life::client(from, at, &client.who).within("ESTABLISHED>CLOSE", &heir.who),
        Life::client(second, at, &heir.who).closes(&heir.who),
        Life::server(at, from, Some(&server.who)).passive("ESTABLISHED>CLOSE", &[&server.who]),
        Life::server(at, second, Some(&server.who)).follows(&[&server.who], &server.who),
    ])
}

/// A socket that connects to itself: the smallest simultaneous open.
fn to_itself(stage: &Stage) -> Option<Vec<Life>> {
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
fn renamed(stage: &Stage) -> Option<Vec<Life>> {
    let (mut server, mut client, at) = two(stage);
    let from = client.connect("c", at);
    let opened = client.who.clone();
    server.ask("accept l s");
    client.rename("after");
    client.ask("close c");
    server.ask("receive s all");
    server.ask("close s");
    assert_ne!(opened.comm, client.who.comm);
    Some(vec![
        Life::client(from, at, &opened).closes(&client.who),
        Life::server(at, from, Some(&server.who)).follows(&[&server.who], &server.who),
    ])
}

/// A control group of the test's own, gone with it.
struct Cgroup(std::path::PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn other_user_and_cgroup(stage: &Stage) -> Option<Vec<Life>> {
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
    client.ask("close c");
    server.ask("receive s all");
    server.ask("close s");
    let who = client.who.clone();
    drop(client);
    drop(own);
    Some(vec![
        Life::client(from, at, &who).closes(&who).cgroup(id),
        Life::server(at, from, Some(&server.who)).follows(&[&server.who], &server.who),
    ])
}

/// `ss -K` closes sockets of others; they don't become its own.
fn killed_by_an_admin(stage: &Stage) -> Option<Vec<Life>> {
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
        Life::server(at, from, Some(&server.who)).passive("ESTABLISHED>CLOSE", &[&server.who]),
        Life::new("listener", at, "0.0.0.0:0".parse().unwrap())
            .then("CLOSE>LISTEN", listened)
            .passive("LISTEN>CLOSE", &[]),
    ])
}

/// A listener and two connections from before the start of the tracers.
pub struct Old {
    server: Actor,
    client: Actor,
    at: SocketAddr,
    from: SocketAddr,
}

impl Old {
    pub fn open(stage: &Stage) -> Old {
        let (mut server, mut client, at) = two(stage);
        let from = client.connect("c", at);
        server.ask("accept l s");
        talk(&mut client, &mut server, 3, 4);
        Old {
            server,
            client,
            at,
            from,
        }
    }

    /// Closes the old ones, and makes a new child of the old listener.
    pub fn close(mut self) -> Vec<Life> {
        let (server, client) = (&mut self.server, &mut self.client);
        server.ask("close s");
        client.ask("receive c all");
        client.ask("close c");
        let new = client.connect("d", self.at);
        server.ask("accept l t");
        client.ask("close d");
        server.ask("receive t all");
        server.ask("close t");
        server.ask("close l");
        let (server, client) = (&server.who, &client.who);
        let old = |who: &Who| Whose::Old(who.clone());
        vec![
            Life::new("old client", self.from, self.at)
                .then("ESTABLISHED>CLOSE_WAIT", old(client))
                .by("CLOSE_WAIT>LAST_ACK", client)
                .passive("LAST_ACK>CLOSE", &[client])
                .bytes(3, 4),
            Life::new("old server", self.at, self.from)
                .closes(server)
                .bytes(4, 3),
            Life::client(new, self.at, client).closes(client),
            Life::new("child of an old listener", self.at, new)
                .then("LISTEN>SYN_RECV", old(server))
                .passive("SYN_RECV>ESTABLISHED", &[])
                .follows(&[server], server),
        ]
    }
}
