//! The judge: what an expression says of an event, and of a connection.
//!
//! Contract: this alone decides what is shown. What is about a connection is
//! decided for it as a whole: each greatest part of the expression that is made
//! of such terms alone has a place in [`Settled`], where a yes stays. Such a part
//! is asked at every event, whatever the rest says of that.

use super::tree::{Expr, Kind, Kinds, Measure, Side, States, Term, Truth};
use crate::model::cause::Cause;
use crate::model::event::{Event, Owner, What};
use crate::model::tcp::{Endpoint, State, Wire};

/// Parts about a connection in an expression, at most.
pub const PARTS: usize = 32;

/// Which parts of the expression a connection matches for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled(u32);

/// Who knows where the processes of this host are.
pub trait Around {
    /// Whether a process is this one or descends from it.
    fn descends(&self, pid: u32, top: u32) -> Option<bool>;
    /// Whether a cgroup is one of these, or below one.
    fn is_below(&self, cgroup: u64, tops: &[u64]) -> Option<bool>;
    /// Whether a cgroup is that of a container whose id begins with one of these,
    /// or below it.
    fn is_contained(&self, cgroup: u64, ids: &[String]) -> Option<bool>;
}

/// A connection, as far as it is known.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// This host's end.
    pub local: Endpoint,
    /// The peer's.
    pub peer: Endpoint,
    /// The IP version on the wire.
    pub wire: Wire,
    /// Whether it is a listener: it has no peer, and its ends are what they are.
    pub listener: bool,
    /// Its network namespace.
    pub netns: Option<u32>,
    /// Whether this host opened it.
    pub outgoing: Option<bool>,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// Whether that is for sure, and not until another process accepts it.
    pub sure: bool,
    /// Whether no more will be known than now.
    pub over: bool,
    /// Who knows more of its process.
    pub around: &'a dyn Around,
}

/// What a connection came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Why it ended.
    pub cause: Option<Cause>,
    /// How long it lived, in nanoseconds.
    pub duration: Option<u64>,
    /// Its round-trip time, in microseconds.
    pub rtt: Option<u64>,
    /// Bytes sent and received.
    pub bytes: [Option<u64>; 2],
    /// Segments sent again, or at least so many.
    pub retransmits: (u64, bool),
}

/// What is judged.
enum Object<'a> {
    /// An event: of which kind, from which state, to which states, and in which
    /// it leaves the socket.
    Event(Kinds, Option<State>, States, States),
    /// A record.
    Record(&'a Figures),
    /// No event in particular.
    Any,
}

/// An expression with its parts about a connection apart.
#[derive(Clone, Debug)]
enum Node {
    Part(usize),
    Term(bool, Term),
    And(Vec<Node>),
    Or(Vec<Node>),
}

/// An expression, ready to be asked.
#[derive(Clone, Debug)]
pub struct Judge {
    parts: Vec<Expr>,
    node: Node,
    records: bool,
    owners: bool,
}

/// Why an expression can't be asked.
const TOO_MANY: &str = "conditions of events alternate with others more than 32 times: put those of each kind together";
/// The same.
const OF_BOTH: &str = "what is asked of events (state, from, to) and what is asked of records \
    (cause, duration, rtt, bytes, retransmits, failures) is never true of one and the same";

fn is_of_connections(expr: &Expr) -> bool {
    !expr.has(Kind::Event) && !expr.has(Kind::Record)
}

/// Whether a change of state is asked for.
fn has_changes(expr: &Expr) -> bool {
    match expr {
        Expr::Term(_, term) => term.kind() == Kind::Event && !matches!(term, Term::Event(_)),
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(has_changes),
        Expr::All | Expr::None => false,
    }
}

impl Default for Judge {
    #[inline]
    fn default() -> Judge {
        Judge::everything()
    }
}

impl Judge {
    /// Whether it shows everything.
    #[inline]
    pub fn is_everything(&self) -> bool {
        matches!(&self.node, Node::And(parts) if parts.is_empty())
    }

    /// One that shows everything.
    pub fn everything() -> Judge {
        Judge {
            parts: Vec::new(),
            node: Node::And(Vec::new()),
            records: false,
            owners: false,
        }
    }

