//! What the viewers' readers count on.

mod any;

use super::*;
use crate::bpf::wire::tests::{owner, state};
use crate::lifecycle::Connections;
use crate::lifecycle::tests::ALL;
use crate::model::event::{Event, OwnerSource};
use crate::model::loss::Reason;
use crate::model::tcp::Endpoint;
use serde_json::Value;
use std::collections::BTreeMap;

/// The wall clock is so far ahead.
const WALL: u64 = 1_700_000_000_000_000_000;
const MS: u64 = 1_000_000;

/// A run: events go through a table of connections, and are all shown.
struct Play {
    table: Connections,
    trace: Trace,
    out: Vec<u8>,
}

impl Play {
    fn new() -> Play {
        let mut play = Play {
            table: Connections::new(64, 64, 0, ALL),
            trace: Trace::new(),
            out: Vec::new(),
        };
        play.trace.begin(&mut play.out, 0, WALL, 0);
        play
    }

    fn draw(&mut self, now: u64) {
        let Play { table, trace, out } = self;
        trace.draw(
            now,
            now + WALL,
            &mut |see| {
                table.each_open(&mut |id, connection| {
                    if connection.is_shown() {
                        see(id, connection);
                    }
                });
            },
            out,
        );
    }

    fn end_those_due(&mut self, now: u64) {
        while let Some(ended) = self.table.next_ended(now) {
            let (id, connection) = self.table.get(&ended);
            let record = Record {
                id,
                connection,
                ended: &ended,
                tells: ALL,
            };
            self.trace.record(&record, &mut self.out);
            self.table.release(ended);
        }
    }

    fn take(&mut self, event: &Event) {
        self.table.prepare(event);
        self.end_those_due(event.time);
        let wall = event.time + WALL;
        let seen = self.table.observe(event, wall).expect("room");
        seen.connection.mark_shown();
        let shown = Shown {
            event,
            wall,
            id: Some(seen.id),
            time_wait: seen.time_wait,
            segments: seen.segments,
        };
        self.trace
            .event(&shown, Some(seen.connection), &mut self.out);
        let time_wait = seen.time_wait;
        self.table.finish(event, wall, time_wait);
    }

    /// The whole file.
    fn finish(mut self) -> Vec<Value> {
        self.end_those_due(u64::MAX);
        self.trace.finish(&Summary::default(), &mut self.out);
        assert!(!self.trace.lives.iter().any(|life| life.open));
        assert!(self.trace.numbers.is_empty() && self.trace.ends.is_empty());
        serde_json::from_slice(&self.out).expect("an array")
    }
}

/// A change of one of this process's, by itself.
fn change(time: u64, socket: u64, old: State, new: State, pid: u32) -> Event {
    let mut event = state(time, socket, old, new, (4000, 80));
    event.owner = Some(owner(pid, OwnerSource::Task));
    event
}

/// The changes of a client's whole life, a millisecond each.
fn client(from: u64, socket: u64, pid: u32) -> [Event; 5] {
    use State::*;
    let path = [Close, SynSent, Established, FinWait1, FinWait2, Close];
    let step = |n: usize| change(from + n as u64 * MS, socket, path[n], path[n + 1], pid);
    std::array::from_fn(step)
}

type Slice = (String, u64, u64);

/// Nanoseconds of a time.
fn nanos(event: &Value) -> u64 {
    let text = event["ts"].to_string();
    let (whole, part) = text.split_once('.').expect("a fraction");
    let whole: u64 = whole.parse().expect("a number");
    // JSON's reader has left out zeros.
    whole * 1_000 + format!("{part:0<3}").parse::<u64>().expect("a number")
}

