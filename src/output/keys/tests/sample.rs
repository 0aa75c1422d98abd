//! Lines of every kind, made by the program's own writer of events that were
//! made up: every key comes, and each that may be missing is missing once.

use crate::check::finding::{Finding, Section, Verdict};
use crate::check::preflight::{self, Conclusion};
use crate::host::cgroup;
use crate::lifecycle::connection::Direction;
use crate::lifecycle::existing::{Existing, Seen};
use crate::lifecycle::open::{Open, Since};
use crate::lifecycle::tests::ALL;
use crate::lifecycle::{Connections, SocketId};
use crate::model::ability::Abilities;
use crate::model::event::{COMM_LEN, Counters, Event, Owner, OwnerSource, Sent, Task, What};
use crate::model::loss::{Lost, Reason};
use crate::model::tcp::{Endpoint, State, Wire};
use crate::output::format::{Filtered, Format, Record, Retransmits, Shape, Shown, Summary};
use crate::output::json::Json;
use State::{Close, Established, FinWait1, FinWait2, Listen, SynRecv, SynSent};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// 2024-12-30T00:00:25.454123456Z, in nanoseconds since the epoch.
const DAY: u64 = 1_735_516_825_454_123_456;
/// The owner's.
const CGROUP: u64 = u64::MAX - 5;
const HOUR: u64 = 3_600_000_000_000;
const MS: u64 = 1_000_000;

