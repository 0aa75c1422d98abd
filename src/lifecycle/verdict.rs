//! What is said of a connection that has ended, from all that is known of it.
//!
//! Contract: this is the last look at it, when no more is to come; what isn't
//! known is left out, or [`crate::model::cause::Cause::Unknown`].
//!
//! An end is not whole where this host's socket went before the peer's FIN came:
//! an orphan in FIN_WAIT2 is swapped for a time-wait socket (v6.12
//! net/ipv4/tcp.c, __tcp_close()), and what the peer does then, such as sending
//! what this host answers with a reset (tcp_minisocks.c,
//! tcp_timewait_state_process()), belongs to no socket any more.

use super::cause::{Facts, acknowledged, cause};
use super::connection::{Connection, Direction, Seen};
use super::resent::Life;
use super::{Connections, Ended, sent};
use crate::model::ability::Abilities;
use crate::model::cause::Cause;
use crate::model::event::Counters;
use crate::model::tcp::State;

impl Connections {
    /// The next connection that has ended and of which all is known that will
    /// be by `now` on the event clock. It stays valid until it is given to
    /// [`Connections::release`].
    #[inline]
    pub fn next_ended(&mut self, now: u64) -> Option<Box<Ended>> {
        if self.tells.contains(Abilities::DESTROYS) {
            self.hasten_due(now);
        }
        while self.ended.front().is_some_and(|e| e.due <= now) {
            let mut ended = self.ended.pop_front()?;
            if self.slots[ended.slot].number != ended.number {
                continue;
            }
            self.judge(&mut ended);
            return Some(ended);
        }
        None
    }

    /// Waits no longer for the kernel's last word on those that are due.
    #[inline(never)]
    fn hasten_due(&mut self, now: u64) {
        while let Some(mut ended) = self.destroys.next_due(now) {
            ended.due = 0;
            self.ended.push_front(ended);
        }
    }

    #[inline]
    fn judge(&mut self, ended: &mut Ended) {
        let facts = self.facts(ended.slot, &ended.counters);
        let tells = self.tells;
        let connection = &mut self.slots[ended.slot];
        let counters = &mut ended.counters;
        if let Some(sent) = counters.sent.filter(|_| !connection.began()) {
            connection.learn_direction(sent::opened_by(facts.from, &sent));
        }
        let direction = connection.direction();
        counters.bytes_sent = counters
            .sent
            .and_then(|sent| sent::bytes(facts.from, direction, &sent));
        let synacks_seen = direction == Direction::Outgoing
            || tells.contains(Abilities::SYNACKS) && !self.requests.miss(connection.first());
        ended.resent = connection.resent.counts(&Life {
            whole: connection.began() && synacks_seen,
            established: connection.is_open(),
            total: counters.retransmits,
        });
        let sent = counters.segments_sent;
        counters.segments_sent = sent.and_then(|n| {
            let again = ended.resent.synack;
            sent::segments(direction, n, again)
        });
        counters.bytes_retransmitted = counters
            .bytes_retransmitted
            .filter(|_| !ended.resent.with_failed);
        let cause = cause(&facts);
        connection.cause = Some(cause);
        if facts.reset_sent.is_some() && ended.time_wait.is_none() {
            ended.time_wait = Some(false);
        }
        let unseen = facts.from == State::FinWait2
            && cause == Cause::ClosedByUs
            && facts.fin_received == Some(false);
        ended.end_seen = unseen.then_some(false);
    }

    /// What is known of a connection that has ended, and had counted so much.
    #[inline]
    pub(super) fn facts(&self, slot: u32, counters: &Counters) -> Facts {
        let (connection, tells) = (&self.slots[slot], &self.tells);
        let from = connection.last.unwrap_or(State::Close);
        let reason = connection.reset_reason();
        let reason = reason.and_then(|n| self.reasons.iter().find(|(known, _)| *known == n));
        let again = connection.resent.any() || counters.retransmits.is_some_and(|n| n > 0);
        Facts {
            from,
            queued: queued(from, connection, counters, tells.contains(Abilities::LOCK)),
            raced: connection.seen.contains(Seen::RACED),
            has_port: connection.local().port != 0,
            error: counters.error,
            acknowledged: acknowledged(counters),
            in_flight: counters.sent.map(|sent| sent.in_flight > 0),
            fin_received: counters.fin_received,
            reset_sent: connection.reset(),
            tells_sent: tells.contains(Abilities::RESETS_SENT),
            reason: reason.map(|(_, says)| *says),
            reset_received: connection.seen.contains(Seen::RESET_RECEIVED),
            tells_received: tells.contains(Abilities::RESETS_RECEIVED),
            retransmitted: match again {
                true => Some(true),
                false => tells
                    .contains(Abilities::FAILED_RETRANSMISSIONS)
                    .then_some(false),
            },
        }
    }
}

/// Whether it was in a listener's queue to its end. `lock` tells whether a
/// process's own doing is known as such.
#[inline]
fn queued(from: State, connection: &Connection, counters: &Counters, lock: bool) -> Option<bool> {
    let queue = matches!(from, State::SynRecv | State::Established | State::CloseWait);
    let seen = |flag| connection.seen.contains(flag);
    let owned = seen(Seen::OWNED) || lock && seen(Seen::BY_TASK);
    if !queue || owned || connection.direction() == Direction::Outgoing {
        return Some(false);
    }
    match counters.has_socket {
        Some(true) => Some(false),
        // Accepted and closed by its process it would not be in these states. A
        // subflow of MPTCP would, if it is closed with data unread (v6.12
        // net/mptcp/protocol.c, __mptcp_close_ssk()): by a task that has the lock.
        Some(false) => Some(true),
        None => None,
    }
}
