//! BTF files made for tests: as they come, and as a kernel's that has what the
//! programs want.

use super::programs::program;
use nix::sys::memfd::MFdFlags;
use socket_snoop::bpf_link::{Host, HostField};
use socket_snoop::btf::{Btf, BtfTracepoint};
use socket_snoop::programs;
use std::fs::File;
use std::os::unix::fs::FileExt;

pub const INT: u32 = 1;
pub const PTR: u32 = 2;
pub const ARRAY: u32 = 3;
pub const STRUCT: u32 = 4;
pub const UNION: u32 = 5;
pub const ENUM: u32 = 6;
pub const TYPEDEF: u32 = 8;
pub const VOLATILE: u32 = 9;
pub const CONST: u32 = 10;
pub const FUNC: u32 = 12;
pub const PROTO: u32 = 13;

/// A BTF file as it grows.
#[derive(Clone, Default)]
pub struct Builder {
    pub types: Vec<u32>,
    pub strings: Vec<u8>,
    pub count: u32,
}

impl Builder {
    pub fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes());
        self.strings.push(0);
        at
    }

    pub fn add(&mut self, name: &str, info: u32, last: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        self.types.extend([name, info, last]);
        self.types.extend(rest);
        self.count += 1;
        self.count
    }

    pub fn of(&mut self, kind: u32, name: &str, last: u32) -> u32 {
        self.add(name, kind << 24, last, &[])
    }

    pub fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.add(name, INT << 24, bytes, &[bytes * 8])
    }

    /// Members: name, type, offset in bits (with a bit field's size above bit 24).
    pub fn record(
        &mut self,
        kind: u32,
        name: &str,
        bytes: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let mut rest = Vec::new();
        for (name, of, offset) in members {
            rest.extend([self.name(name), *of, *offset]);
        }
        let info = 1 << 31 | kind << 24 | members.len() as u32;
        self.add(name, info, bytes, &rest)
    }

    pub fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let mut rest = Vec::new();
        for (name, number) in values {
            rest.extend([self.name(name), *number]);
        }
        self.add(name, ENUM << 24 | values.len() as u32, 4, &rest)
    }

    pub fn array(&mut self, of: u32, count: u32) -> u32 {
        self.add("", ARRAY << 24, 0, &[of, of, count])
    }

    pub fn tracepoint(&mut self, name: &str, arguments: &[u32]) -> u32 {
        let data = self.of(PTR, "", 0);
        let mut rest = vec![0, data];
        for argument in arguments {
            rest.extend([0, *argument]);
        }
        let info = PROTO << 24 | (arguments.len() as u32 + 1);
        let proto = self.add("", info, 0, &rest);
        let pointer = self.of(PTR, "", proto);
        self.of(TYPEDEF, &format!("btf_trace_{name}"), pointer)
    }

    pub fn function(&mut self, name: &str, returned: u32, parameters: &[u32]) -> u32 {
        let rest: Vec<u32> = parameters.iter().flat_map(|of| [0, *of]).collect();
        let info = PROTO << 24 | parameters.len() as u32;
        let proto = self.add("", info, returned, &rest);
        // Its linkage stands where others have a count.
        self.add(name, FUNC << 24 | 1, proto, &[])
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_in(false)
    }

    /// As on a host of this byte order.
    pub fn bytes_in(&self, big: bool) -> Vec<u8> {
        let word = |word: &u32| {
            if big {
                word.to_be_bytes()
            } else {
                word.to_le_bytes()
            }
        };
        let types: Vec<u8> = self.types.iter().flat_map(word).collect();
        let header = [
            // The magic number has two bytes; then come the version and flags, of one.
            if big { 0xeb9f_0100 } else { 0x0001_eb9f },
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            self.strings.len() as u32,
        ];
        let mut out: Vec<u8> = header.iter().flat_map(word).collect();
        out.extend(types);
        out.extend(&self.strings);
        out
    }

    pub fn parse(&self) -> Btf {
        Btf::parse(self.bytes()).expect("well-formed")
    }

    /// The same, but read piece by piece.
    pub fn file(&self) -> Btf {
        Btf::of_file(file(&self.bytes())).expect("well-formed")
    }
}

/// An open file that nobody else sees.
pub fn file(bytes: &[u8]) -> File {
    let file = nix::sys::memfd::memfd_create(c"btf", MFdFlags::MFD_CLOEXEC).expect("a memfd");
    let file = File::from(file);
    file.write_all_at(bytes, 0).expect("write to memory");
    file
}

