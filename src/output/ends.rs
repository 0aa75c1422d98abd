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

/// Some that were rendered.
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
    places: Vec<Option<Kept>>,
}

/// Whether two ends are the same, by few comparisons.
#[inline(always)]
fn same(one: &Endpoint, other: &Endpoint) -> bool {
    let addr = match (one.addr, other.addr) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.to_bits() == other.to_bits(),
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() == other.to_bits(),
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
    pub(super) fn append(&mut self, out: &mut Vec<u8>, both: Both<'_>) {
        let (local, peer, wire) = both;
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        // The two sockets of a connection within this host have a place each.
        let at = usize::from(local.port.wrapping_mul(3) ^ peer.port) % PLACES;
        let Some(place) = self.places.get_mut(at) else {
            return;
        };
        match place {
            Some(kept)
                if same(&kept.local, local) && same(&kept.peer, peer) && kept.wire == wire =>
            {
                append(out, &kept.text);
            }
            _ => {
                let mut text = place.take().map_or_else(Vec::new, |kept| kept.text);
                text.clear();
                (self.render)(&mut text, both);
                append(out, &text);
                let (local, peer) = (*local, *peer);
                *place = Some(Kept {
                    local,
                    peer,
                    wire,
                    text,
                });
            }
        }
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
                    ends.append(&mut kept, (local, peer, wire));
                    members::ends(&mut rendered, (local, peer, wire));
                    assert_eq!(kept, rendered);
                }
            }
        }
        assert_eq!(ends.places.len(), PLACES);
    }
}
