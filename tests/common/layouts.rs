//! The layouts that kernels have had of what the programs read, and hosts made
//! of them.

use super::programs::program;
use socket_snoop::bpf_link::{Cast, Host, HostField};
use socket_snoop::programs::{self, Name};
use socket_snoop::tracepoint::Format;
use std::fs;
use std::path::Path;

/// Maps as the programs name them; their descriptors count from 3.
pub const MAPS: [&str; 8] = [
    "events",
    "lost",
    "owners",
    "listeners",
    "ports",
    "nets",
    "guard",
    // `owners`, where it has room for changes that are held.
    "room",
];

/// A host: fields as (name, offset, size).
pub struct Fields<'a> {
    /// What the record or the arguments have.
    pub record: &'a [(&'a str, u16, u16)],
    /// The members of kernel structures that are known.
    pub members: &'a [(&'a str, u16, u16)],
    /// Whether it is reached by BTF: members are loaded.
    pub loads: bool,
}

/// By this member a host says that the kernel makes pointers of addresses.
pub const LOADS: &str = "helper.loads";

/// The numbers of the structures that the programs look at, and of the kernel's function, on a host with Linux 6.18.
pub fn cast(structure: &str) -> Option<Cast> {
    let numbers = [
        ("task_struct", 114),
        ("cred", 530),
        ("net", 1767),
        ("inet_timewait_death_row", 2663),
        ("sock", 2953),
        ("request_sock", 3840),
        ("tcp_sock", 36752),
    ];
    let found = numbers.iter().find(|(name, _)| *name == structure)?;
    Some(Cast {
        function: 65486,
        structure: found.1,
    })
}

impl<'a> Fields<'a> {
    /// A host with this record that knows nothing else.
    pub fn new(record: &'a [(&'a str, u16, u16)]) -> Fields<'a> {
        Fields {
            record,
            members: &[],
            loads: false,
        }
    }
}

impl Host for Fields<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        let mut all = self.record.iter().chain(self.members);
        let found = all.find(|(field, _, _)| *field == name)?;
        Some(HostField {
            offset: found.1,
            size: found.2,
        })
    }
    fn map_fd(&self, name: &str) -> Option<i32> {
        let name = match self.field("helper.room") {
            Some(_) if name == "owners" => "room",
            _ => name,
        };
        let place = MAPS.iter().position(|map| *map == name)?;
        Some(3 + place as i32)
    }
    fn cast(&self, structure: &str) -> Option<Cast> {
        let known = self.members.iter().any(|member| member.0 == LOADS);
        known.then(|| cast(structure)).flatten()
    }
    fn hidden(&self) -> u16 {
        if self.loads { 0 } else { 8 }
    }
    fn loads_members(&self) -> bool {
        self.loads
    }
}

