//! Instructions that are made on the host: parts of the user's filter, and how they get into a program.
//!
//! Contract: a part is items like those of an assembled program, so that the linker resolves its jumps as it does theirs. It
//! begins at its first item and ends behind its last. Jumps go forward only, and no instruction is kept that can't be
//! reached: the verifier refuses both.

use super::{Item, Place, Template};
use crate::bpf_insn::{Alu, Cmp, Insn, Operand, Size};
use std::sync::Arc;

/// The parts of a filter, by their names in the text: see `bpf-asm/README.md`.
pub const PARTS: [&str; 2] = ["socket", "owner"];

/// The file that the lines of a filter are said to be in.
const FILE: &str = "filter";

/// A part that is complete.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Part {
    items: Vec<Item>,
    /// For each item the number of its text.
    lines: Vec<usize>,
    texts: Vec<String>,
    maps: Vec<String>,
}

/// A place that is jumped to before it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(u32);

/// A part that is being made.
#[derive(Debug, Default)]
pub struct Builder {
    part: Part,
    /// Where the labels stand.
    places: Vec<Option<u32>>,
    /// Those that are jumped to from a place that can be reached.
    used: Vec<bool>,
    /// No instruction before this one can be removed any more: something is known to stand here.
    fixed: usize,
    /// Whether what comes next can't be reached.
    dead: bool,
}

impl Builder {
    /// What comes from here on belongs to this text.
    pub fn line(&mut self, text: String) {
        self.part.texts.push(text);
    }

    /// A label, to be placed later.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        self.used.push(false);
        Label(self.places.len() as u32 - 1)
    }

    fn push(&mut self, item: Item) {
        if !self.dead {
            self.part.items.push(item);
            let line = self.part.texts.len().saturating_sub(1);
            self.part.lines.push(line);
        }
    }

    /// `dst = *(size *)(src + off)`.
    pub fn load(&mut self, size: Size, dst: u8, src: u8, off: i16) {
        self.push(Item::Insn(Insn::load(size, dst, src, off)));
    }

    /// `*(size *)(dst + off) = operand`.
    pub fn store(&mut self, size: Size, dst: u8, off: i16, operand: Operand) {
        self.push(Item::Insn(Insn::store(size, dst, off, operand)));
    }

    /// `dst op operand`, on 64 bits.
    pub fn alu(&mut self, op: Alu, dst: u8, operand: Operand) {
        self.push(Item::Insn(Insn::alu(true, op, dst, operand)));
    }

    /// `dst = be32 dst`.
    pub fn be32(&mut self, dst: u8) {
        self.push(Item::Insn(Insn::swap(true, 32, dst)));
    }

    /// `dst = value ll`.
    pub fn wide(&mut self, dst: u8, value: u64) {
        self.push(Item::Wide { dst, value });
    }

    /// `call helper`.
    pub fn call(&mut self, helper: i32) {
        self.push(Item::Insn(Insn::call(helper)));
    }

    /// `dst = map NAME ll`.
    pub fn map(&mut self, dst: u8, name: &str) {
        let known = self.part.maps.iter().position(|map| map == name);
        let map = known.unwrap_or_else(|| {
            self.part.maps.push(name.into());
            self.part.maps.len() - 1
        });
        self.push(Item::Map {
            dst,
            map: map as u16,
        });
    }

    /// `goto label`.
    pub fn goto(&mut self, label: Label) {
        self.jump(Insn::goto(0), label);
        self.dead = true;
    }

    /// `if dst cmp operand goto label`, on 64 bits.
    pub fn branch(&mut self, cmp: Cmp, dst: u8, operand: Operand, label: Label) {
        self.jump(Insn::branch(true, cmp, dst, operand, 0), label);
    }

    fn jump(&mut self, insn: Insn, label: Label) {
        if !self.dead {
            self.used[label.0 as usize] = true;
        }
        self.push(Item::Jump {
            insn,
            target: label.0,
        });
    }

    /// Places a label here.
    pub fn place(&mut self, label: Label) {
        // Jumps to the next instruction are none.
        while let Some(Item::Jump { target, .. }) = self.part.items.last() {
            if *target != label.0 || self.fixed >= self.part.items.len() {
                break;
            }
            self.part.items.pop();
            self.part.lines.pop();
            self.dead = false;
        }
        self.dead &= !self.used[label.0 as usize];
        self.fixed = self.part.items.len();
        self.places[label.0 as usize] = Some(self.fixed as u32);
    }

    /// Whether what comes next can be reached.
    pub fn is_reached(&self) -> bool {
        !self.dead
    }

    /// What was made, if each label that is jumped to has its place.
    pub fn finish(mut self) -> Option<Part> {
        for item in &mut self.part.items {
            if let Item::Jump { target, .. } = item {
                *target = (*self.places.get(*target as usize)?)?;
            }
        }
        Some(self.part)
    }
}

impl Part {
    /// Its pieces, in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The slots that it takes in a program.
    pub fn slots(&self) -> usize {
        let wide = |item: &&Item| matches!(item, Item::Wide { .. } | Item::Map { .. });
        self.items.len() + self.items.iter().filter(wide).count()
    }
}

impl Template {
    /// Whether a filter has a place in it.
    pub fn wants_filter(&self) -> bool {
        let mut items = self.items.iter();
        items.any(|item| matches!(item, Item::Filter { .. }))
    }

    /// The program with these parts of a filter, by their numbers in [`PARTS`]; `None` if it wants another.
    pub fn with(&self, parts: &[Part]) -> Option<Template> {
        let mut made = Template {
            items: Vec::with_capacity(self.items.len()),
            lines: Vec::with_capacity(self.lines.len()),
            ..self.clone()
        };
        let text = Arc::make_mut(&mut made.text);
        let mut places = Vec::with_capacity(self.items.len() + 1);
        let mut own = Vec::with_capacity(self.items.len());
        for (item, line) in self.items.iter().zip(&self.lines) {
            let at = made.items.len() as u32;
            places.push(at);
            let Item::Filter { part } = item else {
                own.push(at);
                made.items.push(*item);
                made.lines.push(*line);
                continue;
            };
            let part = parts.get(usize::from(*part))?;
            let mut lines = Vec::with_capacity(part.texts.len());
            for (number, text_of) in part.texts.iter().enumerate() {
                let place = Place {
                    file: FILE,
                    number: number as u32 + 1,
                    text: text_of,
                };
                lines.push(text.add(place)?);
            }
            for (item, line) in part.items.iter().zip(&part.lines) {
                let mut item = *item;
                match &mut item {
                    Item::Jump { target, .. } => *target += at,
                    Item::Map { map, .. } => {
                        let name = part.maps.get(usize::from(*map))?;
                        let known = made.maps.iter().position(|own| own == name);
                        let known = known.unwrap_or_else(|| {
                            made.maps.push(name.clone());
                            made.maps.len() - 1
                        });
                        *map = known as u16;
                    }
                    _ => {}
                }
                made.items.push(item);
                made.lines.push(*lines.get(*line)?);
            }
        }
        places.push(made.items.len() as u32);
        let place = |at: u32| places.get(at as usize).copied();
        for at in own {
            match made.items.get_mut(at as usize)? {
                Item::Jump { target: to, .. } | Item::If { end: to, .. } => *to = place(*to)?,
                _ => {}
            }
        }
        for (at, _) in &mut made.labels {
            *at = place(*at)?;
        }
        Some(made)
    }
}
