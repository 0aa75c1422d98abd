//! Whether the owner that must be said at each event of a socket was said.
//!
//! Contract: an owner that is wrong, and one that is missing where it is known, are
//! both faults.

use std::fmt::Write as _;

use crate::actor::Who;
use crate::check::{Life, Whose};
use crate::common::event::{self, Value};

/// How the owner is learned by the tracer under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerBy {
    Lock,
    Transitions,
    /// From plain samples: neither parent nor control group are known.
    Samples,
}

/// What the tracer under test has to learn from.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// How it learns at a transition.
    pub owner_by: OwnerBy,
    /// Whether it is told of accepts.
    pub accepts: bool,
    /// Where its programs can look at a task.
    pub tasks: Tasks,
    /// Whether its programs find the user of a process that is not on the CPU, at
    /// the first and the last change.
    pub users: bool,
}

/// Where a tracer's programs can look at the task on the CPU: before Linux 5.11
/// only where they don't depend on BTF for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tasks {
    /// In all.
    Seen,
    /// Not at an accept.
    UnseenAtAccepts,
    /// In none.
    Unseen,
}

/// Who is known to be the owner.
#[derive(Clone, Debug)]
enum Known {
    Nobody,
    /// This one, learned from its own doing.
    Learned(Who),
    /// The listener's owner; whether it may have been accepted, unseen.
    Inherited(Who, bool),
    /// Who accepted it.
    Accepted(Who),
    /// From the scan at the start.
    Found(Who),
}

pub(super) struct Judge<'a> {
    expected: &'a Life,
    owner_by: OwnerBy,
    tasks: Tasks,
    users: bool,
    /// Whose its listener is since an accept, if that is told.
    renewed: Option<&'a Who>,
    /// Its accept, if that is told.
    accepted: Option<&'a (usize, Who)>,
    /// Whether accepts are told at all.
    told_accepts: bool,
    known: Known,
    pub(super) faults: String,
}

