//! Connections and the exact transitions of both ends.
//!
//! Contract: each check runs two tracers side by side, one with `--all`. Up to
//! Linux 6.12 the accepted socket's first event, LISTEN>SYN_RECV, is half
//! filled (no peer yet): then, and only then, the usual tracer doesn't show it.
//! All other events are the same in both, in the same order.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::thread;

use crate::common::event::{self, CLIENT, SERVER, Value};
use crate::common::life::same;
use crate::common::net::{self, Netns};
use crate::common::{Tracer, kernel};
use crate::suite::{Done, Variant, witness};

/// Whether both ends of the connections with these servers were seen to close.
pub fn both_closed(lines: &[String], server: SocketAddr) -> bool {
    let own = event::with(&event::objects(lines), server);
    own.iter()
        .filter(|e| e["tcp.state.new"] == "CLOSE" && e.get("network.peer.port").is_some())
        .count()
        >= 2
}

/// Whether an event's peer is not known yet.
pub fn half_filled(e: &Value) -> bool {
    e.get("network.peer.port").is_none() && event::peer(e).ip().is_unspecified()
}

/// Client's and server's life of the one connection with this server, found
/// by any of their events: a half-filled one may have the listener's address.
pub fn pair(all: &[Value], server: SocketAddr) -> (Vec<Value>, Vec<Value>) {
    let lives = event::lives(all);
    let find = |end: fn(&Value) -> SocketAddr| {
        let own: Vec<_> = lives
            .iter()
            .filter(|life| life.iter().any(|e| end(e) == server))
            .filter(|life| life.iter().any(|e| !half_filled(e)))
            .collect();
        assert_eq!(own.len(), 1, "lives with {server}: {own:#?}");
        own[0].clone()
    };
    (find(event::peer), find(event::local))
}

/// Everything but the half-filled event has the right ends and members.
fn check_members(life: &[Value], local: SocketAddr, peer: SocketAddr) {
    for e in life {
        assert_eq!(e["network.transport"], "tcp", "{e}");
        assert_eq!(e["socket.id"], life[0]["socket.id"], "{e}");
        assert!(e["cpu.logical_number"].is_u64(), "{e}");
        assert!(!e.as_object().unwrap().values().any(Value::is_null), "{e}");
        if half_filled(e) {
            assert_eq!(event::transition(e), SERVER[0], "{e}");
            assert_eq!(event::local(e).port(), local.port(), "{e}");
            continue;
        }
        let wire = if local.is_ipv4() { "ipv4" } else { "ipv6" };
        assert_eq!(e["network.type"], wire, "{e}");
        assert_eq!(event::peer(e), peer, "{e}");
        assert_eq!(event::local(e).ip(), local.ip(), "{e}");
        if event::text(e, "tcp.state.new") == "SYN_SENT" {
            assert!(e.get("network.local.port").is_none(), "{e}");
        } else {
            assert_eq!(event::local(e), local, "{e}");
        }
    }
    assert!(life.is_sorted_by_key(event::nanos), "{life:#?}");
}

/// Runs one connection under both tracers and checks both ends.
fn connection(server: SocketAddr, converse: impl FnOnce() -> SocketAddr) {
    let (every, usual) = (Tracer::json("--all"), Tracer::json(""));
    let client = converse();
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    for tracer in [&every, &usual] {
        tracer.until(|lines| both_closed(lines, server));
    }
    let every = event::objects(&every.stop().ok().lines());
    let usual = event::objects(&usual.stop().ok().lines());

    let (of_client, of_server) = pair(&every, server);
    assert_eq!(event::transitions(&of_client), CLIENT);
    assert_eq!(event::transitions(&of_server), SERVER);
    check_members(&of_client, client, server);
    check_members(&of_server, server, client);
    assert_ne!(of_client[0]["socket.id"], of_server[0]["socket.id"]);

    let hidden = usize::from(half_filled(&of_server[0]));
    let (shown_client, shown_server) = pair(&usual, server);
    assert_eq!(event::transitions(&shown_client), CLIENT);
    assert_eq!(event::transitions(&shown_server), SERVER[hidden..]);
    check_members(&shown_client, client, server);
    check_members(&shown_server, server, client);

    // What is always in process context names this very process.
    for e in [&of_client[0], &of_client[2], &of_server[3]] {
        assert_eq!(e["process.pid"], process::id(), "{e}");
        assert_eq!(e["user.id"], 0, "{e}");
    }
    for all in [every, usual] {
        let summary = event::summary(&all);
        assert_eq!(event::number(summary, "lost.events"), 0, "{summary}");
    }
}

fn loopback(ip: IpAddr) -> Done {
    let listener = net::listen(ip);
    connection(listener.local_addr().unwrap(), || net::converse(&listener));
    Ok(())
}

/// IPv4 on loopback.
pub fn ipv4() -> Done {
    loopback(net::own_ip().into())
}

/// IPv6 on loopback.
pub fn ipv6() -> Done {
    loopback(net::LOOPBACK6)
}

/// An AF_INET6 client to a mapped address talks IPv4, and is shown so.
pub fn mapped_client() -> Done {
    let ip = net::own_ip();
    let listener = net::listen(ip);
    let server = listener.local_addr().unwrap();
    let mapped = SocketAddr::new(ip.to_ipv6_mapped().into(), server.port());
    connection(server, || net::converse_at(&listener, mapped));
    Ok(())
}

