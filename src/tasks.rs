//! Names and users of tasks, for events that tell only their ids.
//!
//! Contract: names follow the records that perf writes where a task is made or
//! named, given here in the order of time; those of tasks that were
//! there before are read from /proc at the start. A name is told of a moment
//! only if it is known to be the task's at that very moment: what had to be
//! read later says nothing about before. The user is read from /proc when an
//! event is looked at, so shortly after it. Memory is bounded.

use crate::event::{COMM_LEN, Task};
use crate::perf::record::{Ids, News};
use crate::proc::{Name, Proc, Status};
use crate::recent::Recent;
use crate::sys::{self, time};

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

    /// From here on a helper reads /proc; see [`Proc::hand_over`]. Where that
    /// fails, nothing is read any more.
    pub fn hand_over(&mut self) -> sys::Result<()> {
        let handed = self.proc.as_mut().map_or(Ok(()), Proc::hand_over);
        self.proc.take_if(|_| handed.is_err());
        handed
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
                // A task that has ended is no news: it may still close its
                // sockets, and its number is taken over by another one's fork.
                let older = self.known.get(tid.into());
                if older.is_none_or(|known| time >= known.news_from) {
                    self.known.insert(tid.into(), child);
                }
            }
            News::Missing => self.known.clear(),
        }
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
            let status = status.filter(|s| s.pid == pid);
            // With another name by now it may be another task.
            let renamed =
                |s: &Status| known.since <= at && s.name.is_some_and(|name| name != known.name);
            let other = status.as_ref().is_some_and(renamed);
            known.uid = status.filter(|_| !other).map(|s| s.uid);
            known.uid_until = match other {
                true => at,
                false => time::monotonic() + BELIEVED,
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u32 = 70_000_001;

    /// Without a /proc, so that nothing but news tells.
    fn deaf() -> Tasks {
        Tasks {
            proc: None,
            known: Recent::new(TASKS),
        }
    }

    fn name(text: &str) -> Name {
        let mut name = [0; COMM_LEN];
        name[..text.len()].copy_from_slice(text.as_bytes());
        name
    }

    fn comm(tid: u32, text: &str) -> News {
        News::Comm {
            tid,
            comm: name(text),
            exec: false,
        }
    }

    fn seen(tasks: &mut Tasks, tid: u32, time: u64) -> String {
        let task = tasks.task(Ids { pid: tid, tid }, tid, 0, time);
        assert_eq!((task.pid, task.tid), (tid, tid));
        String::from_utf8(task.comm().to_vec()).expect("UTF-8")
    }

    #[test]
    fn names_follow_what_becomes_of_tasks() {
        let mut tasks = deaf();
        assert_eq!(seen(&mut tasks, ME, 5), "");
        tasks.observe(10, &comm(ME, "sh"));
        assert_eq!(seen(&mut tasks, ME, 10), "sh");
        // Not before: an event that comes late.
        assert_eq!(seen(&mut tasks, ME, 9), "");
        let child = ME + 1;
        tasks.observe(
            20,
            &News::Fork {
                tid: child,
                parent: ME,
            },
        );
        assert_eq!(seen(&mut tasks, child, 20), "sh");
        tasks.observe(30, &comm(child, "curl"));
        assert_eq!(seen(&mut tasks, child, 30), "curl");
        assert_eq!(seen(&mut tasks, ME, 30), "sh");
        // The number is used again, by a child of somebody unknown.
        tasks.observe(
            50,
            &News::Fork {
                tid: ME,
                parent: ME + 7,
            },
        );
        assert_eq!(seen(&mut tasks, ME, 51), "");
    }

    #[test]
    fn where_news_are_missing_no_name_is_told() {
        let mut tasks = deaf();
        tasks.observe(10, &comm(ME, "sh"));
        tasks.observe(0, &News::Missing);
        assert_eq!(seen(&mut tasks, ME, 20), "");
        tasks.observe(30, &comm(ME, "curl"));
        assert_eq!(seen(&mut tasks, ME, 30), "curl");
    }

    #[test]
    fn what_was_read_stands_against_older_news_only() {
        let mut tasks = deaf();
        let read = Known {
            name: name("read"),
            since: 120,
            news_from: 100,
            ..NOTHING
        };
        tasks.known.insert(ME.into(), read);
        // Read at some time from 100 to 120; before 120 it may be another.
        assert_eq!(seen(&mut tasks, ME, 110), "");
        tasks.observe(90, &comm(ME, "older"));
        let (tid, parent) = (ME, ME + 1);
        tasks.observe(90, &News::Fork { tid, parent });
        assert_eq!(seen(&mut tasks, ME, 120), "read");
        tasks.observe(105, &comm(ME, "newer"));
        assert_eq!(seen(&mut tasks, ME, 106), "newer");
    }

    #[test]
    fn the_idle_task_and_those_out_of_sight() {
        let mut tasks = deaf();
        let zero = Ids { pid: 0, tid: 0 };
        let task = tasks.task(zero, 0, 11, 1);
        assert_eq!(
            (task.comm(), task.pid, task.uid),
            (&b"swapper/11"[..], 0, Some(0))
        );
        let gone = Ids {
            pid: u32::MAX,
            tid: u32::MAX,
        };
        for ids in [zero, gone] {
            assert_eq!(tasks.task(ids, 4242, 0, 1), Task::default());
        }
    }

    #[test]
    fn this_task_is_known_from_proc() {
        let mut tasks = Tasks::open();
        let ids = Ids {
            pid: std::process::id(),
            tid: nix::unistd::gettid().as_raw() as u32,
        };
        let now = time::monotonic();
        let task = tasks.task(ids, ids.tid, 0, now);
        let comm = std::fs::read("/proc/thread-self/comm").expect("comm");
        assert_eq!(task.comm(), comm.trim_ascii_end());
        assert_eq!(task.uid, Some(nix::unistd::getuid().as_raw()));
        // Another process has that number by now, or the same another name.
        let other = Ids { pid: ME, ..ids };
        tasks.observe(now, &News::Missing);
        assert_eq!(tasks.task(other, ids.tid, 0, now).uid, None);
        tasks.observe(now, &News::Missing);
        tasks.observe(now, &comm_of(ids.tid));
        assert_eq!(tasks.task(ids, ids.tid, 0, now).uid, None);
    }

    fn comm_of(tid: u32) -> News {
        comm(tid, "somebody else")
    }
}
