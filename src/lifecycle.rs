//! A connection from its first event to its last, for all connections at once.
//!
//! Contract: events belong together by socket, not by tuple: the client's
//! first event has no local port yet, a child's first may have no peer. The
//! kernel uses a socket's address again at once, so a socket is forgotten at
//! CLOSE. Memory is bounded: at most `capacity` connections are held, closed
//! ones making room first, and what had to go is counted. As many more are held
//! as were open before the start and have had no event.

pub mod adopt;

use crate::event::{Event, Owner, OwnerSource, What};
use crate::existing::Table;
use crate::tcp::{Endpoint, State};
use crate::text;
use adopt::Origin;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// Transitions kept for one connection. TCP allows at most 7 from the first
/// state to CLOSE (simultaneous open, then simultaneous close); one more for
/// what the kernel may add.
const TRANSITIONS: usize = 8;

/// Identifies a connection in the output: the same for all events of a socket,
/// and never used again, also not by a later run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    run: u64,
    number: u64,
}

impl SocketId {
    /// Appends it as text.
    pub fn render(&self, out: &mut Vec<u8>) {
        text::hex(out, self.run);
        out.push(b'-');
        text::number(out, self.number);
    }
}

/// A transition: wall time in milliseconds, and the new state.
#[derive(Clone, Copy, Debug, Default)]
struct Packed(u64);

impl Packed {
    fn new(wall: u64, state: State) -> Packed {
        Packed((wall / 1_000_000) << 8 | state as u64)
    }

    /// Nanoseconds since the epoch (whole milliseconds), and the state.
    fn unpack(self) -> (u64, Option<State>) {
        ((self.0 >> 8) * 1_000_000, State::from_number(self.0 as u8))
    }
}

/// How far a source is to be believed: the process itself, else the one that
/// listened, else what /proc said at the start.
fn rank(source: OwnerSource) -> u8 {
    match source {
        OwnerSource::Task | OwnerSource::Cached | OwnerSource::Accept => 3,
        OwnerSource::Listener => 2,
        OwnerSource::Snapshot => 1,
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: u64,
    number: u64,
    local: Endpoint,
    peer: Endpoint,
    owner: Option<Owner>,
    origin: Origin,
    transitions: [Packed; TRANSITIONS],
    count: u8,
    /// Transitions beyond the array.
    more: u32,
    shown: bool,
    /// An event that can't be judged before the local port is known.
    pub held: Option<Box<(Event, u64)>>,
}

impl Connection {
    /// This end.
    pub fn local(&self) -> &Endpoint {
        &self.local
    }

    /// The other end.
    pub fn peer(&self) -> &Endpoint {
        &self.peer
    }

    /// Whose it is, as far as it is known now.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Its transitions in order: wall time in nanoseconds since the epoch (to
    /// the millisecond) and the state entered.
    pub fn transitions(&self) -> impl Iterator<Item = (u64, State)> + '_ {
        self.transitions[..usize::from(self.count)]
            .iter()
            .filter_map(|t| t.unpack().1.map(|state| (t.unpack().0, state)))
    }

    /// Transitions that are not kept.
    pub fn more(&self) -> u32 {
        self.more
    }

    /// Remembers that an event of it was shown: the report will tell of it.
    pub fn mark_shown(&mut self) {
        self.shown = true;
    }

    /// Takes what is better known now than before.
    fn complete(&mut self, event: &Event) {
        let better = |known: &mut Endpoint, seen: &Endpoint| {
            if known.port == 0 || !seen.addr.is_unspecified() {
                known.addr = seen.addr;
            }
            if seen.port != 0 {
                known.port = seen.port;
            }
        };
        better(&mut self.local, &event.local);
        better(&mut self.peer, &event.peer);
        if let Some(new) = event.owner {
            // What is learned in an event of its own is cached from then on.
            let new = Owner {
                source: match new.source {
                    OwnerSource::Task => OwnerSource::Cached,
                    other => other,
                },
                ..new
            };
            if self
                .owner
                .is_none_or(|old| rank(new.source) >= rank(old.source))
            {
                self.owner = Some(new);
            }
        }
    }
}

/// All connections.
#[derive(Debug)]
pub struct Connections {
    run: u64,
    capacity: usize,
    /// Sockets so far: the last number given.
    sockets: u64,
    seen: u64,
    not_held: u64,
    slots: Vec<Connection>,
    free: Vec<u32>,
    closed: VecDeque<u32>,
    hand: usize,
    by_socket: HashMap<u64, u32>,
    existing: Table,
}

