//! What stands behind the words of a filter: addresses, ports, names, figures.
//!
//! Contract: what is asked of the host (a user's number, a cgroup's, a network
//! namespace's) is asked once, here, by [`Names`]; an expression holds numbers.

use super::error::Mistake;
use super::figures::{Net, Ports, SIZES, TIMES, end, figure, net, number, ports, torn};
use super::guess;
use super::lex::Compare;
use super::tree::{Expr, Measure, Nets, Pattern, Ranges, Side, Term};
use super::words::{self, Ends, Form, Head};
use crate::model::event::COMM_LEN;
use crate::model::text::is_digits;
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Who knows what the names of this host stand for. What can't be told is an
/// error, in words that go behind the name and a colon.
pub trait Names {
    /// The number of a user.
    fn user(&self, name: &str) -> Result<u32, String>;
    /// The id of the cgroup (version 2) with this path.
    fn cgroup(&self, path: &str) -> Result<u64, String>;
    /// The inode number of the network namespace that this file stands for.
    fn netns(&self, path: &str) -> Result<u32, String>;
}

/// A value: its text, whether `*` stood behind it, and where.
#[derive(Clone, Debug)]
pub(super) struct Value<'a> {
    pub(super) text: Cow<'a, [u8]>,
    pub(super) open: bool,
    pub(super) at: Range<usize>,
}

impl Value<'_> {
    fn bad(&self, head: Head) -> Mistake {
        let mut what = String::from("expected ");
        what.push_str(head.expects());
        what.push_str(", not '");
        what.push_str(&String::from_utf8_lossy(&self.text));
        what.push('\'');
        Mistake::new(self.at.clone(), what)
    }

    fn wrong(&self, why: &str) -> Mistake {
        let mut what = String::from_utf8_lossy(&self.text).into_owned();
        what.push_str(": ");
        what.push_str(why);
        Mistake::new(self.at.clone(), what)
    }
}

impl Head {
    /// What its values are, to a person.
    pub(super) fn expects(self) -> &'static str {
        match self {
            Head::End(_, Form::Host, _) => "an address, such as 10.0.0.5 or 2001:db8::1",
            Head::End(_, Form::Net, _) => "a network, such as 10.0.0.0/8 or 2001:db8::/32",
            Head::End(_, Form::Port, _) => "a port, such as 443, 8000-8100 or https",
            Head::End(_, Form::Any, _) => {
                "'host', 'net' or 'port', an address, a network, or :PORT"
            }
            Head::State(_) | Head::From | Head::To => "a state, such as established",
            Head::Pid | Head::Tree => "the number of a process",
            Head::Comm => "a process's name, such as curl or curl*",
            Head::Uid => "a user's number or name",
            Head::Cgroup => "a cgroup's path, such as /system.slice/ssh.service",
            Head::Container => "a container's id: 12 to 64 hexadecimal digits",
            Head::Netns => "a network namespace's number, or its file, such as /run/netns/NAME",
            Head::Owner => "'none'",
            Head::Event => "'state', 'retransmit' or 'connection'",
            Head::Cause => "a cause, such as refused or timed_out",
            Head::Measure(Measure::Duration | Measure::Rtt) => {
                "a time, such as 50ms or 1.5s (ns, us, ms, s, m or h)"
            }
            Head::Measure(Measure::Bytes) => {
                "a number of bytes, such as 1M (K, M, G or T, of 1024)"
            }
            Head::Measure(Measure::Retransmits) => "a number",
        }
    }
}

/// The numbers that compare so with one.
fn compared(compare: Compare, (first, last): (u64, u64), most: u64) -> Option<(u64, u64)> {
    match compare {
        Compare::Equal | Compare::NotEqual => Some((first, last)),
        Compare::Less => first.checked_sub(1).map(|last| (0, last)),
        Compare::AtMost => Some((0, last)),
        Compare::Greater => (last < most).then(|| (last + 1, most)),
        Compare::AtLeast => Some((first, most)),
    }
}

/// Whether it asks for an order.
fn is_order(compare: Option<Compare>) -> bool {
    !matches!(compare, None | Some(Compare::Equal | Compare::NotEqual))
}

fn measure(what: Measure, compare: Compare, value: &Value<'_>) -> Result<Expr, Mistake> {
    let text = std::str::from_utf8(&value.text).unwrap_or("");
    let figure = match what {
        Measure::Duration => figure(text, TIMES, 1),
        Measure::Rtt => figure(text, TIMES, 1_000),
        Measure::Bytes => figure(text, SIZES, 1),
        Measure::Retransmits => figure(text, &SIZES[..1], 1),
    };
    let (floor, ceiling) = figure.ok_or_else(|| value.bad(Head::Measure(what)))?;
    // Between two whole numbers: nothing is equal, all above the lower is more.
    let range = match compare {
        Compare::Equal | Compare::NotEqual if floor != ceiling => None,
        Compare::Less | Compare::AtLeast => compared(compare, (ceiling, ceiling), u64::MAX),
        _ => compared(compare, (floor, floor), u64::MAX),
    };
    Ok(range.map_or(Expr::None, |(first, last)| {
        Term::Measure(what, first, last).into()
    }))
}

