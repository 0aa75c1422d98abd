//! `--format trace`: connections as slices of time, for viewers of traces.
//!
//! The Trace Event Format, as an array of JSON objects, which Perfetto, chrome://tracing
//! and speedscope read: a process for each owner, in it lanes (threads) of connections
//! that do not overlap, in a connection its states. The objects' `args` are the JSON
//! lines of the same things.
//!
//! Contract: every line is one object and a comma, so that what a killed run has written
//! is read as well: these viewers do without the end of the array. In a lane, begins and
//! ends are balanced, nested and in the order of time, to the nanosecond; what would have
//! no duration has one. A slice stands with its owner as soon as that is sure, at the
//! latest a second after it began. Memory is bounded by the connections that are open.

mod lanes;
mod life;
mod lines;

use crate::cli::Config;
use crate::error::Error;
use crate::lifecycle::SocketId;
use crate::lifecycle::connection::Connection;
use crate::model::cause::Cause;
use crate::model::event::{Resending, What};
use crate::model::hash::ByNumber;
use crate::model::loss::Lost;
use crate::model::tcp::State;
use crate::model::text;
use crate::output::json::Json;
use crate::output::{Format, Picture, Reasons, Record, Shown, Summary, Visit};
use crate::sys::append::append;
use lanes::{NOBODY, Processes, hash};
use life::{Life, NONE};
use lines::line;
use std::hash::RandomState;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// How often what is open is looked through, and how long an owner may be unsure before
/// the slice is put where it seems to belong, in nanoseconds.
const ROUND: u64 = 1_000_000_000;

/// Lines that wait for a sure owner.
const WAITING: u32 = 64;

/// The file.
pub struct Trace {
    json: Json,
    /// When the file begins, on the event clock; all its times are since then.
    base: Option<u64>,
    /// How far the wall clock is ahead of the event clock.
    ahead: u64,
    /// The latest time that is known.
    now: u64,
    /// When the next look is due, on the event clock.
    due: u64,
    round: u8,
    processes: Processes,
    lives: Vec<Life>,
    free: Vec<u32>,
    /// Places of connections by their numbers, and by their ends.
    numbers: ByNumber<u64, u32>,
    ends: ByNumber<u64, u32>,
    keys: RandomState,
    /// What is put in as `args`.
    args: Vec<u8>,
}

/// Opens it.
pub fn open(_: &Config) -> Result<Box<dyn Picture>, Error> {
    Ok(Box::new(Trace::new()))
}

impl Trace {
    fn new() -> Trace {
        Trace {
            json: Json::default(),
            base: None,
            ahead: 0,
            now: 0,
            due: 0,
            round: 0,
            processes: Processes::default(),
            lives: Vec::new(),
            free: Vec::new(),
            numbers: ByNumber::default(),
            ends: ByNumber::default(),
            keys: RandomState::new(),
            args: Vec::new(),
        }
    }

    /// The members of an object that a format has appended as a line.
    fn members(&mut self, render: &mut dyn FnMut(&mut Json, &mut Vec<u8>)) -> Vec<u8> {
        let mut args = std::mem::take(&mut self.args);
        args.clear();
        render(&mut self.json, &mut args);
        while matches!(args.last(), Some(b'\n')) {
            args.pop();
        }
        args
    }

    /// Takes the time, and begins the file by it; nothing in it is older than `first`.
    fn begin(&mut self, to: &mut Vec<u8>, time: u64, wall: u64, first: u64) {
        self.ahead = wall.saturating_sub(time);
        if self.base.is_none() {
            self.base = Some(first.min(time));
            append(to, b"[\n");
            let wall = first.min(time).saturating_add(self.ahead);
            let args = self.members(&mut |json, out| {
                json.open(out, wall, "trace");
                append(out, b"}");
            });
            self.all(to, 0, b"begin of the trace", args);
        }
        self.now = self.now.max(self.at(time));
    }

    /// A time of the file.
    fn at(&self, time: u64) -> u64 {
        time.saturating_sub(self.base.unwrap_or(time))
    }

    /// Says something of no process's.
    fn all(&mut self, to: &mut Vec<u8>, at: u64, name: &[u8], args: Vec<u8>) {
        lines::head(to, NOBODY, NOBODY);
        line(to, "i\",\"s\":\"g", at, name, &args);
        self.args = args;
    }

    /// Where a connection is; a place is made for one that is new.
    fn place(&mut self, id: SocketId, connection: &Connection) -> u32 {
        if let Some(place) = self.numbers.get(&id.number()) {
            return *place;
        }
        let began = match connection.existed() {
            true => 0,
            false => self.at(connection.first()),
        };
        let life = Life::new(id, connection, began, self.round);
        let place = match self.free.pop() {
            Some(place) => {
                self.lives[place as usize] = life;
                place
            }
            None => {
                self.lives.push(life);
                (self.lives.len() - 1) as u32
            }
        };
        self.numbers.insert(id.number(), place);
        place
    }

