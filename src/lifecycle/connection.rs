//! One connection: what its events have told so far.
//!
//! Contract: durations are those of the event clock, whatever happens to the
//! wall clock meanwhile. The struct is kept small: thousands are held.

use super::cause::Cause;
use super::keeper::{Keeper, Moment};
use crate::event::{Event, Owner, OwnerSource, What};
use crate::tcp::{Endpoint, State, Wire};
use bitflags::bitflags;

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

/// Retransmissions, by what was sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retransmits {
    /// SYNs.
    pub syn: u32,
    /// SYN+ACKs.
    pub synack: u32,
    /// Data and FINs.
    pub data: u32,
    /// What could not be sent.
    pub failed: u32,
}

impl Retransmits {
    fn any(&self) -> bool {
        *self != Retransmits::default()
    }
}

/// A transition: nanoseconds since the first event, and the new state.
#[derive(Clone, Copy, Debug, Default)]
struct Packed(u64);

impl Packed {
    fn new(since: u64, state: State) -> Packed {
        // 36 years are enough.
        Packed(since.min(u64::MAX >> 4) << 4 | state as u64)
    }

    fn since(self) -> u64 {
        self.0 >> 4
    }

    fn state(self) -> Option<State> {
        State::from_number(self.0 as u8 & 15)
    }
}

bitflags! {
    /// What was seen of it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Seen: u16 {
        /// Its first event.
        const BEGIN = 1 << 0;
        /// That this host opened it.
        const OUTGOING = 1 << 1;
        /// That it is a listener's child.
        const INCOMING = 1 << 2;
        /// That it is a listener.
        const LISTENER = 1 << 3;
        /// Something of it was shown.
        const SHOWN = 1 << 4;
        /// Its end; its record is not made yet.
        const ENDED = 1 << 5;
        /// A reset that ended it and was sent by this host.
        const RESET_SENT = 1 << 6;
        /// Why that was sent.
        const REASON = 1 << 7;
        /// A reset that was received.
        const RESET_RECEIVED = 1 << 8;
        /// Its end was a process's own doing.
        const BY_TASK = 1 << 9;
        /// Whether it is one of those that were found at the start.
        const SETTLED = 1 << 10;
        /// That it is.
        const EXISTED = 1 << 11;
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    pub(super) socket: u64,
    pub(super) number: u64,
    /// The first event, on the event clock and the wall clock.
    start: u64,
    start_wall: u64,
    /// How far the wall clock was set since then, at each transition; where it
    /// was.
    shifts: Option<Box<[i64; TRANSITIONS]>>,
    owner: Keeper,
    transitions: [Packed; TRANSITIONS],
    /// Since the first event, plus one; 0 for not.
    accepted: u64,
    local: Endpoint,
    peer: Endpoint,
    netns: u32,
    retransmits: Retransmits,
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
    /// An event that can't be judged before the local port is known.
    pub held: Option<Box<(Event, u64)>>,
}

