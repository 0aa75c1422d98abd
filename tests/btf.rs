//! The BTF parser on files made here, well-formed and hostile, and on the
//! running kernel's; the BTF programs linked against them.

mod common;

use proptest::prelude::*;
use socket_snoop::bpf_link::{Host, HostField, Template};
use socket_snoop::btf::{self, Btf, BtfError, BtfTracepoint, Kind};
use socket_snoop::programs;
use std::fs;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const PROTO: u32 = 13;

/// A BTF file as it grows.
#[derive(Clone, Default)]
struct Builder {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
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

    fn add(&mut self, name: &str, info: u32, last: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        self.types.extend([name, info, last]);
        self.types.extend(rest);
        self.count += 1;
        self.count
    }

    fn of(&mut self, kind: u32, name: &str, last: u32) -> u32 {
        self.add(name, kind << 24, last, &[])
    }

    fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.add(name, INT << 24, bytes, &[bytes * 8])
    }

    /// Members: name, type, offset in bits (with a bit field's size above bit 24).
    fn record(&mut self, kind: u32, name: &str, bytes: u32, members: &[(&str, u32, u32)]) -> u32 {
        let mut rest = Vec::new();
        for (name, of, offset) in members {
            rest.extend([self.name(name), *of, *offset]);
        }
        let info = 1 << 31 | kind << 24 | members.len() as u32;
        self.add(name, info, bytes, &rest)
    }

    fn array(&mut self, of: u32, count: u32) -> u32 {
        self.add("", ARRAY << 24, 0, &[of, of, count])
    }

    fn tracepoint(&mut self, name: &str, arguments: &[u32]) -> u32 {
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

    fn bytes(&self) -> Vec<u8> {
        let types: Vec<u8> = self.types.iter().flat_map(|w| w.to_le_bytes()).collect();
        let header = [
            0x0001_eb9f,
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            self.strings.len() as u32,
        ];
        let mut out: Vec<u8> = header.iter().flat_map(|w| w.to_le_bytes()).collect();
        out.extend(types);
        out.extend(&self.strings);
        out
    }

    fn parse(&self) -> Btf {
        Btf::parse(self.bytes()).expect("well-formed")
    }
}

/// What the programs want of a kernel.
struct Kernel {
    builder: Builder,
    int: u32,
    sock: u32,
}

fn kernel(ipv6: bool, error: bool) -> Kernel {
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

fn at(offset: u16, size: u16) -> Option<HostField> {
    Some(HostField { offset, size })
}

#[test]
fn members_are_found_through_names_and_without() {
    let btf = kernel(true, true).builder.parse();
    for (path, field) in [
        ("sock.__sk_common.skc_daddr", at(0, 4)),
        ("sock.__sk_common.skc_rcv_saddr", at(4, 4)),
        ("sock.__sk_common.skc_num", at(14, 2)),
        ("sock.__sk_common.skc_family", at(16, 2)),
        ("sock.__sk_common.skc_state", at(18, 1)),
        ("sock.__sk_common.skc_v6_rcv_saddr", at(40, 16)),
        ("sock.sk_protocol", at(128, 2)),
        ("tcp_sock.inet_conn.icsk_inet.inet_sport", at(522, 2)),
        ("tcp_sock.inet_conn.icsk_inet.sk.sk_protocol", at(128, 2)),
        ("sock.__sk_common.skc_reuse", None),
        ("sock.__sk_common.skc_famil", None),
        ("sock.__sk_common.skc_family.x", None),
        ("sock.skc_family", None),
        ("sock.", None),
        ("sock..", None),
        ("", None),
        ("nothing.x", None),
    ] {
        assert_eq!(btf.field(path), field, "{path}");
    }
    assert_eq!(btf.field("sock"), at(0, 512));
    assert_eq!(btf.find(Kind::Struct, "int"), None);
    let in6 = btf.find(Kind::Struct, "in6_addr").expect("in6_addr");
    assert_eq!(btf.size(in6), Some(16));
    assert_eq!(btf.size(0), None);
    assert_eq!(btf.size(u32::MAX), None);
}

/// Before their sizes stood in the offsets, bit fields had types of their own.
#[test]
fn old_bit_fields_are_refused() {
    let mut b = Builder::default();
    let three = b.add("", INT << 24, 4, &[3]);
    let shifted = b.add("", INT << 24, 4, &[8 << 16 | 32]);
    let int = b.int("int", 4);
    let mut rest = Vec::new();
    for (name, of, offset) in [("a", three, 0), ("b", shifted, 0), ("c", int, 64)] {
        rest.extend([b.name(name), of, offset]);
    }
    rest.extend([b.name("d"), int, 67]);
    b.add("s", STRUCT << 24 | 4, 16, &rest);
    let btf = b.parse();
    assert_eq!(btf.field("s.a"), None);
    assert_eq!(btf.field("s.b"), None);
    assert_eq!(btf.field("s.c"), at(8, 4));
    assert_eq!(btf.field("s.d"), None);
}

#[test]
fn arguments_are_counted_and_typed() {
    for error in [false, true] {
        let btf = kernel(true, error).builder.parse();
        let retransmit = btf.tracepoint("tcp_retransmit_skb").expect("there");
        assert_eq!(retransmit.field("arg0.ptr"), at(0, 8));
        assert_eq!(retransmit.field("arg0.int"), None);
        assert_eq!(retransmit.field("arg1.ptr"), at(8, 8));
        let expected = if error { at(16, 8) } else { None };
        assert_eq!(retransmit.field("arg2.int"), expected);
        for name in [
            "arg2.ptr",
            "arg3.int",
            "arg65535.int",
            "arg",
            "arg.",
            "argx.int",
        ] {
            assert_eq!(retransmit.field(name), None, "{name}");
        }
        assert!(btf.tracepoint("nothing").is_none());
    }
}

struct OnBtf<'a>(BtfTracepoint<'a>);

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

