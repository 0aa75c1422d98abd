//! What can be told of a connection that is still open.
//!
//! Contract: as for the record at its end: what isn't known is left out. Whether it
//! goes on as it is can't be known.

use super::connection::{Direction, Seen};
use super::{Connections, SocketId, sent};
use crate::model::cause::Cause;
use crate::model::event::{Counters, Owner};
use crate::model::tcp::{Endpoint, State, Wire};

/// What it has counted since it was told of before, or since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Since {
    /// How long that is, in nanoseconds.
    pub duration: Option<u64>,
    /// Bytes sent.
    pub sent: Option<u64>,
    /// Bytes received.
    pub received: Option<u64>,
    /// Segments sent again.
    pub resent: Option<u64>,
}

/// A connection that is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// Which one; `None` where it was found at the start and had no event.
    pub id: Option<SocketId>,
    /// When this is told, in nanoseconds since the epoch.
    pub wall: u64,
    /// This end.
    pub local: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// IP version on the wire.
    pub wire: Wire,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// Its network namespace.
    pub netns: Option<u32>,
    /// Who opened it.
    pub direction: Direction,
    /// When it began, in nanoseconds since the epoch, and on the event clock.
    pub start: Option<(u64, u64)>,
    /// The state it is in.
    pub state: Option<State>,
    /// How long it took to open it.
    pub connect: Option<u64>,
    /// How long it took to be accepted.
    pub accept_delay: Option<u64>,
    /// What it has counted.
    pub counters: Counters,
    /// The same since it was told of before.
    pub since: Since,
}

impl Open {
    /// Takes what its socket has counted, in the state that it is in.
    pub(crate) fn count(&mut self, state: State, counters: &Counters) {
        self.state = Some(state);
        let mut counters = *counters;
        if let (Direction::Unknown, Some(sent)) = (self.direction, &counters.sent) {
            self.direction = sent::opened_by(state, sent);
        }
        let direction = self.direction;
        let bytes = counters.sent;
        counters.bytes_sent = bytes.and_then(|sent| sent::bytes(state, direction, &sent));
        let segments = counters.segments_sent;
        counters.segments_sent = segments.and_then(|n| sent::segments(direction, n, None));
        // The peer's FIN counts as one.
        if matches!(state, State::CloseWait | State::LastAck | State::Closing) {
            let received = counters.bytes_received;
            counters.bytes_received = received.map(|n| n.saturating_sub(1));
        }
        self.counters = counters;
    }
}

impl Connections {
    /// How many places of connections there are, and of what was found at the start.
    pub(crate) fn places(&self) -> (usize, usize) {
        (self.slots.len(), self.existing.places())
    }

    /// The connection in this place, if it is open and something of it was shown,
    /// and a number that no other connection has.
    pub(crate) fn open_at(&self, place: usize) -> Option<(Open, u64)> {
        let connection = self.slots.get(place)?;
        let there = self.by_socket.get(connection.socket) == Some(place as u32);
        let ended = connection.seen.contains(Seen::ENDED) || connection.last.is_some();
        let duplicate = connection.cause() == Some(Cause::Duplicate);
        if !there || ended || duplicate || connection.is_listener() || !connection.is_shown() {
            return None;
        }
        let open = Open {
            id: Some(self.id(connection.number)),
            wall: 0,
            local: *connection.local(),
            peer: *connection.peer(),
            wire: connection.wire(),
            owner: connection.owner(),
            netns: connection.netns(),
            direction: connection.direction(),
            start: connection.start().zip(connection.born()),
            state: connection.transitions().last().map(|(_, state)| state),
            connect: connection.connect_time(),
            accept_delay: connection.accept_delay(),
            counters: Counters::default(),
            since: Since::default(),
        };
        Some((open, connection.number))
    }

    /// The one in this place of what was found at the start, if it has had no event.
    pub(crate) fn found_at(&self, place: usize) -> Option<Open> {
        let (local, peer, netns, owner, incoming) = self.existing.at(place)?;
        Some(Open {
            id: None,
            wall: 0,
            local,
            peer,
            wire: match local.addr.is_ipv4() || peer.addr.is_ipv4() {
                true => Wire::Ipv4,
                false => Wire::Ipv6,
            },
            owner,
            netns: Some(netns),
            direction: match incoming {
                true => Direction::Incoming,
                false => Direction::Unknown,
            },
            start: None,
            state: None,
            connect: None,
            accept_delay: None,
            counters: Counters::default(),
            since: Since::default(),
        })
    }
}
