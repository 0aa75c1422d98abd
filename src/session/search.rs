//! What was open before the start, as the search's helper tells of it.
//!
//! Contract: what it says is taken in pieces, between other work, and is bounded
//! whatever it says. Until it is over, connections that were there before are
//! known as far as they have been told; then the programs get to know the
//! listeners. What it left out is said. It ends, by itself or by us, in bounded
//! time.

use crate::bpf::maps::{LISTENERS, Listener};
use crate::capture::Source;
use crate::model::ability::Abilities;
use crate::model::event::{Event, What};
use crate::model::tcp::{Endpoint, State};
use crate::output::notice::notice;
use crate::session::view::View;
use crate::snapshot::helper::{Helper, Line};
use crate::snapshot::message::{End, Message, Order};
use crate::snapshot::{Lack, Limits};
use crate::sys::{self, Errno, time};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

const MILLI: u64 = 1_000_000;

/// When the helper is ended that has not come to an end, in nanoseconds from the
/// start on: a moment after it should have.
const LAST: u64 = 5500 * MILLI;

/// Pieces that are read before the rings are looked at again.
const PIECES: usize = 16;

/// Listeners that were closed during the search are remembered up to so many;
/// beyond, children of a later one with the same address may be nobody's.
const CLOSED: usize = 4096;
/// Lines on what could not be had.
const LACKS: usize = 16;

/// A listener that was closed.
#[derive(Debug)]
struct Closed {
    time: u64,
    netns: Option<u32>,
    local: Endpoint,
}

impl Closed {
    fn of(event: &Event) -> Option<Closed> {
        let closed = matches!(
            event.what,
            What::State {
                old: State::Listen,
                new: State::Close,
            }
        );
        closed.then_some(Closed {
            time: event.time,
            netns: event.netns,
            local: event.local,
        })
    }

    fn is(&self, listener: &Listener) -> bool {
        self.local == listener.local && self.netns.unwrap_or(0) == listener.netns
    }
}

/// The search.
#[derive(Debug, Default)]
pub struct Search {
    helper: Option<Helper>,
    /// When it was begun.
    begun: u64,
    /// Every socket that was seen before has been told.
    told: u64,
    /// Owners that may still be told.
    owners: usize,
    listeners: Vec<Listener>,
    closed: Vec<Closed>,
    lacks: Vec<Lack>,
    end: Option<End>,
    /// Before and after the programs got to know the listeners.
    added: Option<(u64, u64)>,
    over: bool,
}

impl Search {
    /// One that is over before it begins.
    pub(super) fn none() -> Search {
        Search {
            over: true,
            ..Search::default()
        }
    }

    /// Lets the helper begin, everything being attached; there is room for so
    /// many connections.
    pub(super) fn begin(helper: sys::Result<Helper>, source: &Source, room: usize) -> Search {
        let mut search = Search {
            begun: time::monotonic(),
            owners: room.saturating_mul(2),
            ..Search::default()
        };
        let order = Order {
            by_netns: source.given().has(Abilities::NETNS),
            room: u32::try_from(room).unwrap_or(u32::MAX),
            limits: Limits::from_now(),
        };
        let begun = helper.and_then(|mut helper| helper.order(&order).map(|()| helper));
        match begun {
            Ok(helper) => search.helper = Some(helper),
            Err(errno) => search.break_off(errno),
        }
        search
    }

    /// What it finds is for this.
    pub(super) fn lead(&self, view: &mut View) {
        if !self.over {
            view.connections.begin_scan(self.begun);
        }
    }

