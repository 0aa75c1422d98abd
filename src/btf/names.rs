//! Which types of a BTF file have the names that are asked for.
//!
//! Contract: of a name no more is held than the types that have it. One that is
//! new costs a pass over all types; so those that are known beforehand come
//! together.

use super::file::is;
use super::types::Kind;
use crate::model::hash::GOLDEN;
use crate::model::sieve::Sieve;

/// A name that has been asked for.
pub(super) struct Name {
    text: String,
    /// The first type of each kind that has it.
    types: Vec<(Kind, u32)>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Names(Vec<Name>);

/// Some bits of the first 8 bytes of what begins with a string, with its end if that is
/// among them.
#[inline(always)]
fn mix(text: &[u8]) -> Option<u32> {
    let all = u64::from_le_bytes(*text.first_chunk()?);
    // The highest bit of the first byte that is 0.
    let zeros = all.wrapping_sub(LOW) & !all & LOW << 7;
    let end = zeros & zeros.wrapping_neg();
    let own = all & (end >> 7).wrapping_sub(1);
    Some((own.wrapping_mul(GOLDEN) >> 52) as u32)
}

/// The lowest bit of each byte.
const LOW: u64 = u64::MAX / 0xff;

impl Names {
    /// Adds those that are new; all of these are to be looked for.
    pub(super) fn add(&mut self, texts: &mut dyn Iterator<Item = &str>) -> &mut [Name] {
        let known = self.0.len();
        for text in texts {
            if self.of(text).is_none() {
                self.0.push(Name {
                    text: text.into(),
                    types: Vec::new(),
                });
            }
        }
        &mut self.0[known..]
    }

    /// The first type of that kind and name, where that has been looked for.
    pub(super) fn find(&self, kind: Kind, text: &str) -> Option<u32> {
        let mut found = self.of(text)?.types.iter().filter(|(of, _)| *of == kind);
        found.next().map(|(_, id)| *id)
    }

    fn of(&self, text: &str) -> Option<&Name> {
        self.0.iter().find(|name| name.text == text)
    }
}

/// Something that takes each type that has a name, and notes those that have one of
/// these.
pub(super) fn taking(names: &mut [Name], strings: &[u8]) -> impl FnMut(u32, Kind, u32) {
    let mut sieve = Sieve::new();
    for name in &*names {
        let mut text = [0; 8];
        let len = name.text.len().min(text.len());
        text[..len].copy_from_slice(&name.text.as_bytes()[..len]);
        mix(&text).into_iter().for_each(|some| sieve.add(some));
    }
    move |id, kind, at| {
        let text = strings.get(at as usize..).unwrap_or_default();
        if mix(text).is_some_and(|some| !sieve.may_have(some)) {
            return;
        }
        for name in &mut *names {
            if is(text, 0, &name.text) && name.types.iter().all(|(of, _)| *of != kind) {
                name.types.push((kind, id));
            }
        }
    }
}
