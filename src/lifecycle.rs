//! A connection from its first event to its last, for all connections at once.
//!
//! Contract: events belong together by socket, not by tuple: the client's
//! first event has no local port yet, a child's first may have no peer. The
//! kernel uses a socket's address again at once, so a socket is forgotten soon
//! after CLOSE: a reset that ends a connection may be told only after it.
//! Memory is bounded: at most `room` connections are held that have not ended,
//! as many that were open before the start and have had no event, and for the
//! report those that ended last. A connection that finds no room is counted, and
//! none of its events is held; one that has a place keeps it, and its number.

pub(crate) mod adopt;
pub(crate) mod cause;
pub(crate) mod connection;
mod destroys;
mod ended;
mod ending;
pub mod existing;
mod held;
mod history;
mod id;
pub(crate) mod open;
pub(crate) mod pairs;
mod parting;
mod raced;
pub(crate) mod recorded;
mod refused;
mod request_sock;
pub(crate) mod resent;
mod scanned;
mod sent;
mod slots;
pub(crate) mod tally;
pub(crate) mod totals;
mod verdict;

use crate::lifecycle::existing::Table;
use crate::model::ability::Abilities;
use crate::model::event::{Event, What};
use crate::model::hash::ByNumber;
use crate::model::lately::Lately;
use crate::model::sort;
use crate::model::tcp::State;
use crate::owner::tracker::Moment;
use cause::{Reason, time_wait};
use connection::{Connection, Seen};
use destroys::Destroys;
pub use ended::Ended;
use history::History;
pub use id::SocketId;
use refused::Refused;
use request_sock::RequestSocks;
use slots::Slots;
use std::collections::VecDeque;
use totals::Totals;

/// How long after CLOSE a reset is waited for that belongs to it, in
/// nanoseconds. Both are the work of one moment, but the task may lose the CPU
/// in between.
const AFTERMATH: u64 = 10_000_000;

/// All connections.
#[derive(Debug)]
pub struct Connections {
    /// Which runs its connections are of, by [`id::RUN`]: this one, and those that
    /// were recorded.
    runs: Vec<u64>,
    room: usize,
    tells: Abilities,
    /// What reasons of resets say, by their numbers.
    reasons: Vec<(u32, Reason)>,
    /// Sockets so far: the last number given.
    sockets: u64,
    seen: u64,
    /// Those that found no room, and of these those that were told of.
    refused_connections: (u64, u64),
    /// The sockets of those.
    refused: Refused,
    birth_missed: u64,
    totals: Totals,
    slots: Slots,
    free: Vec<u32>,
    by_socket: Lately<u64, ByNumber<u64, u32>, 256>,
    /// Ends without a record yet, and what is used for them again.
    ended: VecDeque<Box<Ended>>,
    #[allow(clippy::vec_box, reason = "an end moves in its box")]
    spare: Vec<Box<Ended>>,
    /// Those that wait for the kernel's last word on them.
    destroys: Destroys,
    requests: RequestSocks,
    /// The place of the child that ended last before it was opened.
    dropped: u32,
    existing: Table,
    history: History,
}

/// An event of a connection, as [`Connections::observe`] understood it.
#[derive(Debug)]
pub struct Observed<'a> {
    /// Which connection.
    pub id: SocketId,
    /// The connection.
    pub connection: &'a mut Connection,
    /// The state that it was in before, as far as that is known.
    pub state: Option<State>,
    /// At a connection's change to CLOSE: whether the kernel entered TIME_WAIT,
    /// where that can be told.
    pub time_wait: Option<bool>,
    /// At a retransmission: the segments that were sent again, where that is
    /// known.
    pub segments: Option<u32>,
}

impl Connections {
    /// An empty table with room for so many connections (at least one) that have
    /// not ended, and for `history` (at least one) that have. `run` tells this run
    /// from others: nanoseconds since the epoch.
    pub fn new(room: usize, history: usize, run: u64, tells: Abilities) -> Connections {
        Connections {
            runs: vec![run / 1_000_000],
            room: room.clamp(1, u32::MAX as usize),
            tells,
            reasons: Vec::new(),
            sockets: 0,
            seen: 0,
            refused_connections: (0, 0),
            refused: Refused::new(room),
            birth_missed: 0,
            totals: Totals::default(),
            slots: Slots::default(),
            free: Vec::new(),
            by_socket: Lately::default(),
            ended: VecDeque::new(),
            spare: Vec::new(),
            destroys: Destroys::default(),
            requests: RequestSocks::default(),
            dropped: 0,
            existing: Table::new(room),
            history: History::new(history),
        }
    }

