//! What not every edition has: `-r`, `--top` and `--format trace`.
//!
//! Contract: it is found before anything is understood, so that the edition that has it
//! finds everything as it was.

use crate::error::{Error, Kind};
use crate::output::FormatName;
use std::time::Duration;

/// The flags.
const FLAGS: [&str; 4] = ["-r", "--read", "--top", "--speed"];

/// Splits `--name=value` and `-dd`, which argh doesn't know, into two arguments, and
/// gives `--top` its value where it has none.
pub(super) fn split_values(args: &[String]) -> Vec<&str> {
    let mut out = Vec::with_capacity(args.len());
    for (at, arg) in args.iter().enumerate() {
        let next = args.get(at + 1).and_then(|next| next.bytes().next());
        match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => out.extend([name, value]),
            None if arg == "-dd" => out.extend(["-d", "-d"]),
            None if arg == "--top" && !next.is_some_and(|byte| byte.is_ascii_digit()) => {
                out.extend(["--top", "2"]);
            }
            _ => out.push(arg.as_str()),
        }
    }
    out
}

/// What of it is asked for.
pub(super) fn find(args: &[&str]) -> Option<&'static str> {
    let mut before = "";
    for arg in args {
        if *arg == "trace" && before == "--format" {
            return Some("--format trace");
        }
        if let Some(flag) = FLAGS.iter().find(|flag| *flag == arg) {
            return Some(flag);
        }
        before = arg;
    }
    None
}

/// Whether some of it is asked for; an error where that does not go together.
pub(super) fn check(
    (reads, top, sped, closed_only): (bool, bool, bool, bool),
    format: FormatName,
    of_now: bool,
) -> Result<bool, Error> {
    let message = match format {
        _ if reads && of_now => {
            "-r reads what was recorded: --duration, --interval, --buffer, --transport, \
             --user, --priority, --no-snapshot, --metrics, --accept-owner, --check, -d, --export-object \
             and a command are for what happens now"
        }
        _ if sped && !reads => "--speed goes with -r; see socket-snoop --help",
        _ if top && closed_only => {
            "--top shows connections while they are open, and --closed-only none of that; \
             leave one of them out"
        }
        FormatName::Json | FormatName::Picture if top => {
            "--top and --format exclude each other; see socket-snoop --help"
        }
        format => return Ok(reads || top || format == FormatName::Picture),
    };
    Err(Error::new(Kind::Usage, message))
}

/// How many times their pace lines are read; `None` is as fast as it goes.
pub(super) fn speed(given: Option<u64>, top: Option<Duration>) -> Option<u64> {
    match given {
        None => top.map(|_| 1),
        given => given.filter(|times| *times < u64::MAX),
    }
}
