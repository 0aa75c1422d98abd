use super::*;
use crate::bpf::wire::tests::{owner, state};
use crate::lifecycle::Connections;
use crate::model::ability::Abilities;
use crate::model::event::{COMM_LEN, OwnerSource, What};
use crate::model::loss::Reason;
use crate::model::tcp::{Endpoint, State};
use crate::owner::lineage::Unknown;
use crate::owner::listeners::Listeners;
use crate::owner::tracker::Moment;
use crate::top::columns::{ENDS, LOCAL, NAME, PEER, STATE};
use crate::top::groups::{IDLE, MOST};

const SECOND: u64 = 1_000_000_000;
const AGES: (u8, bool) = (columns::AGE as u8, true);

/// A host whose events reach the model as those of a run do.
pub(in crate::top) struct Host {
    table: Connections,
    pub(in crate::top) model: Model,
}

impl Host {
    pub(in crate::top) fn new() -> Host {
        let tells = Abilities::LOCK | Abilities::RESETS_SENT | Abilities::RESETS_RECEIVED;
        Host {
            table: Connections::new(100_000, 10, 0, tells),
            model: Model::new(),
        }
    }

    pub(in crate::top) fn takes(&mut self, event: &Event) {
        let seen = self.table.observe(event, event.time).expect("room");
        let moment = Moment {
            kin: &Unknown,
            listeners: &Listeners::default(),
            sockets: false,
        };
        seen.connection.judge_owner(event, &moment);
        seen.connection.mark_shown();
        let (time_wait, segments) = (seen.time_wait, seen.segments);
        self.model.event(event, Some(seen.connection), segments);
        self.table.finish(event, event.time, time_wait);
        while let Some(ended) = self.table.next_ended(u64::MAX) {
            let (id, connection) = self.table.get(&ended);
            self.model.ended(&Record {
                id,
                connection,
                ended: &ended,
                tells: self.table.tells(),
            });
            self.table.release(ended);
        }
    }

    /// A client's connection from `socket`, as far as `path` leads.
    pub(in crate::top) fn client(
        &mut self,
        at: u64,
        socket: u64,
        who: (u32, &[u8]),
        path: &[State],
    ) {
        let mut last = State::Close;
        for (step, &next) in path.iter().enumerate() {
            let mut event = state(
                at + step as u64 * 1_000_000,
                socket,
                last,
                next,
                (4000, 443),
            );
            let mut task = owner(who.0, OwnerSource::Task);
            task.task.name = [0; COMM_LEN];
            task.task.name[..who.1.len()].copy_from_slice(who.1);
            event.owner = Some(task);
            if event.is_close() {
                event.counters.bytes_sent = Some(100);
                event.counters.bytes_received = Some(2000);
                event.counters.rtt_us = Some(71);
                event.counters.error = match last {
                    State::SynSent => Some(libc::ECONNREFUSED),
                    _ => Some(libc::ECONNRESET),
                };
            }
            self.takes(&event);
            last = next;
        }
    }

    pub(in crate::top) fn tick(&mut self, now: u64) -> [Vec<Row>; 4] {
        let table = &self.table;
        self.model.tick(now, AGES, &mut |see| table.each_open(see))
    }
}

const OPEN: [State; 2] = [State::SynSent, State::Established];
const RESET_LATER: [State; 3] = [State::SynSent, State::Established, State::Close];
const REFUSED_AT_ONCE: [State; 2] = [State::SynSent, State::Close];

fn cell(row: &Row, at: usize) -> u64 {
    row.cells[at]
}

