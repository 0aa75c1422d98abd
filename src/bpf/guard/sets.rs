//! Whether a number or an address is in a set, in instructions. A private part of the guard.
//!
//! Contract: the number of comparisons grows with the logarithm of what is in the set, and they need no 32-bit compares
//! (Linux 5.1). r1 to r5 are scratch.

use crate::bpf_insn::{Alu, Cmp, FP, Operand, Size};
use crate::bpf_link::builder::{Builder, Label};
use crate::filter::tree::Prefix;

/// What is compared.
const R: u8 = 1;
/// Pieces of a set that are tried one after the other: halving them would save nothing.
const FEW: usize = 3;

/// Numbers that lead to the same place.
#[derive(Clone, Copy, Debug)]
struct Piece {
    first: i64,
    last: i64,
    to: Label,
}

/// Decides by the number in r1, which is in `within`: a piece, or `no`. The pieces are in order.
fn decide(b: &mut Builder, pieces: &[Piece], within: (i64, i64), no: Label) {
    let imm = |number: i64| Operand::Imm(number as i32);
    if pieces.len() > FEW {
        let (low, high) = pieces.split_at(pieces.len() / 2);
        let Some(border) = low.last().map(|piece| piece.last) else {
            return;
        };
        let above = b.label();
        b.branch(Cmp::Sgt, R, imm(border), above);
        decide(b, low, (within.0, border), no);
        b.place(above);
        return decide(b, high, (border + 1, within.1), no);
    }
    for piece in pieces {
        if piece.first == piece.last {
            b.branch(Cmp::Eq, R, imm(piece.first), piece.to);
            continue;
        }
        if piece.first > within.0 {
            b.branch(Cmp::Slt, R, imm(piece.first), no);
        }
        if piece.last == within.1 {
            return b.goto(piece.to);
        }
        b.branch(Cmp::Sle, R, imm(piece.last), piece.to);
    }
    b.goto(no);
}

/// The same of numbers of 32 bits without a sign. Immediates have one: where they matter, so have the numbers.
fn decide_32(b: &mut Builder, pieces: &[(u32, u32, Label)], no: Label) {
    const HALF: u32 = 1 << 31;
    if pieces.iter().all(|(_, last, _)| *last < HALF) {
        let plain: Vec<Piece> = pieces.iter().map(|p| piece(p.0, p.1, p.2)).collect();
        return decide(b, &plain, (0, u32::MAX.into()), no);
    }
    b.alu(Alu::Lsh, R, Operand::Imm(32));
    b.alu(Alu::Arsh, R, Operand::Imm(32));
    let negative = |of: Piece| Piece {
        first: of.first - (1 << 32),
        last: of.last - (1 << 32),
        ..of
    };
    let upper = pieces.iter().filter(|(_, last, _)| *last >= HALF);
    let upper = upper.map(|(first, last, to)| negative(piece(HALF.max(*first), *last, *to)));
    let lower = pieces.iter().filter(|(first, _, _)| *first < HALF);
    let lower = lower.map(|(first, last, to)| piece(*first, (*last).min(HALF - 1), *to));
    let all: Vec<Piece> = upper.chain(lower).collect();
    decide(b, &all, (i32::MIN.into(), i32::MAX.into()), no);
}

fn piece(first: u32, last: u32, to: Label) -> Piece {
    Piece {
        first: first.into(),
        last: last.into(),
        to,
    }
}

/// Whether the number in r1, of 32 bits without a sign, is in one of these ranges.
pub(super) fn number(b: &mut Builder, ranges: &[(u32, u32)], yes: Label, no: Label) {
    let pieces: Vec<_> = ranges.iter().map(|(a, z)| (*a, *z, yes)).collect();
    decide_32(b, &pieces, no);
}

/// Whether the address at `r10 + at` is in one of these prefixes, which are in order and not in each other.
pub(super) fn address(b: &mut Builder, at: i16, nets: &[Prefix], yes: Label, no: Label) {
    let Some(first) = nets.first() else {
        return b.goto(no);
    };
    // As of all IPv4 addresses.
    let half = |net: &Prefix| (net.first >> 64) as u64;
    if nets
        .iter()
        .all(|net| net.len > 64 && half(net) == half(first))
    {
        b.load(Size::Dw, R, FP, at);
        match half(first) {
            0 => b.branch(Cmp::Ne, R, Operand::Imm(0), no),
            half => {
                b.wide(R + 1, half.to_be());
                b.branch(Cmp::Ne, R, Operand::Reg(R + 1), no);
            }
        }
        return words(b, at, 2, nets, yes, no);
    }
    words(b, at, 0, nets, yes, no);
}

/// The same from this one of its four words on.
fn words(b: &mut Builder, at: i16, word: u8, nets: &[Prefix], yes: Label, no: Label) {
    let shift = 96 - 32 * u32::from(word);
    let (from, whole) = (32 * word, 32 * (word + 1));
    let of = |address: u128| (address >> shift) as u32;
    let mut pieces: Vec<(u32, u32, Label)> = Vec::new();
    let mut longer: Vec<(Label, &[Prefix])> = Vec::new();
    let mut rest = nets;
    while let Some((net, others)) = rest.split_first() {
        if net.len <= from {
            return b.goto(yes);
        }
        let (first, last) = (of(net.first), of(net.last()));
        if net.len <= whole {
            match pieces.last_mut() {
                Some(before) if before.2 == yes && before.1.checked_add(1) == Some(first) => {
                    before.1 = last;
                }
                _ => pieces.push((first, last, yes)),
            }
            rest = others;
            continue;
        }
        let alike = rest.iter().take_while(|net| of(net.first) == first);
        let (alike, others) = rest.split_at(alike.count());
        let label = b.label();
        pieces.push((first, first, label));
        longer.push((label, alike));
        rest = others;
    }
    b.load(Size::W, R, FP, at + 4 * i16::from(word));
    b.be32(R);
    decide_32(b, &pieces, no);
    for (label, nets) in longer {
        b.place(label);
        words(b, at, word + 1, nets, yes, no);
    }
}
