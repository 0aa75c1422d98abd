//! From the rings to events.
//!
//! Contract: see [`Source::drain`]. What can't be decoded is counted.

use super::Source;
use super::loss::Losses;
use super::way::{Tell, Way};
use super::ways::Ways;
use crate::bpf::wire::DecodeError;
use crate::model::event::Event;
use crate::owner::processes::Processes;
use crate::perf::record::Body;

/// Takes an event, with the processes as they are then; whether more are wanted.
type Sink<'a> = dyn FnMut(&mut Event, &Processes) -> bool + 'a;

impl Source {
    /// Hands out every event older than `until` (CLOCK_MONOTONIC, nanoseconds)
    /// in the order of time, with the processes as they are then, until `sink`
    /// returns false. Returns whether events are left. Of an event that was held back
    /// the moment is over: no process is known any more as it was then.
    #[inline]
    pub fn drain(&mut self, until: u64, sink: &mut Sink<'_>) -> bool {
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
            let mut more = true;
            let tell: &mut Tell<'_> = &mut |held, read| {
                more &= is_event(read, losses).is_none_or(|()| sink(held, past));
            };
            let read = match way {
                Ways::Programs(way) => way.decode(&mut event, &sample, processes, tell),
                Ways::Samples(way) => way.decode(&mut event, &sample, processes, tell),
            };
            if is_event(read, losses).is_none() {
                return more;
            }
            processes.ran(event.time, &event.on_cpu);
            more & sink(&mut event, processes)
        })
    }

    /// Hands out what is still held back when all is drained after
    /// [`Source::detach`].
    pub(crate) fn take_held(&mut self, sink: &mut Sink<'_>) {
        let (losses, past) = (&mut self.losses, &self.past);
        self.way.waiting(&mut |held, read| {
            if is_event(read, losses).is_some() {
                sink(held, past);
            }
        });
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
