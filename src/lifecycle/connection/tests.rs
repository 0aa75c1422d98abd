//! A connection's own tests.

use super::*;
use crate::bpf::wire::tests::state;

impl Connection {
    /// All that [`Connection::each_state`] hands out.
    pub(crate) fn states(&self) -> Vec<(State, u64)> {
        let mut all = Vec::new();
        self.each_state(&mut |state, sum| all.push((state, sum)));
        all
    }
}

#[test]
fn it_stays_small() {
    let size = size_of::<Connection>();
    assert!(size <= 336, "{size} bytes");
}

#[test]
fn durations_follow_the_event_clock_and_times_the_wall_clock() {
    const DAY: u64 = 86_400_000_000_000;
    let path = [
        (State::Close, State::SynSent, 1_000, DAY),
        // The wall clock was set a day ahead, a day back, and two days ahead.
        (State::SynSent, State::Established, 1_500, 2 * DAY + 500),
        (State::Established, State::FinWait1, 2_000, DAY + 1_000),
        (State::FinWait1, State::Close, 3_000, 3 * DAY + 2_000),
    ];
    let first = state(1_000, 1, State::Close, State::SynSent, (0, 80));
    let mut connection = Connection::new(&first, DAY, 1);
    for (old, new, time, wall) in path {
        connection.line(&state(time, 1, old, new, (1, 80)), wall, Some(false));
    }
    let walls: Vec<u64> = connection.transitions().map(|(wall, _)| wall).collect();
    assert_eq!(walls, path.map(|(_, _, _, wall)| wall));
    assert_eq!(connection.duration(), Some(2_000));
    assert_eq!(connection.connect_time(), Some(500));
    let states = [
        (State::SynSent, 500),
        (State::Established, 500),
        (State::FinWait1, 1_000),
    ];
    assert_eq!(connection.states(), states);
}
