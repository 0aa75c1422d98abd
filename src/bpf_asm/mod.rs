//! The assembler: the text of `bpf-asm/` to programs that [`crate::bpf_link`] completes on the host.
//!
//! The dialect is described in `bpf-asm/README.md`. [`assemble`] takes a whole program with its directives and checks
//! its flow for every mix of optional fields; [`fragment`] takes bare instructions, as in a listing. Neither opens
//! files nor panics, whatever the text. A mistake is one [`AsmError`] with file, line, column and the line shown.
//! Shared with build.rs; nothing of it is in the binary.

mod directive;
mod expr;
mod flow;
mod insn;
mod lex;
mod parse;
mod transfer;

use crate::bpf_insn::Insn;
use crate::bpf_link::{FieldRef, Host, HostField, Item, Template};
use std::fmt;

/// A mistake in the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AsmError {
    /// The file, as it was named by who asked for it.
    pub file: String,
    /// The line, from 1; 0 if it is about the whole file.
    pub line: usize,
    /// The column in characters, from 1; 0 if it is about the whole file.
    pub col: usize,
    /// What is wrong.
    pub message: String,
    /// The line's text.
    pub text: String,
}

/// `file:line:col: message`, then the line and a caret under the column.
impl fmt::Display for AsmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AsmError {
            file,
            line,
            col,
            message,
            text,
        } = self;
        if *line == 0 {
            return write!(f, "{file}: {message}");
        }
        let pad: String = text
            .chars()
            .take(col - 1)
            .map(|c| if c == '\t' { c } else { ' ' })
            .collect();
        write!(f, "{file}:{line}:{col}: {message}\n    {text}\n    {pad}^")
    }
}

impl std::error::Error for AsmError {}

/// A field as declared: what [`FieldRef`] borrows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name in the `format` file.
    pub name: String,
    /// The sizes in bytes it may have; the text is written for the first.
    pub widths: Vec<u16>,
    /// Whether the program does without it.
    pub optional: bool,
}

/// An assembled program: what a [`Template`] borrows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// See [`Template::name`].
    pub name: String,
    /// See [`Template::group`].
    pub group: String,
    /// See [`Template::event`].
    pub event: String,
    /// See [`Template::license`].
    pub license: String,
    /// See [`Template::fields`].
    pub fields: Vec<Field>,
    /// See [`Template::maps`].
    pub maps: Vec<String>,
    /// See [`Template::items`].
    pub items: Vec<Item>,
}

impl Program {
    /// Calls `f` with the program as a template.
    pub fn with<R>(&self, f: impl FnOnce(&Template<'_>) -> R) -> R {
        let field = |f: &'_ Field| (f.name.clone(), f.widths.clone(), f.optional);
        let owned: Vec<_> = self.fields.iter().map(field).collect();
        let fields: Vec<FieldRef<'_>> = owned
            .iter()
            .map(|(name, widths, optional)| FieldRef {
                name,
                widths,
                optional: *optional,
            })
            .collect();
        let maps: Vec<&str> = self.maps.iter().map(String::as_str).collect();
        f(&Template {
            name: &self.name,
            group: &self.group,
            event: &self.event,
            license: &self.license,
            fields: &fields,
            maps: &maps,
            items: &self.items,
        })
    }
}

/// Assembles the program `text` of the file named `file`. `include` gives the text of the file that an `.include`
/// names, or why it can't.
///
/// # Errors
/// The first mistake.
pub fn assemble(
    file: &str,
    text: &str,
    include: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Program, AsmError> {
    let mut parser = parse::Parser::new(include, false);
    parser.file(file, text)?;
    let (program, source) = parser.finish(file)?;
    flow::check(&program, &source)?;
    Ok(program)
}

/// Assembles bare instructions: no directives but `.equ`, no check of the flow, and jumps may give their distance
/// (`goto +5`). Errors name the file `fragment`.
///
/// # Errors
/// The first mistake.
pub fn fragment(text: &str) -> Result<Vec<Insn>, AsmError> {
    struct Nothing;
    impl Host for Nothing {
        fn field(&self, _: &str) -> Option<HostField> {
            None
        }
        fn map_fd(&self, _: &str) -> Option<i32> {
            None
        }
    }
    let file = "fragment";
    let mut include = |_: &str| Err("a fragment can't include files".to_string());
    let mut parser = parse::Parser::new(&mut include, true);
    parser.file(file, text)?;
    let (program, source) = parser.finish(file)?;
    flow::check_distances(&program, &source)?;
    let whole = |message| AsmError {
        file: file.to_string(),
        line: 0,
        col: 0,
        message,
        text: String::new(),
    };
    program
        .with(|template| template.link(&Nothing))
        .map_err(|e| whole(e.to_string()))
}
