//! Packs assembled programs into one piece; what it looks like is told by `src/bpf_link/packed.rs`, which reads it.
//!
//! Contract: it is for build.rs, which wants a panic where a program can't be packed: a text with a NUL in it, more than
//! 65536 fields or maps.

use super::lz4;
use crate::bpf_insn::Insn;
use crate::bpf_link::packed::kind;
use crate::bpf_link::{Field, Item, Template};
use std::collections::{BTreeSet, HashMap};

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i64) {
    number(out, (value << 1 ^ value >> 63) as u64);
}

fn text(out: &mut Vec<u8>, text: &str) {
    assert!(!text.contains('\0'), "a text ends with a NUL: {text:?}");
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// Things that are said once, by their numbers.
struct Once<T>(Vec<T>);

impl<T: PartialEq + Clone> Once<T> {
    fn of(&mut self, thing: &T) -> u16 {
        let known = self.0.iter().position(|one| one == thing);
        let known = known.unwrap_or_else(|| {
            self.0.push(thing.clone());
            self.0.len() - 1
        });
        u16::try_from(known).expect("fewer than 65536 fields and maps")
    }
}

/// A line: its file, its number, its text.
type Line = (String, u32, String);

fn line(template: &Template, line: u32) -> Line {
    let place = template.text.get(line).expect("each item has its line");
    (place.file.into(), place.number, place.text.into())
}

fn insn(out: &mut Vec<u8>, insn: Insn) {
    out.extend([insn.code, insn.dst | insn.src << 4]);
    signed(out, insn.off.into());
    signed(out, insn.imm.into());
}

/// An item, with the numbers that its field and its map have among all, and its target by the distance.
fn item(
    out: &mut Vec<u8>,
    at: usize,
    item: Item,
    field: &dyn Fn(u16) -> u16,
    map: &dyn Fn(u16) -> u16,
) {
    let small = |out: &mut Vec<u8>, value: u16| number(out, value.into());
    let distance = |target: u32| i64::from(target) - at as i64;
    match item {
        Item::Insn(of) => {
            out.push(kind::INSN);
            insn(out, of);
        }
        Item::Wide { dst, value } => {
            out.extend([kind::WIDE, dst]);
            number(out, value);
        }
        Item::Map { dst, map: of } => {
            out.extend([kind::MAP, dst]);
            small(out, map(of));
        }
        Item::Load {
            dst,
            src,
            field: of,
        } => {
            out.extend([kind::LOAD, dst, src]);
            small(out, field(of));
        }
        Item::Jump { insn: of, target } => {
            out.push(kind::JUMP);
            insn(out, of);
            signed(out, distance(target));
        }
        Item::Copy {
            to,
            src,
            field: of,
            len,
            via,
        } => {
            out.push(kind::COPY);
            signed(out, to.into());
            out.push(src);
            small(out, field(of));
            small(out, len);
            out.push(via);
        }
        Item::Peek {
            to,
            src,
            field: of,
            len,
        } => {
            out.push(kind::PEEK);
            signed(out, to.into());
            out.push(src);
            small(out, field(of));
            small(out, len);
        }
        Item::Filter { part } => out.extend([kind::FILTER, part]),
        Item::If {
            field: of,
            present,
            end,
        } => {
            out.push(if present { kind::IF } else { kind::ELSE });
            small(out, field(of));
            signed(out, distance(end));
        }
    }
}

/// All programs as one piece.
pub fn pack(templates: &[Template]) -> Vec<u8> {
    let mut lines = BTreeSet::new();
    for template in templates {
        let labels = template.labels.iter().map(|(_, at)| at);
        let all = template.lines.iter().chain(labels);
        lines.extend(all.map(|at| line(template, *at)));
    }
    let lines: Vec<Line> = lines.into_iter().collect();
    let places: HashMap<&Line, usize> = lines.iter().zip(0..).collect();
    let (mut fields, mut maps) = (Once::<Field>(Vec::new()), Once::<String>(Vec::new()));
    let mut known = HashMap::new();
    let (mut items, mut programs) = (Vec::new(), Vec::new());
    number(&mut programs, templates.len() as u64);
    let mut after_line = 0;
    for template in templates {
        let all_programs = std::mem::take(&mut programs);
        for part in [
            &template.name,
            &template.group,
            &template.event,
            &template.license,
        ] {
            text(&mut programs, part);
        }
        let own_fields: Vec<u16> = template.fields.iter().map(|one| fields.of(one)).collect();
        let own_maps: Vec<u16> = template.maps.iter().map(|one| maps.of(one)).collect();
        for all in [&own_fields, &own_maps] {
            number(&mut programs, all.len() as u64);
            all.iter()
                .for_each(|one| number(&mut programs, (*one).into()));
        }
        number(&mut programs, template.labels.len() as u64);
        let mut before = 0;
        for (at, place) in &template.labels {
            signed(&mut programs, i64::from(*at) - i64::from(before));
            before = *at;
            number(&mut programs, places[&line(template, *place)] as u64);
        }
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (at, (one, place)) in template.items.iter().zip(&template.lines).enumerate() {
            let place = places[&line(template, *place)];
            let mut bytes = Vec::new();
            let field = |of: u16| own_fields[usize::from(of)];
            let map = |of: u16| own_maps[usize::from(of)];
            item(&mut bytes, at, *one, &field, &map);
            let new = known.len();
            let n = *known.entry((place, bytes.clone())).or_insert(new);
            if n == new {
                signed(&mut items, place as i64 - after_line);
                after_line = place as i64 + 1;
                items.extend(bytes);
            }
            match runs.last_mut() {
                Some((start, len)) if *start + *len == n => *len += 1,
                _ => runs.push((n, 1)),
            }
        }
        number(&mut programs, template.items.len() as u64);
        number(&mut programs, runs.len() as u64);
        let mut after = 0;
        for (start, len) in runs {
            signed(&mut programs, start as i64 - after);
            number(&mut programs, len as u64);
            after = (start + len) as i64;
        }
        let program = std::mem::replace(&mut programs, all_programs);
        number(&mut programs, program.len() as u64);
        programs.extend(program);
    }
    let mut all = Vec::new();
    let files: BTreeSet<&str> = lines.iter().map(|line| line.0.as_str()).collect();
    number(&mut all, files.len() as u64);
    for file in files {
        text(&mut all, file);
        let own: Vec<u32> = lines
            .iter()
            .filter(|line| line.0 == file)
            .map(|line| line.1)
            .collect();
        number(&mut all, own.len() as u64);
        let before = std::iter::once(&0).chain(&own);
        own.iter()
            .zip(before)
            .for_each(|(one, before)| number(&mut all, (one - before).into()));
    }
    lines.iter().for_each(|line| text(&mut all, &line.2));
    number(&mut all, fields.0.len() as u64);
    for field in &fields.0 {
        text(&mut all, &field.name);
        number(
            &mut all,
            (field.widths.len() as u64) << 1 | u64::from(field.optional),
        );
        field
            .widths
            .iter()
            .for_each(|width| number(&mut all, (*width).into()));
    }
    number(&mut all, maps.0.len() as u64);
    maps.0.iter().for_each(|map| text(&mut all, map));
    number(&mut all, known.len() as u64);
    all.extend(items);
    all.extend(programs);
    let mut packed = Vec::new();
    number(&mut packed, all.len() as u64);
    packed.extend(lz4::pack(&all));
    packed
}
