//! The layouts that programs and their reader share: `.struct` with what belongs to it, and `.const`.
//!
//! Contract: a member's place is written beside it, and must be where the one before ends; so the text is the table.

use super::lex::{Line, Read, Tok};
use super::open::Structure;
use super::parse::{Parser, Symbol};
use super::program::{Export, Exported, Type};

impl Parser<'_> {
    /// `u32`, `s32` or `u8[16]`.
    pub(super) fn type_of(&self, line: &mut Line<'_>) -> Read<Type> {
        let col = line.col();
        let word = line.word("a type")?;
        let unit = match word {
            "u8" | "s8" => 1,
            "u16" | "s16" => 2,
            "u32" | "s32" => 4,
            "u64" | "s64" => 8,
            _ => {
                let why = format!("unknown type '{word}': it must be u8 to u64 or s8 to s64");
                return Err((col, why));
            }
        };
        let mut kind = Type {
            unit,
            signed: word.starts_with('s'),
            count: None,
        };
        if line.take(Tok::Op("[")) {
            let count = self.expr(line)?;
            line.expect("]")?;
            let fits = u16::try_from(count).ok();
            kind.count = fits.filter(|n| (1..=4096).contains(n));
            if kind.count.is_none() {
                let why = format!("array of {count} elements: it must be 1 to 4096");
                return Err((col, why));
            }
        }
        Ok(kind)
    }

    /// `.const NAME TYPE NUMBER`
    pub(super) fn constant_of(&mut self, line: &mut Line<'_>) -> Read<()> {
        let name_col = line.col();
        let name = line.word("a name")?;
        let kind = self.type_of(line)?;
        let col = line.col();
        let value = self.expr(line)?;
        let bits = u32::from(kind.unit) * 8;
        let (least, most) = match kind.signed {
            true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
            false => (0, (1i128 << bits) - 1),
        };
        if kind.count.is_some() || value < least || value > most {
            return Err((col, format!("{value} is no number of that type")));
        }
        self.define(name, Symbol::Number(value), name_col)?;
        self.export(name, Exported::Constant(kind, value));
        Ok(())
    }

    /// `.struct NAME [PLACE]`
    pub(super) fn structure(&mut self, line: &mut Line<'_>, col: usize) -> Read<()> {
        if self.structure.is_some() {
            return Err((col, ".struct within another".into()));
        }
        let name = line.word("the structure's name")?.to_string();
        let base = match line.peek() {
            Tok::End => 0,
            _ => self.expr(line)?,
        };
        self.structure = Some(Structure {
            name,
            base,
            next: 0,
            place: self.place(col),
        });
        Ok(())
    }

    /// `.at PLACE TYPE NAME`
    pub(super) fn member(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let mut open = self.take_structure(at)?;
        self.expect_next(&open, line)?;
        let kind_col = line.col();
        let kind = self.type_of(line)?;
        if open.next % kind.unit != 0 {
            let why = format!("byte {} is not a multiple of {}", open.next, kind.unit);
            return Err((kind_col, why));
        }
        let col = line.col();
        let name = line.word("the member's name")?;
        let own = name.strip_prefix(open.name.as_str());
        if !own.is_some_and(|rest| rest.starts_with('_')) {
            return Err((
                col,
                format!("'{name}' does not begin with '{}_'", open.name),
            ));
        }
        self.define(name, Symbol::Number(open.base + i128::from(open.next)), col)?;
        self.export(name, Exported::Member(open.next, kind));
        open.next = open.grown(kind.size(), kind_col)?;
        self.structure = Some(open);
        Ok(())
    }

    /// `.size NAME BYTES`
    pub(super) fn size(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let open = self.take_structure(at)?;
        let col = line.col();
        let name = line.word("a name")?;
        self.expect_next(&open, line)?;
        self.define(name, Symbol::Number(open.next.into()), col)?;
        self.export(name, Exported::Size(open.next));
        self.structure = Some(open);
        Ok(())
    }

    /// `.skip BYTES`
    pub(super) fn skip(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let mut open = self.take_structure(at)?;
        let col = line.col();
        let bytes = self.expr(line)?;
        let bytes = u16::try_from(bytes).map_err(|_| (col, format!("can't skip {bytes} bytes")))?;
        open.next = open.grown(bytes, col)?;
        self.structure = Some(open);
        Ok(())
    }

    /// `.ends`
    pub(super) fn end_structure(&mut self, at: usize) -> Read<()> {
        self.take_structure(at).map(drop)
    }

    fn take_structure(&mut self, at: usize) -> Read<Structure> {
        let open = self.structure.take();
        open.ok_or((at, "there is no open .struct".into()))
    }

    /// A place, which must be the next.
    fn expect_next(&self, open: &Structure, line: &mut Line<'_>) -> Read<()> {
        let col = line.col();
        let place = self.expr(line)?;
        if place != i128::from(open.next) {
            let why = format!("it is byte {} here, not {place}", open.next);
            return Err((col, why));
        }
        Ok(())
    }

    fn export(&mut self, name: &str, what: Exported) {
        let text = self.text();
        let about = text.split_once(';').map_or("", |(_, about)| about.trim());
        self.program.exports.push(Export {
            name: name.to_string(),
            what,
            about: about.to_string(),
        });
    }
}
