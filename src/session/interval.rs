//! Records of connections that are still open, every so often.
//!
//! Contract: nothing waits, and a step is short: the kernel's list of sockets is
//! read some datagrams at a time, and so are records made. What is listed is the
//! network namespace of this process, by a socket that is opened before the sandbox
//! is shut; connections elsewhere, and those whose namespace isn't known, are told
//! of without counters. A round that takes longer than the interval is finished
//! before the next one begins.

use crate::host::proc;
use crate::lifecycle::open::{Open, Since};
use crate::model::event::Counters;
use crate::model::hash::Keyed;
use crate::model::sort;
use crate::model::tcp::{Endpoint, State};
use crate::output::notice::notice;
use crate::owner::lineage::Lineage;
use crate::session::view::View;
use crate::snapshot::diag::{self, Answer};
use crate::sys::netlink::{DATAGRAM, Diag};
use crate::sys::{Errno, send, time};
use std::hash::BuildHasher;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

/// Datagrams that are read, and places that are looked at, in one step.
const DATAGRAMS: usize = 8;
const PLACES: usize = 512;
/// How soon a round goes on, in nanoseconds.
const SOON: u64 = 2_000_000;

/// A socket that was listed.
struct Listed {
    /// The hash of its ends.
    hash: u64,
    state: State,
    counters: Counters,
}

/// What a connection had counted when it was told of last.
#[derive(Clone, Copy)]
struct Last {
    number: u64,
    time: u64,
    counters: Counters,
}

/// What is done next.
#[derive(Clone, Copy)]
enum Step {
    /// Wait for the next round.
    Wait,
    /// Ask for the sockets of a family.
    Ask(u16),
    /// Read what comes of it.
    Read(u16),
    /// Tell of the connections from this place on; then of those found at the start.
    Tell(usize),
    TellFound(usize),
}

/// Rounds of records.
pub(super) struct Interval {
    every: u64,
    next: u64,
    step: Step,
    diag: Option<Diag>,
    netns: Option<u32>,
    sequence: u32,
    buffer: Vec<u8>,
    hasher: Keyed,
    listed: Vec<Listed>,
    /// By the places of the connections, and of those found at the start.
    last: [Vec<Option<Last>>; 2],
    said: bool,
}

impl Interval {
    /// The socket that is sent to.
    pub(super) fn socket(&self) -> Option<RawFd> {
        self.diag.as_ref().map(|diag| diag.as_fd().as_raw_fd())
    }

    /// Nanoseconds until there is something to do.
    pub(super) fn wait(&self, now: u64) -> u64 {
        match self.step {
            Step::Wait => self.next.saturating_sub(now),
            _ => SOON,
        }
    }

    /// Goes on.
    pub(super) fn step(&mut self, view: &mut View, kin: &dyn Lineage) {
        let now = time::monotonic();
        self.step = match self.step {
            Step::Wait if now < self.next => return,
            Step::Wait => {
                // Those that were missed are left out.
                let late = now.saturating_sub(self.next) / self.every.max(1);
                let more = self.every.saturating_mul(late + 1);
                self.next = self.next.saturating_add(more);
                self.listed.clear();
                Step::Ask(diag::AF_INET)
            }
            Step::Ask(family) => self.ask(family),
            Step::Read(family) => self.read(family),
            Step::Tell(from) => self.tell(view, from, now),
            Step::TellFound(from) => self.tell_found(view, kin, from, now),
        };
    }

    /// Begins rounds that are so far apart, the first after one of these times.
    pub(super) fn open(every: Duration) -> Interval {
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        let (diag, netns) = (Diag::open(), proc::own_netns());
        let mut interval = Interval {
            every,
            next: time::monotonic().saturating_add(every),
            step: Step::Wait,
            diag: None,
            netns,
            sequence: 0,
            buffer: Vec::new(),
            hasher: Keyed::default(),
            listed: Vec::new(),
            last: [Vec::new(), Vec::new()],
            said: false,
        };
        match diag {
            Ok(diag) => interval.diag = Some(diag),
            Err(errno) => interval.fail(errno),
        }
        interval
    }

