//! Live: what `--closed-only` has the kernel hold back comes to the same as what is
//! told in time.

mod common;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use story::story;

use common::event::{self, Value};
use common::life::{connected_over, joined, lose, same, to_end};
use common::{Tracer, live, net, wait};

/// How long a state lasts that is looked at: so that a time that is not its own shows.
const WHILE: Duration = Duration::from_millis(300);

/// Records of this server's connections, in an order of their own.
fn records(objects: &[Value], servers: &[SocketAddr]) -> Vec<Value> {
    let mut all: Vec<Value> = servers
        .iter()
        .flat_map(|server| event::records(objects, *server))
        .collect();
    all.sort_by_key(|record| (event::local(record), event::peer(record)));
    all
}

fn connected(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).expect("connect");
    (client, listener.accept().expect("accept").0)
}

/// Both ends shut down in turn, each state lasting a while.
fn slowly((mut client, mut accepted): (TcpStream, TcpStream)) {
    wait::pass("it is open", WHILE);
    client.shutdown(Shutdown::Write).unwrap();
    to_end(&mut accepted);
    wait::pass("one way of it is", WHILE);
    drop(accepted);
    to_end(&mut client);
}

/// Connections that end in several ways, and one that does not; how many records
/// there are.
fn play(listener: TcpListener) -> (usize, impl Sized) {
    let server = listener.local_addr().unwrap();
    net::converse(&listener);
    slowly(connected(&listener));
    let (client, accepted) = connected(&listener);
    net::abort(client);
    drop(accepted);
    // With something that nobody has read.
    let (mut client, accepted) = connected(&listener);
    client.write_all(b"unread").unwrap();
    drop(accepted);
    drop(client);
    // The last FIN is that of who accepted.
    let (mut client, accepted) = connected(&listener);
    drop(accepted);
    to_end(&mut client);
    drop(client);
    let open = connected(&listener);
    // With its listener, before it is accepted.
    let mut client = TcpStream::connect(server).unwrap();
    drop(listener);
    let _ = std::io::Read::read(&mut client, &mut [0]);
    (12, (open, client))
}

/// The same record, with the same figures.
#[story]
fn a_record_is_the_same_where_changes_are_held() {
    if !live() {
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let filtered = format!("--dst-ip {}", server.ip());
    let ways = [
        "",
        "--transport btf",
        "--owner-by transitions --accept-owner",
        &filtered,
    ];
    let tracers = ways.map(|flags| {
        let held = Tracer::json(&format!("--closed-only {flags}"));
        (held, Tracer::json(flags))
    });
    let (count, kept) = play(listener);
    for ((held, told), flags) in tracers.into_iter().zip(ways) {
        let [held, told] = [held, told].map(|tracer| {
            let count = if flags == filtered { count / 2 } else { count };
            tracer.until(|lines| records(&event::objects(lines), &[server]).len() >= count);
            event::objects(&tracer.stop().ok().lines())
        });
        let [all, others] = [&held, &told].map(|objects| records(objects, &[server]));
        assert_eq!(all.len(), others.len(), "{flags}: {all:#?} {others:#?}");
        all.iter()
            .zip(&others)
            .for_each(|(held, told)| same(held, told));
        if flags != filtered {
            continue;
        }
        // What is still open was told late, too.
        let sums = [&held, &told].map(|objects| event::summary(objects));
        for key in ["opened", "established", "reset", "open", "shown"] {
            let [held, told] = sums.map(|sum| event::number(sum, &format!("connections.{key}")));
            assert_eq!(held, told, "{key} {sums:?}");
        }
        assert_eq!(event::number(sums[0], "connections.open"), 1);
    }
    drop(kept);
}

/// What is sent again is so in the state that the connection is in by then.
#[story]
fn what_is_sent_again_finds_its_state() {
    let Some((here, there)) = joined() else {
        return;
    };
    let told = Tracer::json("");
    let held = Tracer::json("--closed-only");
    let (mut client, accepted, server) = connected_over(&here, &there);
    wait::pass("it is open", WHILE);
    lose(&there, "10.77.0.1");
    client.write_all(b"again").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let again = |e: &Value| {
        e["event.name"] == "tcp_retransmit"
            && e["tcp.state.current"] == "FIN_WAIT1"
            && event::peer(e) == server
    };
    told.until(|lines| event::objects(lines).iter().any(again));
    there.ip("neigh del 10.77.0.1 dev v0");
    slowly((client, accepted));
    let [held, told] = [held, told].map(|tracer| {
        tracer.until(|lines| records(&event::objects(lines), &[server]).len() >= 2);
        let all = event::objects(&tracer.stop().ok().lines());
        records(&all, &[server])
    });
    assert_eq!((held.len(), told.len()), (2, 2), "{held:#?} {told:#?}");
    held.iter()
        .zip(&told)
        .for_each(|(held, told)| same(held, told));
    let sent_again = |r: &Value| r["tcp.retransmits.data"].as_u64().unwrap_or(1);
    assert!(held.iter().any(|r| sent_again(r) > 0), "{held:#?}");
}
