//! Live: why a connection ended, for each cause that there is.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use story::story;

use common::life::{both, causes, connected, connected_over, joined, lose, records, to_end};
use common::{Tracer, event, live, net, skip};
use nix::sys::socket::{setsockopt, sockopt};

/// One end stops sending; the other goes on for a while.
#[story]
fn half_closed_either_way() {
    if !live() {
        return;
    }
    for client_first in [true, false] {
        let tracer = Tracer::json("");
        let (_listener, client, accepted, server) = connected();
        let (mut first, mut second) = match client_first {
            true => (client, accepted),
            false => (accepted, client),
        };
        first.shutdown(Shutdown::Write).unwrap();
        to_end(&mut second);
        second.write_all(b"one more thing").unwrap();
        drop(second);
        to_end(&mut first);
        drop(first);
        let (client, at_server) = both(tracer, server);
        let (first, second) = match client_first {
            true => (client, at_server),
            false => (at_server, client),
        };
        let expected = ("closed_by_us".into(), "closed_by_peer".into());
        assert_eq!(causes(&first, &second), expected, "{client_first}");
        assert_eq!(event::number(&first, "tcp.bytes.received"), 14);
        assert_eq!(event::number(&second, "tcp.bytes.sent"), 14);
    }
}

#[story]
fn refused() {
    if !live() {
        return;
    }
    let unused = TcpListener::bind((net::own_ip(), 0)).unwrap();
    let server = unused.local_addr().unwrap();
    drop(unused);
    let tracer = Tracer::json("");
    TcpStream::connect(server).expect_err("nobody listens");
    let (client, _) = records(tracer, server, 1);
    assert_eq!(client[0]["connection.cause"], "refused");
    assert_eq!(client[0]["tcp.time_wait"], false);
    assert!(client[0].get("tcp.connect_ns").is_none());
}

/// The reset that a close sends comes after CLOSE, and its reason with it, of
/// the same name by each way.
#[story]
fn reset_by_us_and_by_the_peer() {
    if !live() {
        return;
    }
    let mut ways = vec!["--transport tracepoint"];
    match fs::metadata(socket_snoop::btf::PATH) {
        Ok(_) => ways.push("--transport btf"),
        Err(_) => skip("this kernel shows no BTF"),
    }
    let cases = ways.iter().flat_map(|way| [(way, true), (way, false)]);
    for (way, unread) in cases {
        let tracer = Tracer::json(way);
        let (_listener, client, mut accepted, server) = connected();
        match unread {
            true => {
                accepted.write_all(b"never read").unwrap();
                let mut byte = [0];
                client.peek(&mut byte).unwrap();
                drop(client);
            }
            false => net::abort(client),
        }
        // The reset has come.
        let end = accepted.read(&mut [0]);
        assert!(end.is_err(), "{end:?}");
        drop(accepted);
        let (client, at_server) = both(tracer, server);
        let expected = ("reset_by_us".into(), "reset_by_peer".into());
        assert_eq!(causes(&client, &at_server), expected, "{way} {unread}");
        assert!(at_server.get("tcp.reset.reason").is_none());
        let format = common::kernel::tracefs("events/tcp/tcp_send_reset/format");
        if format.contains("TCP_ABORT_ON_CLOSE") {
            let reason = event::text(&client, "tcp.reset.reason");
            assert!(format.contains(&format!("\"{reason}\"")), "{reason}");
            assert_eq!(reason == "TCP_ABORT_ON_CLOSE", unread, "{way}");
        }
    }
}

/// The peer's reset in CLOSE_WAIT is one, too, though its error is another.
#[story]
fn reset_by_the_peer_after_its_end() {
    if !live() {
        return;
    }
    let tracer = Tracer::json("");
    let (_listener, client, mut accepted, server) = connected();
    client.shutdown(Shutdown::Write).unwrap();
    to_end(&mut accepted);
    net::abort(client);
    tracer.until(|lines| event::records(&event::objects(lines), server).len() >= 2);
    drop(accepted);
    let (client, at_server) = both(tracer, server);
    let expected = ("reset_by_us".into(), "reset_by_peer".into());
    assert_eq!(causes(&client, &at_server), expected);
    assert_eq!(client["tcp.time_wait"], false);
}