impl Connections {
    /// An empty table that will hold at most `capacity` connections (at least
    /// one). `run` tells this run from others: nanoseconds since the epoch.
    pub fn new(capacity: usize, run: u64) -> Connections {
        Connections {
            run: run / 1_000_000,
            capacity: capacity.clamp(1, u32::MAX as usize),
            sockets: 0,
            seen: 0,
            not_held: 0,
            slots: Vec::new(),
            free: Vec::new(),
            closed: VecDeque::new(),
            hand: 0,
            by_socket: HashMap::new(),
            existing: Table::new(capacity),
        }
    }

    /// Connections seen so far; listening sockets are none.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Connections that the report would tell of, were they still held.
    pub fn not_held(&self) -> u64 {
        self.not_held
    }

    /// Feeds an event to the connection it belongs to; `wall` is its time in
    /// nanoseconds since the epoch. The connection stays valid until
    /// [`Connections::finish`] is called for the same event.
    pub fn observe(&mut self, event: &Event, wall: u64) -> (SocketId, &mut Connection) {
        let first = matches!(
            event.what,
            What::State {
                old: State::Close,
                ..
            } | What::State {
                old: State::Listen,
                new: State::SynRecv
            }
        );
        let known = self.by_socket.get(&event.socket).copied();
        let slot = match known {
            Some(slot) if !first => slot,
            other => {
                if let Some(stale) = other {
                    // Its CLOSE was missed.
                    self.close(stale);
                }
                self.insert(event)
            }
        };
        let connection = &mut self.slots[slot as usize];
        connection.complete(event);
        adopt::meet(&mut self.existing, connection, event);
        if let What::State { new, .. } = event.what {
            match connection
                .transitions
                .get_mut(usize::from(connection.count))
            {
                Some(place) => {
                    *place = Packed::new(wall, new);
                    connection.count += 1;
                }
                None => connection.more += 1,
            }
        }
        let id = SocketId {
            run: self.run,
            number: connection.number,
        };
        (id, connection)
    }

    /// Says that the event given to [`Connections::observe`] is dealt with: a
    /// connection that it closed makes room for others.
    pub fn finish(&mut self, event: &Event) {
        if let What::State {
            new: State::Close, ..
        } = event.what
        {
            if let Some(&slot) = self.by_socket.get(&event.socket) {
                self.close(slot);
            }
        }
    }

    fn close(&mut self, slot: u32) {
        let connection = &mut self.slots[slot as usize];
        connection.held = None;
        self.by_socket.remove(&connection.socket);
        if connection.shown {
            self.closed.push_back(slot);
        } else {
            self.free.push(slot);
        }
    }

