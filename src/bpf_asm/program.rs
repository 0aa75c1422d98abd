//! What the assembler makes: programs, what they export, and the mistakes in their text.

use crate::bpf_link::Template;
use std::fmt;
use std::ops::{Deref, DerefMut};

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

/// A number's type, or an array of them, as `u32` or `u8[16]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Type {
    /// Bytes of a number: 1, 2, 4 or 8.
    pub unit: u16,
    /// Whether it has a sign.
    pub signed: bool,
    /// How many there are; `None` for a number that is no array.
    pub count: Option<u16>,
}

impl Type {
    /// Bytes in all.
    pub fn size(self) -> u16 {
        self.unit * self.count.unwrap_or(1)
    }
}

/// What the reader of the events has to know, too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// What it is.
    pub what: Exported,
    /// The comment behind it.
    pub about: String,
}

/// What is exported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exported {
    /// A number (`.const`).
    Constant(Type, i128),
    /// The place of a structure's member, in bytes from its start (`.at`).
    Member(u16, Type),
    /// Bytes of a structure, or of a part of it (`.size`).
    Size(u16),
}

/// An assembled program: its template, and what only the build wants of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// The template.
    pub template: Template,
    /// The ways to the events that the text is written for; it is assembled for the first, unless another is asked for.
    pub ways: Vec<String>,
    /// What the reader of its events has to know, too.
    pub exports: Vec<Export>,
}

impl Deref for Program {
    type Target = Template;
    fn deref(&self) -> &Template {
        &self.template
    }
}

impl DerefMut for Program {
    fn deref_mut(&mut self) -> &mut Template {
        &mut self.template
    }
}
