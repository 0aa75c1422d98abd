//! Live: ends of connections that are easily taken for others; by every way to
//! the events. Where a way knows less, it says less, and nothing wrong.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;
use story::story;

use common::event::{self, Value};
use common::life::{NOBODY, connected, connected_over, joined, lose, to_end};
use common::net::{self, Netns};
use common::traffic::awake;
use common::ways::{Tracers, Way, both, client};
use common::{Run, Tracer, eventually, live, skip};
use nix::sys::socket::{setsockopt, sockopt};

/// The expected cause where `sk_err` can be read, else that or none.
fn is_or_unknown(record: &Value, expected: &str, way: Way) {
    let cause = event::text(record, "connection.cause");
    let fine = cause == expected || !way.members && cause == "unknown";
    assert!(fine, "{way:?}: {cause} for {expected}: {record}");
}

/// What the kernel lists of a connection in this state, in a namespace.
fn listed(netns: &Netns, state: &str, port: u16) -> String {
    let args = format!("-Htan state {state} dport = {port}");
    netns.ask("ss", &args).expect("ss")
}

/// An ICMP error that the connection survived.
#[story]
fn an_error_that_ended_nothing() {
    let Some((here, there)) = joined() else {
        return;
    };
    let refuse = [
        "add table ip t",
        "add chain ip t in { type filter hook input priority 0 ; }",
        "add rule ip t in tcp flags & syn == 0 reject with icmp type host-unreachable",
    ];
    let tracers = Tracers::start("");
    let (mut client, mut accepted, server) = connected_over(&here, &there);
    setsockopt(&client, sockopt::Ipv4RecvErr, &true).expect("IP_RECVERR");
    if let Err(why) = there.nft(&refuse) {
        return skip(&format!("nft: {why}"));
    }
    awake(|| {
        let before = here.snmp("RetransSegs");
        client.write_all(b"rejected at first").unwrap();
        // While a process has the socket, an ICMP message leaves no error.
        assert!(eventually(|| here.snmp("RetransSegs") >= before + 2));
        there.nft(&["flush chain ip t in"]).unwrap();
        accepted.read_exact(&mut [0; 17]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        to_end(&mut accepted);
        drop(accepted);
        tracers.until(|all| event::records(all, server).len() >= 2);
    });
    assert!(!listed(&here, "time-wait", server.port()).is_empty());
    let error = client.take_error().unwrap().expect("the error stays");
    assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH));
    for (way, all) in tracers.told(server, 2) {
        let (client, at_server) = both(&all, server, way);
        assert_eq!(
            client["connection.cause"], "closed_by_us",
            "{way:?} {client}"
        );
        assert_eq!(at_server["connection.cause"], "closed_by_peer", "{way:?}");
        let time_wait = client.get("tcp.time_wait").and_then(Value::as_bool);
        assert_eq!(time_wait, way.members.then_some(true), "{way:?} {client}");
    }
}

/// No room for time-wait sockets: nothing is claimed.
#[story]
fn a_full_table_of_time_wait_sockets() {
    let Some((here, there)) = joined() else {
        return;
    };
    here.set("ipv4/tcp_max_tw_buckets", "0");
    let tracers = Tracers::start("");
    let (mut client, accepted, server) = connected_over(&here, &there);
    awake(|| {
        client.shutdown(Shutdown::Write).unwrap();
        net::drain(accepted);
        to_end(&mut client);
        drop(client);
        tracers.until(|all| event::records(all, server).len() >= 2);
    });
    assert_eq!(listed(&here, "time-wait", server.port()), "");
    for (way, all) in tracers.told(server, 2) {
        let (client, _) = both(&all, server, way);
        assert_eq!(client["connection.cause"], "closed_by_us", "{way:?}");
        assert!(client.get("tcp.time_wait").is_none(), "{way:?} {client}");
    }
}

/// A socket that a ring of io_uring holds alone goes with the ring, in a worker
/// of the kernel: it was accepted all the same.
#[story]
#[allow(unsafe_code, reason = "makes system calls")]
fn accepted_and_held_by_io_uring() {
    if !live() {
        return;
    }
    let tracers = Tracers::start("");
    let (_listener, mut client, accepted, server) = connected();
    let mut params = [0u8; 120];
    let fd = accepted.as_raw_fd();
    // SAFETY: both calls get memory of the sizes that they read and write: a struct
    // io_uring_params of 120 bytes, and an array of one descriptor.
    let ring = unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr()) as i32;
        let files = 2;
        if ring >= 0 && libc::syscall(libc::SYS_io_uring_register, ring, files, &fd, 1) != 0 {
            libc::close(ring);
            -1
        } else {
            ring
        }
    };
    if ring < 0 {
        return skip("no io_uring");
    }
    drop(accepted);
    client.write_all(b"never read").unwrap();
    // SAFETY: the descriptor is this test's own.
    unsafe { libc::close(ring) };
    let end = client.read(&mut [0]).expect_err("a reset");
    assert_eq!(end.raw_os_error(), Some(libc::ECONNRESET));
    drop(client);
    for (way, all) in tracers.told(server, 2) {
        let (client, at_server) = both(&all, server, way);
        is_or_unknown(&at_server, "reset_by_us", way);
        assert_eq!(client["connection.cause"], "reset_by_peer", "{way:?}");
    }
}

