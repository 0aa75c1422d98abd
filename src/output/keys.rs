//! The keys of JSON objects: one table of what each is called, what it holds, in
//! which events it comes and what it means.
//!
//! Contract: a row makes the constant that the writer puts out, as one piece with
//! its quotes, comma and colon, and that only takes a value of its type. The
//! tables in docs/ and schema/ are made of the same rows by the tests here, which
//! fail where they differ; the rest of a row is not in the program. No key is a
//! prefix of another one, so that all can be stored as nested objects together.

#[cfg(test)]
mod tests;

use crate::sys::append::append;
use std::marker::PhantomData;

/// A key whose value is a `T`: `,"name":`, with what such a value begins with.
#[derive(Debug)]
pub(crate) struct Key<T>(&'static str, PhantomData<T>);

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> Key<T> {
    /// Appends it behind another member.
    pub(crate) fn next(self, out: &mut Vec<u8>) {
        append(out, self.0.as_bytes());
    }

    /// Begins an object with it.
    pub(crate) fn first(self, out: &mut Vec<u8>) {
        let start = out.len();
        self.next(out);
        if let Some(comma) = out.get_mut(start) {
            *comma = b'{';
        }
    }
}

impl<T> Key<T> {
    /// What [`Key::next`] appends.
    pub(crate) const fn text(&self) -> &'static str {
        self.0
    }
}

/// Bytes of these in all.
pub(super) const fn length(parts: &[&str]) -> usize {
    let (mut len, mut part) = (0, 0);
    while part < parts.len() {
        len += parts[part].len();
        part += 1;
    }
    len
}

/// These one after the other, and what of `N` is left; that is their [`length`] or more.
pub(super) const fn join<const N: usize>(parts: &[&str]) -> [u8; N] {
    let (mut all, mut len, mut part) = ([0; N], 0, 0);
    while part < parts.len() {
        let bytes = parts[part].as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            all[len] = bytes[at];
            (len, at) = (len + 1, at + 1);
        }
        part += 1;
    }
    all
}

/// Strings.
#[derive(Debug)]
pub(crate) enum Text {}

/// Whole numbers that aren't negative.
#[derive(Debug)]
pub(crate) enum Number {}

/// `true` and `false`.
#[derive(Debug)]
pub(crate) enum Boolean {}

/// Strings in an array.
#[derive(Debug)]
pub(crate) enum Texts {}

/// Objects in an array.
#[derive(Debug)]
pub(crate) enum Objects {}

/// An object whose keys are states and whose values are numbers.
#[derive(Debug)]
pub(crate) enum ByState {}

/// In which objects a key comes.
#[cfg(test)]
pub(crate) mod within {
    pub(crate) const TCP_STATE: u16 = 1;
    pub(crate) const TCP_RETRANSMIT: u16 = 1 << 1;
    pub(crate) const TCP_RETRANSMIT_FAILED: u16 = 1 << 2;
    pub(crate) const CONNECTION: u16 = 1 << 3;
    pub(crate) const LOST: u16 = 1 << 4;
    pub(crate) const SUMMARY: u16 = 1 << 5;
    pub(crate) const CHECK: u16 = 1 << 6;
    pub(crate) const CHECK_RESULT: u16 = 1 << 7;
    /// In an object of `busiest.processes`.
    pub(crate) const BUSIEST_PROCESS: u16 = 1 << 8;
    /// In an object of `busiest.peers`.
    pub(crate) const BUSIEST_PEER: u16 = 1 << 9;
    /// A record of a connection that is still open.
    pub(crate) const OPEN: u16 = 1 << 10;

    /// What stands in several of them.
    pub(crate) const RETRANSMISSIONS: u16 = TCP_RETRANSMIT | TCP_RETRANSMIT_FAILED;
    pub(crate) const EVENTS: u16 = TCP_STATE | RETRANSMISSIONS;
    /// Records of connections.
    pub(crate) const RECORDS: u16 = CONNECTION | OPEN;
    pub(crate) const CONNECTIONS: u16 = EVENTS | RECORDS;
    pub(crate) const RUN: u16 = CONNECTIONS | LOST | SUMMARY;
    pub(crate) const ALL: u16 = RUN | CHECK | CHECK_RESULT;
    pub(crate) const BUSIEST: u16 = BUSIEST_PROCESS | BUSIEST_PEER;

