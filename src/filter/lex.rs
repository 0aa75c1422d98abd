//! The text of a filter in words and signs.
//!
//! Contract: any text gives tokens up to its end; what can't be one is a
//! [`Mistake`]. A word ends at blanks, at signs and at quotes; `#` at its
//! beginning starts a comment to the end of the line. In quotes everything is
//! text, with `\` before what means something, and `\x7f` for any byte.

use super::error::Mistake;
use std::borrow::Cow;
use std::ops::Range;

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// A word or sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Open,
    Close,
    OpenSet,
    CloseSet,
    Comma,
    And,
    Or,
    Not,
    Compare(Compare),
    Word(&'a str),
    /// What stood in quotes, and whether `*` was the last of it.
    Quoted(Cow<'a, [u8]>, bool),
    End,
}

/// Walks through a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'a> {
    pub(super) text: &'a str,
    at: usize,
}

/// The words that are signs: those that join conditions, and those that compare.
const SIGNS: [(&str, Token<'static>); 12] = [
    ("and", Token::And),
    ("or", Token::Or),
    ("not", Token::Not),
    ("eq", Token::Compare(Compare::Equal)),
    ("ne", Token::Compare(Compare::NotEqual)),
    ("neq", Token::Compare(Compare::NotEqual)),
    ("le", Token::Compare(Compare::AtMost)),
    ("leq", Token::Compare(Compare::AtMost)),
    ("lt", Token::Compare(Compare::Less)),
    ("ge", Token::Compare(Compare::AtLeast)),
    ("geq", Token::Compare(Compare::AtLeast)),
    ("gt", Token::Compare(Compare::Greater)),
];

/// The words that compare.
pub(super) fn comparisons() -> impl Iterator<Item = &'static str> {
    SIGNS.iter().skip(3).map(|(word, _)| *word)
}

/// What a word stands for instead of itself.
fn meaning(word: &str) -> Option<Token<'static>> {
    let mut all = SIGNS.iter();
    let found = all.find(|(text, _)| text.eq_ignore_ascii_case(word));
    found.map(|(_, token)| token.clone())
}

/// Whether a byte ends a word.
fn ends(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"(){},!&|=<>\"'".contains(&byte)
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.rest() {
                [b'#', rest @ ..] => {
                    let line = rest.iter().position(|b| *b == b'\n');
                    self.at += 1 + line.unwrap_or(rest.len());
                }
                [byte, ..] if byte.is_ascii_whitespace() => self.at += 1,
                _ => return,
            }
        }
    }

    /// The next one, and where it stands.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, Range<usize>), Mistake> {
        use Compare::*;
        self.skip_blanks();
        let start = self.at;
        let (token, len) = match self.rest() {
            [] => (Token::End, 0),
            [b'(', ..] => (Token::Open, 1),
            [b')', ..] => (Token::Close, 1),
            [b'{', ..] => (Token::OpenSet, 1),
            [b'}', ..] => (Token::CloseSet, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'&', b'&', ..] => (Token::And, 2),
            [b'&', ..] => (Token::And, 1),
            [b'|', b'|', ..] => (Token::Or, 2),
            [b'|', ..] => (Token::Or, 1),
            [b'!', b'=', ..] => (Token::Compare(NotEqual), 2),
            [b'!', ..] => (Token::Not, 1),
            [b'=', b'=', ..] => (Token::Compare(Equal), 2),
            [b'=', ..] => (Token::Compare(Equal), 1),
            [b'<', b'=', ..] => (Token::Compare(AtMost), 2),
            [b'<', ..] => (Token::Compare(Less), 1),
            [b'>', b'=', ..] => (Token::Compare(AtLeast), 2),
            [b'>', ..] => (Token::Compare(Greater), 1),
            [quote @ (b'"' | b'\''), ..] => self.quoted(*quote)?,
            rest => {
                let len = rest.iter().position(|b| ends(*b)).unwrap_or(rest.len());
                let word = self.text.get(start..start + len).unwrap_or("");
                (meaning(word).unwrap_or(Token::Word(word)), len)
            }
        };
        self.at = start + len;
        Ok((token, start..self.at))
    }

    /// What stands in quotes, and how long it is with them.
    fn quoted(&self, quote: u8) -> Result<(Token<'a>, usize), Mistake> {
        let text = self.rest().get(1..).unwrap_or_default();
        let mut out = Vec::new();
        let (mut at, mut star) = (0, false);
        loop {
            let len = match text.get(at..).unwrap_or_default() {
                [] => {
                    let end = self.text.len();
                    let what = "the quote that is opened here is not closed";
                    return Err(Mistake::new(self.at..end, what));
                }
                [byte, ..] if *byte == quote => break,
                [b'*', byte, ..] if *byte == quote => {
                    star = true;
                    1
                }
                [b'\\', b'x', high, low, ..]
                    if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    out.push(digit(*high) << 4 | digit(*low));
                    4
                }
                [b'\\', byte, ..] => {
                    out.push(*byte);
                    2
                }
                [byte, ..] => {
                    out.push(*byte);
                    1
                }
            };
            at += len;
        }
        Ok((Token::Quoted(Cow::Owned(out), star), at + 2))
    }
}

fn digit(hex: u8) -> u8 {
    (char::from(hex).to_digit(16)).map_or(0, |digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token<'_>> {
        let mut lexer = Lexer::new(text);
        let mut all = Vec::new();
        loop {
            match lexer.next().expect("a token").0 {
                Token::End => return all,
                token => all.push(token),
            }
        }
    }

    #[test]
    fn signs_need_no_blanks() {
        use Token::*;
        let equal = || Token::Compare(super::Compare::Equal);
        assert_eq!(
            tokens("(sport=:22)||!dport >=1024"),
            [
                Open,
                Word("sport"),
                equal(),
                Word(":22"),
                Close,
                Or,
                Not,
                Word("dport"),
                Token::Compare(super::Compare::AtLeast),
                Word("1024")
            ]
        );
        assert_eq!(
            tokens("port{80,8000-8100}&&[2001:db8::1]:22"),
            [
                Word("port"),
                OpenSet,
                Word("80"),
                Comma,
                Word("8000-8100"),
                CloseSet,
                And,
                Word("[2001:db8::1]:22")
            ]
        );
    }

    #[test]
    fn comments_and_quotes() {
        use Token::*;
        let quoted = |text: &str| Quoted(Cow::Owned(text.as_bytes().to_vec()), false);
        assert_eq!(
            tokens("# all\nport 80 # no\n#x\n  and\n"),
            [Word("port"), Word("80"), And]
        );
        assert_eq!(
            tokens(r#"comm "a b" 'c"(' "\"\\\x0a""#),
            [
                Word("comm"),
                quoted("a b"),
                quoted("c\"("),
                quoted("\"\\\n")
            ]
        );
        let open = Quoted(Cow::Borrowed(b"a*b"), true);
        assert_eq!(tokens("'a*b*'"), [open]);
        assert_eq!(tokens(r"'a\*'"), [quoted("a*")]);
        assert!(Lexer::new("'no").next().is_err());
        assert!(Lexer::new("\"no\\").next().is_err());
        assert!(tokens(" \n ").is_empty());
    }
}
