//! Both ends of one connection, where both are on this host.
//!
//! Contract: two connections are such a pair where each one's ends are the
//! other's the other way round, they were open at the same time, and one run saw
//! them; over loopback also in the same network namespace, as far as that is
//! known. Each is in one pair at most.

use super::connection::Connection;
use super::id::RUN;
use crate::model::sort;
use crate::model::tcp::Endpoint;
use std::net::IpAddr;

type End = (IpAddr, u16);

fn ends(connection: &Connection) -> (End, End) {
    let end = |end: &Endpoint| (end.addr, end.port);
    (end(connection.local()), end(connection.peer()))
}

/// When it was there, by the wall clock.
fn span(connection: &Connection) -> (u64, u64) {
    let first = connection.transitions().next().map_or(0, |(wall, _)| wall);
    let last = connection.transitions().last();
    let last = last.filter(|_| connection.cause().is_some());
    (first, last.map_or(u64::MAX, |(wall, _)| wall))
}

fn is_pair(one: &Connection, other: &Connection) -> bool {
    let (local, peer) = ends(one);
    let same_place = match (one.netns(), other.netns()) {
        (Some(one), Some(other)) => one == other || !local.0.is_loopback(),
        _ => true,
    };
    let (first, second) = (span(one), span(other));
    ends(other) == (peer, local)
        && one.number >> RUN == other.number >> RUN
        && same_place
        && first.0 <= second.1
        && second.0 <= first.1
}

/// For each of these connections the place of its other end among them.
pub(crate) fn pairs(all: &[&Connection]) -> Vec<Option<usize>> {
    let mut found = vec![None; all.len()];
    // Both ends have the same two ports.
    let mut order = Vec::new();
    for (at, connection) in all.iter().enumerate() {
        let (one, other) = (connection.local().port, connection.peer().port);
        let ports = u64::from(one.min(other)) << 16 | u64::from(one.max(other));
        if !connection.is_listener() {
            order.push(ports << 32 | at as u64);
        }
    }
    sort::numbers(&mut order);
    for (place, one) in order.iter().enumerate() {
        let at = *one as u32 as usize;
        for other in order.iter().skip(place + 1) {
            let to = *other as u32 as usize;
            if other >> 32 != one >> 32 || found[at].is_some() {
                break;
            }
            if found[to].is_none() && is_pair(all[at], all[to]) {
                (found[at], found[to]) = (Some(to), Some(at));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::feed;
    use super::*;
    use crate::bpf::wire::tests::state;
    use crate::lifecycle::Connections;
    use crate::model::ability::Abilities;
    use crate::model::event::Event;
    use crate::model::tcp::State;

    /// The first event of either end of a connection over loopback.
    fn end(socket: u64, time: u64, ports: (u16, u16), netns: u32) -> Event {
        let addr = IpAddr::from([127, 0, 0, 1]);
        let change = match ports.0 {
            80 => (State::Listen, State::SynRecv),
            _ => (State::Close, State::SynSent),
        };
        let mut event = state(time, socket, change.0, change.1, ports);
        (event.local.addr, event.peer.addr) = (addr, addr);
        event.netns = Some(netns);
        event
    }

    fn found(events: &[Event]) -> Vec<Option<usize>> {
        let mut table = Connections::new(9, 9, 0, Abilities::all() - Abilities::DESTROYS);
        events.iter().for_each(|event| {
            feed(&mut table, event);
        });
        pairs(&table.shown())
    }

    #[test]
    fn ends_that_face_each_other_are_a_pair() {
        let both = [
            end(1, 1, (4000, 80), 7),
            end(2, 2, (80, 4001), 7),
            end(3, 3, (80, 4000), 7),
        ];
        assert_eq!(found(&both), [Some(2), None, Some(0)]);
        // Each namespace has a loopback of its own.
        let apart = [end(1, 1, (4000, 80), 7), end(2, 2, (80, 4000), 8)];
        assert_eq!(found(&apart), [None, None]);
        // Connected to itself.
        assert_eq!(found(&[end(1, 1, (4000, 4000), 7)]), [None]);
    }

    #[test]
    fn who_uses_the_ports_again_is_another_pair() {
        let closed = |socket, time, ports| Event {
            what: crate::model::event::What::State {
                old: State::SynSent,
                new: State::Close,
            },
            ..end(socket, time, ports, 7)
        };
        let all = [
            end(1, 1, (4000, 80), 7),
            end(2, 2, (80, 4000), 7),
            closed(1, 100_000_000, (4000, 80)),
            closed(2, 100_000_000, (80, 4000)),
            end(3, 200_000_000, (4000, 80), 7),
            end(4, 200_000_001, (80, 4000), 7),
        ];
        assert_eq!(found(&all), [Some(1), Some(0), Some(3), Some(2)]);
    }
}
