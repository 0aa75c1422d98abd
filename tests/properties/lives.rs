//! Connections fed with any sequence of events.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket_snoop::lifecycle::existing::{Ends, Existing, Seen};
use socket_snoop::lifecycle::{Connections, SocketId};
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::{
    COMM_LEN, Counters, Destroyed, Event, Owner, OwnerSource, Sent, Task, What,
};
use socket_snoop::model::tcp::{Endpoint, State, Wire};
use socket_snoop::model::text::is_unseen;
use socket_snoop::output::classic::Classic;
use socket_snoop::output::json::Json;
use socket_snoop::output::{Format, Record, Shape, Shown};

use super::Bytes;

/// Events of one run; more would only take longer.
const EVENTS: usize = 512;

/// Few, so that they are used again.
const SOCKETS: u8 = 6;

/// Connections, and what must come of them.
struct World {
    table: Connections,
    capacity: usize,
    time: u64,
    /// Connections that an event closed, and those of which a record came.
    closed: Vec<String>,
    records: Vec<String>,
    classic: Classic,
    json: Json,
    adopted: u32,
}

fn name(id: SocketId) -> String {
    let mut text = Vec::new();
    id.render(&mut text);
    String::from_utf8(text).expect("text")
}

/// A line: whole, one, and without anything that a terminal obeys.
fn check_line(out: &mut Vec<u8>, json: bool) {
    let text = std::str::from_utf8(out).expect("UTF-8");
    if text
        .bytes()
        .all(|b| b == b'\n' || (b' '..=b'~').contains(&b))
        && !json
    {
        assert_eq!(text.matches('\n').count(), usize::from(!text.is_empty()));
    } else if !text.is_empty() {
        let line = text.strip_suffix('\n').expect("a whole line");
        assert!(!line.chars().any(is_unseen), "{line:?}");
        if json {
            let object: serde_json::Value = serde_json::from_str(line).expect(line);
            let object = object.as_object().expect("an object");
            assert!(object.values().all(|value| !value.is_null()), "{line}");
        }
    }
    out.clear();
}

fn state(bytes: &mut Bytes<'_>) -> State {
    State::from_number(bytes.byte() % 13 + 1).expect("13 states")
}

fn end(bytes: &mut Bytes<'_>) -> Endpoint {
    let addr = match bytes.byte() % 4 {
        0 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        1 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        n => IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)),
    };
    let port = bytes.pick(&[0, 22, 80, 4000]);
    Endpoint { addr, port }
}

fn task(bytes: &mut Bytes<'_>) -> Task {
    let mut name = [0; COMM_LEN];
    let len = usize::from(bytes.byte() % 16);
    name[..len].fill_with(|| bytes.byte());
    let pid = u32::from(bytes.byte());
    Task {
        pid,
        tid: pid,
        uid: (pid % 3 != 0).then_some(pid),
        name,
    }
}

fn owner(bytes: &mut Bytes<'_>) -> Owner {
    use OwnerSource::{Accept, Cached, Listener, ListenerAccepted, Snapshot, Task as Own};
    Owner {
        source: bytes.pick(&[Own, Cached, Listener, Accept, Snapshot, ListenerAccepted]),
        task: task(bytes),
        thread: *b"\"thread\" \n=\xff\x01\0\0\0",
        parent: Some(7),
        cgroup: Some(u64::MAX),
    }
}

fn counters(bytes: &mut Bytes<'_>) -> Counters {
    let flags = bytes.byte();
    let some = |bit: u8| flags & 1 << bit != 0;
    let error = bytes.pick(&[0, 104, 110, 111, i32::MAX]);
    let (long, word) = (bytes.time(), bytes.word());
    Counters {
        error: some(0).then_some(error),
        bytes_sent: None,
        sent: some(1).then_some(Sent {
            acked: long,
            in_flight: word,
            unsent: u32::from(some(3)),
            handed: some(2).then_some(long),
        }),
        bytes_retransmitted: some(1).then_some(long),
        retransmits: some(4).then_some(word),
        has_socket: some(5).then_some(some(6)),
        time_wait_room: some(2).then_some(some(7)),
        bytes_received: some(2).then_some(long),
        fin_received: some(2).then_some(some(3)),
        segments_sent: some(4).then_some(word),
        segments_received: some(5).then_some(word),
        rtt_us: some(6).then_some(word.max(1)),
        min_rtt_us: some(7).then_some(word),
    }
}

fn what(bytes: &mut Bytes<'_>) -> What {
    match bytes.byte() % 16 {
        0..=4 => What::State {
            old: state(bytes),
            new: state(bytes),
        },
        5..=6 => What::State {
            old: bytes.pick(&[State::LastAck, State::FinWait2, State::Established]),
            new: State::Close,
        },
        7 => What::State {
            old: State::Close,
            new: State::SynSent,
        },
        8 => What::State {
            old: State::Listen,
            new: State::SynRecv,
        },
        9 => What::Retransmit {
            kind: None,
            state: Some(state(bytes)),
            error: None,
            total: Some(u32::from(bytes.byte())),
        },
        10 => What::Retransmit {
            kind: None,
            state: None,
            error: Some(i32::from(bytes.byte())),
            total: None,
        },
        11 => What::SynAck,
        12 => What::ResetSent {
            reason: Some(u32::from(bytes.byte())),
        },
        13 => What::ResetReceived,
        14 => What::Accepted,
        _ => What::Destroyed {
            cookie: u64::from(bytes.byte()),
        },
    }
}

