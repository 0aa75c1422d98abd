//! The system calls that the loop, the report and a crash still make.
//!
//! Contract: recorded with strace on musl, for x86-64 and aarch64; what only
//! one of them has is marked. riscv64 has those of aarch64, but for one. A new call is one more line here, and belongs to
//! the comment that says who makes it; SECURITY.md lists them all, too. What has
//! no line can't be done: open, socket, execve, ptrace, clone, mount, and all else.

use super::filter::{Call, Check, Rule};
use crate::sys::folder::How;
use crate::sys::{bpf, perf_event, send};
use Check::{At, AtHow, Bits, Clear, Is, OneOf, Sealed};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// The log's names, in memory that can't be changed any more.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    /// Its name.
    pub name: &'static CStr,
    /// What it is renamed to.
    pub older: Option<&'static CStr>,
}

/// The names of files, in memory that can't be changed any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names {
    /// The log's.
    pub log: Option<Pinned>,
    /// That of the filter's file.
    pub filter: Option<PinnedFilter>,
    /// Those of the file of figures.
    pub metrics: Option<Pinned>,
    /// How folders are opened below the one that may be looked through.
    pub below: Option<&'static How>,
}

/// The name of the filter's file, and how it is opened, in memory that can't be changed
/// any more.
#[derive(Clone, Copy, Debug)]
pub struct PinnedFilter {
    /// Its name.
    pub name: &'static CStr,
    /// How, where links in its folder are followed.
    pub how: Option<&'static How>,
}

/// How files in a folder may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Descriptor of the folder.
    pub folder: RawFd,
    /// All flags of openat(2).
    pub flags: i32,
    /// The mode of a new file.
    pub mode: u32,
}

impl Opening {
    fn checks(self) -> [Check; 3] {
        [
            Is(0, self.folder as u32),
            Is(2, self.flags as u32),
            Is(3, self.mode),
        ]
    }
}

/// What is allowed beyond what every run needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Granted<'a> {
    /// How the log and the file of figures are opened, and their names in sealed
    /// memory.
    pub written: [Option<(Opening, Pinned)>; 2],
    /// The same of the filter's file, whose name is in sealed memory, too.
    pub filter: Option<(Opening, PinnedFilter)>,
    /// The folder below which others may be opened, and how, in sealed memory.
    pub below: Option<(RawFd, &'static How)>,
    /// An open folder whose names may be read again.
    pub names: Option<RawFd>,
    /// Whether sockets are received from.
    pub receive: bool,
    /// Sockets that are sent to.
    pub send: &'a [RawFd],
    /// The terminal whose modes are set.
    pub keys: Option<RawFd>,
    /// The process that may be killed, by its descriptor.
    pub kill: Option<RawFd>,
    /// Whether children are waited for.
    pub wait: bool,
    /// The only thread's id.
    pub thread: u32,
}

