//! The BTF parser on hostile files: nothing panics, everything comes to an end,
//! and it is the same whether the bytes are held or read piece by piece.

mod common;

use common::btf::{Builder, STRUCT, TYPEDEF, at, file, kernel};
use common::programs::all;
use proptest::prelude::*;
use socket_snoop::bpf_link::HostField;
use socket_snoop::btf::{Btf, BtfError, Kind};
use socket_snoop::sys::Errno;

/// Strings without an end, and longer than a piece.
#[test]
fn long_strings_hide_nothing() {
    for len in [4094, 4095, 4096, 4097, 9000, 20_000] {
        let mut b = Builder::default();
        b.name(&"y".repeat(len));
        let int = b.int("int", 4);
        b.record(STRUCT, "s", 4, &[("x", int, 0)]);
        for btf in [b.parse(), b.file()] {
            assert_eq!(btf.field("s.x"), at(0, 4), "{len}");
        }
        b.strings.extend(vec![b'z'; len]);
        for btf in [b.parse(), b.file()] {
            assert_eq!(btf.field("s.x"), at(0, 4), "{len}");
            assert_eq!(btf.find(Kind::Struct, "z"), None);
        }
    }
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
    assert_eq!(with(0, 0x0001_9fec), BtfError::Header);
    // The other byte order in the first two bytes alone.
    assert_eq!(with(0, 0x0001_9feb), BtfError::Short);
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
    for why in [
        BtfError::Header,
        BtfError::Short,
        BtfError::Kind(99),
        BtfError::Read(Errno::EIO),
    ] {
        assert!(!why.to_string().contains('\n'));
    }
}

/// Names of numbers.
type Names = Vec<(u32, String)>;

/// Everything that a run would ask.
fn ask(btf: &Btf) -> (Vec<Option<HostField>>, Names) {
    let mut found = Vec::new();
    for template in all() {
        let tracepoint = btf.tracepoint(&template.event);
        let function = btf.function(&template.event);
        for field in &template.fields {
            found.push(btf.field(&field.name));
            found.push(tracepoint.as_ref().and_then(|t| t.field(&field.name)));
            found.push(function.as_ref().and_then(|f| f.field(&field.name)));
        }
    }
    let _ = btf.has_enumerator("bpf_func_id", "sock");
    for id in 0..=btf.len() as u32 {
        let _ = btf.size(id);
    }
    (found, btf.reset_reasons())
}

/// Asks the bytes, and a file of them: the answers are the same.
fn ask_both(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let read = Btf::of_file(file(&bytes));
    match (Btf::parse(bytes), read) {
        (Ok(held), Ok(read)) => prop_assert_eq!(ask(&held), ask(&read)),
        (held, read) => prop_assert_eq!(held.err(), read.err()),
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        ask_both(bytes)?;
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
        ask_both(bytes)?;
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
        ask_both(b.bytes())?;
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
