//! The way of each event through the program, from the rings to the lines.
//!
//! Contract: what is on this way for most events is `#[inline]`. So it is compiled with
//! the file that calls it, for speed, and not with the library, where all else is, for
//! size: see `scripts/build`.

use super::search::Search;
use super::view::View;
use crate::bpf::changes::Changes;
use crate::capture::{Sink, Source};
use crate::model::event::Event;
use crate::owner::processes::Processes;

/// The way, as the file of an edition has it.
#[derive(Clone, Copy, Debug)]
pub struct Pump {
    /// See [`drain`].
    pub drain: fn(&mut Source, &mut View, &mut Search, u64) -> (u64, bool),
    /// See [`held`].
    pub held: fn(&mut Source, &mut View),
    /// See [`settle`].
    pub settle: fn(&mut View, u64),
}

impl Pump {
    /// The way as it is compiled for the file of which the caller is a part.
    #[inline]
    pub fn here() -> Pump {
        Pump {
            drain,
            held,
            settle,
        }
    }
}

/// What takes the events.
struct Taker<'a> {
    view: &'a mut View,
    search: Option<&'a mut Search>,
    came: u64,
}

impl Sink for Taker<'_> {
    #[inline]
    fn event(&mut self, event: &mut Event, processes: &Processes) -> bool {
        self.came += 1;
        if let Some(search) = &mut self.search {
            search.note(event);
        }
        self.view.take(event, processes)
    }

    #[inline]
    fn changes(&mut self, changes: &Changes<'_>) -> bool {
        let taken = self.view.take_held(changes);
        if taken {
            self.came += changes.count();
        }
        taken
    }
}

/// Takes the events older than `until` (CLOCK_MONOTONIC, nanoseconds), as long as more
/// are wanted: how many, and whether others are left.
#[inline]
pub fn drain(source: &mut Source, view: &mut View, search: &mut Search, until: u64) -> (u64, bool) {
    let mut taker = Taker {
        view,
        search: Some(search),
        came: 0,
    };
    let left = source.drain_to(until, &mut taker);
    (taker.came, left)
}

/// Takes what the kernel still holds back when all is drained after the end.
#[inline]
pub fn held(source: &mut Source, view: &mut View) {
    source.take_held(&mut Taker {
        view,
        search: None,
        came: 0,
    });
}

/// Shows the records of connections that ended, and of which no more is to come, when
/// all events before `now` (CLOCK_MONOTONIC, nanoseconds) were taken.
#[inline]
pub fn settle(view: &mut View, now: u64) {
    view.settle(now);
}
