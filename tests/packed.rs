//! The programs as the binary carries them: the LZ4 block that they are packed
//! as, against lz4_flex, and the place in the text that each of their items has.

mod common;

use common::programs::all;
use lz4_flex::block::{compress, decompress};
use proptest::prelude::*;
use socket_snoop::bpf_asm::lz4 as packer;
use socket_snoop::bpf_link::Item;
use socket_snoop::bpf_link::packed::{Packed, lz4};
use std::fs;
use std::path::Path;

/// What repeats itself, near and far, within itself too.
fn repetitive() -> impl Strategy<Value = Vec<u8>> {
    let piece = (prop::collection::vec(any::<u8>(), 1..40), 1..30usize);
    let pieces = prop::collection::vec(piece, 0..12);
    pieces.prop_map(|pieces| {
        let mut all = Vec::new();
        for (piece, times) in pieces {
            all.extend(piece.repeat(times));
            let from = all.len() / 3;
            all.extend_from_within(from..all.len().min(from + times));
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each reads what the other has written.
    #[test]
    fn lz4_is_that_of_others(bytes in repetitive()) {
        let theirs = compress(&bytes);
        let unpacked = lz4::unpack(&theirs, bytes.len());
        prop_assert_eq!(unpacked.as_deref(), Some(&bytes[..]));
        let ours = packer::pack(&bytes);
        let unpacked = decompress(&ours, bytes.len()).ok();
        prop_assert_eq!(unpacked.as_deref(), Some(&bytes[..]));
        prop_assert_eq!(lz4::unpack(&ours, bytes.len()), Some(bytes));
        prop_assert!(ours.len() <= theirs.len() + theirs.len() / 8 + 8);
    }

    /// Of a block that is damaged, nothing comes that is longer than it should be.
    #[test]
    fn damaged_blocks(bytes in repetitive(), at in any::<prop::sample::Index>(), byte in any::<u8>(), len in 0..400usize) {
        let mut block = compress(&bytes);
        let at = at.index(block.len());
        block[at] = byte;
        for (block, len) in [(&block[..], bytes.len()), (&block[..at], bytes.len()), (&block[..], len)] {
            if let Some(unpacked) = lz4::unpack(block, len) {
                prop_assert_eq!(unpacked.len(), len);
                prop_assert_eq!(decompress(block, len).ok(), Some(unpacked));
            }
        }
    }

    /// Nor does a damaged piece make a panic.
    #[test]
    fn damaged_pieces(bytes in repetitive()) {
        let mut piece = Vec::new();
        let mut len = bytes.len();
        while len >= 0x80 {
            piece.push(len as u8 | 0x80);
            len >>= 7;
        }
        piece.push(len as u8);
        piece.extend(packer::pack(&bytes));
        if let Some(packed) = Packed::read(&piece) {
            for program in 0..packed.len() + 1 {
                packed.template(program);
            }
        }
    }
}

/// Long runs, whose lengths take more than one byte, and what is too short for a match.
#[test]
fn lz4_of_extremes() {
    for len in (0..40).chain([254, 255, 270, 271, 300, 70_000]) {
        for bytes in [vec![7; len], (0..len).map(|n| (n * n / 7) as u8).collect()] {
            let ours = packer::pack(&bytes);
            assert_eq!(
                decompress(&ours, len).ok().as_deref(),
                Some(&bytes[..]),
                "{len}"
            );
            assert_eq!(
                lz4::unpack(&ours, len).as_deref(),
                Some(&bytes[..]),
                "{len}"
            );
        }
    }
    // The end of the block, of the output, a distance of none, one beyond the start.
    for block in [
        &b""[..],
        b"\x20a",
        b"\x10ab",
        b"\x10a\x00\x00\x00",
        b"\x10a\x02\x00\x00",
        b"\xf0\xff",
    ] {
        assert_eq!(lz4::unpack(block, 1), None, "{block:?}");
    }
    assert_eq!(lz4::unpack(b"\x10a", 1).as_deref(), Some(&b"a"[..]));
}

/// What stands in a file at a line, without its comment.
fn in_file(file: &str, number: u32) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf-asm");
    let text = fs::read_to_string(folder.join(file)).expect(file);
    let line = text.lines().nth(number as usize - 1).expect("that line");
    line.split(';').next().unwrap_or("").trim().to_string()
}

/// Every item stands where it says, and so does every label.
#[test]
fn items_keep_their_places() {
    let mut files = Vec::new();
    for template in all() {
        assert_eq!(template.lines.len(), template.items.len());
        for (item, line) in template.items.iter().zip(&template.lines) {
            let place = template.text.get(*line).expect("a place");
            assert_eq!(place.text, in_file(place.file, place.number));
            assert_eq!(place.text.starts_with('.'), matches!(item, Item::If { .. }));
            files.push(place.file);
        }
        let mut before = 0;
        for (item, line) in &template.labels {
            let place = template.text.get(*line).expect("a place");
            assert_eq!(
                format!("{}:", place.text),
                in_file(place.file, place.number)
            );
            assert!(*item >= before && (*item as usize) < template.items.len());
            before = *item;
        }
        assert!(template.text.get(u32::MAX).is_none());
    }
    files.sort_unstable();
    files.dedup();
    assert!(files.len() >= 10, "{files:?}");
}
