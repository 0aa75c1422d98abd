//! From a list of calls to a seccomp filter: classic BPF, made by hand.
//!
//! Contract: what is not in the list is refused. The architecture is checked
//! first; a call of another one ends the process. Within a rule all checks must
//! hold; a call may have several rules. Arguments are the caller's registers: a filter sees no memory.

use crate::sys::folder::How;
use crate::sys::sealed::Sealed;
use crate::sys::seccomp::{ARCH, Insn};
use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use libc::{BPF_JEQ, BPF_JGT, BPF_JSET};
use std::ffi::CStr;

/// The number of a system call.
pub(crate) type Call = libc::c_long;

/// What an argument, counted from 0, must be.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// This 32-bit number.
    Is(u8, u32),
    /// One of these 32-bit numbers.
    OneOf(u8, &'static [u32]),
    /// No other bits than these, of the lower 32.
    Bits(u8, u32),
    /// A pointer into the area of [`Sealed`].
    Sealed(u8),
    /// The pointer to this text.
    At(u8, &'static CStr),
    /// The pointer to this object.
    AtHow(u8, &'static How),
    /// The start of a range, with its length in the next argument, that keeps
    /// clear of [`Sealed`]: from 20 GiB on, and shorter than 4 GiB.
    Clear(u8),
}

/// A call that is allowed, if all checks hold.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its number.
    pub call: Call,
    /// The checks.
    pub checks: Vec<Check>,
}

/// Offsets in struct seccomp_data (include/uapi/linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Offset of an argument's lower half; all architectures with a filter are little-endian.
fn low(argument: u8) -> u32 {
    16 + 8 * u32::from(argument)
}

fn high(argument: u8) -> u32 {
    low(argument) + 4
}

/// x32 calls on x86-64 have this bit in their number.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// A jump to the end of a rule, on to the next one, until its place is known.
const NEXT: u8 = u8::MAX;

/// The 64-bit halves of where sealed memory is, and which bits tell.
const SEALED_HIGH: u32 = (Sealed::START as u64 >> 32) as u32;
const SEALED_LOW: u32 = Sealed::START as u32;
const SEALED_MASK: u32 = !(Sealed::LEN as u32 - 1);

fn insn(code: u32, jt: u8, jf: u8, k: u32) -> Insn {
    Insn {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

fn load(offset: u32) -> Insn {
    insn(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

fn ret(action: u32) -> Insn {
    insn(BPF_RET | BPF_K, 0, 0, action)
}

fn jump(test: u32, k: u32, jt: u8, jf: u8) -> Insn {
    insn(BPF_JMP | test | BPF_K, jt, jf, k)
}

/// Asks for a pointer to there.
fn at(out: &mut Vec<Insn>, argument: u8, address: usize) {
    let address = address as u64;
    out.push(load(high(argument)));
    out.push(jump(BPF_JEQ, (address >> 32) as u32, 0, NEXT));
    out.push(load(low(argument)));
    out.push(jump(BPF_JEQ, address as u32, 0, NEXT));
}

fn check(out: &mut Vec<Insn>, check: Check) {
    match check {
        Check::Is(argument, number) => {
            out.push(load(low(argument)));
            out.push(jump(BPF_JEQ, number, 0, NEXT));
        }
        Check::OneOf(argument, numbers) => {
            out.push(load(low(argument)));
            for (index, &number) in numbers.iter().enumerate() {
                let after = (numbers.len() - 1 - index) as u8;
                let miss = if after == 0 { NEXT } else { 0 };
                out.push(jump(BPF_JEQ, number, after, miss));
            }
        }
        Check::Bits(argument, bits) => {
            out.push(load(low(argument)));
            out.push(jump(BPF_JSET, !bits, NEXT, 0));
        }
        Check::Sealed(argument) => {
            out.push(load(high(argument)));
            out.push(jump(BPF_JEQ, SEALED_HIGH, 0, NEXT));
            out.push(load(low(argument)));
            out.push(insn(BPF_ALU | BPF_AND | BPF_K, 0, 0, SEALED_MASK));
            out.push(jump(BPF_JEQ, SEALED_LOW, 0, NEXT));
        }
        Check::At(argument, text) => at(out, argument, text.as_ptr().addr()),
        Check::AtHow(argument, how) => at(out, argument, std::ptr::from_ref(how).addr()),
        Check::Clear(argument) => {
            out.push(load(high(argument)));
            out.push(jump(BPF_JGT, SEALED_HIGH, 0, NEXT));
            out.push(load(high(argument + 1)));
            out.push(jump(BPF_JEQ, 0, 0, NEXT));
        }
    }
}

/// Makes the filter: `refuse` is the answer to what no rule allows, `kill` that
/// to another architecture's calls (SECCOMP_RET_…). Where [`ARCH`] is not known it allows nothing.
pub(crate) fn compile(rules: &[Rule], refuse: u32, kill: u32) -> Vec<Insn> {
    let mut out = vec![
        load(ARCHITECTURE),
        jump(BPF_JEQ, ARCH.unwrap_or(0), 1, 0),
        ret(kill),
        load(NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    out.extend([jump(libc::BPF_JGE, X32, 0, 1), ret(refuse)]);
    for rule in rules {
        let mut body = Vec::new();
        for &one in &rule.checks {
            check(&mut body, one);
        }
        body.push(ret(libc::SECCOMP_RET_ALLOW));
        let end = body.len();
        if end > 1 {
            // The checks have loaded something else.
            body.push(load(NUMBER));
        }
        for (at, insn) in body.iter_mut().enumerate() {
            let distance = end.saturating_sub(at + 1) as u8;
            for target in [&mut insn.jt, &mut insn.jf] {
                if *target == NEXT {
                    *target = distance;
                }
            }
        }
        out.push(jump(BPF_JEQ, rule.call as u32, 0, body.len() as u8));
        out.append(&mut body);
    }
    out.push(ret(refuse));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use libc::SECCOMP_RET_ALLOW as ALLOW;

    const NO: u32 = 1;
    const KILL: u32 = 2;
    const ARCH: u32 = super::ARCH.expect("a filter for this architecture");

    /// Runs a filter as the kernel does.
    fn run(filter: &[Insn], arch: u32, call: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            NUMBER => call,
            ARCHITECTURE => arch,
            _ => {
                let arg = args[(offset as usize - 16) / 8];
                (arg >> (offset % 8 * 8)) as u32
            }
        };
        let (mut at, mut a) = (0, 0u32);
        loop {
            let insn = filter[at];
            at += 1;
            let code = u32::from(insn.code);
            let holds = match code & 0xf0 {
                _ if code == BPF_LD | BPF_W | BPF_ABS => {
                    a = word(insn.k);
                    continue;
                }
                _ if code == BPF_RET | BPF_K => return insn.k,
                _ if code == BPF_ALU | BPF_AND | BPF_K => {
                    a &= insn.k;
                    continue;
                }
                BPF_JEQ => a == insn.k,
                BPF_JGT => a > insn.k,
                libc::BPF_JGE => a >= insn.k,
                BPF_JSET => a & insn.k != 0,
                _ => panic!("unknown instruction {code:#x}"),
            };
            at += usize::from(if holds { insn.jt } else { insn.jf });
        }
    }

    fn judge(rules: &[Rule], call: u32, args: [u64; 6]) -> bool {
        match run(&compile(rules, NO, KILL), ARCH, call, args) {
            ALLOW => true,
            NO => false,
            other => panic!("answer {other:#x}"),
        }
    }

    fn one(check: Check, args: [u64; 6]) -> bool {
        let rule = |call, checks| Rule { call, checks };
        let rules = [
            rule(6, vec![Check::Is(0, 1), Check::Is(1, 2)]),
            rule(6, vec![Check::Is(0, 7)]),
            rule(7, vec![check]),
            rule(8, vec![]),
        ];
        assert!(judge(&rules, 6, [1, 2, 0, 0, 0, 0]));
        assert!(!judge(&rules, 6, [1, 3, 0, 0, 0, 0]));
        assert!(!judge(&rules, 6, [0, 2, 0, 0, 0, 0]));
        assert!(judge(&rules, 6, [7, 0, 0, 0, 0, 0]));
        assert!(judge(&rules, 8, args));
        assert!(!judge(&rules, 9, args));
        judge(&rules, 7, args)
    }

    #[test]
    fn numbers() {
        assert!(one(Check::Is(5, 9), [0, 0, 0, 0, 0, 9]));
        assert!(!one(Check::Is(5, 9), [9, 9, 9, 9, 9, 0]));
        let some = Check::OneOf(1, &[4, 5, 6]);
        for (value, fine) in [(3, false), (4, true), (5, true), (6, true), (7, false)] {
            assert_eq!(one(some, [4, value, 4, 4, 4, 4]), fine, "{value}");
        }
        for (value, fine) in [(0, true), (2, true), (3, true), (4, false), (7, false)] {
            assert_eq!(one(Check::Bits(2, 3), [0, 0, value, 0, 0, 0]), fine);
        }
    }

    #[test]
    fn pointers() {
        let (start, len) = (Sealed::START as u64, Sealed::LEN as u64);
        for (pointer, fine) in [
            (start, true),
            (start + len - 1, true),
            (start - 1, false),
            (start + len, false),
            (start + (1 << 32), false),
            (start & 0xffff_ffff, false),
            (0, false),
        ] {
            assert_eq!(one(Check::Sealed(0), [pointer, 0, 0, 0, 0, 0]), fine);
        }
        for (from, len, fine) in [
            (start, 4096, false),
            (start - 4096, 8192, false),
            (start - (1 << 32), 0xffff_f000, false),
            (0, 1 << 47, false),
            (5 << 32, 4096, true),
            (0x7fff_0000_0000, 0xffff_f000, true),
            (0x7fff_0000_0000, 1 << 32, false),
        ] {
            assert_eq!(one(Check::Clear(0), [from, len, 0, 0, 0, 0]), fine);
        }
    }

    #[test]
    fn a_text() {
        let text = c"text";
        let at = text.as_ptr().addr() as u64;
        for (pointer, fine) in [(at, true), (at + 1, false), (at ^ (1 << 32), false)] {
            assert_eq!(one(Check::At(3, text), [0, 0, 0, pointer, 0, 0]), fine);
        }
        let how = &crate::sys::folder::BELOW;
        let at = std::ptr::from_ref(how).addr() as u64;
        for (pointer, fine) in [(at, true), (at + 8, false), (at ^ (1 << 32), false)] {
            assert_eq!(one(Check::AtHow(2, how), [0, 0, pointer, 0, 0, 0]), fine);
        }
    }

    #[test]
    fn foreign_calls() {
        let rules = [0, 1, 7].map(|call| Rule {
            call,
            checks: vec![],
        });
        let filter = compile(&rules, NO, KILL);
        // i386 and arm
        for arch in [0x4000_0003, 0x4000_0028, 0] {
            assert_eq!(run(&filter, arch, 7, [0; 6]), KILL);
        }
        assert_eq!(run(&filter, ARCH, 7, [0; 6]), ALLOW);
        assert_eq!(run(&filter, ARCH, 0x4000_0007, [0; 6]), NO);
        assert_eq!(run(&filter, ARCH, u32::MAX, [0; 6]), NO);
    }
}
