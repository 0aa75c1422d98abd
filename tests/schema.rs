//! The schema of the lines says what it should, to who reads it.
//!
//! Contract: every live test holds each line that it reads against the schema, by
//! the same reader (`common::schema`); here it is shown to find what is wrong.

mod common;

use common::event::Value;
use common::schema::fault;

fn sample() -> Vec<Value> {
    let lines = include_str!("../schema/sample.jsonl").lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn the_sample_is_as_the_schema_says() {
    let all = sample();
    assert!(all.len() > 20);
    for line in &all {
        assert_eq!(fault(line), None, "{line}");
    }
}

/// One thing is wrong in each of these, whatever line it is done to.
#[test]
fn what_is_wrong_is_found() {
    for line in sample() {
        let changed = |key: &str, value: Value| {
            let mut line = line.clone();
            line[key] = value;
            fault(&line)
        };
        assert!(changed("tcp.unheard_of", 1.into()).is_some());
        assert!(changed("event.name", "nothing".into()).is_some());
        for (key, value) in line.as_object().expect("an object") {
            let other = match value {
                Value::String(_) => Value::from(7),
                _ => Value::from("seven"),
            };
            assert!(changed(key, other).is_some(), "{key} in {line}");
            assert!(changed(key, Value::Null).is_some(), "{key} in {line}");
            if value.is_u64() {
                assert!(changed(key, Value::from(-1)).is_some(), "{key} in {line}");
            }
        }
        let mut without = line.clone();
        without.as_object_mut().expect("an object").remove("time");
        assert!(fault(&without).is_some());
    }
}