fn text(row: &Row, column: u8) -> String {
    let mut out = Vec::new();
    row.text(&mut out, column);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn rates_are_those_of_the_interval() {
    let mut host = Host::new();
    host.tick(SECOND);
    for n in 0..5 {
        host.client(SECOND, n, (7, b"curl"), &OPEN);
    }
    host.client(SECOND, 8, (7, b"curl"), &REFUSED_AT_ONCE);
    host.client(SECOND, 9, (7, b"curl"), &RESET_LATER);
    let [processes, peers, listeners, connections] = host.tick(3 * SECOND);
    assert_eq!((processes.len(), peers.len(), listeners.len()), (1, 1, 0));
    assert_eq!(connections.len(), 7);
    for (row, show, name) in [
        (&processes[0], NAME, "curl"),
        (&peers[0], PEER, ">10.0.0.2:443"),
    ] {
        assert_eq!(text(row, show), name);
        for (at, value) in [
            (columns::ESTABLISHED, 5),
            (columns::OPENING, 0),
            // In two seconds, in tenths.
            (columns::NEW, 35),
            (columns::FAILED, 10),
            (columns::REFUSED, 1),
            (columns::RESET, 1),
            (columns::TIMED_OUT, 0),
            (columns::CONNECT, 1000),
            (columns::RTT, 71),
        ] {
            assert_eq!(cell(row, at), value, "{name} {at}");
        }
        assert_eq!(row.heat, Heat::Hot);
    }
    // An interval later all of that is past, and what is open is open.
    let [processes, ..] = host.tick(4 * SECOND);
    let row = &processes[0];
    assert_eq!(
        (cell(row, columns::NEW), cell(row, columns::FAILED)),
        (0, 0)
    );
    assert_eq!(
        (cell(row, columns::REFUSED), cell(row, columns::ESTABLISHED)),
        (1, 5)
    );
    assert_eq!(row.heat, Heat::None);
    assert_eq!(host.model.total.open, [5, 0, 0, 0]);
    assert_eq!(host.model.total.failed(), 2);
}

#[test]
fn connections_tell_their_state_and_then_their_end() {
    let mut host = Host::new();
    host.client(SECOND, 1, (7, b"curl"), &OPEN[..1]);
    host.client(SECOND, 2, (7, b"curl"), &REFUSED_AT_ONCE);
    let [.., connections] = host.tick(3 * SECOND);
    let mut told: Vec<_> = connections.iter().map(|row| text(row, STATE)).collect();
    told.sort();
    assert_eq!(told, ["SYN_SENT", "refused"]);
    let open = connections
        .iter()
        .find(|row| row.heat == Heat::None)
        .expect("one");
    assert_eq!(cell(open, columns::AGE), 2_000_000);
    assert_eq!(text(open, ENDS), "10.0.0.1:4000 > 10.0.0.2:443");
    // The one that is over stays for a while.
    let [.., connections] = host.tick(3 * SECOND + STAYS - 1);
    assert_eq!(connections.len(), 2);
    let [.., connections] = host.tick(3 * SECOND + STAYS);
    assert_eq!(connections.len(), 1);
}

/// A server's side: who came, and to which port.
#[test]
fn listeners_and_their_peers() {
    let mut host = Host::new();
    host.tick(SECOND);
    for n in 1..=3u8 {
        let ports = (80, 50_000 + u16::from(n));
        for (old, new) in [
            (State::Listen, State::SynRecv),
            (State::SynRecv, State::Established),
        ] {
            let mut event = state(SECOND, n.into(), old, new, ports);
            event.peer.addr = IpAddr::from([10, 0, 0, 7]);
            event.local.addr = IpAddr::from([10, 0, 0, n]);
            event.owner = Some(owner(5, OwnerSource::Accept));
            // A child's first event has no peer, and is not shown then.
            if new == State::SynRecv {
                event.peer.addr = NOWHERE.addr;
            }
            host.takes(&event);
        }
    }
    let [processes, peers, listeners, connections] = host.tick(2 * SECOND);
    assert_eq!((processes.len(), peers.len(), listeners.len()), (1, 1, 1));
    assert_eq!(text(&peers[0], PEER), "<10.0.0.7 :80");
    assert_eq!(text(&listeners[0], LOCAL), "*:80");
    assert_eq!(text(&listeners[0], NAME), "curl");
    for row in [&processes[0], &peers[0], &listeners[0]] {
        assert_eq!(
            (cell(row, columns::NEW), cell(row, columns::ESTABLISHED)),
            (30, 3)
        );
    }
    let ends = text(&connections[0], ENDS);
    assert!(ends.contains(":80 < 10.0.0.7:5000"), "{ends}");
}

#[test]
fn what_is_sent_again_is_told_where_it_was() {
    let mut host = Host::new();
    host.client(SECOND, 1, (7, b"curl"), &OPEN);
    host.tick(2 * SECOND);
    let mut event = state(2 * SECOND, 1, State::Established, State::Close, (4000, 443));
    event.what = What::Retransmit {
        state: None,
        error: None,
        total: Some(4),
        kind: None,
    };
    host.takes(&event);
    let [processes, _, _, connections] = host.tick(3 * SECOND);
    for row in [&processes[0], &connections[0]] {
        assert_eq!((cell(row, columns::RESENT), row.heat), (4, Heat::Warm));
    }
}

#[test]
fn what_is_idle_goes_and_what_is_open_stays() {
    let mut host = Host::new();
    host.client(SECOND, 1, (7, b"sshd"), &OPEN);
    host.client(SECOND, 2, (8, b"curl"), &REFUSED_AT_ONCE);
    let [processes, ..] = host.tick(2 * SECOND);
    assert_eq!(processes.len(), 2);
    let [processes, ..] = host.tick(2 * SECOND + IDLE - 1);
    assert_eq!(processes.len(), 2);
    let [processes, peers, ..] = host.tick(2 * SECOND + IDLE);
    assert_eq!((processes.len(), peers.len()), (1, 1));
    assert_eq!(text(&processes[0], NAME), "sshd");
    // Those that move in its place are found again.
    host.client(100 * SECOND, 3, (7, b"sshd"), &OPEN);
    let [processes, ..] = host.tick(101 * SECOND);
    assert_eq!(processes.len(), 1);
    assert_eq!(cell(&processes[0], columns::ESTABLISHED), 2);
}

#[test]
fn rows_are_bounded_and_nothing_is_left_out_of_the_sums() {
    let mut host = Host::new();
    host.tick(SECOND);
    let many = 2 * MOST as u32 + 500;
    for n in 1..=many {
        host.client(SECOND, n.into(), (n, b"many"), &OPEN);
    }
    for round in 2..4 {
        let [mut processes, _, _, mut connections] = host.tick(round * SECOND);
        assert_eq!(processes.len(), MOST + 1);
        let sum: u64 = processes
            .iter()
            .map(|row| cell(row, columns::ESTABLISHED))
            .sum();
        assert_eq!(sum, u64::from(many));
        assert_eq!(connections.len(), MOST + 1);
        for up in [false, true] {
            let by = columns::ESTABLISHED as u8;
            rows::sort(&mut processes, by, up);
            assert_eq!(text(&processes[MOST], NAME), "(others)");
            rows::sort(&mut connections, by, up);
            let more = format!("{} more", many as usize - MOST);
            assert_eq!(text(&connections[MOST], ENDS), more);
        }
    }
    // Once they are closed, all of them go.
    for n in 1..=many {
        let event = state(
            4 * SECOND,
            n.into(),
            State::Established,
            State::Close,
            (4000, 443),
        );
        host.takes(&event);
    }
    host.tick(5 * SECOND);
    assert_eq!(host.model.total.open, [0; 4]);
    let [processes, _, _, connections] = host.tick(5 * SECOND + IDLE);
    assert_eq!((processes.len(), connections.len()), (0, 0));
}

#[test]
fn sorted_by_any_column_both_ways() {
    let mut host = Host::new();
    for (n, name) in [&b"b"[..], b"c", b"a"].into_iter().enumerate() {
        let (pid, n) = (10 - n as u32, n as u64);
        for more in 0..=n {
            host.client(SECOND, n * 10 + more, (pid, name), &OPEN);
        }
    }
    let [mut processes, ..] = host.tick(2 * SECOND);
    let mut names = |show, up| {
        rows::sort(&mut processes, show, up);
        let names = processes.iter().map(|row| text(row, NAME));
        names.collect::<String>()
    };
    assert_eq!(names(NAME, true), "abc");
    assert_eq!(names(NAME, false), "cba");
    assert_eq!(names(columns::PID as u8, true), "acb");
    let open = columns::ESTABLISHED as u8;
    assert_eq!(names(open, false), "acb");
    // What isn't known is the least; what is the same, by what there was most of.
    let rtt = columns::RTT as u8;
    assert_eq!(names(rtt, false), "acb");
}

#[test]
fn what_was_lost_is_counted_where_events_are_missing() {
    let mut model = Model::new();
    for (reason, count) in [(Reason::RingFull, 3), (Reason::OwnersFull, 5)] {
        model.lost(&Lost {
            wall: 0,
            cpu: None,
            count,
            reason,
        });
    }
    assert_eq!(model.lost, 3);
}

/// One whose connection found no room is counted by what it says itself.
#[test]
fn an_event_alone_counts() {
    let mut model = Model::new();
    model.tick(SECOND, AGES, &mut |_| ());
    let mut event = state(SECOND, 1, State::Close, State::SynSent, (0, 443));
    event.owner = Some(owner(7, OwnerSource::Task));
    event.peer = Endpoint {
        addr: IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]),
        port: 443,
    };
    model.event(&event, None, None);
    let [processes, peers, ..] = model.tick(2 * SECOND, AGES, &mut |_| ());
    assert_eq!(cell(&processes[0], columns::NEW), 10);
    assert_eq!(text(&peers[0], PEER), ">[fe80::1]:443");
}
