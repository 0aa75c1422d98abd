//! What of an expression is not told on every host.
//!
//! Contract: each word is named once, with the abilities of which one is enough for it. What
//! isn't told is no match, so an expression of such words may show nothing, or everything:
//! whoever has no such ability says so.

use super::tree::{Expr, Measure, States, Term};
use crate::model::ability::Abilities;
use crate::model::cause::Cause;
use crate::model::tcp::State;

/// A word, and what it takes.
pub(crate) type Takes = (&'static str, Abilities);

impl Expr {
    /// All such words in it.
    pub(crate) fn takes(&self) -> Vec<Takes> {
        let mut all = Vec::new();
        self.collect(&mut all);
        all
    }

    fn collect(&self, all: &mut Vec<Takes>) {
        let term = match self {
            Expr::All | Expr::None => return,
            Expr::And(parts) | Expr::Or(parts) => {
                return parts.iter().for_each(|part| part.collect(all));
            }
            Expr::Term(_, term) => term,
        };
        let mut add = |takes: Takes| {
            if !all.contains(&takes) {
                all.push(takes);
            }
        };
        match term {
            Term::Netns(_) => add(("netns", Abilities::NETNS)),
            Term::Cgroup(_) => add(("cgroup", Abilities::CGROUP)),
            Term::Container(_) => add(("container", Abilities::CGROUP)),
            Term::State(states) | Term::To(states)
                if *states == States::default().and(State::TimeWait) =>
            {
                add(("time-wait", Abilities::TIME_WAIT));
            }
            Term::Measure(Measure::Rtt, ..) => add(("rtt", Abilities::RTT | Abilities::DESTROYS)),
            Term::Measure(Measure::Bytes, ..) => {
                let either = Abilities::BYTES_SENT | Abilities::BYTES_RECEIVED;
                add(("bytes", either | Abilities::DESTROYS));
            }
            Term::Cause(causes) => {
                let has = |cause: &&Cause| causes >> **cause as u8 & 1 == 1;
                for cause in Cause::ALL.iter().filter(has) {
                    add((cause.name(), of_cause(*cause)));
                }
            }
            _ => {}
        }
        all.retain(|(_, takes)| !takes.is_empty());
    }
}

/// What tells a cause: see [`crate::lifecycle`].
fn of_cause(cause: Cause) -> Abilities {
    match cause {
        Cause::GivenUp | Cause::TimedOut | Cause::Unreachable | Cause::Aborted => {
            Abilities::SOCKET_ERROR
        }
        Cause::Refused | Cause::ResetByPeer => {
            Abilities::SOCKET_ERROR | Abilities::RESETS_RECEIVED
        }
        Cause::ResetByUs => Abilities::RESETS_SENT,
        Cause::NeverAccepted => Abilities::SOCKET,
        Cause::ClosedByPeer
        | Cause::ClosedByUs
        | Cause::ClosedByBoth
        | Cause::Duplicate
        | Cause::Unknown => Abilities::empty(),
    }
}
