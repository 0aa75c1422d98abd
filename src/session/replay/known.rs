//! What lines say of owners, over and over, in the same bytes: taken as it was.
//!
//! Contract: what is handed out for some bytes is what was made of the very same.

use crate::host::cgroup::Place;
use crate::model::event::Owner;
use crate::model::hash::GOLDEN;

/// Owners that are held at once.
const PLACES: usize = 64;

/// Part of a line: members of an owner, and what they say.
#[derive(Clone, Debug, Default)]
struct Entry {
    bytes: Vec<u8>,
    owner: Option<Owner>,
    /// The cgroup that it tells of, and what that is in.
    place: Option<(u64, Place)>,
}

/// Owners of lines.
#[derive(Clone, Debug)]
pub(super) struct Known {
    entries: Vec<Entry>,
    /// By cgroup: its number, and whose part told of it last.
    told: [(u64, usize); PLACES],
    /// Whether no other lines tell of cgroups but those of this file.
    alone: bool,
}

/// Whether these are the same bytes. (That of the C library goes by single ones.)
#[inline(always)]
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let whole = (one, other);
    let (mut one, mut other) = (one, other);
    while let (Some((a, rest)), Some((b, more))) = (
        one.split_first_chunk::<32>(),
        other.split_first_chunk::<32>(),
    ) {
        let word = |bytes: &[u8; 32], at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
            word.map_or(0, |word| u64::from_ne_bytes(*word))
        };
        let differ = |at: usize| word(a, at) ^ word(b, at);
        if differ(0) | differ(8) | differ(16) | differ(24) != 0 {
            return false;
        }
        (one, other) = (rest, more);
    }
    while let (Some((a, rest)), Some((b, more))) =
        (one.split_first_chunk::<8>(), other.split_first_chunk::<8>())
    {
        if u64::from_ne_bytes(*a) != u64::from_ne_bytes(*b) {
            return false;
        }
        (one, other) = (rest, more);
    }
    if let (Some(a), Some(b)) = (whole.0.last_chunk::<8>(), whole.1.last_chunk::<8>()) {
        return u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b);
    }
    while let (Some((a, rest)), Some((b, more))) = (one.split_first(), other.split_first()) {
        if a != b {
            return false;
        }
        (one, other) = (rest, more);
    }
    true
}

/// Where an owner is held whose part of a line begins so: by its process and its thread.
fn place(part: &[u8]) -> usize {
    let word = |at: usize| {
        let word = part.get(at..).and_then(|rest| rest.first_chunk::<8>());
        word.map_or(0, |word| u64::from_le_bytes(*word))
    };
    let mixed = word(12) ^ word(20).rotate_left(11) ^ word(38).rotate_left(29);
    (mixed.wrapping_mul(GOLDEN) >> 58) as usize
}

impl Known {
    pub(super) fn new(alone: bool) -> Known {
        Known {
            entries: vec![Entry::default(); PLACES],
            told: [(0, usize::MAX); PLACES],
            alone,
        }
    }

    /// The owner that the part of a line is of that begins here, and the part's length.
    #[inline(always)]
    pub(super) fn find(&self, rest: &[u8]) -> Option<(usize, usize)> {
        let at = place(rest);
        let known = self.entries.get(at)?;
        known.owner?;
        let len = known.bytes.len();
        let is_it = rest.get(len) == Some(&b',') && same(rest.get(..len)?, &known.bytes);
        is_it.then_some((at, len))
    }

    /// Remembers what such a part says.
    pub(super) fn learn(&mut self, part: &[u8], owner: Owner) {
        let at = place(part);
        if let Some(entry) = self.entries.get_mut(at) {
            entry.bytes.clear();
            entry.bytes.extend_from_slice(part);
            (entry.owner, entry.place) = (Some(owner), None);
        }
    }

    /// The same of what its cgroup is in, after [`Known::learn`].
    pub(super) fn learn_place(&mut self, part: &[u8], told: &(u64, Place)) {
        let at = place(part);
        if let Some(entry) = self.entries.get_mut(at) {
            if entry.bytes == part {
                entry.place = Some(told.clone());
            }
        }
        // Each time that another part tells of it that is told again.
        if let Some(last) = self.told.get_mut((told.0 % PLACES as u64) as usize) {
            *last = (told.0, usize::MAX);
        }
    }

    /// What the part at this place says.
    pub(super) fn owner(&self, at: usize) -> Option<Owner> {
        self.entries.get(at)?.owner
    }

    /// What the cgroup is in that the part at this place tells of, unless that is what
    /// was told of it last.
    pub(super) fn place(&mut self, at: usize) -> Option<(u64, Place)> {
        let told = self.entries.get(at)?.place.as_ref()?;
        let last = self.told.get_mut((told.0 % PLACES as u64) as usize)?;
        let same = std::mem::replace(last, (told.0, at)) == (told.0, at);
        (!same || !self.alone).then(|| told.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{OwnerSource, Task};

    fn owner(pid: u32) -> Owner {
        Owner {
            task: Task {
                pid,
                ..Task::default()
            },
            thread: Default::default(),
            parent: None,
            cgroup: Some(5),
            source: OwnerSource::Task,
        }
    }

    fn part(pid: u32, container: &str) -> Vec<u8> {
        let text = format!(
            "\"process.pid\":{pid},\"process.thread.id\":{pid},\"process.name\":\"{container}\""
        );
        text.into_bytes()
    }

    #[test]
    fn what_is_handed_out_is_of_the_same_bytes() {
        let mut known = Known::new(true);
        for pid in 1..200 {
            known.learn(&part(pid, "a"), owner(pid));
        }
        let mut found = 0;
        for pid in 1..200 {
            for container in ["a", "b", ""] {
                let line = [&part(pid, container)[..], b",\"y\":1}"].concat();
                if let Some((at, len)) = known.find(&line) {
                    assert_eq!((container, len), ("a", line.len() - 7));
                    assert_eq!(known.owner(at), Some(owner(pid)));
                    found += 1;
                }
            }
        }
        assert!((20..=PLACES).contains(&found), "{found}");
        // What goes on otherwise is another part.
        let cut = part(199, "a");
        assert_eq!(known.find(&cut), None);
        assert_eq!(known.find(b""), None);
    }

    #[test]
    fn a_cgroup_is_told_of_again_after_another_was_called_so() {
        let place = |name: &str| {
            let container = name.to_string();
            let place = Place {
                container,
                ..Place::default()
            };
            (5u64, place)
        };
        let mut known = Known::new(true);
        let name = |told: Option<(u64, Place)>| told.map(|(_, place)| place.container);
        let mut at = Vec::new();
        for (pid, container) in [(1, "a"), (2, "b")] {
            let part = part(pid, container);
            known.learn(&part, owner(pid));
            known.learn_place(&part, &place(container));
            at.push(known.find(&[&part[..], b","].concat()).expect("known").0);
        }
        assert_ne!(at[0], at[1]);
        for (n, told) in [
            (0, Some("a")),
            (0, None),
            (1, Some("b")),
            (0, Some("a")),
            (0, None),
        ] {
            assert_eq!(name(known.place(at[n])).as_deref(), told);
        }
        known.alone = false;
        assert_eq!(name(known.place(at[0])).as_deref(), Some("a"));
    }

    #[test]
    fn bytes_are_the_same_or_not() {
        for len in 0..40 {
            let one = vec![b'x'; len];
            assert!(same(&one, &one.clone()));
            for at in 0..len {
                let mut other = one.clone();
                other[at] = b'y';
                assert!(!same(&one, &other));
            }
            assert!(!same(&one, &vec![b'x'; len + 1]));
        }
    }
}
