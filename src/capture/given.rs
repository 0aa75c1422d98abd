//! What this host gives a run: each ability with yes or no, and why not.
//!
//! Contract: start-up notes, `--check` and what is claimed of a connection are
//! made from this alone. Nothing is said of what was not wanted.

use crate::error::Error;
use crate::model::ability::Abilities;
use crate::model::text::cut;

/// What there is, and why the rest is not.
#[derive(Clone, Debug, Default)]
pub struct Given {
    has: Abilities,
    lacks: Vec<(Abilities, Error)>,
}

impl Given {
    /// There is this.
    pub(super) fn gain(&mut self, ability: Abilities) {
        self.has |= ability;
    }

    /// There is not, for this reason.
    pub(super) fn lack(&mut self, ability: Abilities, why: Error) {
        self.lacks.push((ability, why));
    }

    /// Either, by how it went.
    pub(super) fn note(&mut self, ability: Abilities, failed: Option<Error>) {
        match failed {
            None => self.gain(ability),
            Some(why) => self.lack(ability, why),
        }
    }

    /// What a connection has counted is not told when its socket is destroyed either,
    /// for this reason, which is the last.
    pub(super) fn no_counters(&mut self, why: Error) {
        let why = match why.is_limit() {
            true => why,
            false => why.advise("it takes BTF, or Linux 4.18 or later"),
        };
        let mut lacks = self.lacks.iter_mut();
        if let Some((_, last)) = lacks.find(|(of, _)| *of == Abilities::COUNTERS) {
            *last = why;
        }
    }

    /// All that there is.
    pub fn abilities(&self) -> Abilities {
        self.has
    }

    /// Whether there is all of this.
    pub fn has(&self, ability: Abilities) -> bool {
        self.has.contains(ability)
    }

    /// Why there is not; `None` also for what was not wanted.
    pub fn why_not(&self, ability: Abilities) -> Option<&Error> {
        let mut lacks = self.lacks.iter();
        lacks.find(|(of, _)| *of == ability).map(|(_, error)| error)
    }

    /// All that there is not, and why.
    pub fn lacks(&self) -> impl Iterator<Item = &(Abilities, Error)> {
        self.lacks.iter()
    }

    /// What is missing only because a limit was reached, a line for each limit:
    /// nobody would look for it. Rings have a note of their own.
    pub(super) fn short_of(&self) -> Vec<String> {
        let mut lines: Vec<(String, String)> = Vec::new();
        let others = self.lacks().filter(|(of, _)| *of != Abilities::RINGS);
        for (ability, why) in others.filter(|(_, why)| why.is_limit()) {
            let why = why.to_string();
            let mut last = why.as_str();
            while let Some((_, after)) = cut(last, "; ") {
                last = after;
            }
            match lines.iter_mut().find(|(_, other)| other.ends_with(last)) {
                Some((names, _)) => *names += &format!(", {}", ability.name()),
                None => lines.push((ability.name().into(), why)),
            }
        }
        let line = |(names, why)| format!("warning: going on without {names}: {why}");
        lines.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::sys::Errno;

    #[test]
    fn the_last_way_to_the_counters_is_said() {
        let mut given = Given::default();
        let error = |why: &str| Error::new(Kind::Unsupported, why);
        given.lack(Abilities::COUNTERS, error("no BTF"));
        given.no_counters(error("no cookie"));
        let said = given.why_not(Abilities::COUNTERS).map(Error::to_string);
        let last = "no cookie; it takes BTF, or Linux 4.18 or later";
        assert_eq!(said.as_deref(), Some(last));
    }

    #[test]
    fn only_limits_are_said_and_each_once() {
        let error = |why: &str| Error::new(Kind::Runtime, why);
        let mut given = Given::default();
        for (ability, why) in [
            (Abilities::SYNACKS, error("a").or_limit(Errno::EMFILE)),
            (Abilities::NETNS, error("this kernel has none")),
            (Abilities::RESETS_SENT, error("b").or_limit(Errno::EMFILE)),
            (Abilities::ACCEPTS, error("c").or_limit(Errno::ENOMEM)),
            (Abilities::READS, error("d").or_limit(Errno::EPERM)),
        ] {
            given.lack(ability, why);
        }
        let said = given.short_of();
        let [files, memory] = &said[..] else {
            panic!("{said:?}");
        };
        let start = "warning: going on without retransmitted SYN+ACKs, resets sent: a; raise";
        assert!(files.starts_with(start), "{files}");
        assert!(
            memory.starts_with("warning: going on without who accepts: c; "),
            "{memory}"
        );
        assert!(given.why_not(Abilities::NETNS).is_some());
        assert!(given.why_not(Abilities::PARENT).is_none());
    }

    /// Whatever may be missing has a name of its own.
    #[test]
    fn names() {
        let mut names: Vec<&str> = Vec::new();
        for ability in [
            Abilities::RINGS,
            Abilities::COUNTERS,
            Abilities::ACCEPTS,
            Abilities::LOCK,
            Abilities::MISSES,
        ] {
            assert!(!names.contains(&ability.name()));
            names.push(ability.name());
        }
        assert_eq!(Abilities::USERS.name(), "details");
    }
}
