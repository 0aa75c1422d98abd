//! Names and users of tasks, for events that tell only their ids.
//!
//! Contract: names follow the records that perf writes where a task is made or
//! named, given here in the order of time; those of tasks that were
//! there before are read from /proc at the start. A name is told of a moment
//! only if it is known to be the task's at that very moment: what had to be
//! read later says nothing about before. A user is told of a moment only if a
//! read from before it, of the task or of the one that made it, and one from
//! after it agree, and the task has run no other program in between: the second
//! read is that of [`Tasks::look_ahead`]. Memory is bounded.

use crate::host::proc::{Name, Proc, Status};
use crate::model::event::{COMM_LEN, Task};
use crate::model::recent::Recent;
use crate::model::table::Table;
use crate::perf::Rings;
use crate::perf::record::{Ids, News};
use crate::sys::{self, time};

/// Tasks remembered; twice as many for a time.
const TASKS: usize = 7168;

/// Tasks whose user is read at a time; those beyond have none.
const READS: usize = 128;

/// How long to wait before reading again what could not be read, in nanoseconds.
const RETRY: u64 = 100_000_000;

const NEVER: u64 = u64::MAX;

/// What is known of a task; times are of CLOCK_MONOTONIC in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Known {
    name: Name,
    /// From when on it has this name; [`NEVER`] where it isn't known.
    since: u64,
    /// Older news are in it already.
    news_from: u64,
    /// When to read again a name that could not be read.
    retry: u64,
    user: Option<User>,
    /// When the user was last read, or tried to be.
    asked: u64,
}

/// A user that was read at two times, and not seen to be another one between.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    /// When the first read was over.
    first: u64,
    /// When the last one began; the same where there was only one.
    last: u64,
}

const NOTHING: Known = Known {
    name: [0; COMM_LEN],
    since: NEVER,
    news_from: 0,
    retry: 0,
    user: None,
    asked: 0,
};

/// All tasks.
#[derive(Debug)]
pub(crate) struct Tasks {
    proc: Option<Proc>,
    known: Recent<Known>,
    /// What was read ahead.
    reads: Table<Read>,
    /// When tasks will be seen to run another program, the last time each.
    execs: Table<u64>,
    /// Whether all of these are known.
    all_execs: bool,
}

/// A `status` file, and when reading it began and was over.
#[derive(Clone, Copy, Debug)]
struct Read {
    status: Option<Status>,
    before: u64,
    after: u64,
}

impl Tasks {
    fn new(proc: Option<Proc>) -> Tasks {
        Tasks {
            proc,
            known: Recent::new(TASKS),
            reads: Table::default(),
            execs: Table::default(),
            all_execs: false,
        }
    }

    /// Reads the names and users of all tasks that are there. What becomes of
    /// tasks must already be recorded.
    pub(crate) fn open() -> Tasks {
        let mut tasks = Tasks::new(Proc::open());
        if let Some(proc) = tasks.proc.take() {
            let mut room = TASKS;
            proc.threads(&mut |tid| {
                tasks.known.insert(tid.into(), read(&proc, tid));
                room -= 1;
                room > 0
            });
            tasks.proc = Some(proc);
        }
        tasks
    }

    /// The /proc that is read.
    pub(crate) fn proc(&self) -> Option<&Proc> {
        self.proc.as_ref()
    }

    /// From here on a helper reads /proc; see [`Proc::hand_over`]. Where that
    /// fails, nothing is read any more.
    pub(crate) fn hand_over(&mut self) -> sys::Result<()> {
        let handed = self.proc.as_mut().map_or(Ok(()), Proc::hand_over);
        self.proc.take_if(|_| handed.is_err());
        handed
    }

    /// Reads the users of the tasks whose samples are older than `until`, each once, and then
    /// looks which will run another program until now.
    pub(crate) fn look_ahead(&mut self, rings: &Rings, until: u64) {
        self.reads.clear();
        self.execs.clear();
        let (reads, proc) = (&mut self.reads, self.proc.as_ref());
        rings.tasks_ahead(until, &mut |ids| {
            let full = reads.len() >= READS;
            if full || reads.has(ids.tid) || is_out_of_sight(ids) {
                return;
            }
            let before = time::monotonic();
            let status = proc.and_then(|proc| proc.status(ids.tid));
            let after = time::monotonic();
            let read = Read {
                status,
                before,
                after,
            };
            reads.insert(ids.tid, read);
        });
        let execs = &mut self.execs;
        self.all_execs = reads.is_empty()
            || rings.execs_ahead(&mut |ids, time| {
                let last = execs.entry(ids.tid);
                *last = time.max(*last);
            });
    }

