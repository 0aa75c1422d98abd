//! A connection's life as recorded lines tell it.
//!
//! Contract: nothing is judged here: who made the lines has done so. When changes
//! were is told by their lines, and by the record where these are missing.

use super::{Connection, Seen};
use crate::lifecycle::recorded::Told;
use crate::model::event::Event;
use crate::model::tcp::State;

impl Connection {
    /// Takes an event that a line tells, of which so many segments are told.
    pub(in crate::lifecycle) fn recall_line(
        &mut self,
        event: &Event,
        segments: Option<u32>,
        time_wait: Option<bool>,
    ) {
        self.owner.recall(event.owner.as_ref());
        let state = self.state();
        if !self.resent.recall(&event.what, segments, state) {
            self.line(event, event.time, time_wait);
        }
    }

    /// Takes what its record says; `event` says when it ended.
    pub(in crate::lifecycle) fn recall_life(&mut self, event: &Event, told: &Told) {
        self.owner.recall(event.owner.as_ref());
        self.seen -= Seen::OUTGOING | Seen::INCOMING;
        self.learn_direction(told.direction);
        self.seen.set(Seen::BEGIN, told.start.is_some());
        self.seen.set(Seen::EXISTED, told.existed);
        let opened = |(state, _): &(State, u64)| *state == State::Established;
        let opened = told.states.iter().any(opened) || self.is_open();
        self.seen.set(Seen::ESTABLISHED, opened);
        self.cause = Some(told.cause);
        let before = told.states.last().map(|(state, _)| *state);
        self.last = self.last.or(before).or(Some(State::Close));
        let known = usize::from(self.count);
        if told.start.is_some() && told.duration.is_none() {
            // It had more changes than were kept.
            self.more = self.more.max(1);
        }
        if self.more > 0 || known > told.states.len() + 1 {
            return;
        }
        // Where all changes are known, they were when they were.
        let mut walls: Vec<u64> = self.transitions().map(|(wall, _)| wall).collect();
        if known <= told.states.len() {
            walls.clear();
        }
        let lived: u64 = told.states.iter().map(|(_, nanos)| nanos).sum();
        self.start_wall = told.start.unwrap_or(event.time.saturating_sub(lived));
        (self.count, self.shifts) = (0, None);
        let end = match told.time_wait {
            Some(true) => State::TimeWait,
            _ => State::Close,
        };
        let mut since = 0u64;
        for (at, (state, nanos)) in told.states.iter().chain([&(end, 0)]).enumerate() {
            let there = match at == told.states.len() {
                true => event.time,
                false => self.start_wall.saturating_add(since),
            };
            let wall = walls.get(at).copied().unwrap_or(there);
            self.enter(since, wall, *state);
            since = since.saturating_add(*nanos);
        }
        let open = self.entered(State::Established);
        if let (Some(open), Some(delay)) = (open, told.accept_delay) {
            self.accepted = open.saturating_add(delay).saturating_add(1);
        }
    }

    /// Takes the reason of the reset that ended it.
    pub(in crate::lifecycle) fn recall_reason(&mut self, reason: u32) {
        self.reason = reason;
        self.seen |= Seen::REASON;
    }
}
