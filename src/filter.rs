//! Which events are shown: an expression, the original's flags, and the
//! default of leaving out noise.
//!
//! Contract: [`tree`] is the one form of an expression, whoever reads it: the
//! evaluator here, which decides what is shown, and whatever keeps events away
//! before it. A filter never keeps an event from the connection it belongs to.

mod error;
mod flags;
mod lex;
pub mod parse;
mod print;
mod sets;
pub mod tree;
mod value;
mod words;

pub use error::Mistake;
pub use flags::{Filter, Verdict};
pub use value::Names;

#[cfg(test)]
mod tests;
