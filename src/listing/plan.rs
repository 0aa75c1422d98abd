//! Which programs a run would load, and what each may use: what
//! [`crate::capture::attach`] does, without doing it.

use crate::bpf_link::{Linked, Template};
use crate::capture::Transport;
use crate::capture::attach::{OPTIONAL, READS, REQUIRED};
use crate::model::ability::Abilities;
use crate::programs::{self, Name};

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A tracepoint's record.
    Record,
    /// A tracepoint's arguments.
    Arguments,
    /// A function's return.
    Return,
    /// The tracepoints of the others, raw.
    Every,
}

/// A program that a run would load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// Which.
    pub(super) name: Name,
    /// What for.
    pub(super) subject: Subject,
    /// What it may use.
    pub(super) may: Abilities,
    /// Whether it may use members of kernel structures.
    pub(super) members: bool,
    /// Whether there is no run without it.
    pub(super) required: bool,
}

/// A program that is linked.
pub(super) struct Program {
    /// What was assembled.
    pub(super) template: Template,
    /// Its instructions there.
    pub(super) linked: Linked,
    /// What it is for.
    pub(super) subject: Subject,
    /// Its listing.
    pub(super) text: String,
    /// The program that it goes on to, where it does nothing else.
    pub(super) before: Option<String>,
}

impl Program {
    /// What its file is called: there are several doors.
    pub(super) fn file(&self) -> String {
        let name = &self.template.name;
        match &self.before {
            Some(behind) => format!("{name}.{behind}.o"),
            None => format!("{name}.o"),
        }
    }
}

/// What decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    /// The way.
    pub(super) way: Transport,
    /// Whether members of kernel structures are known, and may be read.
    pub(super) members: bool,
    /// [`Abilities::LOADS`], where they are read by loads from a record's program, too.
    pub(super) loads: Abilities,
    /// Whether all counters of a connection are among them.
    pub(super) counters: bool,
    /// Whether the kernel counts what it keeps from the programs.
    pub(super) counts: bool,
}

/// All of them, in the order in which they are loaded.
pub(super) fn plan(given: Given, wants: Abilities) -> Vec<Planned> {
    let (which, subject) = match given.way {
        Transport::Tracepoint => (0, Subject::Record),
        Transport::Btf => (1, Subject::Arguments),
        Transport::Perf => return Vec::new(),
    };
    let by_record = subject == Subject::Record;
    let counts = match by_record {
        true if !given.counts => Abilities::MISSES,
        true => wants & Abilities::MISSES,
        false => Abilities::empty(),
    };
    let wanted = wants & (Abilities::LOCK | Abilities::ON_CPU | Abilities::HELD);
    let mut may = counts | Abilities::CGROUP | wanted;
    if by_record {
        may |= Abilities::USERS | given.loads;
    }
    let one = |name, subject, required| Planned {
        name,
        subject,
        may,
        members: given.members,
        required,
    };
    let mut all: Vec<Planned> = REQUIRED
        .iter()
        .map(|pair| one(pair[which], subject, true))
        .collect();
    all.extend(
        OPTIONAL
            .iter()
            .map(|(_, pair)| one(pair[which], subject, false)),
    );
    if wants.contains(Abilities::ACCEPTS) && given.members {
        all.push(one(programs::ACCEPT, Subject::Return, false));
    }
    if wants.contains(Abilities::READS) {
        let by_arguments = given.members && wants.contains(Abilities::LOCK);
        all.push(match by_record && by_arguments {
            true => one(READS[1], Subject::Arguments, false),
            false => one(READS[which], subject, false),
        });
    }
    if by_record && !given.counters {
        let bare = one(programs::DESTROY, Subject::Record, false);
        all.push(Planned {
            may: counts,
            members: false,
            ..bare
        });
    }
    if !counts.is_empty() {
        let bare = one(programs::COUNT, Subject::Every, false);
        all.push(Planned {
            may: Abilities::empty(),
            members: false,
            ..bare
        });
    }
    all
}
