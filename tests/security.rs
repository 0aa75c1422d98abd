//! SECURITY.md lists every system call that the sandbox leaves, each with a
//! reason, and no other.

use std::collections::BTreeSet;

use socket_snoop::sandbox::calls::{self, Granted, Opening};
use socket_snoop::sandbox::{Pinned, PinnedFilter};
use socket_snoop::sys::folder::{BELOW, WITHIN};

macro_rules! names {
    ($($(#[$only:meta])? $number:ident $name:literal)*) => {
        &[$($(#[$only])? (libc::$number, $name)),*]
    };
}

/// What the numbers are called.
const NAMES: &[(libc::c_long, &str)] = names! {
    SYS_epoll_pwait "epoll_pwait" SYS_epoll_ctl "epoll_ctl" SYS_read "read" SYS_write "write"
    SYS_writev "writev" #[cfg(target_arch = "x86_64")] SYS_poll "poll" SYS_ppoll "ppoll"
    SYS_clock_gettime "clock_gettime" SYS_restart_syscall "restart_syscall" SYS_bpf "bpf"
    SYS_recvfrom "recvfrom" SYS_mmap "mmap" SYS_munmap "munmap" SYS_madvise "madvise"
    SYS_mremap "mremap" SYS_mprotect "mprotect" SYS_brk "brk" SYS_getrandom "getrandom"
    SYS_openat2 "openat2" SYS_lseek "lseek" SYS_getdents64 "getdents64" SYS_close "close" SYS_fstat "fstat" SYS_fcntl "fcntl" SYS_openat "openat"
    SYS_renameat "renameat" SYS_sendto "sendto" SYS_pidfd_send_signal "pidfd_send_signal" SYS_kill "kill" SYS_perf_event_open "perf_event_open"
    SYS_ioctl "ioctl" SYS_exit_group "exit_group" SYS_exit "exit"
    SYS_rt_sigreturn "rt_sigreturn" SYS_rt_sigprocmask "rt_sigprocmask"
    SYS_rt_sigaction "rt_sigaction" SYS_tkill "tkill" SYS_wait4 "wait4" SYS_sigaltstack "sigaltstack"
    SYS_gettid "gettid" SYS_getpid "getpid" SYS_getcwd "getcwd"
};

#[test]
fn the_list_of_system_calls_is_the_codes() {
    let log = Opening {
        folder: 3,
        flags: 0,
        mode: 0,
    };
    let pinned = Pinned {
        name: c"log",
        older: Some(c"log.1"),
    };
    // By either call: what an older kernel has, and what a newer one has.
    let rules = |how| {
        let filter = PinnedFilter {
            name: c"filter",
            how,
        };
        calls::rules(&Granted {
            written: [Some((log, pinned)); 2],
            filter: Some((log, filter)),
            below: Some((6, &BELOW)),
            names: Some(7),
            send: &[5],
            keys: Some(8),
            receive: true,
            kill: Some(4),
            wait: true,
            thread: 1,
        })
    };
    let all = [rules(None), rules(Some(&WITHIN))].concat();
    let name = |number| {
        let mut names = NAMES.iter();
        let found = names.find(|(known, _)| *known == number);
        found
            .unwrap_or_else(|| panic!("call {number} has no name here"))
            .1
    };
    let code: BTreeSet<&str> = all.iter().map(|rule| name(rule.call)).collect();
    let text = include_str!("../SECURITY.md");
    let section = text.split_once("\n## System calls\n").expect("a section").1;
    let section = section.split("\n## ").next().unwrap();
    let mut said = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        assert!(cells[3].len() > 4, "no reason: {row}");
        for call in cells[1].split(", ") {
            let elsewhere = call.ends_with("(x86-64)") && cfg!(not(target_arch = "x86_64"));
            let call = call.split('`').nth(1).expect("a name");
            assert!(elsewhere || said.insert(call), "{call} twice");
            // What is asked is said, where something is.
            let mut rules = all
                .iter()
                .filter(|rule| elsewhere || name(rule.call) == call);
            let asked = rules.any(|rule| !rule.checks.is_empty());
            // Received from or not at all.
            let asked = asked || ["recvfrom", "getdents64"].contains(&call);
            assert_eq!(
                elsewhere || asked,
                !cells[2].is_empty() || elsewhere,
                "{row}"
            );
        }
    }
    assert_eq!(said, code);
}
