//! Whose a connection is: the best claim so far, and what can be told of it at
//! an event.
//!
//! Contract: what is better known is never replaced by what is known less, and a
//! claim ends when what it rests on ends: a process that has ended owns nothing
//! but what it closed itself, and the owner of a listener owns a child only as
//! long as nobody else can have it. Names and users are those of the event's
//! moment, or none.

use crate::model::event::{COMM_LEN, Event, Owner, OwnerSource, Task, What};
use crate::model::tcp::{Endpoint, State};
use crate::owner::lineage::{Descendants, Lineage, Standing};
use crate::owner::listeners::{Holder, Listeners};

/// What a claim is held against.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// The processes.
    pub kin: &'a dyn Lineage,
    /// The listeners.
    pub listeners: &'a Listeners,
    /// Whether events tell if a process has the socket (`sk_socket`).
    pub sockets: bool,
}

/// The claim, and what was told of it last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tracker {
    claim: Option<Kept>,
    /// Since when the claim is known.
    since: u64,
    /// Its process has ended the connection, or begun to: nobody else did.
    settled: bool,
    /// A listener's owner that was the only one who could have accepted it.
    accepted: bool,
    /// Its listener is known to be its owner's, at whatever address.
    steered: bool,
    /// Its first event had the listener's address for its own.
    unplaced: bool,
    told: Option<Told>,
}

/// What was told of the claim, or of who comes in its place.
#[derive(Clone, Copy, Debug)]
struct Told {
    pid: u32,
    uid: Option<u32>,
    parent: u32,
    name: [u8; COMM_LEN],
    source: OwnerSource,
    /// Whether the thread has the name that it had then.
    thread: bool,
}

/// An owner without room for what isn't known.
#[derive(Clone, Copy, Debug)]
struct Kept {
    pid: u32,
    /// 0 where it isn't known.
    tid: u32,
    uid: Option<u32>,
    /// 0 where it isn't known.
    parent: u32,
    cgroup: u64,
    name: [u8; COMM_LEN],
    thread: [u8; COMM_LEN],
    source: OwnerSource,
}

/// How far a source is to be believed: the process itself, else the one that
/// listened, else what /proc said at the start.
#[inline]
fn rank(source: OwnerSource) -> u8 {
    match source {
        OwnerSource::Task | OwnerSource::Cached | OwnerSource::Accept => 3,
        OwnerSource::Listener | OwnerSource::ListenerAccepted => 2,
        OwnerSource::Snapshot | OwnerSource::Descendant => 1,
    }
}

impl Kept {
    #[inline]
    fn new(owner: &Owner) -> Kept {
        Kept {
            pid: owner.task.pid,
            tid: owner.task.tid,
            uid: owner.task.uid,
            parent: owner.parent.unwrap_or(0),
            cgroup: owner.cgroup.unwrap_or(0),
            name: owner.task.name,
            thread: owner.thread,
            source: owner.source,
        }
    }

    /// Whether what is known in this way counts less.
    #[inline]
    fn outranks(&self, source: OwnerSource) -> bool {
        self.source != source && rank(source) < rank(self.source)
    }

    /// What is learned in an event of its own is cached from then on.
    #[inline]
    fn keep(&mut self, source: OwnerSource) {
        self.source = match source {
            OwnerSource::Task => OwnerSource::Cached,
            other => other,
        };
    }

    /// Takes what is said of the same process, with this user, `again` without its being
    /// on the CPU.
    #[inline]
    fn renew(&mut self, new: &Owner, uid: Option<u32>, again: bool) {
        // The thread is that of before; so is the user, if it is told again as that of
        // then.
        self.tid = new.task.tid;
        self.parent = new.parent.unwrap_or(0);
        self.cgroup = new.cgroup.unwrap_or(0);
        if !again {
            self.thread = new.thread;
        }
        if !again || uid.is_some() {
            self.uid = uid;
        }
        // By samples only the thread's own name is in an event.
        if !again || new.task.name[0] != 0 {
            self.name = new.task.name;
        }
    }

    /// As it is, known in this way.
    #[inline]
    fn told(&self, source: OwnerSource) -> Told {
        Told {
            pid: self.pid,
            uid: self.uid,
            parent: self.parent,
            name: self.name,
            source,
            thread: true,
        }
    }

    /// Without what may have changed since it was learned.
    #[inline]
    fn now(&self, uid: Option<u32>, kin: &dyn Lineage, of: &Standing) -> Told {
        let (parent, name) = match kin.follows() {
            true => (of.parent.unwrap_or(0), of.name.unwrap_or_default()),
            false => (self.parent, self.name),
        };
        Told {
            pid: self.pid,
            uid,
            parent,
            name,
            source: self.source,
            thread: false,
        }
    }
}

impl Told {
    /// The only living descendant of the claim's process, of which no more is
    /// known than that.
    fn heir(pid: u32, kin: &dyn Lineage) -> Told {
        Told {
            pid,
            uid: None,
            parent: kin.parent(pid).unwrap_or(0),
            name: kin.name(pid).unwrap_or_default(),
            source: OwnerSource::Descendant,
            thread: false,
        }
    }
}

