//! A filter's expression, as all who decide by it read it.
//!
//! Contract: an [`Expr`] is in one normal form, which its constructors keep:
//! `not` stands at single terms only, `and` and `or` have at least two parts,
//! none of them of their own kind, [`Expr::All`] or [`Expr::None`]; sets that
//! alternate are one; what is listed is sorted, without doubles and overlaps. So equal meaning of the
//! simple kind is equal trees, and a tree that was printed and parsed is the
//! same again.
//!
//! # What each term is about
//!
//! | kind | terms | decided |
//! |---|---|---|
//! | socket | [`Term::Net`], [`Term::Port`], [`Term::Family`], [`Term::Netns`], [`Term::Opened`] | once what it asks for is known, for good |
//! | owner | [`Term::Pid`], [`Term::Tree`], [`Term::Comm`], [`Term::Uid`], [`Term::Cgroup`], [`Term::Container`], [`Term::NoOwner`] | once the owner is known, and again where it changes |
//! | event | [`Term::Event`], [`Term::State`], [`Term::From`], [`Term::To`] | at each event |
//! | record | [`Term::Cause`], [`Term::Measure`] | at the record of a connection's end |
//!
//! The first two are about the connection. What of it is made of these alone is
//! decided for it as a whole: at its first event some of it may not be known yet
//! (a client's local port is 0 at SYN_SENT, a child's peer is unspecified at
//! SYN_RECV before Linux 6.18, an owner may be told only later), and this is
//! [`Truth::NotYet`], not a no. Once such a part is a yes, it stays one for the
//! connection, also where its owner changes later (another process accepts it,
//! or its process runs another program). Who keeps events away early may do so
//! only where no later event can make a yes of it: an address, port, family or
//! namespace that is there stays, an owner may not.
//!
//! The owner by its listener ([`OwnerSource::Listener`]) is one as long as it
//! matches: where it doesn't, the process that accepts may, so that is
//! [`Truth::NotYet`]. Under a `not` neither is known before one accepts: only
//! `not owner none` is a yes, whoever that will be.
//!
//! At a connection's end, what is not known by then is taken for a term that
//! doesn't match: `pid 7` is a no, `not pid 7` a yes.
//!
//! [`OwnerSource::Listener`]: crate::model::event::OwnerSource::Listener

use super::sets::in_order;
pub use super::sets::{Nets, Pattern, Prefix, Ranges, mapped};
use crate::model::tcp::{State, Wire};
use bitflags::bitflags;
use std::mem::{discriminant, take};

/// What is known of whether something matches. In this order `and` is the least
/// of its parts, and `or` the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It doesn't.
    No,
    /// It can't be told before more is known.
    NotYet,
    /// It does.
    Yes,
}

impl Truth {
    /// What is known for sure.
    pub fn of(known: bool) -> Truth {
        match known {
            true => Truth::Yes,
            false => Truth::No,
        }
    }
}

/// The opposite; of what isn't known nothing is known.
impl std::ops::Not for Truth {
    type Output = Truth;

    fn not(self) -> Truth {
        match self {
            Truth::No => Truth::Yes,
            Truth::NotYet => Truth::NotYet,
            Truth::Yes => Truth::No,
        }
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This host's.
    Local,
    /// The peer's.
    Peer,
    /// One of them at least.
    Either,
}

bitflags! {
    /// Kinds of what is shown.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Kinds: u8 {
        /// A change of state.
        const STATE = 1 << 0;
        /// A retransmission, also of a SYN+ACK, and one that failed.
        const RETRANSMIT = 1 << 1;
        /// The record of a connection that has ended.
        const CONNECTION = 1 << 2;
    }
}

/// A set of states: for each the bit of its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States(pub u16);

impl States {
    /// With this one.
    pub fn and(self, state: State) -> States {
        States(self.0 | 1 << state as u8)
    }

    /// Whether a state is one of these.
    pub fn has(self, state: State) -> bool {
        self.0 >> state as u8 & 1 == 1
    }
}

/// What of a connection is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// How long it lived, in nanoseconds.
    Duration,
    /// Its smoothed round-trip time, in microseconds.
    Rtt,
    /// Bytes of data that it sent and received.
    Bytes,
    /// Segments that it sent again.
    Retransmits,
}

