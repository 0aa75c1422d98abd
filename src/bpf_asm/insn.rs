//! The instructions: tokens to items.

use super::lex::{Line, Read, Tok, register};
use super::parse::{Parser, Symbol};
use crate::bpf_insn::{Alu, Cmp, FP, HELPERS, Insn, Operand, Size};
use crate::bpf_link::Item;
use crate::bpf_link::builder::PARTS;

/// The token's text if it names a register, existing or not.
fn named_register(tok: Tok<'_>) -> Option<&str> {
    match tok {
        Tok::Word(word) if register(word).is_some() => Some(word),
        _ => None,
    }
}

/// What stands behind the base register of an address.
pub(super) enum Place {
    Offset(i16),
    Field(u16, usize),
}

impl Parser<'_> {
    /// Reads one instruction and adds its items.
    pub(super) fn instruction(&mut self, line: &mut Line<'_>) -> Read<()> {
        let at = line.col();
        match line.peek() {
            Tok::Op("*") => self.store(line, at),
            Tok::Word("lock") => {
                line.next();
                self.atomic(line, at)
            }
            Tok::Word("exit") => {
                line.next();
                self.checked(Insn::exit(), at)
            }
            Tok::Word("call") => {
                line.next();
                self.call(line, at)
            }
            Tok::Word("goto") => self.jump(line, Insn::goto(0), at),
            Tok::Word("if") => {
                line.next();
                self.branch(line, at)
            }
            Tok::Word("memcpy") => {
                line.next();
                self.memcpy(line, at)
            }
            Tok::Word("peek") => {
                line.next();
                self.peek(line, at)
            }
            Tok::Word("filter") => {
                line.next();
                self.filter(line, at)
            }
            Tok::Word(word) if register(word).is_some() => {
                let (wide, dst) = self.register(line)?;
                self.assign(line, wide, dst, at)
            }
            Tok::Word(word) => Err((at, format!("unknown instruction '{word}'"))),
            _ => Err(line.wanted("an instruction")),
        }
    }

    /// `filter socket`: where a part of the user's filter belongs.
    fn filter(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let col = line.col();
        let name = line.word("a part of the filter")?;
        let part = PARTS.iter().position(|part| *part == name);
        let part = part.ok_or_else(|| (col, format!("unknown part of a filter '{name}'")))?;
        self.push(Item::Filter { part: part as u8 }, at);
        Ok(())
    }

    /// Adds an instruction if there is such a one.
    fn checked(&mut self, insn: Insn, col: usize) -> Read<()> {
        insn.check().map_err(|why| (col, why.to_string()))?;
        self.push(Item::Insn(insn), col);
        Ok(())
    }

    fn register(&self, line: &mut Line<'_>) -> Read<(bool, u8)> {
        let col = line.col();
        match line.peek() {
            Tok::Word(word) => match register(word) {
                Some((wide, Some(number))) => {
                    line.next();
                    Ok((wide, number))
                }
                Some((_, None)) => {
                    Err((col, format!("unknown register '{word}': the last is r10")))
                }
                None => Err(line.wanted("a register")),
            },
            _ => Err(line.wanted("a register")),
        }
    }

    /// A register of 64 bits.
    pub(super) fn wide_register(&self, line: &mut Line<'_>) -> Read<u8> {
        let col = line.col();
        match self.register(line)? {
            (true, number) => Ok(number),
            (false, number) => Err((
                col,
                format!("w{number} has only 32 bits here: use r{number}"),
            )),
        }
    }

    /// A number that the instruction can hold in 32 bits, of which it uses `bits`, and signed only if that is 64.
    fn immediate(&self, line: &mut Line<'_>, bits: u16) -> Read<i32> {
        let col = line.col();
        let value = self.expr(line)?;
        let (least, most) = match bits {
            64 => (i128::from(i32::MIN), i128::from(i32::MAX)),
            _ => (-(1i128 << (bits - 1)), (1i128 << bits) - 1),
        };
        if value < least || value > most {
            return Err((
                col,
                format!("immediate {value} is out of range: {least} to {most}"),
            ));
        }
        Ok(value as i32)
    }

    /// The second operand: a register as wide as the first, or a number.
    fn operand(&self, line: &mut Line<'_>, wide: bool) -> Read<Operand> {
        let col = line.col();
        let Some(word) = named_register(line.peek()) else {
            return self
                .immediate(line, if wide { 64 } else { 32 })
                .map(Operand::Imm);
        };
        let (same, number) = self.register(line)?;
        if same != wide {
            let kind = if wide { 'r' } else { 'w' };
            let other = "is not as wide as the other operand: use";
            return Err((col, format!("'{word}' {other} {kind}{number}")));
        }
        Ok(Operand::Reg(number))
    }

    /// `*(u32 *)(r6 + X)`: width, base register and what is behind it.
    fn address(&mut self, line: &mut Line<'_>) -> Read<(Size, usize, u8, Place)> {
        line.expect("*")?;
        line.expect("(")?;
        let col = line.col();
        let word = line.word("a width: u8, u16, u32 or u64")?;
        let size = match word {
            "u8" => Size::B,
            "u16" => Size::H,
            "u32" => Size::W,
            "u64" => Size::Dw,
            _ => {
                return Err((
                    col,
                    format!("unknown width '{word}': it must be u8, u16, u32 or u64"),
                ));
            }
        };
        line.expect("*")?;
        line.expect(")")?;
        line.expect("(")?;
        let (base, place) = self.base(line)?;
        line.expect(")")?;
        Ok((size, col, base, place))
    }

    /// `r6 + X`, or `r6` alone.
    pub(super) fn base(&mut self, line: &mut Line<'_>) -> Read<(u8, Place)> {
        let base = self.wide_register(line)?;
        if let (Tok::Op("+"), Tok::Word(name)) = (line.peek(), line.peek_second()) {
            line.next();
            let col = line.col();
            if register(name).is_some() {
                return Err((col, "an address is one register and a number".into()));
            }
            if let Symbol::Field(field) = *self.symbol(name, col)? {
                line.next();
                return Ok((base, Place::Field(field, col)));
            }
            return Ok((base, Place::Offset(self.offset(line)?)));
        }
        match line.peek() {
            Tok::Op("+" | "-") => Ok((base, Place::Offset(self.offset(line)?))),
            _ => Ok((base, Place::Offset(0))),
        }
    }

    fn offset(&self, line: &mut Line<'_>) -> Read<i16> {
        let col = line.col();
        let value = self.expr(line)?;
        i16::try_from(value).map_err(|_| {
            (
                col,
                format!("offset {value} is out of range: -32768 to 32767"),
            )
        })
    }

    /// An address that is no field's.
    fn plain_address(&mut self, line: &mut Line<'_>) -> Read<(Size, u8, i16)> {
        match self.address(line)? {
            (size, _, base, Place::Offset(off)) => Ok((size, base, off)),
            (_, _, _, Place::Field(field, col)) => Err((
                col,
                format!(
                    "field '{}' can't be written",
                    self.program.fields[field as usize].name
                ),
            )),
        }
    }

    /// The register of a load or store: a `w` one says the same, up to 32 bits.
    fn moved(&self, line: &mut Line<'_>, size: Size) -> Read<u8> {
        let col = line.col();
        match self.register(line)? {
            (false, number) if size == Size::Dw => {
                Err((col, format!("w{number} has only 32 bits: use r{number}")))
            }
            (_, number) => Ok(number),
        }
    }

    fn store(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let (size, base, off) = self.plain_address(line)?;
        line.expect("=")?;
        let operand = match line.peek() {
            Tok::Word(word) if register(word).is_some() => Operand::Reg(self.moved(line, size)?),
            _ => Operand::Imm(self.immediate(line, size.bytes() * 8)?),
        };
        self.checked(Insn::store(size, base, off, operand), at)
    }

    fn atomic(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let col = line.col();
        let (size, base, off) = self.plain_address(line)?;
        if !matches!(size, Size::W | Size::Dw) {
            return Err((col, "an atomic add has a width of u32 or u64".into()));
        }
        line.expect("+=")?;
        let src = self.moved(line, size)?;
        self.checked(Insn::atomic_add(size, base, off, src), at)
    }

    fn call(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let col = line.col();
        if line.take(Tok::Word("kernel")) {
            let number = self.number(line, "function")?;
            return self.checked(Insn::kernel_call(number), at);
        }
        let number = match line.peek() {
            Tok::Word(name) if name.starts_with("bpf_") => {
                line.next();
                let found = HELPERS.iter().find(|(helper, _)| *helper == name);
                found
                    .map(|(_, number)| *number)
                    .ok_or((col, format!("unknown helper '{name}'")))?
            }
            _ => self.number(line, "helper")?,
        };
        self.checked(Insn::call(number), at)
    }

    /// The number of what is called.
    fn number(&mut self, line: &mut Line<'_>, what: &str) -> Read<i32> {
        let col = line.col();
        let value = self.expr(line)?;
        let number = i32::try_from(value).ok().filter(|n| *n > 0);
        number.ok_or((
            col,
            format!("{what} number {value} is out of range: 1 to {}", i32::MAX),
        ))
    }

    fn branch(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let (wide, left) = self.register(line)?;
        let cmp = Cmp::ALL.iter().find(|(_, sign)| line.take(Tok::Op(sign)));
        let (cmp, _) = cmp.ok_or_else(|| line.wanted("a comparison"))?;
        let right = self.operand(line, wide)?;
        self.jump(line, Insn::branch(wide, *cmp, left, right, 0), at)
    }

    /// `goto LABEL`, or with a distance in a fragment.
    fn jump(&mut self, line: &mut Line<'_>, mut insn: Insn, at: usize) -> Read<()> {
        line.expect_word("goto")?;
        let col = line.col();
        if let Tok::Word(label) = line.peek() {
            line.next();
            let (item, place) = (self.program.items.len(), self.place(col));
            self.labels.jump(item, label, &self.blocks, place);
            self.push(Item::Jump { insn, target: 0 }, at);
            return Ok(());
        }
        if !self.bare {
            return Err(line.wanted("a label"));
        }
        let value = self.expr(line)?;
        insn.off = i16::try_from(value).map_err(|_| {
            (
                col,
                format!("jump distance {value} is out of range: -32768 to 32767"),
            )
        })?;
        self.checked(insn, at)
    }

    /// What follows the register that is written.
    fn assign(&mut self, line: &mut Line<'_>, wide: bool, dst: u8, at: usize) -> Read<()> {
        let op = Alu::ALL.iter().find(|(_, sign)| line.take(Tok::Op(sign)));
        let (op, _) = op.ok_or_else(|| line.wanted("an assignment"))?;
        if dst == FP {
            return Err((at, "r10 is the frame pointer and can't be written".into()));
        }
        let col = line.col();
        if *op != Alu::Mov {
            let operand = self.operand(line, wide)?;
            return self.checked(Insn::alu(wide, *op, dst, operand), at);
        }
        match line.peek() {
            Tok::Op("*") => self.load(line, wide, dst, at),
            Tok::Word("map") => self.map(line, wide, dst, at),
            Tok::Word(swap @ ("be16" | "be32" | "be64" | "le16" | "le32" | "le64")) => {
                line.next();
                let bits = if swap.ends_with("16") {
                    16
                } else if swap.ends_with("32") {
                    32
                } else {
                    64
                };
                if (wide, dst) != self.register(line)? || !wide {
                    return Err((
                        col,
                        format!("{swap} swaps within one register: r{dst} = {swap} r{dst}"),
                    ));
                }
                self.checked(Insn::swap(swap.starts_with('b'), bits, dst), at)
            }
            Tok::Op("-") if named_register(line.peek_second()).is_some() => {
                line.next();
                if (wide, dst) != self.register(line)? {
                    return Err((
                        col,
                        "only a register itself can be negated: r1 = -r1".into(),
                    ));
                }
                self.checked(Insn::neg(wide, dst), at)
            }
            Tok::Word(word) if register(word).is_some() => {
                let operand = self.operand(line, wide)?;
                self.checked(Insn::alu(wide, Alu::Mov, dst, operand), at)
            }
            _ => self.constant(line, wide, dst, at),
        }
    }

    /// A number, followed by `ll` if it has 64 bits.
    fn constant(&mut self, line: &mut Line<'_>, wide: bool, dst: u8, at: usize) -> Read<()> {
        let col = line.col();
        let value = self.expr(line)?;
        if line.take(Tok::Word("ll")) {
            if !wide || value < i128::from(i64::MIN) {
                return Err((
                    col,
                    "'ll' is for an r register and a number of 64 bits".into(),
                ));
            }
            self.push(
                Item::Wide {
                    dst,
                    value: value as u64,
                },
                at,
            );
            return Ok(());
        }
        let (least, most) = match wide {
            true => (i128::from(i32::MIN), i128::from(i32::MAX)),
            false => (i128::from(i32::MIN), i128::from(u32::MAX)),
        };
        if value < least || value > most {
            let hint = if wide {
                "; write 'll' behind a number of 64 bits"
            } else {
                ""
            };
            return Err((
                col,
                format!("immediate {value} is out of range: {least} to {most}{hint}"),
            ));
        }
        self.checked(
            Insn::alu(wide, Alu::Mov, dst, Operand::Imm(value as i32)),
            at,
        )
    }

    fn map(&mut self, line: &mut Line<'_>, wide: bool, dst: u8, at: usize) -> Read<()> {
        line.next();
        let col = line.col();
        let name = line.word("a map's name")?;
        line.expect_word("ll")?;
        match *self.symbol(name, col)? {
            Symbol::Map(map) if wide => {
                self.use_map(map);
                self.push(Item::Map { dst, map }, at);
                Ok(())
            }
            Symbol::Map(_) => Err((at, format!("w{dst} has only 32 bits here: use r{dst}"))),
            ref other => Err((col, format!("'{name}' is {}, not a map", other.kind()))),
        }
    }

    fn load(&mut self, line: &mut Line<'_>, wide: bool, dst: u8, at: usize) -> Read<()> {
        let (size, size_col, src, place) = self.address(line)?;
        if !wide && size == Size::Dw {
            return Err((at, format!("w{dst} has only 32 bits: use r{dst}")));
        }
        match place {
            Place::Offset(off) => self.checked(Insn::load(size, dst, src, off), at),
            Place::Field(field, col) => {
                let declared = self.use_field(field, col)?;
                if declared
                    .widths
                    .iter()
                    .any(|w| Size::from_bytes(*w).is_none())
                {
                    return Err((
                        col,
                        format!(
                            "field '{}' is no number: copy it with memcpy",
                            declared.name
                        ),
                    ));
                }
                let (name, bits) = (&declared.name, declared.widths[0] * 8);
                if bits != size.bytes() * 8 {
                    let wrong = format!("field '{name}' is declared u{bits}: write *(u{bits} *)");
                    return Err((size_col, wrong));
                }
                self.push(Item::Load { dst, src, field }, at);
                Ok(())
            }
        }
    }
}
