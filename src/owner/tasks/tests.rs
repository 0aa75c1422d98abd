//! Names and users of tasks that do what tasks do.

use super::*;
use crate::perf::record::Topic;

const ME: u32 = 70_000_001;

/// Without a /proc, so that nothing but news tells.
fn deaf() -> Tasks {
    Tasks {
        all_execs: true,
        ..Tasks::new(None)
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

/// A read of a task's user at a time.
fn read_of(tid: u32, uid: u32, at: u64) -> Read {
    let (pid, name) = (tid, None);
    Read {
        status: Some(Status { pid, uid, name }),
        before: at,
        after: at + 1,
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
    // It was read at the start; not since.
    assert_eq!(task.uid, None);
    tasks.all_execs = true;
    let me = nix::unistd::getuid().as_raw();
    let again = Read {
        status: tasks.proc().and_then(|proc| proc.status(ids.tid)),
        before: time::monotonic(),
        after: time::monotonic(),
    };
    assert!(again.status.is_some());
    tasks.reads.insert(ids.tid, again);
    assert_eq!(tasks.task(ids, ids.tid, 0, now).uid, Some(me));
}

#[test]
fn a_user_is_told_between_two_reads_that_agree() {
    let mut tasks = deaf();
    let mut told = |at: u64, read: Option<Read>| {
        tasks.reads.clear();
        if let Some(read) = read {
            tasks.reads.insert(ME, read);
        }
        tasks.task(of(ME), ME, 0, at).uid
    };
    // Read once only.
    assert_eq!(told(5, Some(read_of(ME, 7, 10))), None);
    assert_eq!(told(20, None), None);
    assert_eq!(told(20, Some(read_of(ME, 7, 30))), Some(7));
    assert_eq!(told(29, None), Some(7));
    // Another one by then: which it was in between isn't known.
    assert_eq!(told(40, Some(read_of(ME, 0, 50))), None);
    assert_eq!(told(60, Some(read_of(ME, 0, 70))), Some(0));
    // Of another process, or gone.
    assert_eq!(told(80, Some(read_of(ME + 1, 0, 90))), None);
    assert_eq!(told(100, Some(read_of(ME, 0, 110))), None);
    assert_eq!(told(120, Some(read_of(ME, 0, 130))), Some(0));
    let gone = Read {
        status: None,
        ..read_of(ME, 0, 150)
    };
    assert_eq!(told(140, Some(gone)), None);
}

#[test]
fn a_user_is_inherited_and_ends_with_the_program() {
    let mut tasks = deaf();
    let told = |tasks: &mut Tasks, tid, at| tasks.task(of(tid), tid, 0, at).uid;
    for (at, read) in [(5, 10), (15, 100)] {
        tasks.reads.insert(ME, read_of(ME, 7, read));
        told(&mut tasks, ME, at);
    }
    assert_eq!(told(&mut tasks, ME, 15), Some(7));
    tasks.observe(20, &fork(ME + 1, ME));
    // Its maker's later reads say nothing of it.
    assert_eq!(told(&mut tasks, ME + 1, 50), None);
    tasks.reads.insert(ME + 1, read_of(ME + 1, 7, 100));
    assert_eq!(told(&mut tasks, ME + 1, 50), Some(7));
    // What will be another program until the read.
    tasks.execs.insert(ME + 1, 60);
    assert_eq!(told(&mut tasks, ME + 1, 50), None);
    tasks.execs.clear();
    tasks.all_execs = false;
    assert_eq!(told(&mut tasks, ME + 1, 50), None);
    tasks.all_execs = true;
    let exec = News::Comm {
        task: of(ME + 1),
        comm: name("sudo"),
        exec: true,
    };
    tasks.observe(60, &exec);
    assert_eq!(told(&mut tasks, ME + 1, 70), None);
    assert_eq!(told(&mut tasks, ME, 70), Some(7));
    // Before the parent was read.
    tasks.observe(5, &fork(ME + 2, ME));
    tasks.reads.insert(ME + 2, read_of(ME + 2, 7, 100));
    assert_eq!(told(&mut tasks, ME + 2, 50), None);
}
