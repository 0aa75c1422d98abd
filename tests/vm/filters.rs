//! Filters: what they refuse and what they show, by programs that this kernel has
//! taken.
//!
//! Contract: a run goes by the way that it takes without a filter: else the kernel
//! has refused what was made of one.

use std::fs;
use std::net::SocketAddr;
use std::process;

use crate::common::event::{self, CLIENT, SERVER, Value};
use crate::common::{Run, TempDir, net};
use crate::lives::{both_closed, pair};
use crate::suite::{Done, Variant};

/// A run with these arguments, during which there are two connections: what it showed
/// when the second one was over, and both servers.
fn connections(args: &dyn Fn(&[SocketAddr; 2]) -> Vec<String>) -> (Vec<Value>, [SocketAddr; 2]) {
    let listeners = [net::listen(net::own_ip()), net::listen(net::own_ip())];
    let servers = listeners.each_ref().map(|l| l.local_addr().unwrap());
    let args = args(&servers).into_iter();
    let run = args.fold(Run::quiet("--format json --all"), |run, arg| run.arg(arg));
    let tracer = run.start();
    for listener in &listeners {
        net::converse(listener);
    }
    tracer.until(|lines| both_closed(lines, servers[1]));
    let all = event::objects(&tracer.stop().ok().lines());
    let sums = event::summary(&all);
    assert_eq!(event::text(sums, "events.transport"), Variant::here().way());
    assert_eq!(event::number(sums, "lost.events"), 0, "{sums}");
    (all, servers)
}

fn whole(all: &[Value], server: SocketAddr) {
    let (of_client, of_server) = pair(all, server);
    assert_eq!(event::transitions(&of_client), CLIENT);
    assert_eq!(event::transitions(&of_server), SERVER);
}

/// By address, port and process: one connection is shown from its first event to its
/// last, the other is kept away where there are programs.
pub fn shown_and_refused() -> Done {
    let (all, servers) = connections(&|servers| {
        let (own, at) = (process::id(), servers[1]);
        let (port, net) = (at.port(), at.ip());
        vec![format!(
            "pid {own} and port {{ 1, {port} }} and net {net}/32 and not host 192.0.2.1"
        )]
    });
    whole(&all, servers[1]);
    assert_eq!(event::with(&all, servers[0]), [] as [Value; 0]);
    let sums = event::summary(&all);
    let kept = sums.get("filter.kept_away").and_then(Value::as_u64);
    match Variant::here().way() {
        "perf" => assert_eq!(kept, None),
        _ => assert!(kept >= Some(5), "{sums}"),
    }
    Ok(())
}

/// With 1,000 ports and 10,000 networks, that are looked up in maps.
pub fn large_sets() -> Done {
    let folder = TempDir::new();
    let file = folder.join("filter");
    let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
    let ports = list(&mut (0..1000).map(|n| (2 * n + 1).to_string()));
    let nets = list(&mut (0..10_000).map(|n| format!("198.18.{}.{}/32", n / 128, n % 128 * 2)));
    let text = format!("not port {{ {ports} }}\nand not net {{ {nets} }}\n");
    fs::write(&file, text).expect("the filter");
    let (all, servers) = connections(&|_| vec![format!("--filter-file={}", file.display())]);
    for server in servers {
        whole(&all, server);
    }
    Ok(())
}