    /// Lets a slice grow by the changes of its connection up to a time.
    fn grow(&mut self, to: &mut Vec<u8>, place: u32, connection: &Connection, until: u64) {
        let base = self.base.unwrap_or(0);
        let life = &mut self.lives[place as usize];
        life.learn(connection);
        for (time, state) in connection.changes().skip(life.changes.into()) {
            if time > until {
                break;
            }
            life.change(to, time.saturating_sub(base), state);
        }
        if life.established != 0 && life.key == 0 {
            self.pair(place, connection);
        }
    }

    /// Looks for the other end of a connection that is established.
    fn pair(&mut self, place: u32, connection: &Connection) {
        let (local, peer) = (connection.local(), connection.peer());
        // The same from both ends.
        let [one, other] = [local, peer].map(|end| {
            let addr = match end.addr {
                IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
                IpAddr::V6(addr) => addr.to_bits(),
            };
            let high = hash(&self.keys, (addr >> 64) as u64 ^ u64::from(end.port));
            hash(&self.keys, addr as u64 ^ high)
        });
        // Each namespace has a loopback interface of its own.
        let netns = connection.netns().filter(|_| local.addr.is_loopback());
        let key = one ^ other ^ u64::from(netns.unwrap_or(0)) | 1;
        self.lives[place as usize].key = key;
        if let Some(&other) = self.ends.get(&key) {
            let there = &mut self.lives[other as usize];
            if there.other == NONE && there.local == *peer {
                there.other = place;
                self.lives[place as usize].other = other;
                return;
            }
        }
        self.ends.insert(key, place);
    }

    /// Forgets the other end: both are told of, or this one is over.
    fn part(&mut self, place: u32) {
        let life = &mut self.lives[place as usize];
        let (key, other) = (life.key, std::mem::replace(&mut life.other, NONE));
        if let Some(other) = self.lives.get_mut(other as usize) {
            other.other = NONE;
        }
        if self
            .ends
            .get(&key)
            .is_some_and(|p| [place, other].contains(p))
        {
            self.ends.remove(&key);
        }
    }

    /// Puts a slice into a lane of its owner, with what waited for that; and says which
    /// slice is the other end's.
    fn settle(&mut self, to: &mut Vec<u8>, place: u32) {
        let life = &mut self.lives[place as usize];
        if life.lane == 0 {
            let (pid, name) = life.owner;
            life.lane = self.processes.take(to, (pid, &name), life.began);
            life.release(to);
        }
        let here = &self.lives[place as usize];
        let there = self.lives.get(here.other as usize);
        let Some(there) = there.filter(|there| there.lane != 0) else {
            return;
        };
        // Both slices are there from then on, unless one is over.
        let at = here.established.max(there.established);
        let (from, into) = match here.opens {
            true => (here, there),
            false => (there, here),
        };
        if [from, into]
            .iter()
            .all(|life| !life.closed || at <= life.last)
        {
            lines::flow(to, (from.owner.0, from.lane), "s", at, here.key);
            lines::flow(to, (into.owner.0, into.lane), "f", at, here.key);
            let both = [place, here.other];
            for place in both {
                let life = &mut self.lives[place as usize];
                life.last = life.last.max(at);
            }
        }
        self.part(place);
    }

    /// Ends a slice; `why` is marked where that is worth it.
    fn end(&mut self, to: &mut Vec<u8>, place: u32, at: u64, why: &str, args: &[u8]) {
        self.settle(to, place);
        self.part(place);
        let life = &mut self.lives[place as usize];
        let (pid, lane) = (life.owner.0, life.lane);
        life.end(to, at, why, args);
        self.processes.give_back(pid, lane, life.last);
        self.numbers.remove(&life.id.number());
        self.free.push(place);
    }

    /// Ends those that are open, for this reason; `all` of them, or those that were not
    /// seen for two rounds.
    fn sweep(&mut self, to: &mut Vec<u8>, all: bool) {
        for place in 0..self.lives.len() as u32 {
            let life = &self.lives[place as usize];
            let gone = self.round.wrapping_sub(life.round) > 2;
            let (at, note): (_, &[u8]) = match (life.closed, all) {
                // Its record is not shown.
                (true, _) => (life.last, b""),
                (_, true) => (self.now, b"{\"note\":\"open at the end of the trace\"}"),
                _ => (life.last, b"{\"note\":\"its end was not seen\"}"),
            };
            if life.open && (all || gone) {
                self.end(to, place, at, "", note);
            } else if life.open && life.lane == 0 && life.began + ROUND < self.now {
                self.settle(to, place);
            }
        }
    }
}

/// What is marked of an end: that it was not in order.
fn failure(cause: Option<Cause>) -> &'static str {
    use Cause::*;
    match cause {
        Some(ClosedByPeer | ClosedByUs | ClosedByBoth | Duplicate | Unknown) | None => "",
        Some(cause) => cause.words(),
    }
}

