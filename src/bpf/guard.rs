//! The guard before the door: the user's filter in instructions, which keep away what the evaluator would refuse.
//!
//! Contract: what [`Guard::compile`] makes says "no" of an event only if the evaluator refuses all of its connection,
//! with that event and whatever comes after it; what it can't decide is "perhaps". It does not decide what is shown.
//!
//! A filter has two parts. Each is put into the programs where they have `filter NAME`, and begins with the event on the
//! stack (`bpf-asm/event.inc`): its ends, its family and its states. It leaves the filter's number in r0 for "no" (0,
//! or more than 2), else 1, or 2 if it never says "no"; r1 to r5 and the 32 bytes at `FILTER_KEY` are lost, r6 to r9 are as they were.
//!
//! | part | decides by | a "no" holds |
//! |---|---|---|
//! | `socket` | addresses, ports, the IP version, who opened it | for good |
//! | `owner` | these, the network namespace, and the owner that the event has | until the owner is another; if he is the listener's, only if whoever accepts is none that matches |
//!
//! Never decided here: `tree`, `cgroup`, `container`, `owner none`, what is about single events or about the record of
//! a connection that has ended, and long sets of what is compared one by one: names, processes, users, network namespaces.

mod sets;
mod tables;
mod terms;

use crate::bpf::layout::*;
use crate::bpf_insn::{Alu, Cmp, FP, Operand, Size};
use crate::bpf_link::builder::{Builder, Label, PARTS, Part};
use crate::bpf_link::{Item, Template};
use crate::error::{Error, Kind};
use crate::filter::tree::{self, Expr, Term};
use tables::Tables;
use terms::{Room, Terms, Ways};

/// Instructions that a program may have on kernels before 5.2 (BPF_MAXINSNS).
pub(crate) const MOST: usize = 4096;
/// Slots that both parts together may have: with them no program has more than [`MOST`], on whatever host.
pub const ROOM: usize = 2560;
/// Names of a set that are compared, and ranges of processes, users or network namespaces.
const NAMES: usize = 128;
const RANGES: usize = 512;
/// Instructions of a part, beyond which sets are looked up instead of compared.
const LONG: usize = 1024;

/// Ways through an expression, from which on the kernel's verifier, which goes all of them that differ in what is known
/// of the event, would take seconds and more.
const MOST_WAYS: u32 = 1 << 16;

/// A filter that is compiled.
#[derive(Clone, Debug)]
pub struct Guard {
    parts: [Part; 2],
    tables: Tables,
    /// Whether a part can say "no".
    decides: [bool; 2],
    /// What it says for "no".
    number: u16,
    /// Whether another one may take its place while the programs run.
    renewable: bool,
}

/// The number of a run's first filter, and the last and the first of the others: 1 and 2 are "perhaps".
const FIRST: u16 = 0;
const LAST: u16 = GUARD_OPEN - 1;
const NEXT: u16 = 3;

/// A program has so many instructions with a filter that is not [too long](is_too_long).
pub(crate) fn too_long(program: &str, len: usize) -> Error {
    let what = format!(
        "the filter is too long: the program {program} has {len} instructions with it, and may have {MOST}"
    );
    Error::new(Kind::Usage, what)
}

/// Why there is no guard of this that every kernel takes, if so.
pub(crate) fn is_too_long(expr: &Expr) -> Option<String> {
    let guard = Guard::numbered(expr, FIRST)?;
    let slots: usize = guard.parts.iter().map(Part::slots).sum();
    (slots > ROOM).then(|| {
        format!(
            "the filter is too long: it has {slots} instructions in the kernel, and may have {ROOM}; \
             ports and networks in braces take no more room, however many"
        )
    })
}

/// Whether some of it may be refused by a part: else it only says "perhaps".
fn can_refuse(expr: &Expr, owner: bool) -> bool {
    match expr {
        Expr::All => false,
        Expr::None => true,
        Expr::Term(_, term) => is_decided(term, owner),
        Expr::And(parts) => parts.iter().any(|part| can_refuse(part, owner)),
        Expr::Or(parts) => parts.iter().all(|part| can_refuse(part, owner)),
    }
}

