//! Live: what is open before the start, told of programs whose ids are known.
//!
//! The test runner is this program's own, since it also plays the programs. One
//! test runs at a time: each starts tracers of its own.

#[path = "../common/actor.rs"]
mod actor;
mod busy;
#[path = "../common/mod.rs"]
mod common;
mod listeners;
mod open;

use std::process::ExitCode;

use actor::{Stage, Who};
use common::Tracer;
use common::event::{self, Value, number, text};
use common::suite::{self, Test};

const TESTS: [(&str, Test<Stage>); 16] = [
    ("known_at_every_event", open::known_at_every_event),
    ("without_a_scan_nobody_is_known", open::without_a_scan),
    ("a_retransmission_is_the_first_event", open::retransmission),
    ("hostile_names", open::hostile_names),
    ("a_fork_shares_its_parents_socket", open::shared),
    ("a_socket_that_was_passed_on", open::passed_on),
    ("the_same_ends_in_two_namespaces", open::two_namespaces),
    ("the_report_tells_what_was_open", open::report),
    ("what_finds_no_room_is_told", open::no_room),
    ("without_the_right_to_other_namespaces", open::confined),
    ("listeners_give_their_children", listeners::children),
    ("listeners_in_two_namespaces", listeners::two_namespaces),
    ("workers_on_one_port", listeners::workers),
    ("one_process_on_one_port_twice", listeners::twice),
    ("one_that_comes_without_a_scan", listeners::late),
    ("busy", busy::busy),
];

fn main() -> ExitCode {
    actor::play();
    let args: Vec<String> = std::env::args().skip(1).collect();
    suite::run(&TESTS, &args, Stage::new)
}

/// The ways to the events on this host, each with the flags to take it.
const WAYS: [&str; 3] = [
    "--transport tracepoint",
    "--transport btf",
    "--transport perf",
];

/// Whose an event is said to be: the process, and how it is known.
fn whose(event: &Value) -> (Option<u64>, String) {
    let pid = event.get("process.pid").and_then(Value::as_u64);
    (pid, text(event, "owner.source").to_owned())
}

/// The owner that the scan gives.
fn from_scan(who: &Who) -> (Option<u64>, String) {
    (Some(who.pid), "snapshot".into())
}

/// The event of this transition, which must be there once.
fn the<'a>(life: &'a [Value], transition: &str) -> &'a Value {
    let mut found = life.iter().filter(|e| event::transition(e) == transition);
    let one = found.next();
    assert!(found.next().is_none(), "{transition} twice: {life:#?}");
    one.unwrap_or_else(|| panic!("no {transition}: {life:#?}"))
}

/// Stops a tracer once it has told of so many changes to CLOSE with this end,
/// and reads everything.
fn told(tracer: Tracer, end: std::net::SocketAddr, closes: usize) -> Vec<Value> {
    let closed = |lines: &[String]| {
        let all = event::with(&event::objects(lines), end);
        all.iter().filter(|e| e["tcp.state.new"] == "CLOSE").count()
    };
    tracer.until(|lines| closed(lines) >= closes);
    let out = tracer.stop().ok();
    let all = event::objects(&out.lines());
    let summary = event::summary(&all);
    assert_eq!(number(summary, "lost.events"), 0, "{summary}");
    all
}