    /// Takes what became of a task at `time`.
    pub(crate) fn observe(&mut self, time: u64, news: &News) {
        let fresh = Known {
            news_from: time,
            ..NOTHING
        };
        match *news {
            News::Comm { task, comm, exec } => {
                let key = task.tid.into();
                let old = self.known.get(key).copied().unwrap_or(fresh);
                if time >= old.news_from {
                    let mut known = Known {
                        name: comm,
                        since: time,
                        ..old
                    };
                    if exec {
                        known.user = None;
                        known.news_from = time;
                    }
                    self.known.insert(key, known);
                }
            }
            News::Fork { task, parent } => {
                let mut child = fresh;
                if let Some(parent) = self.known.get(parent.tid.into()) {
                    if parent.since <= time {
                        (child.name, child.since) = (parent.name, time);
                    }
                    // It is made with its maker's user.
                    let user = parent.user.filter(|user| user.first <= time);
                    child.user = user.map(|user| User {
                        last: user.last.min(time),
                        ..user
                    });
                }
                // A task that has ended is no news: it may still close its
                // sockets, and its number is taken over by another one's fork.
                let older = self.known.get(task.tid.into());
                if older.is_none_or(|known| time >= known.news_from) {
                    self.known.insert(task.tid.into(), child);
                }
            }
            News::Exit { .. } => {}
            News::Missing(_) => self.known.clear(),
        }
    }

    /// The task on the CPU at `time`. `host_tid` is its thread id in the initial
    /// PID namespace.
    pub(crate) fn task(&mut self, ids: Ids, host_tid: u32, cpu: u32, time: u64) -> Task {
        let Ids { pid, tid } = ids;
        if host_tid == 0 {
            return idle(cpu);
        }
        if is_out_of_sight(ids) {
            return Task::default();
        }
        let (name, uid) = self.look_up(ids, time);
        Task {
            pid,
            tid,
            uid,
            name,
        }
    }

    fn look_up(&mut self, ids: Ids, at: u64) -> (Name, Option<u32>) {
        let none = ([0; COMM_LEN], None);
        let proc = self.proc.as_ref();
        let key = ids.tid.into();
        if self.known.get(key).is_none() {
            self.known.insert(key, NOTHING);
        }
        // Has just been put in, if it was not there.
        let Some(known) = self.known.get(key) else {
            return none;
        };
        if known.since == NEVER && known.retry < at {
            match read_name(proc, ids.tid) {
                Some((before, name, now)) => {
                    (known.name, known.since) = (name, now);
                    known.news_from = known.news_from.max(before);
                }
                None => known.retry = time::monotonic() + RETRY,
            }
        }
        if let Some(read) = self.reads.get(ids.tid).filter(|_| at > known.asked) {
            known.ask(ids.pid, at, read);
        }
        let runs_another = self.execs.get(ids.tid).is_some_and(|exec| *exec >= at);
        let user = known.user.filter(|u| (u.first..=u.last).contains(&at));
        let user = user.filter(|_| self.all_execs && !runs_another);
        let name = match known.since <= at {
            true => known.name,
            false => none.0,
        };
        (name, user.map(|user| user.uid))
    }
}

impl Known {
    /// Takes what was read of its user, for an event at `at` of this process.
    fn ask(&mut self, pid: u32, at: u64, read: &Read) {
        let status = read.status.filter(|s| s.pid == pid);
        // With another name by now it may be another task, or program. Of a later
        // event, when it has that name, the same read may tell.
        let renamed = |s: &Status| self.since <= at && s.name.is_some_and(|name| name != self.name);
        if status.as_ref().is_some_and(renamed) {
            return;
        }
        self.asked = read.before;
        self.user = status.map(|s| match self.user {
            Some(old) if s.uid == old.uid => User {
                last: read.before,
                ..old
            },
            _ => User {
                uid: s.uid,
                first: read.after,
                last: read.before,
            },
        });
    }
}

/// Gone, or of a PID namespace that ours does not see.
fn is_out_of_sight(Ids { pid, tid }: Ids) -> bool {
    tid == 0 || tid == u32::MAX || pid == 0 || pid == u32::MAX
}

/// Reads a task's name: when the reading began, the name, when it was over.
fn read_name(proc: Option<&Proc>, tid: u32) -> Option<(u64, Name, u64)> {
    let before = time::monotonic();
    let name = proc?.name(tid)?;
    Some((before, name, time::monotonic()))
}

/// Reads a task's name and user, good from now on.
fn read(proc: &Proc, tid: u32) -> Known {
    let before = time::monotonic();
    let status = proc.status(tid);
    let name = status.and_then(|s| s.name).or_else(|| proc.name(tid));
    let now = time::monotonic();
    let user = status.map(|s| User {
        uid: s.uid,
        first: now,
        last: before,
    });
    let read = Known {
        news_from: before,
        user,
        ..NOTHING
    };
    match name {
        Some(name) => Known {
            name,
            since: now,
            ..read
        },
        None => Known {
            retry: now.saturating_add(RETRY),
            ..read
        },
    }
}

/// The idle task of a CPU (kernel/sched/core.c, init_idle).
fn idle(cpu: u32) -> Task {
    let mut name = [0; COMM_LEN];
    let text = format!("swapper/{cpu}");
    let len = text.len().min(COMM_LEN - 1);
    name[..len].copy_from_slice(&text.as_bytes()[..len]);
    Task {
        pid: 0,
        tid: 0,
        uid: Some(0),
        name,
    }
}

#[cfg(test)]
mod tests;
