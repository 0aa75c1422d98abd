//! A linked program for an auditor. A private part of `bpf_link`.
//!
//! Contract: a line for each instruction, in the order and at the places of `bpftool prog dump xlated` before the
//! kernel's own rewriting; a label stands on a line of its own, before the instruction that a jump to it goes to.

use super::{HostField, Item, Linked, Template};
use crate::bpf_insn::{HELPERS, Insn, text};
use std::fmt::Write as _;

impl Template {
    /// The lines: each instruction's place, its text with numbers, and behind `;` where it comes from, the statement
    /// there, and in brackets what its numbers stand for. `field` tells where the host has a field.
    pub fn listing(&self, linked: &Linked, field: &dyn Fn(&str) -> Option<HostField>) -> String {
        let mut out = String::new();
        let mut labels = self.labels.iter().peekable();
        let mut at = 0;
        while let Some(insn) = linked.insns.get(at) {
            let is_here = |item: u32| {
                let place = linked.places.get(item as usize);
                place.is_some_and(|place| *place as usize <= at)
            };
            while let Some((_, line)) = labels.next_if(|(item, _)| is_here(*item)) {
                if let Some(label) = self.text.get(*line) {
                    let (place, name) = (format!("{}:{}", label.file, label.number), label.text);
                    let _ = writeln!(out, "{:<46} ; {place} {name}:", "");
                }
            }
            let (shown, slots) = text(&linked.insns[at..]);
            let _ = write!(out, "{at:4}: {:<40}", shown.to_string());
            let item = linked
                .items
                .get(at)
                .map_or(usize::MAX, |item| *item as usize);
            let line = self.lines.get(item).and_then(|line| self.text.get(*line));
            if let Some(line) = line {
                let _ = write!(out, " ; {}:{} {}", line.file, line.number, line.text);
            }
            let note = match self.items.get(item) {
                Some(
                    Item::Load { field: of, .. }
                    | Item::Copy { field: of, .. }
                    | Item::Peek { field: of, .. },
                ) => {
                    let name = self.field_name(*of);
                    let at = field(name).map(|at| format!(" at {}, {} bytes", at.offset, at.size));
                    format!("{name}{}", at.unwrap_or_default())
                }
                Some(Item::Map { map, .. }) => {
                    let name = self.maps.get(*map as usize).map_or("", String::as_str);
                    format!("map {name}")
                }
                Some(Item::Jump { .. }) => format!("to {}", at as i64 + 1 + i64::from(insn.off)),
                _ => String::new(),
            };
            if !note.is_empty() {
                let _ = write!(out, " [{note}]");
            }
            if *insn == Insn::kernel_call(insn.imm) {
                out.push_str(" [bpf_rdonly_cast]");
            }
            if *insn == Insn::call(insn.imm) {
                let helper = HELPERS.iter().find(|(_, number)| *number == insn.imm);
                let _ = write!(out, " [{}]", helper.map_or("", |(name, _)| name));
            }
            out.push('\n');
            at += slots;
        }
        out
    }
}
