//! The assembler: the text of `bpf-asm/` to programs that [`crate::bpf_link`] completes on the host.
//!
//! The dialect is described in `bpf-asm/README.md`. [`assemble`] takes a whole program with its directives and checks
//! its flow for every mix of optional fields; [`fragment`] takes bare instructions, as in a listing. Neither opens
//! files nor panics, whatever the text. A mistake is one [`AsmError`] with file, line, column and the line shown.
//! Shared with build.rs; nothing of it is in the binary.

mod condition;
mod directive;
mod expr;
mod flow;
mod insn;
mod lex;
pub mod lz4;
mod open;
mod pack;
mod parse;
mod program;
mod scope;
mod source;
mod structure;
mod transfer;

use crate::bpf_insn::Insn;
use crate::bpf_link::{Host, HostField};

pub use pack::pack;
pub use parse::Variant;
#[allow(unused_imports, reason = "build.rs does not name all of them")]
pub use program::{AsmError, Export, Exported, Program, Type};

/// Assembles the program `text` of the file named `file`, for the first of its ways and a host like this one.
/// `include` gives the text of the file that an `.include` names, or why it can't.
///
/// # Errors
/// The first mistake.
pub fn assemble(
    file: &str,
    text: &str,
    include: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Program, AsmError> {
    assemble_for(Variant::default(), file, text, include)
}

/// Assembles it for what `variant` says.
///
/// # Errors
/// As [`assemble`].
pub fn assemble_for(
    variant: Variant<'_>,
    file: &str,
    text: &str,
    include: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Program, AsmError> {
    let mut parser = parse::Parser::new(include, variant, false);
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
    let mut parser = parse::Parser::new(&mut include, Variant::default(), true);
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
