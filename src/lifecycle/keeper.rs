//! The best knowledge so far of whose a connection is, kept small.
//!
//! Contract: what is better known is never replaced by what is known less.

use crate::event::{COMM_LEN, Owner, OwnerSource, Task};

/// An owner, or none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keeper(Option<Kept>);

/// An owner without room for what isn't known.
#[derive(Clone, Copy, Debug)]
struct Kept {
    pid: u32,
    tid: u32,
    uid: Option<u32>,
    /// 0 where it isn't known.
    parent: u32,
    cgroup: u64,
    name: [u8; COMM_LEN],
    thread: [u8; COMM_LEN],
    source: OwnerSource,
}

/// How far a source is to be believed: the process itself, else the one that
/// listened, else what /proc said at the start.
fn rank(source: OwnerSource) -> u8 {
    match source {
        OwnerSource::Task | OwnerSource::Cached | OwnerSource::Accept => 4,
        OwnerSource::Descendant => 3,
        OwnerSource::Listener | OwnerSource::ListenerAccepted => 2,
        OwnerSource::Snapshot => 1,
    }
}

impl Keeper {
    /// The owner.
    pub fn get(&self) -> Option<Owner> {
        self.0.map(|kept| Owner {
            task: Task {
                pid: kept.pid,
                tid: kept.tid,
                uid: kept.uid,
                name: kept.name,
            },
            thread: kept.thread,
            parent: Some(kept.parent).filter(|n| *n != 0),
            cgroup: Some(kept.cgroup).filter(|n| *n != 0),
            source: kept.source,
        })
    }

    /// Takes an owner, if it is better known than the one before.
    pub fn learn(&mut self, owner: Option<&Owner>) {
        let Some(new) = owner else { return };
        let known = self.0.map_or(0, |old| rank(old.source));
        if rank(new.source) < known {
            return;
        }
        self.0 = Some(Kept {
            pid: new.task.pid,
            tid: new.task.tid,
            uid: new.task.uid,
            parent: new.parent.unwrap_or(0),
            cgroup: new.cgroup.unwrap_or(0),
            name: new.task.name,
            thread: new.thread,
            // What is learned in an event of its own is cached from then on.
            source: match new.source {
                OwnerSource::Task => OwnerSource::Cached,
                other => other,
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::owner;

    #[test]
    fn the_better_knowledge_stays() {
        let mut keeper = Keeper::default();
        let mut told = |pid, source| {
            keeper.learn(Some(&owner(pid, source)));
            keeper.get().map(|owner| (owner.task.pid, owner.source))
        };
        use OwnerSource::*;
        assert_eq!(told(1, Snapshot), Some((1, Snapshot)));
        assert_eq!(told(2, Listener), Some((2, Listener)));
        assert_eq!(told(3, Snapshot), Some((2, Listener)));
        assert_eq!(told(4, Accept), Some((4, Accept)));
        assert_eq!(told(5, Listener), Some((4, Accept)));
        // Passed on to another process.
        assert_eq!(told(6, Task), Some((6, Cached)));
    }
}
