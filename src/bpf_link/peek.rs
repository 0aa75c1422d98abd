//! Copies to the stack, in instructions. A private part of `bpf_link`.
//!
//! Contract: each piece is loaded and stored as wide as both places are aligned; a call of the helper costs more than what
//! it reads, so that members of a structure that lie close together are read by one. Where the kernel makes pointers,
//! nothing is called: it puts a move in the place of that call (v6.12 kernel/bpf/verifier.c, fixup_kfunc_call).

use crate::bpf_insn::{Alu, FP, Insn, Operand, Size};

/// The helper bpf_probe_read_kernel (Linux 5.5 and later).
const PROBE_READ_KERNEL: i32 = 113;

/// Where several members that lie close together are read to at once, from r10: below what the programs use themselves.
pub(super) const WINDOW: i16 = -512;
/// And how many bytes there are, at most.
pub(super) const WINDOW_LEN: i16 = 240;
/// Two members are read at once if at most so many bytes lie between them: a call of the helper costs more than these.
const CLOSE_BY: i16 = 128;

/// The kernel's bpf_rdonly_cast() for a structure, both by their numbers in the kernel's BTF (Linux 6.2 and later).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cast {
    /// The function.
    pub function: i32,
    /// The structure.
    pub structure: i32,
}

/// A member that is peeked at.
#[derive(Clone, Copy)]
pub(super) struct Peeked {
    /// Where to, from r10.
    pub to: i16,
    /// Where in its structure.
    pub from: i16,
    /// How many bytes.
    pub len: i16,
}

/// Members of the structure at `src` to the stack, by plain loads through it, or through what the kernel makes of it: of
/// an address that is none they read 0, as the helper does.
pub(super) fn load(insns: &mut Vec<Insn>, mut src: u8, cast: Option<Cast>, wanted: &[Peeked]) {
    let mov = |dst, operand| Insn::alu(true, Alu::Mov, dst, operand);
    if let Some(Cast {
        function,
        structure,
    }) = cast
    {
        if src != 1 {
            insns.push(mov(1, Operand::Reg(src)));
        }
        insns.push(mov(2, Operand::Imm(structure)));
        insns.push(Insn::kernel_call(function));
        src = 0;
    }
    let via = if src == 1 { 2 } else { 1 };
    for p in wanted {
        copy(insns, p.to, src, p.from, p.len, via);
    }
}

/// Members of the structure at `src` to the stack, by the helper: those that lie close together by one call.
pub(super) fn peek(insns: &mut Vec<Insn>, src: u8, wanted: &mut [Peeked]) {
    // A few, and in order already as they are written.
    for end in 1..wanted.len() {
        let mut at = end;
        while at > 0 && wanted[at].from < wanted[at - 1].from {
            wanted.swap(at, at - 1);
            at -= 1;
        }
    }
    let mut rest: &[Peeked] = wanted;
    while let Some(first) = rest.first() {
        // The window keeps the alignment that the members have.
        let start = first.from & !7;
        let (mut end, mut count) = (first.from + first.len, 1);
        for p in &rest[1..] {
            let further = end.max(p.from.saturating_add(p.len));
            if p.from - end > CLOSE_BY || further - start > WINDOW_LEN {
                break;
            }
            (end, count) = (further, count + 1);
        }
        let (together, others) = rest.split_at(count);
        match count {
            1 => probe(insns, first.to, src, first.from, first.len),
            _ => {
                probe(insns, WINDOW, src, start, end - start);
                for p in together {
                    copy(insns, p.to, FP, WINDOW + (p.from - start), p.len, 1);
                }
            }
        }
        rest = others;
    }
}

/// `len` bytes of kernel memory at `src + from` to `r10 + to`, by the helper.
fn probe(insns: &mut Vec<Insn>, to: i16, src: u8, from: i16, len: i16) {
    let mov = |dst, operand| Insn::alu(true, Alu::Mov, dst, operand);
    let add = |dst, number: i16| Insn::alu(true, Alu::Add, dst, Operand::Imm(number.into()));
    insns.push(mov(3, Operand::Reg(src)));
    insns.push(add(3, from));
    insns.push(mov(1, Operand::Reg(FP)));
    insns.push(add(1, to));
    insns.push(mov(2, Operand::Imm(len.into())));
    insns.push(Insn::call(PROBE_READ_KERNEL));
}

/// `len` bytes from `src + from` to `r10 + to`, each piece as wide as both places allow. r10 is a multiple of 8
/// (v6.12 kernel/bpf/verifier.c, `check_ptr_alignment`: the stack must be naturally aligned), and so is the record.
pub(super) fn copy(insns: &mut Vec<Insn>, to: i16, src: u8, from: i16, len: i16, via: u8) {
    let mut done = 0;
    while done < len {
        let fits = |bytes: i16| {
            len - done >= bytes && (from + done) % bytes == 0 && (to + done) % bytes == 0
        };
        let size = [Size::Dw, Size::W, Size::H]
            .into_iter()
            .find(|s| fits(s.bytes() as i16))
            .unwrap_or(Size::B);
        insns.push(Insn::load(size, via, src, from + done));
        insns.push(Insn::store(size, FP, to + done, Operand::Reg(via)));
        done += size.bytes() as i16;
    }
}
