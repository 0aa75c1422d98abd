//! Retransmissions: on loopback without any module, and over veth where the
//! kernel has it.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket,
};

use crate::common::event::{self, Value};
use crate::common::net::{self, Netns};
use crate::common::{Run, Tracer, kernel};
use crate::lives::{both_closed, joined, pair};
use crate::suite::{Done, with_mounts};

/// A hardware address that no one has.
const NOBODY: &str = "02:00:00:00:00:77";

fn of_kind(all: &[Value], server: SocketAddr, kind: &str) -> Vec<Value> {
    let mut own = event::with(all, server);
    own.retain(|e| e["event.name"] == kind);
    own
}

fn until(tracer: &Tracer, server: SocketAddr, kind: &str, count: usize) {
    tracer.until(|lines| of_kind(&event::objects(lines), server, kind).len() >= count);
}

/// Events that the classic tracer says are lost, in its last line.
fn lost(lines: &[String]) -> usize {
    let last = lines.last().expect("some output");
    let count = last
        .strip_suffix(" lost.")
        .and_then(|l| l.rsplit(' ').next());
    count
        .and_then(|c| c.parse().ok())
        .unwrap_or_else(|| panic!("no count: {last:?}"))
}

/// Both formats show the repeated SYNs of the connections to `server`.
///
/// Since Linux 7.0 (`__bpf_trace_run`, kernel/trace/bpf_trace.c: it no longer
/// keeps its CPU) a task can be preempted within a program at a raw tracepoint,
/// and the events of others on that CPU pass the program by meanwhile. So the
/// opening of one socket may be missing; then it is said to be lost.
fn check_syns(all: &[Value], lines: &[String], server: SocketAddr) {
    let passed_by = event::losses(all, &["recursion"]) as usize;
    let in_classic = lost(lines);
    let again = of_kind(all, server, "tcp_retransmit");
    assert!(!again.is_empty(), "no retransmission to {server}: {all:#?}");
    let mut unopened = BTreeSet::new();
    for e in &again {
        assert_eq!(e["tcp.state.current"], "SYN_SENT", "{e}");
        assert_eq!(event::peer(e), server, "{e}");
        assert_ne!(event::local(e).port(), 0, "{e}");
        let wire = if server.is_ipv4() { "ipv4" } else { "ipv6" };
        assert_eq!(e["network.type"], wire, "{e}");
        assert!(e.get("error.type").is_none(), "{e}");
        assert!(e.get("tcp.state.old").is_none(), "{e}");
        let first = event::with(all, server)
            .into_iter()
            .find(|first| first["socket.id"] == e["socket.id"])
            .expect("the event itself");
        if first["event.name"] == "tcp_retransmit" {
            unopened.insert(event::text(e, "socket.id").to_owned());
        } else {
            assert_eq!(event::transition(&first), event::CLIENT[0], "{first}");
        }
    }
    assert!(unopened.len() <= passed_by, "{unopened:?}: {all:#?}");
    let mut own = event::lines_with(lines, server);
    own.retain(|l| l.kind == "Retransmit");
    assert!(
        own.iter()
            .all(|l| l.state == "Connection Opening (SYN_SENT)")
    );
    if passed_by + in_classic > 0 {
        let differ = own.len().abs_diff(again.len());
        assert!(differ <= passed_by + in_classic, "{lines:#?}");
        return;
    }
    assert_eq!(own.len(), again.len(), "{lines:#?}");
    // Two at the same moment on two CPUs may come in either order.
    let mut ends: Vec<_> = again.iter().map(event::local).collect();
    let mut lines: Vec<_> = own.iter().map(|l| l.src).collect();
    ends.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines, ends);
}

/// A listener whose queue is full drops SYNs: repeated ones without any module.
pub fn syn_dropped() -> Done {
    let ip = net::own_ip();
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("socket");
    let [a, b, c, d] = ip.octets();
    use std::os::fd::AsRawFd;
    bind(fd.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).expect("bind");
    listen(&fd, Backlog::new(0).unwrap()).expect("listen");
    let listener = TcpListener::from(fd);
    let server = listener.local_addr().unwrap();
    let (tracer, classic) = (Tracer::json(""), Run::quiet("").start());
    let wait = Duration::from_millis(2500);
    let first = TcpStream::connect(server).expect("the first fits");
    let attempts: Vec<_> = (0..2)
        .map(|_| thread::spawn(move || TcpStream::connect_timeout(&server, wait)))
        .collect();
    for attempt in attempts {
        let _ = attempt.join().unwrap();
    }
    until(&tracer, server, "tcp_retransmit", 1);
    drop(first);
    // SYN_RECV sockets of the queue may repeat their SYN-ACKs: not ours to see.
    let all = event::objects(&tracer.stop().ok().lines());
    let lines = classic.stop().ok().lines();
    check_syns(&all, &lines, server);
    Ok(())
}

/// SYNs to a neighbour that is not there.
pub fn syn_to_nobody() -> Done {
    let (here, _there) = joined()?;
    for ip in ["10.77.0.9", "fd77::9"] {
        here.ip(&format!(
            "neigh add {ip} lladdr {NOBODY} nud permanent dev v0"
        ));
    }
    let (tracer, classic) = (Tracer::json(""), Run::quiet("").start());
    let servers: [SocketAddr; 2] = ["10.77.0.9:4477", "[fd77::9]:4477"].map(|s| s.parse().unwrap());
    let attempts = servers.map(|server| {
        here.run(move || {
            thread::spawn(move || TcpStream::connect_timeout(&server, Duration::from_secs(3)))
        })
    });
    for attempt in attempts {
        attempt.join().unwrap().expect_err("nobody answers");
    }
    for server in servers {
        until(&tracer, server, "tcp_retransmit", 1);
    }
    let all = event::objects(&tracer.stop().ok().lines());
    let lines = classic.stop().ok().lines();
    for server in servers {
        check_syns(&all, &lines, server);
    }
    Ok(())
}

