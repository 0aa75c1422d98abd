//! What exists at the start: the TCP sockets of every network namespace, and
//! whose they are.
//!
//! Contract: this is done after attaching, so that no socket falls in between:
//! one is found here, or its events are seen, or both, and [`Seen`] tells when.
//! Sockets are listed by socket diagnosis in every network namespace that a
//! process or thread is in or that is mounted; /proc/PID/fd tells whose they
//! are. It takes a descriptor or two at a time, and memory for as many sockets
//! as the sink takes; the sink is asked to go on with its own work in between.
//! It ends when its time is over ([`Limits`]): those who have few descriptors
//! come first. What can't be had, or was left out, costs detail and a line in
//! [`Stock::lacks`], not the run.

pub(crate) mod broadcast;
pub mod diag;
pub(crate) mod helper;
mod lack;
mod listening;
pub(crate) mod message;
mod modules;
mod namespaces;
mod owners;
pub mod scan;
mod trial;

use crate::bpf::maps::{LISTENERS, Listener};
use crate::lifecycle::existing::{Existing, Seen};
use crate::model::event::{COMM_LEN, Owner, OwnerSource, Task};
use crate::model::sort;
use crate::model::table::TableByNumber;
use crate::model::tcp::{Endpoint, State};
use crate::sys::caps::{self, Caps};
use crate::sys::netlink::{DATAGRAM, Diag};
use crate::sys::{self, Errno, limits, time};
use broadcast::Broadcasts;
use diag::{Answer, Socket};
pub use lack::Lack;
use lack::Unlisted;
use listening::{awaited, together};
use scan::{Folder, Process};
use std::ops::RangeInclusive;
pub use trial::{hear, try_out};

/// Sockets that are kept until the search is over, at most.
const SPENT: usize = 4096;
/// No process.
const NOBODY: u32 = u32::MAX;
/// Descriptors looked at before the sink goes on with its own work.
const BREATH: u32 = 256;

/// Who wants to know what exists.
pub trait Sink {
    /// A connection; the number to call it by, `None` where it has no room.
    fn connection(&mut self, found: &Existing) -> Option<u32>;
    /// Whose it is.
    fn owner(&mut self, number: u32, owner: &Owner);
    /// A listener at this address of a network namespace.
    fn listening(&mut self, _netns: u32, _local: Endpoint) {}
    /// The ports that the kernel chooses from in a network namespace.
    fn ports(&mut self, _netns: u32, _range: RangeInclusive<u16>) {}
    /// Time for other work. Every socket that was seen before `until`
    /// (CLOCK_MONOTONIC, nanoseconds) has been told of. Whether to go on.
    fn breathe(&mut self, until: u64) -> bool;
}

/// What was found besides connections.
#[derive(Debug, Default)]
pub struct Stock {
    /// When the first socket may have been seen.
    pub start: u64,
    /// When the last one was.
    pub end: u64,
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// Connections found.
    pub connections: u64,
    /// Of these and the listeners, those that several processes have.
    pub shared: u64,
    /// Network namespaces that were looked into.
    pub namespaces: usize,
    /// What the kernel says from now on of sockets that it destroys.
    pub broadcasts: Option<Broadcasts>,
    /// What could not be had.
    pub lacks: Vec<Lack>,
    /// Sockets that were asked and are done with: the kernel lets go of one in
    /// milliseconds, for which there may be no time yet.
    pub spent: Vec<Diag>,
}

/// What is wanted of the network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// Their sockets.
    pub list: bool,
    /// What the kernel says from now on of sockets that it destroys.
    pub hear: bool,
}

/// Until when a search goes on (CLOCK_MONOTONIC, nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Listing sockets.
    pub list: u64,
    /// Looking for owners.
    pub owners: u64,
}

impl Limits {
    /// How long sockets are listed, and how long owners are looked for after
    /// the start, in nanoseconds.
    const AFTER: (u64, u64) = (3_000_000_000, 5_000_000_000);

    /// Those of a search that begins now.
    pub fn from_now() -> Limits {
        let now = time::monotonic();
        Limits {
            list: now.saturating_add(Limits::AFTER.0),
            owners: now.saturating_add(Limits::AFTER.1),
        }
    }
}

/// The scan was told to stop.
struct Stopped;

/// What there was no time for.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    namespaces: u32,
    processes: u32,
    descriptors: u64,
}

/// What is to be matched with a process.
struct Wanted {
    inode: u32,
    target: Target,
    uid: u32,
    cgroup: Option<u64>,
    /// An index of `processes`.
    process: u32,
    shared: bool,
}

#[derive(Clone, Copy)]
enum Target {
    /// A number of the sink's.
    Connection(u32),
    /// An index of `listeners`.
    Listener(u32),
}

