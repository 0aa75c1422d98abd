//! The user's filter as it is compiled, alone.
//!
//! Contract: the instructions are those that the programs get; what is decided in user space alone is told, too.

use crate::bpf::guard::{Guard, too_long, undecided};
use crate::bpf_link::builder::PARTS;
use crate::bpf_link::{Host, HostField};
use crate::error::Error;
use crate::filter::tree::Expr;
use std::fmt::Write as _;

/// Maps have the number that the kernel gives: 0.
pub(super) struct Nowhere;

impl Host for Nowhere {
    fn field(&self, _: &str) -> Option<HostField> {
        None
    }
    fn map_fd(&self, _: &str) -> Option<i32> {
        Some(0)
    }
}

/// Its listing.
pub(super) fn list(expr: &Expr, guard: Option<&Guard>) -> Result<String, Error> {
    let mut out = format!("; filter: {}\n", expr.text());
    for part in 0..PARTS.len() {
        let Some(program) = guard.and_then(|guard| guard.alone(part)) else {
            continue;
        };
        let linked = program.linked(&Nowhere);
        // It fails for its length alone.
        let linked = linked.map_err(|_| too_long(&program.name, program.items.len()))?;
        let (name, slots) = (&program.name, linked.insns.len());
        let text = program.listing(&linked, &|_| None);
        let _ = write!(out, "\n; filter {name}; {slots} slots\n{text}");
    }
    if guard.is_none() {
        out.push_str("\n; in the kernel: nothing\n");
    }
    let rest = undecided(expr);
    if !rest.is_empty() {
        let _ = writeln!(out, "\n; in user space alone: {}", rest.join("; "));
    }
    Ok(out)
}
