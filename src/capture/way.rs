//! What yields events: a CPU's bytes and their time in, events out.
//!
//! Contract: a way to the events is one type that says all that differs from the
//! others; [`super::Source`] asks nobody which one it is. What a way has nothing
//! to do for stays as it is here.

use super::loss::Elsewhere;
use crate::bpf::changes::Tell;
use crate::bpf::maps::Listener;
use crate::bpf::tally::Tally;
use crate::bpf::wire::DecodeError;
use crate::error::Error;
use crate::filter::tree::Expr;
use crate::model::event::Event;
use crate::owner::processes::Processes;
use crate::perf::record::News;
use crate::perf::{Ring, Rings, Sample};
use crate::sys;

/// A way to the events.
pub(super) trait Way {
    /// Decodes the event of a sample into its place, which has one that was before;
    /// [`DecodeError::Foreign`] is none and no mistake. `processes` are as they are then.
    /// Those that were held back and come with it are told of before, in order: all are
    /// older.
    fn decode(
        &mut self,
        event: &mut Event,
        sample: &Sample<'_>,
        processes: &Processes,
        held: &mut dyn Tell,
    ) -> Result<(), DecodeError>;

    /// The names of the reasons of resets, by number, where they are known.
    fn reset_reasons(&self) -> &[(u32, String)];

    /// The processes that are there now, by the ids that the events tell.
    fn processes(&self) -> Processes;

    /// Ends it: what is in the rings then is all there will be.
    fn detach(&mut self, rings: &Rings);

    /// To be called before the rings are drained up to `until`.
    fn look_ahead(&mut self, _rings: &Rings, _until: u64) {}

    /// Takes what became of a task at `time`.
    fn observe(&mut self, _time: u64, _news: &News) {}

    /// From here on files are read by a helper alone.
    fn hand_over(&mut self) -> sys::Result<()> {
        Ok(())
    }

    /// There was this listener before.
    fn add_listener(&self, _listener: &Listener) -> sys::Result<()> {
        Ok(())
    }

    /// Takes that back: it had gone already.
    fn forget_listener(&self, _listener: &Listener) {}

    /// From here on no event is kept away; whether any was until now.
    fn open_guard(&self) -> sys::Result<bool> {
        Ok(false)
    }

    /// Another filter is to be in force, where that can be: step by step, from here
    /// on. Whether it will be.
    fn renew_guard(&mut self, _expr: &Expr) -> Result<bool, Error> {
        Ok(false)
    }

    /// Whether a step is due.
    fn is_renewing(&self) -> bool {
        false
    }

    /// Takes the next step; whether it was the last.
    fn step_guard(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Events that the filter has kept away, where it can.
    fn kept_away(&self) -> Option<u64> {
        None
    }

    /// Tries all that a run will do to learn what was lost; `connect` is a ring to
    /// be used as one that is opened later.
    fn try_losses(&self, _connect: Option<&Ring>) -> sys::Result<()> {
        Ok(())
    }

    /// What is counted by CPU beside the rings.
    fn tally(&self) -> Option<&Tally> {
        None
    }

    /// What is counted elsewhere.
    fn count(&self, elsewhere: &mut Elsewhere);

    /// Whether an output that failed tells of a CPU without a ring. Else only a
    /// ring tells of a CPU that came up, and of what it lacks.
    fn tells_of_cpus(&self) -> bool;

    /// Takes a ring that was opened later. What is missing nevertheless.
    fn connect(&self, ring: &Ring) -> sys::Result<Option<&'static str>>;
}
