//! A search that finds nothing: for what a search would go without.
//!
//! Contract: it takes the steps of a search that can fail, with the same errors;
//! its cost is that of a look at each process. Afterwards all is as it was before.

use super::modules::Modules;
use super::proc::{self, Folder};
use super::{Purpose, Scan, Sink, Stock, is_denial, scan};
use crate::event::Owner;
use crate::existing::Existing;

/// Searches as [`super::take`] does but for the sockets: in every network
/// namespace it asks for none, and of every process's descriptors it looks at one.
pub fn try_out(purpose: Purpose) -> Stock {
    let modules = Modules::now();
    let stock = scan(&mut Nobody, true, purpose, &[]);
    modules.restore();
    stock
}

/// Who takes nothing.
struct Nobody;

impl Sink for Nobody {
    fn connection(&mut self, _: &Existing) -> Option<u32> {
        None
    }
    fn owner(&mut self, _: u32, _: &Owner) {}
    fn breathe(&mut self, _: u64) -> bool {
        true
    }
}

impl Scan<'_> {
    /// Finds the processes that may not be looked into.
    pub(super) fn try_owners(&mut self, proc: &Folder) {
        let _ = proc.numbers(c".", &mut |_, name, _| {
            if let Ok(process) = proc.folder(name) {
                let mut first = Ok(None);
                let all = process.numbers(c"fd", &mut |_, name, folder| {
                    first = proc::socket_inode(folder, name);
                    false
                });
                let errno = all.err().or(first.err());
                self.denied += u32::from(errno.is_some_and(is_denial));
            }
            true
        });
    }
}
