//! From an event to what is shown of it.
//!
//! Contract: an event reaches its connection whether it is shown or not; what
//! is shown leaves in the order of the events, but for what the filter could not
//! decide at once (see [`super::judging`]), and for the record of a connection that
//! may still be reset after its end, which comes a moment later.

mod drawing;
mod held;
mod recall;

use crate::capture::{Source, Transport};
use crate::cli::Config;
use crate::error::Error;
use crate::filter::eval::Judge;
use crate::filter::tree::Expr;
use crate::host::cgroup::Cgroups;
use crate::host::clock::WallClock;
use crate::lifecycle::open::Open;
use crate::lifecycle::{Connections, SocketId};
use crate::model::ability::Abilities;
use crate::model::event::{Event, Owner, OwnerSource, What};
use crate::model::loss::{Lost, Reason};
use crate::model::recent::Recent;
use crate::model::tcp::State;
use crate::output::notice::notice;
use crate::output::{Output, Shape, Shown, Summary};
use crate::owner::lineage::Lineage;
use crate::owner::listeners::{Holder, Listeners};
use crate::owner::tracker::Moment;
use crate::sandbox::Mode;
use crate::session::judging::Judging;
use crate::session::reload::FilterFile;
use crate::session::showing::{count, put, shower};
use crate::snapshot::broadcast::Broadcasts;
use crate::sys::seccomp::take_refused;
use crate::sys::time;
use std::rc::Rc;

/// Events after which the wall clock is looked at again: a drain can take long.
const LOOK: u64 = 256;

/// Sockets whose last local port is remembered, at least.
const PORTS: usize = 4096;

/// What the events go through.
pub struct View {
    /// Where the lines go.
    pub output: Output,
    /// The connections they belong to.
    pub connections: Connections,
    /// Who can be at the listeners.
    pub listeners: Listeners,
    /// Whether events tell if a process has the socket.
    sockets: bool,
    /// The local ports that sockets had when they were last closed, where a
    /// second connect() on one still shows it.
    ports: Option<Recent<u16>>,
    judging: Judging,
    clock: WallClock,
    /// Events since the start, by which the wall clock is looked at.
    taken: u64,
    summary: Summary,
    /// What may still be shown.
    left: u64,
    closed_only: bool,
    /// The expression of the filter, and what lines there are whatever that is.
    expr: Expr,
    shape: Shape,
    /// System calls that were refused.
    refused: Vec<i32>,
}

impl View {
    /// An empty one; `source` says what its events will tell.
    pub(crate) fn new(config: &Config, output: Output, source: &Source) -> View {
        let (given, transport) = (source.given().abilities(), source.transport());
        View::of(config, output, given, (transport, &source.reset_reasons()))
    }

    /// The same of events that tell this, by this way, with these names of
    /// reasons.
    pub fn of(
        config: &Config,
        mut output: Output,
        given: Abilities,
        (transport, reasons): (Transport, &[(u32, String)]),
    ) -> View {
        // The kernel's last words are expected once they can be heard.
        let mut tells = given - Abilities::DESTROYS;
        // A first read looks like an accept.
        if given.contains(Abilities::READS) {
            tells -= Abilities::ACCEPTS;
        }
        let mut connections = Connections::new(
            config.connections_max,
            config.history,
            time::realtime(),
            tells,
        );
        connections.name_reasons(reasons);
        if let Some(most) = config.shape.lifecycles {
            connections.tell_latest(most);
        }
        // What is parsed, or narrowed, can be judged.
        let judge = Judge::new(&config.filter.expr).unwrap_or_default();
        // Also for what the filter's file may come to ask for.
        let cgroups = judge.asks_for_cgroups() || config.filter_file.is_some();
        let cgroups = match cgroups || output.tells_of_cgroups() {
            _ if !config.read.is_empty() => Cgroups::recorded(),
            true => Cgroups::open(),
            false => Cgroups::default(),
        };
        let cgroups = Rc::new(cgroups);
        let shut = config.sandbox != Mode::Off && cgroups.is_for_now();
        if judge.asks_for_cgroups() && shut {
            notice(
                "note: in the sandbox, cgroups that are made after the start are not known \
                 here (openat2: Linux 5.6, --sandbox off)",
            );
        }
        output.know(cgroups.clone());
        // Where members can be read, the event itself says what is no port yet.
        let by_members = Abilities::SOCKET_ERROR | Abilities::BYTES_SENT;
        let mut view = View {
            output,
            connections,
            listeners: Listeners::default(),
            sockets: given.contains(Abilities::SOCKET),
            ports: match given.intersects(by_members) {
                true => None,
                false => Some(Recent::new(PORTS)),
            },
            judging: Judging::new(judge, config.filter.all, cgroups),
            clock: WallClock::new(),
            taken: 0,
            summary: Summary {
                transport: transport.name(),
                ..Summary::default()
            },
            left: config.count.unwrap_or(u64::MAX),
            closed_only: false,
            expr: config.filter.expr.clone(),
            shape: config.shape,
            refused: Vec::new(),
        };
        view.set_shape();
        view
    }

