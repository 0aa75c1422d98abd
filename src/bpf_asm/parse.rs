//! Directives, symbols, labels and expressions; the instructions are in `insn.rs`.

use super::lex::{Line, Mistake, Read, Tok};
use super::{AsmError, Field, Program};
use crate::bpf_link::Item;
use std::collections::HashMap;

/// Files within files: more is a circle.
const DEPTH: usize = 8;
/// Items of a program: far beyond what any kernel takes.
const MOST: usize = 1 << 20;

/// A place in a text: which line of [`Source::lines`], and the column.
pub(super) type Place = (usize, usize);

/// Where everything came from.
#[derive(Default)]
pub(super) struct Source {
    /// Every line read: file, number, text.
    lines: Vec<(String, usize, String)>,
    /// The place of each item.
    pub(super) items: Vec<Place>,
}

impl Source {
    /// An error at a place.
    pub(super) fn error(&self, (line, col): Place, message: String) -> AsmError {
        let (file, line, text) = self.lines.get(line).cloned().unwrap_or_default();
        AsmError {
            file,
            line,
            col,
            message,
            text,
        }
    }
}

/// What a name stands for.
pub(super) enum Symbol {
    Number(i128),
    Field(u16),
    Map(u16),
    Label {
        item: usize,
        blocks: Vec<Block>,
        used: bool,
    },
}

impl Symbol {
    /// With its article, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Symbol::Number(_) => "a constant",
            Symbol::Field(_) => "a field",
            Symbol::Map(_) => "a map",
            Symbol::Label { .. } => "a label",
        }
    }
}

/// An open `.ifdef` (`present`) or its `.else`; `item` is its [`Item::If`].
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Block {
    pub(super) field: u16,
    pub(super) present: bool,
    pub(super) item: usize,
}

/// A jump whose label may come later.
pub(super) struct Pending {
    pub(super) item: usize,
    pub(super) label: String,
    pub(super) place: Place,
    pub(super) blocks: Vec<Block>,
}

/// A program as far as it has been read.
pub(super) struct Parser<'i> {
    include: &'i mut dyn FnMut(&str) -> Result<String, String>,
    /// Bare instructions: distances allowed, declarations not.
    pub(super) bare: bool,
    depth: usize,
    line: usize,
    source: Source,
    pub(super) program: Program,
    symbols: HashMap<String, (Symbol, Place)>,
    used: Vec<bool>,
    maps_used: Vec<bool>,
    pub(super) blocks: Vec<Block>,
    opened: Vec<Place>,
    pub(super) pending: Vec<Pending>,
}