    /// The objects by their `event.name`.
    pub(crate) const NAMES: [(u16, &str); 9] = [
        (TCP_STATE, "tcp_state"),
        (TCP_RETRANSMIT, "tcp_retransmit"),
        (TCP_RETRANSMIT_FAILED, "tcp_retransmit_failed"),
        (CONNECTION, "connection"),
        (OPEN, "connection.open"),
        (LOST, "lost"),
        (SUMMARY, "summary"),
        (CHECK, "check"),
        (CHECK_RESULT, "check_result"),
    ];

    /// The objects in arrays, by the key of the array.
    pub(crate) const INSIDE: [(u16, &str); 2] = [
        (BUSIEST_PROCESS, "busiest.processes"),
        (BUSIEST_PEER, "busiest.peers"),
    ];
}

/// A row of the table, for who describes the keys.
#[cfg(test)]
pub(crate) struct Row {
    pub(crate) key: &'static str,
    /// The name of the type above.
    pub(crate) of: &'static str,
    /// Where it always comes, and where it is left out if it isn't known or there
    /// is none: bits of [`within`].
    pub(crate) always: u16,
    pub(crate) known: u16,
    pub(crate) meaning: &'static str,
}

/// What a value of a type begins with.
macro_rules! begins {
    (Text) => {
        "\""
    };
    (Texts) => {
        "["
    };
    (Objects) => {
        "["
    };
    ($other:ident) => {
        ""
    };
}

/// Makes the constants, and [`TABLE`] for the tests.
macro_rules! keys {
    ($($name:ident $of:ident $key:literal, $always:expr, $known:expr, $meaning:literal;)*) => {
        $(
            #[doc = concat!("`", $key, "`")]
            pub(crate) const $name: Key<$of> =
                Key(concat!(",\"", $key, "\":", begins!($of)), PhantomData);
        )*

        /// All keys, in the order of docs/json.md.
        #[cfg(test)]
        pub(crate) const TABLE: &[Row] = {
            use within::*;
            &[$(Row {
                key: $key,
                of: stringify!($of),
                always: $always,
                known: $known,
                meaning: $meaning,
            },)*]
        };
    };
}