/// In the queue until the listener is closed: never accepted, or not known.
#[story]
fn never_accepted_or_not_known() {
    if !live() {
        return;
    }
    let tracers = Tracers::start("");
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let mut waiting = TcpStream::connect(server).unwrap();
    drop(listener);
    waiting.read(&mut [0]).expect_err("a reset");
    drop(waiting);
    for (way, all) in tracers.told(server, 2) {
        let (client, at_server) = both(&all, server, way);
        is_or_unknown(&at_server, "never_accepted", way);
        assert_eq!(client["connection.cause"], "reset_by_peer", "{way:?}");
    }
}

fn of_server_end(e: &Value, server: SocketAddr) -> bool {
    event::local(e) == server && e["tcp.state.new"] == "CLOSE"
}

/// close(), then data from the peer: what it did afterwards is not in the record,
/// and that is said.
#[story]
fn an_end_that_is_not_whole() {
    if !live() {
        return;
    }
    let tracers = Tracers::start("");
    let classic = Run::quiet("--connections").start();
    let (_listener, client, mut accepted, server) = connected();
    drop(client);
    to_end(&mut accepted);
    tracers.until(|all| !event::records(all, server).is_empty());
    accepted.write_all(b"too late").unwrap();
    // By then the reset has come.
    tracers.until(|all| {
        event::with(all, server)
            .iter()
            .any(|e| of_server_end(e, server))
    });
    drop(accepted);
    for (way, all) in tracers.told(server, 2) {
        let (client, at_server) = both(&all, server, way);
        assert_eq!(client["connection.cause"], "closed_by_us", "{way:?}");
        assert_eq!(at_server["connection.cause"], "reset_by_peer", "{way:?}");
        let seen = client.get("connection.end_seen").and_then(Value::as_bool);
        let fine = seen == Some(false) || !way.members && seen.is_none();
        assert!(fine, "{way:?} {client}");
        assert!(at_server.get("connection.end_seen").is_none(), "{way:?}");
    }
    let peer = format!(" DST={server} ");
    let record = |l: &&String| l.contains(" Connection: SRC=") && l.contains(&peer);
    classic.until(|lines| lines.iter().any(|l| record(&l)));
    let lines = classic.stop().ok().lines();
    let line = lines.iter().find(record).expect("the client's record");
    assert!(line.ends_with(" CAUSE=closed_by_us END_SEEN=no"), "{line}");
}