    /// From now on the reasons of resets have these names.
    pub fn name_reasons(&mut self, names: &[(u32, String)]) {
        let known = |(number, name): &(u32, String)| Some((*number, Reason::of(name)?));
        self.reasons = names.iter().filter_map(known).collect();
    }

    /// What this host tells of every connection.
    #[inline]
    pub fn tells(&self) -> Abilities {
        self.tells
    }

    /// Connections seen so far; listening sockets are none.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Connections that the report would tell of, were they still held.
    pub fn not_held(&self) -> u64 {
        self.history.let_go()
    }

    /// Those among them that the report need not tell of are not held: it tells of no
    /// more than the `most` latest.
    pub fn tell_latest(&mut self, most: usize) {
        self.history.tell_latest(most);
    }

    /// How many more there are than [`Connections::shown`] has, for that reason.
    pub fn left_out(&self) -> u64 {
        self.history.left_out()
    }

    /// Connections that found no room.
    pub fn refused_connections(&self) -> u64 {
        self.refused_connections.0
    }

    /// Of these, those that were not handed out here before.
    pub fn newly_refused(&mut self) -> u64 {
        let (all, told) = self.refused_connections;
        self.refused_connections.1 = all;
        all.saturating_sub(told)
    }

    /// Connections whose opening was not seen, and which were not found at the
    /// start either.
    pub fn birth_missed(&self) -> u64 {
        self.birth_missed
    }

    #[inline]
    fn id(&self, number: u64) -> SocketId {
        SocketId::of(&self.runs, number)
    }