// Constant, type, key, where it always comes, where it comes if it is known, meaning.
keys! {
    TIME Text "time", ALL, 0,
        "RFC 3339, UTC, nanoseconds: the kernel's time of the event";
    EVENT_NAME Text "event.name", ALL, 0,
        "`tcp_state`, `tcp_retransmit`, `tcp_retransmit_failed`, `connection`, `connection.open`, `lost` or `summary`; of `--check` `check` or `check_result`";
    NETWORK_LOCAL_ADDRESS Text "network.local.address", CONNECTIONS, 0,
        "this host's address";
    NETWORK_LOCAL_PORT Number "network.local.port", 0, CONNECTIONS,
        "absent while not chosen";
    NETWORK_PEER_ADDRESS Text "network.peer.address", CONNECTIONS | BUSIEST_PEER, 0,
        "the peer's address";
    NETWORK_PEER_PORT Number "network.peer.port", 0, CONNECTIONS,
        "absent while not known";
    NETWORK_TYPE Text "network.type", CONNECTIONS, 0,
        "on the wire: `ipv4` or `ipv6`";
    NETWORK_TRANSPORT Text "network.transport", CONNECTIONS, 0,
        "`tcp`";
    TCP_STATE_OLD Text "tcp.state.old", TCP_STATE, 0,
        "the kernel's name of the state left, such as `SYN_SENT`";
    TCP_STATE_NEW Text "tcp.state.new", TCP_STATE, 0,
        "the state entered";
    TCP_STATE_CURRENT Text "tcp.state.current", 0, RETRANSMISSIONS | OPEN,
        "the state it was in, where the kernel says so or events before it";
    TCP_TIME_WAIT Boolean "tcp.time_wait", 0, TCP_STATE | CONNECTION,
        "whether the kernel went to TIME_WAIT at the change to `CLOSE`: inferred, absent where it can't be told";
    TCP_RETRANSMIT_KIND Text "tcp.retransmit.kind", 0, TCP_RETRANSMIT,
        "what made the kernel send it again: `syn`, `timeout` (nothing was acknowledged in time), `fast` (the peer's acknowledgements say that it is lost) or `tail_loss_probe`; absent where BTF doesn't tell, of SYN+ACKs, and of what follows a timeout";
    TCP_RETRANSMIT_SEGMENTS Number "tcp.retransmit.segments", 0, TCP_RETRANSMIT,
        "segments that were sent again, since the connection's event before: where BTF tells, or it is one";
    ERROR_TYPE Text "error.type", TCP_RETRANSMIT_FAILED, 0,
        "why, such as `EBUSY`";
    SOCKET_ID Text "socket.id", CONNECTION, EVENTS | OPEN,
        "the same for all events of a socket; absent where it found no room (`connections_full`)";
    PROCESS_PID Number "process.pid", BUSIEST_PROCESS, CONNECTIONS,
        "the socket's owner: see [Whose socket it is](#whose-socket-it-is)";
    PROCESS_THREAD_ID Number "process.thread.id", 0, CONNECTIONS,
        "the thread that opened, accepted or closed it";
    PROCESS_NAME Text "process.name", 0, CONNECTIONS | BUSIEST_PROCESS,
        "the name of the process: that of its first thread";
    THREAD_NAME Text "thread.name", 0, CONNECTIONS,
        "the thread's name, in what it did itself";
    USER_ID Number "user.id", 0, CONNECTIONS,
        "its user at that moment, where that is known";
    PROCESS_PARENT_PID Number "process.parent_pid", 0, CONNECTIONS,
        "its parent's process id, where BTF allows";
    PROCESS_CGROUP_ID Text "process.cgroup.id", 0, CONNECTIONS,
        "its cgroup (version 2): a 64-bit number in decimal";
    CONTAINER_ID Text "container.id", 0, CONNECTIONS,
        "the innermost container that its cgroup is in: see [Containers](#containers)";
    CONTAINER_RUNTIME Text "container.runtime", 0, CONNECTIONS,
        "`docker`, `containerd`, `cri-o`, `podman` or `systemd-nspawn`, where the cgroup's name tells";
    K8S_NAMESPACE_NAME Text "k8s.namespace.name", 0, CONNECTIONS,
        "the pod's namespace, where this host has its logs";
    K8S_POD_NAME Text "k8s.pod.name", 0, CONNECTIONS,
        "the pod's name, likewise";
    K8S_POD_UID Text "k8s.pod.uid", 0, CONNECTIONS,
        "the unique id of the pod that its cgroup is in";
    OWNER_SOURCE Text "owner.source", CONNECTIONS, 0,
        "how the owner is known; `none` where it isn't";
    NETWORK_NAMESPACE Number "network.namespace", 0, CONNECTIONS,
        "inode number of the socket's `/proc/PID/ns/net`, where BTF allows";
    ON_CPU_PID Number "on_cpu.pid", 0, EVENTS,
        "process on the CPU at this moment, often a bystander; with `--on-cpu` only";
    ON_CPU_NAME Text "on_cpu.name", 0, EVENTS,
        "its name; likewise";
    CONNECTION_DIRECTION Text "connection.direction", RECORDS, 0,
        "`outgoing`, `incoming` or `unknown`";
    CONNECTION_EXISTED Boolean "connection.existed", 0, CONNECTION,
        "`true`: it was found [open before the start](#open-before-the-start)";
    CONNECTION_START Text "connection.start", 0, RECORDS,
        "when it began (RFC 3339); absent if that was before the trace";
    CONNECTION_DURATION_NS Number "connection.duration_ns", 0, RECORDS,
        "from its first state to CLOSE, or so far; absent like its start";
    CONNECTION_STATES_NS ByState "connection.states_ns", 0, CONNECTION,
        "time in each state that was seen from beginning to end, by the kernel's name";
    CONNECTION_CAUSE Text "connection.cause", CONNECTION, 0,
        "why it ended: see [The whole life](#the-whole-life)";
    TCP_CONNECT_NS Number "tcp.connect_ns", 0, RECORDS,
        "from SYN_SENT to ESTABLISHED";
    TCP_ACCEPT_DELAY_NS Number "tcp.accept_delay_ns", 0, RECORDS,
        "from ESTABLISHED to the accept, where accepts are seen";
    CONNECTION_END_SEEN Boolean "connection.end_seen", 0, CONNECTION,
        "`false` where the kernel let go of the socket before the peer's FIN came: see [The whole life](#the-whole-life)";
    TCP_RETRANSMITS_TOTAL Number "tcp.retransmits.total", 0, RECORDS | SUMMARY,
        "segments sent again, of whatever kind, where [it is known](#the-whole-life): the only one of a connection that began before the start, unless it is 0; in the summary those of all connections shown, as far as events told";
    TCP_RETRANSMITS_TOTAL_EVENTS Number "tcp.retransmits.total_events", 0, SUMMARY,
        "instead, the events, where of some the segments aren't known";
    TCP_RETRANSMITS_SYN Number "tcp.retransmits.syn", 0, CONNECTION,
        "SYNs sent again";
    TCP_RETRANSMITS_SYNACK Number "tcp.retransmits.synack", 0, CONNECTION,
        "SYN+ACKs sent again";
    TCP_RETRANSMITS_DATA Number "tcp.retransmits.data", 0, CONNECTION,
        "segments of data, and FINs, sent again";
    TCP_RETRANSMITS_DATA_EVENTS Number "tcp.retransmits.data_events", 0, CONNECTION,
        "events of these, where only they are known: one may be of many segments";
    TCP_RETRANSMITS_FAILED Number "tcp.retransmits.failed", 0, CONNECTION,
        "what could not be sent again (Linux 6.17 and later)";
    TCP_BYTES_SENT Number "tcp.bytes.sent", 0, RECORDS,
        "bytes of data that went out at least once, each once, where [it is known](#the-whole-life)";
    TCP_BYTES_RETRANSMITTED Number "tcp.bytes.retransmitted", 0, RECORDS,
        "bytes of data sent again, likewise";
    TCP_BYTES_RECEIVED Number "tcp.bytes.received", 0, RECORDS,
        "bytes of data received in order, likewise";
    TCP_SEGMENTS_SENT Number "tcp.segments.sent", 0, RECORDS,
        "segments sent, also without data, the SYN+ACK and those that an own firewall dropped among them, likewise; where BTF tells, without the reset that a close() sends";
    TCP_SEGMENTS_RECEIVED Number "tcp.segments.received", 0, RECORDS,
        "segments received, likewise; the SYN of an incoming connection is one of them, and counts once";
    TCP_RTT_US Number "tcp.rtt_us", 0, RECORDS,
        "smoothed round-trip time at the end, or now, likewise";
    TCP_MIN_RTT_US Number "tcp.min_rtt_us", 0, RECORDS,
        "the least round-trip time lately, likewise";
    INTERVAL_DURATION_NS Number "interval.duration_ns", 0, OPEN,
        "since the connection's record before, or its beginning: see [Still open](#still-open)";
    INTERVAL_BYTES_SENT Number "interval.bytes.sent", 0, OPEN,
        "bytes sent in that time";
    INTERVAL_BYTES_RECEIVED Number "interval.bytes.received", 0, OPEN,
        "bytes received in that time";
    INTERVAL_RETRANSMITS Number "interval.retransmits", 0, OPEN,
        "segments sent again in that time";
    TCP_RESET_REASON Text "tcp.reset.reason", 0, CONNECTION,
        "why this host sent the reset that ended it: the kernel's name";
    CPU_LOGICAL_NUMBER Number "cpu.logical_number", EVENTS, LOST,
        "the CPU; absent from a loss that belongs to none";
    LOST_COUNT Number "lost.count", LOST, 0,
        "how many events (or [lines](#slow-readers)) are missing";
    LOST_REASON Text "lost.reason", LOST, 0,
        "see [Loss](#loss)";
    EVENTS_TRANSPORT Text "events.transport", SUMMARY, 0,
        "how events were obtained: `tracepoint`, `btf` or `perf`; `recorded` where what is [read again](#reading-again) does not say";
    FILTER_EXPRESSION Text "filter.expression", 0, SUMMARY,
        "the filter in force at the end, where there is one: `events.shown`, `connections.shown` and the sums behind it are of what passed it";
    FILTER_CHANGES Number "filter.changes", 0, SUMMARY,
        "how many there were before it (SIGHUP); the sums are of what passed each in its time";
    FILTER_KEPT_AWAY Number "filter.kept_away", 0, SUMMARY,
        "events that it kept away in the kernel: they are in no other sum; absent where it can't";
    EVENTS_RECEIVED Number "events.received", SUMMARY, 0,
        "events that came from the kernel";
    EVENTS_SHOWN Number "events.shown", SUMMARY, 0,
        "of these, shown";
    CONNECTIONS_SEEN Number "connections.seen", SUMMARY, 0,
        "connections seen";
    CONNECTIONS_BIRTH_MISSED Number "connections.birth_missed", SUMMARY, 0,
        "of these, neither seen to open nor found at the start: `--no-snapshot`, or loss";
    CONNECTIONS_NOT_HELD Number "connections.not_held", SUMMARY, 0,
        "of these, let go because of `--history`";
    CONNECTIONS_UNTOUCHED Number "connections.untouched", SUMMARY, 0,
        "open before the start, matching the filter, and without any event; in none of the other sums";
    LOST_EVENTS Number "lost.events", SUMMARY, 0,
        "events lost in the whole run; also those that tell of an accept or a reset, and are not shown";
    LOST_CONSOLE_LINES Number "lost.console_lines", SUMMARY, 0,
        "lines that standard output lacks, though some count as shown: [Slow readers](#slow-readers)";
    LOST_CONNECTIONS Number "lost.connections", SUMMARY, 0,
        "connections that found no room: `connections_full`";
    LOST_LOG_LINES Number "lost.log_lines", SUMMARY, 0,
        "lines that the log lacks";
    CONNECTIONS_SHOWN Number "connections.shown", SUMMARY, 0,
        "records of connections shown";
    CONNECTIONS_OPENED Number "connections.opened", SUMMARY, 0,
        "of the connections shown: those whose beginning was seen";
    CONNECTIONS_ESTABLISHED Number "connections.established", SUMMARY, 0,
        "of these, answered: they were in ESTABLISHED";
    CONNECTIONS_REFUSED Number "connections.refused", SUMMARY, 0,
        "refused";
    CONNECTIONS_GIVEN_UP Number "connections.given_up", SUMMARY, 0,
        "never answered, and given up by the program; 0 where [that can't be told](#the-whole-life)";
    CONNECTIONS_RESET Number "connections.reset", SUMMARY, 0,
        "reset by either side";
    CONNECTIONS_OPEN Number "connections.open", SUMMARY, 0,
        "still open at the end";
    BUSIEST_PROCESSES Objects "busiest.processes", SUMMARY, 0,
        "the processes with the most connections, the busiest first";
    BUSIEST_PEERS Objects "busiest.peers", SUMMARY, 0,
        "the peers, likewise";
    CONNECTIONS_COUNT Number "connections.count", BUSIEST, 0,
        "how many it had";
    BUSIEST_EXACT_PROCESSES Boolean "busiest.exact.processes", 0, SUMMARY,
        "`false` where these counts may be too high";
    BUSIEST_EXACT_PEERS Boolean "busiest.exact.peers", 0, SUMMARY,
        "likewise";
    CHECK_SECTION Text "check.section", CHECK, 0,
        "`host`, `transport` (a way) or `feature`";
    CHECK_NAME Text "check.name", CHECK, 0,
        "what was looked at, as in the text";
    CHECK_VERDICT Text "check.verdict", CHECK, 0,
        "`yes`, `no`, `unknown`, or `fact` for a mere value";
    CHECK_EVIDENCE Text "check.evidence", 0, CHECK,
        "the value, or how it is known";
    CHECK_REMEDY Text "check.remedy", 0, CHECK,
        "what to do";
    CHECK_FIELDS_USED Texts "check.fields.used", 0, CHECK,
        "of a tracepoint: the fields that the programs read";
    CHECK_FIELDS_MISSING Texts "check.fields.missing", 0, CHECK,
        "of a tracepoint: those that this kernel has not";
    CHECK_OUTCOME Text "check.result", CHECK_RESULT, 0,
        "`all`, `degraded` or `cannot_run`";
    CHECK_EXIT_CODE Number "check.exit_code", CHECK_RESULT, 0,
        "0, 1 or 2";
    CHECK_TRANSPORT Text "check.transport", 0, CHECK_RESULT,
        "the way that a run takes";
    CHECK_ERROR Text "check.error", 0, CHECK_RESULT,
        "the error that a run would end with";
}
