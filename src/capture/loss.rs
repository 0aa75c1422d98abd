//! What the kernel could not deliver, counted per CPU and reported once.
//!
//! Contract: every source only ever counts up; [`Losses::poll`] returns what
//! came since the last call. A full ring is told twice, by the program at once
//! and by a PERF_RECORD_LOST later; the larger figure is the right one (before
//! Linux 5.2 only the second exists). What the programs sent and the rings never
//! had is told at the second poll that finds it missing.

use crate::bpf::tally::{Counts, Tally};
use crate::model::loss::{Lost, Reason};
use crate::perf::Rings;

/// What has been reported of one CPU.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    ring_full: u64,
    other: u64,
    unreadable: u64,
    owners: u64,
    tasks: u64,
    listeners: u64,
    undelivered: u64,
    /// What looked undelivered at the last poll.
    underway: u64,
}

/// What is counted elsewhere, and on no CPU: since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elsewhere {
    /// Events for which the programs were skipped.
    pub skipped: u64,
    /// Processes that found no room.
    pub processes: u64,
    /// Listeners that found no room, where no program keeps them.
    pub listeners: u64,
}

/// Loss of a whole run.
#[derive(Debug, Default)]
pub struct Losses {
    cpus: Vec<Told>,
    /// What was reported of the rest.
    elsewhere: Elsewhere,
    undecodable: u64,
    undecodable_told: u64,
    total: u64,
}

impl Losses {
    /// Events lost so far, as far as reported.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts an event that arrived and could not be decoded.
    pub fn undecodable(&mut self) {
        self.undecodable += 1;
    }

    /// Hands out what is new: what the rings say, what the programs count where
    /// there are any, and what is counted elsewhere. `wall` is the time to give.
    pub fn poll(
        &mut self,
        rings: &Rings,
        tally: Option<&Tally>,
        now: Elsewhere,
        wall: u64,
        tell: &mut dyn FnMut(Lost),
    ) {
        self.cpus.resize(rings.cpu_ids() as usize, Told::default());
        let mut total = 0;
        let mut step = |told: &mut u64, now: u64, cpu: Option<u32>, reason: Reason| {
            let count = now.saturating_sub(*told);
            if count > 0 {
                *told = now;
                if !reason.spares_events() {
                    total = count.saturating_add(total);
                }
                tell(Lost {
                    wall,
                    cpu,
                    count,
                    reason,
                });
            }
        };
        for (cpu, told) in (0u32..).zip(&mut self.cpus) {
            let unsent = tally.map_or_else(Counts::default, |tally| tally.of(cpu));
            let ring = rings.of(cpu);
            let full = unsent.ring_full.max(ring.map_or(0, |ring| ring.lost()));
            let unreadable = rings.unreadable(cpu);
            let at = Some(cpu);
            step(&mut told.ring_full, full, at, Reason::RingFull);
            let other = ring.map_or(0, |ring| ring.unsampled());
            let other = unsent.other.saturating_add(other);
            step(&mut told.other, other, at, Reason::OutputFailed);
            // Before its record can be seen here an output may be counted. What is
            // still missing at the next look is so for good.
            let underway = match unsent.tried {
                0 => 0,
                tried => {
                    let known = full.saturating_add(unsent.other);
                    tried.saturating_sub(known.saturating_add(rings.delivered(cpu)))
                }
            };
            let undelivered = underway.min(std::mem::replace(&mut told.underway, underway));
            step(&mut told.undelivered, undelivered, at, Reason::Undelivered);
            step(&mut told.owners, unsent.owners, at, Reason::OwnersFull);
            step(&mut told.tasks, rings.lost_news(cpu), at, Reason::TasksFull);
            let listeners = unsent.listeners;
            step(&mut told.listeners, listeners, at, Reason::ListenersFull);
            step(&mut told.unreadable, unreadable, at, Reason::Unreadable);
        }
        let told = &mut self.elsewhere;
        step(&mut told.skipped, now.skipped, None, Reason::Recursion);
        step(&mut told.processes, now.processes, None, Reason::TasksFull);
        let listeners = now.listeners;
        step(&mut told.listeners, listeners, None, Reason::ListenersFull);
        let undecodable = self.undecodable;
        step(
            &mut self.undecodable_told,
            undecodable,
            None,
            Reason::Unreadable,
        );
        self.total = self.total.saturating_add(total);
    }
}