fn link(btf: &Btf) -> Vec<usize> {
    let templates: [&Template<'_>; 2] = [&programs::STATE_BTF, &programs::RETRANSMIT_BTF];
    templates
        .iter()
        .map(|template| {
            let tracepoint = btf.tracepoint(template.event).expect(template.event);
            let insns = template.link(&OnBtf(tracepoint)).expect(template.event);
            insns.len()
        })
        .collect()
}

#[test]
fn the_programs_link_with_and_without_what_is_optional() {
    let all = link(&kernel(true, true).builder.parse());
    let without_error = link(&kernel(true, false).builder.parse());
    let without_ipv6 = link(&kernel(false, true).builder.parse());
    assert_eq!(all[0], without_error[0]);
    assert!(without_error[1] < all[1], "{all:?} {without_error:?}");
    assert!(without_ipv6.iter().zip(&all).all(|(a, b)| a < b));
    let mut broken = kernel(true, true);
    broken.builder = Builder::default();
    let int = broken.builder.int("int", 4);
    let pointer = broken.builder.of(PTR, "", int);
    broken
        .builder
        .tracepoint("inet_sock_set_state", &[pointer, int, int]);
    let btf = broken.builder.parse();
    let tracepoint = btf.tracepoint("inet_sock_set_state").expect("there");
    let why = programs::STATE_BTF.link(&OnBtf(tracepoint));
    let why = why.expect_err("no struct sock").to_string();
    assert!(why.contains("sock.__sk_common.skc_family"), "{why}");
}

#[test]
fn circles_come_to_an_end() {
    let mut b = Builder::default();
    // typedef 1 -> 2 -> 1, array 3 of 3, struct 4 in 4 without a name, many times.
    b.of(TYPEDEF, "a", 2);
    b.of(TYPEDEF, "b", 1);
    b.array(3, 2);
    let members = vec![("", 4, 0); 60_000];
    b.record(STRUCT, "s", 4, &members);
    b.tracepoint("x", &[1, 3]);
    let btf = b.parse();
    assert_eq!(btf.size(1), None);
    assert_eq!(btf.size(3), None);
    assert_eq!(btf.field("s.x"), None);
    let x = btf.tracepoint("x").expect("there");
    assert_eq!(x.field("arg0.ptr"), None);
}

#[test]
fn hostile_headers_are_refused_in_words() {
    let good = kernel(true, true).builder.bytes();
    let with = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Btf::parse(bytes).map(|_| ()).expect_err("refused")
    };
    assert_eq!(with(0, 0x0100_eb9f ^ 0x0300_0000), BtfError::Header);
    assert_eq!(with(0, 0x0001_9feb), BtfError::Header);
    assert_eq!(with(4, 8), BtfError::Header);
    assert_eq!(with(4, u32::MAX), BtfError::Short);
    assert_eq!(with(8, u32::MAX), BtfError::Short);
    assert_eq!(with(12, u32::MAX), BtfError::Short);
    assert_eq!(with(16, 0x10_0000), BtfError::Short);
    assert_eq!(with(20, 0x10_0000), BtfError::Short);
    // The first type's kind and count.
    assert_eq!(with(28, 127 << 24), BtfError::Kind(127));
    assert_eq!(with(28, STRUCT << 24 | 0xff_ffff), BtfError::Short);
    assert!(Btf::parse(Vec::new()).is_err());
    for why in [BtfError::Header, BtfError::Short, BtfError::Kind(99)] {
        assert!(!why.to_string().contains('\n'));
    }
}

