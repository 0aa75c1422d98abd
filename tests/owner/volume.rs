//! 20,000 short connections from 50 processes to several servers: each event
//! and each record is of the right process, and none is missing.
//!
//! `SOCKET_SNOOP_TEST_VOLUME` says how many each process makes, for machines on
//! which so many take too long.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::actor::{Actor, Stage};
use crate::common::event;
use crate::common::ledger::Ledger;
use crate::common::net::own_ip;
use crate::common::{Run, TempDir, eventually};

const CLIENTS: usize = 50;
const SERVERS: usize = 4;
/// Connections of each client, unless something else is asked for.
const EACH: usize = 400;
/// Events of a connection, both ends together.
const EVENTS: usize = 10;
/// Bytes there, and the same back.
const BYTES: usize = 100;

/// States of /proc/net/tcp.
const TIME_WAIT: &str = "06";
const LISTEN: &str = "0A";

/// Whether an end of /proc/net/tcp is this one.
fn is_at(end: &str, at: &SocketAddr) -> bool {
    let IpAddr::V4(ip) = at.ip() else {
        return false;
    };
    let ip = u32::from_ne_bytes(ip.octets());
    end == format!("{ip:08X}:{:04X}", at.port())
}

/// What was said of the sockets at one address.
#[derive(Default)]
struct Said {
    events: usize,
    records: usize,
    twins: usize,
}

/// Whether a record is that of the second socket which the kernel may make of one
/// handshake, where two CPUs are at it: that one goes before it is a connection
/// (seen on Linux 5.10; v5.10 net/ipv4/inet_connection_sock.c,
/// inet_csk_complete_hashdance()).
fn is_twin(line: &str) -> bool {
    let states = "\"connection.states_ns\":{\"SYN_RECV\":";
    let alone = |at: usize| {
        line[at + states.len()..]
            .bytes()
            .find(|b| b",}".contains(b))
            == Some(b'}')
    };
    line.find(states).is_some_and(alone) && member(line, "tcp.bytes.received") == "0"
}

/// The value of a key, without quotes. The objects are flat, and reading them
/// as JSON takes a test too long.
fn member<'a>(line: &'a str, key: &str) -> &'a str {
    let Some(at) = line.find(&format!("\"{key}\":")) else {
        return "";
    };
    let value = &line[at + key.len() + 3..];
    match value.strip_prefix('"') {
        Some(text) => &text[..text.find('"').unwrap()],
        None => &value[..value.find([',', '}']).unwrap()],
    }
}

/// The first few sockets at this address with more or fewer events than these.
fn odd(text: &str, ip: &IpAddr, events: usize) -> impl Iterator<Item = String> {
    let mut lives: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in text.lines() {
        if member(line, "network.local.address").parse() == Ok(*ip) {
            let life = lives.entry(member(line, "socket.id")).or_default();
            life.push(line);
        }
    }
    // Its events, and its record.
    let odd = lives.into_values().filter(move |l| l.len() != events + 1);
    odd.take(5)
        .map(|life| format!("    {}\n", life.join("\n    ")))
}

/// Connections of each client: as many to each server.
fn each() -> usize {
    let asked = std::env::var("SOCKET_SNOOP_TEST_VOLUME");
    let each = asked.map_or(EACH, |n| n.parse().expect("a number"));
    assert!(each > 0 && each % SERVERS == 0, "{each}");
    each
}

/// What is wrong with what a tracer said.
pub struct Faults {
    /// All of it, for a person.
    pub all: String,
    /// Whether an owner was wrong: no loss excuses that.
    pub wrong: bool,
    /// Events that the kernel kept from it.
    pub kernels: u64,
}

