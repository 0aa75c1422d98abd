//! A filter's expression, as all who decide by it read it.
//!
//! Contract: an [`Expr`] is in one normal form, which its constructors keep:
//! `not` stands at single terms only, `and` and `or` have at least two parts,
//! none of them of their own kind, [`Expr::All`] or [`Expr::None`]; what is
//! listed is sorted, without doubles and overlaps. So equal meaning of the
//! simple kind is equal trees, and a tree that was printed and parsed is the
//! same again.
//!
//! # What each term is about
//!
//! | kind | terms | decided |
//! |---|---|---|
//! | socket | [`Term::Net`], [`Term::Port`], [`Term::Family`], [`Term::Netns`], [`Term::Opened`] | once what it asks for is known, for good |
//! | owner | [`Term::Pid`], [`Term::Tree`], [`Term::Comm`], [`Term::Uid`], [`Term::Cgroup`], [`Term::Container`], [`Term::NoOwner`] | once the owner is known, and again where it changes |
//! | event | [`Term::Event`], [`Term::State`], [`Term::From`], [`Term::To`] | at each event |
//! | record | [`Term::Cause`], [`Term::Measure`] | at the record of a connection's end |
//!
//! The first two are about the connection. What of it is made of these alone is
//! decided for it as a whole: at its first event some of it may not be known yet
//! (a client's local port is 0 at SYN_SENT, a child's peer is unspecified at
//! SYN_RECV before Linux 6.18, an owner may be told only later), and this is
//! [`Truth::NotYet`], not a no. Once such a part is a yes, it stays one for the
//! connection, also where its owner changes later (another process accepts it,
//! or its process runs another program). Who keeps events away early may do so
//! only where no later event can make a yes of it: an address, port, family or
//! namespace that is there stays, an owner may not.
//!
//! The owner by its listener ([`OwnerSource::Listener`]) is one as long as it
//! matches: where it doesn't, the process that accepts may, so that is
//! [`Truth::NotYet`].
//!
//! At a connection's end, what is not known by then is taken for a term that
//! doesn't match: `pid 7` is a no, `not pid 7` a yes.
//!
//! [`OwnerSource::Listener`]: crate::model::event::OwnerSource::Listener

use crate::model::event::COMM_LEN;
use crate::model::tcp::{State, Wire};
use bitflags::bitflags;
use std::net::IpAddr;

/// What is known of whether something matches. In this order `and` is the least
/// of its parts, and `or` the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It doesn't.
    No,
    /// It can't be told before more is known.
    NotYet,
    /// It does.
    Yes,
}

impl Truth {
    /// What is known for sure.
    pub fn of(known: bool) -> Truth {
        match known {
            true => Truth::Yes,
            false => Truth::No,
        }
    }
}

/// The opposite; of what isn't known nothing is known.
impl std::ops::Not for Truth {
    type Output = Truth;

    fn not(self) -> Truth {
        match self {
            Truth::No => Truth::Yes,
            Truth::NotYet => Truth::NotYet,
            Truth::Yes => Truth::No,
        }
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This host's.
    Local,
    /// The peer's.
    Peer,
    /// One of them at least.
    Either,
}

/// Addresses that begin alike. IPv4 addresses are those of IPv6 that are mapped
/// to them (`::ffff:0:0/96`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The first one: the bits after the prefix are 0.
    pub first: u128,
    /// Bits that are alike, of 128.
    pub len: u8,
}

/// `::ffff:0:0`
const MAPPED: u128 = 0xffff << 32;

/// An address as [`Prefix`] has it.
pub fn mapped(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => MAPPED | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Prefix {
    /// The one of this length that an address is in.
    fn around(addr: u128, len: u8) -> Prefix {
        let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        Prefix {
            first: addr & mask,
            len,
        }
    }

    /// The last address.
    pub fn last(&self) -> u128 {
        self.first | u128::MAX.checked_shr(self.len.into()).unwrap_or(0)
    }

    /// Whether it is of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.len >= 96 && self.first >> 32 == MAPPED >> 32
    }
}

/// A set of addresses: prefixes in order, none of which is in another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nets(Vec<Prefix>);

