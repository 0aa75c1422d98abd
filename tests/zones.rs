//! Local time by `TZ`, as date(1) has it.
//!
//! Contract: each zone is set for a process of its own, for a C library reads
//! `TZ` once. Where date(1) is not that of GNU, that is said.

mod common;

use std::env;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use common::skip;
use socket_snoop::host::zone;
use socket_snoop::sys::time;

/// Winter, summer, and around the changes of 2026 in America and Europe.
const TIMES: [u64; 12] = [
    1_768_478_400, // Jan 15
    1_784_109_600, // Jul 15
    1_772_953_199, // the last second of winter in New York, Mar 8
    1_772_953_200,
    1_793_512_799, // and of its summer, Nov 1
    1_793_512_800,
    1_774_745_999, // the same in Berlin, Mar 29 and Oct 25
    1_774_746_000,
    1_792_889_999,
    1_792_890_000,
    1_735_596_325,
    0,
];

/// Names of files, rules, both, and neither.
const ZONES: [&str; 32] = [
    "",
    ":",
    "UTC",
    "GMT",
    "EST5EDT",
    ":EST5EDT",
    "EST",
    "CET",
    "MET",
    "PST8PDT",
    "Europe/Berlin",
    ":Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/St_Johns",
    "/usr/share/zoneinfo/Asia/Tokyo",
    "../zoneinfo/Asia/Tokyo",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "CET-1CEST",
    "ABC3DEF",
    "ABC3DEF,",
    "ABC3DEF2,M3.2.0",
    "NZST-12NZDT,M9.5.0,M4.1.0/3",
    "<+0330>-3:30",
    "AAA-14:30:15",
    "AAA99",
    "No/Where",
    "nonsense",
    "AB3",
    "/etc/passwd",
];

/// Where there is a file `posixrules`, glibc takes the moments of New York's
/// changes for those of a rule without any, moved by the zones' difference in the
/// wrong direction (2.36 time/tzfile.c, __tzfile_default()): these hours are not
/// compared.
const WITHOUT_CHANGES: [&str; 3] = ["CET-1CEST", "ABC3DEF", "ABC3DEF,"];

/// Those far from any change.
fn calm(times: Vec<String>) -> Vec<String> {
    [0, 1, 10, 11].map(|at| times[at].clone()).into()
}

/// What is printed for all times by a command in a zone, with the files of zones
/// or without.
fn ask(command: &mut Command, zone: &str, with_files: bool) -> Vec<String> {
    command.env("TZ", zone).env("LC_ALL", "C");
    match with_files {
        true => command.env_remove("TZDIR"),
        false => command.env("TZDIR", "/nonexistent"),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("start it");
    let mut input = child.stdin.take().expect("piped");
    for time in TIMES {
        // The child of this test knows them, and may have left.
        let _ = writeln!(input, "@{time}");
    }
    drop(input);
    let out = child.wait_with_output().expect("its end");
    assert!(out.status.success(), "{zone}");
    let text = String::from_utf8(out.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The process that has one zone.
fn child() {
    zone::settle();
    for time in TIMES {
        let t = time::local(time);
        let (month, day) = (t.month + 1, t.day);
        let (hour, minute, second) = (t.hour, t.minute, t.second);
        let _ = writeln!(
            std::io::stdout(),
            "{:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}",
            t.year
        );
    }
}

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("child") {
        child();
        return ExitCode::SUCCESS;
    }
    let version = Command::new("date").arg("--version").output();
    if !version.is_ok_and(|out| out.stdout.starts_with(b"date (GNU coreutils)")) {
        skip("no date(1) of GNU");
        say("test result: ok. 0 passed; 0 failed");
        return ExitCode::SUCCESS;
    }
    let own = env::current_exe().expect("the test's own file");
    let mut wrong = 0;
    for zone in ZONES {
        for with_files in [true, false] {
            let mut date = Command::new("date");
            let mut theirs = ask(date.args(["-f", "-", "+%F %T"]), zone, with_files);
            let mut mine = ask(Command::new(&own).arg("child"), zone, with_files);
            if with_files && WITHOUT_CHANGES.contains(&zone) {
                (mine, theirs) = (calm(mine), calm(theirs));
            }
            if mine != theirs {
                wrong += 1;
                say(&format!(
                    "TZ={zone:?}, files {with_files}: {mine:?}, date(1): {theirs:?}"
                ));
            }
        }
    }
    let passed = 2 * ZONES.len() - wrong;
    say(&format!("test result: ok. {passed} passed; {wrong} failed"));
    match wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
