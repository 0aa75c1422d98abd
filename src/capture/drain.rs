//! From the rings to events.
//!
//! Contract: see [`Source::drain_to`]. What can't be decoded is counted.

use super::Source;
use super::loss::Losses;
use super::way::Way;
use super::ways::Ways;
use crate::bpf::changes::{Changes, Tell};
use crate::bpf::wire::DecodeError;
use crate::model::event::Event;
use crate::owner::processes::Processes;
use crate::perf::record::Body;

/// Takes what comes.
pub trait Sink {
    /// Takes an event, with the processes as they are then; whether more are wanted.
    fn event(&mut self, event: &mut Event, processes: &Processes) -> bool;

    /// Takes changes that were held back, or says that it can't: see [`Tell::changes`].
    fn changes(&mut self, changes: &Changes<'_>) -> bool;
}

/// Takes each as an event.
struct Each<'a>(&'a mut dyn FnMut(&mut Event, &Processes) -> bool);

impl Sink for Each<'_> {
    fn event(&mut self, event: &mut Event, processes: &Processes) -> bool {
        self.0(event, processes)
    }

    fn changes(&mut self, _: &Changes<'_>) -> bool {
        false
    }
}

/// What takes those that were held back.
struct Late<'a> {
    losses: &'a mut Losses,
    past: &'a Processes,
    sink: &'a mut dyn Sink,
    /// Whether more are wanted.
    more: bool,
}

impl Tell for Late<'_> {
    fn event(&mut self, event: &mut Event, read: Result<(), DecodeError>) {
        let is_event = is_event(read, self.losses);
        self.more &= is_event.is_none_or(|()| self.sink.event(event, self.past));
    }

    #[inline]
    fn changes(&mut self, changes: &Changes<'_>) -> bool {
        self.sink.changes(changes)
    }
}

impl Source {
    /// Hands out every event older than `until` (CLOCK_MONOTONIC, nanoseconds)
    /// in the order of time, with the processes as they are then, until `sink`
    /// says that it wants no more. Returns whether events are left. Of an event that was
    /// held back the moment is over: no process is known any more as it was then.
    #[inline]
    pub fn drain_to(&mut self, until: u64, sink: &mut dyn Sink) -> bool {
        self.way.look_ahead(&self.rings, until);
        let (losses, way, processes) = (&mut self.losses, &mut self.way, &mut self.processes);
        let past = &self.past;
        // One place for all: an event is not small.
        let mut event = Event::blank();
        self.rings.drain(until, &mut |sample| {
            if let Body::News(news) = &sample.body {
                processes.observe(sample.time, news);
                way.observe(sample.time, news);
                return true;
            }
            let mut late = Late {
                losses,
                past,
                sink,
                more: true,
            };
            let read = match way {
                Ways::Programs(way) => way.decode(&mut event, &sample, processes, &mut late),
                Ways::Samples(way) => way.decode(&mut event, &sample, processes, &mut late),
            };
            let more = late.more;
            if is_event(read, losses).is_none() {
                return more;
            }
            processes.ran(event.time, &event.on_cpu);
            more & sink.event(&mut event, processes)
        })
    }

    /// The same with no more than a function, each being an event.
    pub fn drain(
        &mut self,
        until: u64,
        sink: &mut dyn FnMut(&mut Event, &Processes) -> bool,
    ) -> bool {
        self.drain_to(until, &mut Each(sink))
    }

    /// Hands out what is still held back when all is drained after
    /// [`Source::detach`].
    #[inline]
    pub(crate) fn take_held(&mut self, sink: &mut dyn Sink) {
        if let Ways::Programs(way) = &mut self.way {
            way.waiting(&mut Late {
                losses: &mut self.losses,
                past: &self.past,
                sink,
                more: true,
            });
        }
    }
}

/// Whether it is an event; what should be one and is not is counted.
#[inline(always)]
fn is_event(read: Result<(), DecodeError>, losses: &mut Losses) -> Option<()> {
    match read {
        Ok(()) => return Some(()),
        Err(DecodeError::Foreign) => {}
        Err(_) => losses.undecodable(),
    }
    None
}
