//! Which processes there are: what perf's records and /proc tell of them.
//!
//! Contract: times are of CLOCK_MONOTONIC in nanoseconds, and what is taken
//! comes in the order of time. A process is known by its id and when it was
//! born: an id that is used again is another process. Whatever is told is so at
//! the time of the last thing taken, or it is said not to be known: where
//! records were lost or found no room here, and in another PID namespace. What
//! was lost once is learned again. One that has ended is kept as long as it has
//! living descendants, so that these are known to be its own. Memory is bounded.

mod seed;
mod tree;

use crate::event::Task;
pub use crate::lineage::Descendants;
use crate::lineage::Lineage;
use crate::perf::record::{Ids, News, Topic};
use crate::proc::Name;
use crate::recent::Recent;
use std::collections::HashMap;
use tree::{Index, Tree};

/// Living processes known at a time.
pub const LIVING: usize = 65536;
/// Ended ones with living descendants.
const ENDED: usize = 16384;
/// Threads that have ended and are remembered, at least: one that is ending
/// still closes what it has open.
const EXITED: usize = 4096;
/// Processes looked at for one question about descendants.
const STEPS: usize = 1024;

const NEVER: u64 = u64::MAX;

/// A process.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: u32,
    /// When it was born, or first seen.
    born: u64,
    /// From when on this id is known to have been this process.
    known_from: u64,
    /// Older records are in what is known of it.
    news_from: u64,
    /// Records until then may be.
    read_until: u64,
    /// When it was last seen to live by something that leaves no doubt.
    seen: u64,
    /// Its living threads, where they could be counted.
    threads: Option<u32>,
    living: bool,
    /// A thread of it has ended and it isn't known whether it was the last.
    doubtful: bool,
    /// It was taken for ended, and ran.
    revived: bool,
    kernel: bool,
    /// The name of its first thread, from `named` on.
    name: Name,
    /// [`NEVER`] where the name isn't known.
    named: u64,
    /// When it last ran another program; 0 where it has not.
    execed: u64,
    /// When it last made a process.
    forked: u64,
    /// The process that had its id before, where that is kept.
    older: Option<Index>,
}

/// All processes.
#[derive(Debug)]
pub struct Processes {
    tree: Tree,
    /// The process that has an id, or had it last.
    by_pid: HashMap<u32, Index>,
    living: usize,
    exited: Recent<u64>,
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
            by_pid: HashMap::new(),
            living: 0,
            exited: Recent::new(EXITED),
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
    /// thread.
    pub fn name(&self, pid: u32) -> Option<Name> {
        let process = self.current(pid)?;
        let known = process.named <= self.now && process.named >= self.names_lost;
        (known && self.is_known(process)).then_some(process.name)
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
        let at = *self.by_pid.get(&pid)?;
        let parent = self.tree.get(self.tree.parent(at)?)?;
        (parent.living && self.is_sure(parent)).then_some(parent.pid)
    }

    /// Whether this id is that of a thread of the kernel.
    pub fn is_kernel_thread(&self, pid: u32) -> bool {
        self.current(pid).is_some_and(|process| process.kernel)
    }

    /// When the process that has this id was born, or first seen.
    pub fn born(&self, pid: u32) -> Option<u64> {
        self.current(pid).map(|process| process.born)
    }

    /// When it ended, where the last process with this id has, and is kept.
    pub fn ended(&self, pid: u32) -> Option<u64> {
        let at = *self.by_pid.get(&pid)?;
        let process = self.tree.get(at)?;
        (!process.living).then_some(process.seen)
    }

    /// Processes that found no room here.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes what became of a task at `time`.
    pub fn observe(&mut self, time: u64, news: &News) {
        if self.blind {
            return;
        }
        self.now = self.now.max(time);
        match *news {
            News::Fork { task, parent } if task.pid == parent.pid => self.thread(time, task),
            News::Fork { task, parent } => self.fork(time, task, parent),
            News::Exit { task } => self.exit(time, task),
            News::Comm { task, comm, exec } => self.comm(time, task, comm, exec),
            News::Missing(Topic::Lives) => {
                self.lost = self.now + 1;
                self.whole_since = self.now + 1;
                self.exited.clear();
            }
            News::Missing(Topic::Names) => self.names_lost = self.now + 1,
        }
    }

