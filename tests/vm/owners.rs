//! The suite of owners (tests/owner), where the kernel takes the program that
//! tells of accepts.
//!
//! Contract: it is a program of its own, in the initramfs of this variant only.
//! Each of its tests is one of the guest's results, and so is each thing that
//! it skips; one that ends early, or tells of no test at all, has failed.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus};

use crate::suite::say;

const PROGRAM: &str = "/owners";

/// Connections of each client of its volume, of which there are 50: an emulated
/// CPU takes a hundred times longer for each than a real one.
const VOLUME: &str = "40";

/// How a test ended.
pub enum Result {
    Pass,
    Fail,
    Skip,
}

/// Runs it, or of it what this name is in. Its lines are printed as the guest's
/// own are, with the results given to `count`, too.
pub fn play(only: Option<&str>, mut count: impl FnMut(Result)) {
    let (mut all, mut failed) = (0, 0);
    let mut each = |result| {
        all += 1;
        failed += i32::from(matches!(result, Result::Fail));
        count(result);
    };
    let ended = run(only, |line| match verdict(line) {
        Some((Result::Pass, text)) => {
            say(&format!("ok {text}"));
            each(Result::Pass);
        }
        Some((Result::Fail, text)) => {
            let (name, by) = text.split_once(' ').unwrap_or((text, ""));
            say(&format!("FAIL {name}: {by}"));
            each(Result::Fail);
        }
        Some((Result::Skip, text)) => {
            say(&format!("skip owners: {text}"));
            each(Result::Skip);
        }
        None if line.is_empty() || line.starts_with("test result: ") => {}
        None => say(&format!("info {line}")),
    });
    let code = ended.as_ref().map_or(None, ExitStatus::code);
    if all == 0 || code != Some(failed.min(1)) {
        say(&format!(
            "FAIL owners: {all} results, and then it ended: {ended:?}"
        ));
        count(Result::Fail);
    }
}

/// What a line says of a test.
fn verdict(line: &str) -> Option<(Result, &str)> {
    if let Some(why) = line.strip_prefix("skipped: ") {
        return Some((Result::Skip, why));
    }
    let (name, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    match end {
        "ok" => Some((Result::Pass, name)),
        "FAILED" => Some((Result::Fail, name)),
        _ => None,
    }
}

/// Runs it to its end, each line of either stream as it comes.
fn run(only: Option<&str>, mut line: impl FnMut(&str)) -> std::io::Result<ExitStatus> {
    let (out, end) = UnixStream::pair()?;
    let (err, end) = (OwnedFd::from(end.try_clone()?), OwnedFd::from(end));
    let mut command = Command::new(PROGRAM);
    command
        .args(only)
        .env("SOCKET_SNOOP_TEST_VOLUME", VOLUME)
        .env("SOCKET_SNOOP_TEST_EMULATED", "1")
        .stdout(end)
        .stderr(err);
    let mut child = command.spawn()?;
    // The child's copies are the last ones now.
    drop(command);
    for text in BufReader::new(out).split(b'\n') {
        line(String::from_utf8_lossy(&text?).trim_end());
    }
    child.wait()
}
