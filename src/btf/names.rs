//! Which strings of a BTF file are the names that are asked for, and which
//! types have them.
//!
//! Contract: nothing of the strings is held but where the names stand. A name
//! that is new costs a pass over all strings, and one over all types if a type
//! of that name is wanted; so those that are known beforehand come together.

use super::file::{Reader, WINDOW, Window};
use super::types::{Kind, Type, Types};
use crate::model::sieve::Sieve;
use std::ffi::CStr;

/// Places of the same string that are remembered. Who makes BTF takes care that
/// there is but one (tools/lib/bpf/strset.c).
const SAME: usize = 4;

/// Where a name stands among the strings.
#[derive(Clone, Copy, Default)]
pub(super) struct Places {
    offsets: [u32; SAME],
    count: usize,
}

impl Places {
    pub(super) fn contain(&self, offset: u32) -> bool {
        self.offsets[..self.count].contains(&offset)
    }

    fn add(&mut self, offset: u32) {
        if let Some(place) = self.offsets.get_mut(self.count) {
            *place = offset;
            self.count += 1;
        }
    }
}

struct Name {
    text: String,
    places: Places,
    /// The first type of each kind that has the name; `None` while no pass over
    /// the types has been made for it.
    types: Option<Vec<(Kind, u32)>>,
}

/// The names that have been asked for.
#[derive(Default)]
pub(super) struct Names(Vec<Name>);

/// Some bits of a text.
fn mix(text: &[u8]) -> u32 {
    match text {
        [first, .., last] => {
            let middle = text[text.len() / 2];
            u32::from(*first)
                ^ u32::from(*last) << 3
                ^ u32::from(middle) << 6
                ^ (text.len() as u32) << 4
        }
        _ => text.len() as u32,
    }
}

impl Names {
    /// Finds where these names stand, in one pass over the strings.
    pub(super) fn locate(
        &mut self,
        texts: &mut dyn Iterator<Item = &str>,
        reader: &Reader,
        strings: (usize, usize),
    ) {
        let known = self.0.len();
        let mut sieve = Sieve::new();
        for text in texts {
            if self.0.iter().all(|name| name.text != text) {
                sieve.add(mix(text.as_bytes()));
                self.0.push(Name {
                    text: text.into(),
                    places: Places::default(),
                    types: None,
                });
            }
        }
        let new = &mut self.0[known..];
        if new.is_empty() {
            return;
        }
        each_string(reader, strings, &mut |offset, text| {
            if sieve.may_have(mix(text)) {
                let name = new.iter_mut().find(|name| name.text.as_bytes() == text);
                if let Some(name) = name {
                    name.places.add(offset);
                }
            }
        });
    }

    /// Something that takes each type, and notes those that have a name of which
    /// no type has been looked for before.
    pub(super) fn take_types(&mut self) -> impl FnMut(u32, &Type) {
        let mut sieve = Sieve::new();
        let mut names: Vec<(Places, &mut Vec<(Kind, u32)>)> = Vec::new();
        for name in self.0.iter_mut().filter(|name| name.types.is_none()) {
            for offset in &name.places.offsets[..name.places.count] {
                sieve.add(*offset);
            }
            names.push((name.places, name.types.insert(Vec::new())));
        }
        move |id, found| {
            if found.name == 0 || !sieve.may_have(found.name) {
                return;
            }
            for (places, types) in &mut names {
                if places.contain(found.name) && types.iter().all(|(kind, _)| *kind != found.kind) {
                    types.push((found.kind, id));
                }
            }
        }
    }

    /// Where that name stands.
    pub(super) fn places(
        &mut self,
        text: &str,
        reader: &Reader,
        strings: (usize, usize),
    ) -> Places {
        self.locate(&mut std::iter::once(text), reader, strings);
        self.of(text).map_or(Places::default(), |name| name.places)
    }

    /// The first type of that kind and name.
    pub(super) fn find(
        &mut self,
        kind: Kind,
        text: &str,
        types: &Types,
        strings: (usize, usize),
    ) -> Option<u32> {
        self.places(text, &types.reader, strings);
        if self.of(text)?.types.is_none() {
            types.each(&mut self.take_types());
        }
        let found = self.of(text)?.types.iter().flatten();
        let mut found = found.filter(|(of, _)| *of == kind);
        found.next().map(|(_, id)| *id)
    }

    fn of(&self, text: &str) -> Option<&Name> {
        self.0.iter().find(|name| name.text == text)
    }
}

/// The string that stands at this place among them, if it has no more than
/// `most` bytes.
pub(super) fn string<'a>(
    reader: &'a Reader,
    window: &'a mut Window,
    (from, to): (usize, usize),
    offset: u32,
    most: usize,
) -> Option<&'a [u8]> {
    let at = from.checked_add(offset as usize)?;
    let want = to.checked_sub(at)?.min(most + 1);
    let bytes = reader.slice(window, at, want)?.get(..want)?;
    let len = bytes.iter().position(|byte| *byte == 0)?;
    bytes.get(..len)
}

/// Hands out every string with its offset among them.
fn each_string(reader: &Reader, (from, to): (usize, usize), each: &mut dyn FnMut(u32, &[u8])) {
    let mut window = Window::new();
    let (mut at, mut want) = (from, 1);
    while at < to {
        let Some(bytes) = reader.slice(&mut window, at, want) else {
            return;
        };
        let bytes = &bytes[..bytes.len().min(to - at)];
        let (mut rest, mut offset) = (bytes, (at - from) as u32);
        // Which looks at a word at a time.
        while let Ok(text) = CStr::from_bytes_until_nul(rest) {
            let text = text.to_bytes();
            each(offset, text);
            rest = &rest[text.len() + 1..];
            offset += text.len() as u32 + 1;
        }
        let all = WINDOW.min(to - at);
        if rest.len() < bytes.len() {
            (at, want) = (to.min(from + offset as usize), 1);
        } else if bytes.len() < all {
            want = all;
        } else {
            // Longer than any name.
            (at, want) = (at + bytes.len(), 1);
        }
    }
}
