//! What the filter says of events and connections, and what waits for its answer.
//!
//! Contract: what can't be decided yet waits, and is decided when more is known of
//! its connection, at the latest by its last event. Of one connection what waited
//! is shown in order, before what came later. What waits is bounded: where there
//! is too much of it, the older half is decided by what is known then.

use crate::bpf::changes::Changes;
use crate::capture::given::Given;
use crate::filter::eval::{Around, Figures, Judge, Subject};
use crate::filter::tree::{Expr, Truth};
use crate::host::cgroup::Cgroups;
use crate::lifecycle::connection::{Connection, Direction};
use crate::lifecycle::{Connections, Ended, SocketId};
use crate::model::event::{Event, Owner, What};
use crate::model::sort;
use crate::model::table::TableByNumber;
use crate::model::tcp::{Endpoint, State, Wire};
use crate::output::Shown;
use crate::output::notice::notice;
use crate::owner::lineage::Lineage;
use crate::owner::tracker::Moment;
use crate::sys::time;
use std::collections::VecDeque;
use std::rc::Rc;

/// Events that wait, of all connections and of one.
const ROOM: usize = 4096;
const ROOM_OF_ONE: usize = 64;

/// An event that waits to be shown: a [`Shown`] of its own.
#[derive(Clone, Copy, Debug)]
struct Item {
    event: Event,
    wall: u64,
    id: SocketId,
    time_wait: Option<bool>,
    segments: Option<u32>,
}

impl Item {
    fn shown(&self) -> Shown<'_> {
        Shown {
            event: &self.event,
            wall: self.wall,
            id: Some(self.id),
            time_wait: self.time_wait,
            segments: self.segments,
        }
    }
}

/// Where to show an event, and its connection, if that is still there.
pub(super) type Show<'a> = dyn FnMut(Option<&mut Connection>, &Shown<'_>) + 'a;

/// The filter.
pub(super) struct Judging {
    judge: Judge,
    /// Noise, too: see [`Event::is_noise`] and [`Event::stays`].
    all: bool,
    /// Since when it is in force.
    since: u64,
    cgroups: Rc<Cgroups>,
    waiting: TableByNumber<VecDeque<Item>>,
    count: usize,
    crowded: bool,
    told: bool,
}

/// The processes around a connection's.
struct Near<'a> {
    kin: &'a dyn Lineage,
    since: u64,
    cgroups: Rc<Cgroups>,
}

impl Around for Near<'_> {
    fn descends(&self, pid: u32, top: u32) -> Option<bool> {
        self.kin.descends(pid, top, self.since)
    }
    fn is_below(&self, cgroup: u64, tops: &[u64]) -> Option<bool> {
        self.cgroups.is_below(cgroup, tops)
    }
    fn is_contained(&self, cgroup: u64, ids: &[String]) -> Option<bool> {
        self.cgroups.is_contained(cgroup, ids)
    }
}

fn family(addr: std::net::IpAddr) -> Wire {
    match addr.is_ipv4() {
        true => Wire::Ipv4,
        false => Wire::Ipv6,
    }
}

/// A connection as the filter is asked about it.
fn subject<'a>(
    connection: &Connection,
    (moment, judge): (&Moment<'_>, &Judge),
    near: &'a Near<'_>,
    over: bool,
) -> Subject<'a> {
    let owner = connection.owner();
    // Who else could accept it is looked for only if that is of interest.
    let sure = over
        || !judge.asks_for_owners()
        || connection.has_sure_owner()
        || owner.is_some_and(|owner| {
            let born = connection.born().unwrap_or(0);
            let (pid, local) = (owner.task.pid, connection.local());
            moment.listeners.is_alone(pid, local, born, moment.kin)
        });
    Subject {
        local: *connection.local(),
        peer: *connection.peer(),
        wire: connection.wire(),
        listener: connection.is_listener(),
        netns: connection.netns(),
        outgoing: match connection.direction() {
            Direction::Outgoing => Some(true),
            Direction::Incoming => Some(false),
            Direction::Unknown => None,
        },
        owner,
        sure,
        over,
        around: near,
    }
}

/// The same of a connection of which no more is known than an event says.
fn alone<'a>(event: &Event, near: &'a Near<'_>) -> Subject<'a> {
    Subject {
        local: event.local,
        peer: event.peer,
        wire: event.wire,
        listener: matches!(
            event.what,
            What::State {
                new: State::Listen,
                ..
            } | What::State {
                old: State::Listen,
                new: State::Close
            }
        ),
        netns: event.netns,
        outgoing: match event.what {
            What::State {
                old: State::SynSent,
                ..
            }
            | What::State {
                new: State::SynSent,
                ..
            } => Some(true),
            What::State {
                old: State::Listen | State::SynRecv,
                ..
            }
            | What::SynAck => Some(false),
            _ => None,
        },
        owner: event.owner,
        sure: true,
        over: true,
        around: near,
    }
}

