//! What is said of JSON's keys, held against what is written: the tables
//! in docs/, and in schema/ the JSON Schema of the lines and a sample of them.
//!
//! Contract: all of it is made of the table of keys and of the writer, never by
//! hand. `make keys` (UPDATE in the environment) writes it anew; else what differs
//! fails.

mod document;
mod sample;
mod schema;

use crate::model::tcp::State;
use crate::output::keys::within::*;
use crate::output::keys::{Row, TABLE};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Holds a file against what is made of the table, or writes it anew.
fn current(path: &str, made: impl Fn(&str) -> String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let old = std::fs::read_to_string(&file).unwrap_or_default();
    let new = made(&old);
    if old == new {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&file, new).expect("write what was made");
    }
    let differs = old.lines().zip(new.lines()).find(|(old, new)| old != new);
    panic!("{path} is not what src/output/keys.rs says: run 'make keys'; {differs:?}");
}

#[test]
fn the_pages_are_current() {
    current("docs/json.md", document::json);
    current("docs/running.md", document::running);
}

#[test]
fn the_schema_is_current() {
    current("schema/line.schema.json", |_| schema::text());
}

#[test]
fn the_sample_is_current() {
    current("schema/sample.jsonl", |_| sample::lines());
}

/// Every place in the objects, by its whole path, and whether it holds a value or
/// more places.
fn paths() -> Vec<(String, bool)> {
    let mut paths = Vec::new();
    for row in TABLE {
        let inside = INSIDE.iter().filter(|(_, key)| *key == row.key);
        let mut holds = false;
        for (place, _) in inside {
            holds = true;
            let of = TABLE
                .iter()
                .filter(|of| (of.always | of.known) & place != 0);
            paths.extend(of.map(|of| (format!("{}.{}", row.key, of.key), false)));
        }
        if row.of == "ByState" {
            holds = true;
            let states = (1..=u8::MAX).filter_map(State::from_number);
            paths.extend(states.map(|state| (format!("{}.{}", row.key, state.name()), false)));
        }
        paths.push((row.key.to_owned(), holds));
    }
    paths
}

/// Which paths can't be stored together as nested objects.
fn clashes(paths: &[(String, bool)]) -> Vec<(&str, &str)> {
    let under = |path: &str, of: &str| path.strip_prefix(of).is_some_and(|p| p.starts_with('.'));
    let mut found = Vec::new();
    for (at, (path, holds)) in paths.iter().enumerate() {
        for (other, (longer, _)) in paths.iter().enumerate() {
            let same = at != other && path == longer;
            if same || !holds && under(longer, path) {
                found.push((path.as_str(), longer.as_str()));
            }
        }
    }
    found
}

#[test]
fn no_key_is_a_prefix_of_another() {
    let paths = paths();
    assert!(paths.len() > 80);
    assert_eq!(clashes(&paths), []);
    // What holds others holds nothing but what is said of it.
    for row in TABLE
        .iter()
        .filter(|row| ["Objects", "ByState"].contains(&row.of))
    {
        let prefix = format!("{}.", row.key);
        assert!(
            !TABLE.iter().any(|other| other.key.starts_with(&prefix)),
            "{prefix}"
        );
    }
    // Each of these stood in the table once.
    for (short, long) in [("tcp.state", "tcp.state.old"), ("time", "time.zone")] {
        let both = [(short.to_owned(), false), (long.to_owned(), false)];
        assert_eq!(clashes(&both), [(short, long)]);
    }
}

/// A name that is an object to others who store theirs beside ours: fields of the
/// Elastic Common Schema, and OpenTelemetry's attributes.
#[test]
fn no_key_is_a_word_for_an_object_of_others() {
    const OBJECTS: [&str; 40] = [
        "agent",
        "client",
        "cloud",
        "code",
        "container",
        "cpu",
        "data_stream",
        "destination",
        "device",
        "disk",
        "dns",
        "ecs",
        "error",
        "event",
        "exception",
        "file",
        "group",
        "host",
        "http",
        "k8s",
        "linux",
        "log",
        "network",
        "observer",
        "orchestrator",
        "os",
        "otel",
        "package",
        "peer",
        "process",
        "registry",
        "rule",
        "server",
        "service",
        "source",
        "system",
        "thread",
        "tls",
        "url",
        "user",
    ];
    for row in TABLE {
        assert!(!OBJECTS.contains(&row.key), "{}", row.key);
    }
}

/// Whether a value is of the type that its key says.
fn is_of(row: &Row, value: &Value) -> bool {
    match row.of {
        "Text" => value.is_string(),
        "Number" => value.is_u64(),
        "Boolean" => value.is_boolean(),
        "Texts" => value
            .as_array()
            .is_some_and(|all| all.iter().all(Value::is_string)),
        "Objects" => value
            .as_array()
            .is_some_and(|all| all.iter().all(Value::is_object)),
        "ByState" => value
            .as_object()
            .is_some_and(|all| all.values().all(Value::is_u64)),
        other => panic!("{other} is no type"),
    }
}

/// The sample's objects, and those within them, by their places.
fn objects() -> BTreeMap<u16, Vec<Map<String, Value>>> {
    let mut objects: BTreeMap<u16, Vec<Map<String, Value>>> = BTreeMap::new();
    for line in sample::lines().lines() {
        let Ok(Value::Object(object)) = serde_json::from_str(line) else {
            panic!("no object: {line}");
        };
        for (place, key) in INSIDE {
            let items = object.get(key).and_then(Value::as_array);
            for item in items.into_iter().flatten() {
                let item = item.as_object().expect("an object").clone();
                objects.entry(place).or_default().push(item);
            }
        }
        let name = NAMES.iter().find(|(_, name)| object["event.name"] == *name);
        let (place, _) = name.unwrap_or_else(|| panic!("no such name: {line}"));
        objects.entry(*place).or_default().push(object);
    }
    objects
}

/// What is written is in the table, with its type; what is in the table is
/// written: where it always comes, in each object, and else in one and not in
/// another.
#[test]
fn every_key_comes_where_it_is_said_to() {
    let objects = objects();
    let mut pairs = 0;
    for (place, name) in NAMES.iter().chain(&INSIDE) {
        let of_place = objects.get(place).map(Vec::as_slice).unwrap_or_default();
        for object in of_place {
            for (key, value) in object {
                let row = TABLE.iter().find(|row| row.key == key);
                let row = row.unwrap_or_else(|| panic!("{key} is not in the table"));
                assert!(is_of(row, value), "{key}: {value}");
                assert!((row.always | row.known) & place != 0, "{key} in {name}");
            }
        }
        for row in TABLE {
            let with = of_place.iter().filter(|o| o.contains_key(row.key)).count();
            let (all, key) = (of_place.len(), row.key);
            assert_eq!(row.always & row.known, 0, "{key}");
            if row.always & place != 0 {
                assert!(with == all && all > 0, "{key} in {name}: {with} of {all}");
            } else if row.known & place != 0 {
                assert!(0 < with && with < all, "{key} in {name}: {with} of {all}");
            }
            pairs += usize::from(with > 0);
        }
    }
    assert!(pairs > 150, "{pairs}");
}