impl Nets {
    /// Those of these networks: an address, and the bits that count (32 or 128
    /// for a host). IPv6's never have IPv4 addresses in them: those are what is
    /// mapped, and `::/0` is not.
    pub fn of(nets: impl IntoIterator<Item = (IpAddr, u8)>) -> Nets {
        let mut all = Vec::new();
        for (addr, len) in nets {
            let len = match addr.is_ipv4() {
                true => len.min(32) + 96,
                false => len.min(128),
            };
            let net = Prefix::around(mapped(addr), len);
            if net.first <= MAPPED && MAPPED <= net.last() && len < 96 {
                let without = (len + 1..=96).map(|len| {
                    let branch = 1u128.checked_shl(128 - u32::from(len)).unwrap_or(0);
                    Prefix::around(MAPPED ^ branch, len)
                });
                all.extend(without);
            } else {
                all.push(net);
            }
        }
        Nets::merged(all)
    }

    fn merged(mut all: Vec<Prefix>) -> Nets {
        // The wider one first, where several begin at one address.
        all.sort_unstable();
        let mut kept: Vec<Prefix> = Vec::with_capacity(all.len());
        for net in all {
            if kept.last().is_none_or(|last| last.last() < net.first) {
                kept.push(net);
            }
        }
        Nets(kept)
    }

    /// The prefixes.
    pub fn prefixes(&self) -> &[Prefix] {
        &self.0
    }

    /// Whether an address is one of these.
    pub fn has(&self, addr: IpAddr) -> bool {
        let addr = mapped(addr);
        let after = self.0.partition_point(|net| net.first <= addr);
        let net = after.checked_sub(1).and_then(|at| self.0.get(at));
        net.is_some_and(|net| addr <= net.last())
    }
}

/// A set of numbers: from where to where, both included, in order, none of which
/// touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Those from one to the other.
    pub fn of(ranges: impl IntoIterator<Item = (u32, u32)>) -> Ranges {
        let mut all: Vec<(u32, u32)> = ranges.into_iter().collect();
        all.retain(|(first, last)| first <= last);
        all.sort_unstable();
        let mut kept: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match kept.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => kept.push((first, last)),
            }
        }
        Ranges(kept)
    }

    /// From where to where.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Whether a number is one of these.
    pub fn has(&self, number: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        let range = after.checked_sub(1).and_then(|at| self.0.get(at));
        range.is_some_and(|(_, last)| number <= *last)
    }
}

/// A process's name, or how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// The name, ended by a NUL: 15 bytes at most.
    pub name: [u8; COMM_LEN],
    /// Whether anything may follow it.
    pub open: bool,
}

impl Pattern {
    /// Whether a name is such a one.
    pub fn has(&self, name: &[u8]) -> bool {
        let own = crate::model::event::comm(&self.name);
        match self.open {
            true => name.starts_with(own),
            false => name == own,
        }
    }
}

bitflags! {
    /// Kinds of what is shown.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Kinds: u8 {
        /// A change of state.
        const STATE = 1 << 0;
        /// A retransmission, also of a SYN+ACK, and one that failed.
        const RETRANSMIT = 1 << 1;
        /// The record of a connection that has ended.
        const CONNECTION = 1 << 2;
    }
}

/// A set of states: for each the bit of its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States(pub u16);

impl States {
    /// With this one.
    pub fn and(self, state: State) -> States {
        States(self.0 | 1 << state as u8)
    }

    /// Whether a state is one of these.
    pub fn has(self, state: State) -> bool {
        self.0 >> state as u8 & 1 == 1
    }
}

/// What of a connection is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// How long it lived, in nanoseconds.
    Duration,
    /// Its smoothed round-trip time, in microseconds.
    Rtt,
    /// Bytes of data that it sent and received.
    Bytes,
    /// Segments that it sent again.
    Retransmits,
}

