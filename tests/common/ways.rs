//! The ways by which a tracer can come to know of a connection, all at once.

use std::fs;
use std::net::SocketAddr;

use super::event::{self, Value};
use super::{Run, Tracer, confine, skip};

const BTF: &[&str] = &["/sys/kernel/btf"];

/// A way: its name, its flags, and whether the kernel's BTF is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its name in a failed assertion.
    pub name: &'static str,
    flags: &'static str,
    /// Whether members of the kernel's structures can be read.
    pub members: bool,
}

/// All of them that this kernel has.
pub fn all() -> Vec<Way> {
    let way = |name, flags, members| Way {
        name,
        flags,
        members,
    };
    let btf = fs::metadata(socket_snoop::btf::PATH).is_ok();
    if !btf {
        skip("this kernel shows no BTF");
    }
    let mut ways = vec![
        way("tracepoint", "--transport tracepoint", btf),
        way("perf", "--transport perf", false),
        way("no BTF", "--transport tracepoint", false),
    ];
    if btf {
        ways.push(way("btf", "--transport btf", true));
    }
    ways
}

/// Tracers by every way, in JSON.
pub struct Tracers(Vec<(Way, Tracer)>);

impl Tracers {
    /// Starts them with these arguments.
    pub fn start(args: &str) -> Tracers {
        let start = |way: Way| {
            let run = format!("{} {args}", way.flags);
            let run = move || Run::quiet(&run).arg("--format=json").start();
            let tracer = match way.name {
                "no BTF" => confine::with_empty(BTF, run).expect("an empty folder"),
                _ => run(),
            };
            (way, tracer)
        };
        Tracers(all().into_iter().map(start).collect())
    }

    /// Waits until what each has told so far satisfies `done`.
    pub fn until(&self, mut done: impl FnMut(&[Value]) -> bool) {
        for (_, tracer) in &self.0 {
            tracer.until(|lines| done(&event::objects(lines)));
        }
    }

    /// Waits for so many records of this server's connections, stops, and hands
    /// out what each has told.
    pub fn told(self, server: SocketAddr, count: usize) -> Vec<(Way, Vec<Value>)> {
        self.until(|all| event::records(all, server).len() >= count);
        self.stop()
    }

    /// Stops them, and hands out what each has told.
    pub fn stop(self) -> Vec<(Way, Vec<Value>)> {
        let stop =
            |(way, tracer): (Way, Tracer)| (way, event::objects(&tracer.stop().ok().lines()));
        self.0.into_iter().map(stop).collect()
    }
}

/// The records of the one connection with this server: the client's and the
/// server's.
pub fn both(all: &[Value], server: SocketAddr, way: Way) -> (Value, Value) {
    let records = event::records(all, server);
    let (client, at_server): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|r| event::peer(r) == server);
    assert_eq!((client.len(), at_server.len()), (1, 1), "{way:?} {all:#?}");
    (client[0].clone(), at_server[0].clone())
}

/// The record of the client alone.
pub fn client(all: &[Value], server: SocketAddr, way: Way) -> Value {
    let mut records = event::records(all, server);
    records.retain(|r| event::peer(r) == server);
    assert_eq!(records.len(), 1, "{way:?} {all:#?}");
    records.remove(0)
}
