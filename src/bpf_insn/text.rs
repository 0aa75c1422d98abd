//! How an instruction is shown: the text side of [`super::Insn`]. A private part of `bpf_insn`.

use super::*;

/// `+ 24` or `- 8`: a distance with its sign apart.
struct Signed(i16);

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign} {}", self.0.unsigned_abs())
    }
}

/// The dialect's text. The first slot of a 64-bit immediate shows its low half alone ([`text`] shows both);
/// what [`Insn::check`] refuses is shown as a number.
impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Insn {
            code,
            dst,
            src,
            off,
            imm,
        } = *self;
        if self.check().is_err() {
            return write!(f, "(not an instruction: {:#018x})", self.encode());
        }
        let bits = Size::of(code).bytes() * 8;
        let at = Signed(off);
        let reg = if matches!(code & CLASS, ALU | JMP32) {
            'w'
        } else {
            'r'
        };
        match code & CLASS {
            LD if src == PSEUDO_MAP_FD => write!(f, "r{dst} = map[fd:{imm}] ll"),
            LD => write!(f, "r{dst} = {} ll", imm as u32),
            LDX => write!(f, "r{dst} = *(u{bits} *)(r{src} {at})"),
            ST => write!(f, "*(u{bits} *)(r{dst} {at}) = {imm}"),
            STX if code & MODE == ATOMIC => write!(f, "lock *(u{bits} *)(r{dst} {at}) += r{src}"),
            STX => write!(f, "*(u{bits} *)(r{dst} {at}) = r{src}"),
            ALU if code & OP == END => {
                let order = if code & X == 0 { "le" } else { "be" };
                write!(f, "r{dst} = {order}{imm} r{dst}")
            }
            ALU | ALU64 if code & OP == NEG => write!(f, "{reg}{dst} = -{reg}{dst}"),
            ALU | ALU64 => {
                write!(f, "{reg}{dst} {} ", self.alu_op().unwrap_or_default())?;
                if code & X == 0 {
                    write!(f, "{imm}")
                } else {
                    write!(f, "{reg}{src}")
                }
            }
            _ if code == GOTO => write!(f, "goto {off:+}"),
            _ if code == CALL && src != 0 => write!(f, "call kernel {imm}"),
            _ if code == CALL => write!(f, "call {imm}"),
            _ if code == EXIT => f.write_str("exit"),
            _ => {
                write!(f, "if {reg}{dst} {} ", self.cmp_op().unwrap_or_default())?;
                if code & X == 0 {
                    write!(f, "{imm}")?
                } else {
                    write!(f, "{reg}{src}")?
                }
                write!(f, " goto {off:+}")
            }
        }
    }
}

/// The text of the instruction at the start of `insns`, and how many slots it takes (0 at the end, else 1 or 2).
pub fn text(insns: &[Insn]) -> (impl fmt::Display + use<>, usize) {
    enum Text {
        None,
        One(Insn),
        Wide(u8, i64),
    }
    impl fmt::Display for Text {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Text::None => Ok(()),
                Text::One(insn) => insn.fmt(f),
                Text::Wide(dst, value) => write!(f, "r{dst} = {value} ll"),
            }
        }
    }
    match insns {
        [] => (Text::None, 0),
        [first, second, ..] if first.is_wide() && second.code == 0 => {
            let value = i64::from(second.imm) << 32 | i64::from(first.imm as u32);
            let shown = if first.src == 0 {
                Text::Wide(first.dst, value)
            } else {
                Text::One(*first)
            };
            (shown, 2)
        }
        [first, ..] => (Text::One(*first), 1),
    }
}
