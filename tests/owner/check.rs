//! What must be said of a socket, and whether it was.
//!
//! Contract: every event of every expected life is judged; an owner that is
//! wrong, and one that is missing where it is known, are both faults.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::actor::Who;
use crate::common::event::{self, Value};

/// Whose an event is.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Done by this task itself, in one of the transitions that always run in
    /// the owner's context: it must be named, as `task`.
    By(Who),
    /// Done in this task's context, where only the socket's lock tells so: it
    /// must be named as `task` by the lock, else who was known before.
    Within(Who),
    /// By softirq, or in the context of one of these while they use the
    /// socket: who was known before, or one of them as `task`.
    Passive(Vec<Who>),
    /// A child's first event: its listener's owner, as `listener`; `None`
    /// where it can't be told.
    Child(Option<Who>),
    /// The first event of a child whose address does not tell the listener: by
    /// the lock its owner as `listener`, else nobody, or who listens there.
    Chosen(Who, Option<Who>),
    /// A socket from before the start, or the child of one: its owner as
    /// `snapshot` or `listener`; by plain samples also nobody.
    Old(Who),
}

/// What the whole connection must be told to be.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Bytes sent and received.
    pub bytes: Option<(u64, u64)>,
    /// Its cause, one of these.
    pub cause: Vec<&'static str>,
    /// `outgoing`, `incoming` or `unknown`.
    pub direction: Option<&'static str>,
}

/// The life of one socket.
#[derive(Clone, Debug)]
pub struct Life {
    /// Who it is, for a person.
    pub name: String,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// Transitions and whose each is; those marked true may be missing.
    pub path: Vec<(&'static str, Whose, bool)>,
    pub record: Record,
    /// The id of its control group, at its first event.
    pub cgroup: Option<u64>,
    /// Whether its listener has rivals that only BTF tells apart.
    pub rivals: bool,
}

impl Life {
    pub fn new(name: &str, local: SocketAddr, peer: SocketAddr) -> Life {
        Life {
            name: name.into(),
            local,
            peer,
            path: Vec::new(),
            record: Record::default(),
            cgroup: None,
            rivals: false,
        }
    }

    /// Its listener has rivals of other namespaces or devices.
    pub fn with_rivals(mut self) -> Life {
        self.rivals = true;
        self
    }

    /// One more transition.
    pub fn then(mut self, transition: &'static str, whose: Whose) -> Life {
        self.path.push((transition, whose, false));
        self
    }

    /// One more transition, which may also be missing.
    pub fn maybe(mut self, transition: &'static str, whose: Whose) -> Life {
        self.path.push((transition, whose, true));
        self
    }

    pub fn by(self, transition: &'static str, who: &Who) -> Life {
        self.then(transition, Whose::By(who.clone()))
    }

    pub fn within(self, transition: &'static str, who: &Who) -> Life {
        self.then(transition, Whose::Within(who.clone()))
    }

    pub fn passive(self, transition: &'static str, who: &[&Who]) -> Life {
        let who = who.iter().copied().cloned().collect();
        self.then(transition, Whose::Passive(who))
    }

    pub fn child(self, of: Option<&Who>) -> Life {
        self.then("LISTEN>SYN_RECV", Whose::Child(of.cloned()))
    }

    /// A client up to ESTABLISHED.
    pub fn client(local: SocketAddr, peer: SocketAddr, who: &Who) -> Life {
        let mut life = Life::new("client", local, peer)
            .by("CLOSE>SYN_SENT", who)
            .passive("SYN_SENT>ESTABLISHED", &[who]);
        life.record.direction = Some("outgoing");
        life
    }

    /// An accepted socket up to ESTABLISHED.
    pub fn server(local: SocketAddr, peer: SocketAddr, listener: Option<&Who>) -> Life {
        let mut life = Life::new("server", local, peer)
            .child(listener)
            .passive("SYN_RECV>ESTABLISHED", &[]);
        life.record.direction = Some("incoming");
        life
    }

    /// The same, where its address does not tell that its listener is this
    /// one's, or tells of a rival's.
    pub fn chosen(local: SocketAddr, peer: SocketAddr, by: &Who, rival: Option<&Who>) -> Life {
        let mut life = Life::server(local, peer, None);
        life.path[0].1 = Whose::Chosen(by.clone(), rival.cloned());
        life
    }

