//! Every network namespace of the host, one after the other: those of processes
//! and threads, and those that are mounted.
//!
//! Contract: this thread is back in its own namespace whenever it does anything
//! but open a socket or read a setting. Each namespace is entered once, as long as
//! there is time; then they are only counted, for a moment.

use super::lack::{Lack, Unlisted};
use super::{Scan, Stopped, scan};
use crate::sys::caps::{self, Caps};
use crate::sys::netlink::Diag;
use crate::sys::{self, Errno, file, time};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use scan::Folder;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// How long namespaces without a turn are counted, in nanoseconds.
const COUNTING: u64 = 250_000_000;
/// Namespaces that are told apart at most.
const NAMESPACES: usize = 1 << 17;

impl Scan<'_> {
    /// Lists the sockets of all network namespaces.
    pub(super) fn namespaces(&mut self, proc: &Folder) -> Result<(), Stopped> {
        let ours = match proc.file(c"thread-self/ns/net") {
            Ok(file) => file,
            Err(errno) => {
                self.failed = Some(Unlisted::Namespace(errno));
                return Ok(());
            }
        };
        let own = ours.metadata().map_or(0, |meta| meta.ino() as u32);
        self.seen.insert(own, ());
        let diag = self.open();
        self.dump(own, diag)?;
        self.hear_or_not();
        if !caps::effective().is_ok_and(|caps| caps.contains(Caps::SYS_ADMIN)) {
            self.lacks(Lack::OneNamespace);
            return Ok(());
        }
        for (inode, place) in mounted() {
            let file = file::open(place.as_ref(), OFlag::O_NONBLOCK);
            // Something else may be mounted over it.
            let is = |file: &File| file.metadata().is_ok_and(|m| m.ino() == u64::from(inode));
            if let Some(file) = file.ok().filter(is) {
                self.enter(inode, &ours, &file)?;
            }
        }
        let mut enough = false;
        let all = proc.numbers(c".", &mut |_, name, _| {
            if time::monotonic() > self.limits.list.saturating_add(COUNTING) {
                enough = true;
                return false;
            }
            match proc.folder(name) {
                Ok(process) => self.namespaces_of(&process, &ours).is_ok(),
                Err(errno) => {
                    self.may_be_short(errno);
                    true
                }
            }
        });
        all.map_or(Ok(()), |all| (all || enough).then_some(()).ok_or(Stopped))
    }

    /// Where sock_diag doesn't answer, it won't say anything of its own either.
    pub(super) fn hear_or_not(&mut self) {
        if let (Some(Unlisted::Diag(errno)), Some(broadcasts)) =
            (&self.failed, &mut self.stock.broadcasts)
        {
            broadcasts.give_up(*errno);
        }
    }

    /// Those of a process's threads.
    fn namespaces_of(&mut self, process: &Folder, ours: &File) -> Result<(), Stopped> {
        self.namespace_of(process, ours)?;
        if !process.has_threads() {
            return Ok(());
        }
        let Ok(threads) = process.folder(c"task") else {
            return Ok(());
        };
        let all = threads.numbers(c".", &mut |_, name, _| {
            let Ok(thread) = threads.folder(name) else {
                return true;
            };
            self.namespace_of(&thread, ours).is_ok()
        });
        all.map_or(Ok(()), |all| all.then_some(()).ok_or(Stopped))
    }

    /// That of a thread.
    fn namespace_of(&mut self, thread: &Folder, ours: &File) -> Result<(), Stopped> {
        const NET: &std::ffi::CStr = c"ns/net";
        match thread.namespace(NET) {
            Ok(inode) if !self.seen.has(inode as u32) => match thread.file(NET) {
                // The thread may have moved on.
                Ok(file) if file.metadata().is_ok_and(|m| m.ino() == inode) => {
                    self.enter(inode as u32, ours, &file)
                }
                Ok(_) => Ok(()),
                Err(errno) => {
                    self.may_be_short(errno);
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }

    fn enter(&mut self, inode: u32, ours: &File, theirs: &File) -> Result<(), Stopped> {
        if self.seen.has(inode) {
            return Ok(());
        }
        if self.seen.len() < NAMESPACES {
            self.seen.insert(inode, ());
        }
        if time::monotonic() > self.limits.list {
            self.left.namespaces += 1;
            if let Some(broadcasts) = &mut self.stock.broadcasts {
                broadcasts.add(Err(Errno::ETIME));
            }
            return Ok(());
        }
        let entered = setns(theirs, CloneFlags::CLONE_NEWNET);
        let diag = match entered {
            Ok(()) => self.open(),
            Err(errno) => Err(errno.into()),
        };
        if let (Ok(()), Err(errno)) = (entered, setns(ours, CloneFlags::CLONE_NEWNET)) {
            self.failed.get_or_insert(Unlisted::Diag(errno.into()));
            return Err(Stopped);
        }
        self.dump(inode, diag)
    }

    /// Opens what is wanted in the network namespace that this thread is in.
    pub(super) fn open(&mut self) -> sys::Result<Diag> {
        if !self.states.is_empty() {
            self.ports = scan::ephemeral_ports();
        }
        if let Some(broadcasts) = &mut self.stock.broadcasts {
            broadcasts.add(Diag::hear_destroyed());
        }
        Diag::open()
    }
}

/// The network namespaces that are mounted, where this process can see them.
fn mounted() -> Vec<(u32, String)> {
    let text = file::text("/proc/self/mountinfo").unwrap_or_default();
    scan::mounted_namespaces(&text)
}
