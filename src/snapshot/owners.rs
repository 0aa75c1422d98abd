//! Whose the sockets are: the descriptors of every process.
//!
//! Contract: a process at a time, those with the fewest descriptors first, so
//! that nobody can hold up the search for the others by having many. When the
//! time is over, what was not looked at is counted.

use super::scan::{self, Folder};
use super::{BREATH, Left, NOBODY, Scan, Stopped};
use crate::model::sort;
use crate::sys::{Errno, time};

/// Processes that are put in order: a word of 8 bytes each. Beyond, they are
/// left out.
const PROCESSES: usize = 1 << 18;

/// A process, and about how many descriptors it has.
type Sized = (u32, u32);

impl Scan<'_> {
    /// Finds the processes that have the sockets.
    pub(super) fn owners(&mut self, proc: &Folder) -> Result<(), Stopped> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        sort::by_key(&mut self.wanted, |wanted| wanted.inode);
        let mut all = self.by_size(proc)?;
        sort::by_key(&mut all, |sized| *sized);
        let mut all = all.into_iter();
        while let Some((size, pid)) = all.next() {
            if !self.look_into(proc, pid)? {
                // This one, too, was not looked at to its end.
                for (size, _) in std::iter::once((size, pid)).chain(all) {
                    self.left.leave(size);
                }
                break;
            }
        }
        Ok(())
    }

    /// All processes.
    fn by_size(&mut self, proc: &Folder) -> Result<Vec<Sized>, Stopped> {
        let counted = proc.counts_descriptors();
        let mut all: Vec<Sized> = Vec::new();
        let named = proc.numbers(c".", &mut |pid, name, _| {
            if all.len() as u32 % BREATH == 0 && !self.sink.breathe(u64::MAX) {
                return false;
            }
            match proc.folder(name) {
                Ok(process) => {
                    let size = process.descriptors(counted);
                    match all.len() < PROCESSES {
                        true => all.push((size, pid)),
                        false => self.left.leave(size),
                    }
                }
                Err(errno) => self.may_be_short(errno),
            }
            true
        });
        match named {
            Ok(false) => Err(Stopped),
            Ok(true) => Ok(all),
            Err(errno) => {
                self.may_be_short(errno);
                Ok(all)
            }
        }
    }

    /// Looks at the descriptors of a process; whether there was time for all.
    fn look_into(&mut self, proc: &Folder, pid: u32) -> Result<bool, Stopped> {
        let name = std::ffi::CString::new(pid.to_string()).unwrap_or_default();
        let process = match proc.folder(&name) {
            Ok(process) => process,
            Err(errno) => {
                self.may_be_short(errno);
                return Ok(true);
            }
        };
        // Its place in `processes`, once it is known to have a socket.
        let mut index = None;
        let (mut denied, mut late, mut go_on) = (false, false, true);
        // A process without any took its time, too.
        self.looked += 1;
        let all = process.numbers(c"fd", &mut |_, name, folder| {
            self.looked += 1;
            if self.looked >= BREATH {
                self.looked = 0;
                late = time::monotonic() > self.limits.owners;
                go_on = self.sink.breathe(u64::MAX);
            }
            if late || !go_on {
                return false;
            }
            let inode = match scan::socket_inode(folder, name) {
                Ok(Some(inode)) => inode,
                Ok(None) => return true,
                Err(errno) => {
                    denied |= is_denial(errno);
                    self.may_be_short(errno);
                    return true;
                }
            };
            // More than one where the kernel has listed it twice.
            let start = self.wanted.partition_point(|w| w.inode < inode);
            let end = self.wanted[start..].partition_point(|w| w.inode == inode) + start;
            if start == end {
                return true;
            }
            if index.is_none() {
                let Some(known) = process.process(pid) else {
                    return true;
                };
                index = Some(self.processes.len() as u32);
                self.processes.push(known);
            }
            (start..end).for_each(|w| self.holds(w, index.unwrap_or(NOBODY)));
            true
        });
        if let Err(errno) = all {
            denied |= is_denial(errno);
            self.may_be_short(errno);
        }
        self.denied += u32::from(denied);
        match go_on {
            true => Ok(!late),
            false => Err(Stopped),
        }
    }

    /// A process has the socket: whose is it?
    fn holds(&mut self, wanted: usize, process: u32) {
        let wanted = &mut self.wanted[wanted];
        if wanted.process == process {
            // Two descriptors.
            return;
        }
        let known = |index: u32| self.processes.get(index as usize);
        match (known(wanted.process), known(process)) {
            (None, _) => wanted.process = process,
            (Some(old), Some(new)) => {
                wanted.shared = true;
                if new.is_older(old) {
                    wanted.process = process;
                }
            }
            (Some(_), None) => {}
        }
    }
}

impl Left {
    fn leave(&mut self, descriptors: u32) {
        self.processes += 1;
        self.descriptors += u64::from(descriptors);
    }
}

/// Whether an error is that of somebody who may not look.
fn is_denial(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM)
}
