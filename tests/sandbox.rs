//! What can't be done from inside once the doors are shut: every attempt is
//! made, by this very program, in a process of its own.
//!
//! Contract: it has no harness, so that the attempts are made by a process of
//! one thread. It ends as cargo's own does, for who counts such lines.

mod common;

use common::{TempDir, doors, skip};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "doors") {
        return doors::child(&args[1..]);
    }
    let program = std::env::current_exe().expect("this program");
    let dir = TempDir::new();
    // A folder in a folder: beside it nothing may be made.
    let folder = dir.join("logs");
    std::fs::create_dir(&folder).expect("make a folder");
    let mut out = std::io::stdout();
    let mut passed = 0;
    match doors::all(&program, &folder) {
        Ok(count) => {
            passed += 1;
            let _ = writeln!(out, "test {count} attempts after the doors are shut ... ok");
        }
        Err(why) => skip(why.trim()),
    }
    match doors::numbers::every_number(&program, &folder) {
        Ok(count) => {
            passed += 1;
            let _ = writeln!(out, "test every system call, {count} attempts ... ok");
        }
        Err(why) => skip(why.trim()),
    }
    match doors::landlock(&program, &folder) {
        Ok(()) => {
            passed += 1;
            let _ = writeln!(out, "test files and TCP under Landlock ... ok");
        }
        Err(why) => skip(&why),
    }
    let _ = writeln!(out, "test result: ok. {passed} passed; 0 failed");
    ExitCode::SUCCESS
}