pub type Layout = [(&'static str, u16, u16)];

/// The record of a program's tracepoint on every kernel whose `format` files are
/// kept, the fields that the program knows of alone.
pub fn recorded(name: Name) -> Vec<Vec<(&'static str, u16, u16)>> {
    let template = program(name);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats");
    let mut all = Vec::new();
    for kernel in fs::read_dir(root).expect("tests/data/formats") {
        let file = format!("{}/{}.format", template.group, template.event);
        let Ok(text) = fs::read(kernel.expect("a folder").path().join(file)) else {
            continue;
        };
        let format = Format::parse(&text).expect("a format");
        let place = |name: &'static str| {
            let field = format.field(name)?;
            Some((name, field.offset, field.size))
        };
        let names = template.fields.iter().map(|field| field.name.as_str());
        all.push(names.filter_map(place).collect());
    }
    all
}

/// sock:inet_sock_set_state from 5.6, and with 8 bytes more before the first field (real-time kernels, RHEL 9).
pub const STATE_NEW: [(&str, u16, u16); 11] = state(0, 2);
pub const STATE_RT: [(&str, u16, u16); 11] = state(8, 2);
/// Before 5.6: `protocol` of one byte, and everything behind it at odd places.
pub const STATE_OLD: [(&str, u16, u16); 11] = state(0, 1);

pub const fn state(more: u16, protocol: u16) -> [(&'static str, u16, u16); 11] {
    let behind = more + 30 + protocol;
    [
        ("skaddr", 8 + more, 8),
        ("oldstate", 16 + more, 4),
        ("newstate", 20 + more, 4),
        ("sport", 24 + more, 2),
        ("dport", 26 + more, 2),
        ("family", 28 + more, 2),
        ("protocol", 30 + more, protocol),
        ("saddr", behind, 4),
        ("daddr", behind + 4, 4),
        ("saddr_v6", behind + 8, 16),
        ("daddr_v6", behind + 24, 16),
    ]
}

/// A record with the socket, its two ports and its two addresses at these places, and what else it has.
macro_rules! record {
    ($socket:literal, $ports:literal, $addresses:literal $(, $more:expr)*) => {
        &[
            ("skaddr", $socket, 8),
            ("sport", $ports, 2),
            ("dport", $ports + 2, 2),
            ("saddr_v6", $addresses, 16),
            ("daddr_v6", $addresses + 16, 16),
            $($more),*
        ]
    };
}

/// tcp:tcp_retransmit_skb before 4.20 (no state), to 5.11 (no family), to 6.16 (no err), from 6.17, and real-time.
pub const RETRANSMIT_416: &Layout = record!(16, 24, 36, ("skbaddr", 8, 8));
pub const RETRANSMIT_510: &Layout = record!(16, 28, 40, ("state", 24, 4));
pub const RETRANSMIT_61: &Layout = record!(16, 28, 42, ("state", 24, 4), ("family", 32, 2));
pub const RETRANSMIT_618: &Layout = record!(
    16,
    28,
    42,
    ("state", 24, 4),
    ("family", 32, 2),
    ("err", 76, 4)
);
pub const RETRANSMIT_RT: &Layout = record!(24, 36, 50, ("state", 32, 4), ("family", 40, 2));

/// tcp:tcp_retransmit_synack before 5.12 (no family), and from then on.
pub const SYNACK_510: &Layout = record!(8, 24, 36);
pub const SYNACK_618: &Layout = record!(8, 24, 38, ("family", 28, 2));
/// tcp:tcp_send_reset before 6.10 (no reason), and from then on.
pub const RESET_SENT_61: &Layout = &[("skaddr", 16, 8)];
pub const RESET_SENT_618: &Layout = &[("skaddr", 16, 8), ("reason", 28, 4)];
/// tcp:tcp_receive_reset and tcp:tcp_rcv_space_adjust before 5.12 (no family), and from then on.
pub const SOCKET_510: &Layout = record!(8, 16, 28);
pub const SOCKET_618: &Layout = record!(8, 16, 30, ("family", 20, 2));

const DESTROY: &Layout = &[("skaddr", 8, 8), ("sock_cookie", 64, 8)];
const DESTROY_RT: &Layout = &[("skaddr", 16, 8), ("sock_cookie", 72, 8)];

/// Arguments of the tracepoints by BTF, and of a function with two at its return.
const ARGUMENTS: &Layout = &[("arg0.ptr", 0, 8), ("arg1.int", 8, 8), ("arg2.int", 16, 8)];
const ARGUMENTS_SYNACK: &Layout = &[("arg0.ptr", 0, 8), ("arg1.ptr", 8, 8)];
const ARGUMENTS_RESET: &Layout = &[("arg0.ptr", 0, 8), ("arg2.enum", 16, 8)];
const ARGUMENTS_RESET_61: &Layout = &[("arg0.ptr", 0, 8)];
const ARGUMENTS_RETRANSMIT_61: &Layout = &[("arg0.ptr", 0, 8)];
pub const RETURN: &Layout = &[("arg0.ptr", 0, 8), ("ret.ptr", 16, 8)];

/// Where Linux 6.18 has the members that programs can do without, and where the table of time-wait sockets was before.
pub const MEMBERS: &Layout = &[
    ("helper.cards", 0, 8),
    ("helper.cgroup_id", 0, 8),
    ("helper.count_runs", 0, 8),
    ("helper.leaders", 0, 8),
    (LOADS, 0, 8),
    ("cred.uid.val", 8, 4),
    ("task_struct.group_leader", 1328, 8),
    ("task_struct.real_cred", 1728, 8),
    ("task_struct.cred", 1736, 8),
    ("net.ns.inum", 176, 4),
    ("sock.__sk_common.skc_bound_dev_if", 20, 4),
    ("sock.__sk_common.skc_flags", 96, 8),
    ("sock.__sk_common.skc_net.net", 48, 8),
    ("sock.sk_err", 284, 4),
    ("sock.sk_lock.owned", 324, 4),
    ("sock.sk_shutdown", 575, 1),
    ("task_struct.comm", 1752, 16),
    ("task_struct.flags", 44, 4),
    ("task_struct.real_parent", 1280, 8),
    ("task_struct.tgid", 1268, 4),
    ("inet_timewait_death_row.sysctl_max_tw_buckets", 72, 4),
    ("inet_timewait_death_row.tw_refcount.refs.counter", 0, 4),
    ("net.ipv4.tcp_death_row", 896, 8),
    ("net.ipv4.tcp_death_row.sysctl_max_tw_buckets", 968, 4),
    ("net.ipv4.tcp_death_row.tw_count.counter", 896, 4),
    ("net.ipv4.tcp_death_row.tw_refcount.refs.counter", 896, 4),
    ("sock.__sk_common.skc_num", 14, 2),
    ("sock.__sk_common.skc_state", 18, 1),
    ("sock.sk_socket", 288, 8),
    ("tcp_sock.bytes_acked", 1824, 8),
    ("tcp_sock.snd_nxt", 1668, 4),
    ("tcp_sock.snd_una", 1672, 4),
    ("tcp_sock.total_retrans", 2200, 4),
    ("tcp_sock.inet_conn.icsk_ca_state.bits", 1248, 1),
    ("tcp_sock.inet_conn.icsk_pending", 1250, 1),
    ("tcp_sock.write_seq", 1576, 4),
    ("tcp_sock.bytes_received", 1752, 8),
    ("tcp_sock.rcv_nxt", 1688, 4),
    ("tcp_sock.rcvq_space.seq", 1852, 4),
    ("tcp_sock.bytes_retrans", 2192, 8),
    ("tcp_sock.bytes_sent", 1544, 8),
    ("tcp_sock.rtt_min.s.v", 1500, 4),
    ("tcp_sock.segs_in", 1760, 4),
    ("tcp_sock.segs_out", 1536, 4),
    ("tcp_sock.srtt_us", 1680, 4),
    ("tcp_sock.tsorted_sent_queue.next", 1816, 8),
    ("sock.__sk_common.skc_v6_daddr", 56, 16),
    ("sock.__sk_common.skc_v6_rcv_saddr", 72, 16),
    ("request_sock.__req_common.skc_v6_daddr", 56, 16),
    ("request_sock.__req_common.skc_v6_rcv_saddr", 72, 16),
];

/// What stands for changes of state that are held back, and for the room for them, which is there without that, too.
pub const HOLD: &Layout = &[("helper.hold", 0, 8), ("helper.room", 0, 8)];

/// And those that programs by BTF can't do without.
pub const NEEDED: &Layout = &[
    ("sock.__sk_common.skc_daddr", 0, 4),
    ("sock.__sk_common.skc_dport", 12, 2),
    ("sock.__sk_common.skc_family", 16, 2),
    ("sock.__sk_common.skc_state", 18, 1),
    ("tcp_sock.inet_conn.icsk_inet.inet_saddr", 808, 4),
    ("tcp_sock.inet_conn.icsk_inet.inet_sport", 814, 2),
    ("request_sock.__req_common.skc_daddr", 0, 4),
    ("request_sock.__req_common.skc_dport", 12, 2),
    ("request_sock.__req_common.skc_family", 16, 2),
    ("request_sock.__req_common.skc_num", 14, 2),
    ("request_sock.__req_common.skc_rcv_saddr", 4, 4),
];

/// Every program that reads records, with every layout that its record has had.
pub const BY_RECORD: [(Name, &[&Layout]); 8] = [
    (programs::STATE, &[&STATE_NEW, &STATE_RT, &STATE_OLD]),
    (
        programs::RETRANSMIT,
        &[
            RETRANSMIT_416,
            RETRANSMIT_510,
            RETRANSMIT_61,
            RETRANSMIT_618,
            RETRANSMIT_RT,
        ],
    ),
    (programs::SYNACK, &[SYNACK_510, SYNACK_618]),
    (programs::RESET_SENT, &[RESET_SENT_61, RESET_SENT_618]),
    (programs::RESET_RECEIVED, &[SOCKET_510, SOCKET_618]),
    (programs::RCV_SPACE, &[SOCKET_510, SOCKET_618]),
    (programs::DESTROY, &[DESTROY, DESTROY_RT]),
    (programs::COUNT, &[&[]]),
];

/// Every program by BTF, with every list of arguments.
pub const BY_BTF: [(Name, &[&Layout]); 7] = [
    (programs::STATE_BTF, &[ARGUMENTS]),
    (
        programs::RETRANSMIT_BTF,
        &[ARGUMENTS, ARGUMENTS_RETRANSMIT_61],
    ),
    (programs::SYNACK_BTF, &[ARGUMENTS_SYNACK]),
    (
        programs::RESET_SENT_BTF,
        &[ARGUMENTS_RESET, ARGUMENTS_RESET_61],
    ),
    (programs::RESET_RECEIVED_BTF, &[ARGUMENTS_RESET]),
    (programs::RCV_SPACE_BTF, &[ARGUMENTS]),
    (programs::ACCEPT, &[RETURN]),
];
