//! What of a connection was sent again: in segments, where the kernel's own
//! count of them is known.
//!
//! Contract: one event may be of several segments (GSO), so that events are
//! never taken for segments of data; SYNs and SYN+ACKs are one each. The
//! differences of the kernel's count (`total_retrans`) between events are theirs;
//! what it has more at the end makes up for events that were lost. What could
//! not be sent counts apart, where the kernel tells (Linux 6.17 and later).

use crate::model::event::What;
use crate::model::tcp::State;

/// What was sent again, in segments unless something else is said; each where it
/// is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of whatever kind.
    pub all: Option<u64>,
    /// SYNs.
    pub syn: Option<u32>,
    /// SYN+ACKs.
    pub synack: Option<u32>,
    /// Data and FINs.
    pub data: Option<u32>,
    /// Events of data and FINs, where their segments aren't known.
    pub data_events: Option<u32>,
    /// Events of what could not be sent.
    pub failed: u32,
    /// Whether some of what failed may be among the kernel's own counts.
    pub with_failed: bool,
}

impl Counts {
    /// Events, where not all of these are known in segments.
    pub fn events(&self) -> u64 {
        let of = |n: Option<u32>| u64::from(n.unwrap_or(0));
        of(self.syn) + of(self.synack) + of(self.data_events)
    }
}

/// What is known of the connection besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// Its beginning was seen, and with it every SYN+ACK.
    pub whole: bool,
    /// It was opened: what was missed is data.
    pub established: bool,
    /// The socket's count at its end.
    pub total: Option<u32>,
}

/// A connection's retransmissions so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resent {
    syn: u32,
    synack: u32,
    data: u32,
    data_events: u32,
    failed: u32,
    /// Segments that failed and are in the kernel's count all the same.
    vain: u32,
    /// The kernel's count as it was last known.
    last: u32,
    /// Whether it is known.
    counted: bool,
    /// Whether an event came whose segments are not known.
    untold: bool,
}

impl Resent {
    /// None yet, of a connection that begins.
    #[inline]
    pub(super) fn from_the_beginning() -> Resent {
        Resent {
            counted: true,
            ..Resent::default()
        }
    }

