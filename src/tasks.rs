//! Names and users of tasks, for events that tell only their ids.
//!
//! Contract: names follow the records that perf writes where a task is made,
//! named or ends, given here in the order of time; those of tasks that were
//! there before are read from /proc at the start. A name is told of a moment
//! only if it is known to be the task's at that very moment: what had to be
//! read later says nothing about before. The user is read from /proc when an
//! event is looked at, so shortly after it. Memory is bounded.

use crate::event::{COMM_LEN, Task};
use crate::perf::record::{Ids, News};
use crate::proc::{Name, Proc};
use crate::recent::Recent;
use crate::sys::time;

/// Tasks remembered; twice as many for a time.
const TASKS: usize = 7168;

/// How long a user that was read is believed, and how long to wait before
/// reading again what could not be read, in nanoseconds.
const BELIEVED: u64 = 100_000_000;

const NEVER: u64 = u64::MAX;

/// What is known of a task; times are of CLOCK_MONOTONIC in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Known {
    name: Name,
    /// From when on it has this name; [`NEVER`] where it isn't known.
    since: u64,
    /// Older news are in it already.
    news_from: u64,
    uid: Option<u32>,
    /// Events up to then get this user, also if there is none.
    uid_until: u64,
    /// When to read again a name that could not be read.
    retry: u64,
}

const NOTHING: Known = Known {
    name: [0; COMM_LEN],
    since: NEVER,
    news_from: 0,
    uid: None,
    uid_until: 0,
    retry: 0,
};

/// All tasks.
#[derive(Debug)]
pub struct Tasks {
    proc: Option<Proc>,
    known: Recent<Known>,
}

impl Tasks {
    /// Reads the names of all tasks that are there. What becomes of tasks must
    /// already be recorded.
    pub fn open() -> Tasks {
        let mut tasks = Tasks {
            proc: Proc::open(),
            known: Recent::new(TASKS),
        };
        if let Some(proc) = tasks.proc.take() {
            let mut room = TASKS;
            proc.threads(&mut |tid| {
                tasks.known.insert(tid.into(), read_name(Some(&proc), tid));
                room -= 1;
                room > 0
            });
            tasks.proc = Some(proc);
        }
        tasks
    }

    /// Takes what became of a task at `time`.
    pub fn observe(&mut self, time: u64, news: &News) {
        let fresh = Known {
            news_from: time,
            ..NOTHING
        };
        match *news {
            News::Comm { tid, comm, exec } => {
                let old = self.known.get(tid.into()).copied().unwrap_or(fresh);
                if time >= old.news_from {
                    let uid_until = if exec { 0 } else { old.uid_until };
                    let known = Known {
                        name: comm,
                        since: time,
                        uid_until,
                        ..old
                    };
                    self.known.insert(tid.into(), known);
                }
            }
            News::Fork { tid, parent } => {
                let mut child = fresh;
                if let Some(parent) = self.known.get(parent.into()) {
                    if parent.since <= time {
                        (child.name, child.since) = (parent.name, time);
                    }
                }
                if self.is_news(tid, time) {
                    self.known.insert(tid.into(), child);
                }
            }
            News::Exit { tid } => {
                if self.is_news(tid, time) {
                    self.known.remove(tid.into());
                }
            }
            News::Missing => self.known.clear(),
        }
    }

    fn is_news(&mut self, tid: u32, time: u64) -> bool {
        let known = self.known.get(tid.into());
        known.is_none_or(|known| time >= known.news_from)
    }

    /// The task on the CPU at `time`. `host_tid` is its thread id in the initial
    /// PID namespace.
    pub fn task(&mut self, ids: Ids, host_tid: u32, cpu: u32, time: u64) -> Task {
        let Ids { pid, tid } = ids;
        if host_tid == 0 {
            return idle(cpu);
        }
        // Gone, or of a PID namespace that ours does not see.
        if tid == 0 || tid == u32::MAX || pid == 0 || pid == u32::MAX {
            return Task::default();
        }
        let known = self.look_up(ids, time);
        Task {
            pid,
            tid,
            uid: known.uid,
            name: known.name,
        }
    }

    fn look_up(&mut self, Ids { pid, tid }: Ids, at: u64) -> Known {
        let proc = self.proc.as_ref();
        let known = match self.known.get(tid.into()) {
            Some(known) => known,
            None => {
                self.known.insert(tid.into(), read_name(proc, tid));
                // Has just been put in.
                match self.known.get(tid.into()) {
                    Some(known) => known,
                    None => return NOTHING,
                }
            }
        };
        if known.since == NEVER && known.retry < at {
            let read = read_name(proc, tid);
            if read.since != NEVER {
                *known = read;
            }
            known.retry = read.retry;
        }
        if at > known.uid_until {
            let status = proc.and_then(|proc| proc.status(tid));
            // Not if it is another task by now.
            let same = status.filter(|s| {
                let renamed = known.since <= at && s.name.is_some_and(|name| name != known.name);
                s.pid == pid && !renamed
            });
            known.uid = same.map(|s| s.uid);
            known.uid_until = time::monotonic() + BELIEVED;
        }
        let mut told = *known;
        if told.since > at {
            told.name = [0; COMM_LEN];
        }
        told
    }
}

/// Reads a task's name, good from now on.
fn read_name(proc: Option<&Proc>, tid: u32) -> Known {
    let before = time::monotonic();
    let name = proc.and_then(|proc| proc.name(tid));
    let now = time::monotonic();
    match name {
        Some(name) => Known {
            name,
            since: now,
            news_from: before,
            ..NOTHING
        },
        None => Known {
            retry: now + BELIEVED,
            ..NOTHING
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