/// Why that kernel sends resets.
pub const REASONS: [(u32, &str); 3] = [(0, "NOT_SPECIFIED"), (1, "NO_SOCKET"), (11, "MAX")];

/// What the programs want of a kernel.
pub struct Kernel {
    pub builder: Builder,
    pub int: u32,
    pub sock: u32,
}

pub fn kernel(ipv6: bool, error: bool) -> Kernel {
    let mut b = Builder::default();
    let (int, byte) = (b.int("int", 4), b.int("unsigned char", 1));
    let (half, word) = (b.int("short unsigned int", 2), b.int("unsigned int", 4));
    let be16 = b.of(TYPEDEF, "__be16", half);
    let be32 = b.of(TYPEDEF, "__be32", word);
    let state = b.of(VOLATILE, "", byte);
    let address = b.array(byte, 16);
    let in6_u = b.record(UNION, "", 16, &[("u6_addr8", address, 0)]);
    let in6 = b.record(STRUCT, "in6_addr", 16, &[("in6_u", in6_u, 0)]);
    let pair = [("skc_daddr", be32, 0), ("skc_rcv_saddr", be32, 32)];
    let addresses = b.record(STRUCT, "", 8, &pair);
    let either = b.record(UNION, "", 8, &[("", addresses, 0)]);
    let ports = b.record(
        STRUCT,
        "",
        4,
        &[("skc_dport", be16, 0), ("skc_num", be16, 16)],
    );
    let mut members = vec![
        ("", either, 0),
        ("", ports, 96),
        ("skc_family", half, 128),
        ("skc_state", state, 144),
        ("skc_reuse", byte, 152 | 4 << 24),
    ];
    if ipv6 {
        members.extend([("skc_v6_daddr", in6, 192), ("skc_v6_rcv_saddr", in6, 320)]);
    }
    let common = b.record(STRUCT, "sock_common", 64, &members);
    let sock = b.record(
        STRUCT,
        "sock",
        512,
        &[("__sk_common", common, 0), ("sk_protocol", half, 1024)],
    );
    let inet_members = [
        ("sk", sock, 0),
        ("inet_saddr", be32, 4128),
        ("inet_sport", be16, 4176),
    ];
    let inet = b.record(STRUCT, "inet_sock", 600, &inet_members);
    let connection = b.record(
        STRUCT,
        "inet_connection_sock",
        700,
        &[("icsk_inet", inet, 0)],
    );
    b.record(STRUCT, "tcp_sock", 900, &[("inet_conn", connection, 0)]);
    let constant = b.of(CONST, "", sock);
    let pointer = b.of(PTR, "", constant);
    let constant_int = b.of(CONST, "", int);
    let reasons = REASONS.map(|(number, name)| (format!("SK_RST_REASON_{name}"), number));
    let reasons = reasons
        .each_ref()
        .map(|(name, number)| (name.as_str(), *number));
    b.enumeration("sk_rst_reason", &reasons);
    b.tracepoint(
        "inet_sock_set_state",
        &[pointer, constant_int, constant_int],
    );
    let mut arguments = vec![pointer, pointer];
    arguments.extend(error.then_some(int));
    b.tracepoint("tcp_retransmit_skb", &arguments);
    Kernel {
        builder: b,
        int,
        sock,
    }
}

pub fn at(offset: u16, size: u16) -> Option<HostField> {
    Some(HostField { offset, size })
}

/// A host with every map that has what BTF tells.
pub struct OnBtf<'a>(pub BtfTracepoint<'a>);

impl Host for OnBtf<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        self.0.field(name)
    }
    fn map_fd(&self, _: &str) -> Option<i32> {
        Some(3)
    }
    fn hidden(&self) -> u16 {
        0
    }
}

/// Links both programs that must be had; how many instructions they have.
pub fn link(btf: &Btf) -> Vec<usize> {
    let templates = [programs::STATE_BTF, programs::RETRANSMIT_BTF].map(program);
    templates
        .iter()
        .map(|template| {
            let tracepoint = btf.tracepoint(&template.event).expect(&template.event);
            let insns = template.link(&OnBtf(tracepoint)).expect(&template.event);
            insns.len()
        })
        .collect()
}
