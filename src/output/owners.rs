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

/// One that was rendered.
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
    /// What is told of cgroups.
    pub(super) cgroups: Rc<Cgroups>,
    places: Vec<Option<Kept>>,
}

/// Whether two owners are the same, by few comparisons.
fn same(one: &Owner, other: &Owner) -> bool {
    let names = |owner: &Owner| {
        let name = u128::from_ne_bytes(owner.task.name);
        (name, u128::from_ne_bytes(owner.thread))
    };
    let ids = |owner: &Owner| (owner.task.pid, owner.task.tid, owner.task.uid);
    ids(one) == ids(other)
        && names(one) == names(other)
        && (one.parent, one.cgroup, one.source) == (other.parent, other.cgroup, other.source)
}

impl Owners {
    /// None as yet; this makes their texts.
    pub(super) fn new(render: Render) -> Owners {
        Owners {
            render,
            cgroups: Rc::default(),
            places: Vec::new(),
        }
    }

    /// Appends the text of an owner in a network namespace.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, owner: Option<&Owner>, netns: Option<u32>) {
        let Some(owner) = owner else {
            (self.render)(out, None, netns, &self.cgroups);
            return;
        };
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let at = owner.task.tid.wrapping_mul(8) ^ owner.source as u32;
        let Some(place) = self.places.get_mut(at as usize % PLACES) else {
            return;
        };
        match place {
            Some(kept) if kept.netns == netns && same(&kept.owner, owner) => {
                append(out, &kept.text);
            }
            _ => {
                let mut text = place.take().map_or_else(Vec::new, |kept| kept.text);
                text.clear();
                let whole = (self.render)(&mut text, Some(owner), netns, &self.cgroups);
                append(out, &text);
                let owner = *owner;
                // Else more may be known at the next line.
                *place = whole.then_some(Kept { owner, netns, text });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::members;
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

    #[test]
    fn it_is_what_rendering_gives() {
        let mut owners = Owners::new(members::owner);
        for again in [1, 2, 3] {
            for one in some() {
                for netns in [None, Some(7), Some(8)] {
                    for _ in 0..again {
                        let (mut kept, mut rendered) = (Vec::new(), Vec::new());
                        owners.append(&mut kept, Some(&one), netns);
                        members::owner(&mut rendered, Some(&one), netns, &owners.cgroups);
                        assert_eq!(kept, rendered);
                    }
                }
            }
        }
        let mut none = Vec::new();
        owners.append(&mut none, None, Some(7));
        let text = r#","owner.source":"none","network.namespace":7"#;
        assert_eq!(none, text.as_bytes());
    }
}
