//! What the kernel could not deliver, counted per CPU and reported once.
//!
//! Contract: every source only ever counts up; [`Losses::poll`] returns what
//! came since the last call. A full ring is told up to three times: by the program
//! at once (ENOSPC, since about Linux 5.2), by a PERF_RECORD_LOST once there is room,
//! and by what the programs sent and the rings never had, which counts at the second
//! poll that finds it missing. It is one loss: the largest figure is the right one.

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
    /// What was sent and had not come at the last poll.
    missing: u64,
}

impl Told {
    /// Events that found a ring full: of what the programs counted, of so many as
    /// its records told, and of so many as it has had.
    fn full(&mut self, sent: &Counts, records: u64, delivered: u64) -> u64 {
        let told = sent.ring_full.max(records);
        if sent.tried == 0 {
            return told;
        }
        // Before its record can be seen here an output may be counted. What is still
        // missing at the next look is so for good.
        let come = sent.other.saturating_add(delivered);
        let missing = sent.tried.saturating_sub(come);
        told.max(missing.min(std::mem::replace(&mut self.missing, missing)))
    }
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
    /// Events whose socket's card is not held.
    pub cards: u64,
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
            let records = ring.map_or(0, |ring| ring.lost());
            let full = told.full(&unsent, records, rings.delivered(cpu));
            let unreadable = rings.unreadable(cpu);
            let at = Some(cpu);
            step(&mut told.ring_full, full, at, Reason::RingFull);
            let other = ring.map_or(0, |ring| ring.unsampled());
            let other = unsent.other.saturating_add(other);
            step(&mut told.other, other, at, Reason::OutputFailed);
            step(&mut told.owners, unsent.owners, at, Reason::OwnersFull);
            step(&mut told.tasks, rings.lost_news(cpu), at, Reason::TasksFull);
            let listeners = unsent.listeners;
            step(&mut told.listeners, listeners, at, Reason::ListenersFull);
            step(&mut told.unreadable, unreadable, at, Reason::Unreadable);
        }
        let told = &mut self.elsewhere;
        step(&mut told.skipped, now.skipped, None, Reason::Recursion);
        step(&mut told.processes, now.processes, None, Reason::TasksFull);
        step(&mut told.cards, now.cards, None, Reason::CardMissing);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What each look finds: outputs, those that the programs know to have found no
    /// room, those that records told of, and those that came.
    fn told(looks: &[(u64, u64, u64, u64)]) -> Vec<u64> {
        let mut told = Told::default();
        let look = |&(tried, ring_full, records, delivered): &(u64, u64, u64, u64)| {
            let sent = Counts {
                tried,
                ring_full,
                ..Counts::default()
            };
            told.full(&sent, records, delivered)
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_full_ring_is_one_loss_where_the_program_is_told() {
        // The program knows it at once, a record tells it later.
        let looks = [
            (50, 0, 0, 50),
            (100, 40, 0, 60),
            (101, 40, 40, 61),
            (101, 40, 40, 61),
        ];
        assert_eq!(told(&looks), [0, 40, 40, 40]);
    }

    #[test]
    fn a_full_ring_is_one_loss_where_the_program_is_not_told() {
        // Linux 4.16 to 5.1: missing first, then told by a record.
        let looks = [
            (50, 0, 0, 50),
            (267, 0, 0, 50),
            (267, 0, 0, 50),
            (268, 0, 217, 51),
            (268, 0, 217, 51),
        ];
        assert_eq!(told(&looks), [0, 0, 217, 217, 217]);
        // The record first.
        let looks = [(268, 0, 217, 51), (268, 0, 217, 51)];
        assert_eq!(told(&looks), [217, 217]);
        // No record ever: nothing came any more.
        assert_eq!(told(&[(267, 0, 0, 50), (267, 0, 0, 50)]), [0, 217]);
    }

    #[test]
    fn what_is_underway_is_not_lost() {
        let looks = [
            (10, 0, 0, 9),
            (12, 0, 0, 12),
            (13, 0, 0, 12),
            (13, 0, 0, 13),
        ];
        assert_eq!(told(&looks), [0; 4]);
        // With plain samples no program counts.
        assert_eq!(told(&[(0, 0, 3, 9)]), [3]);
    }

    #[test]
    fn what_failed_otherwise_did_not_find_a_full_ring() {
        let mut told = Told::default();
        let sent = Counts {
            tried: 12,
            other: 2,
            ..Counts::default()
        };
        assert_eq!([told.full(&sent, 0, 10), told.full(&sent, 0, 10)], [0, 0]);
    }
}
