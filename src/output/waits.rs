//! Waiting for outputs, all of them by one descriptor.
//!
//! Contract: it is ready when an output that has something to write has room, or
//! when a reader has left. Nothing is asked of the kernel while nothing changes.

use super::stream::Stream;
use crate::sys::Result;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::{AsFd, BorrowedFd};

/// Outputs.
pub(crate) const OUTPUTS: usize = 2;

/// What is known of an output.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    /// Which sink of its it is.
    sink: Option<u64>,
    /// Whether it can be waited for.
    waits: bool,
    /// Whether it is waited for room.
    room: bool,
    /// It was said to have room, and took nothing: it is not asked again until
    /// it takes something.
    idle: bool,
    /// Bytes that it had taken.
    written: u64,
}

/// What happened to an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// There may be room.
    pub room: bool,
    /// The reader has left.
    pub gone: bool,
}

/// The outputs that are waited for.
#[derive(Debug)]
pub(crate) struct Waits {
    epoll: Epoll,
    watched: [Watched; OUTPUTS],
}

impl Waits {
    /// None as yet.
    pub(crate) fn new() -> Result<Waits> {
        Ok(Waits {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            watched: Default::default(),
        })
    }

    /// What happened.
    pub(crate) fn take(&self) -> [Ready; OUTPUTS] {
        let mut events = [EpollEvent::empty(); OUTPUTS];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO);
        let mut ready = [Ready::default(); OUTPUTS];
        for event in events.iter().take(count.unwrap_or(0)) {
            let flags = event.events();
            let output = usize::try_from(event.data()).unwrap_or(usize::MAX);
            if let Some(ready) = ready.get_mut(output) {
                ready.room = flags.intersects(EpollFlags::EPOLLOUT);
                ready.gone = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            }
        }
        ready
    }

    /// Notes what an output waits for now, which was said to be ready like this.
    pub(crate) fn update(&mut self, output: usize, stream: Option<&Stream>, ready: Ready) {
        let Some(watched) = self.watched.get_mut(output) else {
            return;
        };
        let sink = stream.and_then(Stream::sink);
        let which = stream.map(Stream::sinks);
        let written = stream.map_or(0, Stream::written);
        let moved = std::mem::replace(&mut watched.written, written) != written;
        watched.idle = !moved && (watched.idle || ready.room);
        let room = stream.is_some_and(|s| s.waiting() > 0) && !watched.idle;
        let flags = match room {
            true => EpollFlags::EPOLLOUT,
            false => EpollFlags::empty(),
        };
        let mut event = EpollEvent::new(flags, output as u64);
        if watched.sink != which {
            // The old one went away with its file. A regular file can't be
            // waited for, and needn't be.
            watched.sink = which;
            watched.waits = sink.is_some_and(|sink| self.epoll.add(sink, event).is_ok());
            watched.room = room;
        } else if watched.waits && watched.room != room {
            if let Some(sink) = sink {
                let _ = self.epoll.modify(sink, &mut event);
            }
            watched.room = room;
        }
    }
}

impl AsFd for Waits {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
