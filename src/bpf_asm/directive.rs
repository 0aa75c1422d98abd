//! The directives: what starts with a dot.

use super::lex::{Line, Mistake, Read, Tok};
use super::parse::{Parser, Symbol};
use crate::bpf_link::Field;

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
                self.check_depth(name, col)?;
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
            ".const" => self.constant_of(line)?,
            ".struct" => self.structure(line, at)?,
            ".at" => self.member(line, at)?,
            ".size" => self.size(line, at)?,
            ".skip" => self.skip(line, at)?,
            ".ends" => self.end_structure(at)?,
            ".ways" => self.ways(line, at)?,
            ".if" => self.begin_if(line, at)?,
            ".ifdef" => self.begin_ifdef(line, at)?,
            ".else" => self.begin_else(at)?,
            ".endif" => self.end_if(at)?,
            ".endm" => return Err((at, ".endm without an open .macro".into())),
            _ => return Err((at, format!("unknown directive '{directive}'"))),
        }
        Ok(None)
    }

    /// `.field NAME [= FIELD] TYPE [TYPE…] [optional]`, a type being `u32`, `s32` or `u8[16]`. The same may be said again.
    fn field(&mut self, line: &mut Line<'_>) -> Read<()> {
        let name_col = line.col();
        let name = line.word("a field's name")?;
        let means = match line.take(Tok::Op("=")) {
            true => line.word("the field that it stands for")?,
            false => name,
        };
        let mut field = Field {
            name: means.to_string(),
            widths: Vec::new(),
            optional: false,
        };
        while let Tok::Word(word) = line.peek() {
            let col = line.col();
            if word == "optional" && !field.widths.is_empty() {
                line.next();
                field.optional = true;
                break;
            }
            let width = self.type_of(line)?.size();
            if field.widths.contains(&width) {
                return Err((col, format!("field '{name}' has the size {width} twice")));
            }
            field.widths.push(width);
        }
        if field.widths.is_empty() {
            return Err(line.wanted("a type"));
        }
        if let Ok(Symbol::Field(before)) = self.symbol(name, name_col) {
            if self.program.fields[*before as usize] == field {
                return Ok(());
            }
        }
        let index = self.program.fields.len() as u16;
        self.define(name, Symbol::Field(index), name_col)?;
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
