//! Connections of which recorded lines tell, and not events of now.
//!
//! Contract: what a record says of its connection is taken as it is: who made it
//! knew more than lines hold. Where lines of the connection's changes are missing,
//! its states and their times are those of the record. A connection that was
//! closed and has no record ended for an unknown reason.

use super::connection::{Connection, Direction, Seen};
use super::id::RUN;
use super::resent::Counts;
use super::{Connections, Ended, SocketId};
use crate::model::ability::Abilities;
use crate::model::cause::Cause;
use crate::model::event::{Counters, Event, What};
use crate::model::sort;
use crate::model::tcp::{Endpoint, State};

/// What the record of a connection says of its life.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Who opened it.
    pub(crate) direction: Direction,
    /// When it began, in nanoseconds since the epoch.
    pub(crate) start: Option<u64>,
    /// How long it lived.
    pub(crate) duration: Option<u64>,
    /// From ESTABLISHED to the accept.
    pub(crate) accept_delay: Option<u64>,
    /// Whether it was open before the start.
    pub(crate) existed: bool,
    /// Why it ended.
    pub(crate) cause: Cause,
    /// Whether its end was seen.
    pub(crate) end_seen: Option<bool>,
    /// Whether the kernel entered TIME_WAIT.
    pub(crate) time_wait: Option<bool>,
    /// Its states in their order, and the nanoseconds in each.
    pub(crate) states: Vec<(State, u64)>,
    /// What it had counted.
    pub(crate) counters: Counters,
    /// What was sent again.
    pub(crate) resent: Counts,
    /// What the host told of it.
    pub(crate) tells: Abilities,
}

impl Connections {
    /// What the connection is called here that was called so by the run that recorded
    /// it. Another host's can have the same name: its local address tells.
    pub(crate) fn recall_id(&mut self, (run, number): (u64, u64), local: &Endpoint) -> SocketId {
        let number = number & ((1 << RUN) - 1);
        let mut all = 0..self.runs.len().min(1 << (u64::BITS - RUN));
        let found = all.rfind(|at| {
            let known = self.by_socket.get((*at as u64) << RUN | number);
            let known = known.map(|slot| self.slots[slot].local().addr);
            let unknown = known.is_some_and(|addr| addr.is_unspecified());
            let fits = known.is_none_or(|addr| addr == local.addr);
            self.runs.get(*at) == Some(&run) && (fits || unknown || local.addr.is_unspecified())
        });
        let at = found.unwrap_or_else(|| {
            self.runs.push(run);
            self.runs.len() - 1
        });
        self.id((at as u64) << RUN | number)
    }

    /// Whether something is known of the connection of this name.
    pub(crate) fn has(&self, id: SocketId) -> bool {
        self.by_socket.get(id.number).is_some()
    }

    fn recalled(&mut self, event: &Event) -> Option<u32> {
        if let Some(slot) = self.by_socket.get(event.socket) {
            return Some(slot);
        }
        if self.by_socket.len() >= self.room {
            self.recall_rest();
        }
        self.insert(event, event.time)
    }

    /// As [`Connections::observe`], of a recorded event, of which so many segments are
    /// told; its socket is the number of its connection.
    pub(crate) fn recall(
        &mut self,
        event: &Event,
        segments: Option<u32>,
        time_wait: Option<bool>,
    ) -> Option<&mut Connection> {
        let slot = self.recalled(event)?;
        let connection = &mut self.slots[slot];
        connection.number = event.socket;
        connection.complete(event);
        if let What::State {
            new: State::SynRecv | State::Established,
            ..
        } = event.what
        {
            if let Some(request_sock) = self.requests.take(event) {
                connection.inherit(request_sock.synacks, request_sock.shown);
            }
        }
        connection.recall_line(event, segments, time_wait);
        Some(connection)
    }

    /// Takes the end of a connection that was recorded, and an event of it at that
    /// time; `None` where there is no room for it. Whether nothing of it was known
    /// before.
    pub(crate) fn recall_end(&mut self, event: &Event, told: &Told) -> Option<(Box<Ended>, bool)> {
        let known = self.by_socket.get(event.socket).is_some();
        let slot = self.recalled(event)?;
        let connection = &mut self.slots[slot];
        connection.number = event.socket;
        connection.complete(event);
        connection.recall_life(event, told);
        self.birth_missed -= u64::from(!known && (told.existed || told.start.is_some()));
        let mut ended = self.spare.pop().unwrap_or_default();
        *ended = Ended {
            slot,
            number: event.socket,
            due: 0,
            wall: event.time,
            counters: told.counters,
            time_wait: told.time_wait,
            resent: told.resent,
            end_seen: told.end_seen,
        };
        Some((ended, !known))
    }

    /// The reason of a reset by which a connection has ended.
    pub(crate) fn recall_reason(&mut self, ended: &Ended, reason: u32) {
        self.slots[ended.slot].recall_reason(reason);
    }

    /// What was closed and has no record has ended; a listener that was closed is
    /// none any more.
    pub(crate) fn recall_rest(&mut self) {
        let slots = self.by_socket.values();
        let closed = |slot: &u32| self.slots[*slot].last.is_some();
        let mut slots: Vec<u32> = slots.filter(closed).collect();
        sort::by_key(&mut slots, |slot| self.slots[*slot].number);
        for slot in slots {
            let connection = &mut self.slots[slot];
            if !connection.seen.contains(Seen::LISTENER) {
                connection.cause = Some(Cause::Unknown);
            }
            self.forget(slot, None);
        }
    }
}
