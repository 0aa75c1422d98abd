//! A command of the user's: started at once, held back until everything is ready.
//!
//! Contract: it inherits what this process has, such as its standard streams and
//! its folder, but for what is closed on exec, and no signal is ignored that was not
//! before. It must be started before anything is opened or changed, by a process
//! of one thread; who watches over it has to let the kernel keep what became of it
//! (see [`super::signal`]).
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check, ids, path_of};
use nix::fcntl::OFlag;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, execvp, pipe2};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

/// Words for the kernel; `None` where one holds a NUL.
pub(crate) fn texts(words: &[String]) -> Option<Vec<CString>> {
    let words = words.iter().map(|word| CString::new(word.as_str()).ok());
    words.collect()
}

/// Becomes the program in this file, with these arguments, its name the first. Returns
/// why it could not.
pub(crate) fn execute(file: BorrowedFd<'_>, words: &[CString]) -> Errno {
    let Ok(path) = CString::new(path_of(file)) else {
        return Errno::EINVAL;
    };
    let Err(errno) = execvp(&path, words);
    errno.into()
}

/// What a shell says of a command that can't be run.
const CANNOT_RUN: i32 = 126;

/// Who a command runs as.
#[derive(Clone, Debug)]
pub(crate) struct RunAs {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// All groups that it is in.
    pub groups: Vec<u32>,
}

/// A command that has been started, and waits.
#[derive(Debug)]
pub(crate) struct Held {
    pid: Pid,
    go: Option<File>,
    /// Its exit code, once it has ended: 128 and the signal's number where one
    /// ended it.
    ended: Option<u8>,
}

/// The child's part: it waits, changes its user and runs the command. Why it could
/// not, but for a parent that gave up.
fn run(mut held: File, words: &[CString], user: Option<&RunAs>) -> Option<(&'static str, Errno)> {
    let mut go = [0];
    held.read_exact(&mut go).ok()?;
    let change = |user: &RunAs| ids::change(user.uid, user.gid, &user.groups);
    if let Some(Err(errno)) = user.map(change) {
        return Some(("become its user", errno));
    }
    // Rust's start ignores it, and that would be inherited.
    // SAFETY: no handler.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let Err(errno) = execvp(words.first()?, words);
    Some(("be run", errno.into()))
}

impl Held {
    /// Starts it; `words` are its name and its arguments. `say` is called in the
    /// child with what it could not do, and why.
    pub(crate) fn start(
        words: &[CString],
        user: Option<&RunAs>,
        say: &dyn Fn(&str, Errno),
    ) -> Result<Held> {
        let (reader, go) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: this process has one thread, so no lock is held in the copy; that
        // one becomes the command, or leaves by _exit.
        let pid = check(unsafe { libc::fork() }.into())?;
        if pid == 0 {
            drop(go);
            if let Some((what, errno)) = run(File::from(reader), words, user) {
                say(what, errno);
            }
            // SAFETY: ends the copy without running what belongs to its parent.
            unsafe { libc::_exit(CANNOT_RUN) };
        }
        Ok(Held {
            pid: Pid::from_raw(pid as i32),
            go: Some(File::from(go)),
            ended: None,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Lets it run.
    pub(crate) fn go(&mut self) {
        if let Some(mut go) = self.go.take() {
            // Where that fails it has ended, which is seen.
            let _ = go.write_all(&[1]);
        }
    }

    /// Looks after children that have ended; the exit code of this one if it has.
    pub(crate) fn ended(&mut self) -> Option<u8> {
        while self.ended.is_none() {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.pid => {
                    self.ended = Some(code as u8);
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.pid => {
                    self.ended = Some(128 + signal as u8);
                }
                // Another one, such as that of the search.
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {}
                _ => break,
            }
        }
        self.ended
    }
}
