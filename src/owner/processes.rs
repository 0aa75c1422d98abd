//! Which processes there are: what perf's records and /proc tell of them.
//!
//! Contract: times are of CLOCK_MONOTONIC in nanoseconds, and what is taken
//! comes in the order of time. A process is known by its id and when it was
//! born: an id that is used again is another process. Whatever is told is so at
//! the time of the last thing taken, or it is said not to be known: where
//! records were lost or found no room here, and in another PID namespace. What
//! was lost once is learned again. One that has ended is kept as long as it has
//! living descendants, so that these are known to be its own. Memory is bounded.

mod learn;
mod process;
mod seed;
mod tree;

use crate::host::proc::Name;
use crate::model::lately::Lately;
use crate::model::recent::Recent;
use crate::model::table::Table;
pub use crate::owner::lineage::Descendants;
use crate::owner::lineage::{Lineage, Standing};
use process::{Index, NEVER, Process};
use tree::Tree;

/// Living processes known at a time.
pub const LIVING: usize = 65536;
/// Ended ones with living descendants.
const ENDED: usize = 16384;
/// Threads that have ended and are remembered, at least: one that is ending
/// still closes what it has open.
const EXITED: usize = 4096;
/// Processes that have ended and whose names are remembered, at least: their
/// records end before they close what they have open (v6.18 kernel/exit.c,
/// do_exit()).
const PARTED: usize = 1024;
/// Processes looked at for one question about descendants.
const STEPS: usize = 1024;

/// All processes.
#[derive(Debug)]
pub struct Processes {
    tree: Tree,
    /// The process that has an id, or had it last.
    by_pid: Lately<u32, Table<Index>, 16>,
    living: usize,
    exited: Recent<u64>,
    /// The names of processes that have ended, and whose ids nobody has since.
    parted: Recent<Name>,
    /// Whether records mean nothing here: another PID namespace.
    blind: bool,
    /// Whether ids are the kernel's own.
    first_namespace: bool,
    /// The time of the last thing taken.
    now: u64,
    /// From when on everything that lives is known; [`NEVER`] where it isn't.
    whole_since: u64,
    /// Of what ended before, not all is kept that has descendants.
    forgotten: u64,
    /// When records of lives, and of names, were last missing.
    lost: u64,
    names_lost: u64,
    refused: u64,
}

impl Processes {
    /// A table of nothing, which knows nothing. `blind`: nor will it learn.
    pub fn empty(blind: bool) -> Processes {
        Processes {
            tree: Tree::new(ENDED),
            by_pid: Lately::default(),
            living: 0,
            exited: Recent::new(EXITED),
            parted: Recent::new(PARTED),
            blind,
            first_namespace: false,
            now: 0,
            whole_since: NEVER,
            forgotten: 0,
            lost: 0,
            names_lost: 0,
            refused: 0,
        }
    }

    /// A table of nobody, as if nobody lived when it was made at 0.
    #[cfg(test)]
    pub fn unseeded() -> Processes {
        Processes {
            first_namespace: true,
            whole_since: 0,
            ..Processes::empty(false)
        }
    }

    /// Whether the process that had this id at `since` still lives.
    #[inline]
    pub fn lives(&self, pid: u32, since: u64) -> Option<bool> {
        match self.holder(pid, since) {
            Holder::Is(at) => {
                let process = self.tree.get(at)?;
                match process.living {
                    false => Some(false),
                    true if self.is_sure(process) => Some(true),
                    true => None,
                }
            }
            Holder::Gone => Some(false),
            Holder::Unknown => None,
        }
    }

    /// The living processes that descend from the one that had this id at
    /// `since`, by a child that was born then or later.
    pub fn descendants(&self, pid: u32, since: u64) -> Descendants {
        if since < self.whole_since {
            return Descendants::Unknown;
        }
        let at = match self.holder(pid, since) {
            Holder::Is(at) => at,
            Holder::Gone if since >= self.forgotten => return Descendants::None,
            Holder::Gone => return Descendants::Unknown,
            Holder::Unknown => return Descendants::Unknown,
        };
        match self.tree.get(at) {
            Some(process) if process.forked >= since => self.walk(at, since),
            Some(_) => Descendants::None,
            None => Descendants::Unknown,
        }
    }

