//! What is done with an event that the filter lets through.
//!
//! Contract: it is counted whether there is to be a line of it or not.

use crate::lifecycle::connection::Connection;
use crate::model::event::What;
use crate::output::{Output, Shown, Summary};

/// Counts what an event that matches says was sent again, and shows it if there is
/// some `left` of those that may be; `None` where no events are shown.
#[inline]
pub(super) fn put(
    output: &mut Output,
    summary: &mut Summary,
    left: Option<&mut u64>,
    (connection, shown): (Option<&Connection>, &Shown<'_>),
) {
    if let Some(metrics) = &mut output.metrics {
        metrics.event(connection, shown);
    }
    count(summary, &shown.event.what, shown.segments);
    if let Some(left) = left.filter(|left| **left > 0) {
        *left -= 1;
        summary.shown += 1;
        output.event(connection, shown);
    }
}

/// Counts what was sent again, in so many segments where that is known.
#[inline]
pub(super) fn count(summary: &mut Summary, what: &What, segments: Option<u32>) {
    if matches!(what, What::Retransmit { error: None, .. } | What::SynAck) {
        summary.retransmits.add(segments);
    }
}

/// What shows an event of a connection.
#[inline]
pub(super) fn shower(
    output: &mut Output,
    summary: &mut Summary,
    left: &mut u64,
    closed_only: bool,
) -> impl FnMut(Option<&mut Connection>, &Shown<'_>) {
    move |mut connection, shown| {
        if let Some(connection) = &mut connection {
            connection.mark_shown();
        }
        let left = (!closed_only).then_some(&mut *left);
        put(output, summary, left, (connection.as_deref(), shown));
    }
}
