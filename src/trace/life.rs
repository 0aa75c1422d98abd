//! A connection's slice, as far as it is written.
//!
//! Contract: what is written is in the order of time, and each state lasts a nanosecond
//! at least: a slice without a duration would be taken for the next one's parent.

use super::lanes::NOBODY;
use super::lines::{head, line};
use crate::lifecycle::SocketId;
use crate::lifecycle::connection::{Connection, Direction};
use crate::model::event::COMM_LEN;
use crate::model::tcp::{Endpoint, State};
use crate::model::text;
use crate::sys::append::append;

/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// A slice. Times are the file's.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) id: SocketId,
    /// Whether the connection is open, or its record is still to come.
    pub(super) open: bool,
    /// Whose it is, as far as is known, and whether that is for good; where it has a
    /// lane, whose that is.
    pub(super) owner: (u32, [u8; COMM_LEN]),
    pub(super) sure: bool,
    /// 0: none yet, and its lines wait.
    pub(super) lane: u32,
    waiting: Vec<u8>,
    pub(super) lines: u32,
    name: Vec<u8>,
    pub(super) began: u64,
    pub(super) last: u64,
    /// When it was established; 0 where that was not seen.
    pub(super) established: u64,
    /// The state whose slice is open.
    state: Option<State>,
    /// Changes that are written, and whether the last one was to CLOSE.
    pub(super) changes: u8,
    pub(super) closed: bool,
    /// Whether this end opened the connection.
    pub(super) opens: bool,
    pub(super) local: Endpoint,
    /// What both ends have in common, where it was looked for, and the place of the
    /// other one.
    pub(super) key: u64,
    pub(super) other: u32,
    /// The latest look that it was seen in.
    pub(super) round: u8,
}

/// What a slice is called: the same for all that are alike.
fn name(connection: &Connection) -> Vec<u8> {
    let mut name = Vec::new();
    let (local, peer) = (connection.local(), connection.peer());
    let with = match connection.direction() {
        Direction::Outgoing => "to ",
        Direction::Incoming => "from ",
        Direction::Unknown => "with ",
    };
    append(&mut name, with.as_bytes());
    match connection.direction() {
        // A client's port says nothing.
        Direction::Incoming => {
            text::address(&mut name, peer.addr);
            append(&mut name, b" to port ");
            text::number(&mut name, local.port.into());
        }
        _ => text::endpoint(&mut name, peer),
    }
    name
}

impl Life {
    /// One that begins, its first lines waiting.
    pub(super) fn new(id: SocketId, connection: &Connection, began: u64, round: u8) -> Life {
        let mut life = Life {
            id,
            open: true,
            owner: (NOBODY, [0; COMM_LEN]),
            sure: false,
            lane: 0,
            waiting: Vec::new(),
            lines: 0,
            name: name(connection),
            began,
            last: began,
            established: 0,
            state: None,
            changes: 0,
            closed: false,
            opens: false,
            local: *connection.local(),
            key: 0,
            other: NONE,
            round,
        };
        let waits = &mut Vec::new();
        life.named(waits, "B", began, b"");
        // It was there before.
        if !connection.began() {
            if let Some(before) = connection.before() {
                life.enter(waits, began, before);
            }
        }
        life
    }

    /// Takes what is known of its connection by now.
    pub(super) fn learn(&mut self, connection: &Connection) {
        self.local = *connection.local();
        self.opens = connection.direction() == Direction::Outgoing;
        if let Some(owner) = connection.owner().filter(|_| self.lane == 0) {
            self.owner = (owner.task.pid, owner.task.name);
            self.sure = connection.has_sure_owner();
        }
    }

    fn line(&mut self, to: &mut Vec<u8>, phase: &str, at: u64, name: &[u8], args: &[u8]) {
        self.last = self.last.max(at);
        let out = match self.lane {
            0 => &mut self.waiting,
            lane => {
                head(to, self.owner.0, lane);
                to
            }
        };
        self.lines += 1;
        line(out, phase, self.last, name, args);
    }

    fn named(&mut self, to: &mut Vec<u8>, phase: &str, at: u64, args: &[u8]) {
        let name = std::mem::take(&mut self.name);
        self.line(to, phase, at, &name, args);
        self.name = name;
    }

    /// Hands out the lines that waited for the lane that it has now.
    pub(super) fn release(&mut self, to: &mut Vec<u8>) {
        for line in self.waiting.split_inclusive(|byte| *byte == b'\n') {
            head(to, self.owner.0, self.lane);
            append(to, line);
        }
        self.waiting = Vec::new();
    }

    fn enter(&mut self, to: &mut Vec<u8>, at: u64, state: State) {
        if matches!(state, State::Close | State::TimeWait | State::Listen) {
            return;
        }
        self.state = Some(state);
        self.line(to, "B", at, state.name().as_bytes(), b"");
    }

    fn leave(&mut self, to: &mut Vec<u8>, at: u64) {
        if let Some(state) = self.state.take() {
            let at = at.max(self.last + 1);
            self.line(to, "E", at, state.name().as_bytes(), b"");
        }
    }

    /// It goes to another state.
    pub(super) fn change(&mut self, to: &mut Vec<u8>, at: u64, state: State) {
        self.changes += 1;
        self.leave(to, at);
        self.enter(to, at, state);
        self.closed = matches!(state, State::Close | State::TimeWait);
        if state == State::Established && self.established == 0 {
            self.established = self.last.max(1);
        }
    }

    /// It is seen to be in a state whose beginning was not.
    pub(super) fn is_in(&mut self, to: &mut Vec<u8>, state: State) {
        if self.state.is_none() && self.changes == 0 {
            self.enter(to, self.last, state);
        }
    }

    /// Something happens to it.
    pub(super) fn mark(&mut self, to: &mut Vec<u8>, at: u64, name: &[u8], args: &[u8]) {
        self.line(to, "i\",\"s\":\"t", at, name, args);
    }

    /// It ends.
    pub(super) fn end(&mut self, to: &mut Vec<u8>, at: u64, why: &str, args: &[u8]) {
        let at = match self.closed {
            true => self.last,
            false => at,
        };
        self.leave(to, at);
        let at = at.max(self.began + 1);
        if !why.is_empty() {
            self.mark(to, at, why.as_bytes(), b"");
        }
        self.named(to, "E", at, args);
        (self.open, self.lane, self.name) = (false, 0, Vec::new());
    }
}