/// What can be asked for. What each is about stands at the top of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// Its address is one of these.
    Net(Side, Nets),
    /// Its port is one of these.
    Port(Side, Ranges),
    /// The IP version on the wire.
    Family(Wire),
    /// Its network namespace, by the inode number of /proc/PID/ns/net, is one of
    /// these.
    Netns(Ranges),
    /// This host opened it (`true`), or the peer did.
    Opened(bool),
    /// Its process is one of these.
    Pid(Ranges),
    /// Its process is one of these, or descends from one: in order.
    Tree(Vec<u32>),
    /// Its process's name is one of these: in order.
    Comm(Vec<Pattern>),
    /// Its process's user is one of these.
    Uid(Ranges),
    /// Its process's cgroup (version 2) is one of these, by their ids, or below
    /// one: in order.
    Cgroup(Vec<u64>),
    /// Its process is in a container whose id begins with one of these: at least
    /// 12 hexadecimal digits in lower case, in order.
    Container(Vec<String>),
    /// Nobody is known to own it.
    NoOwner,
    /// It is of one of these kinds.
    Event(Kinds),
    /// It leaves the socket in one of these states: the one entered, or the one
    /// in which a segment is sent again. TIME_WAIT is a CLOSE for which it is
    /// inferred.
    State(States),
    /// It is a change from one of these states.
    From(States),
    /// It is a change to one of these states; TIME_WAIT as above.
    To(States),
    /// Why it ended is one of these: for each cause the bit of its number.
    Cause(u16),
    /// What is measured is from here to there, both included.
    Measure(Measure, u64, u64),
}

/// What a term is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The connection.
    Socket,
    /// Whose the connection is.
    Owner,
    /// One event.
    Event,
    /// The record of a connection that has ended.
    Record,
}

impl Term {
    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Term::Net(..) | Term::Port(..) | Term::Family(_) | Term::Netns(_) | Term::Opened(_) => {
                Kind::Socket
            }
            Term::Pid(_)
            | Term::Tree(_)
            | Term::Comm(_)
            | Term::Uid(_)
            | Term::Cgroup(_)
            | Term::Container(_)
            | Term::NoOwner => Kind::Owner,
            Term::Event(_) | Term::State(_) | Term::From(_) | Term::To(_) => Kind::Event,
            Term::Cause(_) | Term::Measure(..) => Kind::Record,
        }
    }
}

/// An expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expr {
    /// Everything.
    #[default]
    All,
    /// Nothing.
    None,
    /// What a term matches (`true`), or what it doesn't.
    Term(bool, Term),
    /// What all of these match.
    And(Vec<Expr>),
    /// What one of these matches at least.
    Or(Vec<Expr>),
}

impl From<Term> for Expr {
    fn from(term: Term) -> Expr {
        Expr::Term(true, term)
    }
}

impl Expr {
    /// What all of these match.
    pub fn and(parts: impl IntoIterator<Item = Expr>) -> Expr {
        Expr::join(true, &mut parts.into_iter())
    }

    /// What one of these matches at least.
    pub fn or(parts: impl IntoIterator<Item = Expr>) -> Expr {
        Expr::join(false, &mut parts.into_iter())
    }

    fn join(and: bool, parts: &mut dyn Iterator<Item = Expr>) -> Expr {
        let mut all = United::default();
        for part in parts {
            match (part, and) {
                (Expr::All, true) | (Expr::None, false) => {}
                (Expr::None, true) => return Expr::None,
                (Expr::All, false) => return Expr::All,
                (Expr::And(parts), true) | (Expr::Or(parts), false) => {
                    parts.into_iter().for_each(|part| all.push(part, !and));
                }
                (part, _) => all.push(part, !and),
            }
        }
        let mut all = all.finish(!and);
        match (all.len(), and) {
            (0, true) => Expr::All,
            (0, false) => Expr::None,
            (1, _) => all.remove(0),
            (_, true) => Expr::And(all),
            (_, false) => Expr::Or(all),
        }
    }

    /// Whether a term of this kind is in it.
    pub fn has(&self, kind: Kind) -> bool {
        match self {
            Expr::All | Expr::None => false,
            Expr::Term(_, term) => term.kind() == kind,
            Expr::And(parts) | Expr::Or(parts) => parts.iter().any(|part| part.has(kind)),
        }
    }
}

/// What this one doesn't match.
impl std::ops::Not for Expr {
    type Output = Expr;

    fn not(self) -> Expr {
        match self {
            Expr::All => Expr::None,
            Expr::None => Expr::All,
            Expr::Term(positive, term) => Expr::Term(!positive, term),
            Expr::And(parts) => Expr::Or(parts.into_iter().map(|part| !part).collect()),
            Expr::Or(parts) => Expr::And(parts.into_iter().map(|part| !part).collect()),
        }
    }
}

/// The parts of an `or`, of which those that ask for the same are one, at the place of the
/// first; of an `and` those with a `not`.
#[derive(Default)]
struct United {
    parts: Vec<Expr>,
    /// The first of each kind.
    firsts: Vec<usize>,
}

