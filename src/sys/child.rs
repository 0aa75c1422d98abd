//! A helper process: a copy of this one that does a single thing and ends.
//!
//! Contract: it has two pipes to its parent and nothing else that was open, no
//! new privileges, and the capabilities that it is given. It ends with its
//! parent, and when it is told to. Both must be processes of one thread.
#![allow(unsafe_code, reason = "owns system calls")]

use super::caps::{self, Caps};
use super::{Errno, Result, check, own};
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::pipe2;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most that is written to a pipe in one piece (PIPE_BUF, in bytes): who
/// reads it gets all of it at once.
pub(crate) const PIECE: usize = 4096;

/// Where there is no close_range(2) (Linux 5.9), descriptors up to this one are
/// closed.
const DESCRIPTORS: RawFd = 65536;

/// A helper, as its parent has it.
#[derive(Debug)]
pub(crate) struct Child {
    /// What is written here it reads.
    pub words: File,
    /// What it writes is read here.
    pub answers: File,
    /// None before Linux 5.3.
    pidfd: Option<OwnedFd>,
}

/// The same as the helper has it.
#[derive(Debug)]
pub(crate) struct Parent {
    /// What is read.
    pub words: File,
    /// What is written.
    pub answers: File,
    /// What it was given.
    pub given: Option<OwnedFd>,
}

/// How a helper is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// What it is called: at most 15 bytes.
    pub name: &'a CStr,
    /// The capabilities that it keeps, as far as this process has them.
    pub keep: Caps,
    /// A descriptor that it gets.
    pub give: Option<BorrowedFd<'a>>,
    /// Whether it may have to be killed. Else it ends when its pipe does.
    pub kill: bool,
}

fn exit() -> ! {
    // SAFETY: ends the process without running what belongs to the parent.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor from this one on.
fn close_from(first: RawFd) {
    // SAFETY: nothing that this process goes on with has such a descriptor.
    unsafe {
        let closed = libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, 0u32);
        if closed != 0 {
            for fd in first..DESCRIPTORS {
                libc::close(fd);
            }
        }
    }
}

/// What a helper does first: it keeps its pipes, what it is given, and nothing
/// else.
fn settle(words: &OwnedFd, answers: &OwnedFd, plan: &Plan<'_>, parent: u32) -> Result<Parent> {
    prctl::set_name(plan.name)?;
    for ignored in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ] {
        // SAFETY: no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    // What is given may have the number 3 already, and the pipes none below it:
    // the C library's three are open from the start.
    let given = plan.give.map_or(Ok(2), |fd| {
        // SAFETY: a new descriptor, which takes the place of none.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) }.into())
    })? as RawFd;
    // SAFETY: all are open; what was open with these numbers belongs to the
    // parent's copy of this program.
    let parents = unsafe {
        for (from, to) in [(words, 0), (answers, 1), (words, 2)] {
            check(libc::dup2(from.as_raw_fd(), to).into())?;
        }
        let given = match given {
            3.. => {
                check(libc::dup2(given, 3).into())?;
                Some(OwnedFd::from_raw_fd(3))
            }
            _ => None,
        };
        Parent {
            words: File::from_raw_fd(0),
            answers: File::from_raw_fd(1),
            given,
        }
    };
    close_from(3 + RawFd::from(parents.given.is_some()));
    caps::no_new_privs()?;
    caps::keep_only(plan.keep & caps::permitted()?)?;
    caps::not_dumpable()?;
    // Last, for a change of credentials may undo it.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    match std::os::unix::process::parent_id() == parent {
        true => Ok(parents),
        false => Err(Errno::EPIPE),
    }
}

/// Starts one, which calls `work` and ends.
pub(crate) fn start(plan: &Plan<'_>, work: &mut dyn FnMut(Parent)) -> Result<Child> {
    // Nobody waits for it; tells the kernel so (sigaction(2), SIGCHLD).
    super::signal::forget_children()?;
    let (reader, words) = pipe2(OFlag::O_CLOEXEC)?;
    let (answers, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let own_pid = std::process::id();
    // SAFETY: this process has one thread, so no lock is held in the copy; that
    // one leaves by _exit, and drops nothing of its parent's.
    let pid = check(unsafe { libc::fork() }.into())?;
    if pid == 0 {
        if let Ok(parent) = settle(&reader, &writer, plan, own_pid) {
            work(parent);
        }
        exit();
    }
    // SAFETY: no pointer; the result is a new descriptor. The helper waits for
    // this process: the number is its own.
    let pidfd = unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0u32));
        fd.ok().map(|fd| own(fd)).filter(|_| plan.kill)
    };
    Ok(Child {
        words: File::from(words),
        answers: File::from(answers),
        pidfd,
    })
}

/// Ends this process by a signal after so many seconds, whatever it does then.
pub(crate) fn end_within(seconds: u32) {
    // SAFETY: takes a number; nothing handles the signal.
    unsafe { libc::alarm(seconds) };
}

impl Child {
    /// Ends it. (Where that can't be done, it ends as soon as it looks for us.)
    pub(crate) fn kill(&self) {
        let Some(pidfd) = &self.pidfd else { return };
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; without a siginfo the kernel makes one.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                libc::SIGKILL,
                none,
                0u32,
            )
        };
    }

    /// The descriptor that [`Child::kill`] uses.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.pidfd.as_ref().map(|fd| fd.as_fd())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