/// A connection over veth, client in the first namespace.
fn connected(here: &Netns, there: &Netns, ip: &str) -> (TcpStream, TcpStream, SocketAddr) {
    let ip: IpAddr = ip.parse().unwrap();
    let listener = there.run(move || net::listen(ip));
    let server = listener.local_addr().unwrap();
    let client = here.run(move || TcpStream::connect(server).expect("connect over veth"));
    (client, listener.accept().unwrap().0, server)
}

/// Client's and server's life, with or without the half-filled first event.
fn complete(all: &[Value], server: SocketAddr) -> Vec<Value> {
    let (of_client, of_server) = pair(all, server);
    assert_eq!(event::transitions(&of_client), event::CLIENT);
    let seen = event::transitions(&of_server);
    let from = event::SERVER.len() - seen.len().min(5);
    assert!(from <= 1 && seen == event::SERVER[from..], "{seen:?}");
    of_client
}

/// Data lost on the way is sent again, and the connection goes on.
pub fn data_lost() -> Done {
    let (here, there) = joined()?;
    for ip in ["10.77.0.2", "fd77::2"] {
        let tracer = Tracer::json("");
        let (mut client, accepted, server) = connected(&here, &there, ip);
        here.ip(&format!(
            "neigh replace {ip} lladdr {NOBODY} nud permanent dev v0"
        ));
        client.write_all(b"into the void").unwrap();
        until(&tracer, server, "tcp_retransmit", 2);
        here.ip(&format!("neigh del {ip} dev v0"));
        let address = client.local_addr().unwrap();
        drop(client);
        net::drain(accepted);
        tracer.until(|lines| both_closed(lines, server));
        let all = event::objects(&tracer.stop().ok().lines());
        let again = of_kind(&all, server, "tcp_retransmit");
        assert!(again.len() >= 2, "{again:#?}");
        let of_client = complete(&all, server);
        assert_eq!(again[0]["tcp.state.current"], "ESTABLISHED");
        assert_eq!(event::local(&again[0]), address);
        assert_eq!(again[0]["socket.id"], of_client[0]["socket.id"]);
    }
    Ok(())
}

/// A link that loses a fifth of the packets: what is written on is sent again
/// until there are some retransmissions, however the dice fall.
pub fn lossy_link() -> Done {
    const ENOUGH: usize = 5;
    let (here, there) = joined()?;
    let tracer = Tracer::json("");
    // First the connection: its neighbours are found and its SYN arrives.
    let (mut client, accepted, server) = connected(&here, &there, "10.77.0.2");
    here.tool("tc", "qdisc add dev v0 root netem loss 20%")
        .map_err(|why| format!("no netem: {}", why.trim_end()))?;
    let reading = thread::spawn(move || net::drain(accepted));
    let shown = |lines: &[String]| of_kind(&event::objects(lines), server, "tcp_retransmit");
    tracer.until(|lines| {
        client.write_all(&[7; 20_000]).unwrap();
        shown(lines).len() >= ENOUGH
    });
    here.tool("tc", "qdisc replace dev v0 root netem loss 0%")
        .expect("end the loss");
    drop(client);
    reading.join().unwrap();
    tracer.until(|lines| both_closed(lines, server));
    let lines = tracer.stop().ok().lines();
    let of_client = complete(&event::objects(&lines), server);
    let again = shown(&lines);
    assert!(again.len() >= ENOUGH, "{} retransmissions", again.len());
    for e in again {
        // What was written last may still be on its way at the end.
        assert!(["ESTABLISHED", "FIN_WAIT1"].contains(&event::text(&e, "tcp.state.current")));
        assert_eq!(e["socket.id"], of_client[0]["socket.id"], "{e}");
    }
    Ok(())
}

/// Where the kernel's record has `err`, a retransmission that failed is none.
pub fn failed() -> Done {
    const FORMAT: &str = "events/tcp/tcp_retransmit_skb/format";
    if !with_mounts(|| kernel::tracefs(FORMAT)).contains(" err;") {
        return Err("the kernel's tcp_retransmit_skb has no err (Linux 6.17 has)".to_owned());
    }
    let (here, there) = joined()?;
    let (tracer, classic) = (Tracer::json(""), Run::quiet("").start());
    let (mut client, _accepted, server) = connected(&here, &there, "10.77.0.2");
    // In flight and unanswered when the way goes away: what was never sent
    // would not be sent again, either.
    here.ip(&format!(
        "neigh replace 10.77.0.2 lladdr {NOBODY} nud permanent dev v0"
    ));
    client.write_all(&[7; 20_000]).unwrap();
    here.ip("link set v0 down");
    until(&tracer, server, "tcp_retransmit_failed", 2);
    let all = event::objects(&tracer.stop().ok().lines());
    let lines = classic.stop().ok().lines();
    let failed = of_kind(&all, server, "tcp_retransmit_failed");
    assert!(!failed.is_empty(), "no failed retransmission: {all:#?}");
    for e in &failed {
        assert_eq!(e["error.type"], "EHOSTUNREACH", "{e}");
        assert_eq!(e["tcp.state.current"], "ESTABLISHED", "{e}");
    }
    let mut own = event::lines_with(&lines, server);
    own.retain(|l| l.kind == "Retransmit Failed");
    assert!(own.len() >= failed.len(), "{lines:#?}");
    Ok(())
}