/// Mappings that hide, replace and execute nothing: those of malloc and of a ring.
const PROT: u32 = (libc::PROT_READ | libc::PROT_WRITE) as u32;
const MAP: u32 = (libc::MAP_PRIVATE | libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u32;

/// What is done with a descriptor's flags; a debug build asks for them at closing.
const FLAGS: [u32; 3] = [
    libc::F_GETFD as u32,
    libc::F_GETFL as u32,
    libc::F_SETFL as u32,
];

/// How tcsetattr(3) sets a terminal's modes.
const MODES: [u32; 3] = [
    libc::TCSETS as u32,
    libc::TCSETSW as u32,
    libc::TCSETSF as u32,
];

/// The signals whose handling abort(3) and std's stack guard change.
const FATAL: [u32; 3] = [
    libc::SIGABRT as u32,
    libc::SIGSEGV as u32,
    libc::SIGBUS as u32,
];

/// Everything that is allowed, the most frequent calls first.
pub fn rules(granted: &Granted<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut allow = |call: Call, checks: &[Check]| {
        rules.push(Rule {
            call,
            checks: checks.to_vec(),
        });
    };

    // The loop: rings, signals, output.
    allow(libc::SYS_epoll_pwait, &[]);
    allow(libc::SYS_read, &[]);
    allow(libc::SYS_write, &[]);
    allow(libc::SYS_writev, &[]);
    allow(libc::SYS_epoll_ctl, &[]);
    // A socket as standard output or standard error, or the kernel's sock_diag, and
    // nobody but its peer.
    for &socket in granted.send {
        let peer = Is(5, 0);
        let flags = Is(3, send::FLAGS as u32);
        allow(libc::SYS_sendto, &[Is(0, socket as u32), flags, peer]);
    }
    // Where the clock can't be read without a call (vDSO).
    allow(libc::SYS_clock_gettime, &[]);
    // A standard output that may not be ready: poll(2) here, ppoll(2) on aarch64.
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_poll, &[]);
    allow(libc::SYS_ppoll, &[]);
    allow(libc::SYS_restart_syscall, &[]);
    // What was lost, a new ring for the programs, listeners that were found late;
    // no loading, no attaching.
    allow(libc::SYS_bpf, &[OneOf(0, &bpf::LATER)]);

    // What the kernel says of destroyed sockets; `read` would not tell who sent it.
    if granted.receive {
        allow(libc::SYS_recvfrom, &[]);
    }

    // malloc and free, the keys of a hash table.
    let anywhere = &[Bits(2, PROT), Bits(3, MAP)];
    allow(libc::SYS_mmap, anywhere);
    allow(libc::SYS_munmap, &[Clear(0)]);
    allow(
        libc::SYS_mremap,
        &[Clear(0), Is(3, libc::MREMAP_MAYMOVE as u32)],
    );
    allow(libc::SYS_madvise, &[Clear(0)]);
    allow(libc::SYS_mprotect, &[Clear(0), Bits(2, PROT)]);
    allow(libc::SYS_brk, &[]);
    allow(libc::SYS_getrandom, &[]);

    // The log: whether it still is a file, and back to blocking writes.
    allow(libc::SYS_close, &[]);
    allow(libc::SYS_fstat, &[]);
    allow(libc::SYS_fcntl, &[OneOf(1, &FLAGS)]);
    // Nothing but the names of the log and of the figures, which can't be changed any more.
    for written in granted.written {
        let Some((log, Pinned { name, older })) = written else {
            continue;
        };
        let [folder, flags, mode] = log.checks();
        allow(libc::SYS_openat, &[folder, At(1, name), flags, mode]);
        // And to begin a log anew, or put the figures in place, renaming it to the one other name.
        if let Some(older) = older {
            let to = Is(2, log.folder as u32);
            let names = [folder, At(1, name), to, At(3, older)];
            #[cfg(not(target_arch = "riscv64"))]
            allow(libc::SYS_renameat, &names);
            // The only one that riscv64 has, there without flags.
            #[cfg(target_arch = "riscv64")]
            allow(libc::SYS_renameat2, &[&names[..], &[Is(4, 0)]].concat());
        }
    }
    // The filter's file, to be read again.
    if let Some((filter, PinnedFilter { name, how })) = granted.filter {
        let [folder, flags, mode] = filter.checks();
        match how {
            Some(how) => {
                let size = Is(3, size_of::<How>() as u32);
                let checks = [folder, At(1, name), AtHow(2, how), size];
                allow(libc::SYS_openat2, &checks);
            }
            None => allow(libc::SYS_openat, &[folder, At(1, name), flags, mode]),
        }
    }
    // Cgroups that are made later, and the log folders of pods: their names alone.
    if let Some((folder, how)) = granted.below {
        let size = Is(3, size_of::<How>() as u32);
        let how = AtHow(2, how);
        allow(libc::SYS_openat2, &[Is(0, folder as u32), how, size]);
    }
    if let Some(folder) = granted.names {
        let start = [Is(0, folder as u32), Is(1, 0), Is(2, libc::SEEK_SET as u32)];
        allow(libc::SYS_lseek, &start);
    }
    if granted.below.is_some() || granted.names.is_some() {
        allow(libc::SYS_getdents64, &[]);
    }
    // The end of the search's helper.
    if let Some(pidfd) = granted.kill {
        let kill = [Is(0, pidfd as u32), Is(1, libc::SIGKILL as u32), Is(3, 0)];
        allow(libc::SYS_pidfd_send_signal, &kill);
    }

    // The terminal is given back as it was: its modes.
    if let Some(keys) = granted.keys {
        allow(libc::SYS_ioctl, &[Is(0, keys as u32), OneOf(1, &MODES)]);
        // To be stopped with those that a shell started with it, as by Ctrl-Z.
        allow(libc::SYS_kill, &[Is(0, 0), Is(1, libc::SIGTSTP as u32)]);
    }

    // What became of a command that was to be run.
    if granted.wait {
        let at_once = [Is(2, libc::WNOHANG as u32), Is(3, 0)];
        allow(libc::SYS_wait4, &at_once);
    }

    // A CPU that comes up: nothing but the rings' own events.
    let all = u32::MAX;
    let ring = [Sealed(0), Is(1, all), Is(3, all), Is(4, perf_event::FLAGS)];
    allow(libc::SYS_perf_event_open, &ring);

    allow(libc::SYS_ioctl, &[OneOf(1, &perf_event::LATER)]);

    // Whether standard output is a terminal, and its size; whether its reader
    // still moves.
    allow(libc::SYS_ioctl, &[Is(1, libc::TIOCGWINSZ as u32)]);
    allow(libc::SYS_ioctl, &[OneOf(1, &send::UNREAD)]);

    // The end: orderly, by abort(3), or by an overflow of the stack.
    allow(libc::SYS_exit_group, &[]);
    allow(libc::SYS_exit, &[]);
    allow(libc::SYS_rt_sigreturn, &[]);
    allow(libc::SYS_rt_sigprocmask, &[]);
    allow(libc::SYS_rt_sigaction, &[OneOf(0, &FATAL)]);
    let ourselves = [Is(0, granted.thread), Is(1, libc::SIGABRT as u32)];
    allow(libc::SYS_tkill, &ourselves);
    allow(libc::SYS_sigaltstack, &[]);
    allow(libc::SYS_gettid, &[]);
    allow(libc::SYS_getpid, &[]);
    // The folder in a backtrace (RUST_BACKTRACE).
    allow(libc::SYS_getcwd, &[]);
    rules
}