/// Whether an event is the owner's own end of a connection, or its beginning.
#[inline]
fn ends(event: &Event) -> bool {
    matches!(event.what, What::State { new, .. } if is_end(new))
}

/// Whether it is by a change to this state.
#[inline]
fn is_end(new: State) -> bool {
    matches!(new, State::FinWait1 | State::LastAck | State::Close)
}

impl Tracker {
    /// The owner, as it was told last.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<Owner> {
        let told = self.told.as_ref()?;
        let (mut tid, mut cgroup, mut thread) = (0, 0, [0; COMM_LEN]);
        if let Some(claim) = self.claim.as_ref().filter(|c| c.pid == told.pid) {
            (tid, cgroup) = (claim.tid, claim.cgroup);
            if told.thread {
                thread = claim.thread;
            }
        }
        Some(Owner {
            task: Task {
                pid: told.pid,
                tid,
                uid: told.uid,
                name: told.name,
            },
            thread,
            parent: Some(told.parent).filter(|n| *n != 0),
            cgroup: Some(cgroup).filter(|n| *n != 0),
            source: told.source,
        })
    }

    /// Whether the owner that was told is not told for its listener's alone, which
    /// another process may accept from.
    pub(crate) fn is_sure(&self) -> bool {
        use OwnerSource::{Listener, ListenerAccepted};
        let by_listener = |told: Told| matches!(told.source, Listener | ListenerAccepted);
        self.settled || self.accepted || !self.told.is_some_and(by_listener)
    }

    /// Takes an owner found at the start, seen at `time`, where events have told
    /// nothing.
    pub(crate) fn find(&mut self, owner: &Owner, time: u64) {
        if self.claim.is_none() {
            let claim = Kept::new(owner);
            (self.claim, self.since) = (Some(claim), time);
            self.told = Some(claim.told(claim.source));
        }
    }

    /// Takes the owner that a recorded line tells, whatever was known before.
    pub(crate) fn recall(&mut self, owner: Option<&Owner>) {
        *self = Tracker::default();
        if let Some(owner) = owner {
            self.find(owner, 0);
        }
    }

    /// Takes what an event says of the owner, if it is better known than before; what
    /// is told is for [`Tracker::judge`]. Whether there was any.
    #[inline]
    fn learn(&mut self, event: &Event) -> bool {
        let Some(new) = &event.owner else {
            return false;
        };
        match &mut self.claim {
            Some(old) => {
                if old.outranks(new.source) {
                    return false;
                }
                let own = new.source == OwnerSource::Task;
                if old.pid != new.task.pid {
                    *old = Kept::new(new);
                    self.since = event.time;
                    (self.settled, self.accepted) = (false, false);
                } else {
                    let again = !own && !matches!(event.what, What::Accepted);
                    old.renew(new, new.task.uid, again);
                }
            }
            none => {
                *none = Some(Kept::new(new));
                self.since = event.time;
                (self.settled, self.accepted) = (false, false);
            }
        }
        let own = new.source == OwnerSource::Task;
        if let Some(claim) = &mut self.claim {
            claim.keep(new.source);
        }
        self.settled |= own && ends(event);
        true
    }

    /// Whether changes that were held back can be learned by [`Tracker::learn_held`], all
    /// being of this process: then what is told at them changes nothing.
    #[inline]
    pub(crate) fn follows(&self, pid: u32) -> bool {
        let told = |claim: &Kept| claim.pid == pid && claim.source != OwnerSource::ListenerAccepted;
        self.claim.as_ref().is_some_and(told) && !self.unplaced
    }

    /// The same of a change to this state that was held back: its owner is this one but
    /// for how it is known, and whether its user is.
    #[inline]
    pub(crate) fn learn_held(
        &mut self,
        owner: &Owner,
        (how, user): (OwnerSource, bool),
        new: State,
    ) {
        let Some(claim) = &mut self.claim else {
            return;
        };
        if claim.outranks(how) {
            return;
        }
        let own = how == OwnerSource::Task;
        claim.renew(owner, owner.task.uid.filter(|_| user), !own);
        claim.keep(how);
        self.settled |= own && is_end(new);
    }

    /// The same of an event without a line: it is told as it is.
    #[inline]
    pub(crate) fn tell(&mut self, event: &Event) {
        if let (true, Some(claim), Some(owner)) = (self.learn(event), &self.claim, &event.owner) {
            self.told = Some(claim.told(owner.source));
        }
    }

    /// Whose the connection with this local end, born at this time, is at an
    /// event that was learned: what can be told.
    #[inline]
    pub(crate) fn judge(
        &mut self,
        event: &Event,
        local: &Endpoint,
        born: u64,
        moment: &Moment<'_>,
    ) {
        self.judge_at(Some(event), event.time, (local, born), moment);
    }

    /// The same at a time without an event.
    pub(crate) fn review(&mut self, time: u64, local: &Endpoint, born: u64, moment: &Moment<'_>) {
        self.judge_at(None, time, (local, born), moment);
    }

    #[inline]
    fn judge_at(
        &mut self,
        event: Option<&Event>,
        time: u64,
        at: (&Endpoint, u64),
        moment: &Moment<'_>,
    ) {
        let Some(claim) = &mut self.claim else {
            self.told = None;
            return;
        };
        let said = event.and_then(|event| event.owner.as_ref());
        let said = said.filter(|owner| owner.task.pid == claim.pid);
        let itself = said.zip(event).filter(|(said, event)| {
            said.source == OwnerSource::Task || matches!(event.what, What::Accepted)
        });
        // Whoever was told once is no thread of the kernel.
        let told = self.told.as_ref().map(|told| told.pid);
        if self.settled && itself.is_none() && told == Some(claim.pid) {
            self.told = Some(claim.told(claim.source));
            return;
        }
        let kin = moment.kin;
        if let Some((said, _)) = itself {
            let (kernel, name) = kin.called(claim.pid);
            if kernel {
                (self.claim, self.told) = (None, None);
                return;
            }
            if let Some(name) = name {
                claim.name = name;
            }
            self.told = Some(claim.told(said.source));
            return;
        }
        let standing = &kin.standing(claim.pid);
        if standing.kernel {
            (self.claim, self.told) = (None, None);
            return;
        }
        let uid = said.and_then(|owner| owner.task.uid);
        let decided = self.decide(event, time, at, moment);
        self.told = match (decided, &self.claim) {
            (Decided::Nobody, _) | (_, None) => None,
            (Decided::AsThen, Some(claim)) => Some(claim.told(claim.source)),
            (Decided::Unsure, Some(claim)) => Some(Told {
                uid,
                thread: false,
                ..claim.told(claim.source)
            }),
            (Decided::Still, Some(claim)) => Some(claim.now(uid, kin, standing)),
            (Decided::Heir(pid), _) => Some(Told::heir(pid, kin)),
        };
    }

    /// What becomes of a claim that the event does not make itself.
    #[inline]
    fn decide(
        &mut self,
        event: Option<&Event>,
        time: u64,
        (local, born): (&Endpoint, u64),
        moment: &Moment<'_>,
    ) -> Decided {
        let Some(claim) = self.claim.as_ref().filter(|_| !self.settled) else {
            return Decided::AsThen;
        };
        let kin = moment.kin;
        let listener = matches!(
            claim.source,
            OwnerSource::Listener | OwnerSource::ListenerAccepted
        );
        // A process that has a task on the CPU is there, whatever its records say:
        // they tell its end before it closes what it has open (v6.18
        // kernel/exit.c, do_exit()).
        let at_work = event.is_some_and(|event| event.on_cpu.pid == claim.pid);
        if listener && !self.accepted {
            if at_work && event.is_some_and(Event::is_close) {
                // It goes with its listener, which has just been closed (v6.12
                // net/ipv4/inet_connection_sock.c, inet_csk_listen_stop()).
                return Decided::Still;
            }
            let listeners = moment.listeners;
            if let Some(event) = event {
                let birth = event.is_birth();
                if birth || self.unplaced {
                    // Its address is not its listener's: TPROXY, or an sk_lookup program.
                    self.steered = !listeners.is_at(claim.pid, local, born);
                }
                // Older kernels fill the ends in later (v5.10 net/ipv4/tcp_ipv4.c,
                // tcp_v4_syn_recv_sock()).
                self.unplaced = birth && event.peer.port == 0;
            }
            let at = Some(local).filter(|_| !self.steered);
            return match listeners.holder(claim.pid, at, born, kin) {
                Holder::Same => {
                    if claim.source == OwnerSource::ListenerAccepted && moment.sockets {
                        (self.accepted, self.since) = (true, time);
                    }
                    Decided::Still
                }
                Holder::Heir(pid, _) => Decided::Heir(pid),
                Holder::Unknown => Decided::Nobody,
            };
        }
        match kin.lives(claim.pid, self.since) {
            // Unless it is another one by now that has its number.
            Some(false) if at_work && kin.lives(claim.pid, time) != Some(true) => Decided::Still,
            Some(false) => match kin.descendants(claim.pid, self.since) {
                Descendants::Only(pid, _) => Decided::Heir(pid),
                _ => Decided::Nobody,
            },
            Some(true) => Decided::Still,
            None => Decided::Unsure,
        }
    }
}

/// What becomes of a claim.
#[derive(Clone, Copy)]
enum Decided {
    /// Nobody is told.
    Nobody,
    /// It is told as it was learned.
    AsThen,
    /// The same, but who it is may have changed.
    Unsure,
    /// It is told as the process is now.
    Still,
    /// This descendant comes in its place.
    Heir(u32),
}

#[cfg(test)]
mod tests;
