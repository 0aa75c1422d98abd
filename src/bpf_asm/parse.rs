//! A program as far as it has been read: lines, symbols, labels, and what is missing or left over at the end.
//! What a line says is read in `directive.rs`, `expr.rs` and `insn.rs`.

use super::lex::{Line, Read, Tok};
use super::{AsmError, Field, Program};
use crate::bpf_link::Item;
use std::collections::HashMap;

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
    pub(super) include: &'i mut dyn FnMut(&str) -> Result<String, String>,
    /// Bare instructions: distances allowed, declarations not.
    pub(super) bare: bool,
    pub(super) depth: usize,
    line: usize,
    source: Source,
    pub(super) program: Program,
    symbols: HashMap<String, (Symbol, Place)>,
    pub(super) used: Vec<bool>,
    pub(super) maps_used: Vec<bool>,
    pub(super) blocks: Vec<Block>,
    pub(super) opened: Vec<Place>,
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
    pub(super) fn define(&mut self, name: &str, symbol: Symbol, col: usize) -> Read<()> {
        let reserved = [
            "ll", "map", "lock", "goto", "if", "call", "exit", "memcpy", "peek", "via",
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
