//! What was recorded, shown as if it came now.
//!
//! Contract: nothing is judged again but whether it is shown. A record is shown if
//! an event of its connection was, and where no event was recorded, if the filter
//! admits its connection.

use super::{View, shower};
use crate::error::Error;
use crate::filter::tree::Expr;
use crate::host::cgroup::Place;
use crate::lifecycle::Ended;
use crate::lifecycle::recorded::Told;
use crate::model::ability::Abilities;
use crate::model::event::{Event, What};
use crate::model::loss::{Lost, Reason};
use crate::model::tcp::State;
use crate::output::{Record, Shown, Summary};
use crate::owner::lineage::Unknown;
use crate::owner::tracker::Moment;

/// Which run a socket was of, and its number there.
type Named = (u64, u64);

impl View {
    /// Shows the record of a connection of which this is told, and lets go of it.
    #[inline]
    pub(super) fn record(&mut self, ended: Box<Ended>, tells: Abilities) {
        let (id, connection) = self.connections.get(&ended);
        let shown = self.judging.shows_record(connection, &ended);
        if let Some(metrics) = self.output.metrics.as_mut().filter(|_| shown) {
            metrics.ended(connection, &ended);
        }
        if shown && (self.left > 0 || !self.closed_only) {
            let record = Record {
                id,
                connection,
                ended: &ended,
                tells,
            };
            if self.output.connection(&record) {
                self.summary.records += 1;
                self.left -= u64::from(self.closed_only);
            }
            self.connections.mark_shown(&ended);
        }
        self.connections.release(ended);
    }

    /// Takes what a line says that a cgroup is in.
    pub(in crate::session) fn recall_place(&self, cgroup: u64, place: Place) {
        self.judging.cgroups().recall(cgroup, place);
    }

    /// Takes an event that a line tells, and what that says of it.
    pub(in crate::session) fn recall(
        &mut self,
        mut event: Event,
        named: Option<Named>,
        (segments, time_wait): (Option<u32>, Option<bool>),
    ) {
        let id = named.map(|named| self.connections.recall_id(named, &event.local));
        event.socket = id.map_or(0, |id| id.number());
        let waits = matches!(
            event.what,
            What::Retransmit {
                state: Some(State::SynRecv),
                error: None,
                ..
            }
        );
        if id.is_some_and(|id| waits && !self.connections.has(id)) {
            // A SYN+ACK of what has no socket yet.
            event.what = What::SynAck;
        }
        let wall = event.time;
        let seen = match (event.what, id) {
            (What::SynAck, Some(_)) => {
                let show = self.judging.shows(&event, &Unknown);
                self.connections.request_sock(&event, show);
                None
            }
            (_, Some(id)) => {
                let seen = self.connections.recall(&event, segments, time_wait);
                seen.map(|seen| (seen, id))
            }
            (_, None) => None,
        };
        let Some((connection, id)) = seen else {
            if self.judging.shows(&event, &Unknown) {
                self.single(&event, wall, id, segments);
            }
            return;
        };
        let moment = &Moment {
            kin: &Unknown,
            listeners: &self.listeners,
            sockets: false,
        };
        let shown = &Shown {
            event: &event,
            wall,
            id: Some(id),
            time_wait,
            segments,
        };
        let over = event.is_close() && connection.is_listener();
        let (output, summary) = (&mut self.output, &mut self.summary);
        let show = &mut shower(output, summary, &mut self.left, self.closed_only);
        self.judging.take(connection, (id, shown), moment, show);
        self.judging.make_room(&mut self.connections, moment, show);
        if over {
            self.connections.let_go(&event);
        }
    }

    /// Takes the end of a connection that a record tells, with the name of the reason
    /// of the reset by which it ended.
    pub(in crate::session) fn recall_end(
        &mut self,
        mut event: Event,
        named: Named,
        (told, reason): (&Told, &str),
    ) {
        let id = self.connections.recall_id(named, &event.local);
        event.socket = id.number();
        let Some((ended, new)) = self.connections.recall_end(&event, told) else {
            return;
        };
        if !reason.is_empty() {
            let reason = self.output.reason(reason);
            self.connections.recall_reason(&ended, reason);
        }
        if let Some(connection) = self.connections.find(event.socket, id) {
            let moment = &Moment {
                kin: &Unknown,
                listeners: &self.listeners,
                sockets: false,
            };
            let (output, summary) = (&mut self.output, &mut self.summary);
            let show = &mut shower(output, summary, &mut self.left, self.closed_only);
            self.judging.end(connection, id, moment, new, show);
        }
        self.record(ended, told.tells);
    }

    /// No more lines come. These are the sums of those that have; `filter` is what was
    /// recorded.
    pub(in crate::session) fn finish_recalled(
        &mut self,
        mut said: Summary,
        wall: u64,
    ) -> Result<(), Error> {
        self.connections.recall_rest();
        self.review(&Unknown, true);
        let count = self.connections.newly_refused();
        if count > 0 {
            self.output.lost(&Lost {
                wall,
                cpu: None,
                count,
                reason: Reason::ConnectionsFull,
            });
        }
        if self.expr != Expr::All {
            let text = self.expr.text();
            let recorded = &said.filter.text;
            said.filter.text = match recorded.is_empty() {
                true => text,
                false => ["(", recorded, ") and (", &text, ")"].concat(),
            };
            // Which of them a filter lets through isn't recorded.
            said.untouched = 0;
        }
        said.shown = self.summary.shown;
        said.records = self.summary.records;
        said.retransmits = self.summary.retransmits;
        said.connections = said.connections.max(self.connections.seen());
        said.birth_missed = said.birth_missed.max(self.connections.birth_missed());
        said.refused_connections += count;
        said.not_held = self.connections.not_held();
        self.output.finish(&self.connections, said, wall)
    }
}
