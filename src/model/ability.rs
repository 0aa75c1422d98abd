//! What a host may give or not: one vocabulary for all who ask.
//!
//! Contract: decoding, the lives of connections, start-up notes, `--check` and
//! errors speak of the same set. Why a host lacks one is told beside it (see
//! [`crate::capture::given`]).

use bitflags::bitflags;

bitflags! {
    /// Abilities: what a host gives, what a run wants, or what a program may use.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Abilities: u32 {
        /// `sk_lock.owned`: whether the task on the CPU holds the socket. Without
        /// it, who closed a connection that was never accepted can't be told.
        const LOCK = 1 << 0;
        /// The network namespace of a socket.
        const NETNS = 1 << 1;
        /// The owner's parent.
        const PARENT = 1 << 2;
        /// The owner's cgroup, by the helper bpf_get_current_cgroup_id
        /// (CONFIG_CGROUPS).
        const CGROUP = 1 << 3;
        /// `sk_err`: the error that ended a connection.
        const SOCKET_ERROR = 1 << 4;
        /// `bytes_sent` and `bytes_retrans`
        const BYTES_SENT = 1 << 5;
        /// `bytes_received` and `sk_flags`
        const BYTES_RECEIVED = 1 << 6;
        /// `segs_out`
        const SEGMENTS_SENT = 1 << 7;
        /// `segs_in`
        const SEGMENTS_RECEIVED = 1 << 8;
        /// `srtt_us`
        const RTT = 1 << 9;
        /// `rtt_min`
        const MIN_RTT = 1 << 10;
        /// All of these: what a connection has counted, read at its end.
        const COUNTERS = 0x3f << 5;
        /// `sk_socket`
        const SOCKET = 1 << 11;
        /// `bytes_acked`, `snd_una`, `snd_nxt` and `write_seq`
        const SENT = 1 << 12;
        /// `total_retrans`
        const RETRANSMITS = 1 << 13;
        /// The kernel's count of time-wait sockets and its limit
        const TIME_WAIT = 1 << 14;
        /// The user of an owner that is not on the CPU, at the first and last
        /// event: by the address of its process's first thread. Where members are
        /// read by plain loads, an address from a map can't be followed.
        const USERS = 1 << 15;
        /// Retransmissions that could not be sent.
        const FAILED_RETRANSMISSIONS = 1 << 16;
        /// Retransmissions of SYN+ACKs.
        const SYNACKS = 1 << 17;
        /// Resets sent.
        const RESETS_SENT = 1 << 18;
        /// Why they were sent.
        const RESET_REASONS = 1 << 19;
        /// Resets received.
        const RESETS_RECEIVED = 1 << 20;
        /// The process that accepts a connection, when it does.
        const ACCEPTS = 1 << 21;
        /// The first read of a socket, as if it were the accept.
        const READS = 1 << 22;
        /// What the kernel says of a socket when it destroys it, which has its
        /// counters where they can't be read.
        const DESTROYS = 1 << 23;
        /// How many events the kernel keeps from the programs: a program on a
        /// tracepoint's record counts its runs (see [`crate::bpf::misses`]).
        const MISSES = 1 << 24;
        /// Rings as large as they are wanted.
        const RINGS = 1 << 25;
        /// What belongs to a socket is told once (see [`crate::bpf::cards`]).
        const CARDS = 1 << 26;
        /// The name of the task on the CPU, at each event: then nothing is told
        /// once.
        const ON_CPU = 1 << 27;
        /// `icsk_ca_state` and `icsk_pending`: what makes the kernel send again.
        const RESENDING = 1 << 28;
        /// Members are read by plain loads, not by the kernel's helper, which costs
        /// several times as much.
        const LOADS = 1 << 29;
        /// Changes of state that tell nothing new wait for the end of their connection
        /// (see [`crate::bpf::held`]).
        const HELD = 1 << 30;
    }
}

/// What they are, to a person.
const NAMES: [(Abilities, &str); 15] = [
    (Abilities::RINGS, "rings as large as wanted"),
    (Abilities::FAILED_RETRANSMISSIONS, "failed retransmissions"),
    (Abilities::SYNACKS, "retransmitted SYN+ACKs"),
    (Abilities::RESETS_SENT, "resets sent"),
    (Abilities::RESET_REASONS, "the reasons of resets"),
    (Abilities::RESETS_RECEIVED, "resets received"),
    (Abilities::ACCEPTS, "who accepts"),
    (Abilities::READS, "first reads"),
    (Abilities::LOCK, "owners by the socket's lock"),
    (Abilities::NETNS, "network namespaces"),
    (Abilities::PARENT, "owners' parents"),
    (Abilities::CGROUP, "cgroups"),
    (Abilities::SOCKET_ERROR, "the socket's error"),
    (Abilities::COUNTERS, "bytes, segments and RTT"),
    (Abilities::MISSES, "a count of events that are passed by"),
];

impl Abilities {
    /// What it is, to a person; of a set, the first of what it holds.
    pub fn name(self) -> &'static str {
        let mut named = NAMES.iter().filter(|(of, _)| self.intersects(*of));
        named.next().map_or("details", |(_, name)| name)
    }
}