/// Says which words of a filter can't be decided where this is given.
pub(super) fn say_untold(expr: &Expr, given: &Given) {
    let all = expr.untold(given.abilities());
    let Some((_, takes)) = all.first() else {
        return;
    };
    let mut said = String::from("warning: what the filter asks for is not told here:");
    for (n, (word, _)) in all.iter().enumerate() {
        said.push_str(if n == 0 { " " } else { ", " });
        said.push_str(word);
    }
    let mut lacks = given.lacks();
    if let Some((_, why)) = lacks.find(|(of, _)| takes.intersects(*of)) {
        said.push_str(" (");
        said.push_str(&why.to_string());
        said.push(')');
    }
    said.push_str("; that is no match, but for what was found at the start");
    notice(&said);
}

impl Judging {
    /// A filter that is in force from now on.
    pub(super) fn new(judge: Judge, all: bool, cgroups: Rc<Cgroups>) -> Judging {
        Judging {
            judge,
            all,
            since: time::monotonic(),
            cgroups,
            waiting: TableByNumber::default(),
            count: 0,
            crowded: false,
            told: false,
        }
    }

    /// The filter itself.
    pub(super) fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What is known of cgroups.
    pub(super) fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    fn near<'a>(&self, kin: &'a dyn Lineage) -> Near<'a> {
        Near {
            kin,
            since: self.since,
            cgroups: self.cgroups.clone(),
        }
    }

    /// Whether an event is not shown, whatever the filter is.
    #[inline]
    pub(super) fn is_hidden(&self, event: &Event) -> bool {
        !self.all && (event.is_noise() || event.stays())
    }

    /// Whether there is no filter, and nothing waits for one.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.judge.is_everything() && self.count == 0
    }

    /// Whether any of these would be shown without a filter.
    #[inline]
    pub(super) fn shows_any(&self, changes: &Changes<'_>) -> bool {
        self.all
            || !changes.is_noise()
                && changes
                    .each()
                    .any(|c| c.states().is_some_and(|(old, new)| old != new))
    }

    /// Takes an event of a connection, whose owner has been judged: shows it, and
    /// what waited for it, if it can.
    #[inline]
    pub(super) fn take(
        &mut self,
        connection: &mut Connection,
        (id, shown): (SocketId, &Shown<'_>),
        moment: &Moment<'_>,
        show: &mut Show<'_>,
    ) {
        // Most runs have no filter.
        let event = shown.event;
        if self.is_idle() {
            if !self.is_hidden(event) {
                show(Some(connection), shown);
            }
            return;
        }
        let near = self.near(moment.kin);
        let over = event.is_close() || event.last;
        let subject = subject(connection, (moment, &self.judge), &near, over);
        let left = shown.time_wait == Some(true);
        let settled = &mut connection.settled;
        let truth = self.judge.event(&subject, settled, event, left);
        let hidden = self.is_hidden(event);
        let number = id.number();
        let waits = self.count > 0 && self.waiting.has(number);
        match truth {
            _ if hidden => {}
            Truth::Yes if !waits => show(Some(connection), shown),
            Truth::No if !waits => {}
            _ => self.wait(Item {
                event: *event,
                wall: shown.wall,
                id,
                time_wait: shown.time_wait,
                segments: shown.segments,
            }),
        }
        if waits {
            self.decide(number, &subject, Some(connection), show);
        }
    }

    fn wait(&mut self, item: Item) {
        let queue = self.waiting.entry(item.id.number());
        queue.push_back(item);
        self.count += 1;
        self.crowded |= self.count > ROOM || queue.len() > ROOM_OF_ONE;
    }

    /// Decides what can be of what waits of a connection, in order.
    fn decide(
        &mut self,
        number: u64,
        subject: &Subject<'_>,
        mut connection: Option<&mut Connection>,
        show: &mut Show<'_>,
    ) {
        let Some(queue) = self.waiting.get_mut(number) else {
            return;
        };
        let mut settled = connection.as_ref().map(|c| c.settled).unwrap_or_default();
        while let Some(item) = queue.front() {
            let left = item.time_wait == Some(true);
            match self.judge.event(subject, &mut settled, &item.event, left) {
                Truth::NotYet => break,
                Truth::Yes => show(connection.as_deref_mut(), &item.shown()),
                Truth::No => {}
            }
            queue.pop_front();
            self.count -= 1;
        }
        if queue.is_empty() {
            self.waiting.remove(number);
        }
    }

    /// Decides what can be of all that waits; `over`: all of it.
    pub(super) fn review(
        &mut self,
        connections: &mut Connections,
        moment: &Moment<'_>,
        over: bool,
        show: &mut Show<'_>,
    ) {
        self.review_some(connections, moment, (usize::MAX, over), show);
    }

    /// Makes room where too much waits.
    #[inline]
    pub(super) fn make_room(
        &mut self,
        connections: &mut Connections,
        moment: &Moment<'_>,
        show: &mut Show<'_>,
    ) {
        if !std::mem::take(&mut self.crowded) {
            return;
        }
        if !std::mem::replace(&mut self.told, true) {
            notice(
                "warning: more events wait to be decided by the filter than there is room for: \
                 what isn't known of the oldest is taken as no match",
            );
        }
        let half = self.waiting.len().div_ceil(2);
        self.review_some(connections, moment, (half, true), show);
    }

    fn review_some(
        &mut self,
        connections: &mut Connections,
        moment: &Moment<'_>,
        (most, over): (usize, bool),
        show: &mut Show<'_>,
    ) {
        let mut numbers: Vec<u64> = self.waiting.keys().collect();
        sort::numbers(&mut numbers);
        let near = self.near(moment.kin);
        for number in numbers.into_iter().take(most) {
            let first = self.waiting.get(number).and_then(VecDeque::front);
            let Some(first) = first.copied() else {
                continue;
            };
            match connections.find(first.event.socket, first.id) {
                Some(connection) => {
                    let subject = subject(connection, (moment, &self.judge), &near, over);
                    self.decide(number, &subject, Some(connection), show);
                }
                // Its last event was missed.
                None => self.decide(number, &alone(&first.event, &near), None, show),
            }
        }
    }

    /// Takes the end of a recorded connection: what waited is decided. Of one of which
    /// nothing else was recorded (`alone`) it is as if an event had been.
    pub(super) fn end(
        &mut self,
        connection: &mut Connection,
        id: SocketId,
        moment: &Moment<'_>,
        alone: bool,
        show: &mut Show<'_>,
    ) {
        let near = self.near(moment.kin);
        let subject = subject(connection, (moment, &self.judge), &near, true);
        self.judge.settle(&subject, &mut connection.settled);
        if alone && self.judge.admits(&subject) {
            connection.mark_shown();
        }
        self.decide(id.number(), &subject, Some(connection), show);
    }

    /// Whether an event without a connection of its own is shown.
    pub(super) fn shows(&self, event: &Event, kin: &dyn Lineage) -> bool {
        let near = self.near(kin);
        let settled = &mut Default::default();
        let subject = alone(event, &near);
        !self.is_hidden(event) && self.judge.event(&subject, settled, event, false) == Truth::Yes
    }

    /// Whether the record of a connection that has ended is shown.
    #[inline]
    pub(super) fn shows_record(&self, connection: &Connection, ended: &Ended) -> bool {
        if self.judge.is_everything() {
            return connection.is_shown();
        }
        let (counters, resent) = (&ended.counters, &ended.resent);
        let figures = Figures {
            cause: connection.cause(),
            duration: connection.duration(),
            rtt: counters.rtt_us.map(u64::from),
            bytes: [counters.bytes_sent, counters.bytes_received],
            retransmits: match resent.all {
                Some(all) => (all, false),
                None => (resent.events(), true),
            },
        };
        let unspecified = |end: &Endpoint| end.addr.is_unspecified();
        let noise = unspecified(connection.local()) || unspecified(connection.peer());
        match self.judge.record(connection.settled, &figures) {
            Truth::Yes if self.judge.names_records() && (self.all || !noise) => true,
            Truth::Yes | Truth::NotYet => connection.is_shown(),
            Truth::No => false,
        }
    }

    /// Whether an event of a connection would be shown that was open before the
    /// start, had there been one.
    pub(super) fn admits(
        &self,
        (local, peer, netns): (&Endpoint, &Endpoint, u32),
        owner: Option<&Owner>,
        kin: &dyn Lineage,
    ) -> bool {
        let noise = local.addr.is_unspecified() || peer.addr.is_unspecified();
        let near = self.near(kin);
        let subject = Subject {
            local: *local,
            peer: *peer,
            wire: family(peer.addr),
            listener: false,
            netns: Some(netns),
            outgoing: None,
            owner: owner.copied(),
            sure: true,
            over: true,
            around: &near,
        };
        (self.all || !noise) && self.judge.admits(&subject)
    }

    /// From now on this is the filter, for every connection. What waits is
    /// decided by it.
    pub(super) fn replace(
        &mut self,
        judge: Judge,
        connections: &mut Connections,
        moment: &Moment<'_>,
    ) {
        self.judge = judge;
        self.since = time::monotonic();
        let near = self.near(moment.kin);
        let judge = &self.judge;
        connections.each(&mut |connection, ended| {
            connection.settled = Default::default();
            // Its record is still to come.
            if ended {
                let subject = subject(connection, (moment, judge), &near, true);
                judge.settle(&subject, &mut connection.settled);
            }
        });
    }
}
