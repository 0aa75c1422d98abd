//! Live: what a connection has sent, against what was written, what the kernel
//! counts and what its firewall counts; by every way to the events.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;
use story::story;

use common::event::{self, Value};
use common::life::{connected_over, joined, to_end};
use common::net::{self, Netns};
use common::traffic::awake;
use common::ways::{Tracers, both};
use common::{eventually, skip, wait};

const OUT: [&str; 2] = [
    "add table ip t",
    "add chain ip t out { type filter hook output priority 0 ; }",
];

/// Writes this much, closes in order, and says when all of it has come.
fn send_all(mut client: TcpStream, mut accepted: TcpStream, bytes: usize) {
    let reading = thread::spawn(move || {
        let mut got = vec![0; bytes];
        accepted.read_exact(&mut got).expect("all of it");
        to_end(&mut accepted);
    });
    client.write_all(&vec![7; bytes]).expect("write");
    client.shutdown(Shutdown::Write).expect("shutdown");
    reading.join().expect("the reader");
    to_end(&mut client);
}

/// Each byte counts once, whatever this host's own firewall kept from going out.
fn sent_is_what_was_written(rule: &str, bytes: usize, open_after: Option<Duration>) {
    let Some((here, there)) = joined() else {
        return;
    };
    let before: Vec<&str> = OUT.to_vec();
    if let Err(why) = here.nft(&before) {
        return skip(&format!("nft: {why}"));
    }
    let tracers = Tracers::start("");
    let (client, accepted, server) = connected_over(&here, &there);
    here.nft(&[rule]).expect("the rule");
    awake(|| {
        let sending = thread::spawn(move || send_all(client, accepted, bytes));
        if let Some(after) = open_after {
            // What is tried meanwhile fails.
            let tried = here.snmp("OutSegs");
            assert!(eventually(
                || here.snmp("OutSegs") > tried + 2 || sending.is_finished()
            ));
            wait::pass("what is tried once more fails, too", after);
            here.nft(&["flush chain ip t out"]).expect("open again");
        }
        sending.join().expect("all of it came");
        tracers.until(|all| event::records(all, server).len() >= 2);
    });
    for (way, all) in tracers.told(server, 2) {
        let (client, at_server) = both(&all, server, way);
        let sent = client.get("tcp.bytes.sent").and_then(Value::as_u64);
        assert_eq!(sent, Some(bytes as u64), "{way:?} {client}");
        assert_eq!(event::number(&at_server, "tcp.bytes.sent"), 0, "{way:?}");
        assert_eq!(client["connection.cause"], "closed_by_us", "{way:?}");
        assert_eq!(at_server["connection.cause"], "closed_by_peer", "{way:?}");
    }
}

#[story]
fn bytes_under_an_own_limit() {
    let limit = "add rule ip t out tcp flags & syn == 0 limit rate over 40 kbytes/second burst 1000 bytes drop";
    sent_is_what_was_written(limit, 100_000, None);
}

#[story]
fn bytes_under_an_own_firewalls_drop() {
    let drop = "add rule ip t out tcp flags & syn == 0 drop";
    sent_is_what_was_written(drop, 1_000, Some(Duration::from_millis(300)));
}

/// A firewall's rule count of packets.
fn packets(netns: &Netns) -> u64 {
    let listing = netns.ask("nft", "list table ip t").expect("list");
    let count = listing.split("counter packets ").nth(1).expect("a counter");
    count.split(' ').next().unwrap().parse().unwrap()
}

/// Segments of both ends are what went over the wire, the SYN+ACK too.
#[story]
fn segments_are_the_packets_on_the_wire() {
    let Some((here, there)) = joined() else {
        return;
    };
    let count = "add rule ip t out meta l4proto tcp counter";
    for netns in [&here, &there] {
        if let Err(why) = netns.nft(&[OUT[0], OUT[1], count]) {
            return skip(&format!("nft: {why}"));
        }
    }
    let tracers = Tracers::start("");
    let (client, accepted, server) = connected_over(&here, &there);
    // One that the client closes: the server sends nothing after its last.
    awake(|| {
        send_all(client, accepted, 500);
        tracers.until(|all| event::records(all, server).len() >= 2);
    });
    let at_wire = packets(&there);
    for (way, all) in tracers.told(server, 2) {
        let (client, at_server) = both(&all, server, way);
        assert_eq!(
            event::number(&at_server, "tcp.segments.sent"),
            at_wire,
            "{way:?} {at_server}"
        );
        // Its last acknowledgement may be that of the time-wait socket.
        let of_client = event::number(&client, "tcp.segments.sent");
        assert!(
            (of_client..=of_client + 1).contains(&packets(&here)),
            "{way:?} {client}"
        );
        let received = event::number(&client, "tcp.segments.received");
        assert_eq!(received, at_wire, "{way:?} {client}");
    }
}

/// The kernel's counts of what it sends again: segments, segments, and times.
const KINDS: [&str; 4] = [
    "TCPFastRetrans",
    "TCPSlowStartRetrans",
    "TCPTimeouts",
    "TCPLossProbes",
];