impl World {
    fn event(&mut self, bytes: &mut Bytes<'_>) -> Event {
        // Usually a little later; sometimes anything.
        self.time = match bytes.byte() {
            0..=3 => bytes.time(),
            step @ 4..=31 => self.time.saturating_add(u64::from(step) << 22),
            step => self.time.saturating_add(u64::from(step) << 12),
        };
        let flags = bytes.byte();
        Event {
            time: self.time,
            cpu: 0,
            socket: u64::from(bytes.byte() % SOCKETS),
            what: what(bytes),
            on_cpu: task(bytes),
            owner: (flags & 1 != 0).then(|| owner(bytes)),
            netns: (flags & 2 != 0).then(|| u32::from(bytes.byte() % 2 + 1)),
            local: end(bytes),
            peer: end(bytes),
            wire: bytes.pick(&[Wire::Ipv4, Wire::Ipv6]),
            counters: counters(bytes),
            last: false,
        }
    }

    /// As [`socket_snoop::session::view::View::take`] does it.
    fn take(&mut self, event: &Event, show: bool) {
        self.table.prepare(event);
        self.settle(event.time);
        match event.is_line() {
            true => self.line(event, show),
            false => self.table.note(event),
        }
        self.settle(event.time);
    }

    fn line(&mut self, event: &Event, show: bool) {
        let wall = event.time.saturating_add(1 << 60);
        if event.what == What::SynAck && self.table.request_sock(event, show).is_some() {
            return;
        }
        let Some(seen) = self.table.observe(event, wall) else {
            return;
        };
        let (id, time_wait, segments) = (seen.id, seen.time_wait, seen.segments);
        if event.is_close() && !seen.connection.is_listener() {
            self.closed.push(name(id));
        }
        if show {
            seen.connection.mark_shown();
            let shown = Shown {
                event,
                wall,
                id: Some(id),
                time_wait,
                segments,
            };
            let mut out = Vec::new();
            self.classic.event(&mut out, &shown, None);
            check_line(&mut out, false);
            self.json.event(&mut out, &shown, None);
            check_line(&mut out, self.closed.len() % 8 == 0);
        }
        self.table.finish(event, wall, time_wait);
    }

    fn settle(&mut self, now: u64) {
        while let Some(ended) = self.table.next_ended(now) {
            let (id, connection) = self.table.get(&ended);
            self.records.push(name(id));
            assert!(connection.cause().is_some());
            let record = Record {
                id,
                connection,
                ended: &ended,
                tells: self.table.tells(),
            };
            let mut out = Vec::new();
            let reasons = vec![(1, "ONE".to_owned())];
            self.classic.connection(&mut out, &record, &reasons);
            check_line(&mut out, false);
            self.json.connection(&mut out, &record, &reasons);
            check_line(&mut out, true);
            self.table.release(ended);
        }
    }

    fn scan(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.byte() % 4 {
            0 => self.table.begin_scan(bytes.time()),
            1 => self.table.end_scan(),
            2 => self.table.expect_destroys(),
            _ => {
                let start = bytes.time();
                let found = Existing {
                    netns: u32::from(bytes.byte() % 2 + 1),
                    local: end(bytes),
                    peer: end(bytes),
                    state: state(bytes),
                    seen: Seen {
                        start,
                        end: start.saturating_add(u64::from(bytes.word())),
                    },
                };
                if let Some(number) = self.table.adopt(&found) {
                    self.adopted += 1;
                    self.table.adopt_owner(number, &owner(bytes));
                }
            }
        }
    }

    /// What there is at most: a few words for each place, whatever has come.
    fn check_bounds(&self) {
        // Early messages and due times go after a second of the event clock; here
        // that may never come, and cookies are few.
        let most = 8 * self.capacity + 64 + 2 * 256 + 64;
        assert!(self.table.held() <= most, "{} of {most}", self.table.held());
        assert!(self.adopted as usize <= self.capacity);
    }
}

/// Whatever comes: every close of a connection has one record, lines are lines,
/// and memory is bounded.
pub fn lives(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let capacity = usize::from(bytes.byte() % 16 + 1);
    let flags = bytes.byte();
    let mut tells = Abilities::empty();
    for (bit, ability) in [
        (1, Abilities::LOCK),
        (2, Abilities::ACCEPTS),
        (4, Abilities::RESETS_SENT),
        (8, Abilities::SYNACKS),
        (16, Abilities::FAILED_RETRANSMISSIONS),
        (32, Abilities::DESTROYS),
        (64, Abilities::RESETS_RECEIVED),
    ] {
        tells.set(ability, flags & bit != 0);
    }
    let shape = Shape {
        on_cpu: flags & 64 != 0,
        connections: true,
        netns: Some(1),
        ..Shape::default()
    };
    let mut world = World {
        table: Connections::new(capacity, capacity, 1, tells),
        capacity,
        time: 0,
        closed: Vec::new(),
        records: Vec::new(),
        classic: Classic::new(shape),
        json: Json::new(shape),
        adopted: 0,
    };
    for _ in 0..EVENTS {
        if bytes.is_empty() {
            break;
        }
        match bytes.byte() {
            0..=7 => world.scan(&mut bytes),
            8..=23 => world.table.last_word(&Destroyed {
                cookie: u64::from(bytes.byte()),
                counters: counters(&mut bytes),
                unread: bytes.word(),
            }),
            more => {
                let event = world.event(&mut bytes);
                world.take(&event, more % 2 == 0);
            }
        }
        world.check_bounds();
    }
    world.settle(u64::MAX);
    world.check_bounds();
    assert!(world.table.shown().len() <= 2 * capacity);
    let open = |_: Ends<'_>, _: Option<&Owner>| true;
    assert!(world.table.untouched(&open) <= u64::from(world.adopted));
    let totals = world.table.totals();
    assert!(totals.established <= totals.opened);
    world.closed.sort();
    world.records.sort();
    assert_eq!(world.closed, world.records);
}
