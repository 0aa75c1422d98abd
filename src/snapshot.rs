//! What exists at the start: the TCP sockets of every network namespace, and
//! whose they are.
//!
//! Contract: this is done after attaching, so that no socket falls in between:
//! one is found here, or its events are seen, or both, and [`Seen`] tells when.
//! Sockets are listed by socket diagnosis in every network namespace that a
//! process or thread is in or that is mounted; /proc/PID/fd tells whose they
//! are. It takes a descriptor or two at a time, and memory for as many sockets
//! as the sink takes; the sink is asked to go on with its own work in between.
//! What can't be had costs detail and a line in [`Stock::lacks`], not the run.

pub mod broadcast;
pub mod diag;
mod lack;
mod listening;
mod modules;
mod namespaces;
pub mod proc;
mod trial;

use crate::event::{COMM_LEN, Owner, OwnerSource, Task};
use crate::existing::{Existing, Seen};
use crate::maps::{LISTENERS, Listener};
use crate::sys::netlink::{DATAGRAM, Diag};
use crate::sys::{self, Errno, time};
use crate::tcp::{Endpoint, State};
use broadcast::Broadcasts;
use diag::{Answer, Socket};
pub use lack::Lack;
use lack::Unlisted;
use listening::{awaited, together};
use proc::{Folder, Process};
use std::ops::RangeInclusive;
pub use trial::try_out;

/// Descriptors looked at before the sink goes on with its own work.
const BREATH: u32 = 256;
/// No process.
const NOBODY: u32 = u32::MAX;

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
}

/// What is wanted of the network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// Their sockets.
    pub list: bool,
    /// What the kernel says from now on of sockets that it destroys.
    pub hear: bool,
}

/// The scan was told to stop.
struct Stopped;

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
    /// The states of the sockets that are asked for; none for a trial, or where
    /// they are not wanted.
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
    seen: Vec<u32>,
    /// Processes that may not be looked into.
    denied: u32,
    beyond: u64,
    listeners_beyond: u64,
    failed: Option<Unlisted>,
    stock: Stock,
}

/// Looks at everything once. `by_netns` says whether the programs tell network
/// namespaces apart. Must run in a process of one thread, or at least one that
/// needs its network namespace in no other.
pub fn take(sink: &mut dyn Sink, by_netns: bool, purpose: Purpose) -> Stock {
    let states: &[State] = if purpose.list { &diag::STATES } else { &[] };
    scan(sink, by_netns, purpose, states)
}

fn scan(sink: &mut dyn Sink, by_netns: bool, purpose: Purpose, states: &'static [State]) -> Stock {
    let now = time::monotonic();
    let mut scan = Scan {
        sink,
        by_netns,
        list: purpose.list,
        states,
        buffer: vec![0; DATAGRAM],
        sequence: 0,
        ports: None,
        wanted: Vec::new(),
        processes: Vec::new(),
        listeners: Vec::new(),
        waiting: Vec::new(),
        seen: Vec::new(),
        denied: 0,
        beyond: 0,
        listeners_beyond: 0,
        failed: None,
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
            scan.lacks(lack::no_proc(errno));
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

    fn is_trial(&self) -> bool {
        self.states.is_empty()
    }

    fn all(&mut self, proc: &Folder) -> Result<(), Stopped> {
        self.namespaces(proc)?;
        self.stock.namespaces = self.seen.len();
        self.stock.end = time::monotonic();
        if !self.list {
            return Ok(());
        }
        match (proc.has_kernels_pids(), self.is_trial()) {
            (true, false) => self.owners(proc)?,
            (true, true) => self.try_owners(proc),
            (false, trial) => {
                if trial || !self.wanted.is_empty() {
                    self.lacks(lack::own_pids());
                }
            }
        }
        Ok(())
    }

    /// Lists the sockets of a namespace.
    fn dump(&mut self, netns: u32, diag: sys::Result<Diag>) -> Result<(), Stopped> {
        if let Some(range) = self.ports.take() {
            self.sink.ports(netns, range);
        }
        for family in [diag::AF_INET, diag::AF_INET6] {
            let failed = match &diag {
                Ok(diag) => match self.dump_family(netns, diag, family)? {
                    Answer::Failed(errno) => Unlisted::Diag(errno),
                    Answer::Malformed => Unlisted::Answer,
                    Answer::More | Answer::Done => continue,
                },
                Err(errno) => Unlisted::Diag(*errno),
            };
            self.failed.get_or_insert(failed);
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

    /// Finds the processes that have the sockets.
    fn owners(&mut self, proc: &Folder) -> Result<(), Stopped> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        self.wanted.sort_unstable_by_key(|wanted| wanted.inode);
        let mut looked = 0;
        let all = proc.numbers(c".", &mut |pid, name, _| {
            let Ok(process) = proc.folder(name) else {
                return true;
            };
            // Its place in `processes`, once it is known to have a socket.
            let mut index = None;
            let mut denied = false;
            let all = process.numbers(c"fd", &mut |_, name, folder| {
                looked += 1;
                if looked % BREATH == 0 && !self.sink.breathe(u64::MAX) {
                    return false;
                }
                let inode = match proc::socket_inode(folder, name) {
                    Ok(Some(inode)) => inode,
                    Ok(None) => return true,
                    Err(errno) => {
                        denied |= is_denial(errno);
                        return true;
                    }
                };
                // More than one where the kernel has listed it twice.
                let start = self.wanted.partition_point(|w| w.inode < inode);
                let end = self.wanted[start..].partition_point(|w| w.inode == inode) + start;
                if start == end {
                    return true;
                }
                if index.is_none() {
                    let Some(known) = process.process(pid) else {
                        return true;
                    };
                    index = Some(self.processes.len() as u32);
                    self.processes.push(known);
                }
                (start..end).for_each(|w| self.holds(w, index.unwrap_or(NOBODY)));
                true
            });
            denied |= all.as_ref().is_err_and(|errno| is_denial(*errno));
            self.denied += u32::from(denied);
            all.unwrap_or(true)
        });
        all.map_or(Ok(()), |all| all.then_some(()).ok_or(Stopped))
    }

    /// A process has the socket: whose is it?
    fn holds(&mut self, wanted: usize, process: u32) {
        let wanted = &mut self.wanted[wanted];
        if wanted.process == process {
            // Two descriptors.
            return;
        }
        let known = |index: u32| self.processes.get(index as usize);
        match (known(wanted.process), known(process)) {
            (None, _) => wanted.process = process,
            (Some(old), Some(new)) => {
                wanted.shared = true;
                if new.is_older(old) {
                    wanted.process = process;
                }
            }
            (Some(_), None) => {}
        }
    }

    fn finish(mut self) -> Stock {
        // Neighbours have the same owner then.
        self.wanted.sort_unstable_by_key(|wanted| wanted.process);
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
        let found = [
            self.failed.map(lack::unlisted),
            (self.denied > 0).then(|| lack::denied(self.denied)),
            (self.beyond > 0).then(|| lack::beyond(self.beyond)),
            (self.listeners_beyond > 0).then(|| lack::listeners_beyond(self.listeners_beyond)),
        ];
        self.stock.lacks.extend(found.into_iter().flatten());
        self.stock
    }
}

/// Whether an error is that of somebody who may not look.
fn is_denial(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM)
}
