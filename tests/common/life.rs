//! Connections of the tests' own whose life is known, and the records of it.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::event::{self, Value};
use super::net::{self, Netns};
use super::{Tracer, live, skip};

/// A hardware address that no one has.
pub const NOBODY: &str = "02:00:00:00:00:77";

/// Waits for so many records of this server's connections and stops: the
/// client's and the server's, where there are both.
pub fn records(tracer: Tracer, server: SocketAddr, count: usize) -> (Vec<Value>, Vec<Value>) {
    tracer.until(|lines| event::records(&event::objects(lines), server).len() >= count);
    let all = event::objects(&tracer.stop().ok().lines());
    let own = event::records(&all, server);
    assert_eq!(own.len(), count, "{own:#?}");
    for record in &own {
        assert!(!record.as_object().unwrap().values().any(Value::is_null));
        assert!(record["owner.source"].is_string(), "{record}");
    }
    own.into_iter().partition(|r| event::peer(r) == server)
}

/// The records of one connection: the client's and the server's.
pub fn both(tracer: Tracer, server: SocketAddr) -> (Value, Value) {
    let (client, server) = records(tracer, server, 2);
    assert_eq!((client.len(), server.len()), (1, 1), "{client:#?}");
    (client[0].clone(), server[0].clone())
}

/// Why both ended.
pub fn causes(client: &Value, server: &Value) -> (String, String) {
    let cause = |r| event::text(r, "connection.cause").to_owned();
    (cause(client), cause(server))
}

/// A connection on loopback: the listener and both ends.
pub fn connected() -> (TcpListener, TcpStream, TcpStream, SocketAddr) {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let client = TcpStream::connect(server).unwrap();
    let accepted = listener.accept().unwrap().0;
    (listener, client, accepted, server)
}

/// Waits for the peer's end of stream.
pub fn to_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("read to the end");
}

/// One end's way out.
pub type End = fn(TcpStream);

/// Sends its FIN, and waits for the peer's.
pub fn shut_then_read(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).expect("shutdown");
    to_end(&mut stream);
}

/// Waits for the peer's FIN before it sends its own.
pub fn read_then_close(stream: TcpStream) {
    net::drain(stream);
}

/// A connection with so many bytes from the client and then so many from the
/// server; both ends leave as they are told. The client's address.
pub fn exchange(
    listener: &TcpListener,
    (up, down): (usize, usize),
    client: End,
    server: End,
) -> SocketAddr {
    let _whole = net::not_forking();
    let mut connected = TcpStream::connect(listener.local_addr().unwrap()).expect("connect");
    let mut accepted = listener.accept().expect("accept").0;
    let serving = thread::spawn(move || {
        accepted.read_exact(&mut vec![0; up]).expect("the request");
        accepted.write_all(&vec![7; down]).expect("the answer");
        server(accepted);
    });
    connected.write_all(&vec![1; up]).expect("the request");
    let mut answer = vec![0; down];
    connected.read_exact(&mut answer).expect("the answer");
    let address = connected.local_addr().unwrap();
    client(connected);
    serving.join().expect("the server");
    address
}

/// Two namespaces joined by veth; `None`, and a word on it, where there are none.
pub fn joined() -> Option<(Netns, Netns)> {
    if !live() {
        return None;
    }
    Netns::joined()
        .inspect_err(|e| skip(&format!("no network namespaces: {e}")))
        .ok()
}

/// A connection over veth, client in the first namespace.
pub fn connected_over(here: &Netns, there: &Netns) -> (TcpStream, TcpStream, SocketAddr) {
    let ip: IpAddr = "10.77.0.2".parse().unwrap();
    let listener = there.run(move || net::listen(ip));
    let server = listener.local_addr().unwrap();
    let client = here.run(move || TcpStream::connect(server).expect("connect over veth"));
    (client, listener.accept().unwrap().0, server)
}

/// From now on what `from` sends to this address gets lost.
pub fn lose(from: &Netns, to: &str) {
    from.ip(&format!(
        "neigh replace {to} lladdr {NOBODY} nud permanent dev v0"
    ));
}

/// What two programs on one event may be apart.
const NEAR: u64 = 100_000_000;

/// Holds the records of one connection by two tracers against each other: the same
/// members, the same values, and times that are near.
pub fn same(held: &Value, told: &Value) {
    let keys = |record: &Value| -> Vec<String> {
        let members = record.as_object().expect("an object");
        members.keys().cloned().collect()
    };
    assert_eq!(keys(held), keys(told), "{held} {told}");
    let near = |one: u64, other: u64| {
        assert!(one.abs_diff(other) < NEAR, "{one} {other}: {held} {told}");
    };
    for key in keys(held) {
        match key.as_str() {
            // Of the run.
            "socket.id" => {}
            "time" => near(event::nanos(held), event::nanos(told)),
            "connection.start" => {
                let time =
                    |record: &Value| event::nanos(&serde_json::json!({ "time": record[&key] }));
                near(time(held), time(told));
            }
            "connection.states_ns" => {
                assert_eq!(keys(&held[&key]), keys(&told[&key]), "{held} {told}");
                for state in keys(&held[&key]) {
                    let time = |record: &Value| event::number(&record[&key], &state);
                    near(time(held), time(told));
                }
            }
            _ if key.ends_with("_ns") => near(event::number(held, &key), event::number(told, &key)),
            _ => assert_eq!(held[&key], told[&key], "{key}: {held} {told}"),
        }
    }
}