    fn insert(&mut self, event: &Event) -> u32 {
        self.sockets += 1;
        let listener = matches!(
            event.what,
            What::State {
                new: State::Listen,
                ..
            } | What::State {
                old: State::Listen,
                new: State::Close
            }
        );
        self.seen += u64::from(!listener);
        let connection = Connection {
            socket: event.socket,
            number: self.sockets,
            local: event.local,
            peer: event.peer,
            owner: None,
            origin: Origin::of(event),
            transitions: [Packed::default(); TRANSITIONS],
            count: 0,
            more: 0,
            shown: false,
            held: None,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.capacity => self.slots.len() as u32,
            None => self.evict(),
        };
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = connection,
            None => self.slots.push(connection),
        }
        self.by_socket.insert(event.socket, slot);
        slot
    }

    /// Makes a slot free: that of the connection closed longest ago, else of an
    /// open one (the slots in turn, so roughly the oldest).
    fn evict(&mut self) -> u32 {
        if let Some(slot) = self.closed.pop_front() {
            self.not_held += 1;
            return slot;
        }
        self.hand = (self.hand + 1) % self.slots.len();
        let victim = &self.slots[self.hand];
        if victim.shown {
            self.not_held += 1;
        }
        self.by_socket.remove(&victim.socket);
        self.hand as u32
    }

    /// The connections of which something was shown and a transition is known,
    /// oldest first.
    pub fn shown(&self) -> Vec<&Connection> {
        // A slot that is free holds a connection that was not shown.
        let slots = self.slots.iter().enumerate();
        let slots = slots.filter(|(_, c)| c.shown && c.count > 0);
        let order: BinaryHeap<(u64, usize)> = slots.map(|(i, c)| (c.number, i)).collect();
        let order = order.into_sorted_vec();
        order.into_iter().map(|(_, i)| &self.slots[i]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::state;

    const MS: u64 = 1_000_000;

    fn feed(table: &mut Connections, event: &Event) -> u64 {
        let (id, connection) = table.observe(event, event.time);
        connection.mark_shown();
        table.finish(event);
        id.number
    }

    fn states(connection: &Connection) -> Vec<State> {
        connection.transitions().map(|(_, state)| state).collect()
    }

    #[test]
    fn a_client_without_a_port_belongs_to_the_rest() {
        let mut table = Connections::new(10, 0);
        let path = [
            (State::Close, State::SynSent, (0, 80)),
            (State::SynSent, State::Established, (4000, 80)),
            (State::Established, State::FinWait1, (4000, 80)),
            (State::FinWait1, State::FinWait2, (4000, 80)),
            (State::FinWait2, State::Close, (4000, 80)),
        ];
        for (i, (old, new, ports)) in path.into_iter().enumerate() {
            assert_eq!(
                feed(&mut table, &state(i as u64 * MS, 7, old, new, ports)),
                1
            );
        }
        let shown = table.shown();
        assert_eq!(shown.len(), 1);
        assert_eq!((shown[0].local().port, shown[0].peer().port), (4000, 80));
        assert_eq!(states(shown[0]), path.map(|(_, new, _)| new));
        let times: Vec<u64> = shown[0].transitions().map(|(time, _)| time).collect();
        assert_eq!(times, [0, MS, 2 * MS, 3 * MS, 4 * MS]);
    }

    #[test]
    fn an_address_used_again_is_another_connection() {
        let mut table = Connections::new(10, 0);
        let open = state(1, 7, State::Close, State::SynSent, (0, 80));
        let closed = state(2, 7, State::SynSent, State::Close, (4000, 80));
        assert_eq!(feed(&mut table, &open), 1);
        assert_eq!(feed(&mut table, &closed), 1);
        assert_eq!(feed(&mut table, &open), 2);
        // Its CLOSE was lost: the next first event still begins anew.
        assert_eq!(feed(&mut table, &open), 3);
        assert_eq!((table.seen(), table.shown().len()), (3, 3));
    }

    #[test]
    fn a_listener_is_no_connection() {
        let mut table = Connections::new(4, 0);
        feed(
            &mut table,
            &state(1, 1, State::Close, State::Listen, (80, 0)),
        );
        feed(
            &mut table,
            &state(2, 2, State::Listen, State::SynRecv, (80, 4000)),
        );
        feed(
            &mut table,
            &state(3, 1, State::Listen, State::Close, (80, 0)),
        );
        // One that was there before us, and is closed now.
        feed(
            &mut table,
            &state(4, 3, State::Listen, State::Close, (81, 0)),
        );
        assert_eq!(table.seen(), 1);
    }

    #[test]
    fn memory_is_bounded_and_what_went_is_counted() {
        let mut table = Connections::new(4, 0);
        for socket in 1..=10 {
            feed(
                &mut table,
                &state(1, socket, State::Close, State::SynSent, (0, 80)),
            );
            if socket % 2 == 0 {
                feed(
                    &mut table,
                    &state(2, socket, State::SynSent, State::Close, (1, 80)),
                );
            }
        }
        assert_eq!(table.seen(), 10);
        assert_eq!(table.shown().len() as u64 + table.not_held(), 10);
        assert!(table.slots.len() <= 4 && table.by_socket.len() <= 4);
    }

    #[test]
    fn what_is_not_shown_takes_no_room_after_its_end() {
        let mut table = Connections::new(2, 0);
        for socket in 1..=100 {
            for (old, new) in [
                (State::Close, State::SynSent),
                (State::SynSent, State::Close),
            ] {
                let event = state(1, socket, old, new, (0, 80));
                table.observe(&event, 1);
                table.finish(&event);
            }
        }
        assert_eq!(
            (table.seen(), table.not_held(), table.slots.len()),
            (100, 0, 1)
        );
        assert!(table.shown().is_empty());
    }

    #[test]
    fn transitions_beyond_the_bound_are_counted() {
        let mut table = Connections::new(2, 0);
        for i in 0..12 {
            feed(
                &mut table,
                &state(i, 1, State::SynSent, State::Established, (1, 2)),
            );
        }
        let shown = table.shown();
        assert_eq!((states(shown[0]).len(), shown[0].more()), (TRANSITIONS, 4));
    }
}