impl<'i> Parser<'i> {
    pub(super) fn new(
        include: &'i mut dyn FnMut(&str) -> Result<String, String>,
        bare: bool,
    ) -> Parser<'i> {
        Parser {
            include,
            bare,
            depth: 0,
            line: 0,
            source: Source::default(),
            program: Program::default(),
            symbols: HashMap::new(),
            used: Vec::new(),
            maps_used: Vec::new(),
            blocks: Vec::new(),
            opened: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Reads a file to its end.
    pub(super) fn file(&mut self, file: &str, text: &str) -> Result<(), AsmError> {
        for (number, text) in text.lines().enumerate() {
            self.line = self.source.lines.len();
            self.source
                .lines
                .push((file.to_string(), number + 1, text.to_string()));
            let place = self.line;
            let included = self
                .one_line(text)
                .map_err(|(col, message)| self.source.error((place, col), message))?;
            if let Some((name, text)) = included {
                self.depth += 1;
                self.file(&name, &text)?;
                self.depth -= 1;
            }
        }
        Ok(())
    }

    /// Reads a line; gives the name and text of the file it includes, if it does.
    fn one_line(&mut self, text: &str) -> Read<Option<(String, String)>> {
        let mut line = Line::new(text)?;
        while let (Tok::Word(name), Tok::Op(":")) = (line.peek(), line.peek_second()) {
            let label = Symbol::Label {
                item: self.program.items.len(),
                blocks: self.blocks.clone(),
                used: false,
            };
            self.define(name, label, line.col())?;
            line.next();
            line.next();
        }
        let mut included = None;
        match line.peek() {
            Tok::End => {}
            Tok::Word(directive) if directive.starts_with('.') => {
                included = self.directive(directive, &mut line)?
            }
            _ => {
                let col = line.col();
                self.instruction(&mut line)?;
                if self.program.items.len() > MOST {
                    return Err((
                        col,
                        format!("the program has more than {MOST} instructions"),
                    ));
                }
            }
        }
        line.finish()?;
        Ok(included)
    }

    /// Adds an item that stands at column `col` of this line.
    pub(super) fn push(&mut self, item: Item, col: usize) {
        self.program.items.push(item);
        self.source.items.push((self.line, col));
    }

    /// The place of a column of this line.
    pub(super) fn place(&self, col: usize) -> Place {
        (self.line, col)
    }

    /// Gives `name` its meaning.
    fn define(&mut self, name: &str, symbol: Symbol, col: usize) -> Read<()> {
        let reserved = [
            "ll", "map", "lock", "goto", "if", "call", "exit", "memcpy", "via",
        ]
        .contains(&name);
        if reserved || name.starts_with('.') || super::insn::register(name).is_some() {
            return Err((col, format!("'{name}' can't be used as a name")));
        }
        if let Some((before, (line, _))) = self.symbols.get(name) {
            let (file, number, _) = &self.source.lines[*line];
            return Err((
                col,
                format!(
                    "duplicate symbol '{name}': {} at {file}:{number}",
                    before.kind()
                ),
            ));
        }
        self.symbols
            .insert(name.to_string(), (symbol, (self.line, col)));
        Ok(())
    }

    /// The meaning of `name`.
    pub(super) fn symbol(&self, name: &str, col: usize) -> Read<&Symbol> {
        self.symbols
            .get(name)
            .map(|s| &s.0)
            .ok_or((col, format!("unknown symbol '{name}'")))
    }

    /// Notes that a map is used.
    pub(super) fn use_map(&mut self, map: u16) {
        self.maps_used[map as usize] = true;
    }

    /// Notes that a field is used, here, where an optional one must be known to be there.
    pub(super) fn use_field(&mut self, field: u16, col: usize) -> Read<&Field> {
        self.used[field as usize] = true;
        let declared = &self.program.fields[field as usize];
        let known = self.blocks.iter().any(|b| b.field == field && b.present);
        if declared.optional && !known {
            return Err((
                col,
                format!(
                    "optional field '{0}' is used outside of .ifdef {0}",
                    declared.name
                ),
            ));
        }
        Ok(declared)
    }

    fn directive(
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
                self.opened.push((self.line, at));
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
            Tok::Word(name) if super::insn::register(name).is_none() => {
                line.next();
                match self.symbol(name, col)? {
                    Symbol::Number(value) => Ok(*value),
                    other => Err((col, format!("'{name}' is {}, not a constant", other.kind()))),
                }
            }
            _ => Err(line.wanted("a number")),
        }
    }

    /// Resolves the labels and looks for what is missing or left over.
    pub(super) fn finish(mut self, file: &str) -> Result<(Program, Source), AsmError> {
        let whole = |what: &str| AsmError {
            file: file.to_string(),
            line: 0,
            col: 0,
            message: format!("the program has no {what}"),
            text: String::new(),
        };
        if let Some(place) = self.opened.last() {
            return Err(self
                .source
                .error(*place, ".ifdef without its .endif".into()));
        }
        for Pending {
            item,
            label,
            place,
            blocks,
        } in std::mem::take(&mut self.pending)
        {
            let resolved = self.resolve(&label, &blocks, place.1);
            let goal =
                resolved.map_err(|(col, message)| self.source.error((place.0, col), message))?;
            if let Some(Item::Jump { target, .. }) = self.program.items.get_mut(item) {
                *target = goal;
            }
        }
        let unused = |symbol: &Symbol| match symbol {
            Symbol::Label { used, .. } => !used,
            Symbol::Field(field) => !self.used[*field as usize],
            Symbol::Map(map) => !self.maps_used[*map as usize],
            Symbol::Number(_) => false,
        };
        let first = self
            .symbols
            .iter()
            .filter(|(_, (symbol, _))| unused(symbol))
            .min_by_key(|(_, (_, place))| *place);
        if let Some((name, (symbol, place))) = first {
            let kind = symbol.kind().trim_start_matches("a ");
            return Err(self
                .source
                .error(*place, format!("{kind} '{name}' is never used")));
        }
        let p = &self.program;
        for (value, what) in [
            (&p.name, ".program name"),
            (&p.group, ".tracepoint"),
            (&p.license, ".license"),
        ]
        .iter()
        .filter(|_| !self.bare)
        {
            if value.is_empty() {
                return Err(whole(what));
            }
        }
        Ok((self.program, self.source))
    }

    fn resolve(&mut self, name: &str, from: &[Block], col: usize) -> Read<u32> {
        match self.symbols.get_mut(name).map(|s| &mut s.0) {
            Some(Symbol::Label { item, blocks, used }) => {
                if !from.starts_with(blocks) {
                    return Err((
                        col,
                        format!("jump into the block of label '{name}' from outside of it"),
                    ));
                }
                *used = true;
                Ok(*item as u32)
            }
            Some(other) => Err((col, format!("'{name}' is {}, not a label", other.kind()))),
            None => Err((col, format!("unknown label '{name}'"))),
        }
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