/// Attempts that nobody answers: by a program that has enough of it, and by one
/// that is killed.
#[story]
fn given_up() {
    let Some((here, _there)) = joined() else {
        return;
    };
    for nobody in ["10.77.0.9", "10.77.0.8"] {
        here.ip(&format!(
            "neigh add {nobody} lladdr {NOBODY} nud permanent dev v0"
        ));
    }
    let tracers = Tracers::start("--dst-port 4491");
    let servers: [SocketAddr; 2] = ["10.77.0.9:4491", "10.77.0.8:4491"].map(|s| s.parse().unwrap());
    let attempt = servers[0];
    let patience = Duration::from_millis(200);
    here.run(move || TcpStream::connect_timeout(&attempt, patience).expect_err("nobody"));
    let mut child = here.run(|| {
        let mut bash = Command::new("bash");
        bash.args(["-c", "echo > /dev/tcp/10.77.0.8/4491"]);
        bash.spawn().expect("bash")
    });
    tracers.until(|all| !event::with(all, servers[1]).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    tracers.until(|all| servers.iter().all(|s| !event::records(all, *s).is_empty()));
    for (way, all) in tracers.stop() {
        for server in servers {
            let record = client(&all, server, way);
            is_or_unknown(&record, "given_up", way);
            assert_eq!(event::number(&record, "tcp.retransmits.syn"), 0, "{way:?}");
        }
        let summary = event::summary(&all);
        assert_eq!(event::number(summary, "connections.opened"), 2, "{summary}");
        assert_eq!(
            event::number(summary, "connections.established"),
            0,
            "{summary}"
        );
        let given_up = if way.members { 2 } else { 0 };
        let counted = event::number(summary, "connections.given_up");
        assert_eq!(counted, given_up, "{way:?} {summary}");
    }
}

/// Killed by an administrator.
#[story]
fn aborted() {
    let Some((here, there)) = joined() else {
        return;
    };
    let tracers = Tracers::start("");
    let (mut client, mut accepted, server) = connected_over(&here, &there);
    let kill = format!("-K dst {} dport = {}", server.ip(), server.port());
    let killed = here.ask("ss", &kill).unwrap_or_default();
    if !killed.contains(&server.to_string()) {
        return skip("this kernel kills no sockets (INET_DIAG_DESTROY)");
    }
    let end = client.read(&mut [0]).expect_err("killed");
    assert_eq!(end.raw_os_error(), Some(libc::ECONNABORTED));
    accepted.read(&mut [0]).expect_err("a reset");
    drop((client, accepted));
    for (way, all) in tracers.told(server, 2) {
        let (client, at_server) = both(&all, server, way);
        is_or_unknown(&client, "aborted", way);
        assert_eq!(at_server["connection.cause"], "reset_by_peer", "{way:?}");
    }
}

/// A keepalive without an answer sends a reset, and is a time-out.
#[story]
fn a_keepalive_without_an_answer() {
    let Some((here, there)) = joined() else {
        return;
    };
    let tracers = Tracers::start("");
    let (mut client, accepted, server) = connected_over(&here, &there);
    setsockopt(&client, sockopt::KeepAlive, &true).unwrap();
    setsockopt(&client, sockopt::TcpKeepIdle, &1).unwrap();
    setsockopt(&client, sockopt::TcpKeepInterval, &1).unwrap();
    setsockopt(&client, sockopt::TcpKeepCount, &1).unwrap();
    lose(&here, "10.77.0.2");
    awake(|| {
        let end = client.read(&mut [0]).expect_err("nothing can come");
        assert_eq!(end.raw_os_error(), Some(libc::ETIMEDOUT));
        tracers.until(|all| !event::records(all, server).is_empty());
    });
    for (way, all) in tracers.told(server, 1) {
        let record = common::ways::client(&all, server, way);
        is_or_unknown(&record, "timed_out", way);
    }
    net::abort(accepted);
}

/// close() upon a FIN that nobody has answered is no change, and no line.
#[story]
fn a_change_to_the_same_state() {
    let Some((here, there)) = joined() else {
        return;
    };
    let usual = (Tracer::json(""), Run::quiet("").start());
    let all = (Tracer::json("--all"), Run::quiet("--all").start());
    let (client, accepted, server) = connected_over(&here, &there);
    lose(&here, "10.77.0.2");
    client.shutdown(Shutdown::Write).unwrap();
    drop(client);
    let waits = |lines: &[String]| {
        let own = event::with(&event::objects(lines), server);
        let twice = |e: &&Value| event::transition(e) == "FIN_WAIT1>FIN_WAIT1";
        own.iter().any(|e| twice(&e))
    };
    assert!(all.0.until(waits));
    here.ip("neigh del 10.77.0.2 dev v0");
    net::drain(accepted);
    for tracer in [&usual.0, &all.0] {
        tracer.until(|lines| event::records(&event::objects(lines), server).len() >= 2);
    }
    for ((json, classic), expected) in [(usual, 1), (all, 2)] {
        let objects = event::objects(&json.stop().ok().lines());
        let own = event::with(&objects, server);
        let fins = own.iter().filter(|e| e["tcp.state.new"] == "FIN_WAIT1");
        assert_eq!(fins.count(), expected, "{own:#?}");
        let summary = event::summary(&objects);
        let shown = objects
            .iter()
            .filter(|e| e["event.name"] != "connection")
            .count()
            - 1;
        assert_eq!(event::number(summary, "events.shown"), shown as u64);
        // It is no step of the connection's life in any case.
        let records = event::records(&objects, server);
        let record = records.iter().find(|r| event::peer(r) == server).unwrap();
        let states = record["connection.states_ns"].as_object().unwrap();
        let sum: u64 = states.values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(sum, event::number(record, "connection.duration_ns"));
        let lines = classic.stop().ok().lines();
        let lines = event::lines_with(&lines, server);
        let fins = lines
            .iter()
            .filter(|l| l.kind == "State Change" && l.state.contains("FIN_WAIT1"));
        assert_eq!(fins.count(), expected, "{lines:#?}");
    }
}

/// A second connect() on a socket has no local port yet, whatever it had before.
#[story]
fn a_second_connect_on_a_socket() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
    if !live() {
        return;
    }
    let unused = net::listen(net::own_ip());
    let refusing = unused.local_addr().unwrap();
    drop(unused);
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let address = |server: SocketAddr| match server {
        SocketAddr::V4(v4) => SockaddrIn::from(v4),
        SocketAddr::V6(_) => unreachable!("an IPv4 address"),
    };
    let tracers = Tracers::start("");
    let fd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )
    .unwrap();
    connect(fd.as_raw_fd(), &address(refusing)).expect_err("refused");
    connect(fd.as_raw_fd(), &address(server)).expect("accepted");
    let mut client = TcpStream::from(fd);
    let port = client.local_addr().unwrap().port();
    let accepted = listener.accept().unwrap().0;
    client.shutdown(Shutdown::Write).unwrap();
    net::drain(accepted);
    to_end(&mut client);
    drop(client);
    for (way, all) in tracers.told(server, 2) {
        let own = event::with(&all, server);
        let own: Vec<&Value> = own.iter().filter(|e| event::peer(e) == server).collect();
        assert_eq!(event::transition(own[0]), "CLOSE>SYN_SENT", "{way:?}");
        assert!(
            own[0].get("network.local.port").is_none(),
            "{way:?} {}",
            own[0]
        );
        assert_eq!(event::local(own[1]).port(), port, "{way:?}");
    }
}