/// What can be asked for. What each is about stands at the top of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// Its address is one of these.
    Net(Side, Nets),
    /// Its port is one of these.
    Port(Side, Ranges),
    /// The IP version on the wire.
    Family(Wire),
    /// Its network namespace, by the inode number of /proc/PID/ns/net, is one of
    /// these.
    Netns(Ranges),
    /// This host opened it (`true`), or the peer did.
    Opened(bool),
    /// Its process is one of these.
    Pid(Ranges),
    /// Its process is one of these, or descends from one: in order.
    Tree(Vec<u32>),
    /// Its process's name is one of these: in order.
    Comm(Vec<Pattern>),
    /// Its process's user is one of these.
    Uid(Ranges),
    /// Its process's cgroup (version 2) is one of these, by their ids, or below
    /// one: in order.
    Cgroup(Vec<u64>),
    /// Its process is in a container whose id begins with one of these: at least
    /// 12 hexadecimal digits in lower case, in order.
    Container(Vec<String>),
    /// Nobody is known to own it.
    NoOwner,
    /// It is of one of these kinds.
    Event(Kinds),
    /// It leaves the socket in one of these states: the one entered, or the one
    /// in which a segment is sent again. TIME_WAIT is a CLOSE for which it is
    /// inferred.
    State(States),
    /// It is a change from one of these states.
    From(States),
    /// It is a change to one of these states; TIME_WAIT as above.
    To(States),
    /// Why it ended is one of these: for each cause the bit of its number.
    Cause(u16),
    /// What is measured is from here to there, both included.
    Measure(Measure, u64, u64),
}

/// What a term is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The connection.
    Socket,
    /// Whose the connection is.
    Owner,
    /// One event.
    Event,
    /// The record of a connection that has ended.
    Record,
}

impl Term {
    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Term::Net(..) | Term::Port(..) | Term::Family(_) | Term::Netns(_) | Term::Opened(_) => {
                Kind::Socket
            }
            Term::Pid(_)
            | Term::Tree(_)
            | Term::Comm(_)
            | Term::Uid(_)
            | Term::Cgroup(_)
            | Term::Container(_)
            | Term::NoOwner => Kind::Owner,
            Term::Event(_) | Term::State(_) | Term::From(_) | Term::To(_) => Kind::Event,
            Term::Cause(_) | Term::Measure(..) => Kind::Record,
        }
    }
}

/// An expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expr {
    /// Everything.
    #[default]
    All,
    /// Nothing.
    None,
    /// What a term matches (`true`), or what it doesn't.
    Term(bool, Term),
    /// What all of these match.
    And(Vec<Expr>),
    /// What one of these matches at least.
    Or(Vec<Expr>),
}

impl From<Term> for Expr {
    fn from(term: Term) -> Expr {
        Expr::Term(true, term)
    }
}

impl Expr {
    /// What all of these match.
    pub fn and(parts: impl IntoIterator<Item = Expr>) -> Expr {
        Expr::join(true, &mut parts.into_iter())
    }

    /// What one of these matches at least.
    pub fn or(parts: impl IntoIterator<Item = Expr>) -> Expr {
        Expr::join(false, &mut parts.into_iter())
    }

    fn join(and: bool, parts: &mut dyn Iterator<Item = Expr>) -> Expr {
        let mut all = Vec::new();
        for part in parts {
            match (part, and) {
                (Expr::All, true) | (Expr::None, false) => {}
                (Expr::None, true) => return Expr::None,
                (Expr::All, false) => return Expr::All,
                (Expr::And(parts), true) | (Expr::Or(parts), false) => all.extend(parts),
                (part, _) => all.push(part),
            }
        }
        match (all.len(), and) {
            (0, true) => Expr::All,
            (0, false) => Expr::None,
            (1, _) => all.remove(0),
            (_, true) => Expr::And(all),
            (_, false) => Expr::Or(all),
        }
    }

    /// Whether a term of this kind is in it.
    pub fn has(&self, kind: Kind) -> bool {
        match self {
            Expr::All | Expr::None => false,
            Expr::Term(_, term) => term.kind() == kind,
            Expr::And(parts) | Expr::Or(parts) => parts.iter().any(|part| part.has(kind)),
        }
    }
}

/// What this one doesn't match.
impl std::ops::Not for Expr {
    type Output = Expr;