/// What of one end must match; neither is any address.
fn at_end(side: Side, (net, ports): (Option<Net>, Option<Ports>)) -> Expr {
    let any = [
        (Ipv4Addr::UNSPECIFIED.into(), 0),
        (Ipv6Addr::UNSPECIFIED.into(), 0),
    ];
    let net = match (&net, ports) {
        (Some(net), _) => Some(std::slice::from_ref(net)),
        (None, None) => Some(&any[..]),
        (None, Some(_)) => None,
    };
    let net = net.map(|nets| Term::Net(side, Nets::of(nets.iter().copied())).into());
    let ports = ports.map(|ports| Term::Port(side, Ranges::of(vec![ports])).into());
    Expr::and(net.into_iter().chain(ports))
}

/// The same of either end, which must match as a whole, or of both.
fn at_ends(ends: Ends, make: &dyn Fn(Side) -> Expr) -> Expr {
    let each = || [Side::Local, Side::Peer].map(make);
    match ends {
        Ends::Both => Expr::and(each()),
        Ends::Of(Side::Either) => match make(Side::Either) {
            Expr::And(_) | Expr::Or(_) => Expr::or(each()),
            one => one,
        },
        Ends::Of(side) => make(side),
    }
}

fn ends(
    (ends, form): (Ends, Form),
    compare: Option<Compare>,
    values: &[Value<'_>],
) -> Result<Expr, Mistake> {
    let head = Head::End(ends, form, None);
    let mut all = Vec::with_capacity(values.len());
    for value in values {
        let text = std::str::from_utf8(&value.text).map_err(|_| value.bad(head))?;
        if let (Form::Any, Some((addr, port, true))) = (form, torn(text)) {
            let what = "an address, or one and a port: this can be read in two ways";
            let with = ["[", addr, "]:", port].concat();
            return Err(Mistake::new(value.at.clone(), what)
                .help(guess::at(ends, "host ", text))
                .help(guess::at(ends, "", &with)));
        }
        let parsed = match form {
            Form::Host | Form::Net => net(text, form == Form::Net).map(|net| (Some(net), None)),
            Form::Port => {
                let port = text.strip_prefix(':').unwrap_or(text);
                ports(port).map(|port| (None, Some(port)))
            }
            Form::Any => end(text),
        };
        all.push(parsed.ok_or_else(|| {
            let meant = guess::end(ends, form, text);
            value.bad(head).meant(meant.as_deref())
        })?);
    }
    if is_order(compare) {
        let (Some(compare), [(None, Some((first, last)))]) = (compare, &mut all[..]) else {
            let at = values.first().map_or(0..0, |value| value.at.clone());
            let what = "only single ports are more or less than others";
            return Err(Mistake::new(at, what));
        };
        let range = (u64::from(*first), u64::from(*last));
        let Some(range) = compared(compare, range, u16::MAX.into()) else {
            return Ok(Expr::None);
        };
        (*first, *last) = (range.0 as u32, range.1 as u32);
    }
    Ok(at_ends(ends, &|side| {
        Expr::or(all.iter().map(|end| at_end(side, *end)))
    }))
}

/// Numbers from one to another; `None` if there are none.
fn numbers(
    head: Head,
    compare: Option<Compare>,
    value: &Value<'_>,
    names: &dyn Names,
) -> Result<Option<Ranges>, Mistake> {
    let text = std::str::from_utf8(&value.text).map_err(|_| value.bad(head))?;
    let range = || {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    };
    let named = || match head {
        Head::Uid if !text.starts_with(|c: char| c.is_ascii_digit()) => Some(names.user(text)),
        Head::Netns if text.contains('/') => Some(names.netns(text)),
        _ => None,
    };
    let one = number(text).map(|one| (one, one)).or_else(range);
    let (first, last) = match one {
        Some(range) => range,
        None => match named() {
            Some(Ok(number)) => (number, number),
            Some(Err(why)) => return Err(value.wrong(&why)),
            None => return Err(value.bad(head)),
        },
    };
    let range = (u64::from(first), u64::from(last));
    let range = compared(compare.unwrap_or(Compare::Equal), range, u32::MAX.into());
    Ok(range.map(|(first, last)| Ranges::of(vec![(first as u32, last as u32)])))
}

fn pattern(value: &Value<'_>) -> Result<Pattern, Mistake> {
    const MOST: usize = COMM_LEN - 1;
    let text = &value.text[..];
    if text.len() > MOST {
        let kept = String::from_utf8_lossy(text.get(..MOST).unwrap_or(text)).into_owned();
        let why = "the kernel keeps 15 bytes of a name";
        return Err(value.wrong(why).meant(Some(&kept)));
    }
    if text.contains(&0) || text.is_empty() && !value.open {
        return Err(value.bad(Head::Comm));
    }
    let mut name = [0; COMM_LEN];
    for (place, byte) in name.iter_mut().zip(text) {
        *place = *byte;
    }
    Ok(Pattern {
        name,
        open: value.open,
    })
}

fn container(value: &Value<'_>) -> Option<String> {
    let text = std::str::from_utf8(&value.text).ok()?;
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit());
    (hex && (12..=64).contains(&text.len())).then(|| text.to_ascii_lowercase())
}