    /// A listener, from its birth to its end.
    pub fn listener(local: SocketAddr, who: &Who, closer: &Who) -> Life {
        let peer = match local {
            SocketAddr::V4(_) => "0.0.0.0:0",
            SocketAddr::V6(_) => "[::]:0",
        };
        let life = Life::new("listener", local, peer.parse().unwrap()).by("CLOSE>LISTEN", who);
        match who.pid == closer.pid {
            true => life.by("LISTEN>CLOSE", closer),
            false => life.within("LISTEN>CLOSE", closer),
        }
    }

    /// The end of the side that closes first, into TIME_WAIT; used by these
    /// while it lasts.
    pub fn closes(self, closer: &Who) -> Life {
        self.by("ESTABLISHED>FIN_WAIT1", closer)
            .passive("FIN_WAIT1>FIN_WAIT2", &[closer])
            .passive("FIN_WAIT2>CLOSE", &[closer])
    }

    /// The end of the side that closes second; used by these while it lasts.
    pub fn follows(self, users: &[&Who], closer: &Who) -> Life {
        self.passive("ESTABLISHED>CLOSE_WAIT", users)
            .by("CLOSE_WAIT>LAST_ACK", closer)
            .passive("LAST_ACK>CLOSE", &[closer])
    }

    /// Bytes sent and received in all.
    pub fn bytes(mut self, sent: u64, received: u64) -> Life {
        self.record.bytes = Some((sent, received));
        self
    }

