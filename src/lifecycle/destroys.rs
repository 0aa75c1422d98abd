//! Ends of connections that wait for what the kernel says of their sockets when
//! it has destroyed them ([`Destroyed`]).
//!
//! Contract: an end leaves here once: with the kernel's message, or without it
//! when it has waited long enough. The message is known by the socket's cookie,
//! which the last event of the socket tells; either may come first. Messages
//! about sockets without such an event are let go after a while.

use super::ended::Ended;
#[cfg(test)]
use crate::model::event::What;
use crate::model::event::{Destroyed, Event, Task};
use crate::model::hash::ByNumber;
use crate::model::table::{Table, TableByNumber};
use std::collections::VecDeque;

/// How long an end waits, in nanoseconds: a process may have to close the socket
/// first.
const PATIENCE: u64 = 1_000_000_000;

/// Messages that are kept in the hope for an event of their socket. Those beyond
/// are let go at once, and their connections lack what they have counted.
const EARLY: usize = 1 << 16;

/// An end that waits.
#[derive(Debug)]
struct Waiting {
    ended: Box<Ended>,
    /// The task on the CPU at the change to CLOSE.
    on_cpu: Task,
    /// The socket's cookie, once its last event has come.
    cookie: Option<u64>,
    /// Whether the task on the CPU was the same at that last event.
    same_task: bool,
}

/// An end that the kernel's message has come for.
#[derive(Debug)]
pub(super) struct DestroyedEnd {
    pub(super) ended: Box<Ended>,
    pub(super) destroyed: Destroyed,
    /// The task on the CPU, if it was the same at the change to CLOSE and when
    /// the socket was destroyed.
    pub(super) on_cpu: Option<Task>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Destroys {
    /// By the slot of the connection.
    waiting: TableByNumber<Waiting>,
    /// When each is due, its slot and its number.
    order: VecDeque<(u64, u32, u64)>,
    /// The slots of those of which only the message is missing.
    cookies: ByNumber<u64, u32>,
    /// Messages without an event, those of this time and of the one before.
    early: [TableByNumber<Destroyed>; 2],
    turned: u64,
}

impl Destroys {
    /// Lets an end wait that came with this event.
    #[inline(never)]
    pub(super) fn hold(&mut self, ended: Box<Ended>, event: &Event) {
        let (slot, number) = (ended.slot, ended.number);
        if self.order.len() > 2 * self.waiting.len() + 64 {
            let waiting = &self.waiting;
            self.order.retain(|(_, slot, number)| {
                let waits = waiting.get(*slot);
                waits.is_some_and(|w| w.ended.number == *number)
            });
        }
        self.order
            .push_back((event.time.saturating_add(PATIENCE), slot, number));
        self.waiting.insert(
            slot,
            Waiting {
                ended,
                on_cpu: event.on_cpu,
                cookie: None,
                same_task: false,
            },
        );
    }

    /// How much there is of anything.
    pub(super) fn held(&self) -> usize {
        let early: usize = self.early.iter().map(Table::len).sum();
        self.waiting.len() + self.order.len() + self.cookies.len() + early
    }

    /// Ends that wait.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether only the kernel's message is missing of one.
    pub(super) fn expects(&self) -> bool {
        !self.cookies.is_empty()
    }

    /// Takes the last event of the socket of the connection in a slot. Returns
    /// its end if the message was there already.
    pub(super) fn last_event(
        &mut self,
        slot: u32,
        cookie: u64,
        event: &Event,
    ) -> Option<DestroyedEnd> {
        let waiting = self.waiting.get_mut(slot)?;
        waiting.cookie = Some(cookie);
        waiting.same_task = waiting.on_cpu.tid == event.on_cpu.tid;
        self.cookies.insert(cookie, slot);
        let early = self.early.iter_mut().find_map(|e| e.remove(cookie))?;
        self.message(&early)
    }

    /// Lets go of the message about a socket that isn't known.
    pub(super) fn forget(&mut self, cookie: u64) {
        for early in &mut self.early {
            early.remove(cookie);
        }
    }

