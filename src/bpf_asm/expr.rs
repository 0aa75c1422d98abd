//! Numbers: what can be computed at build time. Values keep to 64 bits, signed or not.

use super::lex::{Line, Read, Tok, register};
use super::parse::{Parser, Symbol};

impl Parser<'_> {
    /// A number: constants, `+ - * / % << >> & ^ |`, `-x`, `~x`, brackets.
    pub(super) fn expr(&self, line: &mut Line<'_>) -> Read<i128> {
        self.binary(line, 0, 0)
    }

    fn binary(&self, line: &mut Line<'_>, least: u8, depth: u8) -> Read<i128> {
        let mut left = self.unary(line, depth)?;
        while let Tok::Op(op) = line.peek() {
            let strength = match op {
                "|" => 1,
                "^" => 2,
                "&" => 3,
                "<<" | ">>" => 4,
                "+" | "-" => 5,
                "*" | "/" | "%" => 6,
                _ => break,
            };
            if strength <= least {
                break;
            }
            let col = line.col();
            line.next();
            let right = self.binary(line, strength, depth)?;
            let shift = u32::try_from(right).ok().filter(|n| *n < 64);
            left = match op {
                "|" => Some(left | right),
                "^" => Some(left ^ right),
                "&" => Some(left & right),
                "<<" => shift.map(|n| left << n),
                ">>" => shift.map(|n| left >> n),
                "+" => Some(left + right),
                "-" => Some(left - right),
                "*" => left.checked_mul(right),
                "/" => left.checked_div(right),
                _ => left.checked_rem(right),
            }
            .filter(|value| value.unsigned_abs() <= u128::from(u64::MAX))
            .ok_or((
                col,
                format!("the value of {left} {op} {right} is not a number of 64 bits"),
            ))?;
        }
        Ok(left)
    }

    fn unary(&self, line: &mut Line<'_>, depth: u8) -> Read<i128> {
        let col = line.col();
        if depth > 32 {
            return Err((col, "expression too deep".into()));
        }
        match line.peek() {
            Tok::Op("-") => {
                line.next();
                Ok(-self.unary(line, depth + 1)?)
            }
            Tok::Op("+") => {
                line.next();
                self.unary(line, depth + 1)
            }
            Tok::Op("~") => {
                line.next();
                let value = !self.unary(line, depth + 1)?;
                let fits = value.unsigned_abs() <= u128::from(u64::MAX);
                if fits {
                    Ok(value)
                } else {
                    Err((col, "the value is not a number of 64 bits".into()))
                }
            }
            Tok::Op("(") => {
                line.next();
                let value = self.binary(line, 0, depth + 1)?;
                line.expect(")")?;
                Ok(value)
            }
            Tok::Num(number) => {
                line.next();
                Ok(number)
            }
            Tok::Word(name) if register(name).is_none() => {
                line.next();
                match self.symbol(name, col)? {
                    Symbol::Number(value) => Ok(*value),
                    other => Err((col, format!("'{name}' is {}, not a constant", other.kind()))),
                }
            }
            _ => Err(line.wanted("a number")),
        }
    }
}