/// What a mark that is no change of state is called.
fn mark(what: &What) -> &'static str {
    match what {
        What::Retransmit { error: Some(_), .. } => "retransmission failed",
        What::Retransmit {
            state: Some(State::SynSent),
            ..
        } => "retransmission (syn)",
        What::Retransmit { kind, .. } => match kind {
            Some(Resending::Timeout) => "retransmission (timeout)",
            Some(Resending::Fast) => "retransmission (fast)",
            Some(Resending::TailLossProbe) => "retransmission (tail loss probe)",
            None => "retransmission",
        },
        What::SynAck => "retransmission (syn+ack)",
        What::State { new, .. } => new.name(),
        What::ResetSent { .. } | What::ResetReceived | What::Accepted | What::Destroyed { .. } => {
            ""
        }
    }
}

impl Picture for Trace {
    fn event(&mut self, shown: &Shown<'_>, connection: Option<&Connection>, to: &mut Vec<u8>) {
        let event = shown.event;
        let first = connection.map_or(event.time, Connection::first);
        self.begin(to, event.time, shown.wall, first);
        let at = self.at(event.time);
        let known = connection.zip(shown.id).filter(|(c, _)| !c.is_listener());
        let Some((connection, id)) = known else {
            let (pid, name) = event.owner.map_or((NOBODY, Default::default()), |owner| {
                (owner.task.pid, owner.task.name)
            });
            self.processes.name(to, pid, &name);
            let args = self.members(&mut |json, out| json.event(out, shown, None));
            lines::head(to, pid, pid);
            line(to, "i\",\"s\":\"p", at, mark(&event.what).as_bytes(), &args);
            self.args = args;
            return;
        };
        let place = self.place(id, connection);
        self.grow(to, place, connection, event.time);
        if !matches!(event.what, What::State { .. }) {
            let args = self.members(&mut |json, out| json.event(out, shown, None));
            let life = &mut self.lives[place as usize];
            if let What::Retransmit {
                state: Some(state), ..
            } = event.what
            {
                life.is_in(to, state);
            }
            life.mark(to, at, mark(&event.what).as_bytes(), &args);
            self.args = args;
        }
        let life = &self.lives[place as usize];
        if life.sure || life.lane != 0 || life.lines > WAITING {
            self.settle(to, place);
        }
    }

    fn record(&mut self, record: &Record<'_>, to: &mut Vec<u8>) {
        self.named_record(record, &Reasons::new(), to);
    }

    fn named_record(&mut self, record: &Record<'_>, reasons: &Reasons, to: &mut Vec<u8>) {
        let connection = record.connection;
        let wall = record.ended.wall;
        let end = connection.changes().last().map(|(time, _)| time);
        let time = end.unwrap_or_else(|| wall.saturating_sub(self.ahead));
        self.begin(to, time, wall, connection.first());
        let place = self.place(record.id, connection);
        self.grow(to, place, connection, u64::MAX);
        let args = self.members(&mut |json, out| json.connection(out, record, reasons));
        let at = self.at(time);
        self.end(to, place, at, failure(connection.cause()), &args);
        self.args = args;
    }

    fn lost(&mut self, lost: &Lost, to: &mut Vec<u8>) {
        let time = lost.wall.saturating_sub(self.ahead);
        self.begin(to, time, lost.wall, time);
        let args = self.members(&mut |json, out| json.lost(out, lost));
        let mut name = b"lost: ".to_vec();
        text::number(&mut name, lost.count);
        name.push(b' ');
        append(&mut name, lost.reason.name().as_bytes());
        self.all(to, self.at(time), &name, args);
    }

    fn due(&self) -> u64 {
        self.due
    }

    fn draw(&mut self, now: u64, wall: u64, open: &mut Visit<'_>, to: &mut Vec<u8>) {
        // Of recorded lines, none has come yet: the file begins with the first one.
        if now == 0 {
            return;
        }
        self.begin(to, now, wall, now);
        self.due = now.saturating_add(ROUND);
        self.round = self.round.wrapping_add(1);
        open(&mut |id, connection| {
            if let Some(place) = self.numbers.get(&id.number()) {
                let life = &mut self.lives[*place as usize];
                life.round = self.round;
                life.learn(connection);
            }
        });
        self.sweep(to, false);
    }

    fn keys(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn key(&mut self) -> bool {
        false
    }

    fn resized(&mut self) {}

    fn finish(&mut self, summary: &Summary, to: &mut Vec<u8>) {
        self.sweep(to, true);
        let mut args = Vec::new();
        for (key, value) in [
            ("{\"events.received\":", summary.received),
            (",\"events.shown\":", summary.shown),
            (",\"lost.events\":", summary.lost),
        ] {
            append(&mut args, key.as_bytes());
            text::number(&mut args, value);
        }
        args.push(b'}');
        if self.base.is_none() {
            append(to, b"[\n");
        }
        self.all(to, self.now, b"end of the trace", args);
        // No comma behind the last one.
        to.truncate(to.len() - b",\n".len());
        append(to, b"\n]\n");
    }
}

#[cfg(test)]
mod tests;
