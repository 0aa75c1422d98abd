//! A term of the filter in instructions. A private part of the guard.
//!
//! Contract: a term that can't be decided of what the event has is not known, and a part goes on then as if it were what it
//! would have to be for the event to be shown.

use super::sets;
use super::tables::Tables;
use crate::bpf::layout::*;
use crate::bpf_insn::{Alu, Cmp, FP, Operand, Size};
use crate::bpf_link::builder::{Builder, Label};
use crate::filter::tree::{Nets, Pattern, Ranges, Side, Term};
use crate::model::tcp::{State, Wire};
use crate::order::{Order, Value};

const R: u8 = 1;
const R2: u8 = 2;
const LOOKUP: i32 = 1;

/// Ranges of ports that are compared; of more there is a table.
pub(super) const RANGES: usize = 64;
/// Prefixes that are compared; more are looked up.
pub(super) const PREFIXES: usize = 128;

/// Where the third quarter of an address that is mapped lies, and what stands there.
const MAPPED: u32 = 0xffff;

/// Where a member of the event is on the stack.
const fn ev<T>(field: &Field<T>) -> i16 {
    EVENT + field.at as i16
}

/// Where a member of its owner is.
const fn ow<T>(field: &Field<T>) -> i16 {
    ev(&EV_OWNER) + field.at as i16
}

/// Where the halves of a number of 64 bits lie.
const LOW: i16 = if cfg!(target_endian = "big") { 4 } else { 0 };
const HIGH: i16 = 4 - LOW;

/// Where a term leads.
#[derive(Clone, Copy)]
pub(super) struct Ways {
    /// It is so.
    pub(super) yes: Label,
    /// It is not.
    pub(super) no: Label,
    /// It isn't known.
    pub(super) open: Label,
}

/// How much of a set is compared.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) ranges: usize,
    pub(super) prefixes: usize,
}

/// What terms are made with.
pub(super) struct Terms<'a> {
    pub(super) b: &'a mut Builder,
    pub(super) tables: &'a mut Tables,
    pub(super) room: Room,
    /// Whether the event has its owner.
    pub(super) owner: bool,
}

