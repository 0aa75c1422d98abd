//! Connections before they have a socket: SYN+ACKs that were sent again.
//!
//! Contract: at most [`PLACES`] are held, the oldest making room. A request socket is
//! found by its ends and its network namespace, and handed out once.

use crate::model::event::Event;
use crate::model::tcp::Endpoint;

/// How long the kernel goes on sending SYN+ACKs again, in nanoseconds: more than
/// net.ipv4.tcp_synack_retries of 5 takes.
const LIFETIME: u64 = 128_000_000_000;

/// Request sockets held at once.
const PLACES: usize = 128;

/// A connection of which only retransmitted SYN+ACKs are known.
#[derive(Debug)]
pub(super) struct RequestSock {
    local: Endpoint,
    peer: Endpoint,
    netns: Option<u32>,
    /// The number that the connection will have.
    pub number: u64,
    /// SYN+ACKs sent again.
    pub synacks: u32,
    /// Whether one of them was shown.
    pub shown: bool,
}

impl RequestSock {
    fn is_of(&self, event: &Event) -> bool {
        self.local == event.local && self.peer == event.peer && self.netns == event.netns
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct RequestSocks {
    places: Vec<RequestSock>,
    next: usize,
    /// Until when connections may begin that one was let go of.
    missed: u64,
}

impl RequestSocks {
    /// Counts a SYN+ACK; `number` is for a connection that is new.
    pub(super) fn count(&mut self, event: &Event, number: u64) -> &mut RequestSock {
        let at = match self.places.iter().position(|e| e.is_of(event)) {
            Some(at) => at,
            None => {
                let new = RequestSock {
                    local: event.local,
                    peer: event.peer,
                    netns: event.netns,
                    number,
                    synacks: 0,
                    shown: false,
                };
                if self.places.len() < PLACES {
                    self.places.push(new);
                    self.places.len() - 1
                } else {
                    self.next = (self.next + 1) % PLACES;
                    self.missed = event.time.saturating_add(LIFETIME);
                    self.places[self.next] = new;
                    self.next
                }
            }
        };
        self.places[at].synacks += 1;
        &mut self.places[at]
    }

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether SYN+ACKs of a connection that began then may be missing.
    #[inline]
    pub(super) fn miss(&self, start: u64) -> bool {
        start <= self.missed && self.missed > 0
    }

    /// Takes the one with the ends of this event.
    #[inline]
    pub(super) fn take(&mut self, event: &Event) -> Option<RequestSock> {
        let at = self.places.iter().position(|e| e.is_of(event))?;
        Some(self.places.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::tests::state;
    use crate::model::tcp::State;

    fn synack(peer: u16) -> Event {
        state(1, 1, State::Listen, State::SynRecv, (80, peer))
    }

    #[test]
    fn they_are_told_apart_by_ends_and_namespace() {
        let mut requests = RequestSocks::default();
        let one = synack(4000);
        let other = Event {
            netns: Some(9),
            ..one
        };
        assert_eq!(requests.count(&one, 1).number, 1);
        assert_eq!(requests.count(&other, 2).number, 2);
        assert_eq!(requests.count(&one, 3).number, 1);
        let taken = requests.take(&one).map(|e| (e.number, e.synacks));
        assert_eq!(taken, Some((1, 2)));
        assert!(requests.take(&one).is_none());
        assert!(requests.take(&other).is_some());
    }

    #[test]
    fn they_are_bounded() {
        let mut requests = RequestSocks::default();
        for peer in 1..=1000 {
            requests.count(&synack(peer), u64::from(peer));
        }
        assert_eq!(requests.places.len(), PLACES);
        assert!(requests.take(&synack(1000)).is_some());
        assert!(requests.take(&synack(1)).is_none());
        assert!(requests.miss(LIFETIME) && !requests.miss(LIFETIME + 2));
        assert!(!RequestSocks::default().miss(0));
    }
}
