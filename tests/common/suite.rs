//! A test runner of a program's own, for one that also plays other parts.
//!
//! Contract: one test at a time, each on a stage of its own; lines and exit code are
//! as libtest's. Nothing is run where live tests can't be.

use std::io::{Write, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use super::{again, live};

fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// A test: it panics where something is wrong.
pub type Test<S> = fn(&S);

/// Runs those of the tests that the arguments select.
pub fn run<S>(tests: &[(&str, Test<S>)], args: &[String], stage: fn() -> S) -> ExitCode {
    // As libtest takes them: words select, flags are ignored but --list.
    let words: Vec<_> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|w| name.contains(*w));
    let tests: Vec<_> = tests.iter().filter(|(n, _)| wanted(n)).collect();
    if args.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(n, _)| say(&format!("{n}: test")));
        return ExitCode::SUCCESS;
    }
    if tests.is_empty() || !live() {
        return ExitCode::SUCCESS;
    }
    let (all, mut failed) = (tests.len(), 0);
    for (name, test) in tests {
        // The panic itself is said by its hook.
        let story = || again::played(|| test(&stage()));
        let done = catch_unwind(AssertUnwindSafe(story));
        let verdict = if done.is_ok() { "ok" } else { "FAILED" };
        say(&format!("test {name} ... {verdict}"));
        failed += usize::from(done.is_err());
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let passed = all - failed;
    say(&format!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed"
    ));
    ExitCode::from(u8::from(failed > 0))
}
