//! One line of text to tokens, and the cursor that the parsers walk over them.
//!
//! A mistake is a [`Mistake`]: the column in characters from 1, and what is wrong. The file and the line are added by
//! who knows them.

use crate::bpf_insn::FP;

/// A column and a message.
pub(super) type Mistake = (usize, String);
/// The result of everything that reads a line.
pub(super) type Read<T> = Result<T, Mistake>;

/// A token; text points into the line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Tok<'t> {
    /// A name, a mnemonic, a register or a directive with its dot.
    Word(&'t str),
    /// A number without its sign.
    Num(i128),
    /// Text in double quotes, without them; there are no escapes.
    Text(&'t str),
    /// A sign.
    Op(&'static str),
    /// The end of the line.
    End,
}

/// Longest first.
const OPS: [&str; 42] = [
    "s>>=", ">>=", "<<=", "s>=", "s<=", "s>", "s<", "==", "!=", ">=", "<=", "+=", "-=", "*=", "/=",
    "|=", "&=", "^=", "%=", "<<", ">>", "=", "<", ">", "+", "-", "*", "/", "|", "&", "^", "%", "~",
    "(", ")", "[", "]", ",", ":", "!", "{", "}",
];

/// The tokens of a line with their columns, read from left to right.
pub(super) struct Line<'t> {
    toks: Vec<(Tok<'t>, usize)>,
    at: usize,
    end: usize,
}

impl<'t> Line<'t> {
    /// Reads `text` up to its end or a `;` outside quotes.
    pub(super) fn new(text: &'t str) -> Read<Line<'t>> {
        let mut toks = Vec::new();
        let mut rest = text;
        let column = |rest: &str| text[..text.len() - rest.len()].chars().count() + 1;
        loop {
            rest = rest.trim_start();
            let col = column(rest);
            let Some(c) = rest.chars().next().filter(|c| *c != ';') else {
                return Ok(Line {
                    toks,
                    at: 0,
                    end: col,
                });
            };
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let (tok, len) = if let Some(op) = OPS.iter().find(|op| rest.starts_with(**op)) {
                (Tok::Op(op), op.len())
            } else if c == '"' {
                let inner = rest[1..]
                    .split_once('"')
                    .ok_or((col, "text without its closing '\"'".to_string()))?
                    .0;
                (Tok::Text(inner), inner.len() + 2)
            } else if c.is_ascii_digit() {
                let len = rest.find(|c| !word(c)).unwrap_or(rest.len());
                (
                    Tok::Num(
                        number(&rest[..len])
                            .ok_or((col, format!("bad number '{}'", &rest[..len])))?,
                    ),
                    len,
                )
            } else if word(c) {
                let len = rest.find(|c| !word(c)).unwrap_or(rest.len());
                (Tok::Word(&rest[..len]), len)
            } else {
                return Err((
                    col,
                    format!("unexpected character '{}'", c.escape_default()),
                ));
            };
            toks.push((tok, col));
            rest = &rest[len..];
        }
    }

    /// The next token, left where it is.
    pub(super) fn peek(&self) -> Tok<'t> {
        self.toks.get(self.at).map_or(Tok::End, |t| t.0)
    }

    /// The token after the next.
    pub(super) fn peek_second(&self) -> Tok<'t> {
        self.toks.get(self.at + 1).map_or(Tok::End, |t| t.0)
    }

    /// The column of the next token.
    pub(super) fn col(&self) -> usize {
        self.toks.get(self.at).map_or(self.end, |t| t.1)
    }

    /// Takes the next token.
    pub(super) fn next(&mut self) -> Tok<'t> {
        let tok = self.peek();
        self.at += 1;
        tok
    }

    /// Takes the next token if it is this one.
    pub(super) fn take(&mut self, tok: Tok<'_>) -> bool {
        let found = self.peek() == tok;
        self.at += usize::from(found);
        found
    }

    /// Takes the sign `op`, or says that it is missing.
    pub(super) fn expect(&mut self, op: &'static str) -> Read<()> {
        if self.take(Tok::Op(op)) {
            Ok(())
        } else {
            Err(self.wanted(&format!("'{op}'")))
        }
    }

    /// Takes the word `word`, or says that it is missing.
    pub(super) fn expect_word(&mut self, word: &str) -> Read<()> {
        if self.take(Tok::Word(word)) {
            Ok(())
        } else {
            Err(self.wanted(&format!("'{word}'")))
        }
    }

    /// Takes a word, or says that `what` is missing.
    pub(super) fn word(&mut self, what: &str) -> Read<&'t str> {
        let Tok::Word(word) = self.peek() else {
            return Err(self.wanted(what));
        };
        self.at += 1;
        Ok(word)
    }

    /// Nothing may be left.
    pub(super) fn finish(&self) -> Read<()> {
        if self.peek() == Tok::End {
            Ok(())
        } else {
            Err(self.wanted("the end of the line"))
        }
    }

    /// The mistake that the next token isn't `what`.
    pub(super) fn wanted(&self, what: &str) -> Mistake {
        let found = match self.peek() {
            Tok::Word(word) => format!("'{word}'"),
            Tok::Num(number) => format!("'{number}'"),
            Tok::Text(text) => format!("\"{text}\""),
            Tok::Op(op) => format!("'{op}'"),
            Tok::End => "the end of the line".to_string(),
        };
        (self.col(), format!("expected {what}, found {found}"))
    }
}

/// What a line says from a column on, up to its comment: an instruction has no text in quotes.
pub(super) fn statement(line: &str, col: usize) -> &str {
    let start = line.char_indices().nth(col - 1).map_or(line.len(), |c| c.0);
    let rest = line[start..].split(';').next();
    rest.unwrap_or("").trim_end()
}

/// A decimal or `0x` number of at most 64 bits.
fn number(text: &str) -> Option<i128> {
    let value = match text.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16),
        Some(_) => return None,
        None => text.parse(),
    };
    value.ok().map(i128::from)
}

/// A register by its name: whether it is a 64-bit one, and its number, which may be one that does not exist.
pub(super) fn register(word: &str) -> Option<(bool, Option<u8>)> {
    let (wide, digits) = match word.split_at_checked(1)? {
        ("r", digits) => (true, digits),
        ("w", digits) => (false, digits),
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let canonical = digits == "0" || !digits.starts_with('0');
    Some((wide, digits.parse().ok().filter(|n| canonical && *n <= FP)))
}
