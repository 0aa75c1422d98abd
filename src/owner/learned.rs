//! Whose socket it is, where no program in the kernel keeps it: learned from
//! the events themselves. Why the programs have policies of their own stands in
//! bpf-asm/README.md, The owner without BTF.
//!
//! Contract: events are given in the order of time. An owner is only told
//! where one of three things is known: the event ran in the owner's context,
//! an earlier event of the socket did, or the socket is the child of a
//! listener whose owner is known. What the kernel does in an interrupt runs in
//! anybody's context and teaches nothing. A thread of the kernel is nobody's
//! owner. A socket is forgotten at CLOSE, for its address is used again. Memory is bounded.

use crate::model::event::{COMM_LEN, Event, Owner, OwnerSource, Task, What};
use crate::model::hash::Keyed;
use crate::model::recent::Recent;
use crate::model::table::Table;
use crate::model::tcp::State;
use crate::owner::processes::Processes;
use std::collections::HashMap;
use std::net::IpAddr;

/// Sockets remembered; twice as many for a time.
const SOCKETS: usize = 7168;
/// Listeners remembered. Of more than that children at the same port don't
/// inherit, as long as it is there: it might be the one.
const LISTENERS: usize = 8192;
/// Listeners that found no room, of which it is noticed when they go. A port at
/// which even more listen is not trusted any more.
const REFUSED: usize = 65536;

/// What is remembered of a socket.
#[derive(Clone, Copy, Debug)]
struct Known {
    task: Task,
    source: OwnerSource,
}

