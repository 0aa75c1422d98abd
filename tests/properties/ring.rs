//! The bytes of a perf ring, in a mapping as a kernel's.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::Event;
use socket_snoop::perf::cursor::{Cursor, Part, count_samples};
use socket_snoop::perf::record::{self, Body, News, Record};
use socket_snoop::perf::span::Span;
use socket_snoop::sys::perf_event::SampleType;
use socket_snoop::sys::ring::{RingMap, page_size};

use super::Bytes;

/// Bytes of a ring: some records lie across its end.
const PAGES: usize = 2;

/// What a record says, in values of its own.
#[derive(Debug, PartialEq)]
enum Said {
    Sample(u64, Vec<u8>),
    News(u64, News),
}

fn said(time: u64, body: Body<'_>) -> Said {
    match body {
        Body::Sample { data, .. } => {
            let mut buffer = vec![0; data.len()];
            let data = data.flatten(&mut buffer).to_vec();
            // Whatever a program sent, or is said to have sent.
            let _ = Event::decode(time, 0, &data, Abilities::all());
            Said::Sample(time, data)
        }
        Body::News(news) => Said::News(time, news),
    }
}

/// Reads them in one piece, as the kernel's header says: what there is, and how
/// many samples, lost and unreadable ones.
fn plainly(bytes: &[u8], layout: SampleType) -> (Vec<Said>, [u64; 3]) {
    let (mut all, mut counts) = (Vec::new(), [0u64; 3]);
    let mut rest = Span::new(bytes, &[]);
    while let Some(read) = record::first(rest, layout) {
        let Ok((record, len)) = read else {
            counts[2] += 1;
            break;
        };
        match record {
            Record::Timed { time, body } => {
                counts[0] += u64::from(matches!(body, Body::Sample { .. }));
                all.push(said(time, body));
            }
            Record::Lost(count) => counts[1] = counts[1].saturating_add(count),
            Record::Malformed => (counts[0], counts[2]) = (counts[0] + 1, counts[2] + 1),
            Record::Other => {}
        }
        assert!((8..=rest.len()).contains(&len));
        rest = rest.slice(len, rest.len() - len).expect("within");
    }
    (all, counts)
}

/// A file that looks as the kernel's mapping does, with these bytes unread.
fn file(bytes: &[u8], tail: u64) -> File {
    let (page, size) = (page_size(), PAGES * page_size());
    let file = memfd_create(c"ring", MFdFlags::MFD_CLOEXEC).expect("memfd_create");
    let file = File::from(file);
    file.set_len((page + size) as u64).expect("room");
    let head = tail.wrapping_add(bytes.len() as u64);
    let control = [head, tail, page as u64, size as u64];
    let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    file.write_all_at(&control, 1024).expect("the control page");
    let at = tail as usize % size;
    let (first, second) = bytes.split_at(bytes.len().min(size - at));
    file.write_all_at(first, (page + at) as u64)
        .expect("the data");
    file.write_all_at(second, page as u64).expect("the data");
    file
}

/// A ring of any bytes is read to its end, the same wherever it wraps.
pub fn ring(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let plain = SampleType::TIME | SampleType::RAW;
    let layout = bytes.pick(&[plain, plain | SampleType::TID, SampleType::RAW]);
    let size = PAGES * page_size();
    let tail = match bytes.byte() {
        0 => 0u64,
        // The counters wrap around, too; both are multiples of 8.
        1 => u64::MAX - 7 - 8 * u64::from(bytes.byte()),
        _ => 8 * u64::from(bytes.half()),
    };
    let unread = bytes.0.get(..size).unwrap_or(bytes.0);
    let unread = &unread[..unread.len() / 8 * 8];
    let file = file(unread, tail);
    let mut map = RingMap::new(file.as_fd(), size).expect("a mapping");
    let (expected, [samples, lost, unreadable]) = plainly(unread, layout);
    assert_eq!(count_samples(map.unread(), layout), samples);
    let cells = [Cell::new(0), Cell::new(0), Cell::new(0)];
    let [one, two, three] = &cells;
    let part = Part::of_samples(3, layout, [one, two, three], map.drain());
    let mut cursor = Cursor::new(&part);
    let mut found = Vec::new();
    while let Some(sample) = cursor.take() {
        assert_eq!(sample.cpu, 3);
        found.push(said(sample.time, sample.body));
    }
    assert!(cursor.is_done());
    assert_eq!(found, expected);
    drop(part);
    assert_eq!(cells.map(Cell::into_inner), [samples, lost, unreadable]);
    assert_eq!(map.unread(), (&[][..], &[][..]));
}