impl United {
    /// Takes one more; `positive` says whether it is an `or`.
    fn push(&mut self, mut part: Expr, positive: bool) {
        let term = part.term(positive);
        if let Some(term) = term.and_then(|term| term.is_set().then_some(term)) {
            for at in &self.firsts {
                let first = self.parts.get_mut(*at);
                if first
                    .and_then(|first| first.term(positive))
                    .is_some_and(|first| first.absorb(term))
                {
                    return;
                }
            }
            self.firsts.push(self.parts.len());
        }
        self.parts.push(part);
    }

    /// All of them.
    fn finish(mut self, positive: bool) -> Vec<Expr> {
        for at in self.firsts {
            let first = self.parts.get_mut(at);
            if let Some(term) = first.and_then(|first| first.term(positive)) {
                term.put_in_order();
            }
        }
        self.parts
    }
}

impl Expr {
    /// The set that is wanted, or not.
    fn term(&mut self, positive: bool) -> Option<&mut Term> {
        match self {
            Expr::Term(is, term) if *is == positive => Some(term),
            _ => None,
        }
    }
}

impl Term {
    fn is_set(&mut self) -> bool {
        let listed = matches!(
            self,
            Term::Net(..)
                | Term::Comm(_)
                | Term::Tree(_)
                | Term::Cgroup(_)
                | Term::Container(_)
                | Term::Event(_)
        );
        listed || self.ranges().is_some() || self.bits().is_some()
    }

    fn side(&self) -> Option<Side> {
        match self {
            Term::Net(side, _) | Term::Port(side, _) => Some(*side),
            _ => None,
        }
    }

    fn ranges(&mut self) -> Option<&mut Ranges> {
        match self {
            Term::Port(_, set) | Term::Netns(set) | Term::Pid(set) | Term::Uid(set) => Some(set),
            _ => None,
        }
    }

    fn bits(&mut self) -> Option<&mut u16> {
        match self {
            Term::State(States(bits)) | Term::From(States(bits)) | Term::To(States(bits)) => {
                Some(bits)
            }
            Term::Cause(bits) => Some(bits),
            _ => None,
        }
    }

    /// Takes what another one of its kind asks for, if it can ask for both.
    fn absorb(&mut self, other: &mut Term) -> bool {
        if discriminant(self) != discriminant(other) || self.side() != other.side() {
            return false;
        }
        if let (Some(own), Some(set)) = (self.ranges(), other.ranges()) {
            own.0.append(&mut set.0);
            return true;
        }
        if let (Some(own), Some(bits)) = (self.bits(), other.bits()) {
            *own |= *bits;
            return true;
        }
        match (self, other) {
            (Term::Net(_, own), Term::Net(_, set)) => own.0.append(&mut set.0),
            (Term::Comm(own), Term::Comm(set)) => own.append(set),
            (Term::Tree(own), Term::Tree(set)) => own.append(set),
            (Term::Cgroup(own), Term::Cgroup(set)) => own.append(set),
            (Term::Container(own), Term::Container(set)) => own.append(set),
            (Term::Event(own), Term::Event(set)) => *own |= *set,
            _ => return false,
        }
        true
    }

    fn put_in_order(&mut self) {
        if let Some(set) = self.ranges() {
            *set = Ranges::of(take(&mut set.0));
        }
        match self {
            Term::Net(_, set) => *set = Nets::merged(take(&mut set.0)),
            Term::Comm(set) => in_order(set),
            Term::Tree(set) => in_order(set),
            Term::Cgroup(set) => in_order(set),
            Term::Container(set) => in_order(set),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_form() {
        let term = |n| Expr::from(Term::Pid(Ranges::of([(n, n)])));
        assert_eq!(Expr::and([]), Expr::All);
        assert_eq!(Expr::or([]), Expr::None);
        assert_eq!(Expr::and([Expr::All, term(1)]), term(1));
        assert_eq!(Expr::or([Expr::All, term(1)]), Expr::All);
        assert_eq!(Expr::and([term(2), Expr::None]), Expr::None);
        let both = Expr::and([term(1), Expr::and([term(2), term(3)])]);
        assert_eq!(both, Expr::And(vec![term(1), term(2), term(3)]));
        let not = Expr::Or(vec![!term(1), !term(2), !term(3)]);
        assert_eq!(!both.clone(), not);
        assert_eq!(!!both, !not);
        assert_eq!(!Expr::All, Expr::None);
    }

    #[test]
    fn what_is_not_known_stays_so() {
        use Truth::*;
        assert!(No < NotYet && NotYet < Yes);
        assert_eq!([!No, !NotYet, !Yes], [Yes, NotYet, No]);
        assert_eq!([Truth::of(false), Truth::of(true)], [No, Yes]);
    }
}
