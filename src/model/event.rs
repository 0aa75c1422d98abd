//! An event: what happened to a socket, however it was obtained.

use crate::model::tcp::{Endpoint, State, Wire};
use std::net::{IpAddr, Ipv6Addr};

/// TASK_COMM_LEN: a task's name with its terminating NUL, in bytes.
pub const COMM_LEN: usize = 16;

/// A task, as the kernel names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Process id (tgid) in the initial PID namespace.
    pub pid: u32,
    /// Thread id in the initial PID namespace.
    pub tid: u32,
    /// User id in the initial user namespace, where it is known: of an owner.
    pub uid: Option<u32>,
    /// Its name, ended by a NUL if it is shorter; empty where it isn't known. Of
    /// an owner it is the process's: that of its first thread.
    pub name: [u8; COMM_LEN],
}

/// A name as the kernel has it: any bytes but NUL.
pub fn comm(name: &[u8; COMM_LEN]) -> &[u8] {
    const ONES: u128 = u128::MAX / 0xff;
    let all = u128::from_le_bytes(*name);
    // The highest bit of the first byte that is 0, and of some behind it.
    let zeros = all.wrapping_sub(ONES) & !all & (ONES << 7);
    let len = zeros.trailing_zeros() / 8;
    name.get(..len as usize).unwrap_or(name)
}

impl Task {
    /// The task's name as the kernel has it: any bytes but NUL.
    pub fn comm(&self) -> &[u8] {
        comm(&self.name)
    }
}

/// How the owner of a socket is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum OwnerSource {
    /// This event ran in the owner's context.
    Task = 1,
    /// From an earlier event of the socket that did.
    Cached = 2,
    /// The socket is the child of a listener with this owner.
    Listener = 3,
    /// Seen when the socket was accepted, or first read from.
    Accept = 4,
    /// From the scan at the start.
    Snapshot = 5,
    /// As its listener's owner: it has been accepted, or may have been, and by
    /// whom was not seen.
    ListenerAccepted = 6,
    /// The process that had it has ended: this is the only one alive of those
    /// that descend from it since it had the socket.
    Descendant = 7,
}

impl OwnerSource {
    /// The source of this number.
    pub fn from_number(number: u8) -> Option<OwnerSource> {
        use OwnerSource::*;
        const ALL: [OwnerSource; 7] = [
            Task,
            Cached,
            Listener,
            Accept,
            Snapshot,
            ListenerAccepted,
            Descendant,
        ];
        ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            OwnerSource::Task => "task",
            OwnerSource::Cached => "cached",
            OwnerSource::Listener => "listener",
            OwnerSource::Accept => "accept",
            OwnerSource::Snapshot => "snapshot",
            OwnerSource::ListenerAccepted => "listener_accepted",
            OwnerSource::Descendant => "descendant",
        }
    }
}

/// Whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The task that opened, listened with, accepted or closed it.
    pub task: Task,
    /// That thread's name, ended by a NUL if it is shorter; empty where it isn't
    /// known.
    pub thread: [u8; COMM_LEN],
    /// Process id of its parent, where the kernel tells.
    pub parent: Option<u32>,
    /// Id of its cgroup (version 2), where the kernel tells.
    pub cgroup: Option<u64>,
    /// How this is known.
    pub source: OwnerSource,
}

/// What a socket had counted when it was closed; each where the kernel tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Why it ended: a positive errno, 0 where there was no error (`sk_err`).
    pub error: Option<i32>,
    /// Bytes of data that went out at least once, each once: found out from
    /// `sent` when the connection has ended.
    pub bytes_sent: Option<u64>,
    /// What `bytes_sent` is found out from.
    pub sent: Option<Sent>,
    /// Bytes of data that were sent again (`bytes_retrans`).
    pub bytes_retransmitted: Option<u64>,
    /// Segments that were sent again, of whatever kind (`total_retrans`): a
    /// child begins with the SYN+ACKs.
    pub retransmits: Option<u32>,
    /// Bytes of data received in order.
    pub bytes_received: Option<u64>,
    /// Whether the peer's FIN came (`SOCK_DONE`).
    pub fin_received: Option<bool>,
    /// Segments sent, also without data.
    pub segments_sent: Option<u32>,
    /// Segments received, likewise.
    pub segments_received: Option<u32>,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: Option<u32>,
    /// The least round-trip time lately, in microseconds.
    pub min_rtt_us: Option<u32>,
    /// Whether a process had it, then: it was accepted and not yet closed
    /// (`sk_socket`).
    pub has_socket: Option<bool>,
    /// Whether the kernel's table of time-wait sockets had room
    /// (`tcp_max_tw_buckets`).
    pub time_wait_room: Option<bool>,
}

/// Sequence numbers of what was sent: each byte of data, the SYN and the FIN take
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Acknowledged (`bytes_acked`): with the SYN of who opened it, and with the
    /// FIN, as far as these were.
    pub acked: u64,
    /// Sent and not acknowledged (`snd_nxt - snd_una`), likewise.
    pub in_flight: u32,
    /// Written and not yet sent (`write_seq - snd_nxt`), likewise.
    pub unsent: u32,
    /// Bytes of data that were handed to the network, each once, also where that
    /// failed (`bytes_sent - bytes_retrans`).
    pub handed: Option<u64>,
}