    /// Whether all of it is known.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Readable when the helper has said something.
    pub(super) fn ready(&self) -> Option<BorrowedFd<'_>> {
        self.helper.as_ref().map(|helper| helper.as_fd())
    }

    /// The descriptor by which the helper is ended.
    pub(super) fn pidfd(&self) -> Option<RawFd> {
        self.helper.as_ref().and_then(Helper::pidfd)
    }

    /// Waits so many milliseconds at most until the helper has said something.
    pub(super) fn wait(&self, milliseconds: u8) {
        if let Some(helper) = &self.helper {
            helper.wait(milliseconds);
        }
    }

    /// Up to when events may be shown now without missing whose they are.
    pub(super) fn told(&self) -> u64 {
        match &self.helper {
            Some(_) => self.told,
            None => u64::MAX,
        }
    }

    /// Looks at an event, before it is shown or after.
    pub(super) fn note(&mut self, event: &Event) {
        if !self.over && self.closed.len() < CLOSED {
            self.closed.extend(Closed::of(event));
        }
    }

    fn break_off(&mut self, errno: Errno) {
        self.lacks.push(Lack::Broken(errno));
        self.end = Some(End {
            start: self.begun,
            end: time::monotonic(),
        });
    }

    fn take(&mut self, message: Message, view: &mut View) {
        match message {
            Message::Told(time) => self.told = time,
            Message::Connection(found) => drop(view.connections.adopt(&found)),
            Message::Owner(number, owner) => {
                if let Some(left) = self.owners.checked_sub(1) {
                    self.owners = left;
                    view.connections.adopt_owner(number, &owner);
                }
            }
            Message::Listener(listener) => {
                if self.listeners.len() < LISTENERS as usize {
                    self.listeners.push(listener);
                }
            }
            Message::Listening(netns, local) => view.connections.adopt_listener(netns, local),
            Message::Ports(netns, (first, last)) => {
                view.connections.adopt_ports(netns, first..=last);
            }
            Message::Lack(lack) => {
                if self.lacks.len() < LACKS {
                    self.lacks.push(lack);
                }
            }
            Message::End(End { start, end }) => {
                let end = end.min(time::monotonic());
                self.end = Some(End { start, end });
            }
        }
    }

    /// Takes some of what the helper has said.
    pub(super) fn read(&mut self, view: &mut View) {
        for _ in 0..PIECES {
            let Some(mut helper) = self.helper.take() else {
                return;
            };
            if !helper.wait(0) {
                self.helper = Some(helper);
                break;
            }
            let line = helper.read(&mut |message| self.take(message, view));
            match (self.end, line) {
                // That was all of it.
                (Some(_), _) => {}
                (None, Line::Open) => self.helper = Some(helper),
                (None, Line::Gone) => self.break_off(Errno::EPIPE),
                (None, Line::Bad) => self.break_off(Errno::EIO),
            }
        }
        let late = time::monotonic().saturating_sub(self.begun) > LAST;
        if self.helper.take_if(|_| late).is_some() {
            self.break_off(Errno::ETIME);
        }
    }

    /// Does what is to be done now. All events before `drained` have been noted.
    pub(super) fn step(&mut self, source: &Source, view: &mut View, drained: u64) {
        let Some(end) = self.end.filter(|_| !self.over) else {
            return;
        };
        match self.added {
            None if drained >= end.end => self.tell_programs(source, view, end.end),
            Some((before, after)) if drained >= after => {
                for closed in &self.closed {
                    if (end.start..before).contains(&closed.time) {
                        let gone = self.listeners.iter().filter(|l| closed.is(l));
                        gone.for_each(|listener| {
                            source.forget_listener(listener);
                            view.listeners.forget(listener);
                        });
                    }
                }
                self.finish(view);
            }
            _ => {}
        }
    }

    /// What [`Search::step`] waits for; 0 where that is the helper.
    pub(super) fn waits_for(&self) -> u64 {
        let end = self.end.map(|end| end.end);
        self.added.map(|(_, after)| after).or(end).unwrap_or(0)
    }

    /// Tells the programs of the listeners.
    fn tell_programs(&mut self, source: &Source, view: &mut View, seen: u64) {
        let before = time::monotonic();
        for listener in &self.listeners {
            view.listeners.found(listener, seen, listener.shared);
        }
        let added = self.listeners.iter();
        let added = added.map(|listener| source.add_listener(listener));
        let failed = added.filter(Result::is_err).count();
        if failed > 0 {
            notice(&format!(
                "warning: {failed} addresses with listeners found no room: whose their \
                 connections are is not known"
            ));
        }
        self.added = Some((before, time::monotonic()));
    }

    fn finish(&mut self, view: &mut View) {
        view.connections.end_scan();
        for lack in &self.lacks {
            notice(&lack.to_string());
        }
        *self = Search::none();
    }

    /// The run is over: so is the search.
    pub(super) fn abandon(&mut self, view: &mut View) {
        if !self.over {
            if self.end.is_none() {
                notice(
                    "note: the run is over before the search for what was open before the start",
                );
            }
            self.finish(view);
        }
    }
}
