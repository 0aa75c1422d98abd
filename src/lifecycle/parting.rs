//! The kernel's last word on a connection, taken into its record.

use super::Connections;
use super::cause::fin_received;
use super::connection::Seen;
use super::destroys::DestroyedEnd;
use crate::model::ability::Abilities;
use crate::model::event::{Counters, Destroyed, Event, Task};

impl Connections {
    /// How much there is of anything: what memory it takes.
    pub fn held(&self) -> usize {
        let slots = self.slots.len() + self.free.len() + self.history.len();
        slots + self.by_socket.len() + self.ended.len() + self.destroys.held()
    }

    /// From now on the kernel has a last word on every connection.
    pub fn expect_destroys(&mut self) {
        self.tells |= Abilities::DESTROYS;
    }

    /// Takes the last event of a socket.
    pub(super) fn destroyed(&mut self, slot: Option<u32>, cookie: u64, event: &Event) {
        let is_ended = |slot: &u32| self.slots[*slot].seen.contains(Seen::ENDED);
        let Some(slot) = slot.filter(is_ended) else {
            return self.destroys.forget(cookie);
        };
        if let Some(destroyed_end) = self.destroys.last_event(slot, cookie, event) {
            self.take_destroyed(destroyed_end);
        }
    }

    /// Takes the kernel's last word on a socket.
    pub fn last_word(&mut self, destroyed: &Destroyed) {
        if let Some(destroyed_end) = self.destroys.message(destroyed) {
            self.take_destroyed(destroyed_end);
        }
    }

    /// Whether the kernel's last word on a connection is about to come.
    pub fn expects_last_word(&self) -> bool {
        self.destroys.expects()
    }

    fn take_destroyed(&mut self, destroyed_end: DestroyedEnd) {
        let (mut ended, said) = (destroyed_end.ended, destroyed_end.destroyed);
        let connection = &self.slots[ended.slot];
        let owner = connection.owner().map(|owner| owner.task.pid);
        // The idle task owns nothing.
        let not_its_own = |task: Task| task.tid == 0 || owner.is_some_and(|pid| pid != task.pid);
        let orphan = match destroyed_end.on_cpu {
            Some(task) if not_its_own(task) => Some(true),
            Some(_) => None,
            None => Some(false),
        };
        let unread = self
            .tells
            .contains(Abilities::RESETS_SENT)
            .then_some(said.unread);
        let facts = self.facts(ended.slot, &ended.counters);
        let reset = facts.reset_sent.is_some() || facts.reset_received;
        let fin = fin_received(facts.from, reset, unread, orphan);
        // connect() that fails, and connect() to AF_UNSPEC, clear all counters
        // (v6.12 net/ipv4/tcp.c, tcp_disconnect()); what sent nothing has none.
        if said.counters.segments_sent != Some(0) {
            let received = said.counters.bytes_received.zip(fin);
            ended.counters = Counters {
                error: ended.counters.error,
                bytes_received: received.map(|(bytes, fin)| bytes.saturating_sub(fin.into())),
                fin_received: fin,
                has_socket: ended.counters.has_socket,
                time_wait_room: ended.counters.time_wait_room,
                ..said.counters
            };
        }
        self.queue(ended);
    }
}
