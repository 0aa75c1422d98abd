//! Children that never were connections: two CPUs have each made a socket of one
//! handshake, and the kernel drops the one that comes second, from SYN_RECV to
//! CLOSE without a word to the peer (v6.12 net/ipv4/tcp_ipv4.c,
//! tcp_v4_syn_recv_sock(); inet_hashtables.c, inet_ehash_nolisten()).
//!
//! Contract: it is told by the other one, which has the same ends and began in the
//! same moment. Up to Linux 6.12 a child has its ends only when it is opened, which
//! may be after the other's end: the one that ended so last waits for that.

use super::connection::{Connection, Direction, Seen};
use super::{AFTERMATH, Connections};
use crate::model::event::What;
use crate::model::tcp::State;

impl Connection {
    fn is_child(&self) -> bool {
        self.began() && self.direction() == Direction::Incoming
    }

    /// Whether both are listeners' children that began in one moment with the same
    /// ends, and not one and the same.
    fn is_twin_of(&self, other: &Connection) -> bool {
        self.number != other.number
            && self.first().abs_diff(other.first()) < AFTERMATH
            && self.is_child()
            && other.is_child()
            && (self.local(), self.peer()) == (other.local(), other.peer())
            && self.netns() == other.netns()
    }
}

impl Connections {
    /// Takes the end of a connection, with its `sk_err`. Whether another one may
    /// still come to be known that this was a second socket of.
    #[inline]
    pub(super) fn end_of_child(&mut self, slot: u32, error: Option<i32>) -> bool {
        let child = &self.slots[slot];
        // A peer could have many reset by TCP Fast Open.
        let reset = Seen::RESET_RECEIVED | Seen::RESET_SENT;
        let dropped = child.last == Some(State::SynRecv)
            && child.is_child()
            && matches!(error, None | Some(0))
            && !child.seen.intersects(reset);
        if !dropped {
            return false;
        }
        // It happens seldom, so that it may take a while. The other one may have ended.
        let raced = self.slots.iter().any(|other| other.is_twin_of(child));
        self.dropped = slot;
        self.slots[slot].seen.set(Seen::RACED, raced);
        !raced
    }

    /// Takes an event of the connection in this place: one that is opened may be the
    /// first socket of what has ended.
    #[inline]
    pub(super) fn opened_child(&mut self, slot: u32, what: What) {
        let opens = matches!(
            what,
            What::State {
                old: State::SynRecv,
                new: State::Established,
            }
        );
        if opens {
            self.opened(slot);
        }
    }

    #[inline(never)]
    fn opened(&mut self, slot: u32) {
        let (dropped, opened) = (&self.slots[self.dropped], &self.slots[slot]);
        // It may be another one's place by now.
        let raced = dropped.last == Some(State::SynRecv) && dropped.is_twin_of(opened);
        if raced {
            self.slots[self.dropped].seen |= Seen::RACED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ALL;
    use super::*;
    use crate::bpf::wire::tests::state;
    use crate::model::cause::Cause;

    const MS: u64 = 1_000_000;
    const ENDS: (u16, u16) = (80, 4000);
    /// As a child is told up to Linux 6.12, before it is opened.
    const HALF: (u16, u16) = (80, 0);

    type Step = (u64, u64, State, State, (u16, u16));

    /// The causes of those that ended, in the order of their beginnings.
    fn causes(steps: &[Step]) -> (Vec<Option<Cause>>, u64) {
        let mut table = Connections::new(10, 10, 0, ALL);
        for &(time, socket, old, new, ports) in steps {
            let event = state(time, socket, old, new, ports);
            let seen = table.observe(&event, time).expect("room");
            seen.connection.mark_shown();
            let time_wait = seen.time_wait;
            table.finish(&event, time, time_wait);
        }
        let mut all = Vec::new();
        while let Some(ended) = table.next_ended(u64::MAX) {
            all.push((ended.number, table.get(&ended).1.cause()));
            table.release(ended);
        }
        all.sort_by_key(|(number, _)| *number);
        let causes = all.into_iter().map(|(_, cause)| cause).collect();
        (causes, table.totals().opened)
    }

    use State::{Close, Established, Listen, SynRecv};

    #[test]
    fn a_second_socket_of_one_handshake_is_no_connection() {
        // Whole from the first event on, as since 6.13; and before.
        for ends in [ENDS, HALF] {
            let steps = [
                (MS, 1, Listen, SynRecv, ends),
                (MS + 5, 2, Listen, SynRecv, ends),
                (MS + 200_000, 2, SynRecv, Close, ENDS),
                (MS + 300_000, 1, SynRecv, Established, ENDS),
            ];
            let (causes, opened) = causes(&steps);
            assert_eq!(causes, [Some(Cause::Duplicate)], "{ends:?}");
            assert_eq!(opened, 1);
        }
    }

    #[test]
    fn whatever_else_is_near_is_none() {
        let end = (MS + 200_000, 2, SynRecv, Close, ENDS);
        let late = 20 * MS;
        for steps in [
            // Alone.
            &[(MS, 2, Listen, SynRecv, HALF), end][..],
            // Beside one with another peer.
            &[
                (MS, 1, Listen, SynRecv, (80, 4001)),
                (MS + 5, 2, Listen, SynRecv, ENDS),
                end,
                (MS + 300_000, 1, SynRecv, Established, (80, 4001)),
            ],
            // The peer came again from the same port.
            &[
                (MS, 2, Listen, SynRecv, ENDS),
                end,
                (late, 1, Listen, SynRecv, ENDS),
                (late + 5, 1, SynRecv, Established, ENDS),
            ],
            // The other end of the same connection, on loopback.
            &[
                (MS, 1, Close, State::SynSent, (0, 80)),
                (MS + 5, 2, Listen, SynRecv, ENDS),
                end,
            ],
        ] {
            let (causes, _) = causes(steps);
            assert_eq!(causes.len(), 1, "{steps:?}");
            assert_ne!(causes, [Some(Cause::Duplicate)], "{steps:?}");
        }
    }
}
