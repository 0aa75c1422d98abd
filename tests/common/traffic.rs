//! Traffic by which ways to the events are compared, and what is told of it.

use std::io::{Write, stderr};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::event::{self, Value};
use super::life::{connected_over, lose};
use super::net::{self, Netns};
use super::{Tracer, kernel};

/// Waits until there are so many events of a kind with a server.
pub type Until<'a> = &'a dyn Fn(SocketAddr, &str, usize);

/// Waits until the tracer has told of so many.
pub fn until(tracer: &Tracer, server: SocketAddr, kind: &str, count: usize) {
    tracer.until(|lines| {
        let own = event::with(&event::objects(lines), server);
        own.iter().filter(|e| e["event.name"] == kind).count() >= count
    });
}

/// Waits until the tracer has told of the end of every socket with these servers.
/// There are kernels that keep an event from it: that is for the test to judge, and
/// is said here.
pub fn closed(tracer: &Tracer, servers: &[SocketAddr]) {
    let all_closed = |own: &[Value]| {
        let ids = |e: &Value| e["socket.id"].to_string();
        let is_end = |e: &&Value| e["tcp.state.new"] == "CLOSE";
        let ended: Vec<String> = own.iter().filter(is_end).map(ids).collect();
        !own.is_empty() && own.iter().all(|e| ended.contains(&ids(e)))
    };
    let told = tracer.until(|lines| {
        let all = event::objects(lines);
        let with = |server| event::with(&all, server);
        servers.iter().all(|server| all_closed(&with(*server)))
    });
    if !told {
        let _ = writeln!(stderr(), "not told of the end of all sockets: {servers:?}");
    }
}

/// Connections over IPv4, over IPv6, of an IPv6 client and of an IPv6 server
/// over IPv4, and one that is refused: the servers, in this order. Their
/// listeners are closed, too.
pub fn connections(until: Until<'_>) -> [SocketAddr; 5] {
    let v4 = net::listen(net::own_ip());
    let v6 = net::listen(net::LOOPBACK6);
    let mapped_ip = net::own_ip();
    let mapped = net::listen(mapped_ip);
    let dual = net::listen(Ipv6Addr::UNSPECIFIED);
    net::converse(&v4);
    net::converse(&v6);
    let address = |listener: &std::net::TcpListener| listener.local_addr().unwrap();
    let as_mapped = IpAddr::from(mapped_ip.to_ipv6_mapped());
    let port = address(&mapped).port();
    net::converse_at(&mapped, SocketAddr::new(as_mapped, port));
    let at_dual = SocketAddr::new(net::own_ip().into(), address(&dual).port());
    net::converse_at(&dual, at_dual);
    let servers = [
        address(&v4),
        address(&v6),
        address(&mapped),
        at_dual,
        refused(),
    ];
    // From LISTEN to CLOSE, too.
    drop((v4, v6, mapped, dual));
    for server in &servers[..4] {
        until(*server, "tcp_state", 10);
    }
    servers
}

/// A connection where nobody listens; the server that there is not.
pub fn refused() -> SocketAddr {
    let gone = net::listen(net::own_ip());
    let server = gone.local_addr().unwrap();
    drop(gone);
    TcpStream::connect(server).expect_err("refused");
    server
}

/// The events of [`connections`] are whole lives on the right wire.
pub fn check_connections(own: &[Value], servers: &[SocketAddr; 5]) {
    let of_listener = |e: &&Value| {
        let transition = event::transition(e);
        transition.ends_with(">LISTEN") || transition == "LISTEN>CLOSE"
    };
    let own: Vec<Value> = own.iter().filter(|e| !of_listener(e)).cloned().collect();
    for (server, wire) in servers.iter().zip(["ipv4", "ipv6", "ipv4", "ipv4"]) {
        let (of_client, of_server) = event::pair(&own, *server);
        assert_eq!(event::transitions(&of_client), event::CLIENT);
        assert_eq!(event::transitions(&of_server), event::SERVER);
        assert!(of_client.iter().all(|e| e["network.type"] == wire));
    }
}

/// SYNs that nobody answers, over IPv4 and IPv6, and data that gets lost and
/// then can't even be sent: each server, and a kind of event that there is.
pub fn retransmissions(
    here: &Netns,
    there: &Netns,
    until: Until<'_>,
) -> [(SocketAddr, &'static str); 3] {
    let nobody: [SocketAddr; 2] = ["10.77.0.9:4478", "[fd77::9]:4478"].map(|s| s.parse().unwrap());
    for server in nobody {
        lose(here, &server.ip().to_string());
    }
    let attempts = nobody.map(|server| {
        here.run(move || {
            thread::spawn(move || TcpStream::connect_timeout(&server, Duration::from_secs(2)))
        })
    });
    for attempt in attempts {
        attempt.join().unwrap().expect_err("nobody answers");
    }
    let (mut client, accepted, server) = connected_over(here, there);
    lose(here, "10.77.0.2");
    client.write_all(&[7; 2000]).unwrap();
    until(server, "tcp_retransmit", 1);
    here.ip("link set v0 down");
    // Linux 6.17 and later tell of it.
    let format = kernel::tracefs("events/tcp/tcp_retransmit_skb/format");
    let last = match format.contains(" err;") {
        true => "tcp_retransmit_failed",
        false => "tcp_retransmit",
    };
    until(server, last, 1);
    net::abort(client);
    net::abort(accepted);
    for server in nobody {
        until(server, "tcp_retransmit", 1);
    }
    let [first, second] = nobody.map(|server| (server, "tcp_retransmit"));
    [first, second, (server, last)]
}

/// Runs `work` while no CPU is idle: there are kernels that take no plain
/// samples of an idle task.
pub fn awake<T>(work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for cpu in kernel::online_cpus::<usize>() {
            let done = &done;
            scope.spawn(move || {
                let mut only = CpuSet::new();
                only.set(cpu).expect("a CPU's number");
                sched_setaffinity(Pid::from_raw(0), &only).expect("to its CPU");
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // Also if it panics.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _end = End(&done);
        work()
    })
}
