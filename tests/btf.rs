//! The BTF parser on files made here, and on the running kernel's; the BTF
//! programs linked against them.

mod common;

use common::btf::*;
use common::programs::{all, program};
use socket_snoop::btf::{self, Btf, Kind};
use socket_snoop::host::symbols;
use socket_snoop::programs::{self, Assembled};
use std::fs;

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

/// A bit field's byte is there where the field is its low part, to who asks for it in so many words.
#[test]
fn a_bit_field_has_a_byte() {
    let mut b = Builder::default();
    let byte = b.int("u8", 1);
    let mut rest = Vec::new();
    // Their sizes stand above the offsets.
    for (name, bits, offset) in [("a", 5, 8), ("b", 3, 13), ("c", 9, 16), ("d", 0, 32)] {
        rest.extend([b.name(name), byte, bits << 24 | offset]);
    }
    b.add("s", 1 << 31 | STRUCT << 24 | 4, 8, &rest);
    let btf = b.parse();
    assert_eq!(btf.field("s.a"), None);
    let low = if cfg!(target_endian = "little") {
        at(1, 1)
    } else {
        None
    };
    assert_eq!(btf.field("s.a.bits"), low);
    for path in [
        "s.b.bits",
        "s.c.bits",
        "s.d.bits",
        "s.a.bits.bits",
        "s.bits",
        "s.a.x",
    ] {
        assert_eq!(btf.field(path), None, "{path}");
    }
    assert_eq!(btf.field("s.d"), at(4, 1));
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

/// By their returns: behind all arguments, and only what is a pointer.
#[test]
fn functions_are_found_with_what_they_return() {
    let mut k = kernel(true, true);
    let b = &mut k.builder;
    let pointer = b.of(PTR, "", k.sock);
    let renamed = b.of(TYPEDEF, "sock_t", pointer);
    let wide = b.record(STRUCT, "two_words", 16, &[("a", k.int, 0)]);
    b.function("accept", renamed, &[pointer, k.int, pointer]);
    b.function("nothing", 0, &[pointer]);
    b.function("number", k.int, &[]);
    b.function("by_value", pointer, &[wide]);
    b.function("variadic", pointer, &[k.int, 0]);
    b.function("many", pointer, &[k.int; 13]);
    let sock = b.of(FUNC, "not_a_function", k.sock);
    let btf = b.parse();
    let accept = btf.function("accept").expect("there");
    assert_eq!(accept.parameters(), 3);
    assert_eq!(btf.find(Kind::Func, "accept"), Some(accept.id));
    for (name, field) in [
        ("ret.ptr", at(24, 8)),
        ("ret.int", None),
        ("ret.", None),
        ("arg0.ptr", at(0, 8)),
        ("arg1.int", at(8, 8)),
        ("arg1.ptr", None),
        ("arg2.ptr", at(16, 8)),
        ("arg3.ptr", None),
        ("sock.sk_protocol", at(128, 2)),
    ] {
        assert_eq!(accept.field(name), field, "{name}");
    }
    let of = |name| btf.function(name).expect("a function").field("ret.ptr");
    for name in ["nothing", "number", "by_value", "variadic"] {
        assert_eq!(of(name), None, "{name}");
    }
    let by_value = btf.function("by_value").expect("there");
    assert_eq!(by_value.field("arg0.ptr"), None);
    assert_eq!(btf.find(Kind::Func, "not_a_function"), Some(sock));
    for name in ["many", "not_a_function", "sock", "missing", ""] {
        assert!(btf.function(name).is_none(), "{name}");
    }
}

/// As tracefs prints them: without the prefix, and nothing but names.
#[test]
fn reasons_of_resets_are_named() {
    let named = |all: &[(u32, &str)]| -> Vec<(u32, String)> {
        all.iter().map(|(n, name)| (*n, name.to_string())).collect()
    };
    let k = kernel(true, true);
    for btf in [k.builder.parse(), k.builder.file()] {
        assert_eq!(btf.reset_reasons(), named(&REASONS));
        assert_eq!(btf.symbols("sk_rst_reason", "OTHER_"), []);
        assert_eq!(btf.symbols("sock", ""), []);
        assert_eq!(btf.symbols("nothing", ""), []);
    }
    let mut b = Builder::default();
    let long = |len| format!("SK_RST_REASON_{}", "X".repeat(len));
    let (longest, longer, without_end) = (long(64), long(65), long(9000));
    let name = b.name("sk_rst_reason");
    b.enumeration(
        "",
        &[
            ("SK_RST_REASON_A", 1),
            ("B", 2),
            ("SK_RST_REASON_", 3),
            ("SK_RST_REASON_\u{1b}[2J", 4),
            ("SK_RST_REASON_C D", 5),
            ("", 6),
            (&longest, 7),
            (&longer, 8),
            (&without_end, 9),
            ("SK_RST_REASON_Z", u32::MAX),
        ],
    );
    b.types[0] = name;
    let expected = named(&[(1, "A"), (7, &"X".repeat(64)), (u32::MAX, "Z")]);
    assert_eq!(b.parse().reset_reasons(), expected);
    assert_eq!(b.file().reset_reasons(), expected);
    // Its last name has lost its end.
    b.strings.pop();
    assert_eq!(b.parse().reset_reasons(), expected[..2]);
    assert_eq!(b.file().reset_reasons(), expected[..2]);
    // Far more than there are.
    let mut b = Builder::default();
    let many: Vec<_> = (0..5000).map(|n| ("SK_RST_REASON_N", n)).collect();
    b.enumeration("sk_rst_reason", &many);
    assert_eq!(b.parse().reset_reasons().len(), symbols::LIMIT);
}

/// The running kernel gives them the same names by both ways.
#[test]
fn the_kernels_own_reasons() {
    let Ok(bytes) = fs::read(btf::PATH) else {
        return common::skip("this kernel shows no BTF");
    };
    if !common::live() {
        return;
    }
    let format = common::kernel::tracefs("events/tcp/tcp_send_reset/format");
    let printed = symbols::symbols(format.as_bytes(), "reason");
    // Linux 6.10 and later.
    assert_eq!(printed.is_empty(), !format.contains(" reason;"));
    let held = Btf::parse(bytes).expect("the kernel's BTF");
    assert_eq!(held.reset_reasons(), printed);
    let read = Btf::of_kernel(&Assembled::unpack().expect("whole")).expect("the kernel's BTF");
    assert_eq!(read.reset_reasons(), printed);
}

/// Wherever the pieces that are read begin and end.
#[test]
fn a_file_is_read_as_its_bytes_are() {
    for padding in (0..4200).step_by(61) {
        let mut k = kernel(true, true);
        // Moves what follows over the border of a piece.
        let mut b = Builder::default();
        b.name(&"x".repeat(padding));
        b.add(
            "",
            15 << 24 | (padding / 4) as u32,
            0,
            &vec![0; padding / 4 * 3],
        );
        let (strings, types) = (b.strings.len() as u32, b.count);
        let mut at = 0;
        while at < k.builder.types.len() {
            at = moved(&mut k.builder.types, at, strings, types);
        }
        b.types.extend(&k.builder.types);
        b.strings.extend(&k.builder.strings);
        let (held, read) = (b.parse(), b.file());
        assert_eq!(held.len(), read.len());
        for template in all() {
            for field in &template.fields {
                assert_eq!(
                    held.field(&field.name),
                    read.field(&field.name),
                    "{}",
                    field.name
                );
            }
        }
        assert_eq!(
            read.field("sock.sk_protocol"),
            self::at(128, 2),
            "{padding}"
        );
        assert_eq!(link(&held), link(&read));
        assert_eq!(read.reset_reasons().len(), REASONS.len());
        assert_eq!(held.reset_reasons(), read.reset_reasons());
    }
}

/// Shifts the names and numbers that a type refers to; returns where the next one is.
fn moved(types: &mut [u32], at: usize, strings: u32, count: u32) -> usize {
    let name = |word: &mut u32| *word += if *word == 0 { 0 } else { strings };
    let id = |word: &mut u32| *word += if *word == 0 { 0 } else { count };
    name(&mut types[at]);
    let (kind, rest) = (types[at + 1] >> 24 & 31, (types[at + 1] & 0xffff) as usize);
    let start = at + 3;
    match kind {
        INT => start + 1,
        ARRAY => {
            types[start..start + 2].iter_mut().for_each(id);
            start + 3
        }
        STRUCT | UNION => {
            for member in types[start..start + 3 * rest].chunks_mut(3) {
                name(&mut member[0]);
                id(&mut member[1]);
            }
            start + 3 * rest
        }
        ENUM => {
            for value in types[start..start + 2 * rest].chunks_mut(2) {
                name(&mut value[0]);
            }
            start + 2 * rest
        }
        PROTO => {
            id(&mut types[at + 2]);
            types[start..start + 2 * rest]
                .chunks_mut(2)
                .for_each(|parameter| id(&mut parameter[1]));
            start + 2 * rest
        }
        _ => {
            id(&mut types[at + 2]);
            start
        }
    }
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
    let why = program(programs::STATE_BTF).link(&OnBtf(tracepoint));
    let why = why.expect_err("no struct sock").to_string();
    assert!(
        why.contains("tcp_sock.inet_conn.icsk_inet.inet_sport"),
        "{why}"
    );
}

/// The running kernel's own, where it has one.
/// A kernel whose numbers begin with the highest byte has its BTF so, too.
#[test]
fn either_byte_order() {
    let builder = kernel(true, true).builder;
    let little = builder.parse();
    let big = Btf::parse(builder.bytes_in(true)).expect("well-formed");
    assert_eq!(big.len(), little.len());
    assert_eq!(link(&big), link(&little));
    for path in ["sock.__sk_common.skc_v6_daddr", "tcp_sock.inet_conn"] {
        assert!(big.field(path).is_some(), "{path}");
        assert_eq!(big.field(path), little.field(path), "{path}");
    }
    // Half of either is none.
    let mut mixed = builder.bytes_in(true);
    mixed[..2].copy_from_slice(&[0x9f, 0xeb]);
    assert!(Btf::parse(mixed).is_err());
}

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
    assert!(link(&btf).iter().all(|n| (60..1000).contains(n)));
    // As a run reads it.
    let read = Btf::of_kernel(&Assembled::unpack().expect("whole")).expect("the kernel's BTF");
    for field in &program(programs::STATE_BTF).fields {
        assert_eq!(btf.field(&field.name), read.field(&field.name));
    }
    assert_eq!(link(&btf), link(&read));
    assert!(btf.has_enumerator("bpf_func_id", "BPF_FUNC_map_lookup_elem"));
    assert!(!btf.has_enumerator("bpf_func_id", "BPF_FUNC_map_lookup_ele"));
    // include/net/inet_connection_sock.h; how many parameters it has depends on the version.
    let accept = btf
        .function("inet_csk_accept")
        .expect("in every kernel with TCP");
    let behind = accept.parameters() as u16 * 8;
    assert_eq!(accept.field("ret.ptr"), at(behind, 8));
}