    /// Takes that an event came at `time` while this task was on the CPU.
    pub fn ran(&mut self, time: u64, task: &Task) {
        let Task { pid, tid, .. } = *task;
        self.now = self.now.max(time);
        if self.blind || pid == 0 || pid == u32::MAX {
            return;
        }
        let current = self.by_pid.get(&pid).copied();
        let current = current.and_then(|at| self.tree.get_mut(at));
        let sure = |process: &Process, lost| process.living && process.seen >= lost;
        match current {
            Some(process) if sure(process, self.lost) && !process.doubtful => {
                process.seen = process.seen.max(time);
            }
            // It is ending: it may still close what it has open.
            _ if self.exited.get(tid.into()).is_some() => return,
            Some(process) if process.living => {
                if process.seen < self.lost {
                    process.known_from = time;
                    process.threads = None;
                    process.named = NEVER;
                }
                process.seen = process.seen.max(time);
                process.doubtful = false;
            }
            _ => {
                let whole = self.whole_since <= time;
                if let Some(process) = self.insert(pid, time) {
                    process.revived = whole;
                }
            }
        }
        let named = pid == tid && task.name[0] != 0;
        let names_lost = self.names_lost;
        if let Some(process) = self.current_mut(pid).filter(|_| named) {
            if process.named == NEVER || process.named < names_lost {
                (process.name, process.named) = (task.name, time.max(process.news_from));
            }
        }
    }

    fn thread(&mut self, time: u64, task: Ids) {
        self.exited.remove(task.tid.into());
        if is_out_of_sight(task.pid) {
            return;
        }
        let lost = self.lost;
        match self.current_mut(task.pid) {
            Some(process) if time < process.news_from => {}
            Some(process) => {
                if time < process.read_until {
                    // It may be among those that were counted, or not.
                    process.threads = None;
                }
                if process.seen < lost {
                    process.known_from = time;
                    process.threads = None;
                    process.named = NEVER;
                }
                process.threads = process.threads.map(|n| n.saturating_add(1));
                process.seen = process.seen.max(time);
                process.doubtful = false;
            }
            None => {
                self.insert(task.pid, time);
            }
        }
    }

    fn fork(&mut self, time: u64, task: Ids, parent: Ids) {
        self.exited.remove(task.tid.into());
        if is_out_of_sight(task.pid) || task.pid != task.tid {
            return;
        }
        let maker = self.by_pid.get(&parent.pid).copied();
        let maker = maker.filter(|at| self.tree.get(*at).is_some_and(|p| p.living));
        if let Some(process) = self.current_mut(task.pid) {
            if time < process.news_from {
                return;
            }
            // Its end was not seen.
            self.end(task.pid, time);
        }
        let kernel = self.first_namespace && parent.pid == 2;
        let names_lost = self.names_lost;
        let mut name = None;
        if let Some(process) = maker.and_then(|at| self.tree.get_mut(at)) {
            process.forked = process.forked.max(time);
            // It has the name of the thread that made it.
            let known = parent.pid == parent.tid && process.named >= names_lost;
            name = Some(process.name).filter(|_| known && process.named <= time);
        }
        let Some(child) = self.insert(task.pid, time) else {
            return;
        };
        child.threads = Some(1);
        child.kernel = kernel;
        if let Some(name) = name {
            (child.name, child.named) = (name, time);
        }
        if let (Some(maker), Some(&at)) = (maker, self.by_pid.get(&task.pid)) {
            self.tree.attach(at, maker, time);
        }
    }

    fn exit(&mut self, time: u64, task: Ids) {
        self.exited.insert(task.tid.into(), time);
        let lost = self.lost;
        let Some(process) = self.current_mut(task.pid) else {
            return;
        };
        if time < process.news_from.max(process.read_until) {
            // It may have been counted though it was ending: the first thread is
            // as long as the process is there.
            match process.threads {
                Some(1) if task.tid == task.pid && time >= process.born => {}
                Some(1) => return,
                _ => process.threads = None,
            }
        }
        if process.seen < lost {
            process.threads = None;
        }
        match process.threads {
            Some(0 | 1) => self.end(task.pid, time),
            Some(threads) => process.threads = Some(threads - 1),
            None => process.doubtful = true,
        }
    }

