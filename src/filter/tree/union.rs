//! Terms of one kind that alternate, as one.
//!
//! Contract: `port 80 or port 443` is `port { 80, 443 }`: the same is said by it, also
//! of what is not known yet, and it takes no more room than a set, however it was
//! written.

use super::{Expr, Nets, Ranges, Side, States, Term};
use crate::filter::sets::in_order;
use std::mem::{discriminant, take};

/// The parts of an `or`, of which those that ask for the same are one, at the place of the
/// first; of an `and` those with a `not`.
#[derive(Default)]
pub(super) struct United {
    parts: Vec<Expr>,
    /// The first of each kind.
    firsts: Vec<usize>,
}

impl United {
    /// Takes one more; `positive` says whether it is an `or`.
    pub(super) fn push(&mut self, mut part: Expr, positive: bool) {
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
    pub(super) fn finish(mut self, positive: bool) -> Vec<Expr> {
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
