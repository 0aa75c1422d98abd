//! Live: what connections have counted, where there is no BTF: by the kernel's
//! message about the destroyed socket, held against what was sent and against a
//! tracer that reads the sockets themselves.

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use story::story;

use common::event::{self, Value};
use common::life::{End, exchange, read_then_close, shut_then_read};
use common::net::{self, Netns};
use common::{Output, Tracer, confine, live, skip};

const BTF: &[&str] = &["/sys/kernel/btf"];
/// What both tell of one connection.
const COUNTERS: [&str; 6] = [
    "tcp.bytes.sent",
    "tcp.bytes.received",
    "tcp.segments.sent",
    "tcp.segments.received",
    "tcp.rtt_us",
    "tcp.min_rtt_us",
];
const UP: usize = 70_001;
const DOWN: usize = 300_007;
const BYTES: (usize, usize) = (UP, DOWN);

/// A tracer that finds no BTF.
fn without_btf(args: &'static str) -> Tracer {
    confine::with_empty(BTF, move || Tracer::json(args)).expect("an empty folder")
}

/// Waits for so many records of each of these servers.
fn both_have(tracer: Tracer, servers: &[SocketAddr], count: usize) -> (Vec<Value>, Output) {
    let all_there = |lines: &[String]| {
        let all = event::objects(lines);
        let mut servers = servers.iter();
        servers.all(|s| event::records(&all, *s).len() >= count)
    };
    tracer.until(all_there);
    let out = tracer.stop().ok();
    let all = event::objects(&out.lines());
    let of = |server: &SocketAddr| {
        let found = event::records(&all, *server);
        assert_eq!(found.len(), count, "{found:#?}");
        found
    };
    (servers.iter().flat_map(of).collect(), out)
}

/// The same connection's record by another tracer.
fn same<'a>(others: &'a [Value], record: &Value) -> &'a Value {
    let ends = |r: &Value| (event::local(r), event::peer(r));
    let found = others.iter().find(|r| ends(r) == ends(record));
    found.expect("the same connection")
}

/// Whatever both tell is the same, and what was sent is told.
fn agree(by_sockets: &[Value], by_messages: &[Value]) {
    assert_eq!(by_sockets.len(), by_messages.len());
    for record in by_messages {
        let other = same(by_sockets, record);
        for name in COUNTERS {
            match record.get(name) {
                Some(told) => assert_eq!(Some(told), other.get(name), "{name}: {record} {other}"),
                None => assert_eq!(name, "tcp.bytes.received", "{record}"),
            }
        }
        assert_eq!(record["connection.cause"], other["connection.cause"]);
    }
}

/// In order, one end first or the other, or by turns.
#[story]
fn counters_without_btf() {
    if !live() {
        return;
    }
    let tracers = (Tracer::json(""), without_btf(""));
    let ends: [(End, End); 4] = [
        // The FIN is read; or it may come later than the socket is let go of.
        (shut_then_read, read_then_close),
        (drop, read_then_close),
        (read_then_close, drop),
        (read_then_close, shut_then_read),
    ];
    let mut servers = Vec::new();
    for (client, server) in ends {
        let listener = net::listen(net::own_ip());
        exchange(&listener, BYTES, client, server);
        servers.push(listener.local_addr().unwrap());
    }
    let (by_sockets, _) = both_have(tracers.0, &servers, 2);
    let (by_messages, out) = both_have(tracers.1, &servers, 2);
    let note = "note: bytes, segments and RTT come from sock_diag when a socket is destroyed, in ";
    assert!(out.stderr.contains(note), "{}", out.stderr);
    agree(&by_sockets, &by_messages);
    for record in &by_messages {
        let (sent, received) = match servers.contains(&event::peer(record)) {
            true => (UP, DOWN),
            false => (DOWN, UP),
        };
        assert_eq!(event::number(record, "tcp.bytes.sent"), sent as u64);
        // Who closed second has seen the other's FIN in any case.
        if record["connection.cause"] == "closed_by_peer" {
            assert_eq!(event::number(record, "tcp.bytes.received"), received as u64);
        }
    }
    let second = by_messages
        .iter()
        .filter(|r| r["connection.cause"] == "closed_by_peer");
    assert_eq!(second.count(), ends.len());
}