impl<'a> Judge<'a> {
    pub(super) fn new(expected: &'a Life, means: Means) -> Judge<'a> {
        Judge {
            expected,
            owner_by: means.owner_by,
            tasks: means.tasks,
            users: means.users,
            renewed: expected.renewed.as_ref().filter(|_| means.accepts),
            accepted: expected.accepted.as_ref().filter(|_| means.accepts),
            told_accepts: means.accepts,
            known: Known::Nobody,
            faults: String::new(),
        }
    }

    fn wrong(&mut self, e: &Value, wanted: &dyn std::fmt::Debug) {
        let transition = event::transition(e);
        let _ = writeln!(self.faults, "    {transition}: wanted {wanted:?}");
    }

    pub(super) fn path(&mut self, told: &[Value]) {
        let mut told = told.iter().peekable();
        for (at, (transition, whose, optional)) in self.expected.path.iter().enumerate() {
            if let Some((_, who)) = self.accepted.filter(|(place, _)| *place == at) {
                self.known = Known::Accepted(who.clone());
            }
            let taken = self.expected.accepted.as_ref();
            if taken.is_some_and(|(place, _)| *place <= at) {
                self.unseen();
            }
            match told.peek() {
                Some(e) if event::transition(e) == *transition => {
                    self.early(e, at);
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
        if let Some(e) = told.next().filter(|_| !self.expected.open) {
            self.wrong(e, &"nothing more");
        }
    }

    /// A child is in its queue a moment before the handshake's end is told
    /// (v6.12 net/ipv4/tcp_minisocks.c, tcp_check_req): it may be accepted then.
    fn early(&mut self, e: &Value, at: usize) {
        let next = self.expected.accepted.as_ref();
        let Some((_, who)) = next.filter(|(place, _)| *place == at + 1) else {
            return;
        };
        if e["tcp.state.new"] == "ESTABLISHED" {
            if self.accepted.is_some() && self.is(e, who, "accept") {
                self.known = Known::Accepted(who.clone());
            } else if e["owner.source"] == "listener_accepted" {
                self.unseen();
            }
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
                let renewed = self.renewed.filter(|_| self.owner_by == OwnerBy::Lock);
                let who = renewed.unwrap_or(who);
                let blind = self.expected.rivals && self.owner_by == OwnerBy::Samples;
                if blind && e["owner.source"] == "none" {
                    return;
                }
                if !self.is(e, who, "listener") && !self.may_be_nobodys(e) {
                    self.wrong(e, &("listener", who));
                }
                self.known = Known::Inherited(who.clone(), false);
            }
            Whose::Collected(who) if e["on_cpu.pid"] == who.pid => self.must_be(e, who),
            // Where it isn't told who was on the CPU.
            Whose::Collected(who) if e.get("on_cpu.pid").is_none() && self.is(e, who, "task") => {
                self.must_be(e, who);
            }
            Whose::Collected(_) => self.as_known(e),
            Whose::Child(None) => self.as_known(e),
            Whose::Heir(who) => {
                let named = e["process.name"] == who.comm;
                let bare = ["process.thread.id", "user.id"];
                let bare = bare.iter().all(|key| e.get(*key).is_none());
                let heir = e["owner.source"] == "descendant" && e["process.pid"] == who.pid;
                match self.accepted_by().filter(|known| known.pid == who.pid) {
                    Some(known) if !self.is(e, &known, "accept") => self.wrong(e, &known),
                    None if !(heir && named && bare) => self.wrong(e, &("descendant", who)),
                    _ => {}
                }
            }
            Whose::HeirOfAcceptor(who) if self.told_accepts => {
                self.step(e, &Whose::Heir(who.clone()));
            }
            Whose::HeirOfAcceptor(_) => self.step(e, &Whose::Nobody),
            Whose::Nobody if !is_nobodys(e) => self.wrong(e, &"nobody"),
            Whose::Nobody => {}
            Whose::Unsure => match self.accepted_by() {
                Some(known) if !self.is(e, &known, "accept") => self.wrong(e, &known),
                // Who accepts is believed to have the listener.
                None if !is_nobodys(e) && !self.may_be_renewed(e) => self.wrong(e, &"nobody"),
                _ => {}
            },
            Whose::Now(who) => {
                if let Known::Learned(known) = &mut self.known {
                    *known = who.clone();
                }
                if !self.is(e, who, "task") {
                    self.as_known(e);
                }
            }
            Whose::Chosen(who, rival) => {
                let mut at_it = [Some(who), rival.as_ref()].into_iter().flatten();
                let told = at_it.find(|who| self.is(e, who, "listener"));
                match (told, self.owner_by) {
                    (Some(told), _) if told == who => {
                        self.known = Known::Inherited(who.clone(), false)
                    }
                    (_, OwnerBy::Lock) => self.wrong(e, &("listener", who)),
                    (Some(told), _) => self.known = Known::Inherited(told.clone(), false),
                    (None, _) => self.as_known(e),
                }
            }
            Whose::Old(who) => {
                // Of a listener from before the start the programs don't know it.
                self.users = false;
                if self.is(e, who, "snapshot") {
                    self.known = Known::Found(who.clone());
                } else if self.is(e, who, "listener") {
                    self.known = Known::Inherited(who.clone(), false);
                } else if self.owner_by != OwnerBy::Samples || e["owner.source"] != "none" {
                    self.wrong(e, &("snapshot or listener", who));
                }
            }
        }
        if e["tcp.state.new"] == "ESTABLISHED" && self.owner_by == OwnerBy::Samples {
            // Whether it has been accepted is not told.
            self.unseen();
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
        // Not by the owner's own doing, its user is only found out where that is cheap.
        let ends = e["tcp.state.old"] == "LISTEN" || e["tcp.state.new"] == "CLOSE";
        let own = source == "task";
        let no_user = !(own || self.users && ends) && e.get("user.id").is_none();
        let unseen = match self.tasks {
            Tasks::Seen => false,
            Tasks::UnseenAtAccepts => source == "accept",
            Tasks::Unseen => true,
        };
        let no_parent = unseen && e.get("process.parent_pid").is_none();
        // What may have changed since is told only where it is known not to have.
        let parent = e.get("process.parent_pid").is_none();
        let thread = e.get("thread.name");
        e["owner.source"] == source
            && e["process.pid"] == who.pid
            && e["process.thread.id"] == who.tid
            && (e["process.name"] == who.comm || unknown("process.name"))
            && (e["user.id"] == who.uid || unknown("user.id") || no_user)
            && (e["process.parent_pid"] == who.parent || no_parent || !own && parent)
            && (thread.is_some_and(|name| *name == who.thread)
                || thread.is_none() && (!own || unknown("thread.name")))
    }

    /// Who accepted it, where that is known by now.
    fn accepted_by(&self) -> Option<Who> {
        match &self.known {
            Known::Accepted(who) => Some(who.clone()),
            _ => None,
        }
    }

    /// It may have been accepted; by whom was not seen.
    fn unseen(&mut self) {
        if let Known::Inherited(_, unseen) = &mut self.known {
            *unseen = true;
        }
    }

    /// Whether it is told to belong to who accepts it, by what that one accepted
    /// before.
    fn may_be_renewed(&self, e: &Value) -> bool {
        let who = self.expected.accepted.as_ref();
        let by = |(_, who): &(usize, Who)| self.is(e, who, "listener");
        self.told_accepts && who.is_some_and(by)
    }

    /// Whether it is told to be nobody's, and that may be so.
    fn may_be_nobodys(&self, e: &Value) -> bool {
        self.expected.shared && is_nobodys(e)
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
            Known::Inherited(who, unseen) => {
                let (queued, taken) = ("listener", "listener_accepted");
                let sources: &[&str] = match (self.owner_by, unseen) {
                    (OwnerBy::Lock, false) => &[queued],
                    (OwnerBy::Lock, true) => &[taken],
                    _ => &[queued, taken],
                };
                sources.iter().any(|source| self.is(e, who, source)) || self.may_be_nobodys(e)
            }
            Known::Accepted(who) => self.is(e, who, "accept"),
            Known::Found(who) => self.is(e, who, "snapshot"),
        };
        if !right {
            self.wrong(e, &known);
        }
    }
}

/// Whether nobody is told to have it.
fn is_nobodys(e: &Value) -> bool {
    e["owner.source"] == "none" && e.get("process.pid").is_none()
}