/// The bits of a word.
fn bits(
    value: &Value<'_>,
    head: Head,
    find: &dyn Fn(&str) -> Option<u16>,
    known: &mut dyn Iterator<Item = &'static str>,
) -> Result<u16, Mistake> {
    let text = std::str::from_utf8(&value.text).unwrap_or("");
    find(text).ok_or_else(|| value.bad(head).meant(words::nearest(text, known)))
}

impl Head {
    /// What these values of it stand for; at least one. In an order (`<`) there is
    /// one.
    pub(super) fn expr(
        self,
        compare: Option<Compare>,
        values: &[Value<'_>],
        names: &dyn Names,
    ) -> Result<Expr, Mistake> {
        let mut failed = None;
        let expr = match self {
            Head::End(of, form, family) => {
                let expr = ends((of, form), compare, values)?;
                let family = family.map(|family| Term::Family(family).into());
                Expr::and(family.into_iter().chain([expr]))
            }
            _ => Expr::or(values.iter().map_while(|value| {
                let one = self.one(compare, value, names);
                one.map_err(|mistake| failed = Some(mistake)).ok()
            })),
        };
        match (failed, compare == Some(Compare::NotEqual)) {
            (Some(mistake), _) => Err(mistake),
            (None, not) if not != (self == Head::State(false)) => Ok(!expr),
            (None, _) => Ok(expr),
        }
    }

    /// Whether its values have an order.
    pub(super) fn has_order(self) -> bool {
        matches!(
            self,
            Head::End(_, Form::Port | Form::Any, _)
                | Head::Pid
                | Head::Uid
                | Head::Netns
                | Head::Measure(_)
        )
    }

    /// What one value stands for.
    fn one(
        self,
        compare: Option<Compare>,
        value: &Value<'_>,
        names: &dyn Names,
    ) -> Result<Expr, Mistake> {
        let states = || {
            let bits = bits(value, self, &words::state, &mut words::states());
            bits.map(super::tree::States)
        };
        let text = || String::from_utf8_lossy(&value.text).into_owned();
        let term = match self {
            Head::State(_) => Term::State(states()?),
            Head::From => Term::From(states()?),
            Head::To => Term::To(states()?),
            Head::Pid | Head::Uid | Head::Netns => {
                let Some(ranges) = numbers(self, compare, value, names)? else {
                    return Ok(Expr::None);
                };
                match self {
                    Head::Pid => Term::Pid(ranges),
                    Head::Uid => Term::Uid(ranges),
                    _ => Term::Netns(ranges),
                }
            }
            Head::Tree => {
                let pid = number(&text()).filter(|pid| *pid > 0);
                Term::Tree(vec![pid.ok_or_else(|| value.bad(self))?])
            }
            Head::Comm => Term::Comm(vec![pattern(value)?]),
            Head::Cgroup => {
                let text = text();
                // As it is printed.
                let id = match is_digits(&text).then(|| text.parse()) {
                    Some(Ok(id)) => Ok(id),
                    _ => names.cgroup(&text),
                };
                Term::Cgroup(vec![id.map_err(|why| value.wrong(&why))?])
            }
            Head::Container => {
                Term::Container(vec![container(value).ok_or_else(|| value.bad(self))?])
            }
            Head::Owner => {
                const NONE: &str = "none";
                let none = |word: &str| word.eq_ignore_ascii_case(NONE).then_some(1);
                bits(value, self, &none, &mut [NONE].into_iter())?;
                Term::NoOwner
            }
            Head::Event => {
                let kinds = bits(value, self, &words::kind, &mut words::kinds())?;
                Term::Event(super::tree::Kinds::from_bits_truncate(kinds as u8))
            }
            Head::Cause => Term::Cause(bits(value, self, &words::cause, &mut words::causes())?),
            Head::Measure(what) => {
                return measure(what, compare.unwrap_or(Compare::Equal), value);
            }
            // Of several values at once.
            Head::End(..) => return Err(value.bad(self)),
        };
        Ok(term.into())
    }
}