/// Resets: by unread data, and by SO_LINGER, which clears the counters first.
#[story]
fn counters_of_resets() {
    if !live() {
        return;
    }
    let tracers = (Tracer::json(""), without_btf(""));
    let unread = net::listen(net::own_ip());
    let server = unread.local_addr().unwrap();
    let mut client = TcpStream::connect(server).unwrap();
    let accepted = unread.accept().unwrap().0;
    client.write_all(b"nobody reads this").unwrap();
    let mut one = [0];
    accepted.peek(&mut one).unwrap();
    drop(accepted);
    let _ = client.read(&mut one);
    drop(client);

    let lingering = net::listen(net::own_ip());
    let other = lingering.local_addr().unwrap();
    let mut client = TcpStream::connect(other).unwrap();
    let accepted = lingering.accept().unwrap().0;
    client.write_all(b"seventeen letters").unwrap();
    accepted.peek(&mut one).unwrap();
    net::abort(client);
    drop(accepted);

    let servers = [server, other];
    let (by_sockets, _) = both_have(tracers.0, &servers, 2);
    let (by_messages, _) = both_have(tracers.1, &servers, 2);
    for record in &by_messages {
        let exact = same(&by_sockets, record);
        assert_eq!(record["connection.cause"], exact["connection.cause"]);
        let cleared = event::peer(record) == other;
        for name in COUNTERS {
            match record.get(name) {
                None => assert!(cleared, "{name}: {record}"),
                Some(_) if cleared => panic!("{name} of a cleared socket: {record}"),
                // The reset itself is sent between the two looks.
                Some(told) if name == "tcp.segments.sent" => {
                    let more = told.as_u64().unwrap() - event::number(exact, name);
                    assert!(more <= 1, "{record} {exact}");
                }
                Some(told) => assert_eq!(Some(told), exact.get(name), "{name}: {record}"),
            }
        }
    }
}

/// A refused connection has none, and its record isn't late for that.
#[story]
fn counters_of_a_refused_connection() {
    if !live() {
        return;
    }
    let tracer = without_btf("");
    let closed = net::listen(net::own_ip());
    let server = closed.local_addr().unwrap();
    drop(closed);
    TcpStream::connect(server).expect_err("refused");
    let (records, _) = both_have(tracer, &[server], 1);
    assert_eq!(records[0]["connection.cause"], "refused");
    for name in COUNTERS {
        assert!(records[0].get(name).is_none(), "{}", records[0]);
    }
}

/// A socket that is kept after its end delays the record, not for ever.
#[story]
fn a_socket_that_is_kept() {
    if !live() {
        return;
    }
    let tracer = without_btf("");
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(server).unwrap();
    let accepted = listener.accept().unwrap().0;
    net::abort(accepted);
    let mut one = [0];
    assert!(client.read(&mut one).is_err());
    // Held: only the server's socket is destroyed.
    let (records, _) = both_have(tracer, &[server], 2);
    let kept = records.iter().find(|r| event::peer(r) == server).unwrap();
    assert_eq!(kept["connection.cause"], "reset_by_peer");
    assert!(kept.get("tcp.bytes.sent").is_none(), "{kept}");
    drop(client);
}

/// In every network namespace that is there at the start.
#[story]
fn counters_of_another_network_namespace() {
    if !live() {
        return;
    }
    let there = match Netns::new() {
        Ok(there) => there,
        Err(e) => return skip(&format!("no network namespaces: {e}")),
    };
    let tracer = without_btf("");
    let server = there.run(|| {
        let listener = net::listen(IpAddr::from(Ipv4Addr::LOCALHOST));
        exchange(&listener, BYTES, drop, read_then_close);
        listener.local_addr().unwrap()
    });
    let (records, out) = both_have(tracer, &[server], 2);
    assert!(
        out.stderr.contains(" network namespaces of now"),
        "{}",
        out.stderr
    );
    let at_server = records.iter().find(|r| event::local(r) == server).unwrap();
    assert_eq!(event::number(at_server, "tcp.bytes.received"), UP as u64);
    assert_eq!(event::number(at_server, "tcp.bytes.sent"), DOWN as u64);
}
