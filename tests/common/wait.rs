//! Waiting: for something that is to be seen, up to a deadline, or for time to
//! pass where time is what a test is about.
//!
//! Contract: no test sleeps anywhere else (tests/house.rs).

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// How long something must stay the same to be settled.
const STILL: Duration = Duration::from_millis(200);

/// Polls until `done` holds; false when so much time is used up.
pub fn within(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        sleep(LOOK);
    }
}

/// Waits until `done` holds, which `what` says; fails where it never does.
pub fn until(what: &str, done: impl FnMut() -> bool) {
    assert!(within(PATIENCE, done), "{PATIENCE:?} passed without {what}");
}

/// Waits until a value changes no more; `what` says whose it is.
pub fn settled<T: PartialEq + std::fmt::Debug>(what: &str, mut value: impl FnMut() -> T) {
    let mut last = value();
    let mut since = Instant::now();
    until(
        &format!("an end of the changes of {what}: {last:?}"),
        || {
            let now = value();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= STILL
        },
    );
}

/// Lets time pass between two pieces of traffic, or two reads of a slow reader.
pub fn pace(pause: Duration) {
    sleep(pause);
}

/// Lets time pass that is itself what is tested; `why` says what it is there for.
pub fn pass(why: &str, time: Duration) {
    assert!(!why.is_empty());
    sleep(time);
}
