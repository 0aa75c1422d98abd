//! This program beside others' and beside what is possible, in one run:
//! `make bench`.
//!
//!     make bench ARGS="--parts full,rate --reps 5 --tool old=/tmp/old --no-log"
//!
//! Contract: what is measured, what measures and what it is measured by are
//! processes of their own. The machine is never quiet: only figures of one run
//! compare. Traffic stays in network namespaces of its own, tracefs is mounted in
//! mount namespaces of their own, and nothing is left behind. It ends with 1 where
//! a tool did not run or a count does not agree; never for a figure.
//!
//! `cargo test` runs it small (`--smoke`), for its tables and counts alone.

#[path = "../../tests/common/mod.rs"]
mod common;
mod count;
mod floor;
mod line;
mod load;
mod options;
mod quiet;
mod rounds;
mod table;
mod tool;
mod volume;
mod watch;

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use options::{Options, Part};
use rounds::Rounds;
use table::Table;
use tool::Tool;

/// How often the smoke test may be played again.
const AGAIN: u32 = 2;

fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

fn progress(text: String) {
    let _ = writeln!(stderr(), "{text}");
}

/// What one part tells, and what of it is wrong.
type Told = Result<(Table, Vec<String>), String>;

fn under_load(options: &Options, tools: &[Tool], part: Part) -> Told {
    let (load, title) = match part {
        Part::Rate => {
            let rate = options.rate;
            let title = format!("{rate} connections a second, {} rounds", options.reps);
            (options.paced(), title)
        }
        _ => {
            let (threads, reps) = (options.threads, options.reps);
            let title = format!("Full speed, {threads} threads, {reps} rounds");
            (options.full(), title)
        }
    };
    let rounds = Rounds::make(tools, options.reps, load, &mut progress)?;
    Ok((rounds.table(title), rounds.faults()))
}

fn part(options: &Options, tools: &[Tool], part: Part) -> Told {
    match part {
        Part::Full | Part::Rate => under_load(options, tools, part),
        Part::Filter => under_load(options, &Tool::filters(), part),
        Part::Idle => quiet::idle(tools, options.reps, &mut progress).map(|t| (t, Vec::new())),
        Part::Start => quiet::start(tools, options.reps, &mut progress).map(|t| (t, Vec::new())),
        Part::Memory => volume::memory(&options.sized(), options.many()),
    }
}

/// Runs the parts; what is wrong.
fn compare(options: &Options) -> Vec<String> {
    let mut faults = Vec::new();
    let (tools, missing) = options.tools();
    missing
        .iter()
        .for_each(|what| say(&format!("{what}; left out")));
    for wanted in &options.parts {
        match part(options, &tools, *wanted) {
            Ok((table, wrong)) => {
                say(&format!("\n{table}"));
                let row = |name: &str| table.names().any(|row| row == name);
                let absent = options
                    .only
                    .iter()
                    .filter(|name| options.smoke && !row(name));
                faults.extend(absent.map(|name| format!("no row of {name}")));
                faults.extend(wrong);
            }
            Err(why) => faults.push(why),
        }
    }
    faults
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("load") => {
            load::play(&args[1..]);
            return ExitCode::SUCCESS;
        }
        Some("floor") => {
            floor::play(&args[1]);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let options = match Options::parse(&args) {
        Ok(options) => options,
        Err(why) => {
            say(&format!("{why}\n{}", options::USAGE));
            return ExitCode::from(2);
        }
    };
    let mut faults = Vec::new();
    if common::live() {
        faults = compare(&options);
        // The kernel itself can have kept an event from the programs.
        for _ in 0..if options.smoke { AGAIN } else { 0 } {
            if !faults.is_empty() {
                say(&format!("once more: {}", faults.join("; ")));
                faults = compare(&options);
            }
        }
    }
    for fault in &faults {
        say(&format!("FAIL: {fault}"));
    }
    let failed = u8::from(!faults.is_empty());
    if options.smoke {
        let word = if failed == 0 { "ok" } else { "FAILED" };
        let passed = 1 - failed;
        say(&format!(
            "test result: {word}. {passed} passed; {failed} failed"
        ));
    }
    ExitCode::from(failed)
}
