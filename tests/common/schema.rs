//! Lines held against schema/, as a reader of them would.
//!
//! Contract: it knows the words of JSON Schema that stand there, and no other: one
//! that comes to it fails. Formats and patterns are not looked at.

use std::sync::LazyLock;

use super::event::Value;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../schema/line.schema.json");
    serde_json::from_str(text).expect("the schema is JSON")
});

/// What is wrong with a line, by the objects of its `event.name`.
pub fn fault(line: &Value) -> Option<String> {
    let name = line["event.name"].as_str().unwrap_or_default();
    let Some(object) = SCHEMA["$defs"]["objects"].get(name) else {
        return Some(format!("no such event.name: {name:?}"));
    };
    against(line, object, name).err()
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        other => panic!("type {other} in the schema"),
    }
}

fn against(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    let no = |what: &str| Err(format!("{at}: {what}: {value}"));
    for (word, says) in schema.as_object().expect("a schema") {
        match word.as_str() {
            "$ref" => {
                let path = says.as_str().and_then(|path| path.strip_prefix("#"));
                let target = path.and_then(|path| SCHEMA.pointer(path));
                against(value, target.expect("a target"), at)?;
            }
            "type" if !is_of(value, says.as_str().expect("a type")) => {
                return no("not of its type");
            }
            "const" if value != says => return no("not the one word"),
            "enum" if !says.as_array().expect("words").contains(value) => {
                return no("none of its words");
            }
            "minimum" if value.as_i64() < says.as_i64() && !value.is_u64() => return no("too low"),
            "required" => {
                for key in says.as_array().expect("keys") {
                    if value.get(key.as_str().expect("a key")).is_none() {
                        return no(&format!("without {key}"));
                    }
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    against(item, says, at)?;
                }
            }
            "propertyNames" => {
                for key in value.as_object().into_iter().flat_map(|o| o.keys()) {
                    against(&Value::from(key.as_str()), says, at)?;
                }
            }
            "properties" | "additionalProperties" => {
                let listed = schema.get("properties");
                for (key, member) in value.as_object().into_iter().flatten() {
                    let listed = listed.and_then(|listed| listed.get(key));
                    match (word.as_str(), listed) {
                        ("properties", Some(of)) => against(member, of, key)?,
                        ("additionalProperties", None) if says.is_object() => {
                            against(member, says, key)?;
                        }
                        ("additionalProperties", None) => return no(&format!("with {key}")),
                        _ => {}
                    }
                }
            }
            "type" | "const" | "enum" | "minimum" => {}
            "format" | "pattern" | "anyOf" | "description" => {}
            other => panic!("{other} in the schema"),
        }
    }
    Ok(())
}