    /// Whether the process that has this id is the one that had the id `top` at
    /// `since`, or descends from it.
    pub fn descends(&self, pid: u32, top: u32, since: u64) -> Option<bool> {
        let top = match self.holder(top, since) {
            Holder::Is(at) => at,
            Holder::Gone if since >= self.forgotten => return Some(false),
            Holder::Gone | Holder::Unknown => return None,
        };
        let mut at = self.by_pid.get(pid)?;
        for _ in 0..STEPS {
            if at == top {
                return Some(true);
            }
            match self.tree.parent(at) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        // All descend from the first process, or from the kernel's threads' maker.
        let root = self.tree.get(at)?;
        matches!(root.pid, 1 | 2).then_some(false)
    }

    fn walk(&self, top: Index, since: u64) -> Descendants {
        let mut found = None;
        let mut steps = 0;
        let mut next = self.tree.first_child(top);
        while let Some(at) = next {
            // The younger ones come first.
            if self.tree.parent(at) == Some(top) && self.tree.branched(at) < since {
                break;
            }
            let Some(process) = self.tree.get(at) else {
                return Descendants::Unknown;
            };
            steps += 1;
            if steps > STEPS || process.living && !self.is_sure(process) {
                return Descendants::Unknown;
            }
            if process.living && found.replace((process.pid, process.born)).is_some() {
                return Descendants::Several;
            }
            next = self.tree.after(at, top);
        }
        found.map_or(Descendants::None, |(pid, born)| {
            Descendants::Only(pid, born)
        })
    }

    /// The name of the process that has this id, which is that of its first
    /// thread; where it has just ended, the one it had.
    pub fn name(&self, pid: u32) -> Option<Name> {
        let Some(process) = self.current(pid) else {
            return self.parted.peek(pid.into()).copied();
        };
        self.is_named(process).then_some(process.name)
    }

    /// Since when the process that has this id has its name.
    pub fn named_since(&self, pid: u32) -> Option<u64> {
        self.name(pid)?;
        self.current(pid).map(|process| process.named)
    }

    /// Whether the process that has this id has run another program since
    /// `since`.
    pub fn execed_since(&self, pid: u32, since: u64) -> Option<bool> {
        let process = self.current(pid)?;
        let known = since >= process.known_from.max(self.names_lost).max(self.lost);
        match process.execed >= since && process.execed > 0 {
            true => Some(true),
            false => known.then_some(false),
        }
    }

    /// The process that made the one that has this id, while it lives.
    pub fn parent(&self, pid: u32) -> Option<u32> {
        let at = self.by_pid.get(pid)?;
        let parent = self.tree.get(self.tree.parent(at)?)?;
        (parent.living && self.is_sure(parent)).then_some(parent.pid)
    }

    /// Whether this id is that of a thread of the kernel.
    pub fn is_kernel_thread(&self, pid: u32) -> bool {
        self.current(pid).is_some_and(|process| process.kernel)
    }

    /// Whether this id is that of a thread of the kernel, and its name.
    #[inline]
    pub fn called(&self, pid: u32) -> (bool, Option<Name>) {
        match self.current(pid) {
            Some(process) => (
                process.kernel,
                self.is_named(process).then_some(process.name),
            ),
            None => (false, self.name(pid)),
        }
    }

    /// All of these, of most processes by one look.
    #[inline]
    pub fn standing(&self, pid: u32) -> Standing {
        let at = self
            .by_pid
            .get(pid)
            .and_then(|at| self.tree.with_parent(at));
        match at {
            Some((process, parent)) if process.living => Standing {
                kernel: process.kernel,
                parent: parent.and_then(|p| (p.living && self.is_sure(p)).then_some(p.pid)),
                name: self.is_named(process).then_some(process.name),
            },
            _ => Standing {
                kernel: false,
                parent: self.parent(pid),
                name: self.name(pid),
            },
        }
    }

    /// When the process that has this id was born, or first seen.
    pub fn born(&self, pid: u32) -> Option<u64> {
        self.current(pid).map(|process| process.born)
    }

    /// When it ended, where the last process with this id has, and is kept.
    pub fn ended(&self, pid: u32) -> Option<u64> {
        let at = self.by_pid.get(pid)?;
        let process = self.tree.get(at)?;
        (!process.living).then_some(process.seen)
    }

    /// Processes that found no room here.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The process that had an id at a time.
    #[inline]
    fn holder(&self, pid: u32, since: u64) -> Holder {
        if self.blind {
            return Holder::Unknown;
        }
        let mut next = self.by_pid.get(pid);
        while let Some(at) = next {
            let Some(process) = self.tree.get(at) else {
                break;
            };
            if process.living && !self.is_known(process) && since >= self.lost {
                return Holder::Unknown;
            }
            // After its end the id may be another one's that was never seen.
            if !process.living && since > process.seen && self.whole_since > process.seen {
                return Holder::Unknown;
            }
            if process.known_from <= since {
                return Holder::Is(at);
            }
            if process.born <= since {
                return Holder::Unknown;
            }
            next = process.older;
        }
        match since >= self.whole_since {
            true => Holder::Gone,
            false => Holder::Unknown,
        }
    }

    #[inline]
    fn current(&self, pid: u32) -> Option<&Process> {
        let process = self.tree.get(self.by_pid.get(pid)?)?;
        process.living.then_some(process)
    }

    fn current_mut(&mut self, pid: u32) -> Option<&mut Process> {
        let process = self.tree.get_mut(self.by_pid.get(pid)?)?;
        process.living.then_some(process)
    }

    /// Whether the name of a process that lives is known.
    #[inline]
    fn is_named(&self, process: &Process) -> bool {
        let known = process.named <= self.now && process.named >= self.names_lost;
        known && self.is_known(process)
    }

    /// Whether a process that lives is known to be the one it was.
    #[inline]
    fn is_known(&self, process: &Process) -> bool {
        process.seen >= self.lost
    }

    /// Whether it is known to live.
    #[inline]
    fn is_sure(&self, process: &Process) -> bool {
        let revived = process.revived && process.seen < self.now;
        self.is_known(process) && !process.doubtful && !revived
    }
}

impl Lineage for Processes {
    #[inline]
    fn follows(&self) -> bool {
        !self.blind
    }
    #[inline]
    fn lives(&self, pid: u32, since: u64) -> Option<bool> {
        Processes::lives(self, pid, since)
    }
    fn descendants(&self, pid: u32, since: u64) -> Descendants {
        Processes::descendants(self, pid, since)
    }
    fn descends(&self, pid: u32, top: u32, since: u64) -> Option<bool> {
        Processes::descends(self, pid, top, since)
    }
    fn name(&self, pid: u32) -> Option<Name> {
        Processes::name(self, pid)
    }
    fn parent(&self, pid: u32) -> Option<u32> {
        Processes::parent(self, pid)
    }
    fn is_kernel_thread(&self, pid: u32) -> bool {
        Processes::is_kernel_thread(self, pid)
    }
    #[inline]
    fn called(&self, pid: u32) -> (bool, Option<Name>) {
        Processes::called(self, pid)
    }
    #[inline]
    fn standing(&self, pid: u32) -> Standing {
        Processes::standing(self, pid)
    }
}

/// Who had an id at a time.
enum Holder {
    /// A process that is kept.
    Is(Index),
    /// One that has ended, and has no descendants.
    Gone,
    Unknown,
}

#[cfg(test)]
mod tests;