    /// Feeds an event with a line to the connection it belongs to; `wall` is
    /// its time in nanoseconds since the epoch. The connection stays valid until
    /// [`Connections::finish`] is called for the same event. `None` where there is
    /// no room for it.
    #[inline]
    pub fn observe(&mut self, event: &Event, wall: u64) -> Option<Observed<'_>> {
        let known = self.by_socket.get(event.socket);
        let slot = match known {
            Some(slot) if !self.is_other(event, slot) => slot,
            other => {
                if let Some(stale) = other {
                    // Its CLOSE was missed.
                    self.forget(stale, None);
                }
                self.insert(event, wall)?
            }
        };
        self.slots[slot].complete(event);
        self.opened_child(slot, event.what);
        let connection = &mut self.slots[slot];
        let existed = adopt::meet(&mut self.existing, connection, event);
        self.birth_missed = self.birth_missed.saturating_sub(u64::from(existed));
        if let What::State {
            new: State::SynRecv | State::Established,
            ..
        } = event.what
        {
            if let Some(request_sock) = self.requests.take(event) {
                if connection.last.is_none() && event.is_birth() {
                    connection.number = request_sock.number;
                }
                connection.inherit(request_sock.synacks, request_sock.shown);
            }
        }
        let time_wait = match event.what {
            What::State {
                old,
                new: State::Close,
            } if !connection.is_listener() => {
                let reset = connection.seen.contains(Seen::RESET_RECEIVED);
                time_wait(old, &event.counters, reset)
            }
            _ => None,
        };
        let state = connection.state();
        let segments = connection.line(event, wall, time_wait);
        Some(Observed {
            id: SocketId::of(&self.runs, connection.number),
            connection,
            state,
            time_wait,
            segments,
        })
    }

    /// Whether an event is of another connection than that of its socket so far.
    #[inline]
    fn is_other(&self, event: &Event, slot: u32) -> bool {
        let ended = self.slots[slot].seen.contains(Seen::ENDED);
        event.is_birth() || ended && matches!(event.what, What::State { .. })
    }

    /// Feeds an event without a line; one of a socket that isn't known is
    /// nothing.
    #[inline]
    pub fn note(&mut self, event: &Event) {
        let slot = self.by_socket.get(event.socket);
        if let What::Destroyed { cookie } = event.what {
            return self.destroyed(slot, cookie, event);
        }
        let Some(slot) = slot else {
            return;
        };
        let connection = &mut self.slots[slot];
        let ended = connection.seen.contains(Seen::ENDED);
        match event.what {
            What::Accepted if !ended => {
                connection.tell(event);
                connection.accepted(event.time, self.tells.contains(Abilities::ACCEPTS));
            }
            What::ResetReceived if !ended => connection.seen |= Seen::RESET_RECEIVED,
            What::ResetSent { reason } => {
                connection.reset_sent(reason);
                if ended && !self.destroys.settle(slot) {
                    self.hasten(slot);
                }
            }
            _ => {}
        }
    }

    /// The connection of this socket, if it is the one that is meant.
    pub fn find(&mut self, socket: u64, id: SocketId) -> Option<&mut Connection> {
        let slot = self.by_socket.get(socket)?;
        let connection = self.slots.get_mut(slot as usize)?;
        (connection.number == id.number).then_some(connection)
    }

    /// Hands out every connection that has a place, and whether it has ended.
    pub fn each(&mut self, see: &mut dyn FnMut(&mut Connection, bool)) {
        for connection in self.slots.iter_mut() {
            let ended = connection.seen.contains(Seen::ENDED);
            see(connection, ended);
        }
    }

    /// Hands out those that are open.
    pub(crate) fn each_open(&self, see: &mut dyn FnMut(SocketId, &Connection)) {
        for slot in self.by_socket.values() {
            let connection = &self.slots[slot];
            see(self.id(connection.number), connection);
        }
    }

    /// Lets go of the connection of an event that is the last told of it: no end
    /// will come.
    pub fn let_go(&mut self, event: &Event) {
        if let Some(slot) = self.by_socket.get(event.socket) {
            self.forget(slot, None);
        }
    }

    #[inline]
    fn forget(&mut self, slot: u32, ended: Option<&Ended>) {
        let connection = &mut self.slots[slot];
        connection.seen -= Seen::ENDED;
        if self.by_socket.get(connection.socket) == Some(slot) {
            self.by_socket.remove(connection.socket);
        }
        if connection.is_shown() {
            self.totals.add(connection, ended);
            if connection.changes().next().is_some() {
                self.free.extend(self.history.push(connection.number, slot));
                return;
            }
        }
        self.free.push(slot);
    }

    /// A place for the connection of an event; `None` where there is none.
    #[inline(never)]
    fn insert(&mut self, event: &Event, wall: u64) -> Option<u32> {
        if !event.is_birth() && self.refused.has(event) {
            return None;
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() - self.history.len() < self.room => self.slots.len() as u32,
            None => {
                self.refused_connections.0 += 1;
                self.refused.add(event);
                return None;
            }
        };
        self.refused.forget(event.socket);
        self.sockets += 1;
        match self.slots.get_mut(slot as usize) {
            Some(place) => place.begin(event, wall, self.sockets),
            None => self.slots.push(Connection::new(event, wall, self.sockets)),
        }
        let connection = &self.slots[slot];
        let listener = connection.is_listener();
        self.seen += u64::from(!listener);
        self.birth_missed += u64::from(!listener && !connection.began());
        self.by_socket.insert(event.socket, slot);
        Some(slot)
    }

    /// Takes a SYN+ACK that was sent again for a connection without a socket:
    /// the event's is the listener's. `shown` tells whether it is shown. The
    /// connection will have the same identity. `None` where the socket is the
    /// connection's own (TCP Fast Open), which [`Connections::observe`] takes.
    pub fn request_sock(&mut self, event: &Event, shown: bool) -> Option<SocketId> {
        let known = self.by_socket.get(event.socket);
        if known.is_some_and(|slot| !self.slots[slot].is_listener()) {
            return None;
        }
        let next = self.sockets + 1;
        let request_sock = self.requests.count(event, next);
        request_sock.shown |= shown;
        let number = request_sock.number;
        self.sockets = self.sockets.max(number);
        Some(self.id(number))
    }

    /// Those that have not ended, and listeners.
    fn open(&self) -> impl Iterator<Item = &Connection> {
        let open = self.by_socket.values();
        open.map(|slot| &self.slots[slot])
    }

    /// The connections of which something was shown and a transition is known,
    /// oldest first.
    pub fn shown(&self) -> Vec<&Connection> {
        let open = self.open().filter(|connection| connection.is_shown());
        let ended = self.history.iter().map(|slot| &self.slots[slot]);
        let all = ended.chain(open);
        let mut all: Vec<&Connection> = all.filter(|c| c.transitions().next().is_some()).collect();
        sort::by_key(&mut all, |connection| connection.number);
        all
    }

    /// Holds the owners of all that are open against what is known now.
    pub fn review_owners(&mut self, time: u64, moment: &Moment<'_>) {
        for slot in self.by_socket.values() {
            self.slots[slot].review_owner(time, moment);
        }
    }

    /// What the connections that were shown come to.
    pub fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        let mut open: Vec<&Connection> = self.open().filter(|c| c.is_shown()).collect();
        sort::by_key(&mut open, |connection| connection.number);
        open.iter().for_each(|c| totals.add(c, None));
        totals
    }
}

#[cfg(test)]
pub(crate) mod tests;