impl Known {
    fn owner(self) -> Owner {
        let own = self.source == OwnerSource::Task;
        let mut task = self.task;
        if task.tid != task.pid {
            // The thread's own name, and not the process's.
            task.name = [0; COMM_LEN];
        }
        if !own {
            // That of before.
            task.uid = None;
        }
        Owner {
            task,
            thread: match own {
                true => self.task.name,
                false => [0; COMM_LEN],
            },
            parent: None,
            cgroup: None,
            source: self.source,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Listener {
    socket: u64,
    addr: IpAddr,
    task: Task,
}

/// The owners of all sockets.
#[derive(Debug)]
pub(crate) struct Owners {
    sockets: Recent<Known>,
    /// By local port.
    listeners: Table<Vec<Listener>>,
    listening: usize,
    /// Sockets of listeners that found no room, with their local ports.
    refused: HashMap<u64, u32, Keyed>,
    /// How many of those there are at a local port. (A map of the same kind, as are
    /// those of `Recent`: each kind takes a kilobyte of the binary.)
    untold: HashMap<u64, u32, Keyed>,
    /// How many there ever were.
    refusals: u64,
}

impl Default for Owners {
    fn default() -> Owners {
        Owners {
            sockets: Recent::new(SOCKETS),
            listeners: Table::default(),
            listening: 0,
            refused: HashMap::default(),
            untold: HashMap::default(),
            refusals: 0,
        }
    }
}

/// Changes that only the owner makes, by a system call (v6.12 net/ipv4/tcp.c:
/// tcp_close_state, inet_csk_listen_start, tcp_set_state in __tcp_close;
/// tcp_ipv4.c: tcp_v4_connect).
fn is_the_owners_doing(old: State, new: State) -> bool {
    matches!(
        (old, new),
        (State::Close, State::SynSent | State::Listen)
            | (State::Established, State::FinWait1)
            | (State::CloseWait, State::LastAck)
            | (State::Listen, State::Close)
    )
}

/// Whether a task is a thread of the kernel: by name, where processes aren't
/// known.
fn is_the_kernels(task: &Task, processes: &Processes) -> bool {
    processes.is_kernel_thread(task.pid) || task.name.starts_with(b"kworker/")
}

impl Owners {
    /// Takes an event, and tells the owner of its socket. `own_context` says
    /// that the task on the CPU was not interrupted by the event.
    pub(crate) fn observe(
        &mut self,
        event: &Event,
        own_context: bool,
        processes: &Processes,
    ) -> Option<Owner> {
        let (old, new) = match event.what {
            What::State { old, new } => (old, new),
            // Its socket is the listener, which may be older than all that is
            // remembered of sockets.
            What::SynAck => return self.of_listener(event),
            _ => return self.sockets.get(event.socket).map(|known| known.owner()),
        };
        let known = if self.is_the_owner(event, (old, new), own_context, processes) {
            let source = OwnerSource::Task;
            let task = event.on_cpu;
            // Of a PID namespace that can't be seen: the owner, but who?
            let told = task.pid != 0 && !is_the_kernels(&task, processes);
            told.then_some(Known { task, source })
        } else if (old, new) == (State::Listen, State::SynRecv) {
            // Of an earlier socket at this address nothing may be left.
            let source = OwnerSource::Listener;
            let heir = self.heir(event.local.port, event.local.addr);
            heir.map(|task| Known { task, source })
        } else {
            self.sockets.get(event.socket).copied()
        };
        match (known, new) {
            (_, State::Close) => {
                self.sockets.remove(event.socket);
                self.forget_listener(event);
            }
            (Some(mut keep), _) => {
                if keep.source == OwnerSource::Task {
                    keep.source = OwnerSource::Cached;
                }
                if keep.source == OwnerSource::Listener && old == State::SynRecv {
                    // From here on it may be accepted, which is not seen.
                    keep.source = OwnerSource::ListenerAccepted;
                }
                self.sockets.insert(event.socket, keep);
                if new == State::Listen {
                    self.listen(event);
                }
            }
            // What was known of it before is no longer so.
            (None, _) => self.sockets.remove(event.socket),
        }
        known.map(Known::owner)
    }

    /// Whether the task on the CPU is the socket's owner.
    fn is_the_owner(
        &mut self,
        event: &Event,
        change: (State, State),
        own_context: bool,
        processes: &Processes,
    ) -> bool {
        let (old, new) = change;
        if old == new {
            // A close() upon a shutdown(), perhaps of another one who has it.
            return false;
        }
        let task = &event.on_cpu;
        if matches!(new, State::SynSent | State::Listen) {
            return own_context || is_the_owners_doing(old, new);
        }
        let remembered = self.sockets.get(event.socket).copied();
        if remembered.is_some_and(|known| known.task.pid == task.pid) {
            return own_context || is_the_owners_doing(old, new);
        }
        // Whose own FIN is out keeps it to the end: another who has it then held a
        // duplicate. What the peer answers is also taken in a close() of that one's.
        if old.has_fin_queued()
            && remembered.is_some_and(|known| known.source == OwnerSource::Cached)
        {
            return false;
        }
        match change {
            // Another process ends it: one that it was handed to, or one that
            // has it killed, as `ss -K` does. Which, can't be told.
            (_, State::Close) => false,
            // The kernel's workers close what nobody else can close any more.
            _ if is_the_kernels(task, processes) => false,
            // By TCP Fast Open a server may have shut down before the handshake
            // was over; its FIN then comes in the softirq that ends it (v6.12
            // net/ipv4/tcp_input.c, tcp_rcv_state_process).
            (State::Established, State::FinWait1) => own_context,
            _ => own_context || is_the_owners_doing(old, new),
        }
    }

    fn listen(&mut self, event: &Event) {
        self.forget_listener(event);
        if self.listening >= LISTENERS {
            self.refusals = self.refusals.saturating_add(1);
            if self.refused.len() < REFUSED {
                self.refused.insert(event.socket, event.local.port.into());
            }
            let untold = self.untold.entry(event.local.port.into()).or_default();
            *untold = untold.saturating_add(1);
            return;
        }
        self.listening += 1;
        let (port, addr) = (event.local.port, event.local.addr);
        self.listeners.entry(port).push(Listener {
            socket: event.socket,
            addr,
            task: event.on_cpu,
        });
    }

    /// How many listeners have found no room so far.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals
    }

    fn forget_listener(&mut self, event: &Event) {
        if self.refused.remove(&event.socket).is_some() {
            let port = event.local.port.into();
            if let Some(untold) = self.untold.get_mut(&port) {
                *untold -= 1;
                if *untold == 0 {
                    self.untold.remove(&port);
                }
            }
        }
        if let Some(all) = self.listeners.get_mut(event.local.port) {
            let before = all.len();
            all.retain(|l| l.socket != event.socket);
            self.listening -= before - all.len();
            if all.is_empty() {
                self.listeners.remove(event.local.port);
            }
        }
    }

    /// What is known of the owner of a listener, or of a socket that is none.
    fn of_listener(&mut self, event: &Event) -> Option<Owner> {
        let at_port = self.listeners.get(event.local.port);
        let mut at_port = at_port.into_iter().flatten();
        let known = match at_port.find(|l| l.socket == event.socket) {
            Some(listener) => Some(Known {
                task: listener.task,
                source: OwnerSource::Cached,
            }),
            None => self.sockets.get(event.socket).copied(),
        };
        known.map(Known::owner)
    }

    /// The owner of a child that has this port and address: that of the
    /// listeners at the address and at a wildcard that stands for it, if they
    /// are all of one process. Which namespace or device each of them is of
    /// isn't known, so that none goes before another.
    fn heir(&self, port: u16, addr: IpAddr) -> Option<Task> {
        if self.untold.contains_key(&port.into()) {
            return None;
        }
        let all = self.listeners.get(port)?;
        // An IPv6 wildcard may stand for IPv4, too.
        let stands_for =
            |l: &Listener| l.addr.is_unspecified() && (l.addr.is_ipv6() || addr.is_ipv4());
        let fits = |l: &&Listener| l.addr == addr || stands_for(l);
        let mut fitting = all.iter().filter(fits);
        let first = fitting.next()?;
        let agreed = fitting.all(|l| l.task.pid == first.task.pid);
        agreed.then_some(first.task)
    }
}

#[cfg(test)]
mod tests;
