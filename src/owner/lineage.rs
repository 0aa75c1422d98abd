//! What is asked of the table of processes to judge who can have a socket.
//!
//! Contract: every answer is of the moment of the event that is being dealt
//! with. Times are of CLOCK_MONOTONIC in nanoseconds. What isn't known is said to
//! be so, never guessed.

use crate::model::event::COMM_LEN;

/// Living processes that descend from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descendants {
    /// None.
    None,
    /// One: its process id, and when it was born.
    Only(u32, u64),
    /// More than one.
    Several,
    /// It can't be told.
    Unknown,
}

/// What is known of the process that has an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// See [`Lineage::is_kernel_thread`].
    pub kernel: bool,
    /// See [`Lineage::parent`].
    pub parent: Option<u32>,
    /// See [`Lineage::name`].
    pub name: Option<[u8; COMM_LEN]>,
}

/// Who knows what becomes of processes.
pub trait Lineage {
    /// Whether what becomes of processes is followed at all. Where it isn't
    /// (another PID namespace, no records), nothing below is known.
    fn follows(&self) -> bool;
    /// Whether the process that had this id at `since` still lives.
    fn lives(&self, pid: u32, since: u64) -> Option<bool>;
    /// The living descendants of the process that had this id at `since`, by the
    /// children that it has had since then; it may have ended.
    fn descendants(&self, pid: u32, since: u64) -> Descendants;
    /// Whether a process is the one that had the id `top` at `since`, or descends
    /// from it, by whatever children.
    fn descends(&self, pid: u32, top: u32, since: u64) -> Option<bool>;
    /// The name of the process that has this id: that of its first thread, ended
    /// by a NUL if it is shorter. Where that has just ended: the one it had.
    fn name(&self, pid: u32) -> Option<[u8; COMM_LEN]>;
    /// Its parent's id, as long as that one lives.
    fn parent(&self, pid: u32) -> Option<u32>;
    /// Whether it is a thread of the kernel.
    fn is_kernel_thread(&self, pid: u32) -> bool;
    /// Whether it is one, and its name.
    fn called(&self, pid: u32) -> (bool, Option<[u8; COMM_LEN]>) {
        (self.is_kernel_thread(pid), self.name(pid))
    }
    /// All that in one.
    fn standing(&self, pid: u32) -> Standing {
        Standing {
            kernel: self.is_kernel_thread(pid),
            parent: self.parent(pid),
            name: self.name(pid),
        }
    }
}

/// Processes of which nothing is known, such as those of when it was recorded.
#[derive(Debug)]
pub(crate) struct Unknown;

impl Lineage for Unknown {
    fn follows(&self) -> bool {
        false
    }
    fn lives(&self, _: u32, _: u64) -> Option<bool> {
        None
    }
    fn descendants(&self, _: u32, _: u64) -> Descendants {
        Descendants::Unknown
    }
    fn descends(&self, pid: u32, top: u32, _: u64) -> Option<bool> {
        (pid == top).then_some(true)
    }
    fn name(&self, _: u32) -> Option<[u8; COMM_LEN]> {
        None
    }
    fn parent(&self, _: u32) -> Option<u32> {
        None
    }
    fn is_kernel_thread(&self, _: u32) -> bool {
        false
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A family that is told of, for tests.
    #[derive(Default)]
    pub(crate) struct Family {
        /// Id, birth, end (`u64::MAX` for none), parent.
        pub all: Vec<(u32, u64, u64, u32)>,
        /// The moment.
        pub now: u64,
    }

    impl Family {
        fn of(&self, pid: u32, since: u64) -> Option<&(u32, u64, u64, u32)> {
            let mut all = self.all.iter();
            all.find(|p| p.0 == pid && p.1 <= since && since < p.2)
        }

        fn count(&self, of: u32, since: u64, found: &mut Vec<(u32, u64)>) {
            for (pid, born, end, parent) in &self.all {
                if *parent == of && *born >= since && *born <= self.now {
                    if *end > self.now {
                        found.push((*pid, *born));
                    }
                    self.count(*pid, *born, found);
                }
            }
        }
    }

    impl Lineage for Family {
        fn follows(&self) -> bool {
            true
        }
        fn lives(&self, pid: u32, since: u64) -> Option<bool> {
            Some(self.of(pid, since).is_some_and(|p| p.2 > self.now))
        }
        fn descendants(&self, pid: u32, since: u64) -> Descendants {
            let mut found = Vec::new();
            self.count(pid, since, &mut found);
            match found[..] {
                [] => Descendants::None,
                [(pid, born)] => Descendants::Only(pid, born),
                _ => Descendants::Several,
            }
        }
        fn descends(&self, pid: u32, top: u32, since: u64) -> Option<bool> {
            let top = self.of(top, since)?;
            let mut at = self.of(pid, self.now)?;
            while at != top {
                match self
                    .all
                    .iter()
                    .find(|p| p.0 == at.3 && p.1 <= at.1 && at.1 < p.2)
                {
                    Some(parent) => at = parent,
                    None => return Some(false),
                }
            }
            Some(true)
        }
        fn name(&self, pid: u32) -> Option<[u8; COMM_LEN]> {
            let mut name = [0; COMM_LEN];
            name[0] = b'a' + (pid % 26) as u8;
            self.of(pid, self.now).map(|_| name)
        }
        fn parent(&self, pid: u32) -> Option<u32> {
            let parent = self.of(pid, self.now)?.3;
            self.of(parent, self.now).map(|p| p.0)
        }
        fn is_kernel_thread(&self, pid: u32) -> bool {
            pid == 2
        }
    }
}