/// What makes the kernel send a segment again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resending {
    /// Nothing was acknowledged until the timer ran out.
    Timeout,
    /// What the peer has acknowledged says that it is lost.
    Fast,
    /// The last of what was sent is not acknowledged: a probe, before the timer.
    TailLossProbe,
}

impl Resending {
    /// Its name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Resending::Timeout => "timeout",
            Resending::Fast => "fast",
            Resending::TailLossProbe => "tail_loss_probe",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The socket went from one state to another.
    State {
        /// Before.
        old: State,
        /// After.
        new: State,
    },
    /// A segment was sent again, or failed to be.
    Retransmit {
        /// The socket's state, where the kernel says it (4.20 and later, or by
        /// BTF), or its connection is known to be in it.
        state: Option<State>,
        /// Why it could not be sent: a positive errno. `None` where it was
        /// sent, or where the kernel doesn't tell (before 6.17).
        error: Option<i32>,
        /// Segments that the socket has sent again by now, of whatever kind
        /// (`total_retrans`); one event may be of several.
        total: Option<u32>,
        /// What made the kernel send it, where the socket tells.
        kind: Option<Resending>,
    },
    /// A SYN+ACK was sent again. The socket is the listener's: the connection
    /// has none yet. The ends are the connection's.
    SynAck,
    /// A reset was sent. The ends are not known.
    ResetSent {
        /// Why: a number of the kernel's `enum sk_rst_reason` (6.10 and later).
        reason: Option<u32>,
    },
    /// A reset was received.
    ResetReceived,
    /// The socket was accepted, or first read from, by its owner.
    Accepted,
    /// The kernel let go of the socket: nothing more will come of it. The ends
    /// are not known.
    Destroyed {
        /// What the kernel's message about it is known by; see [`Destroyed`].
        cookie: u64,
    },
}

/// What the kernel says of a socket that it destroyed (sock_diag's multicast).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destroyed {
    /// The socket's cookie: unique while the host runs.
    pub cookie: u64,
    /// What it had counted; [`Counters::bytes_received`] still with the peer's
    /// FIN, if it came. [`Counters::error`] and [`Counters::fin_received`] are
    /// not told.
    pub counters: Counters,
    /// Bytes received that no process read, the peer's FIN counting as one.
    pub unread: u32,
}

/// One event of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC in nanoseconds, when the event happened.
    pub time: u64,
    /// The CPU it happened on.
    pub cpu: u32,
    /// The kernel's address of the socket: the same for all its events, and
    /// used again for another socket later. Never printed.
    pub socket: u64,
    /// The task on the CPU. In softirq it is whatever was interrupted.
    pub on_cpu: Task,
    /// Whose socket it is, where that is known for sure.
    pub owner: Option<Owner>,
    /// Its network namespace: the inode number of /proc/PID/ns/net, where the
    /// kernel tells.
    pub netns: Option<u32>,
    /// What happened.
    pub what: What,
    /// This end.
    pub local: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// IP version on the wire.
    pub wire: Wire,
    /// What it had counted, at a change to CLOSE.
    pub counters: Counters,
    /// Whether it is the last that is told of its connection, which the filter
    /// in the kernel refuses.
    pub last: bool,
}

impl Event {
    /// An event of nothing, in whose place others are read.
    pub fn blank() -> Event {
        let addr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let end = Endpoint { addr, port: 0 };
        Event {
            time: 0,
            cpu: 0,
            socket: 0,
            on_cpu: Task::default(),
            owner: None,
            netns: None,
            what: What::ResetReceived,
            local: end,
            peer: end,
            wire: Wire::Ipv6,
            counters: Counters::default(),
            last: false,
        }
    }

    /// Whether it is shown in a line of its own: a change or a retransmission.
    /// The others only tell more of their connection.
    #[inline]
    pub fn is_line(&self) -> bool {
        matches!(
            self.what,
            What::State { .. } | What::Retransmit { .. } | What::SynAck
        )
    }

    /// Whether it is the first event of a socket's connection, or of a listener.
    #[inline]
    pub fn is_birth(&self) -> bool {
        matches!(
            self.what,
            What::State {
                old: State::Close,
                ..
            } | What::State {
                old: State::Listen,
                new: State::SynRecv
            }
        )
    }

    /// Whether it is a change from a state to the same one: close() upon a FIN
    /// that shutdown() has sent.
    #[inline]
    pub fn stays(&self) -> bool {
        matches!(self.what, What::State { old, new } if old == new)
    }

    /// Whether it is a change to CLOSE.
    #[inline]
    pub fn is_close(&self) -> bool {
        matches!(
            self.what,
            What::State {
                new: State::Close,
                ..
            }
        )
    }

    /// Whether an end is unspecified (0.0.0.0 or ::): listeners, and children
    /// that are not filled in yet.
    #[inline]
    pub fn is_noise(&self) -> bool {
        self.local.addr.is_unspecified() || self.peer.addr.is_unspecified()
    }
}
