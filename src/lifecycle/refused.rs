//! Sockets of connections that found no room.
//!
//! Contract: a connection that was turned away stays out to its end, whoever
//! leaves meanwhile: it is counted once, and has no part of a life told. Memory is
//! bounded; of sockets that it can't remember it only knows how many there are,
//! and until they have gone takes every one that is not known for one of them.

use crate::model::event::Event;
use crate::model::table::TableByNumber;

/// Sockets remembered at least, of 16 bytes each and what a table adds.
const LEAST: usize = 262_144;

/// Those sockets.
#[derive(Debug)]
pub(super) struct Refused {
    sockets: TableByNumber<()>,
    room: usize,
    more: u64,
}

impl Refused {
    /// None as yet, where so many connections have room.
    pub(super) fn new(room: usize) -> Refused {
        Refused {
            sockets: TableByNumber::default(),
            room: room.max(LEAST),
            more: 0,
        }
    }

    /// Whether an event that no connection begins with is of one of them; its
    /// CLOSE is the last.
    pub(super) fn has(&mut self, event: &Event) -> bool {
        match event.is_close() {
            true if self.sockets.remove(event.socket).is_some() => true,
            true => {
                let any = self.more > 0;
                self.more = self.more.saturating_sub(1);
                any
            }
            false => self.more > 0 || self.sockets.has(event.socket),
        }
    }

    /// The connection that this is the first event of finds no room.
    pub(super) fn add(&mut self, event: &Event) {
        if event.is_close() {
            self.sockets.remove(event.socket);
        } else if self.sockets.len() < self.room {
            self.sockets.insert(event.socket, ());
        } else if !self.sockets.has(event.socket) {
            self.more = self.more.saturating_add(1);
        }
    }

    /// The socket's address is that of another connection now.
    #[inline]
    pub(super) fn forget(&mut self, socket: u64) {
        if !self.sockets.is_empty() {
            self.sockets.remove(socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::tests::state;
    use crate::model::tcp::State;

    #[test]
    fn beyond_its_room_nobody_unknown_is_let_in() {
        let mut away = Refused {
            room: 2,
            ..Refused::new(0)
        };
        let opened = |s| state(0, s, State::Close, State::SynSent, (1, 80));
        let middle = |s| state(0, s, State::SynSent, State::Established, (1, 80));
        let closed = |s| state(0, s, State::SynSent, State::Close, (1, 80));
        for socket in 1..=4 {
            away.add(&opened(socket));
        }
        assert_eq!((away.sockets.len(), away.more), (2, 2));
        assert!((1..=5).all(|s| away.has(&middle(s))));
        assert!(away.has(&closed(1)) && away.has(&closed(3)));
        assert!(away.has(&middle(1)));
        assert!(away.has(&closed(4)));
        assert!(!away.has(&middle(1)) && !away.has(&closed(3)));
        assert!(away.has(&middle(2)));
        away.forget(2);
        assert!(!away.has(&middle(2)));
    }
}
