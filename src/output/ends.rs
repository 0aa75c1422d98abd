//! What lines say of a connection's two ends, kept as text: most connections have
//! several lines, soon one after the other.
//!
//! Contract: what is appended is what rendering it would give. Memory is bounded:
//! a place is used again for other ends.

use crate::model::tcp::{Endpoint, Wire};
use crate::sys::append::append;
use std::net::IpAddr;

/// Ends that are kept.
const PLACES: usize = 256;

/// This end, the other one, and how they talk.
pub(super) type Both<'a> = (&'a Endpoint, &'a Endpoint, Wire);

/// Makes the text of them.
type Render = fn(&mut Vec<u8>, Both<'_>);

/// Some that were rendered; without text, none.
#[derive(Debug)]
struct Kept {
    local: Endpoint,
    peer: Endpoint,
    wire: Wire,
    text: Vec<u8>,
}

/// The texts.
#[derive(Debug)]
pub(super) struct Ends {
    render: Render,
    places: Vec<Kept>,
}

/// Whether two ends are the same, by few comparisons.
#[inline(always)]
fn same(one: &Endpoint, other: &Endpoint) -> bool {
    let addr = match (one.addr, other.addr) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.to_bits() == other.to_bits(),
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            u128::from_ne_bytes(one.octets()) == u128::from_ne_bytes(other.octets())
        }
        _ => false,
    };
    addr && one.port == other.port
}

impl Ends {
    /// None as yet; this makes their texts.
    pub(super) fn new(render: Render) -> Ends {
        Ends {
            render,
            places: Vec::new(),
        }
    }

    /// Appends the text of a connection's ends.
    #[inline]
    pub(super) fn append(
        &mut self,
        out: &mut Vec<u8>,
        local: &Endpoint,
        peer: &Endpoint,
        wire: Wire,
    ) {
        // The two sockets of a connection within this host have a place each.
        let at = usize::from(local.port.wrapping_mul(3) ^ peer.port) % PLACES;
        match self.places.get(at) {
            Some(kept)
                if kept.wire == wire
                    && same(&kept.local, local)
                    && same(&kept.peer, peer)
                    && !kept.text.is_empty() =>
            {
                append(out, &kept.text);
            }
            _ => self.anew(out, at, (local, peer, wire)),
        }
    }

    /// The same where this place has others.
    #[inline(never)]
    fn anew(&mut self, out: &mut Vec<u8>, at: usize, both: Both<'_>) {
        let (local, peer, wire) = (*both.0, *both.1, both.2);
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || Kept {
                local,
                peer,
                wire,
                text: Vec::new(),
            });
        }
        if let Some(kept) = self.places.get_mut(at) {
            (kept.local, kept.peer, kept.wire) = (local, peer, wire);
            kept.text.clear();
            (self.render)(&mut kept.text, both);
            append(out, &kept.text);
        }
    }

    /// The same where it is not to be kept: there is one line of a connection.
    pub(super) fn once(&self, out: &mut Vec<u8>, both: Both<'_>) {
        (self.render)(out, both);
    }
}

#[cfg(test)]
mod tests {
    use super::super::members;
    use super::*;

    /// Ends that differ in one thing each, many of which have the same place.
    #[test]
    fn it_is_what_rendering_gives() {
        let addrs = ["10.0.0.1", "10.0.0.2", "::1", "::", "::a00:1", "0.0.0.0"];
        let addrs = addrs.map(|addr| addr.parse::<IpAddr>().expect("an address"));
        let ports = [0, 1, 80, 80 + PLACES as u16, u16::MAX];
        let all = addrs
            .iter()
            .flat_map(|&addr| ports.map(|port| Endpoint { addr, port }));
        let all: Vec<Endpoint> = all.collect();
        let mut ends = Ends::new(members::ends);
        for local in &all {
            for peer in &all {
                for wire in [Wire::Ipv4, Wire::Ipv6, Wire::Ipv6] {
                    let (mut kept, mut rendered) = (Vec::new(), Vec::new());
                    ends.append(&mut kept, local, peer, wire);
                    members::ends(&mut rendered, (local, peer, wire));
                    assert_eq!(kept, rendered);
                }
            }
        }
        assert_eq!(ends.places.len(), PLACES);
    }
}
