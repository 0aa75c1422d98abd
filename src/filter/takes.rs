//! What of an expression is not told on every host.
//!
//! Contract: each word is named once. What isn't told is no match, so that an expression of
//! such words shows nothing, or everything: whoever lacks an ability says so.

use super::tree::{Expr, Measure, States, Term};
use crate::model::ability::Abilities;
use crate::model::cause::Cause;
use crate::model::tcp::State;

impl Expr {
    /// The words in it that can't be told where there are these abilities, with what each
    /// takes: one of that is enough.
    pub(crate) fn untold(&self, has: Abilities) -> Vec<(&'static str, Abilities)> {
        let mut all = Vec::new();
        self.add_untold(has, &mut all);
        all
    }

    fn add_untold(&self, has: Abilities, all: &mut Vec<(&'static str, Abilities)>) {
        let mut add = |word, takes: Abilities| {
            let missing = !takes.is_empty() && !takes.intersects(has);
            if missing && all.iter().all(|(known, _)| *known != word) {
                all.push((word, takes));
            }
        };
        match self {
            Expr::And(parts) | Expr::Or(parts) => {
                parts.iter().for_each(|part| part.add_untold(has, all));
            }
            Expr::Term(_, Term::Netns(_)) => add("netns", Abilities::NETNS),
            Expr::Term(_, Term::Cgroup(_)) => add("cgroup", Abilities::CGROUP),
            Expr::Term(_, Term::Container(_)) => add("container", Abilities::CGROUP),
            Expr::Term(_, Term::State(states) | Term::To(states))
                if *states == States::default().and(State::TimeWait) =>
            {
                add("time-wait", Abilities::TIME_WAIT);
            }
            Expr::Term(_, Term::Measure(Measure::Rtt, ..)) => {
                add("rtt", Abilities::RTT | Abilities::DESTROYS);
            }
            Expr::Term(_, Term::Measure(Measure::Bytes, ..)) => {
                add("bytes", Abilities::COUNTERS | Abilities::DESTROYS);
            }
            Expr::Term(_, Term::Cause(causes)) => {
                for cause in Cause::ALL {
                    if causes >> cause as u8 & 1 == 1 {
                        add(cause.name(), of_cause(cause));
                    }
                }
            }
            _ => {}
        }
    }
}

/// What tells a cause (`src/lifecycle/cause.rs`).
fn of_cause(cause: Cause) -> Abilities {
    match cause {
        Cause::GivenUp | Cause::Unreachable | Cause::Aborted => Abilities::SOCKET_ERROR,
        Cause::TimedOut => Abilities::SOCKET_ERROR | Abilities::RESET_REASONS,
        Cause::Refused | Cause::ResetByPeer => Abilities::SOCKET_ERROR | Abilities::RESETS_RECEIVED,
        Cause::ResetByUs => Abilities::RESETS_SENT,
        Cause::NeverAccepted => Abilities::SOCKET,
        _ => Abilities::empty(),
    }
}
