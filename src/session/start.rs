//! The start of a run: what exists already, and the opening line.
//!
//! Contract: everything is attached before. Events that come during the scan
//! stay in the rings, unless these fill up; then they are shown, the opening
//! line before them. When this returns, the programs know the listeners, every
//! event from before the end of the scan is dealt with, and the opening line is
//! ready. Nothing is opened after that.

use super::SETTLE;
use crate::error::Error;
use crate::event::{Event, Known, Owner, What};
use crate::existing::Existing;
use crate::maps::Listener;
use crate::output::notice;
use crate::snapshot::broadcast::Broadcasts;
use crate::snapshot::{self, Purpose, Sink, Stock};
use crate::source::Source;
use crate::sys::signal::Signals;
use crate::sys::time;
use crate::tcp::{Endpoint, State};
use crate::view::View;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Listeners that were closed during the scan are remembered up to so many;
/// beyond, children of a later one with the same address may be nobody's.
const CLOSED: usize = 4096;

/// The scan's other end.
struct Start<'a> {
    source: &'a mut Source,
    view: &'a mut View,
    signals: &'a Signals,
    /// The opening line, until it is printed.
    opening: Option<&'a str>,
    closed: Vec<Closed>,
}

/// A listener that was closed.
struct Closed {
    time: u64,
    netns: Option<u32>,
    local: Endpoint,
}

impl Closed {
    fn of(event: &Event) -> Option<Closed> {
        let closed = What::State {
            old: State::Listen,
            new: State::Close,
        };
        (event.what == closed).then_some(Closed {
            time: event.time,
            netns: event.netns,
            local: event.local,
        })
    }

    fn is(&self, listener: &Listener) -> bool {
        self.local == listener.local && self.netns.unwrap_or(0) == listener.netns
    }
}

impl Start<'_> {
    fn say_opening(&mut self) {
        if let Some(opening) = self.opening.take() {
            self.view.output.announce(opening);
        }
    }

    fn drain(&mut self, until: u64) {
        let (view, closed) = (&mut *self.view, &mut self.closed);
        view.refresh();
        self.source.drain(until, &mut |event, processes| {
            if closed.len() < CLOSED {
                closed.extend(Closed::of(event));
            }
            view.take(event, processes)
        });
    }

    /// Tells the programs of the listeners, and takes back what was not true any
    /// more when they got to know it.
    fn listeners(&mut self, stock: &Stock) {
        for listener in &stock.listeners {
            self.view
                .listeners
                .found(listener, stock.end, listener.shared);
        }
        let before = time::monotonic();
        let added = stock.listeners.iter();
        let added = added.map(|listener| self.source.add_listener(listener));
        let failed = added.filter(Result::is_err).count();
        if failed > 0 {
            notice(&format!(
                "warning: {failed} addresses with listeners found no room: whose their \
                 connections are is not known"
            ));
        }
        self.say_opening();
        // All of that must be in the rings, and settled.
        let end = time::monotonic();
        let wait = end.saturating_add(SETTLE).saturating_sub(time::monotonic());
        std::thread::sleep(Duration::from_nanos(wait));
        self.drain(end);
        for closed in &self.closed {
            if (stock.start..before).contains(&closed.time) {
                let gone = stock.listeners.iter().filter(|l| closed.is(l));
                gone.for_each(|listener| self.source.forget_listener(listener));
            }
        }
    }
}

impl Sink for Start<'_> {
    fn connection(&mut self, found: &Existing) -> Option<u32> {
        self.view.connections.adopt(found)
    }

    fn owner(&mut self, number: u32, owner: &Owner) {
        self.view.connections.adopt_owner(number, owner);
    }

    fn listening(&mut self, netns: u32, local: Endpoint) {
        self.view.connections.adopt_listener(netns, local);
    }

    fn ports(&mut self, netns: u32, range: RangeInclusive<u16>) {
        self.view.connections.adopt_ports(netns, range);
    }

    fn breathe(&mut self, until: u64) -> bool {
        self.view.refresh();
        if self.source.is_filling() {
            self.say_opening();
            let settled = time::monotonic().saturating_sub(SETTLE);
            self.drain(until.min(settled));
        }
        !self.signals.stop() && !self.view.is_done()
    }
}

/// Where a connection's counters come from, if not from the events.
fn counters(why: &Error, broadcasts: &Broadcasts) -> String {
    let namespaces = match broadcasts.namespaces() {
        0 => {
            let silent = match broadcasts.deaf() {
                Some((_, errno)) => format!(" (nor does sock_diag tell them: {errno})"),
                None => String::new(),
            };
            return format!("note: connections without bytes, segments and RTT: {why}{silent}");
        }
        1 => "this network namespace".into(),
        n => format!("the {n} network namespaces of now"),
    };
    let but = match broadcasts.deaf() {
        Some((deaf, errno)) => format!(", {deaf} can't be listened to ({errno})"),
        None => String::new(),
    };
    format!(
        "note: bytes, segments and RTT come from sock_diag when a socket is destroyed, \
         in {namespaces}{but}: {why}"
    )
}

/// Finds what exists already, if that is wanted, and prints the opening line.
pub(super) fn start(
    source: &mut Source,
    view: &mut View,
    signals: &Signals,
    opening: &str,
    scan: bool,
) -> Broadcasts {
    let by_netns = source.known().contains(Known::NETNS);
    let mut start = Start {
        source,
        view,
        signals,
        opening: Some(opening),
        closed: Vec::new(),
    };
    let purpose = Purpose {
        list: scan,
        hear: start.source.tells_destroys(),
    };
    let mut stock = Stock::default();
    if purpose.list || purpose.hear {
        start.view.connections.begin_scan(time::monotonic());
        stock = snapshot::take(&mut start, by_netns, purpose);
        if purpose.list {
            for lack in &stock.lacks {
                notice(&lack.to_string());
            }
            start.listeners(&stock);
        }
        start.view.connections.end_scan();
    }
    let broadcasts = stock.broadcasts.unwrap_or_default();
    if broadcasts.namespaces() > 0 {
        start.view.connections.expect_farewells();
    }
    if let Some(why) = start.source.without_counters() {
        notice(&counters(why, &broadcasts));
    }
    start.say_opening();
    broadcasts
}
