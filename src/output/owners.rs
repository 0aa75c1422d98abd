//! What lines say of owners, kept as text: most lines are of few processes.
//!
//! Contract: what is appended is what rendering it would give. Memory is bounded:
//! a place is used again for another owner.

use crate::host::cgroup::Cgroups;
use crate::model::event::Owner;
use crate::sys::append::append;
use std::rc::Rc;

/// Owners that are kept.
const PLACES: usize = 64;

/// Makes the text of an owner and a network namespace; whether that is all that will
/// be known.
type Render = fn(&mut Vec<u8>, Option<&Owner>, Option<u32>, &Cgroups) -> bool;

/// One that was rendered; without text, none.
#[derive(Debug)]
struct Kept {
    owner: Owner,
    netns: Option<u32>,
    text: Vec<u8>,
}

/// The texts.
#[derive(Debug)]
pub(super) struct Owners {
    render: Render,
    /// Whether they tell of a process's id and name alone.
    brief: bool,
    /// What is told of cgroups.
    pub(super) cgroups: Rc<Cgroups>,
    places: Vec<Kept>,
}

/// Whether two owners have the same process id and name.
#[inline(always)]
fn same_name(one: &Owner, other: &Owner) -> bool {
    let name = |owner: &Owner| u128::from_ne_bytes(owner.task.name);
    one.task.pid == other.task.pid && name(one) == name(other)
}

/// Whether all else is the same, too.
#[inline(always)]
fn same_rest(one: &Owner, other: &Owner) -> bool {
    let thread = |owner: &Owner| u128::from_ne_bytes(owner.thread);
    one.task.tid == other.task.tid
        && thread(one) == thread(other)
        && one.source == other.source
        && one.cgroup == other.cgroup
        && one.parent == other.parent
        && one.task.uid == other.task.uid
}

impl Owners {
    /// None as yet; this makes their texts, which are `brief` if they tell of a process's
    /// id and name alone.
    pub(super) fn new(render: Render, brief: bool) -> Owners {
        Owners {
            render,
            brief,
            cgroups: Rc::default(),
            places: Vec::new(),
        }
    }

    /// Appends the text of an owner in a network namespace.
    #[inline]
    pub(super) fn append(&mut self, out: &mut Vec<u8>, owner: Option<&Owner>, netns: Option<u32>) {
        let Some(owner) = owner else {
            (self.render)(out, None, netns, &self.cgroups);
            return;
        };
        let at = match self.brief {
            true => owner.task.pid,
            false => owner.task.tid.wrapping_mul(8) ^ owner.source as u32,
        };
        let at = at as usize % PLACES;
        match self.places.get(at) {
            Some(kept)
                if same_name(&kept.owner, owner)
                    && (self.brief || kept.netns == netns && same_rest(&kept.owner, owner))
                    && !kept.text.is_empty() =>
            {
                append(out, &kept.text);
            }
            _ => self.anew(out, at, owner, netns),
        }
    }

    /// The same where this place has another one.
    #[inline(never)]
    fn anew(&mut self, out: &mut Vec<u8>, at: usize, owner: &Owner, netns: Option<u32>) {
        let (of, owner) = (owner, *owner);
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || Kept {
                owner,
                netns,
                text: Vec::new(),
            });
        }
        if let Some(kept) = self.places.get_mut(at) {
            (kept.owner, kept.netns) = (owner, netns);
            kept.text.clear();
            let whole = (self.render)(&mut kept.text, Some(of), netns, &self.cgroups);
            append(out, &kept.text);
            if !whole {
                // More may be known at the next line.
                kept.text.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{members, words};
    use super::*;
    use crate::bpf::wire::tests::owner;
    use crate::model::event::OwnerSource;

    /// Owners that differ in one thing each, many of which have the same place.
    fn some() -> Vec<Owner> {
        let mut all = Vec::new();
        for n in 0..3u8 {
            for pid in [10, 18, 10 + 8 * PLACES as u32] {
                let one = owner(pid, OwnerSource::Cached);
                let (mut uid, mut parent, mut cgroup) = (one, one, one);
                let (mut name, mut thread, mut source) = (one, one, one);
                uid.task.uid = Some(n.into());
                parent.parent = Some(n.into());
                cgroup.cgroup = Some(u64::MAX - u64::from(n));
                name.task.name[0] = b'a' + n;
                thread.thread = [b'"' + n; 16];
                source.source = OwnerSource::from_number(1 + n).expect("a source");
                all.extend([one, uid, parent, cgroup, name, thread, source]);
            }
        }
        all
    }

    fn check(brief: bool, render: Render) {
        let mut owners = Owners::new(render, brief);
        for again in [1, 2, 3] {
            for one in some() {
                for netns in [None, Some(7), Some(8)] {
                    for _ in 0..again {
                        let (mut kept, mut rendered) = (Vec::new(), Vec::new());
                        owners.append(&mut kept, Some(&one), netns);
                        render(&mut rendered, Some(&one), netns, &owners.cgroups);
                        assert_eq!(kept, rendered);
                    }
                }
            }
        }
    }

    #[test]
    fn it_is_what_rendering_gives() {
        check(false, members::owner);
        check(true, |out, of, _, _| {
            words::owner(out, of);
            true
        });
        let mut owners = Owners::new(members::owner, false);
        let mut none = Vec::new();
        owners.append(&mut none, None, Some(7));
        let text = r#","owner.source":"none","network.namespace":7"#;
        assert_eq!(none, text.as_bytes());
    }
}
