//! Names and users of tasks, for events that tell only their ids.
//!
//! Contract: names follow the records that perf writes where a task is made or
//! named, given here in the order of time; those of tasks that were
//! there before are read from /proc at the start. A name is told of a moment
//! only if it is known to be the task's at that very moment: what had to be
//! read later says nothing about before. A user is told of a moment only if a
//! read from before it, of the task or of the one that made it, and one from
//! after it agree, and the task has run no other program in between. Memory is
//! bounded.

use crate::event::{COMM_LEN, Task};
use crate::perf::record::{Ids, News};
use crate::proc::{Name, Proc, Status};
use crate::recent::Recent;
use crate::sys::time;

/// Tasks remembered; twice as many for a time.
const TASKS: usize = 7168;

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
pub struct Tasks {
    proc: Option<Proc>,
    known: Recent<Known>,
}

impl Tasks {
    /// Reads the names and users of all tasks that are there. What becomes of
    /// tasks must already be recorded.
    pub fn open() -> Tasks {
        let mut tasks = Tasks {
            proc: Proc::open(),
            known: Recent::new(TASKS),
        };
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

    /// The /proc that is read, where there is one.
    pub fn proc(&self) -> Option<&Proc> {
        self.proc.as_ref()
    }

    /// Takes what became of a task at `time`.
    pub fn observe(&mut self, time: u64, news: &News) {
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
    pub fn task(&mut self, ids: Ids, host_tid: u32, cpu: u32, time: u64) -> Task {
        let Ids { pid, tid } = ids;
        if host_tid == 0 {
            return idle(cpu);
        }
        // Gone, or of a PID namespace that ours does not see.
        if tid == 0 || tid == u32::MAX || pid == 0 || pid == u32::MAX {
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
        // All events of a drain are older than the first read in it.
        if at > known.asked {
            let before = time::monotonic();
            let status = proc.and_then(|proc| proc.status(ids.tid));
            known.ask(ids.pid, at, before, status);
        }
        let user = known.user.filter(|u| (u.first..=u.last).contains(&at));
        let name = match known.since <= at {
            true => known.name,
            false => none.0,
        };
        (name, user.map(|user| user.uid))
    }
}

impl Known {
    /// Takes what was read of its user from `before` on, for an event at `at`
    /// of this process.
    fn ask(&mut self, pid: u32, at: u64, before: u64, status: Option<Status>) {
        self.asked = before;
        let status = status.filter(|s| s.pid == pid);
        // With another name by now it may be another task, or program.
        let renamed = |s: &Status| self.since <= at && s.name.is_some_and(|name| name != self.name);
        self.user = match (status, self.user) {
            (None, _) => None,
            (Some(s), _) if renamed(&s) => None,
            (Some(s), Some(old)) if s.uid == old.uid => Some(User {
                last: before,
                ..old
            }),
            (Some(s), _) => Some(User {
                uid: s.uid,
                first: time::monotonic(),
                last: before,
            }),
        };
    }
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
mod tests {
    use super::*;
    use crate::perf::record::Topic;

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

    fn of(tid: u32) -> Ids {
        Ids { pid: tid, tid }
    }

    fn comm(tid: u32, text: &str) -> News {
        News::Comm {
            task: of(tid),
            comm: name(text),
            exec: false,
        }
    }

    fn fork(tid: u32, parent: u32) -> News {
        News::Fork {
            task: of(tid),
            parent: of(parent),
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
        tasks.observe(20, &fork(child, ME));
        assert_eq!(seen(&mut tasks, child, 20), "sh");
        tasks.observe(30, &comm(child, "curl"));
        assert_eq!(seen(&mut tasks, child, 30), "curl");
        assert_eq!(seen(&mut tasks, ME, 30), "sh");
        // The number is used again, by a child of somebody unknown.
        tasks.observe(50, &fork(ME, ME + 7));
        assert_eq!(seen(&mut tasks, ME, 51), "");
    }

    #[test]
    fn where_news_are_missing_no_name_is_told() {
        let mut tasks = deaf();
        tasks.observe(10, &comm(ME, "sh"));
        tasks.observe(0, &News::Missing(Topic::Names));
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
        tasks.observe(90, &fork(ME, ME + 1));
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
        let name = std::fs::read("/proc/thread-self/comm").expect("comm");
        assert_eq!(task.comm(), name.trim_ascii_end());
        // It was read at the start, and again just now.
        let me = Some(nix::unistd::getuid().as_raw());
        assert_eq!(task.uid, me);
        // Another process has that number by now, or the same another name.
        let other = Ids { pid: ME, ..ids };
        tasks.observe(now, &News::Missing(Topic::Lives));
        assert_eq!(tasks.task(other, ids.tid, 0, now).uid, None);
        tasks.observe(now, &News::Missing(Topic::Names));
        tasks.observe(now, &comm(ids.tid, "somebody else"));
        assert_eq!(tasks.task(ids, ids.tid, 0, now).uid, None);
    }

    #[test]
    fn a_user_is_told_between_two_reads_that_agree() {
        let status = |uid| {
            Some(Status {
                pid: ME,
                uid,
                name: None,
            })
        };
        let mut known = NOTHING;
        let told = |known: &Known, at: u64| {
            let user = known.user.filter(|u| (u.first..=u.last).contains(&at));
            user.map(|u| u.uid)
        };
        let early = time::monotonic();
        known.ask(ME, early, early, status(5));
        // Read once only.
        assert_eq!(told(&known, early), None);
        let between = time::monotonic();
        let late = between + 10;
        known.ask(ME, between, late, status(5));
        assert_eq!(told(&known, between), Some(5));
        assert_eq!(told(&known, late + 1), None);
        // Another one by then: which it was in between isn't known.
        known.ask(ME, late + 1, late + 2, status(0));
        assert_eq!(told(&known, between), None);
        assert_eq!(told(&known, late + 1), None);
        // Of another process, or of none.
        known.ask(ME + 1, late + 3, late + 4, status(0));
        assert!(known.user.is_none());
        known.ask(ME, late + 5, late + 6, None);
        assert!(known.user.is_none());
    }

    #[test]
    fn a_user_is_inherited_and_ends_with_the_program() {
        let mut tasks = deaf();
        let user = User {
            uid: 5,
            first: 10,
            last: 100,
        };
        let read = Known {
            user: Some(user),
            asked: NEVER,
            ..NOTHING
        };
        tasks.known.insert(ME.into(), read);
        tasks.observe(20, &fork(ME + 1, ME));
        let child = tasks.known.get((ME + 1).into()).expect("a child");
        // Its maker's later reads say nothing of it.
        assert_eq!(child.user.map(|u| (u.uid, u.last)), Some((5, 20)));
        let status = Status {
            pid: ME + 1,
            uid: 5,
            name: None,
        };
        child.ask(ME + 1, 50, NEVER, Some(status));
        assert_eq!(tasks.task(of(ME + 1), ME + 1, 0, 50).uid, Some(5));
        let exec = News::Comm {
            task: of(ME + 1),
            comm: name("sudo"),
            exec: true,
        };
        tasks.observe(60, &exec);
        assert_eq!(tasks.task(of(ME + 1), ME + 1, 0, 70).uid, None);
        assert_eq!(tasks.task(of(ME), ME, 0, 70).uid, Some(5));
        // Before the parent was read.
        tasks.observe(5, &fork(ME + 2, ME));
        assert_eq!(tasks.task(of(ME + 2), ME + 2, 0, 50).uid, None);
    }
}
