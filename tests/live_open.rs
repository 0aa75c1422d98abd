//! Live: connections that are still open, told of every so often.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use story::story;

use common::event::{self, Value};
use common::{Run, live, net};

/// The records of a connection that is open, by this end.
fn open_at(lines: &[String], local: SocketAddr) -> Vec<Value> {
    let mut all = event::objects(lines);
    all.retain(|e| e["event.name"] == "connection.open" && event::local(e) == local);
    all
}

type Pair = (TcpStream, TcpStream);

/// So much goes both ways.
fn carry(pair: &Pair, sent: usize, received: usize) {
    let (mut client, mut accepted) = (&pair.0, &pair.1);
    client.write_all(&vec![1; sent]).expect("write");
    accepted.read_exact(&mut vec![0; sent]).expect("read");
    accepted.write_all(&vec![2; received]).expect("write");
    client.read_exact(&mut vec![0; received]).expect("read");
}

/// Whether a record tells that so much went both ways.
fn carried(lines: &[String], client: SocketAddr, sent: u64, received: u64) -> bool {
    open_at(lines, client)
        .iter()
        .any(|e| e["tcp.bytes.sent"] == sent && e["tcp.bytes.received"] == received)
}

/// What a connection carries is told while it is open, also of one that was there
/// before and had no event; the differences add up.
#[story]
fn what_is_open_is_told_every_so_often() {
    if !live() {
        return;
    }
    for mode in ["on", "strict"] {
        told(mode);
    }
}

fn told(mode: &str) {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().expect("an address");
    let connect = || {
        let client = TcpStream::connect(server).expect("connect");
        (client, listener.accept().expect("accept").0)
    };
    let before = connect();
    let port = server.port();
    let run = |format: &str| {
        let flags = format!("--interval 0.3 --sandbox {mode} --format {format} port {port}");
        Run::quiet(&flags).start()
    };
    let (tracer, classic) = (run("json"), run("classic"));
    let meanwhile = connect();
    let pairs = [&before, &meanwhile];
    let all = pairs.map(|pair| pair.0.local_addr().expect("an address"));
    let both = |sent, received| {
        tracer.until(|lines| {
            all.iter()
                .all(|client| carried(lines, *client, sent, received))
        })
    };
    for pair in pairs {
        carry(pair, 700, 3000);
    }
    assert!(both(700, 3000), "{mode}: {:#?}", tracer.lines());
    for pair in pairs {
        carry(pair, 50, 1);
    }
    assert!(both(750, 3001), "{mode}: {:#?}", tracer.lines());
    let line = format!(" Open: SRC={} DST={server} PID=", all[1]);
    let shown = |l: &&String| l.contains(&line) && l.contains(" SENT=750 RECEIVED=3001 RTT_US=");
    assert!(classic.until(|lines| lines.iter().any(|l| shown(&l))));

    let lines = tracer.stop().ok().lines();
    for (client, existed) in all.iter().zip([true, false]) {
        let records = open_at(&lines, *client);
        let (first, last) = (&records[0], records.last().expect("a record"));
        assert_eq!(last["tcp.state.current"], "ESTABLISHED", "{last}");
        assert_eq!(last["process.pid"], std::process::id(), "{last}");
        assert_eq!(last.get("socket.id").is_none(), existed, "{last}");
        assert_eq!(last.get("connection.start").is_none(), existed, "{last}");
        assert!(last["tcp.rtt_us"].is_u64(), "{last}");
        // Of what was there before, what the first record tells is not a difference.
        let from_first = first.get("interval.duration_ns").is_some();
        assert_eq!(from_first, !existed, "{first}");
        for (total, more, right) in [
            ("tcp.bytes.sent", "interval.bytes.sent", 750),
            ("tcp.bytes.received", "interval.bytes.received", 3001),
        ] {
            let base = match from_first {
                true => 0,
                false => event::number(first, total),
            };
            let sum: u64 = records.iter().filter_map(|e| e[more].as_u64()).sum();
            assert_eq!(event::number(last, total), right, "{last}");
            assert_eq!(base + sum, right, "{records:#?}");
        }
        for both in records.windows(2) {
            let apart = event::nanos(&both[1]) - event::nanos(&both[0]);
            let said = event::number(&both[1], "interval.duration_ns");
            assert!(apart.abs_diff(said) < 50_000_000, "{both:#?}");
        }
    }
    let summary = event::summary(&event::objects(&lines)).clone();
    let events = lines.iter().filter(|l| l.contains("\"tcp_state\"")).count();
    assert_eq!(summary["events.shown"], events, "{summary}");
    let lines = classic.stop().ok().lines();
    let last = lines.iter().rfind(shown).expect("a line");
    assert!(last.contains(" STATE=Connection Established"), "{last}");
}