    fn not(self) -> Expr {
        match self {
            Expr::All => Expr::None,
            Expr::None => Expr::All,
            Expr::Term(positive, term) => Expr::Term(!positive, term),
            Expr::And(parts) => Expr::Or(parts.into_iter().map(|part| !part).collect()),
            Expr::Or(parts) => Expr::And(parts.into_iter().map(|part| !part).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(all: &[(&str, u8)]) -> Nets {
        let one = |(addr, len): &(&str, u8)| (addr.parse().expect("an address"), *len);
        Nets::of(all.iter().map(one))
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn networks_are_sorted_and_none_is_in_another() {
        let set = nets(&[("10.1.2.3", 32), ("192.168.0.7", 16), ("10.9.9.9", 8)]);
        let lens: Vec<u8> = set.prefixes().iter().map(|net| net.len).collect();
        assert_eq!(lens, [104, 112]);
        assert!(set.prefixes().iter().all(Prefix::is_ipv4));
        for (text, has) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("192.168.255.255", true),
            ("192.169.0.0", false),
            ("::ffff:10.0.0.1", true),
            ("::a00:1", false),
        ] {
            assert_eq!(set.has(addr(text)), has, "{text}");
        }
        assert!(!Nets::default().has(addr("::")));
    }

    #[test]
    fn networks_of_ipv6_have_no_ipv4_addresses() {
        for len in 0..=80 {
            let set = nets(&[("::", len)]);
            assert!(!set.has(addr("10.0.0.1")), "{len}");
            assert!(
                set.has(addr("::1")) && set.has(addr("::fffe:a00:1")),
                "{len}"
            );
            assert_eq!(set.has(addr("ffff::")), len == 0, "{len}");
        }
        let all = nets(&[("::", 0), ("0.0.0.0", 0)]);
        assert!(all.has(addr("10.0.0.1")) && all.has(addr("2001:db8::1")));
        let mapped = nets(&[("::ffff:10.0.0.0", 104)]);
        assert_eq!(mapped, nets(&[("10.0.0.0", 8)]));
        assert_eq!(nets(&[("::", 0)]).prefixes().len(), 96);
    }

    #[test]
    fn ranges_are_sorted_and_merged() {
        let set = Ranges::of([
            (8000, 8100),
            (80, 80),
            (443, 443),
            (81, 90),
            (8050, 9000),
            (5, 1),
        ]);
        assert_eq!(set.ranges(), [(80, 90), (443, 443), (8000, 9000)]);
        for (number, has) in [
            (79, false),
            (80, true),
            (90, true),
            (91, false),
            (9000, true),
        ] {
            assert_eq!(set.has(number), has, "{number}");
        }
        let ends = Ranges::of([(0, 0), (u32::MAX, u32::MAX), (5, u32::MAX)]);
        assert_eq!(ends.ranges(), [(0, 0), (5, u32::MAX)]);
    }

    #[test]
    fn names() {
        let mut pattern = Pattern {
            name: [0; COMM_LEN],
            open: false,
        };
        pattern.name[..4].copy_from_slice(b"curl");
        assert!(pattern.has(b"curl") && !pattern.has(b"curl2") && !pattern.has(b"cur"));
        pattern.open = true;
        assert!(pattern.has(b"curl") && pattern.has(b"curl2") && !pattern.has(b"cur"));
    }

    #[test]
    fn there_is_one_form() {
        let term = |n| Expr::from(Term::Pid(Ranges::of([(n, n)])));
        assert_eq!(Expr::and([]), Expr::All);
        assert_eq!(Expr::or([]), Expr::None);
        assert_eq!(Expr::and([Expr::All, term(1)]), term(1));
        assert_eq!(Expr::or([Expr::All, term(1)]), Expr::All);
        assert_eq!(Expr::and([term(2), Expr::None]), Expr::None);
        let both = Expr::and([term(1), Expr::and([term(2), term(3)])]);
        assert_eq!(both, Expr::And(vec![term(1), term(2), term(3)]));
        let not = Expr::Or(vec![!term(1), !term(2), !term(3)]);
        assert_eq!(!both.clone(), not);
        assert_eq!(!!both, !not);
        assert_eq!(!Expr::All, Expr::None);
    }

    #[test]
    fn what_is_not_known_stays_so() {
        use Truth::*;
        assert!(No < NotYet && NotYet < Yes);
        assert_eq!([!No, !NotYet, !Yes], [Yes, NotYet, No]);
        assert_eq!([Truth::of(false), Truth::of(true)], [No, Yes]);
    }
}
