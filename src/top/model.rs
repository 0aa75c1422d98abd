//! What the table is of: processes, peers and listeners with their figures, and
//! connections.
//!
//! Contract: rates are those of the interval between the last two [`Model::tick`]s.
//! Memory is bounded: of each kind so many rows are held, and what finds none is
//! summed up as the others; a row goes when it has had neither an open connection nor
//! anything new for a while.

use super::columns;
use super::figures::UNKNOWN;
use super::groups::{
    CONNECTING, CONNECTS, FAILED_ELSE, Group, MOST, OPENED, RECEIVED, REFUSED, RESENT, RESET, SENT,
    TIMED_OUT, Table,
};
use super::rows::{self, Heat, NOWHERE, Row, Subject};
use crate::lifecycle::connection::{Connection, Direction};
use crate::model::cause::Cause;
use crate::model::event::{Event, What};
use crate::model::loss::Lost;
use crate::model::tcp::State;
use crate::output::{Record, Visit};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Connections that have ended, at most, and for how long they stay, in nanoseconds.
const GONE: usize = 1024;
const STAYS: u64 = 10_000_000_000;

/// The views.
pub(super) const PROCESSES: usize = 0;
pub(super) const PEERS: usize = 1;
pub(super) const LISTENERS: usize = 2;
pub(super) const CONNECTIONS: usize = 3;

/// Which groups something counts for.
struct Of {
    subject: Subject,
    netns: u32,
}

impl Of {
    fn connection(connection: &Connection) -> Of {
        let owner = connection.owner();
        Of {
            subject: Subject {
                pid: owner.map_or(0, |owner| owner.task.pid),
                name: owner.map_or_else(Default::default, |owner| owner.task.name),
                local: *connection.local(),
                peer: *connection.peer(),
                way: connection.direction(),
                state: "-",
                others: false,
            },
            netns: connection.netns().unwrap_or(0),
        }
    }

    /// Of an event whose connection found no room.
    fn event(event: &Event) -> Of {
        let way = match event.what {
            What::State {
                new: State::SynSent,
                ..
            } => Direction::Outgoing,
            What::SynAck
            | What::State {
                old: State::Listen | State::SynRecv,
                ..
            } => Direction::Incoming,
            _ => Direction::Unknown,
        };
        Of {
            subject: Subject {
                pid: event.owner.map_or(0, |owner| owner.task.pid),
                name: event
                    .owner
                    .map_or_else(Default::default, |owner| owner.task.name),
                local: event.local,
                peer: event.peer,
                way,
                state: "-",
                others: false,
            },
            netns: event.netns.unwrap_or(0),
        }
    }
}

