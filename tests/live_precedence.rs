//! Live: the precedence that a run takes over other processes.

mod common;

use std::fs;
use std::process::Command;
use story::story;

use common::{Run, binary, live, skip};

/// Of /proc/PID/stat: nice value, real-time priority and policy (proc(5)).
fn scheduling(pid: u32) -> [i32; 3] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let field = |n: usize| fields.split(' ').nth(n - 3).and_then(|f| f.parse().ok());
    [19, 40, 41].map(|n| field(n).expect("a number"))
}

/// Precedence is taken unless it is not wanted, and --check says which.
#[story]
fn precedence_is_taken() {
    if !live() {
        return;
    }
    let plain = scheduling(std::process::id());
    // Whoever runs the tests may have a nice value, which is kept.
    let real_time = [plain[0], 1, libc::SCHED_RR];
    let tracer = Run::quiet("--priority=off").start();
    assert_eq!(scheduling(tracer.child.pid()), plain);
    tracer.stop().ok();
    let check = Command::new(binary())
        .args(["--check", "--no-log"])
        .output()
        .unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    let row = said
        .lines()
        .find(|line| line.starts_with("  precedence"))
        .expect("a row");
    let tracer = Run::quiet("").start();
    let has = scheduling(tracer.child.pid());
    let expected = match () {
        _ if row.contains("SCHED_RR") => real_time,
        _ if row.contains("nice -10") => [-10, 0, 0],
        _ => plain,
    };
    assert_eq!(has, expected, "{row}");
    assert_eq!(row.contains(" no "), has == plain, "{row}");
    tracer.stop().ok();
    // On one CPU it would be everybody's; there it is a nice value.
    let mut taskset = Command::new("taskset");
    taskset.args(["--cpu-list", "0"]).arg(binary());
    let tracer = Run::through(taskset, "--no-log").start();
    let has = scheduling(tracer.child.pid());
    assert!(
        has == [-10, 0, 0] || has == plain && expected == plain,
        "{has:?}"
    );
    tracer.stop().ok();
}

/// As a service manager gives it, which forbids to take any.
#[story]
fn given_precedence_is_kept() {
    if !live() {
        return;
    }
    let given = || {
        let mut chrt = Command::new("chrt");
        chrt.args(["--fifo", "3"]);
        chrt
    };
    let can = given().arg("true").output();
    if !can.is_ok_and(|out| out.status.success()) {
        return skip("no real-time priority can be had");
    }
    let mut through = given();
    through.arg(binary());
    let tracer = Run::through(through, "--no-log --priority=on").start();
    let pid = tracer.child.pid();
    let [nice, ..] = scheduling(std::process::id());
    assert_eq!(scheduling(pid), [nice, 3, libc::SCHED_FIFO]);
    let said = tracer.stop().ok().stderr;
    assert!(!said.contains("precedence"), "{said}");
    let mut check = given();
    check.arg(binary()).args(["--check", "--no-log"]);
    let said = String::from_utf8(check.output().unwrap().stdout).unwrap();
    let row = said.lines().find(|line| line.starts_with("  precedence"));
    assert!(row.is_some_and(|row| row.contains(" yes ")), "{said}");
}