    /// Looks at the wall clock again.
    pub(crate) fn refresh(&mut self) {
        self.clock.refresh();
    }

    /// The clock of the lines.
    pub(crate) fn clock(&self) -> &WallClock {
        &self.clock
    }

    /// Whether nothing more is to be shown.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 || self.output.is_closed()
    }

    /// Takes an event; `kin` knows the processes of that moment. Its owner is
    /// whom it is shown with afterwards. Whether more are wanted.
    #[inline]
    pub fn take(&mut self, event: &mut Event, kin: &dyn Lineage) -> bool {
        self.taken = self.taken.wrapping_add(1);
        if self.taken % LOOK == 0 {
            self.refresh();
        }
        self.connections.prepare(event);
        self.settle_due(event.time);
        if event.is_line() {
            self.summary.received += 1;
            self.line(event, kin);
        } else {
            self.connections.note(event);
            let tells = self.connections.tells();
            if let (What::Accepted, true, Some(owner)) =
                (event.what, tells.contains(Abilities::ACCEPTS), &event.owner)
            {
                self.listeners.accepted(event, owner, kin);
            }
        }
        self.settle_due(event.time);
        !self.is_done()
    }

    /// A second connect() on a socket shows the local port of the first until it
    /// has one of its own (v6.12 net/ipv4/tcp_ipv4.c, tcp_v4_connect(): the port
    /// is chosen after the change to SYN_SENT; `inet_sport` is stale meanwhile).
    #[inline(never)]
    fn drop_stale_port(ports: &mut Recent<u16>, event: &mut Event) {
        match event.what {
            What::State {
                new: State::Close, ..
            } if event.local.port != 0 => ports.insert(event.socket, event.local.port),
            What::State {
                old: State::Close,
                new: State::SynSent,
            } if ports.get(event.socket) == Some(&mut event.local.port) => event.local.port = 0,
            _ => {}
        }
    }

    #[inline]
    fn line(&mut self, event: &mut Event, kin: &dyn Lineage) {
        if let Some(ports) = &mut self.ports {
            View::drop_stale_port(ports, event);
        }
        let (wall, plain) = (self.clock.wall(event.time), self.is_plain());
        if matches!(event.what, What::SynAck) && self.request_sock(event, wall, kin) {
            return;
        }
        let Some(seen) = self.connections.observe(event, wall) else {
            return self.show_refused(event, wall, kin);
        };
        let (connection, id, time_wait) = (seen.connection, seen.id, seen.time_wait);
        let segments = seen.segments;
        let moment = &Moment {
            kin,
            listeners: &self.listeners,
            sockets: self.sockets,
        };
        connection.judge_owner(event, moment);
        let plain = plain && !connection.is_listener();
        if !plain {
            event.owner = connection.owner();
        }
        match &mut event.what {
            What::State {
                new: State::Listen, ..
            } => {
                if let Some(pid) = event.owner.as_ref().map(|owner| owner.task.pid) {
                    self.listeners.opened(event, pid);
                }
            }
            What::State {
                old: State::Listen,
                new: State::Close,
            } => self.listeners.closed(event),
            What::Retransmit { state, .. } => *state = state.or(seen.state),
            _ => {}
        }
        let event = &*event;
        if plain {
            if !self.judging.is_hidden(event) {
                connection.mark_shown();
                count(&mut self.summary, &event.what, segments);
            }
            self.connections.finish(event, wall, time_wait);
        } else {
            let moment = &Moment {
                kin,
                listeners: &self.listeners,
                sockets: self.sockets,
            };
            let shown = &Shown {
                event,
                wall,
                id: Some(id),
                time_wait,
                segments,
            };
            let (output, summary) = (&mut self.output, &mut self.summary);
            let show = &mut shower(output, summary, &mut self.left, self.closed_only);
            self.judging.take(connection, (id, shown), moment, show);
            self.connections.finish(event, wall, time_wait);
            self.judging.make_room(&mut self.connections, moment, show);
        }
        if event.last {
            self.connections.let_go(event);
        }
    }

    /// Decides what can be of what waits for more to be known; `over`: all of it.
    pub(crate) fn review(&mut self, kin: &dyn Lineage, over: bool) {
        let moment = &Moment {
            kin,
            listeners: &self.listeners,
            sockets: self.sockets,
        };
        let (output, summary) = (&mut self.output, &mut self.summary);
        let show = &mut shower(output, summary, &mut self.left, self.closed_only);
        self.judging
            .review(&mut self.connections, moment, over, show);
    }

    /// Reads the filter's file again: the filter, if it is another one now.
    pub(super) fn read_filter(&self, file: &FilterFile) -> Option<(Judge, Expr)> {
        let read = file.read().and_then(|expr| Ok((Judge::new(&expr)?, expr)));
        if let Err(why) = &read {
            notice(&format!(
                "warning: the filter is as it was before, for its file is wrong:\n{why}"
            ));
        }
        read.ok().filter(|(_, expr)| *expr != self.expr)
    }

    /// This filter takes the place of the one before, for every connection,
    /// between two events.
    pub(super) fn replace(&mut self, (judge, expr): (Judge, Expr), kin: &dyn Lineage) {
        self.expr = expr;
        self.summary.filter.changes += 1;
        let moment = &Moment {
            kin,
            listeners: &self.listeners,
            sockets: self.sockets,
        };
        self.judging.replace(judge, &mut self.connections, moment);
        self.set_shape();
        notice("note: the filter was read again, and is in force");
    }

    /// What lines there are with this filter.
    fn set_shape(&mut self) {
        let judge = self.judging.judge();
        self.closed_only = self.shape.closed_only || judge.is_of_records();
        let connections = self.shape.connections || judge.names_records();
        self.output.show_connections(connections);
    }

    /// Takes a SYN+ACK that was sent again, unless its socket is that of the
    /// connection. What is known of the socket's owner is the listener's.
    fn request_sock(&mut self, event: &Event, wall: u64, kin: &dyn Lineage) -> bool {
        let source = OwnerSource::Listener;
        let holds = |owner: &Owner| {
            let (pid, at) = (owner.task.pid, &event.local);
            self.listeners.holder(pid, Some(at), event.time, kin) == Holder::Same
        };
        let owner = event.owner.filter(holds);
        let owner = owner.map(|owner| Owner { source, ..owner });
        let event = &Event { owner, ..*event };
        let show = self.judging.shows(event, kin);
        let Some(id) = self.connections.request_sock(event, show) else {
            return false;
        };
        if show {
            self.single(event, wall, Some(id), Some(1));
        }
        true
    }

    /// Takes an event of a connection that found no room.
    fn show_refused(&mut self, event: &Event, wall: u64, kin: &dyn Lineage) {
        if self.judging.shows(event, kin) {
            let segments = matches!(event.what, What::SynAck).then_some(1);
            self.single(event, wall, None, segments);
        }
    }

    /// Shows an event of which no more is known than it says itself.
    fn single(&mut self, event: &Event, wall: u64, id: Option<SocketId>, segments: Option<u32>) {
        let left = (!self.closed_only).then_some(&mut self.left);
        let shown = Shown {
            event,
            wall,
            id,
            time_wait: None,
            segments,
        };
        put(&mut self.output, &mut self.summary, left, (None, &shown));
    }

    /// [`View::settle`], where there is something to be done.
    #[inline(always)]
    fn settle_due(&mut self, now: u64) {
        if self.connections.may_end(now) {
            self.settle(now);
        }
    }

    /// Shows the records of connections that ended and of which no more is to
    /// come; `now` is on the event clock, and all events before it were taken.
    #[inline]
    pub(crate) fn settle(&mut self, now: u64) {
        while let Some(ended) = self.connections.next_ended(now) {
            self.record(ended, self.connections.tells());
        }
    }

    /// Shows a connection that is open, of which something was shown.
    pub(crate) fn show_open(&mut self, mut open: Open, now: u64) {
        open.wall = self.clock.wall(now);
        self.output.still_open(&open, now);
    }

    /// Shows one that was open before the start and had no event, if it would be.
    pub(crate) fn show_found(&mut self, open: Open, kin: &dyn Lineage, now: u64) {
        let ends = (&open.local, &open.peer, open.netns.unwrap_or(0));
        if self.judging.admits(ends, open.owner.as_ref(), kin) {
            self.show_open(open, now);
        }
    }

    /// Takes what the kernel says of destroyed sockets, or will within so many
    /// milliseconds.
    pub(crate) fn last_words(&mut self, broadcasts: &mut Broadcasts, wait: u8) {
        broadcasts.read(wait, &mut |said| self.connections.last_word(said));
        if broadcasts.overran() {
            notice(
                "warning: the kernel had no room for all that it says of destroyed sockets: \
                 connections will lack bytes, segments and RTT",
            );
        }
    }

    /// Says which system calls were refused; each once.
    pub(crate) fn report_refused(&mut self) {
        let Some(call) = take_refused() else { return };
        if !self.refused.contains(&call) {
            self.refused.push(call);
            notice(&format!(
                "warning: sandbox refused system call {call}; please report it"
            ));
        }
    }

    /// Says what was lost; whether the source has new rings.
    pub(crate) fn report_losses(&mut self, source: &mut Source) -> bool {
        let output = &mut self.output;
        let count = self.connections.newly_refused();
        if count > 0 {
            output.lost(&Lost {
                wall: time::realtime(),
                cpu: None,
                count,
                reason: Reason::ConnectionsFull,
            });
        }
        let grown = source.losses(time::realtime(), &mut |lost| output.lost(&lost));
        say_notes(source);
        grown
    }

    /// Writes the figures, where there are to be any.
    pub(super) fn write_metrics(&mut self, kin: &dyn Lineage) {
        let Some(metrics) = &mut self.output.metrics else {
            return;
        };
        metrics.begin();
        self.connections.each_open(&mut |_, connection| {
            if connection.is_shown() {
                metrics.opened(connection);
            }
        });
        let untouched = untouched(&self.connections, &self.judging, kin);
        if untouched > 0 {
            metrics.untouched(untouched);
        }
        metrics.write();
    }

    /// The end of a run by this source, all being settled. What standard output could not be given is
    /// an error.
    pub(crate) fn finish(&mut self, source: &Source) -> Result<(), Error> {
        let kin = source.processes();
        let moment = Moment {
            kin,
            listeners: &self.listeners,
            sockets: self.sockets,
        };
        self.connections.review_owners(time::monotonic(), &moment);
        self.review(kin, true);
        self.write_metrics(kin);
        self.summary.lost = source.lost();
        self.summary.filter.kept_away = source.kept_away();
        if self.expr != Expr::All {
            self.summary.filter.text = self.expr.text();
        }
        self.summary.connections = self.connections.seen();
        self.summary.refused_connections = self.connections.refused_connections();
        self.summary.not_held = self.connections.not_held();
        self.summary.birth_missed = self.connections.birth_missed();
        self.summary.untouched = untouched(&self.connections, &self.judging, kin);
        self.output.finish(
            &self.connections,
            std::mem::take(&mut self.summary),
            time::realtime(),
        )
    }
}

/// Those from before the start of which events would have been shown, had there been
/// one.
fn untouched(connections: &Connections, judging: &Judging, kin: &dyn Lineage) -> u64 {
    connections.untouched(&|ends, owner| judging.admits(ends, owner, kin))
}

/// What the source has to say to a person since the last time.
pub(super) fn say_notes(source: &mut Source) {
    for note in source.take_notes() {
        notice(&note);
    }
}
