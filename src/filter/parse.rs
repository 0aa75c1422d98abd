//! From the text of a filter to its expression.
//!
//! Contract: any text is an [`Expr`] or a [`Mistake`]; no text is read in one of
//! two ways without saying so: a mixture of `and` and `or` needs parentheses.
//! Neither nesting nor length of the text takes more than it says here.

use super::error::Mistake;
use super::guess;
use super::lex::{self, Compare, Lexer, Token};
use super::mixed::{self, Part};
use super::tree::{Expr, Nets, Side, Term};
use super::value::{Names, Value};
use super::words::{self, Ends, Form, Head, Start};
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Parentheses in each other, at most.
const DEPTH: usize = 64;
/// Bytes of text, at most.
pub const LENGTH: usize = 4 << 20;

/// What may stand before a condition, and between two.
const JOINS: [&str; 3] = [NOT, "and", "or"];
const NOT: &str = "not";

/// Understands a filter. No text at all is everything.
pub fn parse(text: &str, names: &dyn Names) -> Result<Expr, Mistake> {
    if text.len() > LENGTH {
        let what = "the filter is longer than 4 MiB";
        return Err(Mistake::new(0..1, what));
    }
    let mut parser = Parser {
        lexer: Lexer::new(text),
        token: Token::End,
        at: 0..0,
        ended: 0,
        names,
        head: None,
        depth: 0,
    };
    parser.advance()?;
    if parser.token == Token::End {
        return Ok(Expr::All);
    }
    let expr = parser.expr()?;
    match parser.token {
        Token::End => Ok(expr),
        Token::Close => Err(parser.mistake("no parenthesis is open that this could close")),
        _ => Err(parser.mistake("expected 'and', 'or', or the end")),
    }
}

/// A word that is none, and what was meant.
fn unknown(word: &str, at: Range<usize>, meant: &str) -> Mistake {
    let what = ["unknown word '", word, "'"].concat();
    Mistake::new(at, what).meant(Some(meant))
}

