//! Who opened a connection that was there before the start.
//!
//! Contract: it is said of the peer only, and only once the scan is done; this
//! host may as well connect from a port at which something listens elsewhere.

use crate::model::sort;
use crate::model::tcp::Endpoint;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// What tells who opened a connection that was found.
#[derive(Debug, Default)]
pub(super) struct Openers {
    /// Where there are listeners: network namespace, port and address; sorted
    /// once the scan is done.
    pub listening: Vec<(u32, u16, IpAddr)>,
    /// The ports of the kernel's choice in a network namespace.
    pub ranges: Vec<(u32, RangeInclusive<u16>)>,
    complete: bool,
}

impl Openers {
    /// The scan is done.
    pub(super) fn complete(&mut self) {
        sort::by_key(&mut self.listening, |listening| *listening);
        self.complete = true;
    }

    /// Whether the peer opened a connection: there is a listener at this end, or
    /// this end's port is none of the kernel's choice and the peer's would be.
    pub(super) fn is_incoming(&self, netns: u32, local: &Endpoint, peer: &Endpoint) -> bool {
        let at = |addr| {
            let place = (netns, local.port, addr);
            self.listening.binary_search(&place).is_ok()
        };
        let any4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        // It may stand for IPv4, too.
        let any6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let listening = || at(local.addr) || at(any6) || local.addr.is_ipv4() && at(any4);
        let mut ranges = self.ranges.iter().filter(|(of, _)| *of == netns);
        let mut fixed = || {
            let range = ranges.next().map(|(_, range)| range);
            range.is_some_and(|r| !r.contains(&local.port) && r.contains(&peer.port))
        };
        self.complete && (listening() || fixed())
    }
}
