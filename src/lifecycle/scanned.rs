//! What the search at the start found, taken into the table of connections.

use super::Connections;
use super::adopt::ask;
use super::connection::Direction;
use super::existing::{Ends, Existing};
use crate::model::event::Owner;
use crate::model::tcp::Endpoint;
use std::ops::RangeInclusive;

impl Connections {
    /// A scan begins that finds connections that exist; `time` is on the event
    /// clock.
    pub fn begin_scan(&mut self, time: u64) {
        self.existing.begin(time);
    }

    /// Takes one that it found; the number to call it by, `None` where there is
    /// no room.
    pub fn adopt(&mut self, found: &Existing) -> Option<u32> {
        self.existing.add(found)
    }

    /// There is a listener at this address of a network namespace.
    pub fn adopt_listener(&mut self, netns: u32, local: Endpoint) {
        self.existing.listening(netns, local);
    }

    /// The kernel chooses ports from this range in a network namespace.
    pub fn adopt_ports(&mut self, netns: u32, range: RangeInclusive<u16>) {
        self.existing.ports(netns, range);
    }

    /// Says whose it is, where that isn't known better.
    pub fn adopt_owner(&mut self, number: u32, owner: &Owner) {
        let Some((socket, number)) = self.existing.own(number, owner) else {
            return;
        };
        let time = self.existing.begun();
        let slot = self.by_socket.get(socket);
        let connection = slot.and_then(|slot| self.slots.get_mut(slot as usize));
        if let Some(connection) = connection.filter(|c| c.number == number) {
            connection.find_owner(owner, time);
        }
    }

    /// The scan is done, and all events that happened before its end have been
    /// observed: what is open now was open then.
    pub fn end_scan(&mut self) {
        self.existing.complete();
        for slot in self.by_socket.values() {
            let connection = &mut self.slots[slot];
            let existed = ask(&mut self.existing, connection, u64::MAX, false);
            self.birth_missed = self.birth_missed.saturating_sub(u64::from(existed));
        }
        for (socket, number) in self.existing.incoming() {
            let slot = self.by_socket.get(socket);
            let connection = slot.and_then(|slot| self.slots.get_mut(slot as usize));
            if let Some(connection) = connection.filter(|c| c.number == number) {
                connection.learn_direction(Direction::Incoming);
            }
        }
    }