/// The slices of each lane, outer before inner, and whether all is in order.
fn slices(events: &[Value]) -> BTreeMap<(u64, u64), Vec<Slice>> {
    type Lane = (u64, Vec<(usize, u64)>, Vec<Slice>);
    let mut lanes: BTreeMap<(u64, u64), Lane> = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for event in events {
        let phase = event["ph"].as_str().expect("a phase");
        let of_lane = matches!(phase, "B" | "E") || event["s"] == "t";
        if !of_lane {
            continue;
        }
        let (pid, tid) = (&event["pid"], &event["tid"]);
        let at = (pid.as_u64().unwrap(), tid.as_u64().unwrap());
        assert_eq!(*owners.entry(at.1).or_insert(at.0), at.0, "a lane of two");
        assert!(at.1 > NOBODY.into(), "{event}");
        let (last, stack, all) = lanes.entry(at).or_default();
        let (now, name) = (nanos(event), event["name"].as_str().unwrap());
        assert!(now >= *last, "{now} after {last}: {event}");
        match phase {
            "B" => {
                if stack.is_empty() && !all.is_empty() {
                    assert!(now > *last, "one may be taken for the next one's: {event}");
                }
                stack.push((all.len(), now));
                all.push((name.to_string(), now, 0));
            }
            "E" => {
                let (slice, from) = stack.pop().expect("a slice");
                assert_eq!(all[slice].0, name);
                assert!(now > from, "{event}");
                all[slice].2 = now;
            }
            _ => assert!(!stack.is_empty(), "a mark of nothing: {event}"),
        }
        *last = now;
        assert!(stack.len() <= 2, "{event}");
    }
    let whole = |(at, (_, stack, all)): (_, Lane)| {
        assert!(stack.is_empty(), "open: {stack:?}");
        (at, all)
    };
    lanes.into_iter().map(whole).collect()
}

fn of_phase<'a>(events: &'a [Value], phase: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["ph"] == phase)
}

fn name(text: &str, from: u64, to: u64) -> Slice {
    (text.to_string(), from, to)
}

#[test]
fn a_life_is_a_slice_with_its_states() {
    let mut play = Play::new();
    for event in client(5 * MS, 7, 10) {
        play.take(&event);
    }
    let file = play.finish();
    let lanes = slices(&file);
    let lane = (10, u64::from(NOBODY) + 1);
    let wanted = [
        name("to 10.0.0.2:80", 5 * MS, 9 * MS),
        name("SYN_SENT", 5 * MS, 6 * MS),
        name("ESTABLISHED", 6 * MS, 7 * MS),
        name("FIN_WAIT1", 7 * MS, 8 * MS),
        name("FIN_WAIT2", 8 * MS, 9 * MS),
    ];
    assert_eq!(
        lanes.into_iter().collect::<Vec<_>>(),
        [(lane, wanted.to_vec())]
    );
    let names: Vec<_> = of_phase(&file, "M")
        .map(|m| (&m["name"], &m["args"]["name"]))
        .collect();
    let wanted = [("process_name", "curl"), ("thread_name", "connections 1")];
    assert!(
        names
            .iter()
            .zip(wanted)
            .all(|((a, b), (x, y))| *a == x && *b == y),
        "{names:?}"
    );
    assert_eq!(names.len(), 2);
    // The record is with the end.
    let end = of_phase(&file, "E").last().expect("an end");
    assert_eq!(end["args"]["event.name"], "connection");
    assert_eq!(end["args"]["process.pid"], 10);
    assert_eq!(end["args"]["connection.duration_ns"], 4 * MS);
    let first = &file[0];
    assert_eq!(
        (&first["ts"].to_string()[..], &first["s"]),
        ("0.0", &"g".into())
    );
    assert_eq!(first["args"]["time"], "2023-11-14T22:13:20.000000000Z");
    assert_eq!(file.last().expect("an end")["name"], "end of the trace");
}

#[test]
fn recorded_lines_begin_with_the_first_one() {
    let mut play = Play::new();
    (play.trace, play.out) = (Trace::new(), Vec::new());
    play.draw(0);
    play.take(&client(WALL, 7, 10)[0]);
    let file = play.finish();
    let times: Vec<u64> = of_phase(&file, "i")
        .chain(of_phase(&file, "B"))
        .map(nanos)
        .collect();
    assert_eq!(times, [0; 4]);
}

#[test]
fn a_lane_is_used_again_once_it_is_free() {
    let mut play = Play::new();
    let lives = [
        (0, 1),
        (1, 2),
        (100 * MS, 3),
        (100 * MS + 1, 4),
        (200 * MS, 5),
    ];
    let mut events: Vec<Event> = lives
        .iter()
        .flat_map(|(from, socket)| client(*from, *socket, 10))
        .collect();
    events.sort_by_key(|event| event.time);
    events.iter().for_each(|event| play.take(event));
    let file = play.finish();
    let lanes: Vec<usize> = slices(&file).values().map(Vec::len).collect();
    assert_eq!(lanes, [3 * 5, 2 * 5]);
}

