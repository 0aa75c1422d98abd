//! Which events are shown: an expression, the original's flags, and the
//! default of leaving out noise.
//!
//! Contract: [`tree`] is the one form of an expression, whoever reads it: the
//! evaluator here, which decides what is shown, and whatever keeps events away
//! before it. A filter never keeps an event from the connection it belongs to.

mod error;
pub mod eval;
mod figures;
mod flags;
mod guess;
mod lex;
mod mixed;
pub mod parse;
mod print;
mod sets;
mod takes;
pub mod tree;
mod value;
mod words;

pub use error::Mistake;
pub use flags::Flags;
pub use value::Names;

use tree::Expr;

/// Which events are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What they must match.
    pub expr: Expr,
    /// The part of it that is not from a file.
    pub base: Expr,
    /// Noise too: see [`Event::is_noise`] and [`Event::stays`].
    ///
    /// [`Event::is_noise`]: crate::model::event::Event::is_noise
    /// [`Event::stays`]: crate::model::event::Event::stays
    pub all: bool,
}

impl Filter {
    /// This must match, too; where such can't be asked, why.
    pub(crate) fn narrow(&mut self, term: tree::Term) -> Result<(), &'static str> {
        for expr in [&mut self.expr, &mut self.base] {
            let before = std::mem::replace(expr, Expr::All);
            *expr = Expr::and([before, term.clone().into()]);
        }
        eval::Judge::new(&self.expr).map(drop)
    }
}

/// The words that begin a condition, those that join conditions among them, and the words that may
/// follow each, for who completes them.
#[cfg(test)]
pub(crate) fn vocabulary() -> Vec<(&'static str, Vec<&'static str>)> {
    use words::{Head, STARTS, Start};
    let after = |start: &Start| match start {
        Start::End(_) => vec!["host", "net", "port", "portrange"],
        Start::Of(Head::State(_) | Head::From | Head::To) => words::states().collect(),
        Start::Of(Head::Event) => words::kinds().collect(),
        Start::Of(Head::Cause) => words::causes().collect(),
        Start::Of(Head::Owner) => vec!["none"],
        _ => Vec::new(),
    };
    let starts = STARTS.iter().map(|(name, start)| (*name, after(start)));
    let joins = ["and", "or", "not"].map(|name| (name, Vec::new()));
    starts.chain(joins).collect()
}

#[cfg(test)]
mod tests;