    /// Connections that were open before the start, and of which no event has
    /// come, among those of which `matches` is true of both ends and the owner.
    pub fn untouched(&self, matches: &dyn Fn(Ends<'_>, Option<&Owner>) -> bool) -> u64 {
        let found = self.existing.untouched();
        found
            .filter(|(ends, owner)| matches(*ends, owner.as_ref()))
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::tests::{owner, state};
    use crate::lifecycle::existing::Seen as At;
    use crate::model::ability::Abilities;
    use crate::model::event::Event;
    use crate::model::event::OwnerSource;
    use crate::model::tcp::State;

    const ESTABLISHED: State = State::Established;

    /// A connection with these ends as [`state`]'s, seen from 100 to 200.
    fn found(ports: (u16, u16)) -> Existing {
        let event = state(0, 0, ESTABLISHED, State::FinWait1, ports);
        Existing {
            netns: event.netns.unwrap_or(0),
            local: event.local,
            peer: event.peer,
            state: ESTABLISHED,
            seen: At {
                start: 100,
                end: 200,
            },
        }
    }

    /// A table after a scan that found these, number i of process i + 1.
    fn scanned(all: &[Existing]) -> Connections {
        let mut table = Connections::new(10, 10, 0, Abilities::empty());
        table.begin_scan(0);
        for (i, found) in all.iter().enumerate() {
            let number = table.adopt(found).expect("room");
            let pid = i as u32 + 1;
            table.adopt_owner(number, &owner(pid, OwnerSource::Snapshot));
        }
        table
    }

    /// The owner's process and whether it existed, as the event found it.
    fn feed(table: &mut Connections, event: &Event) -> (Option<u32>, bool) {
        let seen = table.observe(event, event.time).expect("room");
        let connection = seen.connection;
        let told = (connection.owner().map(|o| o.task.pid), connection.existed());
        table.finish(event, event.time, None);
        while let Some(ended) = table.next_ended(u64::MAX) {
            table.release(ended);
        }
        told
    }

    fn untouched(table: &Connections) -> u64 {
        table.untouched(&|_, _| true)
    }

    #[test]
    fn an_open_connection_is_known_at_its_first_event() {
        let mut table = scanned(&[found((1, 80)), found((2, 80))]);
        table.end_scan();
        let first = state(300, 7, ESTABLISHED, State::CloseWait, (2, 80));
        assert_eq!(feed(&mut table, &first), (Some(2), true));
        let last = state(400, 7, State::LastAck, State::Close, (2, 80));
        assert_eq!(feed(&mut table, &last), (Some(2), true));
        assert_eq!(untouched(&table), 1);
        // Its ends again: another one.
        let again = state(500, 7, State::SynSent, ESTABLISHED, (2, 80));
        assert_eq!(feed(&mut table, &again), (None, false));
    }

    #[test]
    fn what_opened_or_closed_during_the_scan_is_not_doubled() {
        let mut table = scanned(&[found((1, 80)), found((2, 80)), found((3, 80))]);
        // Opened and seen, still open.
        let open = state(10, 1, State::Close, State::SynSent, (0, 80));
        assert_eq!(feed(&mut table, &open), (None, false));
        let open = state(20, 1, State::SynSent, ESTABLISHED, (1, 80));
        assert_eq!(feed(&mut table, &open), (None, false));
        // Closed after it was seen.
        let close = state(210, 2, State::FinWait2, State::Close, (2, 80));
        assert_eq!(feed(&mut table, &close), (Some(2), true));
        // Events before it was seen, and none after.
        let early = state(50, 3, ESTABLISHED, State::CloseWait, (3, 80));
        assert_eq!(feed(&mut table, &early), (None, false));
        table.end_scan();
        assert_eq!(untouched(&table), 0);
        // The scan knew the owner better than the events.
        let next = state(400, 1, ESTABLISHED, State::CloseWait, (1, 80));
        assert_eq!(feed(&mut table, &next), (Some(1), false));
        let next = state(400, 3, State::CloseWait, State::LastAck, (3, 80));
        assert_eq!(feed(&mut table, &next), (Some(3), true));
    }

    #[test]
    fn an_owner_that_is_found_late_is_still_given() {
        let mut table = Connections::new(10, 10, 0, Abilities::empty());
        table.begin_scan(0);
        let number = table.adopt(&found((1, 80))).expect("room");
        let early = state(250, 3, ESTABLISHED, State::CloseWait, (1, 80));
        assert_eq!(feed(&mut table, &early), (None, true));
        table.adopt_owner(number, &owner(9, OwnerSource::Snapshot));
        table.end_scan();
        let next = state(400, 3, State::CloseWait, State::LastAck, (1, 80));
        assert_eq!(feed(&mut table, &next), (Some(9), true));
    }

    #[test]
    fn who_opened_it_is_told_by_listeners_and_ports() {
        let unspecified = |port| Endpoint {
            addr: [0, 0, 0, 0].into(),
            port,
        };
        let all = [(22, 4000), (8080, 40_000), (40_001, 80), (8081, 9000)].map(found);
        let mut table = Connections::new(10, 10, 0, Abilities::empty());
        table.begin_scan(0);
        all.iter().for_each(|found| {
            table.adopt(found);
        });
        let netns = all[0].netns;
        table.adopt_listener(netns, unspecified(22));
        // Of another namespace.
        table.adopt_listener(netns + 1, unspecified(8081));
        table.adopt_ports(netns, 32_768..=60_999);
        // One has had its event before that was known.
        let told = |table: &mut Connections, time, socket, ports| {
            let event = state(time, socket, ESTABLISHED, State::CloseWait, ports);
            table
                .observe(&event, time)
                .expect("room")
                .connection
                .direction()
        };
        use Direction::{Incoming, Unknown};
        assert_eq!(told(&mut table, 300, 1, (22, 4000)), Unknown);
        table.end_scan();
        assert_eq!(told(&mut table, 400, 1, (22, 4000)), Incoming);
        assert_eq!(told(&mut table, 400, 2, (8080, 40_000)), Incoming);
        assert_eq!(told(&mut table, 400, 3, (40_001, 80)), Unknown);
        assert_eq!(told(&mut table, 400, 4, (8081, 9000)), Unknown);
    }

    #[test]
    fn what_an_event_knows_is_better() {
        let mut table = scanned(&[found((1, 80))]);
        table.end_scan();
        let mut event = state(300, 3, ESTABLISHED, State::FinWait1, (1, 80));
        event.owner = Some(owner(77, OwnerSource::Task));
        assert_eq!(feed(&mut table, &event), (Some(77), true));
        let next = state(400, 3, State::FinWait1, State::FinWait2, (1, 80));
        assert_eq!(feed(&mut table, &next), (Some(77), true));
    }
}