    /// The judge of an expression; where there can be none, why.
    pub fn new(expr: &Expr) -> Result<Judge, &'static str> {
        let mut judge = Judge::everything();
        judge.records = expr.has(Kind::Record);
        judge.owners = expr.has(Kind::Owner);
        judge.node = judge.split(expr);
        if judge.records && has_changes(expr) {
            return Err(OF_BOTH);
        }
        match judge.parts.len() {
            0..=PARTS => Ok(judge),
            _ => Err(TOO_MANY),
        }
    }

    fn part(&mut self, expr: Expr) -> Node {
        self.parts.push(expr);
        Node::Part(self.parts.len() - 1)
    }

    fn split(&mut self, expr: &Expr) -> Node {
        let (parts, and) = match expr {
            Expr::All => return Node::And(Vec::new()),
            Expr::None => return Node::Or(Vec::new()),
            expr if is_of_connections(expr) => return self.part(expr.clone()),
            Expr::Term(positive, term) => return Node::Term(*positive, term.clone()),
            Expr::And(parts) => (parts, true),
            Expr::Or(parts) => (parts, false),
        };
        // What is of connections among these is one part.
        let own: Vec<&Expr> = parts
            .iter()
            .filter(|part| is_of_connections(part))
            .collect();
        let mut nodes = Vec::new();
        if !own.is_empty() {
            let own = own.into_iter().cloned();
            let joined = if and { Expr::and(own) } else { Expr::or(own) };
            nodes.push(self.part(joined));
        }
        for part in parts.iter().filter(|part| !is_of_connections(part)) {
            nodes.push(self.split(part));
        }
        match and {
            true => Node::And(nodes),
            false => Node::Or(nodes),
        }
    }

    /// Whether only records can match.
    pub fn is_of_records(&self) -> bool {
        self.records
    }

    /// Whether records are asked for by their name.
    pub fn names_records(&self) -> bool {
        fn names(node: &Node) -> bool {
            match node {
                Node::Term(want, Term::Event(kinds)) => kinds.contains(Kinds::CONNECTION) == *want,
                Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(names),
                Node::Part(_) | Node::Term(..) => false,
            }
        }
        self.records || names(&self.node)
    }

    /// Whether it asks for cgroups.
    pub fn asks_for_cgroups(&self) -> bool {
        fn asks(expr: &Expr) -> bool {
            match expr {
                Expr::Term(_, term) => matches!(term, Term::Cgroup(_) | Term::Container(_)),
                Expr::And(parts) | Expr::Or(parts) => parts.iter().any(asks),
                Expr::All | Expr::None => false,
            }
        }
        self.parts.iter().any(asks)
    }

    /// Whether it asks for owners.
    pub fn asks_for_owners(&self) -> bool {
        self.owners
    }

    /// What is said of an event of a connection. `time_wait`: it is a change to
    /// CLOSE that was one to TIME_WAIT.
    pub fn event(
        &self,
        subject: &Subject<'_>,
        settled: &mut Settled,
        event: &Event,
        time_wait: bool,
    ) -> Truth {
        let none = States::default();
        let object = match event.what {
            What::State { old, new } => {
                let mut to = none.and(new);
                if time_wait {
                    to = to.and(State::TimeWait);
                }
                Object::Event(Kinds::STATE, Some(old), to, to)
            }
            What::Retransmit { state, .. } => {
                let state = state.map_or(none, |state| none.and(state));
                Object::Event(Kinds::RETRANSMIT, None, none, state)
            }
            _ => {
                let state = none.and(State::SynRecv).and(State::NewSynRecv);
                Object::Event(Kinds::RETRANSMIT, None, none, state)
            }
        };
        let parts = self.ask(subject, settled);
        match self.records {
            true => Truth::No,
            false => decide(&self.node, &parts, &object),
        }
    }

    /// What is said of the record of a connection whose last event was asked for;
    /// [`Truth::NotYet`] where it is to be shown if one of its events was: what is
    /// asked for of changes is no question about a record.
    pub fn record(&self, settled: Settled, figures: &Figures) -> Truth {
        let mut parts = [Truth::No; PARTS];
        for (n, truth) in parts.iter_mut().enumerate() {
            *truth = Truth::of(settled.0 >> n & 1 == 1);
        }
        decide(&self.node, &parts, &Object::Record(figures))
    }

    /// Settles what can be of a connection, between its events.
    pub fn settle(&self, subject: &Subject<'_>, settled: &mut Settled) {
        self.ask(subject, settled);
    }

    /// Whether an event of this connection could match.
    pub fn admits(&self, subject: &Subject<'_>) -> bool {
        let parts = self.ask(subject, &mut Settled::default());
        !self.records && decide(&self.node, &parts, &Object::Any) != Truth::No
    }

    /// What is known of each part about a connection.
    fn ask(&self, subject: &Subject<'_>, settled: &mut Settled) -> [Truth; PARTS] {
        let mut parts = [Truth::Yes; PARTS];
        for (n, (truth, part)) in parts.iter_mut().zip(&self.parts).enumerate() {
            if settled.0 >> n & 1 == 0 {
                *truth = subject.asked(part);
                settled.0 |= u32::from(*truth == Truth::Yes) << n;
            }
        }
        parts
    }
}

