//! Whose socket it is, where no program in the kernel keeps it: learned from
//! the events themselves.
//!
//! Contract: events are given in the order of time. An owner is only told
//! where one of three things is known: the event ran in the owner's context,
//! an earlier event of the socket did, or the socket is the child of a
//! listener whose owner is known. What the kernel does in an interrupt runs in
//! anybody's context and teaches nothing. A socket is forgotten at CLOSE, for
//! its address is used again. Memory is bounded.

use crate::event::{Event, Owner, OwnerSource, Task, What};
use crate::recent::Recent;
use crate::tcp::State;
use std::collections::HashMap;
use std::net::IpAddr;

/// Sockets remembered; twice as many for a time.
const SOCKETS: usize = 7168;
/// Listeners remembered. With more, children no longer inherit: a listener that
/// isn't known might be the one.
const LISTENERS: usize = 8192;

/// What is remembered of a socket.
#[derive(Clone, Copy, Debug)]
struct Known {
    task: Task,
    source: OwnerSource,
}

impl Known {
    fn owner(self) -> Owner {
        Owner {
            task: self.task,
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
pub struct Owners {
    sockets: Recent<Known>,
    /// By local port.
    listeners: HashMap<u16, Vec<Listener>>,
    listening: usize,
    overflowed: bool,
}

impl Default for Owners {
    fn default() -> Owners {
        Owners {
            sockets: Recent::new(SOCKETS),
            listeners: HashMap::new(),
            listening: 0,
            overflowed: false,
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

impl Owners {
    /// Takes an event, and tells the owner of its socket. `own_context` says
    /// that the task on the CPU was not interrupted by the event.
    pub fn observe(&mut self, event: &Event, own_context: bool) -> Option<Owner> {
        let What::State { old, new } = event.what else {
            return self.sockets.get(event.socket).map(|known| known.owner());
        };
        let known = if own_context || is_the_owners_doing(old, new) {
            let source = OwnerSource::Task;
            let task = event.on_cpu;
            Some(Known { task, source })
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
                self.sockets.insert(event.socket, keep);
                if new == State::Listen {
                    self.listen(event);
                }
            }
            (None, _) if old == State::Listen => self.sockets.remove(event.socket),
            (None, _) => {}
        }
        known.map(Known::owner)
    }

    fn listen(&mut self, event: &Event) {
        self.forget_listener(event);
        if self.listening >= LISTENERS {
            self.overflowed = true;
            return;
        }
        self.listening += 1;
        let (port, addr) = (event.local.port, event.local.addr);
        self.listeners.entry(port).or_default().push(Listener {
            socket: event.socket,
            addr,
            task: event.on_cpu,
        });
    }

    fn forget_listener(&mut self, event: &Event) {
        if let Some(all) = self.listeners.get_mut(&event.local.port) {
            let before = all.len();
            all.retain(|l| l.socket != event.socket);
            self.listening -= before - all.len();
            if all.is_empty() {
                self.listeners.remove(&event.local.port);
            }
        }
    }

    /// The owner of a child that has this port and address: that of the
    /// listeners at the address, else of those at a wildcard that stands for
    /// it, if they are all of one process.
    fn heir(&self, port: u16, addr: IpAddr) -> Option<Task> {
        if self.overflowed {
            return None;
        }
        let all = self.listeners.get(&port)?;
        let wild = !all.iter().any(|l| l.addr == addr);
        let fits = |l: &&Listener| match wild {
            false => l.addr == addr,
            // An IPv6 wildcard may stand for IPv4, too.
            true => l.addr.is_unspecified() && (l.addr.is_ipv6() || addr.is_ipv4()),
        };
        let mut fitting = all.iter().filter(fits);
        let first = fitting.next()?;
        let agreed = fitting.all(|l| l.task.pid == first.task.pid);
        agreed.then_some(first.task)
    }
}
