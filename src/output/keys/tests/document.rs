//! The tables of keys in docs/, from the rows.

use crate::output::keys::within::*;
use crate::output::keys::{Row, TABLE};
use std::fmt::Write;

/// Places that stand together under one word, the widest first; then each alone.
const TOGETHER: [(u16, &str); 4] = [
    (RUN, "all"),
    (CONNECTIONS, "connections"),
    (EVENTS, "events"),
    (RETRANSMISSIONS, "retransmissions"),
];

/// Where a key comes, in words.
fn places(mut within: u16) -> String {
    let mut words = Vec::new();
    for (group, word) in TOGETHER {
        if within & group == group {
            words.push(word.to_owned());
            within &= !group;
        }
    }
    for (place, name) in NAMES.iter().chain(&INSIDE) {
        if within & place != 0 {
            words.push(format!("`{name}`"));
        }
    }
    words.join(", ")
}

/// What the tables call a type.
fn kind(row: &Row) -> &'static str {
    match row.of {
        "Text" => "string",
        "Number" => "number",
        "Boolean" => "boolean",
        "Texts" | "Objects" => "array",
        "ByState" => "object",
        other => panic!("{other} has no name"),
    }
}

/// The table of the rows that are in one of these places.
fn table(places_of: u16, chosen: impl Fn(&Row) -> bool) -> String {
    let mut text = String::from("| key | type | in | meaning |\n|---|---|---|---|\n");
    for row in TABLE.iter().filter(|row| chosen(row)) {
        let (key, kind, meaning) = (row.key, kind(row), row.meaning);
        let places = places((row.always | row.known) & places_of);
        // Their links are into the page on what the lines say.
        let meaning = meaning.replace("](#", "](reading.md#");
        let _ = writeln!(text, "| `{key}` | {kind} | {places} | {meaning} |");
    }
    text
}

const CHECKS: u16 = CHECK | CHECK_RESULT;

/// A page with its table made anew: it stands between two marks.
fn with(old: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- keys {name}: made from src/output/keys.rs -->\n");
    let (before, rest) = old.split_once(&begin).expect("the table's mark");
    let (_, after) = rest.split_once("<!-- end -->\n").expect("the table's end");
    format!("{before}{begin}\n{table}\n<!-- end -->\n{after}")
}

/// The page on JSON.
pub(super) fn json(old: &str) -> String {
    let run = table(!CHECKS, |row| (row.always | row.known) & !CHECKS != 0);
    with(old, "of a run", &run)
}

/// The page that tells of `--check`.
pub(super) fn running(old: &str) -> String {
    let check = table(CHECKS, |row| (row.always | row.known) & !CHECKS == 0);
    with(old, "of --check", &check)
}
