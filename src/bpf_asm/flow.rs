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
const OPTIONAL: usize = 15;

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
    for mix in 0..1u32 << fields.len() {
        let missing: Vec<u16> = fields
            .iter()
            .enumerate()
            .filter(|(n, _)| mix >> n & 1 == 1)
            .map(|(_, f)| *f)
            .collect();
        walk(program, source, &missing)?;
    }
    check_distances(program, source)
}

/// Walks the program for a host without the fields `missing`.
fn walk(program: &Template, source: &Source, missing: &[u16]) -> Result<(), AsmError> {
    let items = &program.items;
    let error = |at: usize, what: &str| {
        let names: Vec<&str> = missing
            .iter()
            .map(|f| program.fields[*f as usize].name.as_str())
            .collect();
        let when = match names.is_empty() {
            true => String::new(),
            false => format!(" on a host without field {}", names.join(", ")),
        };
        Err(source.error(source.items[at], format!("{what}{when}")))
    };
    let mut reached = vec![false; items.len()];
    let mut open = vec![0];
    while let Some(at) = open.pop() {
        if reached[at] {
            continue;
        }
        reached[at] = true;
        let (next, jump) = successors(items[at], at, missing);
        for to in [next, jump].into_iter().flatten() {
            if to >= items.len() {
                return error(at, "the program can run off its end here");
            }
            open.push(to);
        }
    }
    let mut at = 0;
    while at < items.len() {
        if let Item::If {
            field,
            present,
            end,
        } = items[at]
        {
            let kept = missing.contains(&field) != present;
            at = if kept { at + 1 } else { end as usize };
            continue;
        }
        if !reached[at] {
            return error(at, "this instruction can't be reached");
        }
        at += 1;
    }
    Ok(())
}

/// The item after this one, and the one it may jump to.
fn successors(item: Item, at: usize, missing: &[u16]) -> (Option<usize>, Option<usize>) {
    match item {
        Item::If {
            field,
            present,
            end,
        } if missing.contains(&field) == present => (Some(end as usize), None),
        Item::Insn(insn) if insn == Insn::exit() => (None, None),
        Item::Jump { insn, target } => {
            let always = insn.code & CLASS == JMP && insn.code == Insn::goto(0).code;
            ((!always).then_some(at + 1), Some(target as usize))
        }
        _ => (Some(at + 1), None),
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