    /// Takes the kernel's message. Returns the end that waited for it.
    pub(super) fn message(&mut self, destroyed: &Destroyed) -> Option<DestroyedEnd> {
        let Some(slot) = self.cookies.remove(&destroyed.cookie) else {
            if self.early[0].len() < EARLY {
                self.early[0].insert(destroyed.cookie, *destroyed);
            }
            return None;
        };
        let waiting = self.waiting.remove(slot)?;
        Some(DestroyedEnd {
            ended: waiting.ended,
            destroyed: *destroyed,
            on_cpu: waiting.same_task.then_some(waiting.on_cpu),
        })
    }

    /// Says that no reset is waited for any more, if the end in this slot waits.
    pub(super) fn settle(&mut self, slot: u32) -> bool {
        let waiting = self.waiting.get_mut(slot);
        waiting.map(|w| w.ended.due = 0).is_some()
    }

    /// Whether the last event of the socket of the end in this slot has come.
    pub(super) fn is_destroyed(&self, slot: u32) -> bool {
        self.waiting.get(slot).is_some_and(|w| w.cookie.is_some())
    }

    /// Takes out the end in this slot, as it is.
    pub(super) fn take(&mut self, slot: u32) -> Option<Box<Ended>> {
        let waiting = self.waiting.remove(slot)?;
        if let Some(cookie) = waiting.cookie {
            self.cookies.remove(&cookie);
        }
        Some(waiting.ended)
    }

