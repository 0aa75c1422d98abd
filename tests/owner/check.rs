//! What must be said of a socket.

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
    /// Closed by the kernel's garbage collector: a worker of the kernel's, who
    /// is not its owner, or on older kernels this task on its way.
    Collected(Who),
    /// A socket from before the start, or the child of one: its owner as
    /// `snapshot` or `listener`; by plain samples also nobody.
    Old(Who),
    /// The only living descendant of a process that has ended: as `descendant`,
    /// with nothing else known of it but its name.
    Heir(Who),
    /// The only living descendant of who accepted it, where that is told; else
    /// nobody's.
    HeirOfAcceptor(Who),
    /// Nobody's, as far as can be told: who it was before is no more.
    Nobody,
    /// Nobody's, or that of who was seen to accept it, or the last one before it
    /// from the same listener.
    Unsure,
    /// Who was known before, as it is by now; by softirq or in its context.
    Now(Who),
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
    /// Who accepted it, and how many transitions of the path came before.
    pub accepted: Option<(usize, Who)>,
    pub record: Record,
    /// The id of its control group, at its first event.
    pub cgroup: Option<u64>,
    /// Who accepted from its listener last before it came.
    pub renewed: Option<Who>,
    /// Whether its listener has rivals that only BTF tells apart.
    pub rivals: bool,
    /// Whether what comes after its path is of no interest.
    pub open: bool,
    /// Whether its listener may be somebody else's, too: where nobody has done
    /// anything to it in his own context, it may be nobody's.
    pub shared: bool,
}

impl Life {
    pub fn new(name: &str, local: SocketAddr, peer: SocketAddr) -> Life {
        Life {
            name: name.into(),
            local,
            peer,
            path: Vec::new(),
            accepted: None,
            record: Record::default(),
            cgroup: None,
            renewed: None,
            rivals: false,
            open: false,
            shared: false,
        }
    }

    /// Where accepts are told, its listener was this one's by then.
    pub fn renewed(mut self, who: Option<&Who>) -> Life {
        self.renewed = who.cloned();
        self
    }

    /// Its listener has rivals of other namespaces or devices.
    pub fn with_rivals(mut self) -> Life {
        self.rivals = true;
        self
    }

    /// However it goes on.
    pub fn any_end(mut self) -> Life {
        self.open = true;
        self
    }

    /// Who has its listener has forked.
    pub fn of_many(mut self) -> Life {
        self.shared = true;
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

    /// A listener's child up to its accept by the process that listens.
    pub fn server(local: SocketAddr, peer: SocketAddr, who: &Who) -> Life {
        Life::queued(local, peer, Some(who)).accepted(who)
    }

    /// The same, where its address does not tell that its listener is this
    /// one's, or tells of a rival's.
    pub fn chosen(local: SocketAddr, peer: SocketAddr, by: &Who, rival: Option<&Who>) -> Life {
        let mut life = Life::server(local, peer, by);
        life.path[0].1 = Whose::Chosen(by.clone(), rival.cloned());
        life
    }

    /// A listener's child up to ESTABLISHED.
    pub fn queued(local: SocketAddr, peer: SocketAddr, listener: Option<&Who>) -> Life {
        let mut life = Life::new("server", local, peer)
            .child(listener)
            .passive("SYN_RECV>ESTABLISHED", &[]);
        life.record.direction = Some("incoming");
        life
    }

    /// Its accept by this task, which is no transition.
    pub fn accepted(mut self, who: &Who) -> Life {
        self.accepted = Some((self.path.len(), who.clone()));
        self
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

    /// The processes that may ever be told to have it.
    pub fn everyone(&self) -> Vec<u64> {
        let mut all = Vec::new();
        for (_, whose, _) in &self.path {
            match whose {
                Whose::By(who)
                | Whose::Within(who)
                | Whose::Collected(who)
                | Whose::Old(who)
                | Whose::Heir(who)
                | Whose::HeirOfAcceptor(who)
                | Whose::Now(who) => all.push(who.pid),
                Whose::Passive(users) => all.extend(users.iter().map(|who| who.pid)),
                Whose::Child(who) => all.extend(who.iter().map(|who| who.pid)),
                Whose::Chosen(who, rival) => {
                    all.push(who.pid);
                    all.extend(rival.iter().map(|who| who.pid));
                }
                Whose::Nobody | Whose::Unsure => {}
            }
        }
        all.extend(self.accepted.iter().map(|(_, who)| who.pid));
        all.extend(self.renewed.iter().map(|who| who.pid));
        all
    }

    /// Whether this is what was told of it.
    pub fn is(&self, life: &[Value]) -> bool {
        let last = life.last().expect("an event");
        event::local(last) == self.local && event::peer(last) == self.peer
    }
}
