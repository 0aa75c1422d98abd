//! What a record or an event tells of a process.

use super::process::{Index, NEVER, Process};
use super::{LIVING, Processes};
use crate::host::proc::Name;
use crate::model::event::Task;
use crate::perf::record::{Ids, News, Topic};

impl Processes {
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
                self.parted.clear();
            }
            News::Missing(Topic::Names) => {
                self.names_lost = self.now + 1;
                self.parted.clear();
            }
        }
    }

    /// Takes that an event came at `time` while this task was on the CPU.
    #[inline]
    pub fn ran(&mut self, time: u64, task: &Task) {
        let Task { pid, tid, .. } = *task;
        self.now = self.now.max(time);
        if self.blind || pid == 0 || pid == u32::MAX {
            return;
        }
        let named = pid == tid && task.name[0] != 0;
        let current = self.by_pid.get(pid);
        let current = current.and_then(|at| self.tree.get_mut(at));
        let sure = |process: &Process, lost| process.living && process.seen >= lost;
        match current {
            Some(process) if sure(process, self.lost) && !process.doubtful => {
                process.seen = process.seen.max(time);
                let known = process.named != NEVER && process.named >= self.names_lost;
                // As nearly always: no more is to be learned.
                if known || !named {
                    return;
                }
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
        let maker = self.by_pid.get(parent.pid);
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
        if let (Some(maker), Some(at)) = (maker, self.by_pid.get(task.pid)) {
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

    /// A new process with this id; `None` where there is no room.
    pub(super) fn insert(&mut self, pid: u32, time: u64) -> Option<&mut Process> {
        self.parted.remove(pid.into());
        if self.living >= LIVING {
            self.refused += 1;
            self.whole_since = self.whole_since.max(self.now.max(time) + 1);
            return None;
        }
        let older = self.by_pid.get(pid);
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
        let Some(at) = self.by_pid.get(pid) else {
            return;
        };
        if let Some(name) = self.name(pid) {
            self.parted.insert(pid.into(), name);
        }
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
        let Some(top) = self.by_pid.get(pid) else {
            return;
        };
        if top == gone {
            match older {
                Some(older) => self.by_pid.insert(pid, older),
                None => self.by_pid.remove(pid),
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

/// The idle task, and what another PID namespace does not see.
fn is_out_of_sight(pid: u32) -> bool {
    pid == 0 || pid == u32::MAX
}
