//! The table against stories of processes.

mod model;

use super::*;
use crate::model::event::Task;
use crate::perf::record::{Ids, News, Topic};

fn ids(pid: u32, tid: u32) -> Ids {
    Ids { pid, tid }
}

fn leader(pid: u32) -> Ids {
    ids(pid, pid)
}

fn name(text: &str) -> Name {
    let mut name = [0; 16];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

/// A table that is told stories.
struct Told(Processes);

impl Told {
    fn new() -> Told {
        let mut told = Told(Processes::unseeded());
        told.fork(1, 100, 1);
        told
    }

    fn fork(&mut self, time: u64, child: u32, parent: u32) {
        self.fork_by(time, child, leader(parent));
    }

    fn fork_by(&mut self, time: u64, child: u32, parent: Ids) {
        let task = leader(child);
        self.0.observe(time, &News::Fork { task, parent });
    }

    fn thread(&mut self, time: u64, pid: u32, tid: u32) {
        let (task, parent) = (ids(pid, tid), leader(pid));
        self.0.observe(time, &News::Fork { task, parent });
    }

    fn exit(&mut self, time: u64, task: Ids) {
        self.0.observe(time, &News::Exit { task });
    }

    fn end(&mut self, time: u64, pid: u32) {
        self.exit(time, leader(pid));
    }

    fn comm(&mut self, time: u64, task: Ids, text: &str, exec: bool) {
        let comm = name(text);
        self.0.observe(time, &News::Comm { task, comm, exec });
    }

    fn miss(&mut self, time: u64, topic: Topic) {
        self.0.observe(time, &News::Missing(topic));
    }

    fn ran(&mut self, time: u64, pid: u32, tid: u32, text: &str) {
        let (uid, name) = (None, name(text));
        let task = Task {
            pid,
            tid,
            uid,
            name,
        };
        self.0.ran(time, &task);
    }

    fn name(&self, pid: u32) -> Option<String> {
        let name = self.0.name(pid)?;
        let text = String::from_utf8(name.to_vec()).expect("UTF-8");
        Some(text.trim_end_matches('\0').to_owned())
    }
}

#[test]
fn a_process_is_born_and_ends() {
    let mut t = Told::new();
    t.fork(10, 200, 100);
    assert_eq!(t.0.lives(200, 10), Some(true));
    assert_eq!(t.0.born(200), Some(10));
    assert_eq!(t.0.parent(200), Some(100));
    assert_eq!(t.0.descendants(100, 10), Descendants::Only(200, 10));
    assert_eq!(t.0.descendants(100, 11), Descendants::None);
    t.end(20, 200);
    assert_eq!(t.0.lives(200, 10), Some(false));
    assert_eq!(t.0.descendants(100, 10), Descendants::None);
    assert_eq!(t.0.born(200), None);
    assert_eq!(t.0.lives(100, 5), Some(true));
    assert_eq!((t.0.living, t.0.by_pid.len()), (1, 1));
}

#[test]
fn an_id_used_again_is_another_process() {
    let mut t = Told::new();
    t.fork(10, 200, 100);
    t.fork(12, 300, 200);
    t.end(20, 200);
    t.fork(30, 200, 100);
    t.fork(31, 400, 200);
    assert_eq!(t.0.lives(200, 15), Some(false));
    assert_eq!(t.0.lives(200, 30), Some(true));
    assert_eq!(t.0.descendants(200, 12), Descendants::Only(300, 12));
    assert_eq!(t.0.descendants(200, 30), Descendants::Only(400, 31));
    assert_eq!(t.0.parent(300), None);
    assert_eq!(t.0.parent(400), Some(200));
    // What is kept of the first goes with its last descendant.
    t.end(40, 300);
    assert_eq!(t.0.descendants(200, 12), Descendants::None);
    assert_eq!(t.0.descendants(200, 30), Descendants::Only(400, 31));
    // Its end was not seen.
    t.fork(50, 200, 100);
    assert_eq!(t.0.lives(200, 35), Some(false));
    assert_eq!(t.0.descendants(200, 30), Descendants::Only(400, 31));
    t.end(60, 200);
    assert_eq!(t.0.descendants(200, 30), Descendants::Only(400, 31));
    t.end(70, 400);
    assert_eq!(t.0.tree.size().0, 1);
}

#[test]
fn a_daemon_is_its_starters_descendant() {
    let mut t = Told::new();
    t.fork(10, 200, 100);
    // It listens at 11, forks twice, and both parents end.
    t.fork(12, 201, 200);
    t.end(13, 200);
    t.fork(14, 202, 201);
    assert_eq!(t.0.descendants(200, 11), Descendants::Several);
    t.end(15, 201);
    assert_eq!(t.0.descendants(200, 11), Descendants::Only(202, 14));
    assert_eq!(t.0.descendants(201, 13), Descendants::Only(202, 14));
    assert_eq!(t.0.descendants(100, 11), Descendants::None);
    assert_eq!(t.0.descendants(100, 10), Descendants::Only(202, 14));
    t.end(16, 202);
    assert_eq!(t.0.descendants(200, 11), Descendants::None);
    assert_eq!(t.0.tree.size().0, 1);
}

#[test]
fn a_process_ends_with_its_last_thread() {
    let mut t = Told::new();
    t.fork(10, 200, 100);
    t.thread(11, 200, 201);
    t.thread(12, 200, 202);
    t.end(13, 200);
    assert_eq!(t.0.lives(200, 10), Some(true));
    t.exit(14, ids(200, 202));
    assert_eq!(t.0.lives(200, 10), Some(true));
    // A thread that is not the first makes a process.
    t.comm(14, leader(200), "main", false);
    t.fork_by(15, 300, ids(200, 201));
    assert_eq!(t.0.parent(300), Some(200));
    assert_eq!(t.name(300), None);
    t.exit(16, ids(200, 201));
    assert_eq!(t.0.lives(200, 10), Some(false));
    assert_eq!(t.0.descendants(200, 10), Descendants::Only(300, 15));
}

/// execve(2) by a thread that is not the first: it takes the process's id.
#[test]
fn another_thread_runs_a_program() {
    let mut t = Told::new();
    t.fork(10, 200, 100);
    t.thread(11, 200, 201);
    t.thread(12, 200, 202);
    t.exit(13, ids(200, 202));
    t.end(14, 200);
    t.comm(15, leader(200), "curl", true);
    assert_eq!(t.0.lives(200, 10), Some(true));
    t.ran(16, 200, 200, "curl");
    assert_eq!(t.name(200).as_deref(), Some("curl"));
    assert_eq!(t.0.execed_since(200, 15), Some(true));
    assert_eq!(t.0.execed_since(200, 16), Some(false));
    t.end(17, 200);
    assert_eq!(t.0.lives(200, 10), Some(false));
    // What comes while it ends does not call it back.
    t.ran(18, 200, 200, "curl");
    assert_eq!(t.0.lives(200, 10), Some(false));
}

#[test]
fn what_runs_lives() {
    let mut t = Told::new();
    // Was never seen to be born.
    t.ran(10, 500, 501, "");
    assert_eq!(t.0.lives(500, 10), Some(true));
    // Nor can its threads be counted: a while later it isn't known.
    t.ran(11, 100, 100, "");
    assert_eq!(t.0.lives(500, 10), None);
    t.comm(12, leader(500), "sh", true);
    assert_eq!(t.0.lives(500, 10), Some(true));
    t.end(13, 500);
    assert_eq!(t.0.lives(500, 10), Some(false));
}

#[test]
fn names_are_the_first_threads() {
    let mut t = Told::new();
    assert_eq!(t.name(100), None);
    t.comm(5, leader(100), "redis", false);
    t.thread(6, 100, 101);
    t.comm(7, ids(100, 101), "bio_close_file", false);
    assert_eq!(t.name(100).as_deref(), Some("redis"));
    assert_eq!(t.0.named_since(100), Some(5));
    t.fork(8, 200, 100);
    assert_eq!(t.name(200).as_deref(), Some("redis"));
    t.comm(9, leader(200), "sh", true);
    t.miss(10, Topic::Names);
    assert_eq!((t.name(100), t.name(200)), (None, None));
    assert_eq!(t.0.execed_since(200, 9), Some(true));
    assert_eq!(t.0.execed_since(100, 9), None);
    // Whether they live is known all the same.
    assert_eq!(t.0.lives(200, 8), Some(true));
    t.ran(11, 200, 201, "a thread");
    assert_eq!(t.name(200), None);
    t.ran(12, 200, 200, "sh");
    assert_eq!(t.name(200).as_deref(), Some("sh"));
    t.comm(13, leader(100), "redis", false);
    assert_eq!(t.name(100).as_deref(), Some("redis"));
}

/// It closes what it has open after its end was told.
#[test]
fn who_has_just_ended_has_its_name() {
    let mut told = Told::new();
    told.fork(10, 200, 100);
    told.comm(11, leader(200), "server", true);
    told.thread(12, 200, 201);
    told.exit(20, ids(200, 201));
    told.end(21, 200);
    assert_eq!(told.0.lives(200, 15), Some(false));
    assert_eq!(told.name(200).as_deref(), Some("server"));
    // Until another one has its id, or what became of it may be missing.
    told.fork_by(30, 200, ids(100, 101));
    assert_eq!(told.name(200), None);
    told.comm(31, leader(200), "other", true);
    told.end(32, 200);
    assert_eq!(told.name(200).as_deref(), Some("other"));
    told.miss(33, Topic::Lives);
    assert_eq!(told.name(200), None);
}

#[test]
fn threads_of_the_kernel_are_marked() {
    let mut t = Told::new();
    t.fork(5, 50, 2);
    assert!(t.0.is_kernel_thread(50) && !t.0.is_kernel_thread(100));
    // A worker starts a helper, which is a process like others.
    t.fork(6, 60, 50);
    assert!(!t.0.is_kernel_thread(60));
    t.comm(7, leader(50), "modprobe", true);
    assert!(!t.0.is_kernel_thread(50));
    let mut elsewhere = Told(Processes::empty(false));
    elsewhere.fork(5, 50, 2);
    assert!(!elsewhere.0.is_kernel_thread(50));
}

#[test]
fn after_a_loss_it_is_learned_again() {
    let mut t = Told::new();
    t.comm(5, leader(100), "sh", false);
    t.fork(10, 200, 100);
    t.fork(11, 300, 100);
    t.miss(20, Topic::Lives);
    for pid in [100, 200, 300, 999] {
        assert_eq!(t.0.lives(pid, 15), None, "{pid}");
        assert_eq!(t.0.descendants(pid, 15), Descendants::Unknown);
        assert_eq!(t.name(pid), None);
    }
    t.ran(30, 200, 200, "");
    // It may be another one than before.
    assert_eq!(t.0.lives(200, 15), None);
    assert_eq!(t.0.lives(200, 30), Some(true));
    assert_eq!(t.0.descendants(200, 30), Descendants::None);
    t.fork(31, 201, 200);
    assert_eq!(t.0.descendants(200, 30), Descendants::Only(201, 31));
    // How many threads it has isn't known.
    t.end(32, 200);
    assert_eq!(t.0.lives(200, 30), None);
    assert_eq!(t.0.descendants(200, 30), Descendants::Only(201, 31));
    // One that runs a program has one.
    t.comm(33, leader(300), "sh", true);
    assert_eq!(t.0.lives(300, 33), Some(true));
    t.end(34, 300);
    assert_eq!(t.0.lives(300, 33), Some(false));
    // What is born from now on is known from the beginning.
    t.fork(40, 400, 100);
    assert_eq!(t.0.lives(400, 40), Some(true));
    t.end(41, 400);
    assert_eq!(t.0.lives(400, 40), Some(false));
}

#[test]
fn another_namespace_is_not_known() {
    let mut t = Told(Processes::empty(true));
    t.fork(1, 200, 100);
    t.ran(2, 200, 200, "sh");
    assert_eq!(t.0.lives(200, 1), None);
    assert_eq!(t.0.descendants(200, 1), Descendants::Unknown);
    assert_eq!(
        (t.name(200), t.0.parent(200), t.0.born(200)),
        (None, None, None)
    );
    // Out of sight.
    let mut t = Told::new();
    t.fork(5, 0, 100);
    t.fork(6, u32::MAX, 100);
    t.fork(7, 200, 0);
    assert_eq!((t.0.living, t.0.parent(200)), (2, None));
    assert_eq!(t.0.lives(200, 7), Some(true));
}

/// Processes that start one and end, without an end.
#[test]
fn a_chain_of_the_dead_is_bounded() {
    let mut t = Told::new();
    let many = ENDED as u32 * 3;
    t.fork(1000, 1000, 100);
    for n in 1..=many {
        let (pid, time) = (1000 + n, 1000 + u64::from(n) * 2);
        t.fork(time, pid, pid - 1);
        t.end(time + 1, pid - 1);
        assert!(t.0.by_pid.len() <= ENDED + 3);
    }
    let last = 1000 + many;
    let (kept, places) = t.0.tree.size();
    assert!(
        kept <= ENDED + 3 && places <= 2 * ENDED + 3,
        "{kept} {places}"
    );
    assert_eq!(t.0.living, 2);
    // Beyond so many steps nobody looks; what was let go of isn't known.
    assert_eq!(t.0.descendants(100, 1000), Descendants::Unknown);
    assert_eq!(t.0.descendants(1001, 1002), Descendants::Unknown);
    let born = t.0.born(last).expect("alive");
    assert_eq!(
        t.0.descendants(last - 1, born),
        Descendants::Only(last, born)
    );
    t.end(u64::from(last) * 9, last);
    assert_eq!((t.0.tree.size().0, t.0.by_pid.len()), (1, 1));
    assert_eq!(t.0.descendants(100, 1000), Descendants::None);
}

#[test]
fn of_a_dead_ones_children_the_elder_are_not_the_youngers() {
    let mut t = Told(Processes {
        tree: Tree::new(1),
        ..Told::new().0
    });
    t.0.by_pid = Default::default();
    t.fork(5, 100, 1);
    // Both make a child and end; only one of them can be kept.
    for (time, pid) in [(10, 200), (20, 300)] {
        t.fork(time, pid, 100);
        t.fork(time + 1, pid + 1, pid);
        t.fork(time + 2, pid + 2, pid);
    }
    t.fork(30, 400, 100);
    t.end(40, 200);
    t.end(41, 300);
    // 201 and 202 are 100's now, of the time when 200 was made.
    t.end(50, 301);
    t.end(51, 400);
    assert_eq!(t.0.descendants(100, 15), Descendants::Only(302, 22));
    t.end(52, 302);
    assert_eq!(t.0.descendants(100, 15), Descendants::None);
    assert_eq!(t.0.descendants(100, 10), Descendants::Several);
    t.end(53, 201);
    assert_eq!(t.0.descendants(100, 10), Descendants::Only(202, 12));
    assert_eq!(t.0.descendants(200, 10), Descendants::Unknown);
    t.end(54, 202);
    assert_eq!(t.0.descendants(100, 10), Descendants::None);
    assert_eq!(t.0.tree.size().0, 1);
}

#[test]
fn beyond_the_room_nothing_is_sure_until_there_is_some() {
    let mut t = Told::new();
    for n in 0..LIVING as u32 + 10 {
        t.fork(1000, 1000 + n, 100);
    }
    assert_eq!((t.0.refused(), t.0.living), (11, LIVING));
    let refused = 1000 + LIVING as u32;
    assert_eq!(t.0.lives(refused, 1000), None);
    assert_eq!(t.0.lives(1000, 1000), Some(true));
    assert_eq!(t.0.descendants(1000, 1000), Descendants::Unknown);
    for n in 0..1000 {
        t.end(2000, 1000 + n);
    }
    t.ran(2001, refused, refused, "");
    t.fork(2002, 900, 100);
    assert_eq!(t.0.lives(900, 2002), Some(true));
    assert_eq!(t.0.descendants(900, 2002), Descendants::None);
    assert_eq!(t.0.lives(refused, 2001), None);
}

/// What was read at the start and records from before and while it was read.
#[test]
fn what_was_read_stands_against_older_records() {
    let read = |threads| {
        let mut t = Told::new();
        t.fork(10, 200, 100);
        let process = t.0.current_mut(200).expect("a process");
        (process.news_from, process.read_until) = (50, 60);
        process.threads = Some(threads);
        (process.name, process.named) = (name("read"), 60);
        t
    };
    let mut t = read(2);
    // Counted already.
    t.thread(40, 200, 201);
    t.fork(41, 200, 100);
    t.comm(42, leader(200), "older", false);
    t.ran(60, 100, 100, "");
    assert_eq!(t.name(200).as_deref(), Some("read"));
    t.exit(61, ids(200, 201));
    assert_eq!(t.0.lives(200, 10), Some(true));
    t.end(62, 200);
    assert_eq!(t.0.lives(200, 10), Some(false));
    // Counted or not: how many there are isn't known until it shows.
    let mut t = read(2);
    t.thread(55, 200, 201);
    t.exit(61, ids(200, 201));
    assert_eq!(t.0.lives(200, 10), None);
    t.ran(62, 200, 200, "");
    assert_eq!(t.0.lives(200, 10), Some(true));
    // The only thread was ending when it was read.
    let mut t = read(1);
    t.end(49, 200);
    assert_eq!(t.0.lives(200, 10), Some(false));
    // Another one was, that is counted no more.
    let mut t = read(1);
    t.exit(49, ids(200, 201));
    assert_eq!(t.0.lives(200, 10), Some(true));
}