/// Everything that a run would ask.
fn ask(btf: &Btf) {
    let names = programs::STATE_BTF
        .fields
        .iter()
        .chain(programs::RETRANSMIT_BTF.fields);
    for field in names {
        for event in ["inet_sock_set_state", "tcp_retransmit_skb"] {
            if let Some(tracepoint) = btf.tracepoint(event) {
                let _ = tracepoint.field(field.name);
            }
        }
        let _ = btf.field(field.name);
    }
    for id in 0..=btf.len() as u32 {
        let _ = btf.size(id);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(btf) = Btf::parse(bytes) {
            ask(&btf);
        }
    }

    /// Sound but for a few words: these get past the header.
    #[test]
    fn damaged_files_are_read_without_panic(
        places in proptest::collection::vec((0usize..4096, any::<u32>()), 1..8),
        cut in 0usize..4096,
    ) {
        let mut bytes = kernel(true, true).builder.bytes();
        for (place, value) in places {
            let place = place % (bytes.len() / 4) * 4;
            bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        if cut < bytes.len() {
            bytes.truncate(cut);
        }
        if let Ok(btf) = Btf::parse(bytes) {
            ask(&btf);
        }
    }

    /// Types that refer to each other at random.
    #[test]
    fn tangled_types_come_to_an_end(
        types in proptest::collection::vec((1u32..20, 0u32..40, proptest::collection::vec((0u32..3, 0u32..40, any::<u32>()), 0..6)), 1..40),
    ) {
        let mut b = kernel(true, true).builder;
        b.types.clear();
        for (kind, last, members) in types {
            let words: Vec<u32> = members.iter().flat_map(|m| [m.0, m.1, m.2]).collect();
            let (count, words) = match kind {
                4 | 5 | 15 | 19 => (members.len(), words),
                3 => (0, vec![last, last, 3]),
                1 | 14 | 17 => (0, vec![last]),
                6 | 13 => (members.len(), words[..members.len() * 2].to_vec()),
                _ => (0, Vec::new()),
            };
            b.types.extend([1 + last, kind << 24 | count as u32, last]);
            b.types.extend(words);
        }
        ask(&b.parse());
    }

    /// A member stands where it was put, however deep.
    #[test]
    fn offsets_add_up(offsets in proptest::collection::vec(0u32..400, 1..20)) {
        let mut k = kernel(true, true);
        let mut inner = k.builder.record(STRUCT, "", 4, &[("x", k.int, 0)]);
        for offset in &offsets {
            inner = k.builder.record(STRUCT, "", 4, &[("other", k.sock, 0), ("", inner, offset * 8)]);
        }
        k.builder.record(STRUCT, "outer", 4, &[("", inner, 0)]);
        let sum: u32 = offsets.iter().sum();
        prop_assert_eq!(k.builder.parse().field("outer.x"), at(sum as u16, 4));
    }
}

/// The running kernel's own, where it has one.
#[test]
fn the_kernels_own_file() {
    let Ok(bytes) = fs::read(btf::PATH) else {
        return common::skip("this kernel shows no BTF");
    };
    let btf = Btf::parse(bytes).expect("the kernel's BTF");
    assert!(btf.len() > 10_000 && !btf.is_empty());
    // These have been so for as long as there is BTF (include/net/sock.h).
    assert_eq!(btf.field("sock.__sk_common.skc_daddr"), at(0, 4));
    assert_eq!(btf.field("sock.__sk_common.skc_family"), at(16, 2));
    assert_eq!(btf.field("sock.__sk_common.skc_reuse"), None);
    assert_eq!(
        btf.field("in6_addr").map(|field| field.size),
        Some(16),
        "a whole structure"
    );
    assert!(link(&btf).iter().all(|n| (40..200).contains(n)));
}