/// Plays, and says what is wrong with what a tracer with these flags said.
pub fn faults(stage: &Stage, flags: &str) -> Faults {
    let ledger = Ledger::open();
    let dir = TempDir::new();
    let shown = dir.join("shown");
    // With half-filled events, too: up to Linux 6.12 a child's first one.
    let run = Run::quiet("--format json --all --buffer 32M").stdout_to(&shown);
    let tracer = flags.split_ascii_whitespace().fold(run, Run::arg).start();
    let mut account = ledger.account(&tracer);
    let mut servers: Vec<(Actor, SocketAddr)> = (0..SERVERS)
        .map(|_| {
            let mut server = stage.actor("server");
            let at = server.listen("l", SocketAddr::new(own_ip().into(), 0));
            (server, at)
        })
        .collect();
    let mut clients: Vec<(Actor, IpAddr)> = (0..CLIENTS)
        .map(|n| {
            let third = (std::process::id() % 251) as u8;
            let ip = Ipv4Addr::new(127, 78, third, n as u8 + 1);
            (stage.actor("client"), ip.into())
        })
        .collect();

    let each = each();
    let of_server = CLIENTS * each / SERVERS;
    for (server, _) in &mut servers {
        server.tell(&format!("serve l {of_server}"));
    }
    // Each client turns to every server in turn.
    for turn in 0..SERVERS {
        for (n, (client, ip)) in clients.iter_mut().enumerate() {
            let (_, at) = servers[(n + turn) % SERVERS];
            client.tell(&format!("volley {ip} {at} {} {BYTES}", each / SERVERS));
        }
        for (client, _) in &mut clients {
            let answer = client.answer();
            assert!(answer.get("error").is_none(), "{answer}");
        }
    }
    for (server, _) in &mut servers {
        server.answer();
    }
    // The tracer, at its end, reads what is in the rings: let that be all.
    let busy = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next().unwrap(), fields.nth(1).unwrap());
        state != LISTEN && state != TIME_WAIT && servers.iter().any(|(_, at)| is_at(local, at))
    };
    assert!(
        eventually(|| {
            let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
            !sockets.lines().skip(1).any(busy)
        }),
        "a connection that does not end"
    );
    account.close();
    tracer.stop().ok();

    let text = std::fs::read_to_string(&shown).unwrap();
    let balance = account.balance(&event::sums(&text));
    let (mut faults, mut wrong, mut strangers) = (String::new(), 0, 0);
    let mut pids: HashMap<IpAddr, u64> = HashMap::new();
    pids.extend(servers.iter().map(|(server, at)| (at.ip(), server.who.pid)));
    pids.extend(clients.iter().map(|(client, ip)| (*ip, client.who.pid)));
    let mut said: HashMap<IpAddr, Said> = HashMap::new();
    for line in text.lines() {
        let Ok(ip) = member(line, "network.local.address").parse::<IpAddr>() else {
            continue;
        };
        let Some(pid) = pids.get(&ip) else { continue };
        let said = said.entry(ip).or_default();
        let owner = member(line, "process.pid");
        let mut right = owner.parse() == Ok(*pid);
        strangers += usize::from(!right && !owner.is_empty());
        match member(line, "event.name") {
            "tcp_state" if member(line, "tcp.state.new") == "LISTEN" => {}
            "tcp_state" => said.events += 1,
            "connection" if right && is_twin(line) => said.twins += 1,
            "connection" => {
                said.records += 1;
                let bytes = BYTES.to_string();
                right &= member(line, "tcp.bytes.sent") == bytes
                    && member(line, "tcp.bytes.received") == bytes;
            }
            _ => {}
        }
        if !right {
            wrong += 1;
            if wrong <= 5 {
                let _ = writeln!(faults, "  not of {pid}: {line}");
            }
        }
    }
    if wrong > 0 {
        let _ = writeln!(faults, "  {wrong} wrong in all");
    }
    let connections = |ip: &IpAddr| match clients.iter().any(|(_, c)| c == ip) {
        true => each,
        false => of_server,
    };
    let mut missing = String::new();
    let (mut gone, mut more) = (0, false);
    for ip in pids.keys() {
        let Said {
            events,
            records,
            twins,
        } = said.remove(ip).unwrap_or_default();
        let wanted = connections(ip);
        // A twin has two events, and is rare.
        let wanted_events = wanted * EVENTS / 2 + twins * 2;
        if events != wanted_events || records != wanted || twins * 20 > wanted {
            more |= events > wanted_events || records > wanted;
            gone += wanted_events.saturating_sub(events);
            let _ = writeln!(
                missing,
                "  {ip}: {events} events and {records} records of {wanted} connections, {twins} twins"
            );
            odd(&text, ip, EVENTS / 2).for_each(|life| missing += &life);
        }
    }
    // What is said to be lost is not missing; a connection without its end has no
    // record.
    if more || gone == 0 || gone as u64 > balance.passed_by {
        faults += &missing;
    }
    Faults {
        all: faults,
        wrong: strangers > 0,
        kernels: balance.kernels(),
    }
}
