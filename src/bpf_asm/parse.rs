//! A program as far as it has been read: lines, symbols, labels, and what is missing or left over at the end.
//! What a line says is read in `directive.rs`, `condition.rs`, `structure.rs`, `expr.rs` and `insn.rs`.

use super::lex::{Line, Read, Tok, register};
use super::open::{Block, Open, Place, Structure};
use super::program::{AsmError, Program};
use super::scope::Labels;
use super::source::Source;
use crate::bpf_link::{Field, Item};
use std::collections::HashMap;
use std::rc::Rc;

/// Items of a program: far beyond what any kernel takes.
const MOST: usize = 1 << 20;

/// Files and macros within each other: more is a circle.
const DEPTH: usize = 8;

/// What a text is assembled for.
#[derive(Clone, Copy, Debug)]
pub struct Variant<'a> {
    /// The way to the events, of those that it names (`.ways`); the first of them if `None`.
    pub way: Option<&'a str>,
    /// Whether the host's numbers begin with the highest byte.
    pub big_endian: bool,
}

impl Default for Variant<'_> {
    /// The first way, on a host like this one.
    fn default() -> Self {
        Variant {
            way: None,
            big_endian: cfg!(target_endian = "big"),
        }
    }
}

/// What a name stands for.
pub(super) enum Symbol {
    Number(i128),
    Field(u16),
    Map(u16),
    Macro(Rc<Macro>),
}

impl Symbol {
    /// With its article, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Symbol::Number(_) => "a constant",
            Symbol::Field(_) => "a field",
            Symbol::Map(_) => "a map",
            Symbol::Macro(_) => "a macro",
        }
    }
}

/// A text that is kept to be put where it is named.
pub(super) struct Macro {
    /// Its lines: file, number, text.
    lines: Vec<(String, usize, String)>,
    /// The labels outside that it may jump to.
    exits: Vec<String>,
}

/// A macro that is being read.
pub(super) struct Recording {
    name: String,
    place: Place,
    kept: Macro,
}

/// What stands between a line and the next.
enum Nested {
    /// The name and text of an included file.
    File(String, String),
    /// A macro, and what its name is.
    Macro(Rc<Macro>, String),
}

/// A program as far as it has been read.
pub(super) struct Parser<'i> {
    pub(super) include: &'i mut dyn FnMut(&str) -> Result<String, String>,
    /// Bare instructions: distances allowed, declarations not.
    pub(super) bare: bool,
    /// What the text is assembled for.
    pub(super) variant: Variant<'i>,
    pub(super) depth: usize,
    line: usize,
    source: Source,
    pub(super) program: Program,
    symbols: HashMap<String, (Symbol, Place)>,
    pub(super) used: Vec<bool>,
    pub(super) maps_used: Vec<bool>,
    pub(super) labels: Labels,
    pub(super) blocks: Vec<Block>,
    /// Conditions that are open, and how many of them were so before this file or macro.
    pub(super) opened: Vec<Open>,
    pub(super) opened_before: usize,
    pub(super) structure: Option<Structure>,
    pub(super) recording: Option<Recording>,
}