    fn comm(&mut self, time: u64, task: Ids, comm: Name, exec: bool) {
        if is_out_of_sight(task.pid) {
            return;
        }
        if exec {
            // All other threads have ended before, the first one too, whose id
            // it has now (fs/exec.c, de_thread).
            self.exited.remove(task.tid.into());
            let lost = self.lost;
            let process = match self.current_mut(task.pid) {
                Some(process) if time < process.news_from => return,
                Some(process) => Some(process),
                None => self.insert(task.pid, time),
            };
            if let Some(process) = process {
                if process.seen < lost {
                    process.known_from = time;
                }
                process.threads = Some(1);
                process.seen = process.seen.max(time);
                process.execed = time;
                process.doubtful = false;
                process.revived = false;
                process.kernel = false;
            }
        }
        if task.pid == task.tid {
            if let Some(process) = self.current_mut(task.pid) {
                if time >= process.news_from {
                    (process.name, process.named) = (comm, time);
                }
            }
        }
    }

    /// The process that had an id at a time.
    fn holder(&self, pid: u32, since: u64) -> Holder {
        if self.blind {
            return Holder::Unknown;
        }
        let mut next = self.by_pid.get(&pid).copied();
        while let Some(at) = next {
            let Some(process) = self.tree.get(at) else {
                break;
            };
            if process.living && !self.is_known(process) && since >= self.lost {
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

    fn current(&self, pid: u32) -> Option<&Process> {
        let process = self.tree.get(*self.by_pid.get(&pid)?)?;
        process.living.then_some(process)
    }

    fn current_mut(&mut self, pid: u32) -> Option<&mut Process> {
        let process = self.tree.get_mut(*self.by_pid.get(&pid)?)?;
        process.living.then_some(process)
    }

    /// Whether a process that lives is known to be the one it was.
    fn is_known(&self, process: &Process) -> bool {
        process.seen >= self.lost
    }

    /// Whether it is known to live.
    fn is_sure(&self, process: &Process) -> bool {
        let revived = process.revived && process.seen < self.now;
        self.is_known(process) && !process.doubtful && !revived
    }

    /// A new process with this id; `None` where there is no room.
    fn insert(&mut self, pid: u32, time: u64) -> Option<&mut Process> {
        if self.living >= LIVING {
            self.refused += 1;
            self.whole_since = self.whole_since.max(self.now.max(time) + 1);
            return None;
        }
        let older = self.by_pid.get(&pid).copied();
        let at = self.tree.add(Process {
            pid,
            born: time,
            known_from: time,
            news_from: time,
            read_until: 0,
            seen: time,
            threads: None,
            living: true,
            doubtful: false,
            revived: false,
            kernel: false,
            name: Name::default(),
            named: NEVER,
            execed: 0,
            forked: 0,
            older: older.filter(|at| self.tree.get(*at).is_some()),
        });
        self.living += 1;
        self.by_pid.insert(pid, at);
        self.tree.get_mut(at)
    }

    /// The process that has this id ends.
    fn end(&mut self, pid: u32, time: u64) {
        let Some(&at) = self.by_pid.get(&pid) else {
            return;
        };
        match self.tree.get_mut(at) {
            Some(process) if process.living => {
                process.living = false;
                process.seen = process.seen.max(time);
                self.living -= 1;
            }
            _ => return,
        }
        let mut gone = Vec::new();
        self.tree.end(at, &mut |at, process, forced| {
            gone.push((at, process.pid, process.older));
            if forced {
                self.forgotten = self.forgotten.max(process.seen + 1);
            }
        });
        for (at, pid, older) in gone {
            self.forget(at, pid, older);
        }
    }

    /// A process is no longer kept: the others that had its id still are.
    fn forget(&mut self, gone: Index, pid: u32, older: Option<Index>) {
        let Some(&top) = self.by_pid.get(&pid) else {
            return;
        };
        if top == gone {
            match older {
                Some(older) => self.by_pid.insert(pid, older),
                None => self.by_pid.remove(&pid),
            };
            return;
        }
        let mut next = Some(top);
        while let Some(process) = next.and_then(|at| self.tree.get_mut(at)) {
            if process.older == Some(gone) {
                process.older = older;
                return;
            }
            next = process.older;
        }
    }
}

impl Lineage for Processes {
    fn follows(&self) -> bool {
        !self.blind
    }
    fn lives(&self, pid: u32, since: u64) -> Option<bool> {
        Processes::lives(self, pid, since)
    }
    fn descendants(&self, pid: u32, since: u64) -> Descendants {
        Processes::descendants(self, pid, since)
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
}

/// Who had an id at a time.
enum Holder {
    /// A process that is kept.
    Is(Index),
    /// One that has ended, and has no descendants.
    Gone,
    Unknown,
}

/// The idle task, and what another PID namespace does not see.
fn is_out_of_sight(pid: u32) -> bool {
    pid == 0 || pid == u32::MAX
}

#[cfg(test)]
mod tests;