    /// The next end that has waited long enough at `now` on the event clock, or
    /// any (`u64::MAX`).
    #[inline]
    pub(super) fn next_due(&mut self, now: u64) -> Option<Box<Ended>> {
        if now != u64::MAX && now.saturating_sub(self.turned) > PATIENCE {
            self.turned = now;
            self.early.swap(0, 1);
            self.early[0].clear();
        }
        while self.order.front().is_some_and(|(due, ..)| *due <= now) {
            let (_, slot, number) = self.order.pop_front()?;
            let waits = self.waiting.get(slot);
            if waits.is_some_and(|w| w.ended.number == number) {
                return self.take(slot);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::tests::wire;
    use crate::lifecycle::Connections;
    use crate::model::ability::Abilities;
    use crate::model::event::{Counters, Sent};
    use crate::model::tcp::State;

    const TELLS: Abilities = Abilities::RESETS_SENT
        .union(Abilities::RESETS_RECEIVED)
        .union(Abilities::SYNACKS)
        .union(Abilities::FAILED_RETRANSMISSIONS)
        .union(Abilities::DESTROYS);

    fn said(cookie: u64, sent: u64) -> Destroyed {
        Destroyed {
            cookie,
            counters: Counters {
                sent: Some(Sent {
                    // With the SYN and the FIN.
                    acked: sent + 2,
                    ..Sent::default()
                }),
                bytes_received: Some(8),
                segments_sent: Some(3),
                ..Counters::default()
            },
            unread: 0,
        }
    }

    /// A change as it is told without BTF.
    fn state(time: u64, socket: u64, old: State, new: State, ports: (u16, u16)) -> Event {
        let bytes = wire(socket, old, new, ports);
        Event::decode(time, 0, &bytes, Abilities::empty()).expect("a valid event")
    }

    fn last(time: u64, socket: u64, cookie: u64) -> Event {
        Event {
            what: What::Destroyed { cookie },
            ..state(time, socket, State::Close, State::Close, (0, 0))
        }
    }

    /// Opens and closes a connection.
    fn live(table: &mut Connections, time: u64, socket: u64) {
        for (old, new) in [
            (State::Close, State::SynSent),
            (State::SynSent, State::Established),
            (State::Established, State::CloseWait),
            (State::CloseWait, State::LastAck),
            (State::LastAck, State::Close),
        ] {
            let event = state(time, socket, old, new, (4000, 80));
            table.prepare(&event);
            let time_wait = table.observe(&event, time).expect("room").time_wait;
            table.finish(&event, time, time_wait);
        }
    }

    /// The numbers of the ends that are due, with the bytes that were sent and
    /// received.
    fn due(table: &mut Connections, now: u64) -> Vec<(u64, Option<u64>, Option<u64>)> {
        let mut found = Vec::new();
        while let Some(ended) = table.next_ended(now) {
            let counters = ended.counters;
            found.push((ended.number, counters.bytes_sent, counters.bytes_received));
            table.release(ended);
        }
        found
    }

    #[test]
    fn the_message_comes_after_the_event_or_before_it() {
        let mut table = Connections::new(10, 10, 0, TELLS);
        live(&mut table, 1, 7);
        live(&mut table, 1, 8);
        table.last_word(&said(70, 100));
        assert_eq!(due(&mut table, 2), []);
        table.note(&last(2, 7, 70));
        table.note(&last(2, 8, 80));
        assert!(table.expects_last_word());
        // The peer's FIN counts as a byte.
        let all = AFTER_ALL;
        assert_eq!(due(&mut table, all), [(1, Some(100), Some(7))]);
        table.last_word(&said(80, 200));
        assert!(!table.expects_last_word());
        assert_eq!(due(&mut table, all), [(2, Some(200), Some(7))]);
        assert_eq!(due(&mut table, u64::MAX), []);
    }

    /// Later than a reset would be, sooner than patience ends.
    const AFTER_ALL: u64 = 100_000_000;

    #[test]
    fn an_address_used_again_does_not_take_the_counters_away() {
        let mut table = Connections::new(10, 10, 0, TELLS);
        live(&mut table, 1, 7);
        table.note(&last(2, 7, 70));
        live(&mut table, 3, 7);
        table.note(&last(4, 7, 71));
        table.last_word(&said(70, 100));
        table.last_word(&said(71, 200));
        let mut found = due(&mut table, AFTER_ALL);
        found.sort();
        assert_eq!(found, [(1, Some(100), Some(7)), (2, Some(200), Some(7))]);
    }

    #[test]
    fn patience_ends() {
        let mut table = Connections::new(10, 10, 0, TELLS);
        live(&mut table, 1, 7);
        assert_eq!(due(&mut table, PATIENCE), []);
        assert_eq!(due(&mut table, PATIENCE + 1), [(1, None, None)]);
        table.note(&last(PATIENCE + 2, 7, 70));
        table.last_word(&said(70, 100));
        assert_eq!(due(&mut table, u64::MAX), []);
        // Without the last event, a new connection ends it.
        live(&mut table, 1, 8);
        table.prepare(&state(2, 8, State::Close, State::SynSent, (0, 80)));
        assert_eq!(due(&mut table, 2), [(2, None, None)]);
    }

    #[test]
    fn what_was_cleared_is_not_told() {
        let mut table = Connections::new(10, 10, 0, TELLS);
        live(&mut table, 1, 7);
        table.note(&last(2, 7, 70));
        let mut cleared = said(70, 0);
        cleared.counters.segments_sent = Some(0);
        table.last_word(&cleared);
        assert_eq!(due(&mut table, AFTER_ALL), [(1, None, None)]);
    }

    #[test]
    fn messages_about_others_are_let_go() {
        let mut table = Connections::new(10, 10, 0, TELLS);
        let early = |t: &Connections| t.destroys.early.iter().map(Table::len).sum::<usize>();
        table.last_word(&said(1, 1));
        table.note(&last(1, 99, 1));
        assert_eq!(early(&table), 0);
        table.last_word(&said(2, 1));
        for times in 1..=2 {
            assert_eq!(early(&table), 1);
            due(&mut table, times * (PATIENCE + 1));
        }
        assert_eq!(early(&table), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut table = Connections::new(8, 8, 0, TELLS);
        for socket in 0..100 {
            live(&mut table, 1, socket);
            due(&mut table, 1);
            assert!(table.destroys.len() <= 4);
        }
        assert_eq!(table.seen(), 100);
    }
}
