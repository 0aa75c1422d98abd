//! The start of a run: what exists already, and the opening line.
//!
//! Contract: everything is attached before. Events that come meanwhile stay in
//! the rings, unless these fill up; then they are shown, the opening line before
//! them. This returns in bounded time: what the search has not found by then is
//! told later. Else, when this returns, the programs know the listeners, and
//! every event from before the end of the search is dealt with. The opening line
//! is ready, and nothing is opened after that.

use super::pump::Pump;
use super::search::Search;
use crate::capture::Source;
use crate::error::Error;
use crate::model::ability::Abilities;
use crate::output::notice::notice;
use crate::session::view::View;
use crate::snapshot;
use crate::snapshot::broadcast::Broadcasts;
use crate::sys::signal::Signals;
use crate::sys::time;
use std::time::Duration;

/// Samples younger than this wait for the next drain: a CPU may still be
/// writing an older one.
pub(super) const SETTLE: u64 = 1_000_000;

const MILLI: u64 = 1_000_000;

/// How long the opening line waits for the search, in nanoseconds.
const WAIT: u64 = 650 * MILLI;
/// Of that, how long namespaces are entered to be listened to.
const HEAR: u64 = 300 * MILLI;
/// How long to wait at a time, in milliseconds.
const MOMENT: u8 = 5;

/// What the start works with.
struct Start<'a> {
    source: &'a mut Source,
    view: &'a mut View,
    pump: Pump,
    signals: &'a Signals,
    /// The opening line, until it is ready.
    opening: Option<&'a str>,
}

impl Start<'_> {
    fn say_opening(&mut self) {
        if let Some(opening) = self.opening.take() {
            self.view.output.announce(opening);
        }
    }

    fn drain(&mut self, search: &mut Search, until: u64) {
        self.view.refresh();
        (self.pump.drain)(self.source, self.view, search, until);
    }

    /// Goes on with the search; whether there is a reason to wait for it.
    fn breathe(&mut self, search: &mut Search) -> bool {
        self.view.refresh();
        search.read(self.view);
        if self.source.is_filling() {
            self.say_opening();
            let settled = time::monotonic().saturating_sub(SETTLE);
            self.drain(search, settled.min(search.told()));
        }
        !self.signals.stop() && !self.view.is_done()
    }

    /// Waits for the search, until then at most.
    fn wait(&mut self, search: &mut Search, until: u64) {
        while !search.is_over() && time::monotonic() < until && self.breathe(search) {
            let end = search.waits_for();
            if end == 0 {
                search.wait(MOMENT);
                continue;
            }
            // All of that must be in the rings, and settled.
            self.say_opening();
            let settled = end.saturating_add(SETTLE).max(time::monotonic());
            let wait = settled.saturating_sub(time::monotonic());
            std::thread::sleep(Duration::from_nanos(wait.min(2 * SETTLE)));
            let drained = time::monotonic().saturating_sub(SETTLE);
            self.drain(search, drained);
            search.step(self.source, self.view, drained);
        }
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

/// Finds what exists already, if that is searched for, and makes the opening line
/// ready.
pub(super) fn start(
    (source, view, pump): (&mut Source, &mut View, Pump),
    signals: &Signals,
    opening: &str,
    search: &mut Search,
) -> Broadcasts {
    let begun = time::monotonic();
    search.lead(view);
    let mut start = Start {
        source,
        view,
        pump,
        signals,
        opening: Some(opening),
    };
    let broadcasts = match start.source.given().has(Abilities::DESTROYS) {
        true => snapshot::hear(begun + HEAR, &mut || start.breathe(search)),
        false => Broadcasts::default(),
    };
    if broadcasts.namespaces() > 0 {
        start.view.connections.expect_destroys();
    }
    start.wait(search, begun + WAIT);
    if !search.is_over() {
        notice("note: the search for what was open before the start goes on");
    }
    if let Some(why) = start.source.given().why_not(Abilities::COUNTERS) {
        notice(&counters(why, &broadcasts));
    }
    start.say_opening();
    broadcasts
}
