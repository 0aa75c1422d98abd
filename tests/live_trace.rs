//! Live: the slices of `--format trace` say what the JSON lines of the same run do.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use story::story;

use common::event::{self, Value};
use common::{Run, TempDir, Tracer, full, live, net};

/// A run that writes slices to standard output, and JSON lines to a log.
fn traced(log: &Path) -> Tracer {
    let args = "--format trace --log-format json --log-file";
    Run::of(full(), args).arg(log).start()
}

/// The objects in the log so far.
fn logged(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    event::objects(&whole.lines().collect::<Vec<_>>())
}

/// Nanoseconds of an object's time; the reader has left out zeros.
fn nanos(object: &Value) -> u64 {
    let text = object["ts"].to_string();
    let (whole, part) = text.split_once('.').expect("a fraction");
    let whole: u64 = whole.parse().expect("microseconds");
    whole * 1_000 + format!("{part:0<3}").parse::<u64>().expect("nanoseconds")
}

/// A connection in the file.
#[derive(Default)]
struct Slice {
    pid: Value,
    lane: Value,
    from: u64,
    to: u64,
    /// Its states: how long each took.
    states: BTreeMap<String, u64>,
    /// Marks: what they are called, and what was said of them.
    marks: Vec<(String, Value)>,
    /// What was said at the end.
    args: Value,
}

/// The connections of a file, by the ids of their sockets; it is whole.
fn slices(text: &str) -> BTreeMap<String, Slice> {
    let all: Vec<Value> = serde_json::from_str(text).expect("an array");
    let mut open: BTreeMap<String, (Slice, String, u64)> = BTreeMap::new();
    let mut done = BTreeMap::new();
    for object in &all {
        let lane = format!("{} {}", object["pid"], object["tid"]);
        let name = event::text(object, "name").to_owned();
        match (object["ph"].as_str(), open.get_mut(&lane)) {
            (Some("B"), None) => {
                let slice = Slice {
                    pid: object["pid"].clone(),
                    lane: object["tid"].clone(),
                    from: nanos(object),
                    ..Slice::default()
                };
                open.insert(lane, (slice, String::new(), 0));
            }
            (Some("B"), Some((_, state, since))) => {
                assert_eq!(state, "", "{object}");
                (*state, *since) = (name, nanos(object));
            }
            (Some("E"), Some((slice, state, since))) if *state == name => {
                *slice.states.entry(name).or_default() += nanos(object) - *since;
                state.clear();
            }
            (Some("E"), Some(_)) => {
                let (mut slice, state, _) = open.remove(&lane).expect("it is open");
                assert_eq!(state, "", "{object}");
                (slice.to, slice.args) = (nanos(object), object["args"].clone());
                let id = slice.args["socket.id"].as_str().unwrap_or(&lane);
                done.insert(id.to_owned(), slice);
            }
            (Some("i"), Some((slice, ..))) => slice.marks.push((name, object["args"].clone())),
            (Some("E"), None) => panic!("an end of nothing: {object}"),
            _ => {}
        }
    }
    assert!(open.is_empty());
    done
}

/// One that went well, and one that was refused; both ends are this process's.
#[story]
fn slices_are_what_the_records_say() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let log = dir.join("lines");
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let tracer = traced(&log);
    net::converse(&listener);
    drop(listener);
    TcpStream::connect(server).expect_err("nobody listens any more");
    assert!(common::eventually(|| event::records(&logged(&log), server)
        .len()
        >= 3));
    let text = tracer.stop().ok().stdout;
    let slices = slices(&text);
    let records = event::records(&logged(&log), server);
    assert_eq!(records.len(), 3);
    for record in &records {
        let slice = &slices[event::text(record, "socket.id")];
        assert_eq!(slice.args, *record);
        assert_eq!(slice.pid, record["process.pid"]);
        assert_eq!(
            slice.to - slice.from,
            event::number(record, "connection.duration_ns")
        );
        let states = record["connection.states_ns"]
            .as_object()
            .expect("its states");
        let mut states: BTreeMap<_, _> = states
            .iter()
            .map(|(state, took)| (state.clone(), took.as_u64().expect("nanoseconds")))
            .collect();
        assert!(!states.is_empty());
        // It was there for a moment, but not for a nanosecond.
        states.retain(|_, took| *took > 0);
        assert_eq!(slice.states, states);
        let refused = record["connection.cause"] == "refused";
        let marks: Vec<_> = slice.marks.iter().map(|mark| mark.0.as_str()).collect();
        assert_eq!(marks, if refused { &["refused"][..] } else { &[] });
    }
    // The arrow goes from the client's slice to the server's.
    let all: Vec<Value> = serde_json::from_str(&text).expect("an array");
    let lane = |e: &Value| slices[event::text(e, "socket.id")].lane.clone();
    let well = |e: &&Value| e["connection.cause"] != "refused";
    let (client, child): (Vec<_>, Vec<_>) = records
        .iter()
        .filter(well)
        .partition(|e| event::peer(e) == server);
    let between = |phase: &str, record: &Value| {
        let mut all = all.iter().filter(|object| object["ph"] == phase);
        all.find(|object| object["tid"] == lane(record))
            .expect("an end")["id"]
            .clone()
    };
    assert_eq!(between("s", client[0]), between("f", child[0]));
}

/// Segments that are sent again are marks, with what the lines say of them; a connection
/// that stays open says so.
#[story]
fn segments_sent_again_are_marked() {
    let Some((here, there)) = common::life::joined() else {
        return;
    };
    let dir = TempDir::new();
    let log = dir.join("lines");
    let tracer = traced(&log);
    let (mut client, accepted, server) = common::life::connected_over(&here, &there);
    let gone = "neigh replace 10.77.0.2 lladdr 02:00:00:00:00:77 nud permanent dev v0";
    here.ip(gone);
    client.write_all(b"into the void").unwrap();
    let again = |log: &Path| {
        let mut all = event::with(&logged(log), server);
        all.retain(|e| e["event.name"] == "tcp_retransmit");
        all
    };
    assert!(common::eventually(|| again(&log).len() >= 3));
    let text = tracer.stop().ok().stdout;
    let lines = again(&log);
    let mut marks = Vec::new();
    let mut open = 0;
    for slice in slices(&text).into_values() {
        let own = |mark: &(String, Value)| lines.contains(&mark.1);
        if slice.marks.iter().any(own) {
            assert_eq!(slice.args["note"], "open at the end of the trace");
            assert_eq!(
                slice.states.keys().collect::<Vec<_>>(),
                ["ESTABLISHED", "SYN_SENT"]
            );
            open += 1;
            marks.extend(slice.marks);
        }
    }
    assert_eq!(open, 1);
    let said: Vec<_> = marks.iter().map(|(_, args)| args.clone()).collect();
    assert_eq!(said, lines);
    for (name, args) in &marks {
        match args["tcp.retransmit.kind"].as_str() {
            None => assert_eq!(name, "retransmission"),
            Some(kind) => assert_eq!(
                *name,
                format!("retransmission ({})", kind.replace('_', " "))
            ),
        }
    }
    here.ip("neigh del 10.77.0.2 dev v0");
    drop((client, accepted));
}
