//! The search in a process of its own, so that nothing that others have can hold
//! up who traces.
//!
//! Contract: the helper is started before anything is attached and does nothing
//! until it gets its [`Order`]. It says what it finds as [`Message`]s, in the
//! order in which a [`Sink`] would be told. Of this process it has its pipes,
//! and the capabilities that a search takes. It ends with its search, with its
//! parent, when that hangs up or kills it, and by the kernel's clock a moment
//! after its time. What it says is checked, not trusted.

use super::message::{End, LEN, Message, ORDER, Order};
use super::{Purpose, Sink, take};
use crate::lifecycle::existing::Existing;
use crate::model::event::Owner;
use crate::model::tcp::Endpoint;
use crate::sys::caps::Caps;
use crate::sys::child::{self, Child, PIECE, Parent, Plan};
use crate::sys::{self, Errno, time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Messages that are written in one piece.
const BATCH: usize = PIECE / LEN;

/// What a search takes: entering namespaces, and seeing descriptors.
const NEEDED: Caps = Caps::SYS_ADMIN
    .union(Caps::SYS_PTRACE)
    .union(Caps::DAC_READ_SEARCH);

/// How long after its time the kernel ends it, in seconds.
const GRACE: u64 = 2;

/// What became of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// There may be more later.
    Open,
    /// It has said nothing more than there was, and has gone.
    Gone,
    /// It says what makes no sense.
    Bad,
}

/// The helper, as its parent has it.
#[derive(Debug)]
pub(crate) struct Helper(Child);

impl Helper {
    /// Starts it.
    pub(crate) fn start() -> sys::Result<Helper> {
        let plan = Plan {
            name: c"snoop-search",
            keep: NEEDED,
            give: None,
            kill: true,
        };
        child::start(&plan, &mut work).map(Helper)
    }

    /// Lets it begin.
    pub(crate) fn order(&mut self, order: &Order) -> sys::Result<()> {
        let written = self.0.words.write_all(&order.encode());
        written.map_err(|error| Errno::from_io(&error))
    }

    /// Whether it has said something, or does within so many milliseconds.
    pub(crate) fn wait(&self, milliseconds: u8) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(milliseconds)).is_ok_and(|ready| ready > 0)
    }

    /// Hands out what it has said, a piece of it; it must have said something.
    pub(crate) fn read(&mut self, each: &mut dyn FnMut(Message)) -> Line {
        let mut piece = [0; BATCH * LEN];
        let len = match self.0.answers.read(&mut piece) {
            Ok(0) => return Line::Gone,
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Line::Open,
            Err(_) => return Line::Gone,
        };
        for message in piece[..len].chunks(LEN) {
            let message = <&[u8; LEN]>::try_from(message).ok();
            match message.and_then(Message::decode) {
                Some(message) => each(message),
                None => return Line::Bad,
            }
        }
        Line::Open
    }

    /// The descriptor by which it can be ended, where the kernel has such.
    pub(crate) fn pidfd(&self) -> Option<RawFd> {
        self.0.pidfd().map(|fd| fd.as_raw_fd())
    }
}

/// Readable while it has said something that nobody has read.
impl AsFd for Helper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.answers.as_fd()
    }
}

/// What the helper does.
fn work(mut parent: Parent) {
    let mut order = [0; ORDER];
    if parent.words.read_exact(&mut order).is_err() {
        return;
    }
    let order = Order::decode(&order);
    let left = order.limits.owners.saturating_sub(time::monotonic()) / 1_000_000_000;
    child::end_within(u32::try_from(left + GRACE).unwrap_or(1));
    let mut teller = Teller {
        parent,
        room: order.room,
        told: 0,
        piece: Vec::with_capacity(PIECE),
        broken: false,
    };
    let purpose = Purpose {
        list: true,
        hear: false,
    };
    let stock = take(&mut teller, order.by_netns, purpose, order.limits);
    for listener in &stock.listeners {
        teller.say(&Message::Listener(*listener));
    }
    for lack in &stock.lacks {
        teller.say(&Message::Lack(*lack));
    }
    teller.say(&Message::End(End {
        start: stock.start,
        end: stock.end,
    }));
    teller.flush();
}

/// Says what is found.
struct Teller {
    parent: Parent,
    room: u32,
    told: u32,
    piece: Vec<u8>,
    /// Nobody listens.
    broken: bool,
}

impl Teller {
    fn say(&mut self, message: &Message) {
        self.piece.extend_from_slice(&message.encode());
        if self.piece.len() >= BATCH * LEN {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.broken |= self.parent.answers.write_all(&self.piece).is_err();
        self.piece.clear();
    }
}

impl Sink for Teller {
    fn connection(&mut self, found: &Existing) -> Option<u32> {
        if self.told >= self.room {
            return None;
        }
        self.say(&Message::Connection(*found));
        self.told += 1;
        Some(self.told - 1)
    }

    fn owner(&mut self, number: u32, owner: &Owner) {
        self.say(&Message::Owner(number, *owner));
    }

    fn listening(&mut self, netns: u32, local: Endpoint) {
        self.say(&Message::Listening(netns, local));
    }

    fn ports(&mut self, netns: u32, range: RangeInclusive<u16>) {
        self.say(&Message::Ports(netns, (*range.start(), *range.end())));
    }

    fn breathe(&mut self, until: u64) -> bool {
        self.say(&Message::Told(until));
        self.flush();
        !self.broken
    }
}