    fn fail(&mut self, errno: Errno) {
        if !std::mem::replace(&mut self.said, true) {
            notice(&format!(
                "warning: open connections are told of without bytes and RTT: sock_diag: {errno}"
            ));
        }
    }

    fn hash(&self, local: &Endpoint, peer: &Endpoint) -> u64 {
        self.hasher.hash_one((local, peer))
    }

    fn ask(&mut self, family: u16) -> Step {
        let Some(diag) = &self.diag else {
            return Step::Tell(0);
        };
        self.sequence = self.sequence.wrapping_add(1);
        let request = diag::request_counters(family, self.sequence);
        match send::send(diag.as_fd(), &request) {
            Ok(_) => Step::Read(family),
            Err(errno) => {
                self.fail(errno);
                self.sorted()
            }
        }
    }

    fn read(&mut self, family: u16) -> Step {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(DATAGRAM, 0);
        let mut answer = Answer::More;
        let mut listed = std::mem::take(&mut self.listed);
        for _ in 0..DATAGRAMS {
            let got = self.diag.as_ref().map(|diag| diag.receive(&mut buffer));
            answer = match got {
                Some(Ok(len)) => {
                    let bytes = buffer.get(..len).unwrap_or_default();
                    diag::read(bytes, self.sequence, &mut |socket| {
                        if let Some(counters) = socket.counters {
                            listed.push(Listed {
                                hash: self.hash(&socket.local, &socket.peer),
                                state: socket.state,
                                counters,
                            });
                        }
                    })
                }
                Some(Err(errno)) => Answer::Failed(errno),
                None => Answer::Done,
            };
            if answer != Answer::More {
                break;
            }
        }
        (self.buffer, self.listed) = (buffer, listed);
        match answer {
            Answer::More => Step::Read(family),
            Answer::Done if family == diag::AF_INET => Step::Ask(diag::AF_INET6),
            Answer::Done => self.sorted(),
            // What was read is right all the same.
            Answer::Failed(errno) => {
                self.fail(errno);
                self.sorted()
            }
            Answer::Malformed => {
                self.fail(Errno::EINVAL);
                self.sorted()
            }
        }
    }

    /// All is listed.
    fn sorted(&mut self) -> Step {
        sort::by_key(&mut self.listed, |listed| listed.hash);
        Step::Tell(0)
    }

    /// Completes what is told of a connection by what was listed.
    fn complete(&mut self, open: &mut Open, which: (usize, usize, u64), now: u64) {
        if open.netns.is_some() && open.netns == self.netns {
            let hash = self.hash(&open.local, &open.peer);
            let first = self.listed.partition_point(|listed| listed.hash < hash);
            let found = self.listed.get(first).filter(|found| found.hash == hash);
            if let Some(found) = found {
                open.count(found.state, &found.counters);
            }
        }
        let (table, place, number) = which;
        let Some(places) = self.last.get_mut(table) else {
            return;
        };
        if places.len() <= place {
            places.resize(place + 1, None);
        }
        let last = places.get(place).copied().flatten();
        let last = last.filter(|last| last.number == number);
        let zero = Counters {
            bytes_sent: Some(0),
            bytes_received: Some(0),
            retransmits: Some(0),
            ..Counters::default()
        };
        // What began meanwhile began with nothing.
        let began = open.start.map(|(_, start)| (start, zero));
        let before = last.map(|last| (last.time, last.counters)).or(began);
        if let Some((then, before)) = before {
            let counters = &open.counters;
            let more = |now: Option<u64>, then: Option<u64>| {
                now.zip(then).map(|(now, then)| now.saturating_sub(then))
            };
            let segments = |counters: &Counters| counters.retransmits.map(u64::from);
            open.since = Since {
                duration: Some(now.saturating_sub(then)),
                sent: more(counters.bytes_sent, before.bytes_sent),
                received: more(counters.bytes_received, before.bytes_received),
                resent: more(segments(counters), segments(&before)),
            };
        }
        if let Some(place) = places.get_mut(place) {
            *place = Some(Last {
                number,
                time: now,
                counters: open.counters,
            });
        }
    }

