//! Whether what must be said of a socket was said.
//!
//! Contract: every event of every expected life is judged, and its record.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::check::{Life, Record};
use crate::common::event::{self, Value};
use crate::judge::{Judge, Means, OwnerBy};

/// Everything that a tracer said, cut into lives.
pub struct Told {
    lives: Vec<Vec<Value>>,
    records: Vec<Value>,
    /// The sockets that the kernel made twice of one handshake.
    pub twins: Vec<String>,
}

impl Told {
    pub fn new(all: &[Value]) -> Told {
        let mut lives = lives(all);
        let twins = twins(&lives);
        let is_twins = |record: &Value| {
            let states = record["connection.states_ns"].as_object();
            states.is_some_and(|all| all.len() == 1 && all.contains_key("SYN_RECV"))
                && twins.contains(&event::text(record, "socket.id").to_string())
        };
        let records = all.iter().filter(|e| e["event.name"] == "connection");
        let records = records.filter(|r| !is_twins(r)).cloned().collect();
        lives.retain(|life| !is_short(life) || !twins.contains(&id(life)));
        Told {
            lives,
            records,
            twins,
        }
    }

    /// Whether the lives and records of all these have come to their end.
    pub fn is_complete(&self, lives: &[Life]) -> bool {
        lives.iter().all(|life| {
            let told = self.lives.iter().filter(|told| life.is(told));
            let ended = told.filter(|told| told.last().unwrap()["tcp.state.new"] == "CLOSE");
            ended.count() > 0
        })
    }

    /// Whether an event of a life is missing: of a tracer that says it lost
    /// some, that is no fault.
    pub fn has_gap(&self, expected: &Life) -> bool {
        let mut told = self.lives.iter().filter(|l| expected.is(l));
        let Some(life) = told.next() else { return true };
        let mut path = expected.path.iter();
        let mut skipped = |e: &Value| {
            let transition = event::transition(e);
            let to_it = path.by_ref().take_while(|(t, _, _)| *t != transition);
            to_it.filter(|(_, _, optional)| !optional).count() > 0
        };
        let gap = life.iter().any(&mut skipped);
        gap || path.any(|(_, _, optional)| !optional) || told.next().is_some()
    }

    /// Owners that a life can't have, whatever is missing of it.
    pub fn strangers(&self, expected: &Life) -> String {
        let everyone = expected.everyone();
        let mut faults = String::new();
        for told in self.lives.iter().filter(|l| expected.is(l)) {
            let owners = told.iter().filter_map(|e| e["process.pid"].as_u64());
            if owners.into_iter().any(|pid| !everyone.contains(&pid)) {
                let _ = writeln!(faults, "  {}: a stranger's:\n{}", expected.name, dump(told));
            }
        }
        faults
    }

    /// What is wrong with what was said of a life.
    pub fn faults(&self, expected: &Life, means: Means) -> String {
        let told: Vec<_> = self.lives.iter().filter(|l| expected.is(l)).collect();
        let mut faults = String::new();
        match told[..] {
            [told] => {
                let mut judge = Judge::new(expected, means);
                judge.path(told);
                faults = judge.faults;
                if !faults.is_empty() {
                    faults = format!("  {}:\n{faults}{}", expected.name, dump(told));
                }
            }
            _ => {
                let _ = writeln!(
                    faults,
                    "  {}: {} lives {} -> {}, wanted 1",
                    expected.name,
                    told.len(),
                    expected.local,
                    expected.peer
                );
                told.iter().for_each(|told| faults += &dump(told));
            }
        }
        faults += &self.record(expected, told.last().copied(), means);
        faults
    }

