//! The directives: what starts with a dot.

use super::Field;
use super::lex::{Line, Mistake, Read, Tok};
use super::parse::{Block, Parser, Symbol};
use crate::bpf_link::Item;

/// Files within files: more is a circle.
const DEPTH: usize = 8;

impl Parser<'_> {
    /// Obeys a directive; gives the name and text of the file to include, if it names one.
    pub(super) fn directive(
        &mut self,
        directive: &str,
        line: &mut Line<'_>,
    ) -> Read<Option<(String, String)>> {
        let at = line.col();
        line.next();
        if self.bare && directive != ".equ" {
            return Err((at, format!("{directive} can't stand in a fragment")));
        }
        match directive {
            ".equ" => {
                let col = line.col();
                let name = line.word("a name")?;
                let value = self.expr(line)?;
                self.define(name, Symbol::Number(value), col)?;
            }
            ".include" => {
                let col = line.col();
                let Tok::Text(name) = line.peek() else {
                    return Err(line.wanted("a file name in double quotes"));
                };
                line.next();
                if self.depth == DEPTH {
                    return Err((
                        col,
                        format!("\"{name}\" is included {DEPTH} files deep: is it a circle?"),
                    ));
                }
                let text = (self.include)(name)
                    .map_err(|why| (col, format!("can't include \"{name}\": {why}")))?;
                return Ok(Some((name.to_string(), text)));
            }
            ".program" => {
                let col = line.col();
                let name = line.word("a program name")?.to_string();
                if name.len() > 15 {
                    return Err((
                        col,
                        format!(
                            "program name '{name}' has {} characters, at most 15",
                            name.len()
                        ),
                    ));
                }
                if name.contains('.') {
                    return Err((
                        col,
                        format!("program name '{name}' has other characters than A-Z a-z 0-9 _"),
                    ));
                }
                once(&mut self.program.name, name, directive, at)?;
            }
            ".tracepoint" => {
                let group = line.word("a tracepoint as group:event")?.to_string();
                line.expect(":")?;
                let event = line.word("the event's name")?.to_string();
                once(&mut self.program.group, group, directive, at)?;
                self.program.event = event;
            }
            ".license" => {
                let col = line.col();
                let Tok::Text(text) = line.next() else {
                    return Err((col, "expected the licence in quotes".into()));
                };
                if text.is_empty() || text.contains('\0') {
                    return Err((col, "the licence is empty or holds a NUL".into()));
                }
                once(&mut self.program.license, text.to_string(), directive, at)?;
            }
            ".field" => self.field(line)?,
            ".map" => {
                let col = line.col();
                let name = line.word("a map's name")?;
                let index = self.program.maps.len() as u16;
                self.define(name, Symbol::Map(index), col)?;
                self.program.maps.push(name.to_string());
                self.maps_used.push(false);
            }
            ".ifdef" => {
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
                self.opened.push(self.place(at));
                self.open(field, true, at);
            }
            ".else" => {
                let Some(block) = self.blocks.pop().filter(|b| b.present) else {
                    return Err((at, ".else without an open .ifdef".into()));
                };
                self.close(block);
                self.open(block.field, false, at);
            }
            ".endif" => {
                let block = self
                    .blocks
                    .pop()
                    .ok_or((at, ".endif without an open .ifdef".to_string()))?;
                self.close(block);
                self.opened.pop();
            }
            _ => return Err((at, format!("unknown directive '{directive}'"))),
        }
        Ok(None)
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

    fn close(&mut self, block: Block) {
        let now = self.program.items.len() as u32;
        if let Some(Item::If { end, .. }) = self.program.items.get_mut(block.item) {
            *end = now;
        }
    }

    /// `.field NAME TYPE [TYPE…] [optional]`, a type being `u32`, `s32` or `u8[16]`.
    fn field(&mut self, line: &mut Line<'_>) -> Read<()> {
        let name_col = line.col();
        let name = line.word("a field's name")?;
        let mut field = Field {
            name: name.to_string(),
            widths: Vec::new(),
            optional: false,
        };
        while let Tok::Word(word) = line.peek() {
            let col = line.col();
            line.next();
            if word == "optional" && !field.widths.is_empty() {
                field.optional = true;
                break;
            }
            let unit = match word {
                "u8" | "s8" => 1,
                "u16" | "s16" => 2,
                "u32" | "s32" => 4,
                "u64" | "s64" => 8,
                _ => {
                    return Err((
                        col,
                        format!("unknown type '{word}': it must be u8 to u64 or s8 to s64"),
                    ));
                }
            };
            let mut width = unit;
            if line.take(Tok::Op("[")) {
                let count = self.expr(line)?;
                line.expect("]")?;
                width = u16::try_from(count)
                    .ok()
                    .filter(|n| (1..=4096).contains(n))
                    .map_or(0, |n| n * unit);
                if width == 0 {
                    return Err((
                        col,
                        format!("array of {count} elements: it must be 1 to 4096"),
                    ));
                }
            }
            if field.widths.contains(&width) {
                return Err((col, format!("field '{name}' has the size {width} twice")));
            }
            field.widths.push(width);
        }
        if field.widths.is_empty() {
            return Err(line.wanted("a type"));
        }
        self.define(
            name,
            Symbol::Field(self.program.fields.len() as u16),
            name_col,
        )?;
        self.program.fields.push(field);
        self.used.push(false);
        Ok(())
    }
}

/// Sets what may be said only once.
fn once(place: &mut String, value: String, directive: &str, col: usize) -> Result<(), Mistake> {
    if !place.is_empty() {
        return Err((col, format!("{directive} for the second time")));
    }
    *place = value;
    Ok(())
}
