//! What becomes more than one instruction: `memcpy` and `peek`, which copy a field to the stack.

use super::insn::Place;
use super::lex::{Line, Read};
use super::parse::Parser;
use crate::bpf_insn::FP;
use crate::bpf_link::Item;

/// What `memcpy` and `peek` begin with: places with their columns.
struct Transfer {
    to: (usize, i16),
    src: u8,
    field: u16,
    col: usize,
}

impl Parser<'_> {
    /// `memcpy(r10 - 72, r6 + saddr_v6, 16) via r3`.
    pub(super) fn memcpy(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let Transfer {
            to,
            src,
            field,
            col,
        } = self.transfer(line, "memcpy")?;
        let len = (line.col(), self.expr(line)?);
        line.expect(")")?;
        line.expect_word("via")?;
        let via_col = line.col();
        let via = self.wide_register(line)?;
        if via == src || via == FP {
            return Err((via_col, format!("r{via} can't be the register in between")));
        }
        self.use_field(field, col)?;
        let len = self.length(field, to, len)?;
        let to = to.1;
        self.push(
            Item::Copy {
                to,
                src,
                field,
                len,
                via,
            },
            at,
        );
        Ok(())
    }

    /// `peek(r10 - 72, r7 + sock.sk_err, 4)`: the field may be one that the host lacks.
    pub(super) fn peek(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let Transfer { to, src, field, .. } = self.transfer(line, "peek")?;
        let len = (line.col(), self.expr(line)?);
        line.expect(")")?;
        self.used[field as usize] = true;
        let len = self.length(field, to, len)?;
        let to = to.1;
        self.push(
            Item::Peek {
                to,
                src,
                field,
                len,
            },
            at,
        );
        Ok(())
    }

    /// `(r10 - 72, r6 + saddr_v6, `
    fn transfer(&mut self, line: &mut Line<'_>, name: &str) -> Read<Transfer> {
        line.expect("(")?;
        let to_col = line.col();
        let (FP, Place::Offset(to)) = self.base(line)? else {
            return Err((
                to_col,
                format!("{name} writes to the stack only: r10 and a negative offset"),
            ));
        };
        line.expect(",")?;
        let from_col = line.col();
        let (src, Place::Field(field, col)) = self.base(line)? else {
            return Err((
                from_col,
                format!("{name} copies fields only: a register and a field's name"),
            ));
        };
        line.expect(",")?;
        Ok(Transfer {
            to: (to_col, to),
            src,
            field,
            col,
        })
    }

    /// Checks that so many bytes of the field can be copied to the stack.
    fn length(&self, field: u16, to: (usize, i16), len: (usize, i128)) -> Read<u16> {
        let declared = &self.program.fields[field as usize];
        let least = declared.widths.iter().copied().min().unwrap_or(0);
        let count = u16::try_from(len.1).ok().filter(|n| *n > 0 && *n <= least);
        let count = count.ok_or((
            len.0,
            format!(
                "'{}' has {least} bytes: can't copy {}",
                declared.name, len.1
            ),
        ))?;
        if to.1 < -512 || i32::from(to.1) + i32::from(count) > 0 {
            return Err((
                to.0,
                format!(
                    "{count} bytes at r10 {:+} are not on the stack of 512 bytes below r10",
                    to.1
                ),
            ));
        }
        Ok(count)
    }
}