/// The ways to its "yes" and to its "no".
fn ways(expr: &Expr) -> (u32, u32) {
    let (parts, and) = match expr {
        Expr::All | Expr::None | Expr::Term(..) => return (1, 1),
        Expr::And(parts) => (parts, true),
        Expr::Or(parts) => (parts, false),
    };
    // Those that go on to the next part, and those that don't.
    let (mut on, mut out) = (1u32, 0u32);
    for part in parts {
        let (yes, no) = ways(part);
        let (next, end) = if and { (yes, no) } else { (no, yes) };
        out = out.saturating_add(on.saturating_mul(end));
        on = on.saturating_mul(next);
    }
    if and { (on, out) } else { (out, on) }
}

/// The parts of an `and`, each with whether it is told in the kernel: those that it can refuse, as long as there are not
/// too many ways through them.
fn told(parts: &[Expr], owner: bool) -> impl Iterator<Item = (&Expr, bool)> {
    let mut before = 1u32;
    parts.iter().map(move |part| {
        let (yes, no) = ways(part);
        let all = before.saturating_mul(yes.saturating_add(no));
        let told = can_refuse(part, owner) && all <= MOST_WAYS;
        if told {
            before = before.saturating_mul(yes);
        }
        (part, told)
    })
}

/// Whether there are too many ways through it.
fn is_wide(expr: &Expr) -> bool {
    let (yes, no) = ways(expr);
    yes.saturating_add(no) > MOST_WAYS
}

/// Whether a part decides this term.
fn is_decided(term: &Term, owner: bool) -> bool {
    match term {
        Term::Netns(set) | Term::Pid(set) | Term::Uid(set) => owner && set.ranges().len() <= RANGES,
        Term::Comm(names) => owner && names.len() <= NAMES,
        _ => term.kind() == tree::Kind::Socket,
    }
}

/// Whether the owner's part is another than the socket's.
fn wants_owner(expr: &Expr) -> bool {
    match expr {
        Expr::All | Expr::None => false,
        Expr::Term(_, term) => is_decided(term, true) && !is_decided(term, false),
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(wants_owner),
    }
}

impl Guard {
    /// Compiles an expression; `None` if nothing of it can be decided in the kernel.
    pub fn compile(expr: &Expr) -> Option<Guard> {
        let guard = Guard::numbered(expr, FIRST)?;
        (guard.decides != [false; 2]).then_some(guard)
    }

    /// The same of which another one can take the place, also if nothing of it can be decided.
    pub fn renewable(expr: &Expr) -> Option<Guard> {
        Guard::renewable_with(expr, FIRST)
    }

    /// The one after this; `None` if there were too many.
    pub(crate) fn next(&self, expr: &Expr) -> Option<Guard> {
        let number = self.number.saturating_add(1).max(NEXT);
        (number <= LAST).then(|| Guard::renewable_with(expr, number))?
    }

    fn renewable_with(expr: &Expr, number: u16) -> Option<Guard> {
        let guard = Guard::numbered(expr, number)?;
        Some(Guard {
            renewable: true,
            ..guard
        })
    }

    fn numbered(expr: &Expr, number: u16) -> Option<Guard> {
        let wide = Room {
            ranges: terms::RANGES,
            prefixes: terms::PREFIXES,
        };
        let guard = Guard::with(expr, wide, number)?;
        // Many sets, each of them small.
        match guard.parts.iter().all(|part| part.items().len() <= LONG) {
            true => Some(guard),
            false => {
                let room = Room {
                    ranges: 4,
                    prefixes: 4,
                };
                Guard::with(expr, room, number)
            }
        }
    }

    fn with(expr: &Expr, room: Room, number: u16) -> Option<Guard> {
        let decides = [
            can_refuse(expr, false),
            can_refuse(expr, true) && wants_owner(expr),
        ];
        let mut tables = Tables::default();
        let mut part = |owner: bool| {
            let wanted = decides[usize::from(owner)];
            compile(expr, (wanted, owner), number, room, &mut tables)
        };
        Some(Guard {
            parts: [part(false)?, part(true)?],
            tables,
            decides,
            number,
            renewable: false,
        })
    }

    /// What it says for "no".
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Whether another one may take its place.
    pub(crate) fn is_renewable(&self) -> bool {
        self.renewable
    }