/// All that is counted.
#[derive(Debug)]
pub(super) struct Model {
    hash: RandomState,
    tables: [Table; 3],
    pub(super) total: Group,
    /// Events lost.
    pub(super) lost: u64,
    /// Connections that ended lately, and which tick was the first since then; 0: it is
    /// still to come.
    gone: Vec<(u64, Row)>,
    /// The next of them to be another one, where there are as many as there may be.
    oldest: usize,
    /// Whether a child's first event that is shown is not its birth: that has no peer.
    late: bool,
    /// The last tick, and the time between it and the one before.
    ticked: Option<u64>,
    pub(super) elapsed: u64,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            hash: RandomState::new(),
            tables: [Table::new(), Table::new(), Table::new()],
            total: Group::new(Subject::OTHERS, 0),
            lost: 0,
            gone: Vec::new(),
            oldest: 0,
            late: true,
            ticked: None,
            elapsed: UNKNOWN,
        }
    }

    fn key(&self, kind: usize, addr: IpAddr, numbers: [u32; 2]) -> u64 {
        let mut key = [0; 25];
        key[..16].copy_from_slice(&rows::number(addr).to_ne_bytes());
        key[16..20].copy_from_slice(&numbers[0].to_ne_bytes());
        key[20..24].copy_from_slice(&numbers[1].to_ne_bytes());
        key[24] = kind as u8;
        self.hash.hash_one(key)
    }

    /// Hands out the groups that something counts for.
    fn each(&mut self, of: &Of, see: &mut dyn FnMut(&mut Group)) {
        let subject = &of.subject;
        let (local, peer, way) = (subject.local, subject.peer, subject.way);
        let key = self.key(PROCESSES, NOWHERE.addr, [subject.pid, 0]);
        let group = self.tables[PROCESSES].group(key, subject);
        if subject.name[0] != 0 && !group.subject.others {
            group.subject.name = subject.name;
        }
        see(group);
        let port = match way {
            Direction::Incoming => local.port,
            Direction::Outgoing => peer.port,
            Direction::Unknown => 0,
        };
        if !peer.addr.is_unspecified() {
            let key = self.key(PEERS, peer.addr, [port.into(), way as u32]);
            let mut subject = *subject;
            if way != Direction::Outgoing {
                subject.peer.port = 0;
            }
            see(self.tables[PEERS].group(key, &subject));
        }
        if way == Direction::Incoming {
            let key = self.key(LISTENERS, NOWHERE.addr, [port.into(), of.netns]);
            let group = self.tables[LISTENERS].group(key, subject);
            if !group.subject.others {
                let known = &mut group.subject;
                if subject.pid != 0 {
                    (known.pid, known.name) = (subject.pid, subject.name);
                }
                if known.local.addr != local.addr {
                    known.local.addr = NOWHERE.addr;
                }
            }
            see(group);
        }
        see(&mut self.total);
    }

    /// Takes an event that is shown.
    pub(super) fn event(
        &mut self,
        event: &Event,
        connection: Option<&Connection>,
        segments: Option<u32>,
    ) {
        let (what, count) = match event.what {
            What::State {
                old: State::Close,
                new: State::SynSent,
            } => (OPENED, 1),
            What::State {
                old: State::Listen,
                new: State::SynRecv,
            } => {
                if event.peer.addr.is_unspecified() {
                    return;
                }
                self.late = false;
                (OPENED, 1)
            }
            What::State {
                old: State::SynRecv,
                ..
            } if self.late => (OPENED, 1),
            What::State {
                old: State::SynSent,
                new: State::Established,
            } => match connection.and_then(Connection::connect_time) {
                Some(took) => (CONNECTS, took / 1000),
                None => return,
            },
            What::Retransmit { error: None, .. } | What::SynAck => {
                (RESENT, u64::from(segments.unwrap_or(1)))
            }
            _ => return,
        };
        let of = connection.map_or_else(|| Of::event(event), Of::connection);
        self.each(&of, &mut |group| match what {
            CONNECTS => {
                group.add(CONNECTS, 1);
                group.add(CONNECTING, count);
            }
            _ => group.add(what, count),
        });
    }

    /// Takes a connection that has ended.
    pub(super) fn ended(&mut self, record: &Record<'_>) {
        let (connection, counters) = (record.connection, &record.ended.counters);
        let cause = connection.cause().unwrap_or(Cause::Unknown);
        if connection.is_listener() || cause == Cause::Duplicate {
            return;
        }
        let mut of = Of::connection(connection);
        let failure = match cause {
            Cause::Refused => Some(REFUSED),
            Cause::ResetByPeer | Cause::ResetByUs => Some(RESET),
            Cause::TimedOut => Some(TIMED_OUT),
            Cause::GivenUp | Cause::Unreachable | Cause::Aborted | Cause::NeverAccepted => {
                Some(FAILED_ELSE)
            }
            Cause::ClosedByUs
            | Cause::ClosedByPeer
            | Cause::ClosedByBoth
            | Cause::Duplicate
            | Cause::Unknown => None,
        };
        let rtt = counters.rtt_us.map(u64::from).filter(|rtt| *rtt > 0);
        self.each(&of, &mut |group| {
            if let Some(failure) = failure {
                group.add(failure, 1);
            }
            group.add(SENT, counters.bytes_sent.unwrap_or(0));
            group.add(RECEIVED, counters.bytes_received.unwrap_or(0));
            group.rtt = rtt.unwrap_or(group.rtt);
        });
        of.subject.state = cause.name();
        let resent = &record.ended.resent;
        let mut row = connection_row(connection, of.subject, record.id.number());
        for (at, value) in [
            (
                columns::AGE,
                connection.duration().map(|nanos| nanos / 1000),
            ),
            (columns::RESENT, resent.all.or(Some(resent.events()))),
            (columns::RTT, rtt),
            (columns::SENT, counters.bytes_sent),
            (columns::RECEIVED, counters.bytes_received),
        ] {
            row.cells[at] = value.unwrap_or(UNKNOWN);
        }
        row.heat = match failure {
            Some(_) => Heat::Hot,
            None => Heat::Over,
        };
        if self.gone.len() < GONE {
            return self.gone.push((0, row));
        }
        self.oldest = (self.oldest + 1) % GONE;
        self.gone[self.oldest] = (0, row);
    }

    /// Takes what is missing.
    pub(super) fn lost(&mut self, lost: &Lost) {
        if !lost.reason.spares_events() {
            self.lost = self.lost.saturating_add(lost.count);
        }
    }

    /// Ends an interval: the rows of each view. `open` visits the connections that are
    /// open; of them those are told that come first by this column.
    pub(super) fn tick(&mut self, now: u64, by: (u8, bool), open: &mut Visit<'_>) -> [Vec<Row>; 4] {
        let since = self.ticked.replace(now).filter(|since| *since > 0);
        self.elapsed = since.map_or(UNKNOWN, |since| now.saturating_sub(since).max(1));
        self.tables.iter_mut().for_each(Table::clear);
        self.total.open = [0; 4];
        let mut lines = Lines {
            rows: Vec::new(),
            others: 0,
            by,
        };
        open(&mut |id, connection| self.visit(id.number(), connection, now, &mut lines));
        for table in &mut self.tables {
            table.tick(now);
        }
        self.total.tick(now);
        self.gone.retain_mut(|(at, _)| {
            if *at == 0 {
                *at = now;
            }
            now.saturating_sub(*at) < STAYS
        });
        for (_, row) in &self.gone {
            lines.put(row.clone());
        }
        let [processes, peers, listeners] = &self.tables;
        let elapsed = self.elapsed;
        [
            processes.rows(elapsed),
            peers.rows(elapsed),
            listeners.rows(elapsed),
            lines.finish(),
        ]
    }

    /// Counts one that is open.
    fn visit(&mut self, number: u64, connection: &Connection, now: u64, lines: &mut Lines) {
        if connection.is_listener() || connection.cause().is_some() {
            return;
        }
        let state = connection.state();
        let place = match state {
            Some(State::Established) => 0,
            Some(State::SynSent | State::SynRecv | State::NewSynRecv) => 1,
            Some(_) => 2,
            None => 3,
        };
        let mut of = Of::connection(connection);
        self.each(&of, &mut |group| group.open[place] += 1);
        of.subject.state = state.map_or("-", State::name);
        let mut row = connection_row(connection, of.subject, number);
        let born = connection.born();
        let age = born.map(|born| now.saturating_sub(born) / 1000);
        row.cells[columns::AGE] = age.unwrap_or(UNKNOWN);
        let resent = connection.sent_again();
        row.cells[columns::RESENT] = resent;
        if resent > 0 {
            row.heat = Heat::Warm;
        }
        lines.put(row);
    }
}

fn connection_row(connection: &Connection, subject: Subject, number: u64) -> Row {
    let mut row = rows::blank(subject, number);
    if subject.pid != 0 {
        row.cells[columns::PID] = subject.pid.into();
    }
    if let Some(took) = connection.connect_time() {
        row.cells[columns::CONNECT] = took / 1000;
    }
    row
}

/// The connections' rows, as they are found.
struct Lines {
    rows: Vec<Row>,
    others: u64,
    by: (u8, bool),
}

impl Lines {
    fn put(&mut self, row: Row) {
        self.rows.push(row);
        if self.rows.len() >= 2 * MOST {
            self.cut();
        }
    }

    fn cut(&mut self) {
        rows::sort(&mut self.rows, self.by.0, self.by.1);
        self.others += self.rows.len().saturating_sub(MOST) as u64;
        self.rows.truncate(MOST);
    }

    fn finish(mut self) -> Vec<Row> {
        self.cut();
        if self.others > 0 {
            let mut row = rows::blank(Subject::OTHERS, 0);
            row.cells[columns::ESTABLISHED] = self.others;
            self.rows.push(row);
        }
        self.rows
    }
}

#[cfg(test)]
pub(super) mod tests;
