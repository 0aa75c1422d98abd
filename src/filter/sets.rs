//! Sets of addresses, numbers and names, as the terms of an expression have them.
//!
//! Contract: what is in a set is sorted, and nothing in it twice: a question
//! takes a binary search, however many there are.

use crate::model::event::{self, COMM_LEN};
use crate::model::sort;
use std::net::IpAddr;

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
pub struct Nets(pub(super) Vec<Prefix>);

impl Nets {
    /// Those of these networks: an address, and the bits that count (32 or 128
    /// for a host). IPv6's never have IPv4 addresses in them: those are what is
    /// mapped, and `::/0` is not.
    pub fn of(nets: impl IntoIterator<Item = (IpAddr, u8)>) -> Nets {
        let mut all = Vec::new();
        for net in nets {
            Nets::add(&mut all, net);
        }
        Nets::merged(all)
    }

    fn add(all: &mut Vec<Prefix>, (addr, len): (IpAddr, u8)) {
        let len = match addr.is_ipv4() {
            true => len.min(32) + 96,
            false => len.min(128),
        };
        let net = Prefix::around(mapped(addr), len);
        if net.first <= MAPPED && MAPPED <= net.last() && len < 96 {
            for len in len + 1..=96 {
                let branch = 1u128.checked_shl(128 - u32::from(len)).unwrap_or(0);
                all.push(Prefix::around(MAPPED ^ branch, len));
            }
        } else {
            all.push(net);
        }
    }

    pub(super) fn merged(mut all: Vec<Prefix>) -> Nets {
        // The wider one first, where several begin at one address.
        sort::by_key(&mut all, |net| *net);
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
pub struct Ranges(pub(super) Vec<(u32, u32)>);

impl Ranges {
    /// Those from one to the other.
    pub fn of(ranges: impl Into<Vec<(u32, u32)>>) -> Ranges {
        Ranges::merged(ranges.into())
    }

    fn merged(mut all: Vec<(u32, u32)>) -> Ranges {
        all.retain(|(first, last)| first <= last);
        sort::by_key(&mut all, |range| *range);
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
        let own = event::comm(&self.name);
        match self.open {
            true => name.starts_with(own),
            false => name == own,
        }
    }
}

/// Sorts what is listed, and keeps each once.
pub(super) fn in_order<T: Ord + Clone>(all: &mut Vec<T>) {
    sort::by_key(all, |one| one.clone());
    all.dedup();
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
}
