//! One connection: what its events have told so far.
//!
//! Contract: durations are those of the event clock, whatever happens to the
//! wall clock meanwhile. The struct is kept small: thousands are held.

mod packed;
mod place;
mod recall;
mod seen;

use super::cause::ResetSent;
use super::resent::Resent;
use crate::filter::eval::Settled;
use crate::model::cause::Cause;
use crate::model::event::{Event, Owner, OwnerSource, What};
use crate::model::tcp::{Endpoint, State, Wire};
use crate::owner::tracker::{Moment, Tracker};
use packed::Packed;
pub(super) use seen::Seen;

/// Transitions kept for one connection. TCP allows at most 7 from the first
/// state to CLOSE (simultaneous open, then simultaneous close); one more for
/// what the kernel may add.
pub(super) const TRANSITIONS: usize = 8;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// This host.
    Outgoing,
    /// The peer.
    Incoming,
    /// It can't be told.
    Unknown,
}

impl Direction {
    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Outgoing => "outgoing",
            Direction::Incoming => "incoming",
            Direction::Unknown => "unknown",
        }
    }
}

/// Whether an owner is a process that is known to have had the socket itself, and
/// not its listener alone.
#[inline]
fn has_it(source: OwnerSource) -> bool {
    match source {
        OwnerSource::Task
        | OwnerSource::Cached
        | OwnerSource::Accept
        | OwnerSource::Snapshot
        | OwnerSource::Descendant => true,
        OwnerSource::Listener | OwnerSource::ListenerAccepted => false,
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(super) socket: u64,
    pub(super) number: u64,
    /// The first event, on the event clock and the wall clock.
    start: u64,
    start_wall: u64,
    /// How far the wall clock was set since then, at each transition; where it
    /// was.
    shifts: Option<Box<[i64; TRANSITIONS]>>,
    pub(super) owner: Tracker,
    transitions: [Packed; TRANSITIONS],
    /// Since the first event, plus one; 0 for not.
    accepted: u64,
    pub(super) local: Endpoint,
    peer: Endpoint,
    netns: u32,
    pub(super) resent: Resent,
    reason: u32,
    pub(super) seen: Seen,
    /// Transitions beyond the array.
    more: u16,
    count: u8,
    wire: Wire,
    /// The state that the first event left.
    before: Option<State>,
    /// The state left for CLOSE.
    pub(super) last: Option<State>,
    pub(super) cause: Option<Cause>,
    /// What of the filter it matches for good.
    pub settled: Settled,
}

impl Connection {
    /// One that begins with an event.
    pub(super) fn new(event: &Event, wall: u64, number: u64) -> Connection {
        let mut connection = Connection {
            socket: 0,
            number: 0,
            start: 0,
            start_wall: 0,
            shifts: None,
            owner: Tracker::default(),
            transitions: [Packed::default(); TRANSITIONS],
            accepted: 0,
            local: event.local,
            peer: event.peer,
            netns: 0,
            resent: Resent::default(),
            reason: 0,
            seen: Seen::empty(),
            more: 0,
            count: 0,
            wire: event.wire,
            before: None,
            last: None,
            cause: None,
            settled: Settled::default(),
        };
        connection.begin(event, wall, number);
        connection
    }

    /// The same in the place of one that has ended.
    #[inline(never)]
    pub(super) fn begin(&mut self, event: &Event, wall: u64, number: u64) {
        let (mut seen, mut before) = (Seen::empty(), None);
        if let What::State { old, new } = event.what {
            before = Some(old);
            seen |= match (old, new) {
                (_, State::Listen) | (State::Listen, State::Close) => Seen::LISTENER,
                (State::Close, State::SynSent) => Seen::BEGIN | Seen::OUTGOING,
                (State::SynSent, _) => Seen::OUTGOING,
                (State::Listen, State::SynRecv) => Seen::BEGIN | Seen::INCOMING,
                _ => Seen::empty(),
            };
        }
        (self.socket, self.number) = (event.socket, number);
        (self.start, self.start_wall, self.shifts) = (event.time, wall, None);
        self.owner = Tracker::default();
        // Of what is beyond the count nothing is told.
        (self.count, self.more, self.accepted) = (0, 0, 0);
        (self.local, self.peer, self.netns, self.wire) = (event.local, event.peer, 0, event.wire);
        self.resent = match seen.contains(Seen::BEGIN) {
            true => Resent::from_the_beginning(),
            false => Resent::default(),
        };
        (self.seen, self.reason) = (seen, 0);
        (self.before, self.last, self.cause) = (before, None, None);
        self.settled = Settled::default();
    }

    /// This end.
    pub fn local(&self) -> &Endpoint {
        &self.local
    }

    /// The other end.
    pub fn peer(&self) -> &Endpoint {
        &self.peer
    }

    /// IP version on the wire.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Its network namespace, where that is known.
    pub fn netns(&self) -> Option<u32> {
        Some(self.netns).filter(|n| *n != 0)
    }

    /// Whose it is, as far as it was known at its last event.
    pub fn owner(&self) -> Option<Owner> {
        self.owner.get()
    }

    /// Whether that is so for good, as far as another process is concerned that
    /// may accept it.
    pub fn has_sure_owner(&self) -> bool {
        self.owner.is_sure()
    }

    /// Takes what an event without a line says of its owner, if that is better known
    /// than what was said before.
    pub(super) fn tell(&mut self, event: &Event) {
        self.owner.tell(event);
    }

    /// Takes an owner that the scan at the start found at this time (of the event
    /// clock), where events have told nothing.
    pub(super) fn find_owner(&mut self, owner: &Owner, time: u64) {
        self.owner.find(owner, time);
    }

    /// Holds what is known of its owner against an event that was observed:
    /// [`Connection::owner`] is whose it is at that moment.
    #[inline]
    pub fn judge_owner(&mut self, event: &Event, moment: &Moment<'_>) {
        // One from before the start is older than all listeners that came later;
        // a SYN+ACK goes to one whose socket is not born yet.
        let born = match event.what {
            What::SynAck => event.time,
            _ => self.born().unwrap_or(0),
        };
        self.owner.judge(event, &self.local, born, moment);
    }

    /// The same at the end of a run, of a connection that is still open.
    pub fn review_owner(&mut self, time: u64, moment: &Moment<'_>) {
        self.owner
            .review(time, &self.local, self.born().unwrap_or(0), moment);
    }

    /// Whether it is a listener, and no connection.
    pub fn is_listener(&self) -> bool {
        self.seen.contains(Seen::LISTENER)
    }

    /// Who opened it.
    #[inline]
    pub fn direction(&self) -> Direction {
        match (
            self.seen.contains(Seen::OUTGOING),
            self.seen.contains(Seen::INCOMING),
        ) {
            (true, _) => Direction::Outgoing,
            (_, true) => Direction::Incoming,
            _ => Direction::Unknown,
        }
    }

    /// Takes what is found out of who opened it, where events have not told.
    pub(super) fn learn_direction(&mut self, direction: Direction) {
        if self.direction() == Direction::Unknown {
            match direction {
                Direction::Outgoing => self.seen |= Seen::OUTGOING,
                Direction::Incoming => self.seen |= Seen::INCOMING,
                Direction::Unknown => {}
            }
        }
    }

    /// Whether its beginning was seen.
    pub fn began(&self) -> bool {
        self.seen.contains(Seen::BEGIN)
    }

    /// Whether it was opened, where its beginning was seen: the peer answered.
    pub fn was_answered(&self) -> bool {
        self.began() && self.seen.contains(Seen::ESTABLISHED)
    }

    /// When its first event was, on the event clock.
    pub(crate) fn first(&self) -> u64 {
        self.start
    }

    /// When it began, on the event clock, where that was seen.
    pub fn born(&self) -> Option<u64> {
        self.began().then_some(self.start)
    }

    /// Whether it was open before the start.
    pub fn existed(&self) -> bool {
        self.seen.contains(Seen::EXISTED)
    }

    /// When it began, in nanoseconds since the epoch, where that was seen.
    pub fn start(&self) -> Option<u64> {
        self.began().then_some(self.start_wall)
    }

    /// How long it lived, in nanoseconds, where its beginning and its end were
    /// seen.
    pub fn duration(&self) -> Option<u64> {
        let last = self.kept().last().filter(|_| self.more == 0);
        last.filter(|_| self.began() && self.last.is_some())
            .map(|last| last.since())
    }

    fn kept(&self) -> &[Packed] {
        &self.transitions[..usize::from(self.count)]
    }

    /// Its transitions in order: wall time in nanoseconds since the epoch, and
    /// the state entered; at the end TIME_WAIT for CLOSE, where the kernel went
    /// there.
    pub fn transitions(&self) -> impl Iterator<Item = (u64, State)> + '_ {
        let wall = move |at: usize, since: u64| {
            let shift = self.shifts.as_ref().and_then(|shifts| shifts.get(at));
            let wall = self.start_wall.saturating_add(since);
            wall.saturating_add_signed(shift.copied().unwrap_or(0))
        };
        let all = self.kept().iter().enumerate();
        all.filter_map(move |(at, t)| Some((wall(at, t.since()), t.state()?)))
    }

    /// The same on the event clock.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (u64, State)> + '_ {
        let time = |t: &Packed| Some((self.start.saturating_add(t.since()), t.state()?));
        self.kept().iter().filter_map(time)
    }

    /// The state that its first event left, where that was a change.
    pub(crate) fn before(&self) -> Option<State> {
        self.before
    }

    /// Transitions that are not kept.
    pub fn more(&self) -> u16 {
        self.more
    }

    /// Hands out nanoseconds in each state whose beginning and end were seen, in
    /// order, each state once; none where it isn't known whole.
    pub fn each_state(&self, see: &mut dyn FnMut(State, u64)) {
        let kept = if self.more > 0 { &[] } else { self.kept() };
        packed::each_state(kept, see);
    }

    fn entered(&self, state: State) -> Option<u64> {
        let mut all = self.kept().iter();
        all.find(|t| t.state() == Some(state)).map(|t| t.since())
    }

    /// Nanoseconds from SYN_SENT to ESTABLISHED.
    pub fn connect_time(&self) -> Option<u64> {
        let from = self.entered(State::SynSent)?;
        self.entered(State::Established)?.checked_sub(from)
    }

    /// Nanoseconds from ESTABLISHED to the accept.
    pub fn accept_delay(&self) -> Option<u64> {
        let accepted = self.accepted.checked_sub(1)?;
        accepted.checked_sub(self.entered(State::Established)?)
    }

    /// Why it ended; `None` where it has not.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// When a reset was sent that ended it.
    pub(super) fn reset(&self) -> Option<ResetSent> {
        let when = match self.seen.contains(Seen::RESET_AFTER) {
            true => ResetSent::After,
            false => ResetSent::Before,
        };
        self.seen.contains(Seen::RESET_SENT).then_some(when)
    }

    /// Why the reset was sent that ended it: a number of `enum sk_rst_reason`.
    pub fn reset_reason(&self) -> Option<u32> {
        self.seen.contains(Seen::REASON).then_some(self.reason)
    }

    /// Remembers that an event of it was shown: the report will tell of it.
    pub fn mark_shown(&mut self) {
        self.seen |= Seen::SHOWN;
    }

    /// Whether an event of it was shown.
    pub fn is_shown(&self) -> bool {
        self.seen.contains(Seen::SHOWN)
    }

    /// The state it is in, as far as it is known.
    pub(crate) fn state(&self) -> Option<State> {
        let last = self.kept().last().and_then(|t| t.state());
        last.or(self.before).filter(|_| self.more == 0)
    }

    /// What was sent again so far: segments, or else events.
    pub(crate) fn sent_again(&self) -> u64 {
        self.resent.so_far()
    }

    /// Takes a line's event. Returns the segments that it tells were sent again,
    /// where that is known.
    #[inline]
    pub(super) fn line(
        &mut self,
        event: &Event,
        wall: u64,
        time_wait: Option<bool>,
    ) -> Option<u32> {
        match event.what {
            What::State { old, new } => {
                let by = event.owner.as_ref().map(|owner| owner.source);
                self.change((old, new), by, (event.time, wall), time_wait);
                None
            }
            What::Retransmit { state, .. } => {
                let state = state.or(self.state());
                self.resent.observe(&event.what, state)
            }
            What::SynAck => {
                self.resent.synacks(1);
                Some(1)
            }
            _ => None,
        }
    }

    #[inline]
    pub(super) fn change(
        &mut self,
        (old, new): (State, State),
        by: Option<OwnerSource>,
        (time, wall): (u64, u64),
        time_wait: Option<bool>,
    ) {
        // Taken once, and put back once.
        let mut seen = self.seen;
        if new == State::Close {
            self.last = Some(old);
            seen.set(Seen::BY_TASK, by == Some(OwnerSource::Task));
        } else if by.is_some_and(has_it) {
            seen |= Seen::OWNED;
        }
        if new == State::Established && old != new {
            seen |= Seen::ESTABLISHED;
        }
        self.seen = seen;
        if old == new {
            return;
        }
        let since = time.saturating_sub(self.start);
        let new = match (new, time_wait) {
            (State::Close, Some(true)) => State::TimeWait,
            (other, _) => other,
        };
        self.enter(since, wall, new);
    }

    /// Takes a new state, so long after the first event, and its time.
    #[inline]
    fn enter(&mut self, since: u64, wall: u64, new: State) {
        let expected = self.start_wall.saturating_add(since);
        let shift = wall.wrapping_sub(expected) as i64;
        if shift != 0 || self.shifts.is_some() {
            let shifts = self.shifts.get_or_insert_default();
            if let Some(place) = shifts.get_mut(usize::from(self.count)) {
                *place = shift;
            }
        }
        match self.transitions.get_mut(usize::from(self.count)) {
            Some(place) => {
                *place = Packed::new(since, new);
                self.count += 1;
            }
            None => self.more = self.more.saturating_add(1),
        }
    }

    /// Whether it was opened, as far as that was seen.
    pub(super) fn is_open(&self) -> bool {
        self.seen.contains(Seen::ESTABLISHED)
    }

    /// Takes the SYN+ACKs that were sent again before it had a socket.
    pub(super) fn inherit(&mut self, synacks: u32, shown: bool) {
        self.resent.synacks(synacks);
        self.seen.set(Seen::SHOWN, shown || self.is_shown());
    }

    /// Notes its accept; `exact` where the event is the accept itself, and not
    /// the first read.
    pub(super) fn accepted(&mut self, time: u64, exact: bool) {
        self.seen |= Seen::OWNED;
        if exact && self.accepted == 0 {
            self.accepted = time.saturating_sub(self.start).saturating_add(1);
        }
    }

    /// Notes a reset that was sent. While it is being opened it may go on after
    /// one: tcp_rcv_synsent_state_process(), and tcp_rcv_state_process() in
    /// SYN_RECV, answer a wrong ACK so (v6.12 net/ipv4/tcp_input.c).
    pub(super) fn reset_sent(&mut self, reason: Option<u32>) {
        let opening = matches!(self.state(), Some(State::SynSent | State::SynRecv));
        if opening && self.last.is_none() {
            return;
        }
        self.seen |= Seen::RESET_SENT;
        self.seen.set(Seen::RESET_AFTER, self.last.is_some());
        if let Some(reason) = reason {
            self.reason = reason;
            self.seen |= Seen::REASON;
        }
    }
}

#[cfg(test)]
mod tests;