fn decide(node: &Node, parts: &[Truth; PARTS], object: &Object<'_>) -> Truth {
    let decide = |node| decide(node, parts, object);
    match node {
        Node::Part(n) => parts.get(*n).copied().unwrap_or(Truth::No),
        Node::Term(true, term) => object.matches(term),
        Node::Term(false, term) => !object.matches(term),
        Node::And(nodes) => nodes.iter().map(decide).min().unwrap_or(Truth::Yes),
        Node::Or(nodes) => nodes.iter().map(decide).max().unwrap_or(Truth::No),
    }
}

impl Object<'_> {
    fn matches(&self, term: &Term) -> Truth {
        let figures = match (self, term) {
            (Object::Event(kind, ..), Term::Event(kinds)) => {
                return Truth::of(kinds.intersects(*kind));
            }
            (Object::Event(_, from, ..), Term::From(states)) => {
                return Truth::of(from.is_some_and(|from| states.has(from)));
            }
            (Object::Event(_, _, to, _), Term::To(states)) => {
                return Truth::of(to.0 & states.0 != 0);
            }
            (Object::Event(.., state), Term::State(states)) => {
                return Truth::of(state.0 & states.0 != 0);
            }
            (Object::Event(..), _) => return Truth::No,
            (Object::Any, _) => return Truth::NotYet,
            (Object::Record(figures), _) => figures,
        };
        match term {
            Term::Event(kinds) => Truth::of(kinds.contains(Kinds::CONNECTION)),
            Term::Cause(causes) => {
                let cause = figures.cause.unwrap_or(Cause::Unknown);
                Truth::of(causes >> cause as u8 & 1 == 1)
            }
            Term::Measure(what, first, last) => Truth::of(figures.is_in(*what, *first..=*last)),
            _ => Truth::NotYet,
        }
    }
}

impl Figures {
    /// Whether what is measured is known to be in a range.
    fn is_in(&self, what: Measure, range: std::ops::RangeInclusive<u64>) -> bool {
        let (known, more) = match what {
            Measure::Duration => (self.duration, false),
            Measure::Rtt => (self.rtt, false),
            Measure::Bytes => {
                let all = self.bytes.into_iter().flatten();
                let known = all.reduce(|a, b| a.saturating_add(b));
                (known, self.bytes.contains(&None))
            }
            Measure::Retransmits => (Some(self.retransmits.0), self.retransmits.1),
        };
        // There may be more of it than is known.
        let enough = |known: &u64| !more || *range.end() == u64::MAX && range.start() <= known;
        known
            .filter(enough)
            .is_some_and(|known| range.contains(&known))
    }
}