    fn tell(&mut self, view: &mut View, from: usize, now: u64) -> Step {
        let (places, _) = view.connections.places();
        for place in from..places.min(from + PLACES) {
            if let Some((mut open, number)) = view.connections.open_at(place) {
                self.complete(&mut open, (0, place, number), now);
                view.show_open(open, now);
            }
        }
        match from + PLACES < places {
            true => Step::Tell(from + PLACES),
            false => Step::TellFound(0),
        }
    }

    fn tell_found(&mut self, view: &mut View, kin: &dyn Lineage, from: usize, now: u64) -> Step {
        let (_, places) = view.connections.places();
        for place in from..places.min(from + PLACES) {
            if let Some(mut open) = view.connections.found_at(place) {
                self.complete(&mut open, (1, place, place as u64), now);
                view.show_found(open, kin, now);
            }
        }
        match from + PLACES < places {
            true => Step::TellFound(from + PLACES),
            false => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::connection::Direction;
    use crate::model::tcp::Wire;

    const SECOND: u64 = 1_000_000_000;

    /// A connection that has received so much, and began then.
    fn open(received: u64, start: Option<u64>) -> Open {
        let end = |port| Endpoint {
            addr: [127, 0, 0, 1].into(),
            port,
        };
        Open {
            id: None,
            wall: 0,
            local: end(1),
            peer: end(2),
            wire: Wire::Ipv4,
            owner: None,
            netns: None,
            direction: Direction::Incoming,
            start: start.map(|start| (start, start)),
            state: None,
            connect: None,
            accept_delay: None,
            counters: Counters {
                bytes_received: Some(received),
                ..Counters::default()
            },
            since: Since::default(),
        }
    }

    #[test]
    fn what_is_more_is_since_the_record_before() {
        let mut interval = Interval::open(Duration::from_secs(1));
        let mut told = |(received, start), number, at| {
            let mut open = open(received, start);
            interval.complete(&mut open, (0, 3, number), at);
            (open.since.duration, open.since.received)
        };
        let more = |time, received| (Some(time), Some(received));
        // Of what began before nothing is known at first.
        assert_eq!(told((100, None), 1, 5 * SECOND), (None, None));
        assert_eq!(told((107, None), 1, 7 * SECOND), more(2 * SECOND, 7));
        assert_eq!(told((107, None), 1, 8 * SECOND), more(SECOND, 0));
        // Another one in its place, that began meanwhile.
        let later = Some(8 * SECOND);
        assert_eq!(told((11, later), 2, 9 * SECOND), more(SECOND, 11));
        assert_eq!(told((15, later), 2, 12 * SECOND), more(3 * SECOND, 4));
    }

    #[test]
    fn a_listed_socket_completes_a_connection_of_its_namespace() {
        let mut interval = Interval::open(Duration::from_secs(1));
        interval.netns = Some(7);
        let bare = open(0, None);
        let counters = Counters {
            bytes_received: Some(9),
            ..Counters::default()
        };
        interval.listed.push(Listed {
            hash: interval.hash(&bare.local, &bare.peer),
            state: State::CloseWait,
            counters,
        });
        for (netns, state, received) in [
            (Some(7), Some(State::CloseWait), 8),
            (Some(8), None, 0),
            (None, None, 0),
        ] {
            let mut open = Open { netns, ..bare };
            interval.complete(&mut open, (1, 0, 0), SECOND);
            assert_eq!(open.state, state);
            assert_eq!(open.counters.bytes_received, Some(received));
        }
    }
}