struct Scan<'a> {
    sink: &'a mut dyn Sink,
    by_netns: bool,
    list: bool,
    limits: Limits,
    /// The states of the sockets that are asked for; none where they are not
    /// wanted.
    states: &'static [State],
    buffer: Vec<u8>,
    sequence: u32,
    /// The ports that the kernel chooses from where sockets were asked for last.
    ports: Option<RangeInclusive<u16>>,
    wanted: Vec<Wanted>,
    processes: Vec<Process>,
    /// One each, not yet together by address.
    listeners: Vec<Listener>,
    /// Connections that nobody has accepted yet: their numbers, and where they
    /// would be listened for.
    waiting: Vec<(u32, Listener)>,
    /// The network namespaces that were come by.
    seen: TableByNumber<()>,
    left: Left,
    /// Processes and descriptors looked at since the sink was last asked to go on.
    looked: u32,
    /// Processes that may not be looked into.
    denied: u32,
    /// What there was not enough of.
    short: Option<Errno>,
    beyond: u64,
    listeners_beyond: u64,
    failed: Option<Unlisted>,
    /// How many sockets may be kept in [`Stock::spent`].
    spare: usize,
    stock: Stock,
}

/// Looks at everything once, as long as there is time. `by_netns` says whether
/// the programs tell network namespaces apart. Must run in a process of one
/// thread, or at least one that needs its network namespace in no other.
pub fn take(sink: &mut dyn Sink, by_netns: bool, purpose: Purpose, limits: Limits) -> Stock {
    let now = time::monotonic();
    let mut scan = Scan {
        sink,
        by_netns,
        list: purpose.list,
        limits,
        states: if purpose.list { &diag::STATES } else { &[] },
        buffer: vec![0; DATAGRAM],
        sequence: 0,
        ports: None,
        wanted: Vec::new(),
        processes: Vec::new(),
        listeners: Vec::new(),
        waiting: Vec::new(),
        seen: TableByNumber::default(),
        left: Left::default(),
        // Whether there is time is asked first.
        looked: BREATH,
        denied: 0,
        short: None,
        beyond: 0,
        listeners_beyond: 0,
        failed: None,
        spare: match purpose.list {
            true => SPENT.min(limits::open_files() / 2),
            false => 0,
        },
        stock: Stock {
            start: now,
            end: now,
            broadcasts: purpose.hear.then(Broadcasts::default),
            ..Stock::default()
        },
    };
    match Folder::proc() {
        Ok(proc) => {
            let _: Result<(), Stopped> = scan.all(&proc);
        }
        Err(errno) => {
            scan.lacks(Lack::NoProc(errno));
            // What can be heard is asked for nothing.
            scan.states = &[];
            let diag = scan.open();
            let _: Result<(), Stopped> = scan.dump(0, diag);
            scan.hear_or_not();
        }
    }
    scan.finish()
}

