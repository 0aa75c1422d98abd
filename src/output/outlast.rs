//! Waiting for readers, at the end of a run or where nothing else is to be done.
//!
//! Contract: who reads on is waited for, and who takes nothing for no longer than is
//! said.

use super::stream::Stream;
use crate::sys::{signal, time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd};

/// How long the end waits for a reader that takes nothing, in nanoseconds.
const STILL: u64 = 800_000_000;

/// Writes what waits for these streams, until none holds more than `enough`
/// bytes, as long as their readers take some of it. What a reader leaves that
/// takes none is lost; who is patient loses none until told to stop.
pub(super) fn outlast(streams: &mut [&mut Stream], enough: usize, patient: bool) {
    let now = time::monotonic();
    let mut last: Vec<_> = streams.iter().map(|s| (s.moved(), now)).collect();
    loop {
        let now = time::monotonic();
        let mut moving = false;
        for (stream, last) in streams.iter_mut().zip(&mut last) {
            // What goes wrong now is in the sums.
            let _ = stream.flush();
            let moved = stream.moved();
            if moved != last.0 {
                *last = (moved, now);
                moving = true;
            } else if patient && !signal::stopped() {
                last.1 = now;
            } else if now - last.1 > STILL && stream.waiting() > enough {
                stream.give_up();
            }
        }
        let waiting = |s: &&mut Stream| s.waiting() > enough && !s.is_closed();
        let late = streams.iter().filter(|s| waiting(s));
        let fds: Vec<BorrowedFd<'_>> = late.filter_map(|s| s.sink()).map(|s| s.as_fd()).collect();
        let mut fds: Vec<PollFd<'_>> = fds
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLOUT))
            .collect();
        if fds.is_empty() {
            return;
        }
        let _ = poll(&mut fds, PollTimeout::from(20u8));
        if !moving {
            // Where there is said to be room, and is none.
            let _ = poll(&mut [], PollTimeout::from(2u8));
        }
    }
}