/// A child whose owner is its listener's so far, and the peer's connection to it.
fn child(time: u64, old: State, new: State, source: OwnerSource, pid: u32) -> Event {
    let mut event = change(time, 2, old, new, pid);
    std::mem::swap(&mut event.local, &mut event.peer);
    event.owner = Some(owner(pid, source));
    event
}

#[test]
fn both_ends_are_joined_once_both_are_told() {
    use State::*;
    let mut play = Play::new();
    let [open, answered, shut, ..] = client(MS, 1, 10);
    play.take(&open);
    play.take(&answered);
    let listener = OwnerSource::Listener;
    play.take(&child(2 * MS + 1, Listen, SynRecv, listener, 20));
    play.take(&child(2 * MS + 2, SynRecv, Established, listener, 20));
    play.take(&shut);
    // Nobody knows yet who accepts it.
    let so_far = String::from_utf8_lossy(&play.out).into_owned();
    assert!(!so_far.contains("\"pid\":20") && !so_far.contains("\"ph\":\"s\""));
    play.take(&child(
        4 * MS,
        Established,
        CloseWait,
        OwnerSource::Accept,
        21,
    ));
    let file = play.finish();
    let ends: Vec<_> = ["s", "f"]
        .map(|phase| of_phase(&file, phase).collect::<Vec<_>>())
        .concat();
    assert_eq!(ends.len(), 2);
    assert_eq!((&ends[0]["pid"], &ends[1]["pid"]), (&10.into(), &21.into()));
    assert_eq!(ends[0]["id"], ends[1]["id"]);
    assert!(ends.iter().all(|end| nanos(end) == 2 * MS + 2));
    let lanes = slices(&file);
    let names: Vec<_> = lanes.values().map(|all| all[0].0.as_str()).collect();
    assert_eq!(names, ["to 10.0.0.2:80", "from 10.0.0.1 to port 80"]);
    let open = of_phase(&file, "E").filter(|e| e["args"]["note"].is_string());
    assert_eq!(open.count(), 2);
}

/// Also where the client comes again from the same port, and where two have the same
/// ends that are no pair.
#[test]
fn only_a_pair_is_joined() {
    let mut play = Play::new();
    for n in 0..3 {
        for event in client(n * 100 * MS, 1, 10) {
            play.take(&event);
        }
    }
    for socket in [4, 5] {
        client(900 * MS, socket, 11)[..2]
            .iter()
            .for_each(|event| play.take(event));
    }
    assert_eq!(of_phase(&play.finish(), "s").count(), 0);
}

#[test]
fn an_owner_that_stays_unsure_is_taken_in_the_end() {
    use State::*;
    let mut play = Play::new();
    let listener = OwnerSource::Listener;
    play.take(&child(MS, Listen, SynRecv, listener, 20));
    play.take(&child(2 * MS, SynRecv, Established, listener, 20));
    play.draw(ROUND);
    assert!(!String::from_utf8_lossy(&play.out).contains("\"pid\":20"));
    play.draw(2 * ROUND);
    assert!(String::from_utf8_lossy(&play.out).contains("\"pid\":20"));
    assert_eq!(slices(&play.finish()).len(), 1);
}

#[test]
fn what_was_there_before_begins_with_the_trace() {
    use State::*;
    let mut play = Play::new();
    // Its beginning was not seen, and a segment is sent again.
    let mut again = change(5 * MS, 3, Established, Established, 10);
    again.what = What::Retransmit {
        state: Some(Established),
        error: None,
        total: Some(1),
        kind: Some(Resending::Timeout),
    };
    play.take(&again);
    play.take(&change(6 * MS, 3, Established, CloseWait, 10));
    let file = play.finish();
    let all = slices(&file).into_values().next().expect("a lane");
    let names: Vec<_> = all.iter().map(|slice| slice.0.as_str()).collect();
    assert_eq!(names, ["with 10.0.0.2:80", "ESTABLISHED", "CLOSE_WAIT"]);
    let mark = of_phase(&file, "i")
        .find(|i| i["s"] == "t")
        .expect("a mark");
    assert_eq!(mark["name"], "retransmission (timeout)");
    assert_eq!(mark["args"]["tcp.retransmit.kind"], "timeout");
    let end = of_phase(&file, "E").last().expect("an end");
    assert_eq!(end["args"]["note"], "open at the end of the trace");
}

