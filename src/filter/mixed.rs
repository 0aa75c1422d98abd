//! A mixture of `and` and `or`, which can be read in two ways.
//!
//! Contract: both readings are shown, each in parentheses that can be written so.

use super::error::Mistake;
use super::tree::Expr;
use std::ops::Range;

/// Characters of a part that are shown.
const SHOWN: usize = 60;

/// A part between `and` and `or`: where it stands, and where the words do that it
/// carries on.
pub(super) struct Part {
    pub(super) expr: Expr,
    pub(super) at: Range<usize>,
    /// Where it begins behind its `not`s.
    pub(super) body: usize,
    pub(super) carried: Option<Range<usize>>,
}

/// What a mixture of `and` and `or` can mean.
pub(super) fn mistake(source: &str, at: Range<usize>, parts: &[Part], ands: &[bool]) -> Mistake {
    let source = |at: &Range<usize>| source.get(at.clone()).unwrap_or("");
    let what = "'and' and 'or' side by side can be read in two ways: put parentheses";
    let text = |part: &Part| {
        let head = part.carried.as_ref().map_or("", |head| source(head));
        let nots = source(&(part.at.start..part.body));
        let text = [nots, head, source(&(part.body..part.at.end))].join(" ");
        let text: Vec<&str> = text.split_whitespace().collect();
        let text = text.join(" ");
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => [text.get(..end).unwrap_or(""), "…"].concat(),
            None => text,
        }
    };
    let reading = |tight: bool| {
        let mut out = String::new();
        for (n, part) in parts.iter().enumerate() {
            let joins = |n: usize| n.checked_sub(1).and_then(|n| ands.get(n)) == Some(&tight);
            let next = ands.get(n) == Some(&tight);
            if n > 0 {
                out.push_str(if ands[n - 1] { " and " } else { " or " });
            }
            if next && !joins(n) {
                out.push_str("( ");
            }
            out.push_str(&text(part));
            if joins(n) && !next {
                out.push_str(" )");
            }
        }
        out
    };
    Mistake::new(at, what)
        .help(reading(true))
        .help(reading(false))
}