/// Whether one of the ends is such a one; `known` ends can't change any more.
fn of_ends(side: Side, known: [bool; 2], is: [bool; 2]) -> Truth {
    let one = |n: usize| match (is[n], known[n]) {
        (true, true) => Truth::Yes,
        (false, true) => Truth::No,
        (_, false) => Truth::NotYet,
    };
    match side {
        Side::Local => one(0),
        Side::Peer => one(1),
        Side::Either => one(0).max(one(1)),
    }
}

fn told(known: Option<bool>) -> Truth {
    known.map_or(Truth::NotYet, Truth::of)
}

impl Subject<'_> {
    /// What is said by an expression of connections.
    fn asked(&self, expr: &Expr) -> Truth {
        match expr {
            Expr::All => Truth::Yes,
            Expr::None => Truth::No,
            Expr::Term(positive, term) => {
                let truth = match self.matches(term) {
                    // It can't be known any more.
                    Truth::NotYet if self.over => Truth::No,
                    truth => truth,
                };
                let truth = if *positive { truth } else { !truth };
                let presumed = term.kind() == Kind::Owner && !self.sure && !self.over;
                // Who is presumed counts for what he is, and for being somebody.
                let counts = *positive != matches!(term, Term::NoOwner);
                match truth {
                    Truth::Yes if counts => Truth::Yes,
                    // Somebody else may accept it.
                    _ if presumed => Truth::NotYet,
                    truth => truth,
                }
            }
            Expr::And(parts) => {
                let mut least = Truth::Yes;
                for part in parts {
                    least = least.min(self.asked(part));
                    if least == Truth::No {
                        break;
                    }
                }
                least
            }
            Expr::Or(parts) => {
                let mut greatest = Truth::No;
                for part in parts {
                    greatest = greatest.max(self.asked(part));
                    if greatest == Truth::Yes {
                        break;
                    }
                }
                greatest
            }
        }
    }

    fn matches(&self, term: &Term) -> Truth {
        let ends = [&self.local, &self.peer];
        let final_ends = self.over || self.listener;
        match term {
            Term::Net(side, nets) => {
                let known = ends.map(|end| final_ends || !end.addr.is_unspecified());
                // A listener's missing peer is none.
                let none = [false, self.listener];
                let is = [0, 1].map(|n| !none[n] && nets.has(ends[n].addr));
                of_ends(*side, known, is)
            }
            Term::Port(side, ports) => {
                let known = ends.map(|end| final_ends || end.port != 0);
                let is = ends.map(|end| end.port != 0 && ports.has(end.port.into()));
                of_ends(*side, known, is)
            }
            Term::Family(wire) => {
                // A child that isn't filled in has its listener's family.
                let known = final_ends || !self.peer.addr.is_unspecified();
                told(known.then_some(self.wire == *wire))
            }
            Term::Netns(numbers) => told(self.netns.map(|netns| numbers.has(netns))),
            Term::Opened(by_us) => told(self.outgoing.map(|outgoing| outgoing == *by_us)),
            Term::NoOwner => match (self.owner, self.over) {
                (None, true) => Truth::Yes,
                (None, false) => Truth::NotYet,
                (Some(_), _) => Truth::No,
            },
            _ => self
                .owner
                .map_or(Truth::NotYet, |owner| self.is_owned(term, &owner)),
        }
    }

    fn is_owned(&self, term: &Term, owner: &Owner) -> Truth {
        let pid = owner.task.pid;
        match term {
            Term::Pid(numbers) => Truth::of(numbers.has(pid)),
            Term::Comm(patterns) => {
                let name = owner.task.comm();
                match name.is_empty() {
                    true => Truth::NotYet,
                    false => Truth::of(patterns.iter().any(|pattern| pattern.has(name))),
                }
            }
            Term::Uid(numbers) => told(owner.task.uid.map(|uid| numbers.has(uid))),
            Term::Tree(tops) => {
                let all = tops.iter().map(|top| told(self.around.descends(pid, *top)));
                all.max().unwrap_or(Truth::No)
            }
            Term::Cgroup(tops) => told(owner.cgroup.and_then(|id| self.around.is_below(id, tops))),
            Term::Container(ids) => told(
                owner
                    .cgroup
                    .and_then(|id| self.around.is_contained(id, ids)),
            ),
            _ => Truth::No,
        }
    }
}