    /// What the maps `ports` and `nets` hold: keys and values.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, Vec<u8>, Vec<u8>)> + '_ {
        self.tables.entries()
    }

    /// How many tables of ports there are, and prefixes.
    pub(crate) fn sizes(&self) -> (u32, u32) {
        self.tables.sizes()
    }

    /// Lets go of what the maps hold.
    pub(crate) fn forget_entries(&mut self) {
        self.tables = Tables::default();
    }

    /// A part as a program of its own, as it is before it has a place: its name and its instructions. `None` if it only
    /// says "perhaps".
    pub(crate) fn alone(&self, part: usize) -> Option<Template> {
        self.decides.get(part).filter(|decides| **decides)?;
        let own = Template {
            name: PARTS.get(part)?.to_string(),
            items: vec![Item::Filter { part: part as u8 }],
            lines: vec![0],
            ..Template::default()
        };
        own.with(&self.parts)
    }

    /// The parts, as the programs want them.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

/// A part; if it is not `wanted`, one that says "perhaps".
fn compile(
    expr: &Expr,
    (wanted, owner): (bool, bool),
    number: u16,
    room: Room,
    tables: &mut Tables,
) -> Option<Part> {
    let mut b = Builder::default();
    b.line("perhaps".into());
    let (perhaps, no, end) = (b.label(), b.label(), b.label());
    if wanted {
        // A child of a listener is not filled in yet, before Linux 6.18: it looks like its listener.
        b.load(Size::H, 1, FP, EVENT + EV_PEER_PORT.at as i16);
        b.branch(Cmp::Eq, 1, Operand::Imm(0), perhaps);
        let mut terms = Terms {
            b: &mut b,
            tables,
            room,
            owner,
        };
        emit(&mut terms, expr, perhaps, no);
    }
    b.place(perhaps);
    b.line("perhaps".into());
    b.alu(Alu::Mov, 0, Operand::Imm(if wanted { 1 } else { 2 }));
    b.goto(end);
    b.place(no);
    if b.is_reached() {
        b.line("no".into());
        b.alu(Alu::Mov, 0, Operand::Imm(number.into()));
    }
    b.place(end);
    b.finish()
}

/// An expression: to `yes` if it may be so.
fn emit(terms: &mut Terms<'_>, expr: &Expr, yes: Label, no: Label) {
    let (all, and) = match expr {
        Expr::All => return terms.b.goto(yes),
        Expr::None => return terms.b.goto(no),
        Expr::Term(want, term) => {
            let (so, not) = if *want { (yes, no) } else { (no, yes) };
            terms.b.line(text(expr));
            let to = Ways {
                yes: so,
                no: not,
                open: yes,
            };
            return terms.term(term, *want, to);
        }
        Expr::And(parts) => (parts, true),
        Expr::Or(parts) => (parts, false),
    };
    let owner = terms.owner;
    // Of `or`, a part that can't be refused lets everything through.
    if !can_refuse(expr, owner) || !and && is_wide(expr) {
        return terms.b.goto(yes);
    }
    let parts = told(all, owner).filter(|(_, told)| *told || !and);
    let parts: Vec<&Expr> = parts.map(|(part, _)| part).collect();
    if parts.is_empty() {
        return terms.b.goto(yes);
    }
    for (at, part) in parts.iter().enumerate() {
        if at + 1 == parts.len() {
            return emit(terms, part, yes, no);
        }
        let next = terms.b.label();
        match and {
            true => emit(terms, part, next, no),
            false => emit(terms, part, yes, next),
        }
        terms.b.place(next);
    }
}

/// What stands beside a term's instructions: its text, of which there may be much.
fn text(expr: &Expr) -> String {
    const MOST: usize = 60;
    let mut text = expr.text();
    if text.len() > MOST {
        let end = (0..=MOST).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(" …");
    }
    text
}

/// The terms that no part decides, each as it is wanted.
pub(crate) fn undecided(expr: &Expr) -> Vec<String> {
    match expr {
        Expr::Term(_, term) if !is_decided(term, true) => vec![text(expr)],
        Expr::All | Expr::None | Expr::Term(..) => Vec::new(),
        Expr::Or(_) if is_wide(expr) => vec![text(expr)],
        Expr::Or(parts) => parts.iter().flat_map(undecided).collect(),
        Expr::And(parts) => {
            let parts =
                told(parts, true).map(|(part, told)| match can_refuse(part, true) && !told {
                    true => vec![text(part)],
                    false => undecided(part),
                });
            parts.flatten().collect()
        }
    }
}