    /// Why it must be told to have ended: one of these.
    pub fn cause(mut self, causes: &[&'static str]) -> Life {
        self.record.cause = causes.to_vec();
        self
    }

    pub fn cgroup(mut self, id: Option<u64>) -> Life {
        self.cgroup = id;
        self
    }

    fn is(&self, life: &[Value]) -> bool {
        let last = life.last().expect("an event");
        event::local(last) == self.local && event::peer(last) == self.peer
    }
}

/// How the owner is learned by the tracer under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerBy {
    Lock,
    Transitions,
    /// From plain samples: neither parent nor control group are known.
    Samples,
}

/// Everything that a tracer said, cut into lives.
pub struct Told {
    lives: Vec<Vec<Value>>,
    records: Vec<Value>,
    /// Events that it said it lost.
    pub lost: u64,
}

impl Told {
    pub fn new(all: &[Value]) -> Told {
        let records = all.iter().filter(|e| e["event"] == "connection");
        Told {
            lives: lives(all),
            records: records.cloned().collect(),
            lost: all
                .last()
                .and_then(|e| e["lost.events"].as_u64())
                .unwrap_or(0),
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

    /// What is wrong with what was said of a life.
    pub fn faults(&self, expected: &Life, owner_by: OwnerBy) -> String {
        let told: Vec<_> = self.lives.iter().filter(|l| expected.is(l)).collect();
        let mut faults = String::new();
        match told[..] {
            [told] => {
                let mut judge = Judge::new(expected, owner_by);
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
        faults += &self.record(expected, owner_by);
        faults
    }

    fn record(&self, expected: &Life, owner_by: OwnerBy) -> String {
        let mut faults = String::new();
        let Record {
            bytes,
            cause,
            direction,
        } = &expected.record;
        if bytes.is_none() && cause.is_empty() && direction.is_none() {
            return faults;
        }
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
        let blind = owner_by == OwnerBy::Samples;
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
        let unsaid = match owner_by {
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
        faults
    }
}

/// State events cut into the lives of sockets: by id, and anew where a socket
/// is born. In order of the first event.
fn lives(all: &[Value]) -> Vec<Vec<Value>> {
    let mut lives: Vec<Vec<Value>> = Vec::new();
    let mut current: HashMap<&str, usize> = HashMap::new();
    for event in all.iter().filter(|e| e["event"] == "tcp_state") {
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

/// Who is known to be the owner.
#[derive(Clone, Debug)]
enum Known {
    Nobody,
    /// This one, learned from its own doing.
    Learned(Who),
    /// The listener's owner.
    Inherited(Who),
    /// From the scan at the start.
    Found(Who),
}

struct Judge<'a> {
    expected: &'a Life,
    owner_by: OwnerBy,
    known: Known,
    faults: String,
}

impl<'a> Judge<'a> {
    fn new(expected: &'a Life, owner_by: OwnerBy) -> Judge<'a> {
        Judge {
            expected,
            owner_by,
            known: Known::Nobody,
            faults: String::new(),
        }
    }

    fn wrong(&mut self, e: &Value, wanted: &dyn std::fmt::Debug) {
        let transition = event::transition(e);
        let _ = writeln!(self.faults, "    {transition}: wanted {wanted:?}");
    }

    fn path(&mut self, told: &[Value]) {
        let mut told = told.iter().peekable();
        for (transition, whose, optional) in &self.expected.path {
            match told.peek() {
                Some(e) if event::transition(e) == *transition => {
                    let e = told.next().unwrap();
                    self.step(e, whose);
                }
                _ if *optional => {}
                other => {
                    let instead = other.map(|e| event::transition(e));
                    let _ = writeln!(self.faults, "    no {transition}, but {instead:?}");
                    return;
                }
            }
        }
        if let Some(e) = told.next() {
            self.wrong(e, &"nothing more");
        }
    }

    fn step(&mut self, e: &Value, whose: &Whose) {
        match whose {
            Whose::By(who) => self.must_be(e, who),
            Whose::Within(who) if self.owner_by == OwnerBy::Lock => self.must_be(e, who),
            Whose::Within(who) if self.is(e, who, "task") => self.must_be(e, who),
            Whose::Within(_) => self.as_known(e),
            Whose::Passive(users) => {
                let by_user = users.iter().find(|who| self.is(e, who, "task"));
                match by_user {
                    Some(who) if self.owner_by != OwnerBy::Transitions => {
                        self.known = Known::Learned(who.clone());
                    }
                    _ => self.as_known(e),
                }
            }
            Whose::Child(Some(who)) => {
                let blind = self.expected.rivals && self.owner_by == OwnerBy::Samples;
                if blind && e["owner.source"] == "none" {
                    return;
                }
                if !self.is(e, who, "listener") {
                    self.wrong(e, &("listener", who));
                }
                self.known = Known::Inherited(who.clone());
            }
            Whose::Child(None) => self.as_known(e),
            Whose::Chosen(who, rival) => {
                let mut at_it = [Some(who), rival.as_ref()].into_iter().flatten();
                let told = at_it.find(|who| self.is(e, who, "listener"));
                match (told, self.owner_by) {
                    (Some(told), _) if told == who => self.known = Known::Inherited(who.clone()),
                    (_, OwnerBy::Lock) => self.wrong(e, &("listener", who)),
                    (Some(told), _) => self.known = Known::Inherited(told.clone()),
                    (None, _) => self.as_known(e),
                }
            }
            Whose::Old(who) => {
                if self.is(e, who, "snapshot") {
                    self.known = Known::Found(who.clone());
                } else if self.is(e, who, "listener") {
                    self.known = Known::Inherited(who.clone());
                } else if self.owner_by != OwnerBy::Samples || e["owner.source"] != "none" {
                    self.wrong(e, &("snapshot or listener", who));
                }
            }
        }
        if e["tcp.state.new"] == "CLOSE" {
            self.known = Known::Nobody;
        }
        if let Some(id) = self.expected.cgroup {
            let unknown = self.owner_by == OwnerBy::Samples;
            let told = e["process.cgroup.id"].as_str();
            if told != Some(id.to_string().as_str()) && !unknown {
                self.wrong(e, &("process.cgroup.id", id));
            }
        }
    }

    /// Whether the owner is this task, known in this way.
    fn is(&self, e: &Value, who: &Who, source: &str) -> bool {
        let unknown = |key: &str| self.owner_by == OwnerBy::Samples && e.get(key).is_none();
        e["owner.source"] == source
            && e["process.pid"] == who.pid
            && e["process.thread.id"] == who.tid
            && (e["process.name"] == who.comm || unknown("process.name"))
            && (e["user.id"] == who.uid || unknown("user.id"))
            && (e["process.parent_pid"] == who.parent || unknown("process.parent_pid"))
    }

    fn must_be(&mut self, e: &Value, who: &Who) {
        if !self.is(e, who, "task") {
            self.wrong(e, &("task", who));
        }
        self.known = Known::Learned(who.clone());
    }

    /// Not by the owner itself: it must be who was known before.
    fn as_known(&mut self, e: &Value) {
        let known = self.known.clone();
        let right = match &known {
            Known::Nobody => e["owner.source"] == "none" && e.get("process.pid").is_none(),
            Known::Learned(who) => self.is(e, who, "cached"),
            Known::Inherited(who) => self.is(e, who, "listener"),
            Known::Found(who) => self.is(e, who, "snapshot"),
        };
        if !right {
            self.wrong(e, &known);
        }
    }
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
