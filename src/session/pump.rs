//! The way of each event through the program, from the rings to the lines.
//!
//! Contract: what is on this way for most events is `#[inline]`. So it is compiled with
//! the file that calls it, for speed, and not with the library, where all else is, for
//! size: see `scripts/build`.

use super::search::Search;
use super::view::View;
use crate::capture::Source;

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

/// Takes the events older than `until` (CLOCK_MONOTONIC, nanoseconds), as long as more
/// are wanted: how many, and whether others are left.
#[inline]
pub fn drain(source: &mut Source, view: &mut View, search: &mut Search, until: u64) -> (u64, bool) {
    let mut came = 0;
    let left = source.drain(until, &mut |event, processes| {
        came += 1;
        search.note(event);
        view.take(event, processes)
    });
    (came, left)
}

/// Takes what the kernel still holds back when all is drained after the end.
#[inline]
pub fn held(source: &mut Source, view: &mut View) {
    source.take_held(&mut |event, processes| view.take(event, processes));
}

/// Shows the records of connections that ended, and of which no more is to come, when
/// all events before `now` (CLOCK_MONOTONIC, nanoseconds) were taken.
#[inline]
pub fn settle(view: &mut View, now: u64) {
    view.settle(now);
}