impl Terms<'_> {
    /// A term that is to be `want`.
    pub(super) fn term(&mut self, term: &Term, want: bool, to: Ways) {
        match term {
            Term::Net(side, nets) => {
                self.sides(*side, want, to, &mut |terms, local, to| {
                    terms.net(local, nets, to);
                });
            }
            Term::Port(side, ports) => {
                self.sides(*side, want, to, &mut |terms, local, to| {
                    terms.port(local, ports, to);
                });
            }
            Term::Family(wire) => self.family(*wire, to),
            Term::Opened(local) => self.opened(*local, to),
            Term::Netns(ranges) if self.owner => {
                self.b.load(Size::W, R, FP, ow(&OW_NETNS));
                self.b.branch(Cmp::Eq, R, Operand::Imm(0), to.open);
                sets::number(self.b, ranges.ranges(), to.yes, to.no);
            }
            Term::Pid(ranges) if self.owner => {
                self.owned(to.open);
                self.b.load(Size::W, R, FP, ow(&OW_TASK) + HIGH);
                sets::number(self.b, ranges.ranges(), to.yes, to.no);
            }
            Term::Uid(ranges) if self.owner => {
                self.owned(to.open);
                // It is told where it is that of now.
                self.b.load(Size::B, R, FP, ev(&EV_FLAGS));
                self.b.alu(Alu::And, R, Operand::Imm(FLAG_USER.into()));
                self.b.branch(Cmp::Eq, R, Operand::Imm(0), to.open);
                // All ones in either width.
                self.b.load(Size::W, R, FP, ow(&OW_UID));
                self.b.alu(Alu::Mov, R2, Operand::Imm(-1));
                self.b.alu(Alu::Rsh, R2, Operand::Imm(32));
                self.b.branch(Cmp::Eq, R, Operand::Reg(R2), to.open);
                sets::number(self.b, ranges.ranges(), to.yes, to.no);
            }
            Term::Comm(names) if self.owner => {
                self.owned(to.open);
                self.b.load(Size::B, R, FP, ow(&OW_COMM));
                self.b.branch(Cmp::Eq, R, Operand::Imm(0), to.open);
                for name in names {
                    self.name(name, to.yes);
                }
                self.b.goto(to.no);
            }
            _ => self.b.goto(to.open),
        }
    }

    /// What asks for one end, or either.
    fn sides(
        &mut self,
        side: Side,
        want: bool,
        to: Ways,
        one: &mut dyn FnMut(&mut Self, bool, Ways),
    ) {
        if side != Side::Either {
            return one(self, side == Side::Local, to);
        }
        // One of them is enough for a yes; it takes both for a no.
        let peer = self.b.label();
        let open = if want { to.open } else { peer };
        let first = Ways {
            no: peer,
            open,
            ..to
        };
        one(self, true, first);
        self.b.place(peer);
        one(self, false, to);
    }

    fn net(&mut self, local: bool, nets: &Nets, to: Ways) {
        let at = ev(if local { &EV_LOCAL } else { &EV_PEER });
        self.there(at, to.open);
        let nets = nets.prefixes();
        if nets.len() <= self.room.prefixes {
            return sets::address(self.b, at, nets, to.yes, to.no);
        }
        let set = self.tables.nets(nets);
        let key = FILTER_KEY;
        let store = |b: &mut Builder, off, value| b.store(Size::W, FP, off, Operand::Imm(value));
        store(self.b, key, 160);
        store(self.b, key + 4, set);
        for half in [0, 8] {
            self.b.load(Size::Dw, R, FP, at + half);
            self.b.store(Size::Dw, FP, key + 8 + half, Operand::Reg(R));
        }
        self.lookup("nets");
        self.b.branch(Cmp::Ne, 0, Operand::Imm(0), to.yes);
        self.b.goto(to.no);
    }

    /// Goes on if there is an address.
    fn there(&mut self, at: i16, open: Label) {
        // :: and 0.0.0.0 are none yet.
        let known = self.b.label();
        self.b.load(Size::Dw, R, FP, at);
        self.b.branch(Cmp::Ne, R, Operand::Imm(0), known);
        self.b.load(Size::W, R, FP, at + 12);
        self.b.branch(Cmp::Ne, R, Operand::Imm(0), known);
        self.b.load(Size::W, R, FP, at + 8);
        self.b.branch(Cmp::Eq, R, Operand::Imm(0), open);
        self.b.be32(R);
        let mapped = Operand::Imm(MAPPED as i32);
        self.b.branch(Cmp::Eq, R, mapped, open);
        self.b.place(known);
    }

    /// What a map has of the key, into r0.
    fn lookup(&mut self, map: &str) {
        self.b.map(1, map);
        self.b.alu(Alu::Mov, 2, Operand::Reg(FP));
        self.b.alu(Alu::Add, 2, Operand::Imm(FILTER_KEY.into()));
        self.b.call(LOOKUP);
    }

    fn port(&mut self, local: bool, ports: &Ranges, to: Ways) {
        let at = ev(if local { &EV_LOCAL_PORT } else { &EV_PEER_PORT });
        if local {
            // What stands there then may be the port of a connection before it.
            self.b.load(Size::B, R, FP, ev(&EV_NEWSTATE));
            let opening = Operand::Imm(SYN_SENT.into());
            self.b.branch(Cmp::Eq, R, opening, to.open);
        }
        self.b.load(Size::H, R, FP, at);
        self.b.branch(Cmp::Eq, R, Operand::Imm(0), to.open);
        let ranges = ports.ranges();
        if ranges.len() <= self.room.ranges {
            return sets::number(self.b, ranges, to.yes, to.no);
        }
        let set = self.tables.ports(ranges);
        self.b.store(Size::W, FP, FILTER_KEY, Operand::Imm(set));
        self.lookup("ports");
        // It is an array, whose values are always there.
        self.b.branch(Cmp::Eq, 0, Operand::Imm(0), to.open);
        self.b.load(Size::H, R, FP, at);
        self.b.alu(Alu::Mov, R2, Operand::Reg(R));
        self.b.alu(Alu::Rsh, R2, Operand::Imm(6));
        self.b.alu(Alu::Lsh, R2, Operand::Imm(3));
        self.b.alu(Alu::Add, 0, Operand::Reg(R2));
        self.b.load(Size::Dw, R2, 0, 0);
        self.b.alu(Alu::And, R, Operand::Imm(63));
        self.b.alu(Alu::Rsh, R2, Operand::Reg(R));
        self.b.branch(Cmp::Set, R2, Operand::Imm(1), to.yes);
        self.b.goto(to.no);
    }

    fn family(&mut self, wire: Wire, to: Ways) {
        let (four, six) = match wire {
            Wire::Ipv4 => (to.yes, to.no),
            Wire::Ipv6 => (to.no, to.yes),
        };
        self.there(ev(&EV_PEER), to.open);
        self.b.load(Size::H, R, FP, ev(&EV_FAMILY));
        let inet = Operand::Imm(libc::AF_INET);
        self.b.branch(Cmp::Eq, R, inet, four);
        for (at, other) in [(&EV_LOCAL, None), (&EV_PEER, Some(six))] {
            let next = self.b.label();
            let other = other.unwrap_or(next);
            self.b.load(Size::Dw, R, FP, ev(at));
            self.b.branch(Cmp::Ne, R, Operand::Imm(0), other);
            self.b.load(Size::W, R, FP, ev(at) + 8);
            self.b.be32(R);
            let mapped = Operand::Imm(MAPPED as i32);
            self.b.branch(Cmp::Eq, R, mapped, four);
            self.b.goto(other);
            self.b.place(next);
        }
    }

    /// Its first event tells.
    fn opened(&mut self, local: bool, to: Ways) {
        let (own, peers) = match local {
            true => (to.yes, to.no),
            false => (to.no, to.yes),
        };
        let other = self.b.label();
        self.b.load(Size::B, R, FP, ev(&EV_OLDSTATE));
        self.b.load(Size::B, R2, FP, ev(&EV_NEWSTATE));
        let is = |state: State| Operand::Imm(state as i32);
        self.b.branch(Cmp::Ne, R, is(State::Close), other);
        self.b.branch(Cmp::Eq, R2, is(State::SynSent), own);
        self.b.place(other);
        self.b.branch(Cmp::Ne, R, is(State::Listen), to.open);
        self.b.branch(Cmp::Eq, R2, is(State::SynRecv), peers);
        self.b.goto(to.open);
    }

    /// Goes on if there is an owner.
    fn owned(&mut self, open: Label) {
        let at = ow(&OW_SOURCE) + if LOW == 0 { 0 } else { 3 };
        self.b.load(Size::B, R, FP, at);
        let none = Operand::Imm(SOURCE_NONE.into());
        self.b.branch(Cmp::Eq, R, none, open);
    }

    /// Goes to `yes` if the name is such a one.
    fn name(&mut self, pattern: &Pattern, yes: Label) {
        // The end counts, but what older kernels leave behind it doesn't.
        let len = crate::model::event::comm(&pattern.name).len();
        let len = if pattern.open { len } else { len + 1 };
        let other = self.b.label();
        for half in [0, 8] {
            let bytes = len.saturating_sub(half).min(8);
            if bytes == 0 {
                continue;
            }
            let mut mask = [0; 8];
            mask.iter_mut().take(bytes).for_each(|byte| *byte = 0xff);
            let wanted = pattern.name.get(half..).unwrap_or(&[]);
            let number = |bytes: &[u8]| u64::read(bytes, Order::NATIVE);
            self.b.load(Size::Dw, R, FP, ow(&OW_COMM) + half as i16);
            if bytes < 8 {
                self.b.wide(R2, number(&mask));
                self.b.alu(Alu::And, R, Operand::Reg(R2));
            }
            self.b.wide(R2, number(wanted) & number(&mask));
            self.b.branch(Cmp::Ne, R, Operand::Reg(R2), other);
        }
        self.b.goto(yes);
        self.b.place(other);
    }
}
