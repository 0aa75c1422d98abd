//! How a connection ends: from its change to CLOSE until its record is due.
//!
//! Contract: an end waits where more may be told of it, and its place is another's only
//! when its record was made.

use super::cause::acknowledged;
use super::connection::Seen;
use super::{AFTERMATH, Connection, Connections, Ended, SocketId};
use crate::model::ability::Abilities;
use crate::model::event::Event;
use crate::model::tcp::State;
use crate::sys::copy::put;

/// Boxes of ends that are kept to be used again.
const SPARE: usize = 256;

impl Connections {
    /// Says that the event given to [`Connections::observe`] is dealt with: a
    /// connection that it closed has ended.
    #[inline]
    pub fn finish(&mut self, event: &Event, wall: u64, time_wait: Option<bool>) {
        if !event.is_close() {
            return;
        }
        let Some(slot) = self.by_socket.get(event.socket) else {
            return;
        };
        let connection = &mut self.slots[slot];
        if connection.is_listener() {
            self.forget(slot, None);
            return;
        }
        connection.seen |= Seen::ENDED;
        let raced = self.end_of_child(slot, event.counters.error);
        let connection = &self.slots[slot];
        // In order, or without a reset: nothing more will come.
        let orderly = match connection.last {
            Some(State::SynSent) => true,
            Some(State::LastAck | State::Closing) => acknowledged(&event.counters) == Some(true),
            Some(State::FinWait2) => event.counters.fin_received == Some(true),
            _ => false,
        };
        let now = orderly || !raced && !self.tells.contains(Abilities::RESETS_SENT);
        let due = match now {
            true => 0,
            false => event.time.saturating_add(AFTERMATH),
        };
        let number = connection.number;
        let mut ended = self.spare.pop().unwrap_or_default();
        (ended.slot, ended.number, ended.due) = (slot, number, due);
        (ended.wall, ended.time_wait, ended.end_seen) = (wall, time_wait, None);
        put(&mut ended.counters, &event.counters);
        match self.tells.contains(Abilities::DESTROYS) {
            true => self.destroys.hold(ended, event),
            false => self.queue(ended),
        }
        // An end without a record is not to be let go.
        if self.ended.len() + self.destroys.len() > self.room / 2 {
            self.end_all();
        }
    }

    /// Lets no end wait any longer.
    #[cold]
    #[inline(never)]
    fn end_all(&mut self) {
        while let Some(ended) = self.destroys.next_due(u64::MAX) {
            self.ended.push_back(ended);
        }
        self.ended.iter_mut().for_each(|e| e.due = 0);
    }

    /// Puts an end where its turn is.
    #[inline]
    pub(super) fn queue(&mut self, ended: Box<Ended>) {
        match ended.due {
            0 => self.ended.push_front(ended),
            _ => self.ended.push_back(ended),
        }
    }

    pub(super) fn hasten(&mut self, slot: u32) {
        if let Some(mut ended) = self.destroys.take(slot) {
            ended.due = 0;
            return self.ended.push_front(ended);
        }
        if let Some(at) = self.ended.iter().position(|e| e.slot == slot) {
            if let Some(mut ended) = self.ended.remove(at) {
                ended.due = 0;
                self.ended.push_front(ended);
            }
        }
    }

    /// Whether [`Connections::next_ended`] may have one, or has something to do.
    #[inline(always)]
    pub fn may_end(&self, now: u64) -> bool {
        self.tells.contains(Abilities::DESTROYS) || self.ended.front().is_some_and(|e| e.due <= now)
    }

    /// Makes room for an event: an end of its socket that still waits is due.
    #[inline]
    pub fn prepare(&mut self, event: &Event) {
        if self.ended.is_empty() && self.destroys.len() == 0 {
            return;
        }
        if let Some(slot) = self.by_socket.get(event.socket) {
            let ended = self.slots[slot].seen.contains(Seen::ENDED);
            if ended && event.is_line() && self.is_other(event, slot) {
                match self.destroys.is_destroyed(slot) {
                    true => self.by_socket.remove(event.socket),
                    false => self.hasten(slot),
                }
            }
        }
    }

    /// The connection that has ended.
    #[inline]
    pub fn get(&self, ended: &Ended) -> (SocketId, &Connection) {
        (self.id(ended.number), &self.slots[ended.slot])
    }

    /// Remembers that its record is shown.
    #[inline]
    pub fn mark_shown(&mut self, ended: &Ended) {
        self.slots[ended.slot].mark_shown();
    }

    /// Makes its place available to others.
    #[inline]
    pub fn release(&mut self, ended: Box<Ended>) {
        self.forget(ended.slot, Some(&ended));
        if self.spare.len() < SPARE {
            self.spare.push(ended);
        }
    }
}