/// Segments sent again are those that the kernel counts, though one event is of
/// many (GSO), also by what made it send them; so are the bytes.
#[story]
fn retransmissions_are_the_kernels() {
    let Some((here, there)) = joined() else {
        return;
    };
    let lossy = [
        "add table ip t",
        "add chain ip t in { type filter hook input priority 0 ; }",
        "add rule ip t in tcp flags & syn == 0 numgen random mod 100 < 4 drop",
    ];
    if let Err(why) = there.nft(&lossy) {
        return skip(&format!("nft: {why}"));
    }
    const BYTES: usize = 12_000_000;
    let tracers = Tracers::start("");
    let before = here.snmp("RetransSegs");
    let kinds = || KINDS.map(|name| here.tcp_ext(name));
    let kinds_before = kinds();
    let (client, accepted, server) = connected_over(&here, &there);
    awake(|| {
        send_all(client, accepted, BYTES);
        tracers.until(|all| event::records(all, server).len() >= 2);
    });
    let expected = here.snmp("RetransSegs") - before;
    assert!(expected > 20, "{expected}: hardly any loss");
    let kinds = kinds();
    let kinds: [u64; 4] = std::array::from_fn(|n| kinds[n] - kinds_before[n]);
    for (way, all) in tracers.told(server, 2) {
        let (client, _) = both(&all, server, way);
        let name = |part: &str| format!("tcp.retransmits.{part}");
        assert_eq!(
            event::number(&client, &name("total")),
            expected,
            "{way:?} {client}"
        );
        assert_eq!(event::number(&client, &name("syn")), 0, "{way:?}");
        assert_eq!(
            event::number(&client, &name("data")),
            expected,
            "{way:?} {client}"
        );
        assert!(
            client.get(name("data_events")).is_none(),
            "{way:?} {client}"
        );
        let bytes = event::number(&client, "tcp.bytes.retransmitted");
        assert!(
            bytes > expected * 500 && bytes < expected * 1500,
            "{way:?} {client}"
        );
        assert_eq!(
            event::number(&client, "tcp.bytes.sent"),
            BYTES as u64,
            "{way:?}"
        );
        let own = event::with(&all, server);
        // Of the client's: the server may have to send its FIN again, too.
        let again: Vec<&Value> = own
            .iter()
            .filter(|e| e["event.name"] == "tcp_retransmit" && event::peer(e) == server)
            .collect();
        let summary = event::summary(&all);
        let of_kind = |kind: Option<&str>| -> Vec<&Value> {
            let is = |e: &&&Value| e.get("tcp.retransmit.kind").and_then(Value::as_str) == kind;
            again.iter().filter(is).copied().collect()
        };
        match way.members {
            true => {
                let segments = |e: &&Value| event::number(e, "tcp.retransmit.segments");
                let sum: u64 = again.iter().map(segments).sum();
                assert_eq!(sum, expected, "{way:?} {again:#?}");
                let [fast, slow_start, timeouts, probes] = kinds;
                let sum = |kind| of_kind(kind).iter().map(segments).sum::<u64>();
                assert!(fast > 0, "{kinds:?}");
                assert_eq!(sum(Some("fast")), fast, "{way:?} {kinds:?} {again:#?}");
                assert_eq!(sum(None), slow_start, "{way:?} {kinds:?} {again:#?}");
                let count = |kind| of_kind(Some(kind)).len() as u64;
                assert_eq!(count("timeout"), timeouts, "{way:?} {kinds:?} {again:#?}");
                // Of these some are of new data.
                assert!(count("tail_loss_probe") <= probes, "{way:?} {kinds:?}");
                assert!(
                    event::number(summary, "tcp.retransmits.total") >= expected,
                    "{summary}"
                );
            }
            false => {
                let told = |e: &&&Value| e.get("tcp.retransmit.segments").is_some();
                assert_eq!(again.iter().filter(told).count(), 0, "{way:?}");
                assert_eq!(of_kind(None).len(), again.len(), "{way:?}");
                assert!(summary.get("tcp.retransmits.total").is_none(), "{summary}");
                assert!(
                    event::number(summary, "tcp.retransmits.total_events") > 0,
                    "{summary}"
                );
            }
        }
    }
}

/// A connection from before the start: who opened it is told by its counters.
#[story]
fn bytes_of_one_that_was_there_before() {
    if !common::live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(server).unwrap();
    let mut accepted = listener.accept().unwrap().0;
    client.write_all(&[1; 300]).unwrap();
    accepted.read_exact(&mut [0; 300]).unwrap();
    accepted.write_all(&[2; 70]).unwrap();
    client.read_exact(&mut [0; 70]).unwrap();
    let tracers = Tracers::start("");
    client.write_all(&[1; 33]).unwrap();
    accepted.read_exact(&mut [0; 33]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    net::drain(accepted);
    to_end(&mut client);
    drop(client);
    for (way, all) in tracers.told(server, 2) {
        let (client, at_server) = both(&all, server, way);
        for (record, bytes, direction) in [(&client, 333, "outgoing"), (&at_server, 70, "incoming")]
        {
            assert_eq!(
                event::number(record, "tcp.bytes.sent"),
                bytes,
                "{way:?} {record}"
            );
            assert_eq!(
                record["connection.direction"], direction,
                "{way:?} {record}"
            );
            assert_eq!(event::number(record, "tcp.retransmits.data"), 0, "{way:?}");
        }
    }
}
