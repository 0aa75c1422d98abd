//! An expression as text.
//!
//! Contract: what is printed is read as the same expression again. Numbers stand
//! for what was a name.

use super::error::push_number;
use super::tree::{Expr, Kinds, Measure, Nets, Pattern, Ranges, Side, States, Term};
use super::words;
use crate::model::cause::Cause;
use crate::model::event;
use crate::model::tcp::Wire;
use crate::model::text;
use std::net::Ipv6Addr;

impl Expr {
    /// Its text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, false);
        out
    }

    fn print(&self, out: &mut String, inner: bool) {
        let (parts, between) = match self {
            Expr::All => return out.push_str("tcp"),
            Expr::None => return out.push_str("not tcp"),
            Expr::Term(positive, term) => {
                if !positive {
                    out.push_str("not ");
                }
                return print(out, term);
            }
            Expr::And(parts) => (parts, " and "),
            Expr::Or(parts) => (parts, " or "),
        };
        if inner {
            out.push_str("( ");
        }
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                out.push_str(between);
            }
            part.print(out, true);
        }
        if inner {
            out.push_str(" )");
        }
    }
}

/// Appends one, or several in braces.
fn list<T>(out: &mut String, all: &[T], one: &dyn Fn(&mut String, &T)) {
    if let [only] = all {
        return one(out, only);
    }
    for (n, each) in all.iter().enumerate() {
        out.push_str(if n == 0 { "{ " } else { ", " });
        one(out, each);
    }
    out.push_str(" }");
}

fn ranges(out: &mut String, ranges: &Ranges) {
    list(out, ranges.ranges(), &|out, (first, last)| {
        push_number(out, (*first).into());
        if first != last {
            out.push('-');
            push_number(out, (*last).into());
        }
    });
}

fn nets(out: &mut String, nets: &Nets) {
    list(out, nets.prefixes(), &|out, net| {
        let addr = Ipv6Addr::from_bits(net.first);
        let (addr, before) = match net.is_ipv4() {
            true => (addr.to_canonical(), 96),
            false => (addr.into(), 0),
        };
        let mut bytes = Vec::new();
        text::address(&mut bytes, addr);
        out.push_str(&String::from_utf8_lossy(&bytes));
        if net.len < 128 {
            out.push('/');
            push_number(out, (net.len - before).into());
        }
    });
}

/// Appends text as it is, or in quotes where it would not be read as a value.
fn quoted(out: &mut String, text: &[u8], open: bool) {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+@%".contains(b);
    // Words have meanings.
    let word = text.iter().any(|b| b.is_ascii_digit() || *b == b'/');
    if word && text.iter().all(plain) {
        out.push_str(&String::from_utf8_lossy(text));
        out.extend(open.then_some('*'));
        return;
    }
    out.push('"');
    for &byte in text {
        match byte {
            b'"' | b'\\' | b'*' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                out.push_str("\\x");
                let digit = |four: u8| char::from_digit(four.into(), 16).unwrap_or('0');
                out.extend([digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out.extend(open.then_some('*'));
    out.push('"');
}

fn states(out: &mut String, states: States) {
    let all: Vec<&str> = (1..=13)
        .filter_map(crate::model::tcp::State::from_number)
        .filter(|state| states.has(*state))
        .filter_map(words::name_of_state)
        .collect();
    list(out, &all, &|out, name| out.push_str(name));
}

fn measure(out: &mut String, what: Measure, first: u64, last: u64) {
    let (name, unit) = match what {
        Measure::Duration => ("duration", "ns"),
        Measure::Rtt => ("rtt", "us"),
        Measure::Bytes => ("bytes", ""),
        Measure::Retransmits => ("retransmits", ""),
    };
    out.push_str(name);
    let (sign, number) = match (first, last) {
        (first, last) if first == last => (" = ", first),
        (0, last) => (" <= ", last),
        (first, _) => (" >= ", first),
    };
    out.push_str(sign);
    push_number(out, number);
    out.push_str(unit);
}

fn print(out: &mut String, term: &Term) {
    let side = |out: &mut String, side: Side, of: &str| {
        out.push_str(match side {
            Side::Local => "src ",
            Side::Peer => "dst ",
            Side::Either => "",
        });
        out.push_str(of);
    };
    let word = |out: &mut String, word: &str| out.push_str(word);
    match term {
        Term::Net(of, set) => {
            side(out, *of, "net ");
            nets(out, set);
        }
        Term::Port(of, set) => {
            side(out, *of, "port ");
            ranges(out, set);
        }
        Term::Family(Wire::Ipv4) => word(out, "ip"),
        Term::Family(Wire::Ipv6) => word(out, "ip6"),
        Term::Opened(true) => word(out, "outgoing"),
        Term::Opened(false) => word(out, "incoming"),
        Term::NoOwner => word(out, "owner none"),
        Term::Netns(set) => {
            word(out, "netns ");
            ranges(out, set);
        }
        Term::Pid(set) => {
            word(out, "pid ");
            ranges(out, set);
        }
        Term::Uid(set) => {
            word(out, "uid ");
            ranges(out, set);
        }
        Term::Tree(pids) => {
            word(out, "tree ");
            list(out, pids, &|out, pid| push_number(out, (*pid).into()));
        }
        Term::Comm(names) => {
            word(out, "comm ");
            list(out, names, &|out, pattern: &Pattern| {
                quoted(out, event::comm(&pattern.name), pattern.open);
            });
        }
        Term::Cgroup(ids) => {
            word(out, "cgroup ");
            list(out, ids, &|out, id| push_number(out, *id));
        }
        Term::Container(ids) => {
            word(out, "container ");
            list(out, ids, &|out, id| out.push_str(id));
        }
        Term::Event(kinds) => {
            word(out, "event ");
            let all: Vec<&str> = words::KINDS
                .iter()
                .filter(|(_, kind): &&(_, Kinds)| kinds.contains(*kind))
                .map(|(name, _)| *name)
                .collect();
            list(out, &all, &|out, name| out.push_str(name));
        }
        Term::State(set) => {
            word(out, "state ");
            states(out, *set);
        }
        Term::From(set) => {
            word(out, "from ");
            states(out, *set);
        }
        Term::To(set) => {
            word(out, "to ");
            states(out, *set);
        }
        Term::Cause(causes) => {
            word(out, "cause ");
            let all: Vec<&str> = Cause::ALL
                .iter()
                .filter(|cause| causes >> **cause as u8 & 1 == 1)
                .map(|cause| cause.name())
                .collect();
            list(out, &all, &|out, name| out.push_str(name));
        }
        Term::Measure(what, first, last) => measure(out, *what, *first, *last),
    }
}
