//! What a connection's end was, until its record is due.

use super::resent::Counts;
use crate::model::event::Counters;

/// The end of a connection.
#[derive(Debug, Default)]
pub struct Ended {
    pub(super) slot: u32,
    pub(super) number: u64,
    /// When its record is due, on the event clock.
    pub(super) due: u64,
    /// When it ended, in nanoseconds since the epoch.
    pub wall: u64,
    /// What it had counted.
    pub counters: Counters,
    /// Whether the kernel entered TIME_WAIT, where that can be told.
    pub time_wait: Option<bool>,
    /// What was sent again.
    pub resent: Counts,
    /// Whether the peer's end was seen, too: `false`, or not known.
    pub end_seen: Option<bool>,
}
