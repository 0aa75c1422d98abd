//! Text that is kept on some condition: `.ifdef`, of which the host decides, and `.if`, which is decided here.
//!
//! Contract: what `.ifdef` opens goes into the program with its condition; of `.if`, the one part is read and the other
//! is passed over. Either is closed in the file or macro that opened it.

use super::lex::{Line, Read, Tok};
use super::open::{Block, Kind, Open};
use super::parse::{Parser, Symbol};
use crate::bpf_link::Item;

/// The ways to the events that programs are written for.
const WAYS: [&str; 2] = ["tracefs", "btf"];

impl Parser<'_> {
    /// Whether what stands here is passed over.
    pub(super) fn is_skipped(&self) -> bool {
        let skips = |open: &Open| matches!(open.kind, Kind::Here { read: false, .. });
        self.opened.iter().any(skips)
    }

    /// Looks at a line that is passed over: where that ends.
    pub(super) fn skipped(&mut self, line: &mut Line<'_>) -> Read<()> {
        let col = line.col();
        match line.peek() {
            Tok::Word(".if" | ".ifdef") => {
                let place = self.place(col);
                let kind = Kind::Skipped;
                self.opened.push(Open { place, kind });
                Ok(())
            }
            Tok::Word(".else") => self.begin_else(col),
            Tok::Word(".endif") => self.end_if(col),
            _ => Ok(()),
        }
    }

    /// `.ways NAME…`
    pub(super) fn ways(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        if !self.program.ways.is_empty() {
            return Err((at, ".ways for the second time".into()));
        }
        let mut ways = Vec::new();
        while line.peek() != Tok::End || ways.is_empty() {
            let col = line.col();
            let way = line.word("a way to the events")?;
            if !WAYS.contains(&way) {
                return Err((
                    col,
                    format!("unknown way '{way}': it must be tracefs or btf"),
                ));
            }
            if ways.iter().any(|known| known == way) {
                return Err((col, format!("the way '{way}' is named twice")));
            }
            ways.push(way.to_string());
        }
        if let Some(way) = self
            .variant
            .way
            .filter(|way| !ways.iter().any(|w| w == way))
        {
            return Err((at, format!("the way '{way}' is none of these")));
        }
        self.program.ways = ways;
        Ok(())
    }

    /// Whether what `.if` names is so.
    fn holds(&self, name: &str, col: usize) -> Read<bool> {
        let ways = &self.program.ways;
        match name {
            "big_endian" => Ok(self.variant.big_endian),
            _ if !WAYS.contains(&name) => Err((
                col,
                format!("unknown condition '{name}': it must be tracefs, btf or big_endian"),
            )),
            _ if ways.is_empty() => Err((col, format!(".if {name} before .ways"))),
            _ => Ok(self.variant.way.or(ways.first().map(String::as_str)) == Some(name)),
        }
    }

    /// `.if NAME`
    pub(super) fn begin_if(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let col = line.col();
        let name = line.word("tracefs, btf or big_endian")?;
        let read = self.holds(name, col)?;
        let place = self.place(at);
        let kind = Kind::Here { read, other: false };
        self.opened.push(Open { place, kind });
        Ok(())
    }

    /// `.ifdef FIELD`
    pub(super) fn begin_ifdef(&mut self, line: &mut Line<'_>, at: usize) -> Read<()> {
        let col = line.col();
        let name = line.word("a field's name")?;
        let Symbol::Field(field) = *self.symbol(name, col)? else {
            return Err((col, format!("'{name}' is not a field")));
        };
        if !self.program.fields[field as usize].optional {
            return Err((
                col,
                format!("field '{name}' is not optional: it is always there"),
            ));
        }
        if self.blocks.iter().any(|b| b.field == field) {
            return Err((col, format!(".ifdef {name} within a block of '{name}'")));
        }
        self.used[field as usize] = true;
        let (place, kind) = (self.place(at), Kind::Host);
        self.opened.push(Open { place, kind });
        self.open(field, true, at);
        Ok(())
    }

    /// `.else`
    pub(super) fn begin_else(&mut self, at: usize) -> Read<()> {
        let closed = || (at, ".else without an open .ifdef".to_string());
        let known = self.opened.len() > self.opened_before;
        let open = self
            .opened
            .last_mut()
            .filter(|_| known)
            .ok_or_else(closed)?;
        match &mut open.kind {
            Kind::Skipped => Ok(()),
            Kind::Here { read, other } if !*other => {
                (*read, *other) = (!*read, true);
                Ok(())
            }
            Kind::Here { .. } => Err(closed()),
            Kind::Host => {
                let block = self.blocks.last().copied().filter(|b| b.present);
                let block = block.ok_or_else(closed)?;
                self.close();
                self.open(block.field, false, at);
                Ok(())
            }
        }
    }

    /// `.endif`
    pub(super) fn end_if(&mut self, at: usize) -> Read<()> {
        let known = self.opened.len() > self.opened_before;
        match self.opened.pop().filter(|_| known) {
            None => return Err((at, ".endif without an open .ifdef".into())),
            Some(open) if open.kind == Kind::Host => self.close(),
            Some(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, field: u16, present: bool, col: usize) {
        self.blocks.push(Block {
            field,
            present,
            item: self.program.items.len(),
        });
        self.push(
            Item::If {
                field,
                present,
                end: 0,
            },
            col,
        );
    }

    fn close(&mut self) {
        let now = self.program.items.len() as u32;
        let block = self.blocks.pop();
        let open = block.and_then(|block| self.program.items.get_mut(block.item));
        if let Some(Item::If { end, .. }) = open {
            *end = now;
        }
    }
}