    /// Whether there was anything.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.syn != 0 || self.synack != 0 || self.data_events != 0 || self.failed != 0
    }

    /// SYN+ACKs that were sent again: the kernel counts them as the child's,
    /// before it has a socket (tcp_minisocks.c, tcp_create_openreq_child()) and
    /// after (TCP Fast Open; tcp_output.c, tcp_rtx_synack()).
    pub(super) fn synacks(&mut self, count: u32) {
        self.synack = self.synack.saturating_add(count);
        self.last = self.last.saturating_add(count);
    }

    /// Takes an event of a connection in this state. Returns the segments that
    /// were sent again, where that is known.
    pub(super) fn observe(&mut self, what: &What, state: Option<State>) -> Option<u32> {
        let &What::Retransmit { error, total, .. } = what else {
            return None;
        };
        let known = self.counted;
        let more = total.filter(|_| known).map(|t| t.wrapping_sub(self.last));
        // Less than before: another one's, or none of ours.
        let more = more.filter(|n| *n <= u32::MAX / 2);
        if let Some(total) = total {
            (self.last, self.counted) = (total, true);
        }
        if error.is_some() {
            self.failed = self.failed.saturating_add(1);
            self.vain = self.vain.saturating_add(more.unwrap_or(0));
            self.untold |= more.is_none();
            return None;
        }
        // The kernel counts first.
        let more = more.filter(|n| *n > 0);
        let kind = match state {
            Some(State::SynSent) => &mut self.syn,
            Some(State::SynRecv) => &mut self.synack,
            _ => {
                self.data_events = self.data_events.saturating_add(1);
                self.untold |= more.is_none();
                self.data = self.data.saturating_add(more.unwrap_or(0));
                return more;
            }
        };
        let more = more.unwrap_or(1);
        *kind = kind.saturating_add(more);
        Some(more)
    }

    /// Takes a recorded event of a connection in this state, of which so many segments
    /// are told; false where it is another one than a retransmission's.
    pub(super) fn recall(
        &mut self,
        what: &What,
        segments: Option<u32>,
        now: Option<State>,
    ) -> bool {
        let &What::Retransmit { state, error, .. } = what else {
            return false;
        };
        let total = segments.map(|more| self.last.wrapping_add(more));
        self.counted = true;
        let total = total.filter(|_| error.is_none());
        self.observe(
            &What::Retransmit {
                state,
                error,
                total,
                kind: None,
            },
            state.or(now),
        );
        true
    }

    /// What events have told so far: segments, or else events.
    pub(super) fn so_far(&self) -> u64 {
        let data = match self.untold {
            true => self.data_events,
            false => self.data,
        };
        u64::from(self.syn) + u64::from(self.synack) + u64::from(data)
    }

    /// What it comes to at the end of its connection.
    #[inline]
    pub(super) fn counts(&self, life: &Life) -> Counts {
        let mut counts = Counts {
            failed: self.failed,
            with_failed: self.vain > 0 || self.failed > 0 && self.untold,
            ..Counts::default()
        };
        let vain = match counts.with_failed {
            true if self.untold => None,
            _ => Some(self.vain),
        };
        let of_others = self.syn.saturating_add(self.synack);
        counts.all = match (life.total, vain) {
            (Some(total), Some(vain)) => Some(u64::from(total.saturating_sub(vain))),
            _ => None,
        };
        let known = life.whole && !self.untold && self.counted;
        match counts.all {
            Some(0) => {
                (counts.syn, counts.synack, counts.data) = (Some(0), Some(0), Some(0));
            }
            Some(all) if life.whole => {
                let all = u32::try_from(all).unwrap_or(u32::MAX);
                let seen = of_others.saturating_add(self.data);
                let missed = match life.established {
                    true => 0,
                    false => all.saturating_sub(seen),
                };
                counts.syn = Some(self.syn.saturating_add(missed));
                counts.synack = Some(self.synack);
                counts.data = Some(all.saturating_sub(of_others).saturating_sub(missed));
            }
            // Of which kind they were before the start can't be told.
            Some(_) => {}
            None if known => {
                let seen = of_others.saturating_add(self.data);
                counts.all = Some(seen.into());
                (counts.syn, counts.synack) = (Some(self.syn), Some(self.synack));
                counts.data = Some(self.data);
            }
            None => {
                counts.syn = life.whole.then_some(self.syn);
                counts.synack = life.whole.then_some(self.synack);
                counts.data_events = Some(self.data_events);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Life = Life {
        whole: true,
        established: true,
        total: None,
    };
    const ESTABLISHED: Option<State> = Some(State::Established);

    fn again(total: Option<u32>) -> What {
        What::Retransmit {
            kind: None,
            state: None,
            error: None,
            total,
        }
    }

    fn failed(total: Option<u32>) -> What {
        What::Retransmit {
            kind: None,
            state: None,
            error: Some(libc::EPERM),
            total,
        }
    }

    fn ended(resent: &Resent, total: Option<u32>) -> Counts {
        resent.counts(&Life { total, ..WHOLE })
    }

    fn split(counts: &Counts) -> (Option<u32>, Option<u32>, Option<u32>) {
        (counts.syn, counts.synack, counts.data)
    }

    #[test]
    fn one_event_may_be_of_several_segments() {
        let mut resent = Resent::from_the_beginning();
        let syn = resent.observe(&again(Some(1)), Some(State::SynSent));
        assert_eq!(syn, Some(1));
        assert_eq!(resent.observe(&again(Some(18)), ESTABLISHED), Some(17));
        assert_eq!(resent.observe(&again(Some(19)), ESTABLISHED), Some(1));
        let counts = ended(&resent, Some(19));
        assert_eq!(split(&counts), (Some(1), Some(0), Some(18)));
        assert_eq!((counts.all, counts.data_events), (Some(19), None));
        // Two events of 10 got lost.
        let counts = ended(&resent, Some(29));
        assert_eq!(split(&counts), (Some(1), Some(0), Some(28)));
        // A socket that was cleared tells nothing more.
        assert_eq!(split(&ended(&resent, None)), (Some(1), Some(0), Some(18)));
    }

    #[test]
    fn what_failed_was_not_sent() {
        let mut resent = Resent::from_the_beginning();
        assert_eq!(resent.observe(&again(Some(2)), ESTABLISHED), Some(2));
        // The device refused it; and it could not even be tried.
        assert_eq!(resent.observe(&failed(Some(5)), ESTABLISHED), None);
        assert_eq!(resent.observe(&failed(Some(5)), ESTABLISHED), None);
        assert_eq!(resent.observe(&again(Some(6)), ESTABLISHED), Some(1));
        let counts = ended(&resent, Some(6));
        assert_eq!((counts.all, counts.data), (Some(3), Some(3)));
        assert_eq!((counts.failed, counts.with_failed), (2, true));
    }

    #[test]
    fn a_child_begins_with_its_synacks() {
        let mut resent = Resent::from_the_beginning();
        resent.synacks(2);
        assert_eq!(resent.observe(&again(Some(5)), ESTABLISHED), Some(3));
        let counts = ended(&resent, Some(5));
        assert_eq!(split(&counts), (Some(0), Some(2), Some(3)));
    }

    #[test]
    fn an_attempt_sends_nothing_but_syns() {
        let mut resent = Resent::from_the_beginning();
        resent.observe(&again(Some(1)), Some(State::SynSent));
        let life = Life {
            established: false,
            total: Some(3),
            ..WHOLE
        };
        let counts = resent.counts(&life);
        assert_eq!(split(&counts), (Some(3), Some(0), Some(0)));
    }

    #[test]
    fn by_samples_the_end_tells_or_only_events_are_counted() {
        let mut resent = Resent::from_the_beginning();
        let syn = resent.observe(&again(None), Some(State::SynSent));
        assert_eq!(syn, Some(1));
        assert_eq!(resent.observe(&again(None), ESTABLISHED), None);
        resent.observe(&again(None), ESTABLISHED);
        let counts = ended(&resent, Some(41));
        assert_eq!(split(&counts), (Some(1), Some(0), Some(40)));
        let counts = ended(&resent, None);
        assert_eq!(split(&counts), (Some(1), Some(0), None));
        assert_eq!((counts.data_events, counts.events()), (Some(2), 3));
        assert_eq!(counts.all, None);
        // Whether what failed is in the kernel's count can't be told.
        resent.observe(&failed(None), ESTABLISHED);
        let counts = ended(&resent, Some(41));
        assert_eq!((counts.all, counts.data), (None, None));
        assert_eq!(counts.data_events, Some(2));
    }

    #[test]
    fn what_began_before_the_start_has_a_sum_only() {
        let mut resent = Resent::default();
        assert_eq!(resent.observe(&again(Some(90)), ESTABLISHED), None);
        assert_eq!(resent.observe(&again(Some(95)), ESTABLISHED), Some(5));
        let life = |total| Life {
            whole: false,
            established: true,
            total,
        };
        let counts = resent.counts(&life(Some(100)));
        assert_eq!(counts.all, Some(100));
        assert_eq!(split(&counts), (None, None, None));
        assert_eq!(resent.counts(&life(None)).data_events, Some(2));
        let counts = Resent::default().counts(&life(Some(0)));
        assert_eq!(split(&counts), (Some(0), Some(0), Some(0)));
        let counts = Resent::default().counts(&life(None));
        assert_eq!(counts.data_events, Some(0));
    }
}
