//! The assembler: the text of `bpf-asm/` to programs that [`crate::bpf::link`] completes on the host, and to the one
//! piece that the binary carries them as ([`crate::bpf::packed`]).
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
pub mod lz4;
mod pack;
mod parse;
mod transfer;

pub use pack::pack;

use crate::bpf::link::{Host, HostField, Template};
use crate::bpf_insn::Insn;
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

/// Assembles the program `text` of the file named `file`. `include` gives the text of the file that an `.include`
/// names, or why it can't.
///
/// # Errors
/// The first mistake.
pub fn assemble(
    file: &str,
    text: &str,
    include: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Template, AsmError> {
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
    program.link(&Nothing).map_err(|e| whole(e.to_string()))
}