/// A dual-stack listener's connection with an IPv4 client is shown as IPv4.
pub fn dual_stack_server() -> Done {
    let listener = net::listen(Ipv6Addr::UNSPECIFIED);
    let port = listener.local_addr().unwrap().port();
    let server = SocketAddr::new(net::own_ip().into(), port);
    connection(server, || net::converse_at(&listener, server));
    Ok(())
}

/// A refused connection goes straight back to CLOSE.
pub fn refused_connection() -> Done {
    let ip = net::own_ip();
    let nobody = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
    let tracer = Tracer::json("");
    TcpStream::connect(nobody).expect_err("nobody listens");
    tracer.until(|lines| event::with(&event::objects(lines), nobody).len() >= 2);
    let all = event::objects(&tracer.stop().ok().lines());
    let lives = event::lives(&event::with(&all, nobody));
    assert_eq!(lives.len(), 1, "{lives:#?}");
    let seen = event::transitions(&lives[0]);
    assert_eq!(seen, ["CLOSE>SYN_SENT", "SYN_SENT>CLOSE"]);
    Ok(())
}

/// Listeners are shown with --all only.
pub fn listeners() -> Done {
    let (every, usual) = (Tracer::json("--all"), Tracer::json(""));
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    drop(listener);
    let last = net::listen(net::own_ip());
    net::converse(&last);
    let last = last.local_addr().unwrap();
    for tracer in [&every, &usual] {
        tracer.until(|lines| both_closed(lines, last));
    }
    let every = event::with(&event::objects(&every.stop().ok().lines()), server);
    let usual = event::with(&event::objects(&usual.stop().ok().lines()), server);
    assert_eq!(event::transitions(&every), ["CLOSE>LISTEN", "LISTEN>CLOSE"]);
    assert_eq!(usual, Vec::<Value>::new());
    Ok(())
}

/// The tracer stands outside of both namespaces and sees both sides.
///
/// The client closes only when it is accepted: up to at least Linux 5.10 its FIN
/// and the ACK before, each on another CPU, may make a socket each of the one
/// request, of which the kernel drops one at once.
pub fn namespaces() -> Done {
    let (here, there) = joined()?;
    for ip in ["10.77.0.2", "fd77::2"] {
        let ip: IpAddr = ip.parse().unwrap();
        let listener = there.run(move || net::listen(ip));
        let server = listener.local_addr().unwrap();
        let kept = listener.try_clone().unwrap();
        connection(server, || {
            let accepting = thread::spawn(move || listener.accept().unwrap().0);
            let client = here.run(move || TcpStream::connect(server).expect("connect over veth"));
            let accepted = accepting.join().unwrap();
            let address = client.local_addr().unwrap();
            drop(client);
            net::drain(accepted);
            address
        });
        drop(kept);
    }
    Ok(())
}

/// Two namespaces joined by a veth pair, or why there are none.
pub fn joined() -> Result<(Netns, Netns), String> {
    let there = std::fs::read_to_string("/modules/list").unwrap_or_default();
    if !there.contains("veth") {
        return Err("no veth module".to_owned());
    }
    Netns::joined().map_err(|e| format!("no network namespaces: {e}"))
}

/// 200 connections: every event, once, against the kernel's own count. Fewer
/// where memory is small: the check itself takes most of it.
pub fn two_hundred() -> Done {
    let connections = match Variant::here().has("small") {
        true => 20,
        false => 200,
    };
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = Tracer::json("--all");
    let witness = witness();
    let clients: BTreeSet<SocketAddr> =
        (0..connections).map(|_| net::converse(&listener)).collect();
    let generated = witness.generated(connections as u64 * 10);
    tracer.until(|lines| lines.len() as u64 >= generated);
    let all = event::objects(&tracer.stop().ok().lines());
    let summary = event::summary(&all);
    assert_eq!(event::number(summary, "events.received"), generated);
    assert_eq!(event::number(summary, "lost.events"), 0, "{summary}");
    let lives = event::lives(&all);
    assert_eq!(lives.len(), connections * 2);
    for life in &lives {
        let second = &life[1];
        if event::peer(second) == server {
            assert_eq!(event::transitions(life), CLIENT);
            assert!(clients.contains(&event::local(second)), "{second}");
        } else {
            assert_eq!(event::transitions(life), SERVER);
            assert!(clients.contains(&event::peer(second)), "{second}");
        }
    }
    Ok(())
}

/// Names of the loaded BPF programs that are ours.
pub fn programs() -> Vec<String> {
    let all = kernel::programs().expect("list the BPF programs");
    let names = all.into_iter().map(|(_, name)| name);
    names.filter(|n| n.starts_with("socket_snoop")).collect()
}

/// The records are the same where changes of state are held back for them.
pub fn held() -> Done {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracers = [Tracer::json("--closed-only"), Tracer::json("")];
    net::converse(&listener);
    let [held, told] = tracers.map(|tracer| {
        let records = |lines: &[String]| event::records(&event::objects(lines), server);
        tracer.until(|lines| records(lines).len() >= 2);
        let mut records = records(&tracer.stop().ok().lines());
        records.sort_by_key(event::local);
        records
    });
    assert_eq!((held.len(), told.len()), (2, 2), "{held:#?} {told:#?}");
    held.iter()
        .zip(&told)
        .for_each(|(held, told)| same(held, told));
    Ok(())
}
