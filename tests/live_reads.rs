//! Live: with `--accept-owner` the process that first reads from a connection is
//! its owner, also where another change came between its accept and that read.

mod common;

use std::io::{Read, Write, stdin};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use story::story;

use common::event::{self, Value};
use common::{Guard, Tracer, eventually, live, net, skip};

/// Says that this process is the one that accepts.
const ACCEPTS: &str = "SOCKET_SNOOP_TEST_ACCEPTS";

/// By each program of first reads: by BTF beside tracefs and alone, by tracefs.
const WAYS: [&str; 3] = [
    "--transport tracepoint",
    "--transport btf",
    "--transport tracepoint --owner-by transitions",
];

/// Accepts two connections from its standard input, and reads from the first
/// only when it has the second.
#[story]
fn acceptor() {
    if std::env::var_os(ACCEPTS).is_none() {
        return;
    }
    let listener: OwnedFd = stdin().as_fd().try_clone_to_owned().unwrap();
    let listener = TcpListener::from(listener);
    let (mut first, _) = listener.accept().unwrap();
    first.write_all(b"a").unwrap();
    let (mut second, _) = listener.accept().unwrap();
    first.read_exact(&mut [0]).unwrap();
    second.write_all(b"b").unwrap();
    let _ = second.read(&mut [0]);
}

/// The changes of the server's end.
fn changes(lines: &[String], server: SocketAddr, client: SocketAddr) -> Vec<Value> {
    let mut all = event::with(&event::objects(lines), server);
    all.retain(|e| {
        e["event.name"] == "tcp_state" && event::local(e) == server && event::peer(e) == client
    });
    all
}

#[story]
fn who_reads_first_is_the_owner() {
    if !live() {
        return;
    }
    if std::fs::metadata(socket_snoop::btf::PATH).is_err() {
        return skip("this kernel shows no BTF");
    }
    let tracers = WAYS.map(|way| Tracer::json(&format!("--accept-owner {way}")));
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "acceptor", "--nocapture"])
        .env(ACCEPTS, "")
        .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())))
        .stdout(Stdio::null());
    let mut child = Guard(command.spawn().unwrap());
    let mut first = TcpStream::connect(server).unwrap();
    let client = first.local_addr().unwrap();
    first.read_exact(&mut [0]).unwrap();
    first.write_all(b"x").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    // It is accepted, and that is seen before anything is read.
    let entered = |tracer: &Tracer, state: &str| {
        tracer.until(|lines| {
            let all = changes(lines, server, client);
            all.iter().any(|e| e["tcp.state.new"] == state)
        })
    };
    for tracer in &tracers {
        assert!(entered(tracer, "CLOSE_WAIT"), "{:?}", tracer.lines());
    }
    let mut second = TcpStream::connect(server).unwrap();
    second.read_exact(&mut [0]).unwrap();
    net::abort(first);
    for (tracer, way) in tracers.into_iter().zip(WAYS) {
        assert!(entered(&tracer, "CLOSE"), "{way}: {:?}", tracer.lines());
        let out = tracer.stop().ok();
        assert_eq!(out.unseen, "", "{way}: what was asked for is no news");
        let all = changes(&out.lines(), server, client);
        let end = all.last().unwrap();
        assert_eq!(event::transition(end), "CLOSE_WAIT>CLOSE", "{way}");
        assert_eq!(end["owner.source"], "accept", "{way}: {end}");
        assert_eq!(end["process.pid"], child.pid(), "{way}: {end}");
    }
    drop(second);
    assert!(eventually(|| child.0.try_wait().unwrap().is_some()));
}