impl Scan<'_> {
    fn lacks(&mut self, lack: Lack) {
        self.stock.lacks.push(lack);
    }

    /// Notes an error that may be the want of something.
    fn may_be_short(&mut self, errno: Errno) {
        if matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) {
            self.short.get_or_insert(errno);
        }
    }

    fn all(&mut self, proc: &Folder) -> Result<(), Stopped> {
        self.namespaces(proc)?;
        self.stock.namespaces = self.seen.len() - self.left.namespaces as usize;
        self.stock.end = time::monotonic();
        if !self.list {
            return Ok(());
        }
        // No event needs to wait any more: all sockets have been told.
        if !self.sink.breathe(u64::MAX) {
            return Err(Stopped);
        }
        match proc.has_kernels_pids() {
            true => self.owners(proc),
            false => {
                self.lacks(Lack::OwnPids);
                Ok(())
            }
        }
    }

    /// Lists the sockets of a namespace.
    fn dump(&mut self, netns: u32, diag: sys::Result<Diag>) -> Result<(), Stopped> {
        if let Some(range) = self.ports.take() {
            self.sink.ports(netns, range);
        }
        let left = self.left.namespaces;
        for family in [diag::AF_INET, diag::AF_INET6] {
            let failed = match &diag {
                Ok(diag) => match self.dump_family(netns, diag, family)? {
                    Answer::Failed(errno) => Unlisted::Diag(errno),
                    Answer::Malformed => Unlisted::Answer,
                    // There is no time for the other family, either.
                    Answer::More if self.left.namespaces > left => break,
                    Answer::More | Answer::Done => continue,
                },
                Err(errno) => Unlisted::Diag(*errno),
            };
            self.failed.get_or_insert(failed);
        }
        if self.stock.spent.len() < self.spare {
            self.stock.spent.extend(diag);
        }
        Ok(())
    }

    fn dump_family(&mut self, netns: u32, diag: &Diag, family: u16) -> Result<Answer, Stopped> {
        self.sequence += 1;
        let mut buffer = std::mem::take(&mut self.buffer);
        // The kernel gathers a datagram in the call before the one that hands
        // it out (netlink_dump() in netlink_sendmsg() and netlink_recvmsg()).
        let mut start = time::monotonic();
        let request = diag::request(family, self.sequence, self.states);
        let mut result = match diag.send(&request) {
            Ok(()) => Answer::More,
            Err(errno) => Answer::Failed(errno),
        };
        let mut end = time::monotonic();
        while result == Answer::More {
            if end > self.limits.list {
                // The socket is not asked again.
                self.left.namespaces += 1;
                break;
            }
            let before = time::monotonic();
            result = match diag.receive(&mut buffer) {
                Ok(len) => {
                    let seen = Seen { start, end };
                    diag::read(&buffer[..len], self.sequence, &mut |socket| {
                        self.socket(netns, socket, seen);
                    })
                }
                Err(errno) => Answer::Failed(errno),
            };
            (start, end) = (before, time::monotonic());
            if !self.sink.breathe(start) {
                return Err(Stopped);
            }
        }
        self.buffer = buffer;
        Ok(result)
    }

    fn socket(&mut self, netns: u32, socket: &Socket, seen: Seen) {
        let listener = Listener {
            netns: if self.by_netns { netns } else { 0 },
            family: socket.family,
            local: socket.local,
            // Told by the same means.
            device: if self.by_netns { socket.device } else { 0 },
            owner: None,
            count: 1,
            shared: false,
        };
        let target = if socket.state == State::Listen {
            self.sink.listening(netns, socket.local);
            if self.listeners.len() >= LISTENERS as usize {
                self.listeners_beyond += 1;
                return;
            }
            self.listeners.push(listener);
            Target::Listener(self.listeners.len() as u32 - 1)
        } else {
            self.stock.connections += 1;
            let number = self.sink.connection(&Existing {
                netns,
                local: socket.local,
                peer: socket.peer,
                state: socket.state,
                seen,
            });
            let Some(number) = number else {
                self.beyond += 1;
                return;
            };
            let open = matches!(socket.state, State::Established | State::CloseWait);
            if socket.inode == 0 && open {
                self.waiting.push((number, listener));
            }
            Target::Connection(number)
        };
        if socket.inode != 0 {
            self.wanted.push(Wanted {
                inode: socket.inode,
                target,
                uid: socket.uid,
                cgroup: socket.cgroup,
                process: NOBODY,
                shared: false,
            });
        }
    }

    fn finish(mut self) -> Stock {
        // Neighbours have the same owner then.
        sort::by_key(&mut self.wanted, |wanted| wanted.process);
        for wanted in &self.wanted {
            self.stock.shared += u64::from(wanted.shared);
            let Some(process) = self.processes.get(wanted.process as usize) else {
                continue;
            };
            let owner = Owner {
                task: Task {
                    pid: process.pid,
                    tid: process.pid,
                    uid: Some(wanted.uid),
                    name: process.name,
                },
                thread: [0; COMM_LEN],
                parent: Some(process.parent),
                cgroup: wanted.cgroup,
                source: OwnerSource::Snapshot,
            };
            match wanted.target {
                Target::Connection(number) => self.sink.owner(number, &owner),
                Target::Listener(index) => {
                    let listener = &mut self.listeners[index as usize];
                    listener.owner = Some(owner);
                    listener.shared = wanted.shared;
                }
            }
        }
        self.stock.listeners = together(self.listeners);
        for (number, wanted) in &self.waiting {
            if let Some(owner) = awaited(&self.stock.listeners, wanted) {
                self.sink.owner(*number, &owner);
            }
        }
        let left = self.left;
        let needed = Caps::SYS_PTRACE | Caps::DAC_READ_SEARCH;
        let found = [
            self.failed.map(Lack::Unlisted),
            (self.denied > 0).then(|| Lack::Denied {
                processes: self.denied,
                allowed: caps::effective().is_ok_and(|caps| caps.contains(needed)),
            }),
            (self.beyond > 0).then_some(Lack::Beyond(self.beyond)),
            (self.listeners_beyond > 0).then_some(Lack::ListenersBeyond(self.listeners_beyond)),
            self.short.map(Lack::Short),
            (left.namespaces > 0 || left.processes > 0).then_some(Lack::LeftOut {
                namespaces: left.namespaces,
                processes: left.processes,
                descriptors: left.descriptors,
            }),
        ];
        self.stock.lacks.extend(found.into_iter().flatten());
        self.stock
    }
}