/// Waiting for its accept, until the listener is closed.
#[story]
fn never_accepted() {
    if !live() {
        return;
    }
    let tracer = Tracer::json("");
    let whole = net::not_forking();
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let (waiting, gone) = (
        TcpStream::connect(server).unwrap(),
        TcpStream::connect(server).unwrap(),
    );
    // One of them is given up by its client, and so is in CLOSE_WAIT.
    gone.shutdown(Shutdown::Write).unwrap();
    drop(listener);
    drop((waiting, gone, whole));
    let (clients, queued) = records(tracer, server, 4);
    for record in &queued {
        assert_eq!(record["connection.cause"], "never_accepted", "{record}");
        assert_eq!(record["owner.source"], "listener", "{record}");
    }
    for record in &clients {
        assert_eq!(record["connection.cause"], "reset_by_peer", "{record}");
    }
}

/// What the peer never acknowledges, given up after half a second.
#[story]
fn timed_out() {
    let Some((here, there)) = joined() else {
        return;
    };
    let tracer = Tracer::json("");
    let (mut client, accepted, server) = connected_over(&here, &there);
    setsockopt(&client, sockopt::TcpUserTimeout, &500).unwrap();
    lose(&here, "10.77.0.2");
    client.write_all(b"into the void").unwrap();
    let end = client.read(&mut [0]).expect_err("nothing can come");
    assert_eq!(end.raw_os_error(), Some(libc::ETIMEDOUT));
    let (client, _) = records(tracer, server, 1);
    assert_eq!(client[0]["connection.cause"], "timed_out");
    assert!(event::number(&client[0], "tcp.retransmits.data") >= 1);
    assert_eq!(client[0]["tcp.time_wait"], false);
    net::abort(accepted);
}

/// No one has this address: the neighbour's silence is an error.
#[story]
fn unreachable() {
    let Some((here, _there)) = joined() else {
        return;
    };
    let tracer = Tracer::json("");
    let server: SocketAddr = "10.77.0.99:4477".parse().unwrap();
    let end = here.run(move || TcpStream::connect(server).expect_err("nobody is there"));
    assert_eq!(end.raw_os_error(), Some(libc::EHOSTUNREACH));
    let (client, _) = records(tracer, server, 1);
    assert_eq!(client[0]["connection.cause"], "unreachable");
}

/// Both send their FIN before they see the other's: the first ones get lost.
#[story]
fn closed_by_both() {
    let Some((here, there)) = joined() else {
        return;
    };
    let tracer = Tracer::json("");
    let (mut client, mut accepted, server) = connected_over(&here, &there);
    lose(&here, "10.77.0.2");
    lose(&there, "10.77.0.1");
    client.shutdown(Shutdown::Write).unwrap();
    accepted.shutdown(Shutdown::Write).unwrap();
    here.ip("neigh del 10.77.0.2 dev v0");
    there.ip("neigh del 10.77.0.1 dev v0");
    to_end(&mut client);
    to_end(&mut accepted);
    drop((client, accepted));
    let (client, at_server) = both(tracer, server);
    let (a, b) = causes(&client, &at_server);
    // Whose FIN is sent again first may be acknowledged before the other's.
    let known = ["closed_by_both", "closed_by_us"];
    assert!(known.contains(&a.as_str()) && known.contains(&b.as_str()));
    assert!([&a, &b].iter().any(|c| *c == "closed_by_both"), "{a} {b}");
    for record in [client, at_server] {
        assert_eq!(record["tcp.time_wait"], true, "{record}");
    }
}
