//! The JSON Schema of the lines, from the rows (draft 2020-12).

use crate::check::finding::{Section, Verdict};
use crate::lifecycle::connection::Direction;
use crate::model::cause::Cause;
use crate::model::event::OwnerSource;
use crate::model::loss::Reason;
use crate::model::tcp::State;
use crate::output::keys::within::*;
use crate::output::keys::{Row, TABLE};
use serde_json::{Map, Value, json};

/// The names of all variants: one that is missing here does not compile.
macro_rules! names {
    ($of:ident: $($variant:ident)*) => {{
        fn whole(one: $of) {
            match one { $($of::$variant => {})* }
        }
        let _ = whole;
        vec![$($of::$variant.name(),)*]
    }};
}

fn states() -> Vec<&'static str> {
    (1..=u8::MAX)
        .filter_map(State::from_number)
        .map(State::name)
        .collect()
}

/// What a string may be, where that is known.
fn words(key: &str) -> Option<Vec<&'static str>> {
    Some(match key {
        "network.type" => vec!["ipv4", "ipv6"],
        "network.transport" => vec!["tcp"],
        "tcp.state.old" | "tcp.state.new" | "tcp.state.current" => states(),
        "owner.source" => {
            let sources = (1..=u8::MAX).filter_map(OwnerSource::from_number);
            sources.map(OwnerSource::name).chain(["none"]).collect()
        }
        "connection.direction" => names!(Direction: Outgoing Incoming Unknown),
        "connection.cause" => names!(Cause: Refused GivenUp TimedOut Unreachable Aborted
            ResetByPeer ResetByUs ClosedByPeer ClosedByUs ClosedByBoth NeverAccepted
            Duplicate Unknown),
        "lost.reason" => names!(Reason: RingFull OutputFailed Recursion Unreadable
            ConsoleSlow ConsoleWrite LogSlow LogWrite OwnersFull TasksFull ListenersFull CardMissing
            ConnectionsFull),
        "events.transport" => vec!["tracepoint", "btf", "perf", "recorded"],
        "check.transport" => vec!["tracepoint", "btf", "perf"],
        "check.section" => names!(Section: Host Transport Feature),
        "check.verdict" => names!(Verdict: Fact Yes No Unknown),
        "check.result" => vec!["all", "degraded", "cannot_run"],
        _ => return None,
    })
}

/// A meaning without its links, whose targets are in docs/reading.md.
fn plain(meaning: &str) -> String {
    let mut text = String::new();
    for piece in meaning.split('[') {
        match piece.split_once("](#") {
            Some((words, rest)) => {
                text += words;
                text += rest.split_once(')').map_or("", |(_, rest)| rest);
            }
            None => text += piece,
        }
    }
    text
}

/// What a key's value is.
fn value(row: &Row) -> Value {
    let mut value = match row.of {
        "Text" => json!({ "type": "string" }),
        "Number" => json!({ "type": "integer", "minimum": 0 }),
        "Boolean" => json!({ "type": "boolean" }),
        "Texts" => json!({ "type": "array", "items": { "type": "string" } }),
        "Objects" => json!({
            "type": "array",
            "items": { "$ref": format!("#/$defs/objects/{}", row.key) },
        }),
        "ByState" => json!({
            "type": "object",
            "propertyNames": { "enum": states() },
            "additionalProperties": { "type": "integer", "minimum": 0 },
        }),
        other => panic!("{other} has no schema"),
    };
    if let Some(words) = words(row.key) {
        value["enum"] = json!(words);
    }
    match row.key {
        "time" | "connection.start" => value["format"] = json!("date-time"),
        "network.local.address" | "network.peer.address" => {
            value["anyOf"] = json!([{ "format": "ipv4" }, { "format": "ipv6" }]);
        }
        "socket.id" => value["pattern"] = json!("^[0-9a-f]+-[0-9]+$"),
        "process.cgroup.id" => value["pattern"] = json!("^[0-9]+$"),
        _ => {}
    }
    value["description"] = json!(plain(row.meaning));
    value
}

/// An object of this kind; `name` is its `event.name`, where it has one.
fn object(place: u16, name: Option<&str>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for row in TABLE {
        if (row.always | row.known) & place != 0 {
            let value = match (row.key, name) {
                ("event.name", Some(name)) => json!({ "const": name }),
                _ => json!({ "$ref": format!("#/$defs/keys/{}", row.key) }),
            };
            properties.insert(row.key.into(), value);
        }
        if row.always & place != 0 {
            required.push(row.key);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The schema of one line.
pub(super) fn text() -> String {
    let mut objects = Map::new();
    for (place, name) in NAMES {
        objects.insert(name.into(), object(place, Some(name)));
    }
    for (place, key) in INSIDE {
        objects.insert(key.into(), object(place, None));
    }
    let keys: Map<String, Value> = TABLE
        .iter()
        .filter(|row| row.key != "event.name")
        .map(|row| (row.key.into(), value(row)))
        .collect();
    let one = |name: &str| json!({ "$ref": format!("#/$defs/objects/{name}") });
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:socket-snoop:line",
        "title": "A line of socket-snoop --format json",
        "description": "All that this version writes. What is not known is left out; nothing is null.",
        "oneOf": NAMES.map(|(_, name)| one(name)),
        "$defs": { "objects": objects, "keys": keys },
    });
    let mut text = serde_json::to_string_pretty(&schema).expect("JSON");
    text.push('\n');
    text
}