/// The same of a value without the word before it.
fn guessed(word: &str, at: Range<usize>) -> Option<Mistake> {
    guess::condition(word).map(|meant| unknown(word, at, &meant))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The next one, and where it stands.
    token: Token<'a>,
    at: Range<usize>,
    /// Where the one before it ended.
    ended: usize,
    names: &'a dyn Names,
    /// What was asked for last, and where its words stand: a value alone is of the
    /// same.
    head: Option<(Head, Range<usize>)>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn advance(&mut self) -> Result<(), Mistake> {
        self.ended = self.at.end;
        (self.token, self.at) = self.lexer.next()?;
        Ok(())
    }

    fn mistake(&self, what: &str) -> Mistake {
        Mistake::new(self.at.clone(), what)
    }

    /// Which of these was probably meant by the word that is next.
    fn near(&self, words: &mut dyn Iterator<Item = &'static str>) -> Option<&'static str> {
        match self.token {
            Token::Word(word) => words::nearest(word, words),
            _ => None,
        }
    }

    fn source(&self, at: &Range<usize>) -> &'a str {
        self.lexer.text.get(at.clone()).unwrap_or("")
    }

    /// Parts with the same word between them, up to what can't go on.
    fn expr(&mut self) -> Result<Expr, Mistake> {
        let mut parts = vec![self.part(true)?];
        // Before each part but the first: whether it is `and`.
        let mut ands = Vec::new();
        let mut mixed = None;
        loop {
            let and = match self.token {
                Token::And => Some(true),
                Token::Or => Some(false),
                Token::End | Token::Close => break,
                // Side by side.
                _ => None,
            };
            let between = self.at.clone();
            if and.is_some() {
                self.advance()?;
            }
            let part = self.part(and.is_some())?;
            if let (None, Some(before)) = (and, parts.last()) {
                self.sure_of_both(before, &part)?;
            }
            let and = and.unwrap_or(true);
            if ands.last().is_some_and(|before| *before != and) && mixed.is_none() {
                mixed = Some(between);
            }
            ands.push(and);
            parts.push(part);
        }
        if let Some(at) = mixed {
            return Err(mixed::mistake(self.lexer.text, at, &parts, &ands));
        }
        let and = ands.first().copied().unwrap_or(true);
        let parts = parts.into_iter().map(|part| part.expr);
        Ok(match and {
            true => Expr::and(parts),
            false => Expr::or(parts),
        })
    }

    /// Two states side by side are one or the other to ss, both at once otherwise.
    fn sure_of_both(&self, before: &Part, part: &Part) -> Result<(), Mistake> {
        let state = |expr: &Expr| matches!(expr, Expr::Term(true, Term::State(_)));
        if state(&before.expr) && state(&part.expr) {
            let what = "two states side by side: nothing is in both at once";
            let help = "one or the other is: state { established, syn-sent }";
            return Err(Mistake::new(part.at.clone(), what).help(help));
        }
        Ok(())
    }

    /// One condition or group, with `not` before it or without. `carries`: a value
    /// alone is of what was asked for last.
    fn part(&mut self, carries: bool) -> Result<Part, Mistake> {
        let start = self.at.start;
        let mut positive = true;
        while self.token == Token::Not {
            positive = !positive;
            self.advance()?;
        }
        let body = self.at.start;
        let mut carried = None;
        let expr = match &self.token {
            Token::Open => self.group()?,
            Token::Word(word) => {
                let word = *word;
                match (words::start(word), self.head.clone()) {
                    (Some(start), _) => {
                        let at = self.at.clone();
                        self.advance()?;
                        self.condition(start, at)?
                    }
                    (None, Some((head, words))) if carries => {
                        carried = Some(words);
                        let at = self.at.clone();
                        let read = self.values(head);
                        read.map_err(|mistake| {
                            let guess =
                                || Some(unknown(word, at.clone(), &guess::condition(word)?));
                            let near = self.unknown(word, at.clone(), &[NOT]);
                            near.unwrap_or_else(|| mistake.or(&guess))
                        })?
                    }
                    (None, head) => {
                        let joins = if carries { &JOINS[..1] } else { &JOINS[..] };
                        return Err(self.unexpected(word, head, joins));
                    }
                }
            }
            Token::OpenSet | Token::Quoted(..) if carries && self.head.is_some() => {
                let (head, words) = self.head.clone().unwrap_or((Head::Pid, 0..0));
                carried = Some(words);
                self.values(head)?
            }
            Token::Comma => {
                return Err(self
                    .mistake("a list stands in braces")
                    .help("such as: port { 80, 443 }"));
            }
            Token::End => return Err(self.mistake("expected a condition here, such as port 443")),
            _ => return Err(self.mistake("expected a condition, such as port 443")),
        };
        Ok(Part {
            expr: if positive { expr } else { !expr },
            at: start..self.ended,
            body,
            carried,
        })
    }

    /// What is wrong with a word that others know, or that is nearly known, and where it
    /// stands. `joins` may stand there, too.
    fn unknown(&self, word: &str, at: Range<usize>, joins: &[&'static str]) -> Option<Mistake> {
        if let Some(why) = words::refused(word) {
            return Some(Mistake::new(at, ["'", word, "' ", why].concat()));
        }
        let mut all = joins.iter().copied().chain(words::starts());
        let near = words::foreign(word).or_else(|| words::nearest(word, &mut all))?;
        Some(unknown(word, at, near))
    }

    fn unexpected(
        &self,
        word: &str,
        head: Option<(Head, Range<usize>)>,
        joins: &[&'static str],
    ) -> Mistake {
        let is_value = head.as_ref().is_some_and(|(head, _)| {
            let value = Value {
                text: word.as_bytes().into(),
                open: false,
                at: self.at.clone(),
            };
            *head != Head::Comm && head.expr(None, &[value], self.names).is_ok()
        });
        let at = self.at.clone();
        let guess = guessed(word, at.clone());
        let mistake = guess.or_else(|| self.unknown(word, at, joins));
        if let Some(mistake) = mistake.filter(|_| !is_value) {
            return mistake;
        }
        let what = ["unknown word '", word, "'"].concat();
        match head {
            Some((_, words)) => self.mistake(&what).help(
                [
                    "several values stand in braces: ",
                    self.source(&words),
                    " { …, … }",
                ]
                .concat(),
            ),
            None => self
                .mistake(&what)
                .help("a condition begins with a word such as port, host, net, state, pid or comm"),
        }
    }

    fn group(&mut self) -> Result<Expr, Mistake> {
        if self.depth == DEPTH {
            return Err(self.mistake("more than 64 parentheses in each other"));
        }
        let open = self.at.clone();
        self.depth += 1;
        self.advance()?;
        let expr = self.expr()?;
        self.depth -= 1;
        if self.token != Token::Close {
            let what = "this parenthesis is not closed";
            return Err(Mistake::new(open, what));
        }
        self.advance()?;
        Ok(expr)
    }

    /// What begins with a word, which was at this place.
    fn condition(&mut self, start: Start, at: Range<usize>) -> Result<Expr, Mistake> {
        let head = match start {
            Start::Family(family) => match self.start() {
                Some(
                    next @ (Start::End(_)
                    | Start::Host
                    | Start::Net
                    | Start::Port
                    | Start::PortOf(_)),
                ) => {
                    self.advance()?;
                    match self.end(next)? {
                        Head::End(ends, form, _) => Head::End(ends, form, family),
                        other => other,
                    }
                }
                _ => return Ok(self.alone(family.map(Term::Family))),
            },
            Start::Opened(by_us) => return Ok(self.alone(Some(Term::Opened(by_us)))),
            Start::Loopback => {
                let nets = [
                    (Ipv4Addr::LOCALHOST.into(), 8),
                    (Ipv6Addr::LOCALHOST.into(), 128),
                ];
                return Ok(self.alone(Some(Term::Net(Side::Either, Nets::of(nets)))));
            }
            Start::Failures => return Ok(self.alone(Some(Term::Cause(words::failures())))),
            Start::Of(head) => head,
            end => self.end(end)?,
        };
        let words = at.start..self.ended;
        if self.token == Token::Open {
            // `port ( 80 or 443 )`
            self.head = Some((head, words));
            return self.group();
        }
        let (first, near) = (self.at.clone(), self.near(&mut lex::comparisons()));
        let expr = self.values(head).map_err(|mistake| {
            // A value behind what was read as one: a sign was meant.
            let near = near.filter(|_| matches!(self.token, Token::Word(_)));
            mistake.or(&|| Some(unknown(self.source(&first), first.clone(), near?)))
        })?;
        self.head = Some((head, words));
        Ok(expr)
    }

    /// A condition of one word; nothing can be carried on from it.
    fn alone(&mut self, term: Option<Term>) -> Expr {
        self.head = None;
        term.map_or(Expr::All, Expr::from)
    }

    /// What the word that is next begins.
    fn start(&self) -> Option<Start> {
        match self.token {
            Token::Word(word) => words::start(word),
            _ => None,
        }
    }

    /// What is asked of the ends of a connection.
    fn end(&mut self, start: Start) -> Result<Head, Mistake> {
        let (ends, form) = match start {
            Start::End(side) => {
                let ends = self.other_end(side)?;
                let form = match self.start() {
                    Some(Start::Host) => Form::Host,
                    Some(Start::Net) => Form::Net,
                    Some(Start::Port) => Form::Port,
                    _ => return Ok(Head::End(ends, Form::Any, None)),
                };
                self.advance()?;
                (ends, form)
            }
            Start::Host => (Ends::Of(Side::Either), Form::Host),
            Start::Net => (Ends::Of(Side::Either), Form::Net),
            Start::PortOf(side) => (Ends::Of(side), Form::Port),
            _ => (Ends::Of(Side::Either), Form::Port),
        };
        Ok(Head::End(ends, form, None))
    }

    /// `src or dst`, `src and dst`
    fn other_end(&mut self, side: Side) -> Result<Ends, Mistake> {
        let both = match self.token {
            Token::And => Ends::Both,
            Token::Or => Ends::Of(Side::Either),
            _ => return Ok(Ends::Of(side)),
        };
        self.advance()?;
        let other = match self.start() {
            Some(Start::End(side)) => Some(side),
            _ => None,
        };
        if other.is_none_or(|other| other == side) {
            let others = match side {
                Side::Local => ["dst", "peer"],
                _ => ["src", "local"],
            };
            let near = self.near(&mut others.into_iter());
            let what = ["expected '", others[0], "'"].concat();
            return Err(self.mistake(&what).meant(near));
        }
        self.advance()?;
        Ok(both)
    }

    /// The values of what is asked for, with a sign before them or without.
    fn values(&mut self, head: Head) -> Result<Expr, Mistake> {
        let compare = match self.token {
            Token::Compare(compare) => Some((compare, self.at.clone())),
            _ => None,
        };
        let ordered = !matches!(
            compare,
            None | Some((Compare::Equal | Compare::NotEqual, _))
        );
        match (&compare, head) {
            (Some((_, at)), _) if ordered && !head.has_order() => {
                let what = "these have no order: = or != can stand here";
                return Err(Mistake::new(at.clone(), what));
            }
            (Some(_), _) => self.advance()?,
            (None, Head::Measure(_)) => {
                let near = self.near(&mut lex::comparisons());
                return Err(self.mistake("expected a sign, such as > or <=").meant(near));
            }
            (None, _) => {}
        }
        let mut values = Vec::new();
        if self.token == Token::OpenSet && !ordered {
            let open = self.at.clone();
            self.advance()?;
            loop {
                if self.token == Token::CloseSet && !values.is_empty() {
                    break;
                }
                values.push(self.value(head)?);
                match self.token {
                    Token::Comma => self.advance()?,
                    Token::CloseSet => {}
                    Token::End => {
                        return Err(Mistake::new(open, "this brace is not closed"));
                    }
                    _ => return Err(self.mistake("expected ',' or '}'")),
                }
            }
            self.advance()?;
        } else {
            values.push(self.value(head)?);
        }
        head.expr(compare.map(|(compare, _)| compare), &values, self.names)
    }

    fn value(&mut self, head: Head) -> Result<Value<'a>, Mistake> {
        let (text, open) = match &self.token {
            Token::Word(word) => match word.strip_suffix('*') {
                // Of addresses and ports it is a value.
                Some(text) if head == Head::Comm => (Cow::Borrowed(text.as_bytes()), true),
                _ => (Cow::Borrowed(word.as_bytes()), false),
            },
            Token::Quoted(text, open) if head == Head::Comm => (text.clone(), *open),
            Token::Quoted(text, open) => {
                let mut text = text.to_vec();
                text.extend(open.then_some(b'*'));
                (Cow::Owned(text), false)
            }
            token => {
                let here = if *token == Token::End { " here" } else { "" };
                if *token == Token::Not {
                    let what = "'not' stands before the word, such as: not port 22";
                    return Err(self.mistake(what));
                }
                return Err(self.mistake(&["expected ", head.expects(), here].concat()));
            }
        };
        if text.contains(&b'*') && head == Head::Comm && !matches!(self.token, Token::Quoted(..)) {
            return Err(self.mistake("'*' can stand at the end of a name only, or in quotes"));
        }
        let at = self.at.clone();
        self.advance()?;
        Ok(Value { text, open, at })
    }
}
