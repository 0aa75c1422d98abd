//! Where a program can go: every instruction reachable, none at its end without `exit`, no jump too far.
//!
//! The verifier refuses the first two (v6.12 kernel/bpf/cfg.c and verifier.c, `check_cfg`), and which instructions
//! there are depends on the host's optional fields, so every mix of them is walked.

use super::program::AsmError;
use super::source::Source;
use crate::bpf_insn::{CLASS, Insn, JMP};
use crate::bpf_link::{Item, Template};

/// Instructions of a peek by a helper.
const PEEK: i64 = 6;

/// More optional fields would be too many mixes to walk.
const OPTIONAL: usize = 20;

/// Every check.
pub(super) fn check(program: &Template, source: &Source) -> Result<(), AsmError> {
    let mut fields: Vec<u16> = Vec::new();
    for (at, item) in program.items.iter().enumerate() {
        match item {
            Item::If { field, .. } if !fields.contains(field) => fields.push(*field),
            _ => continue,
        }
        if fields.len() > OPTIONAL {
            let message = format!("more than {OPTIONAL} optional fields");
            return Err(source.error(source.items[at], message));
        }
    }
    if program.items.is_empty() {
        let last = source.error((0, 1), "the program has no instructions".into());
        return Err(last);
    }
    let lanes = fields.len().min(LANES);
    for far in 0..1u32 << (fields.len() - lanes) {
        let all = u64::MAX >> (64 - (1 << lanes));
        let walk = Walk {
            program,
            fields: &fields,
            far,
            all,
        };
        walk.check(source)?;
    }
    check_distances(program, source)
}

/// So many fields are walked in all their mixes at once: a mix is a bit of a number.
const LANES: usize = 6;

/// The bits of the mixes in which each of those fields is missing.
const MISSING: [u64; LANES] = [
    0xaaaa_aaaa_aaaa_aaaa,
    0xcccc_cccc_cccc_cccc,
    0xf0f0_f0f0_f0f0_f0f0,
    0xff00_ff00_ff00_ff00,
    0xffff_0000_ffff_0000,
    0xffff_ffff_0000_0000,
];

/// A walk through a program, in many mixes.
struct Walk<'a> {
    program: &'a Template,
    /// The optional fields.
    fields: &'a [u16],
    /// Which of those behind the first are missing.
    far: u32,
    /// The mixes of the first.
    all: u64,
}

impl Walk<'_> {
    /// The mixes in which a field is missing.
    fn missing(&self, field: u16) -> u64 {
        let at = self.fields.iter().position(|one| *one == field);
        let at = at.unwrap_or(usize::MAX);
        match MISSING.get(at) {
            Some(missing) => *missing,
            None if at < 32 + LANES && self.far >> (at - LANES) & 1 == 1 => u64::MAX,
            None => 0,
        }
    }

    /// The mixes in which the items of a block are there.
    fn kept(&self, field: u16, present: bool) -> u64 {
        match present {
            true => !self.missing(field),
            false => self.missing(field),
        }
    }

    fn check(&self, source: &Source) -> Result<(), AsmError> {
        let items = &self.program.items;
        let mut reached = vec![0; items.len()];
        // Where it runs off its end: the first place for each mix.
        let mut ends: Vec<(usize, u64)> = Vec::new();
        reached[0] = self.all;
        let mut changed = true;
        while changed {
            changed = false;
            ends.clear();
            for at in 0..items.len() {
                let here = reached[at];
                let mut go = |to: usize, mixes: u64| match reached.get_mut(to) {
                    Some(there) => {
                        changed |= to <= at && mixes & !*there != 0;
                        *there |= mixes;
                    }
                    None => ends.push((at, mixes)),
                };
                match items[at] {
                    Item::If {
                        field,
                        present,
                        end,
                    } => {
                        let kept = self.kept(field, present);
                        go(at + 1, here & kept);
                        go(end as usize, here & !kept);
                    }
                    Item::Insn(insn) if insn == Insn::exit() => {}
                    Item::Jump { insn, target } => {
                        go(target as usize, here);
                        if insn.code & CLASS != JMP || insn.code != Insn::goto(0).code {
                            go(at + 1, here);
                        }
                    }
                    _ => go(at + 1, here),
                }
            }
        }
        let mut wrong = ends
            .iter()
            .filter(|(_, mixes)| *mixes != 0)
            .map(|(at, mixes)| (mixes.trailing_zeros(), false, *at))
            .min();
        let mut blocks: Vec<(usize, u64)> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            while blocks.last().is_some_and(|(end, _)| *end <= at) {
                blocks.pop();
            }
            let there = blocks.last().map_or(self.all, |(_, mixes)| *mixes);
            if let Item::If {
                field,
                present,
                end,
            } = *item
            {
                blocks.push((end as usize, there & self.kept(field, present)));
                continue;
            }
            let missed = there & !reached[at];
            if missed != 0 {
                let found = (missed.trailing_zeros(), true, at);
                wrong = Some(wrong.map_or(found, |known| known.min(found)));
            }
        }
        let Some((mix, unreached, at)) = wrong else {
            return Ok(());
        };
        let missing = self
            .fields
            .iter()
            .filter(|field| self.missing(**field) >> mix & 1 == 1);
        let names: Vec<&str> = missing
            .map(|field| self.program.fields[usize::from(*field)].name.as_str())
            .collect();
        let what = match unreached {
            true => "this instruction can't be reached",
            false => "the program can run off its end here",
        };
        let when = match names.is_empty() {
            true => String::new(),
            false => format!(" on a host without field {}", names.join(", ")),
        };
        Err(source.error(source.items[at], format!("{what}{when}")))
    }
}

/// Whether every jump reaches its target with each copy at its longest and every block kept.
pub(super) fn check_distances(program: &Template, source: &Source) -> Result<(), AsmError> {
    let mut places = Vec::with_capacity(program.items.len() + 1);
    let mut place: i64 = 0;
    for item in &program.items {
        places.push(place);
        place += match item {
            Item::Wide { .. } | Item::Map { .. } => 2,
            Item::Copy { len, .. } => 2 * i64::from(*len),
            Item::Peek { len, .. } => PEEK.max(2 * i64::from(*len)),
            // What a filter adds is checked when it is put there.
            Item::If { .. } | Item::Filter { .. } => 0,
            Item::Insn(_) | Item::Load { .. } | Item::Jump { .. } => 1,
        };
    }
    places.push(place);
    for (at, item) in program.items.iter().enumerate() {
        if let Item::Jump { target, .. } = item {
            let distance = places[*target as usize] - (places[at] + 1);
            if i16::try_from(distance).is_err() {
                let message = format!("jump distance {distance} is out of range: -32768 to 32767");
                return Err(source.error(source.items[at], message));
            }
        }
    }
    Ok(())
}