impl Connection {
    pub(super) fn new(event: &Event, wall: u64, number: u64) -> Connection {
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
        Connection {
            socket: event.socket,
            number,
            start: event.time,
            start_wall: wall,
            shifts: None,
            owner: Keeper::default(),
            transitions: [Packed::default(); TRANSITIONS],
            accepted: 0,
            local: event.local,
            peer: event.peer,
            netns: 0,
            retransmits: Retransmits::default(),
            reason: 0,
            seen,
            more: 0,
            count: 0,
            wire: event.wire,
            before,
            last: None,
            cause: None,
            held: None,
        }
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

    /// Whether a process is known to have had it itself.
    pub(super) fn was_owned(&self) -> bool {
        self.accepted != 0 || self.owner.is_its_process()
    }

    /// Takes what an event says of its owner, if that is better known than what
    /// was said before.
    pub(super) fn learn(&mut self, event: &Event) {
        self.owner.learn(event);
    }

    /// Takes an owner that the scan at the start found at this time (of the event
    /// clock), where events have told nothing.
    pub(super) fn find_owner(&mut self, owner: &Owner, time: u64) {
        self.owner.find(owner, time);
    }

    /// Holds what is known of its owner against an event that was observed:
    /// [`Connection::owner`] is whose it is at that moment.
    pub fn judge_owner(&mut self, event: &Event, moment: &Moment<'_>) {
        // One from before the start is older than all listeners that came later.
        let born = self.born().unwrap_or(0);
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

    /// Whether its beginning was seen.
    pub fn began(&self) -> bool {
        self.seen.contains(Seen::BEGIN)
    }

    /// When it began, on the event clock, where that was seen.
    pub(super) fn born(&self) -> Option<u64> {
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

    /// Transitions that are not kept.
    pub fn more(&self) -> u16 {
        self.more
    }

    /// Nanoseconds in each state whose beginning and end were seen, in order,
    /// each state once. Empty where it isn't known whole.
    pub fn states(&self) -> Vec<(State, u64)> {
        let mut states: Vec<(State, u64)> = Vec::new();
        if self.more > 0 {
            return states;
        }
        for pair in self.kept().windows(2) {
            let Some(state) = pair[0].state() else {
                continue;
            };
            let time = pair[1].since().saturating_sub(pair[0].since());
            match states.iter_mut().find(|(known, _)| *known == state) {
                Some((_, sum)) => *sum += time,
                None => states.push((state, time)),
            }
        }
        states
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

    /// What was sent again.
    pub fn retransmits(&self) -> &Retransmits {
        &self.retransmits
    }

    /// Whether something was sent again.
    pub(super) fn retransmitted(&self) -> bool {
        self.retransmits.any()
    }

    /// Why it ended; `None` where it has not.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
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
    fn state(&self) -> Option<State> {
        self.kept().last().and_then(|t| t.state()).or(self.before)
    }

    /// Takes what is better known now than before.
    pub(super) fn complete(&mut self, event: &Event) {
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
        self.wire = event.wire;
        self.netns = event.netns.unwrap_or(self.netns);
        self.learn(event);
    }

    /// Takes a line's event; `shown_as` is the state to remember for a change.
    pub(super) fn line(&mut self, event: &Event, wall: u64, time_wait: Option<bool>) {
        let since = event.time.saturating_sub(self.start);
        match event.what {
            What::State { old, new } => {
                let expected = self.start_wall.saturating_add(since);
                let shift = wall.wrapping_sub(expected) as i64;
                if shift != 0 || self.shifts.is_some() {
                    let shifts = self.shifts.get_or_insert_default();
                    if let Some(place) = shifts.get_mut(usize::from(self.count)) {
                        *place = shift;
                    }
                }
                let new = match (new, time_wait) {
                    (State::Close, Some(true)) => State::TimeWait,
                    (other, _) => other,
                };
                match self.transitions.get_mut(usize::from(self.count)) {
                    Some(place) => {
                        *place = Packed::new(since, new);
                        self.count += 1;
                    }
                    None => self.more = self.more.saturating_add(1),
                }
                if event.is_close() {
                    self.last = Some(old);
                    let by_task = event.owner.is_some_and(|o| o.source == OwnerSource::Task);
                    self.seen.set(Seen::BY_TASK, by_task);
                }
            }
            What::Retransmit { error: Some(_), .. } => self.retransmits.failed += 1,
            What::Retransmit {
                state, error: None, ..
            } => match state.or(self.state()) {
                Some(State::SynSent) => self.retransmits.syn += 1,
                Some(State::SynRecv) => self.retransmits.synack += 1,
                _ => self.retransmits.data += 1,
            },
            What::SynAck => self.retransmits.synack += 1,
            _ => {}
        }
    }

    /// Takes the SYN+ACKs that were sent again before it had a socket.
    pub(super) fn inherit(&mut self, synacks: u32, shown: bool) {
        self.retransmits.synack += synacks;
        self.seen.set(Seen::SHOWN, shown || self.is_shown());
    }

    /// Notes its accept; `exact` where the event is the accept itself, and not
    /// the first read.
    pub(super) fn accepted(&mut self, time: u64, exact: bool) {
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
        if let Some(reason) = reason {
            self.reason = reason;
            self.seen |= Seen::REASON;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::state;

    #[test]
    fn it_stays_small() {
        let size = size_of::<Connection>();
        assert!(size <= 320, "{size} bytes");
    }

    #[test]
    fn durations_follow_the_event_clock_and_times_the_wall_clock() {
        const DAY: u64 = 86_400_000_000_000;
        let path = [
            (State::Close, State::SynSent, 1_000, DAY),
            // The wall clock was set a day ahead, a day back, and two days ahead.
            (State::SynSent, State::Established, 1_500, 2 * DAY + 500),
            (State::Established, State::FinWait1, 2_000, DAY + 1_000),
            (State::FinWait1, State::Close, 3_000, 3 * DAY + 2_000),
        ];
        let first = state(1_000, 1, State::Close, State::SynSent, (0, 80));
        let mut connection = Connection::new(&first, DAY, 1);
        for (old, new, time, wall) in path {
            connection.line(&state(time, 1, old, new, (1, 80)), wall, Some(false));
        }
        let walls: Vec<u64> = connection.transitions().map(|(wall, _)| wall).collect();
        assert_eq!(walls, path.map(|(_, _, _, wall)| wall));
        assert_eq!(connection.duration(), Some(2_000));
        assert_eq!(connection.connect_time(), Some(500));
        let states = [
            (State::SynSent, 500),
            (State::Established, 500),
            (State::FinWait1, 1_000),
        ];
        assert_eq!(connection.states(), states);
    }
}