fn name(text: &str) -> [u8; COMM_LEN] {
    let mut name = [0; COMM_LEN];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn owner(pid: u32, source: OwnerSource) -> Owner {
    Owner {
        task: Task {
            pid,
            tid: pid + 1,
            uid: Some(1000),
            name: name("audacious"),
        },
        thread: name("http \"1\"\u{e9}"),
        parent: Some(1200),
        cgroup: Some(CGROUP),
        source,
    }
}

fn end(addr: impl Into<IpAddr>, port: u16) -> Endpoint {
    let addr = addr.into();
    Endpoint { addr, port }
}

/// An event of which everything is known.
fn known(socket: u64, what: What, source: OwnerSource) -> Event {
    Event {
        time: 0,
        cpu: 3,
        socket,
        on_cpu: Task {
            pid: 30512,
            tid: 30513,
            uid: None,
            name: name("audacious"),
        },
        owner: Some(owner(30512, source)),
        netns: Some(4_026_531_840),
        what,
        local: end(Ipv4Addr::new(10, 100, 10, 150), 39134),
        peer: end(Ipv4Addr::new(10, 100, 10, 202), 8000),
        wire: Wire::Ipv4,
        counters: Counters::default(),
        last: false,
    }
}

/// One of which nothing is known that may be unknown.
fn bare(socket: u64, what: What) -> Event {
    Event {
        on_cpu: Task::default(),
        owner: None,
        netns: None,
        local: end(Ipv6Addr::LOCALHOST, 0),
        peer: end(Ipv6Addr::LOCALHOST, 0),
        wire: Wire::Ipv6,
        ..known(socket, what, OwnerSource::Task)
    }
}

fn change(old: State, new: State) -> What {
    What::State { old, new }
}

fn again(state: Option<State>, total: Option<u32>) -> What {
    let error = None;
    What::Retransmit {
        kind: None,
        state,
        error,
        total,
    }
}

fn failed(state: Option<State>, total: Option<u32>) -> What {
    let error = Some(libc::EBUSY);
    What::Retransmit {
        kind: None,
        state,
        error,
        total,
    }
}

/// What a socket has counted that was closed in order.
fn counted() -> Counters {
    Counters {
        error: Some(0),
        sent: Some(Sent {
            acked: 414,
            in_flight: 0,
            unsent: 0,
            handed: Some(412),
        }),
        bytes_retransmitted: Some(300),
        retransmits: Some(4),
        bytes_received: Some(65_160),
        fin_received: Some(true),
        segments_sent: Some(40),
        segments_received: Some(52),
        rtt_us: Some(348),
        min_rtt_us: Some(301),
        time_wait_room: Some(true),
        ..Counters::default()
    }
}

/// A run whose lines are kept.
struct Play {
    connections: Connections,
    json: Json,
    out: Vec<u8>,
    now: u64,
}

impl Play {
    fn new(tells: Abilities, run: u64) -> Play {
        let mut connections = Connections::new(100, 100, run, tells);
        connections.name_reasons(&reasons());
        let mut json = Json::new(Shape {
            on_cpu: true,
            ..Shape::default()
        });
        json.know(cgroup::tests::pod(CGROUP).into());
        Play {
            connections,
            json,
            out: Vec::new(),
            now: 0,
        }
    }

    fn show(
        &mut self,
        event: &Event,
        id: Option<SocketId>,
        time_wait: Option<bool>,
        n: Option<u32>,
    ) {
        let shown = Shown {
            event,
            wall: DAY + event.time,
            id,
            time_wait,
            segments: n,
        };
        self.json.event(&mut self.out, &shown, None);
    }

    /// Takes an event, a millisecond after the one before.
    fn take(&mut self, event: &Event) {
        self.now += MS;
        let mut event = *event;
        event.time = self.now;
        if !event.is_line() {
            return self.connections.note(&event);
        }
        if event.what == What::SynAck {
            let id = self.connections.request_sock(&event, true);
            return self.show(&event, id, None, Some(1));
        }
        let wall = DAY + event.time;
        let seen = self.connections.observe(&event, wall).expect("room");
        seen.connection.mark_shown();
        let (id, time_wait, segments) = (seen.id, seen.time_wait, seen.segments);
        self.show(&event, Some(id), time_wait, segments);
        self.connections.finish(&event, wall, time_wait);
        self.settle(event.time);
    }

    /// Shows the records that are due.
    fn settle(&mut self, now: u64) {
        while let Some(ended) = self.connections.next_ended(now) {
            let (id, connection) = self.connections.get(&ended);
            let record = Record {
                id,
                connection,
                ended: &ended,
                tells: self.connections.tells(),
            };
            self.json.connection(&mut self.out, &record, &reasons());
            self.connections.release(ended);
        }
    }

    /// Opens a connection, asking twice.
    fn open(&mut self, socket: u64) {
        let first = Event {
            local: end(Ipv4Addr::new(10, 100, 10, 150), 0),
            ..known(socket, change(Close, SynSent), OwnerSource::Task)
        };
        self.take(&first);
        for what in [again(Some(SynSent), Some(1)), change(SynSent, Established)] {
            self.take(&known(socket, what, OwnerSource::Cached));
        }
    }

    /// Closes it, with these counters at the end.
    fn close(&mut self, socket: u64, counters: Counters) {
        for (old, new) in [(Established, FinWait1), (FinWait1, FinWait2)] {
            self.take(&known(socket, change(old, new), OwnerSource::Task));
        }
        let last = known(socket, change(FinWait2, Close), OwnerSource::Cached);
        self.take(&Event { counters, ..last });
        self.now += HOUR;
        self.settle(self.now);
    }
}

fn reasons() -> Vec<(u32, String)> {
    vec![(2, "TCP_ABORT_ON_CLOSE".into())]
}

/// Connections of a host that tells everything.
fn connections() -> Play {
    let mut play = Play::new(ALL, DAY);
    // A client; one of its segments could not be sent.
    play.open(1);
    for what in [
        again(Some(Established), Some(4)),
        failed(Some(Established), Some(4)),
    ] {
        play.take(&known(1, what, OwnerSource::Cached));
    }
    play.close(1, counted());
    // A server's connection, which this host resets.
    let listener = OwnerSource::Listener;
    play.take(&known(9, What::SynAck, listener));
    play.take(&known(2, change(Listen, SynRecv), listener));
    play.take(&known(2, change(SynRecv, Established), listener));
    play.take(&known(2, What::Accepted, OwnerSource::Accept));
    let reset = What::ResetSent { reason: Some(2) };
    play.take(&known(2, reset, OwnerSource::Task));
    let mut last = known(2, change(Established, Close), OwnerSource::Task);
    last.counters.error = Some(0);
    play.take(&last);
    play.now += HOUR;
    play.settle(play.now);
    // One whose end is another's: the kernel lets go of it in FIN_WAIT2.
    play.open(3);
    let unfinished = Counters {
        fin_received: Some(false),
        time_wait_room: None,
        ..counted()
    };
    play.close(3, unfinished);
    play
}

/// A connection that was open before the start.
fn found() -> Vec<u8> {
    let mut play = Play::new(ALL, DAY + 2 * HOUR);
    play.now = 5 * HOUR;
    let of = known(6, change(Established, FinWait1), OwnerSource::Task);
    play.connections.begin_scan(0);
    let found = Existing {
        netns: 4_026_531_840,
        local: of.local,
        peer: of.peer,
        state: Established,
        seen: Seen { start: 1, end: 2 },
    };
    play.connections.adopt(&found);
    play.connections.end_scan();
    play.close(6, counted());
    play.out
}

/// What a host tells that tells little, of a connection from before the start and
/// of one that found no room.
fn unknown() -> Vec<u8> {
    let mut play = Play::new(Abilities::empty(), DAY + HOUR);
    play.now = 9 * HOUR;
    for what in [
        again(None, None),
        failed(None, None),
        change(Established, Close),
    ] {
        play.take(&bare(4, what));
    }
    for what in [
        change(SynSent, Established),
        again(None, None),
        failed(None, None),
    ] {
        let mut event = bare(5, what);
        event.time = play.now;
        play.show(&event, None, None, None);
    }
    play.out
}

/// More processes and peers than are counted one by one.
fn crowd() -> Connections {
    let mut play = Play::new(ALL, 0);
    for n in 0..90u8 {
        let mut event = known(u64::from(n), change(Close, SynSent), OwnerSource::Task);
        let mut of = owner(1000 + u32::from(n), OwnerSource::Task);
        if n < 10 {
            (of.task.pid, of.task.name) = (7, [0; COMM_LEN]);
        }
        event.owner = Some(of);
        event.peer = end(Ipv4Addr::new(10, 100, 20, n), 80);
        play.take(&event);
        event.what = change(SynSent, Close);
        play.take(&event);
    }
    play.connections
}

fn summary(out: &mut Vec<u8>, at: u64, of: &Connections, segments: Option<u32>) {
    let mut retransmits = Retransmits::default();
    retransmits.add(Some(1));
    retransmits.add(segments);
    let filter = match segments {
        Some(_) => Filtered {
            text: "comm \"a \\\"b\\\"\" and port { 80, 443 }".into(),
            changes: 1,
            kept_away: Some(4321),
        },
        None => Filtered::default(),
    };
    let summary = Summary {
        transport: "tracepoint",
        filter,
        received: 1234,
        shown: 1200,
        records: 3,
        retransmits,
        connections: of.seen(),
        ..Summary::default()
    };
    Json::default().summary(out, DAY + at, &summary, &of.totals());
}

fn check(out: &mut Vec<u8>, at: u64) {
    let mut field = Finding::new(
        Section::Host,
        "tcp:tcp_retransmit_skb",
        Verdict::Yes,
        "in /sys/kernel/tracing",
    );
    field.fields = Some((
        ["skaddr", "state"].map(String::from).into(),
        vec!["err".into()],
    ));
    let mut lacking = Finding::new(Section::Feature, "resets sent", Verdict::No, "");
    lacking.remedy = "update the kernel".into();
    preflight::json(out, DAY + at, &[field, lacking]);
    let mut conclusion = Conclusion {
        result: "degraded",
        code: 1,
        transport: Some("tracepoint"),
        error: None,
    };
    preflight::json_result(out, DAY + at, &conclusion);
    conclusion = Conclusion {
        result: "cannot_run",
        code: 2,
        transport: None,
        error: Some("no way to the events"),
    };
    preflight::json_result(out, DAY + at, &conclusion);
}

/// Two that are still open: one of which all is known, one that was found.
fn open(play: &mut Play, out: &mut Vec<u8>) {
    play.open(8);
    play.take(&known(8, What::Accepted, OwnerSource::Accept));
    let places = 0..play.connections.places().0;
    let mut all = places.filter_map(|at| play.connections.open_at(at));
    let (mut whole, _) = all.next().expect("one that is open");
    whole.wall = DAY + play.now;
    whole.count(Established, &counted());
    whole.since = Since {
        duration: Some(HOUR),
        sent: Some(12),
        received: Some(600),
        resent: Some(1),
    };
    play.json.still_open(out, &whole, play.now);
    let bare = bare(0, What::Accepted);
    let found = Open {
        id: None,
        local: bare.local,
        peer: bare.peer,
        wire: bare.wire,
        owner: None,
        netns: None,
        direction: Direction::Unknown,
        start: None,
        state: None,
        connect: None,
        accept_delay: None,
        counters: Counters::default(),
        since: Since::default(),
        ..whole
    };
    play.json.still_open(out, &found, play.now);
}

/// A day's lines, of several runs.
pub(super) fn lines() -> String {
    let mut out = Vec::new();
    check(&mut out, 0);
    let mut play = connections();
    out.append(&mut play.out);
    out.append(&mut found());
    out.append(&mut unknown());
    open(&mut play, &mut out);
    for (cpu, reason) in [(Some(1), Reason::RingFull), (None, Reason::ConnectionsFull)] {
        let wall = DAY + 10 * HOUR;
        let lost = Lost {
            wall,
            cpu,
            count: 123,
            reason,
        };
        play.json.lost(&mut out, &lost);
    }
    summary(&mut out, 22 * HOUR, &play.connections, Some(3));
    summary(&mut out, 23 * HOUR, &crowd(), None);
    String::from_utf8(out).expect("UTF-8")
}
