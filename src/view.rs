//! From an event to what is shown of it.
//!
//! Contract: an event reaches its connection whether it is shown or not; what
//! is shown leaves in the order of the events, but for the record of a
//! connection that may still be reset after its end, which comes a moment later.

use crate::attach::Part;
use crate::cli::Config;
use crate::event::{Event, Known, Owner, OwnerSource, What};
use crate::filter::{Filter, Verdict};
use crate::lifecycle::{Connections, Tells};
use crate::output::{Output, Record, Shown, Summary, notice};
use crate::processes::Processes;
use crate::snapshot::broadcast::Broadcasts;
use crate::source::Source;
use crate::sys::seccomp::take_refused;
use crate::sys::time;
use crate::text::WallClock;

/// What the events go through.
pub struct View {
    /// Where the lines go.
    pub output: Output,
    /// The connections they belong to.
    pub connections: Connections,
    filter: Filter,
    clock: WallClock,
    summary: Summary,
    /// What may still be shown.
    left: u64,
    closed_only: bool,
    /// System calls that were refused.
    refused: Vec<i32>,
}

impl View {
    /// An empty one; `source` says what its events will tell.
    pub fn new(config: &Config, output: Output, source: &Source) -> View {
        let tells = |part| source.absent().iter().all(|(absent, _)| *absent != part);
        let tells = Tells {
            lock: source.known().contains(Known::LOCK),
            // A first read looks like an accept.
            accepts: tells(Part::Accepts) && !config.wants.reads,
            resets: tells(Part::ResetsSent),
            synacks: tells(Part::SynAcks),
            failed: tells(Part::FailedRetransmissions),
            farewells: false,
        };
        View {
            output,
            connections: Connections::new(config.history, time::realtime(), tells),
            filter: config.filter.clone(),
            clock: WallClock::new(),
            summary: Summary {
                transport: source.transport().name(),
                ..Summary::default()
            },
            left: config.count.unwrap_or(u64::MAX),
            closed_only: config.shape.closed_only,
            refused: Vec::new(),
        }
    }

    /// Looks at the wall clock again.
    pub fn refresh(&mut self) {
        self.clock.refresh();
    }

    /// Whether nothing more is to be shown.
    pub fn is_done(&self) -> bool {
        self.left == 0 || self.output.is_closed()
    }

    /// Takes an event, with the processes as they were then; whether more are
    /// wanted.
    pub fn take(&mut self, event: &Event, _processes: &Processes) -> bool {
        self.connections.prepare(event);
        self.settle(event.time);
        if event.is_line() {
            self.summary.received += 1;
            self.line(event);
        } else {
            self.connections.note(event);
        }
        self.settle(event.time);
        !self.is_done()
    }

    fn line(&mut self, event: &Event) {
        let wall = self.clock.wall(event.time);
        if event.what == What::SynAck && self.embryo(event, wall) {
            return;
        }
        let seen = self.connections.observe(event, wall);
        let (connection, id, time_wait) = (seen.connection, seen.id, seen.time_wait);
        let completed;
        let event = match (event.owner, connection.owner()) {
            (None, owner @ Some(_)) => {
                completed = Event { owner, ..*event };
                &completed
            }
            _ => event,
        };
        let verdict = self.filter.judge(event);
        let held = connection.held.take_if(|_| event.local.port != 0);
        let mut show = |event: &Event, wall| {
            connection.mark_shown();
            let again = matches!(
                event.what,
                What::Retransmit { error: None, .. } | What::SynAck
            );
            self.summary.retransmits += u64::from(again);
            if self.left > 0 && !self.closed_only {
                self.left -= 1;
                self.summary.shown += 1;
                self.output.event(&Shown {
                    event,
                    wall,
                    id,
                    time_wait,
                });
            }
        };
        // What waited for the local port is judged now, as if it had had it.
        if let Some(held) = held {
            let mut complete = held.0;
            complete.local.port = event.local.port;
            if self.filter.judge(&complete) == Verdict::Show {
                show(&held.0, held.1);
            }
        }
        match verdict {
            Verdict::Show => show(event, wall),
            Verdict::NotYet => connection.held = Some(Box::new((*event, wall))),
            Verdict::Skip => {}
        }
        self.connections.finish(event, wall, time_wait);
    }

    /// Takes a SYN+ACK that was sent again, unless its socket is that of the
    /// connection. What is known of the socket's owner is the listener's.
    fn embryo(&mut self, event: &Event, wall: u64) -> bool {
        let source = OwnerSource::Listener;
        let owner = event.owner.map(|owner| Owner { source, ..owner });
        let event = &Event { owner, ..*event };
        let show = self.filter.judge(event) == Verdict::Show;
        let Some(id) = self.connections.embryo(event, show) else {
            return false;
        };
        if show {
            self.summary.retransmits += 1;
            if self.left > 0 && !self.closed_only {
                self.left -= 1;
                self.summary.shown += 1;
                self.output.event(&Shown {
                    event,
                    wall,
                    id,
                    time_wait: None,
                });
            }
        }
        true
    }

    /// Shows the records of connections that ended and of which no more is to
    /// come; `now` is on the event clock, and all events before it were taken.
    pub fn settle(&mut self, now: u64) {
        while let Some(ended) = self.connections.next_ended(now) {
            let (id, connection) = self.connections.get(&ended);
            if connection.is_shown() && (self.left > 0 || !self.closed_only) {
                let record = Record {
                    id,
                    connection,
                    ended: &ended,
                    tells: self.connections.tells(),
                };
                if self.output.connection(&record) {
                    self.summary.records += 1;
                    self.left -= u64::from(self.closed_only);
                }
            }
            self.connections.release(ended);
        }
    }

    /// Takes what the kernel says of destroyed sockets, or will within so many
    /// milliseconds.
    pub fn last_words(&mut self, broadcasts: &mut Broadcasts, wait: u8) {
        broadcasts.read(wait, &mut |said| self.connections.last_word(said));
        if broadcasts.overran() {
            notice(
                "warning: the kernel had no room for all that it says of destroyed sockets: \
                 connections will lack bytes, segments and RTT",
            );
        }
    }

    /// Says which system calls were refused; each once.
    pub fn report_refused(&mut self) {
        let Some(call) = take_refused() else { return };
        if !self.refused.contains(&call) {
            self.refused.push(call);
            notice(&format!(
                "warning: sandbox refused system call {call}; please report it"
            ));
        }
    }

    /// Says what was lost; whether the source has new rings.
    pub fn report_losses(&mut self, source: &mut Source) -> bool {
        let output = &mut self.output;
        source.losses(time::realtime(), &mut |lost| output.lost(&lost))
    }

    /// The end of a run, in which so many events were lost.
    pub fn finish(&mut self, lost: u64) {
        self.settle(u64::MAX);
        self.summary.lost = lost;
        self.summary.connections = self.connections.seen();
        self.summary.not_held = self.connections.not_held();
        self.summary.birth_missed = self.connections.birth_missed();
        // Those of which events would have been shown, had there been one.
        let filter = &self.filter;
        self.summary.untouched = self
            .connections
            .untouched(&|local, peer, owner| filter.admits(local, peer, owner));
        self.output
            .finish(&self.connections, self.summary, time::realtime());
    }
}