    /// What is wrong with the record of a life, whose events are these.
    fn record(&self, expected: &Life, told: Option<&Vec<Value>>, means: Means) -> String {
        let mut faults = String::new();
        let Record {
            bytes,
            cause,
            direction,
        } = &expected.record;
        if bytes.is_none() && cause.is_empty() && direction.is_none() {
            return faults;
        }
        let events = told;
        let told =
            |r: &&Value| event::local(r) == expected.local && event::peer(r) == expected.peer;
        let told: Vec<_> = self.records.iter().filter(told).collect();
        let [record] = told[..] else {
            return format!(
                "  {}: {} records {} -> {}, wanted 1: {told:#?}\n",
                expected.name,
                told.len(),
                expected.local,
                expected.peer
            );
        };
        let mut wrong = |what: &str, wanted: &dyn std::fmt::Debug| {
            let _ = writeln!(
                faults,
                "  {}: {what} is {}, wanted {wanted:?}: {record}",
                expected.name, record[what]
            );
        };
        // By plain samples what it has counted comes later or not at all; a
        // cause seldom.
        let blind = means.owner_by == OwnerBy::Samples;
        let bytes = bytes.map(|(sent, received)| [("sent", sent), ("received", received)]);
        for (which, count) in bytes.into_iter().flatten() {
            let key = format!("tcp.bytes.{which}");
            match record.get(&key) {
                None if blind => {}
                told if told.and_then(Value::as_u64) == Some(count) => {}
                _ => wrong(&key, &count),
            }
        }
        let said = record["connection.cause"].as_str().unwrap_or("-");
        // Without the lock a child that nobody took can't be told.
        let waited = cause == &["never_accepted"] && said == "reset_by_us";
        // Nor a reset, if the task lost the CPU for 10 ms before it sent one.
        let stopped = std::env::var_os("SOCKET_SNOOP_TEST_EMULATED").is_some()
            && said == "unknown"
            && cause == &["reset_by_us"];
        let unsaid = stopped
            || match means.owner_by {
                OwnerBy::Lock => false,
                OwnerBy::Transitions => waited,
                OwnerBy::Samples => waited || said == "unknown",
            };
        if !cause.is_empty() && !cause.contains(&said) && !unsaid {
            wrong("connection.cause", cause);
        }
        if direction.is_some_and(|d| record["connection.direction"] != d) {
            wrong("connection.direction", direction);
        }
        // Nothing is known of it that the last event did not know.
        for key in ["process.pid", "process.thread.id", "process.name"] {
            let last = events.and_then(|life| life.last()?.get(key));
            if record.get(key) != last {
                wrong(key, &last);
            }
        }
        let delay = record.get("tcp.accept_delay_ns");
        let accepted = means.accepts && expected.accepted.is_some();
        // One in the middle of the handshake waited for nothing.
        let early = || {
            let mut all = events.into_iter().flatten();
            all.any(|e| e["tcp.state.new"] == "ESTABLISHED" && e["owner.source"] == "accept")
        };
        if delay.is_some_and(Value::is_u64) != accepted && !(accepted && early()) {
            wrong("tcp.accept_delay_ns", &accepted);
        }
        faults
    }
}

/// The socket of a life.
fn id(life: &[Value]) -> String {
    event::text(&life[0], "socket.id").into()
}

/// Whether a life is over before it is a connection.
fn is_short(life: &[Value]) -> bool {
    event::transitions(life) == ["LISTEN>SYN_RECV", "SYN_RECV>CLOSE"]
}

/// The second sockets that the kernel makes of one handshake where two CPUs are at
/// it, as with a SYN that was sent again: each goes before it is a connection
/// (v5.10 net/ipv4/inet_connection_sock.c, inet_csk_complete_hashdance), and is told
/// as it is. There is another at the same ends, which became one.
fn twins(lives: &[Vec<Value>]) -> Vec<String> {
    let ends = |life: &[Value]| {
        let last = life.last().expect("an event");
        (event::local(last), event::peer(last))
    };
    let has_twin = |life: &[Value]| {
        let became = |other: &&Vec<Value>| {
            event::transitions(other).contains(&"SYN_RECV>ESTABLISHED".into())
                && ends(other) == ends(life)
        };
        is_short(life) && lives.iter().any(|other| became(&other))
    };
    let found: Vec<_> = lives.iter().filter(|life| has_twin(life)).collect();
    found.into_iter().map(|life| id(life)).collect()
}

/// State events cut into the lives of sockets: by id, and anew where a socket
/// is born. In order of the first event.
fn lives(all: &[Value]) -> Vec<Vec<Value>> {
    let mut lives: Vec<Vec<Value>> = Vec::new();
    let mut current: HashMap<&str, usize> = HashMap::new();
    for event in all.iter().filter(|e| e["event.name"] == "tcp_state") {
        // What is done to a listener after its end (tcp_abort).
        if event::transition(event) == "CLOSE>CLOSE" {
            assert_eq!(event["owner.source"], "none", "{event}");
            continue;
        }
        let id = event::text(event, "socket.id");
        let births = ["CLOSE>SYN_SENT", "CLOSE>LISTEN", "LISTEN>SYN_RECV"];
        let born = births.contains(&event::transition(event).as_str());
        match current.get(id) {
            Some(&at) if !born => lives[at].push(event.clone()),
            _ => {
                current.insert(id, lives.len());
                lives.push(vec![event.clone()]);
            }
        }
    }
    lives
}

fn dump(life: &[Value]) -> String {
    let mut text = String::new();
    for e in life {
        let _ = writeln!(
            text,
            "      {:24} {} -> {} owner {} {}/{} {} uid {} parent {} cgroup {} netns {}; on CPU {} {}",
            event::transition(e),
            event::local(e),
            event::peer(e),
            e["owner.source"],
            e["process.pid"],
            e["process.thread.id"],
            e["process.name"],
            e["user.id"],
            e["process.parent_pid"],
            e["process.cgroup.id"],
            e["network.namespace"],
            e["on_cpu.pid"],
            e["on_cpu.name"],
        );
    }
    text
}