#[test]
fn an_end_that_was_not_seen_is_one_all_the_same() {
    let mut play = Play::new();
    play.take(&client(MS, 1, 10)[0]);
    // The same socket again: the change to CLOSE was lost.
    play.take(&client(9 * MS, 1, 10)[0]);
    (1..=4).for_each(|n| play.draw(n * ROUND));
    assert_eq!(play.trace.numbers.len(), 1);
    let file = play.finish();
    let notes: Vec<_> = of_phase(&file, "E")
        .filter_map(|e| e["args"]["note"].as_str())
        .collect();
    assert_eq!(
        notes,
        ["its end was not seen", "open at the end of the trace"]
    );
}

#[test]
fn a_failure_is_marked() {
    let mut play = Play::new();
    play.take(&client(MS, 1, 10)[0]);
    let mut refused = change(2 * MS, 1, State::SynSent, State::Close, 10);
    refused.counters.error = Some(libc::ECONNREFUSED);
    play.take(&refused);
    let file = play.finish();
    let marks: Vec<_> = of_phase(&file, "i").filter(|i| i["s"] == "t").collect();
    assert_eq!((marks.len(), &marks[0]["name"]), (1, &"refused".into()));
    slices(&file);
}

#[test]
fn names_are_only_names() {
    let hostile = *b"\"}],\\\n\x1b\xff</scr";
    let mut play = Play::new();
    for mut event in client(MS, 1, 10) {
        event.owner.as_mut().expect("one").task.name[..13].copy_from_slice(&hostile);
        play.take(&event);
    }
    let text = String::from_utf8(play.out.clone()).expect("UTF-8");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    let file = play.finish();
    let process = of_phase(&file, "M").next().expect("a name");
    assert_eq!(
        process["args"]["name"],
        String::from_utf8_lossy(&hostile).as_ref()
    );
}

/// As all three viewers do it: what a run has written that was killed.
fn cut(text: &[u8]) -> Vec<Value> {
    let end = text.iter().rposition(|&b| b == b',').expect("a comma");
    serde_json::from_slice(&[&text[..end], b"]"].concat()).expect("an array")
}

#[test]
fn what_a_killed_run_has_written_is_read() {
    let mut play = Play::new();
    for event in client(MS, 1, 10) {
        play.take(&event);
        assert!(play.out.ends_with(b"},\n"));
        cut(&play.out);
    }
    assert_eq!(of_phase(&cut(&play.out), "B").count(), 5);
}

#[test]
fn without_a_connection_it_is_the_processs() {
    let mut play = Play::new();
    let event = client(MS, 1, 10)[0];
    let shown = Shown {
        event: &event,
        wall: MS + WALL,
        id: None,
        time_wait: None,
        segments: None,
    };
    play.trace.event(&shown, None, &mut play.out);
    let lost = Lost {
        wall: 2 * MS + WALL,
        cpu: None,
        count: 3,
        reason: Reason::RingFull,
    };
    play.trace.lost(&lost, &mut play.out);
    let file = play.finish();
    let marks: Vec<_> = of_phase(&file, "i")
        .map(|i| (i["s"].as_str(), i["name"].as_str()))
        .collect();
    let wanted = [
        ("g", "begin of the trace"),
        ("p", "SYN_SENT"),
        ("g", "lost: 3 ring_full"),
        ("g", "end of the trace"),
    ];
    assert_eq!(marks, wanted.map(|(s, name)| (Some(s), Some(name))));
}

#[test]
fn without_anything_it_is_a_file_all_the_same() {
    let mut out = Vec::new();
    Trace::new().finish(&Summary::default(), &mut out);
    let file: Vec<Value> = serde_json::from_slice(&out).expect("an array");
    assert_eq!(file.len(), 1);
}