impl<'i> Parser<'i> {
    pub(super) fn new(
        include: &'i mut dyn FnMut(&str) -> Result<String, String>,
        variant: Variant<'i>,
        bare: bool,
    ) -> Parser<'i> {
        Parser {
            include,
            bare,
            variant,
            depth: 0,
            line: 0,
            source: Source::default(),
            program: Program::default(),
            symbols: HashMap::new(),
            used: Vec::new(),
            maps_used: Vec::new(),
            labels: Labels::new(),
            blocks: Vec::new(),
            opened: Vec::new(),
            opened_before: 0,
            structure: None,
            recording: None,
        }
    }

    /// Reads a file to its end.
    pub(super) fn file(&mut self, file: &str, text: &str) -> Result<(), AsmError> {
        let lines = text.lines().enumerate();
        self.lines(&mut lines.map(|(number, text)| (file, number + 1, text)))
    }

    /// Reads lines as (file, number, text), to the end of the file or macro.
    fn lines(
        &mut self,
        lines: &mut dyn Iterator<Item = (&str, usize, &str)>,
    ) -> Result<(), AsmError> {
        let outside = std::mem::replace(&mut self.opened_before, self.opened.len());
        for (file, number, text) in lines {
            self.line = self.source.lines.len();
            self.source
                .lines
                .push((file.to_string(), number, text.to_string()));
            let place = self.line;
            if place > MOST {
                let message = format!("the program has more than {MOST} lines");
                return Err(self.source.error((place, 1), message));
            }
            let nested = self
                .one_line(file, number, text)
                .map_err(|(col, message)| self.source.error((place, col), message))?;
            self.depth += 1;
            match nested {
                None => {}
                Some(Nested::File(name, text)) => {
                    self.labels.enter(&format!("the file {name}"), &[]);
                    self.file(&name, &text)?;
                    self.labels.leave();
                }
                Some(Nested::Macro(kept, name)) => {
                    self.labels.enter(&format!("the macro {name}"), &kept.exits);
                    let lines = kept.lines.iter();
                    let mut lines = lines.map(|(f, n, text)| (f.as_str(), *n, text.as_str()));
                    self.lines(&mut lines)?;
                    self.labels.leave();
                }
            }
            self.depth -= 1;
        }
        if let Some(open) = self
            .opened
            .get(self.opened_before..)
            .and_then(<[Open]>::last)
        {
            let message = format!("{} without its .endif", open.directive());
            return Err(self.source.error(open.place, message));
        }
        if let Some(Recording { place, .. }) = self.recording {
            let message = ".macro without its .endm".to_string();
            return Err(self.source.error(place, message));
        }
        self.opened_before = outside;
        Ok(())
    }

    /// Reads a line; gives what stands between it and the next.
    fn one_line(&mut self, file: &str, number: usize, text: &str) -> Read<Option<Nested>> {
        let mut line = Line::new(text)?;
        if let Some(recording) = &mut self.recording {
            match line.peek() {
                Tok::Word(".endm") => self.end_macro(&mut line)?,
                Tok::Word(".macro") => return Err((line.col(), ".macro within another".into())),
                _ => {
                    let kept = (file.to_string(), number, text.to_string());
                    recording.kept.lines.push(kept);
                }
            }
            return Ok(None);
        }
        if self.is_skipped() {
            self.skipped(&mut line)?;
            return Ok(None);
        }
        while let (Tok::Word(name), Tok::Op(":")) = (line.peek(), line.peek_second()) {
            let col = line.col();
            self.check_new(name, col)?;
            let (item, place) = (self.program.items.len(), self.place(col));
            self.labels.define(name, item, &self.blocks, place);
            self.source.labels.push((item, name.to_string(), place));
            line.next();
            line.next();
        }
        let mut included = None;
        match line.peek() {
            Tok::End => {}
            Tok::Word(".macro") => self.begin_macro(&mut line)?,
            Tok::Word(directive) if directive.starts_with('.') => {
                let file = self.directive(directive, &mut line)?;
                included = file.map(|(name, text)| Nested::File(name, text));
            }
            Tok::Word(name) if self.macro_of(name).is_some() => {
                let col = line.col();
                line.next();
                self.check_depth(name, col)?;
                let kept = self.macro_of(name);
                included = kept.map(|kept| Nested::Macro(kept, name.to_string()));
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

    fn macro_of(&self, name: &str) -> Option<Rc<Macro>> {
        match self.symbols.get(name) {
            Some((Symbol::Macro(kept), _)) => Some(kept.clone()),
            _ => None,
        }
    }

    /// `.macro NAME [to LABEL…]`
    fn begin_macro(&mut self, line: &mut Line<'_>) -> Read<()> {
        let place = self.place(line.col());
        line.next();
        let col = line.col();
        let name = line.word("the macro's name")?;
        self.check_new(name, col)?;
        let mut exits = Vec::new();
        if line.take(Tok::Word("to")) {
            exits.push(line.word("a label")?.to_string());
            while let Tok::Word(label) = line.peek() {
                exits.push(label.to_string());
                line.next();
            }
        }
        let lines = Vec::new();
        self.recording = Some(Recording {
            name: name.to_string(),
            place,
            kept: Macro { lines, exits },
        });
        Ok(())
    }

    fn end_macro(&mut self, line: &mut Line<'_>) -> Read<()> {
        line.next();
        line.finish()?;
        if let Some(Recording { name, place, kept }) = self.recording.take() {
            self.symbols
                .insert(name, (Symbol::Macro(Rc::new(kept)), place));
        }
        Ok(())
    }

    /// Refuses what is nested too deep.
    pub(super) fn check_depth(&self, name: &str, col: usize) -> Read<()> {
        if self.depth < DEPTH {
            return Ok(());
        }
        Err((
            col,
            format!("\"{name}\" is included {DEPTH} files deep: is it a circle?"),
        ))
    }

    /// The text of this line.
    pub(super) fn text(&self) -> &str {
        self.source
            .lines
            .get(self.line)
            .map_or("", |line| line.2.as_str())
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
        self.check_new(name, col)?;
        self.symbols
            .insert(name.to_string(), (symbol, (self.line, col)));
        Ok(())
    }

    /// Whether `name` can be given a meaning.
    fn check_new(&self, name: &str, col: usize) -> Read<()> {
        let reserved = [
            "ll", "map", "lock", "goto", "if", "call", "kernel", "exit", "memcpy", "peek", "via",
            "to",
        ]
        .contains(&name);
        if reserved || name.starts_with('.') || register(name).is_some() {
            return Err((col, format!("'{name}' can't be used as a name")));
        }
        let label = self.labels.place(name).map(|place| ("a label", place));
        let symbol = self.symbols.get(name);
        let before = symbol.map(|(symbol, place)| (symbol.kind(), *place));
        if let Some((kind, (line, _))) = before.or(label) {
            let (file, number, _) = &self.source.lines[line];
            return Err((
                col,
                format!("duplicate symbol '{name}': {kind} at {file}:{number}"),
            ));
        }
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
        if let Some(open) = &self.structure {
            let message = ".struct without its .ends".into();
            return Err(self.source.error(open.place, message));
        }
        let symbols = &self.symbols;
        let other = |name: &str| symbols.get(name).map(|(symbol, _)| symbol.kind());
        let items = &mut self.program.items;
        let mut set = |item: usize, goal: u32| {
            if let Some(Item::Jump { target, .. }) = items.get_mut(item) {
                *target = goal;
            }
        };
        let resolved = self.labels.resolve(&other, &mut set);
        resolved.map_err(|(place, message)| self.source.error(place, message))?;
        let unused = |symbol: &Symbol| match symbol {
            Symbol::Field(field) => !self.used[*field as usize],
            Symbol::Map(map) => !self.maps_used[*map as usize],
            Symbol::Number(_) | Symbol::Macro(_) => false,
        };
        let symbols = self.symbols.iter();
        let left = symbols.filter(|(_, (symbol, _))| unused(symbol));
        let left = left.map(|(name, (symbol, place))| {
            let kind = symbol.kind().trim_start_matches("a ");
            (*place, name.as_str(), kind)
        });
        let label = self.labels.unused();
        let label = label.map(|(place, name)| (place, name, "label"));
        if let Some((place, name, kind)) = left.chain(label).min() {
            return Err(self
                .source
                .error(place, format!("{kind} '{name}' is never used")));
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
        self.source.tell(&mut self.program);
        Ok((self.program, self.source))
    }
}
