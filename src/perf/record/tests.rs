use super::*;
use proptest::prelude::*;

const PLAIN: SampleType = SampleType::TIME.union(SampleType::RAW);
const TASKS: SampleType = PLAIN.union(SampleType::TID);
const NEWS: SampleType = SampleType::TIME;
/// The raw data begins with the time.
const OWN: SampleType = SampleType::RAW;
const ALL: [(SampleType, Option<Ids>); 3] = [(PLAIN, None), (TASKS, Some(TASK)), (OWN, None)];

/// A record as the kernel writes it, with its size filled in.
fn record(kind: u32, misc: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend(kind.to_ne_bytes());
    b.extend(misc.to_ne_bytes());
    b.extend([0; 2]);
    parts.iter().for_each(|part| b.extend(*part));
    let len = b.len() as u16;
    b[6..8].copy_from_slice(&len.to_ne_bytes());
    b
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

/// A sample; `task` is there or not, as the layout has it.
fn sample_bytes(layout: SampleType, task: Option<Ids>, time: u64, data: &[u8]) -> Vec<u8> {
    let ids = task.map_or(Vec::new(), |t| words(&[t.pid, t.tid]));
    let time = time.to_ne_bytes();
    let (before, own) = match layout.contains(SampleType::TIME) {
        true => (&time[..], &[][..]),
        false => (&[][..], &time[..]),
    };
    let size = (4 + own.len() + data.len()).next_multiple_of(8) - 4;
    let mut raw = words(&[size as u32]);
    raw.extend(own);
    raw.extend(data);
    raw.resize(4 + size, 0xee);
    record(PERF_RECORD_SAMPLE, 0, &[&ids, before, &raw])
}

/// What SAMPLE_ID_ALL puts at the end.
fn id(time: u64) -> Vec<u8> {
    time.to_ne_bytes().to_vec()
}

fn comm_bytes(time: u64, tid: u32, name: &[u8]) -> Vec<u8> {
    let mut padded = name.to_vec();
    padded.resize((name.len() + 1).next_multiple_of(8).min(16), 0);
    let misc = PERF_RECORD_MISC_COMM_EXEC;
    record(
        PERF_RECORD_COMM,
        misc,
        &[&words(&[1, tid]), &padded, &id(time)],
    )
}

fn life_bytes(kind: u32, time: u64, task: Ids, parent: Ids) -> Vec<u8> {
    let time_of_it = (time - 1).to_ne_bytes();
    let ids = words(&[task.pid, parent.pid, task.tid, parent.tid]);
    record(kind, 0, &[&ids, &time_of_it, &id(time)])
}

fn lost_bytes(count: u64) -> Vec<u8> {
    record(
        PERF_RECORD_LOST,
        0,
        &[&7u64.to_ne_bytes(), &count.to_ne_bytes()],
    )
}

#[derive(Debug, PartialEq)]
enum Seen {
    Sample(u64, Option<Ids>, Vec<u8>),
    News(u64, News),
    Lost(u64),
    Malformed,
    Other,
    Corrupt,
}

fn read_all(layout: SampleType, first_part: &[u8], second: &[u8]) -> Vec<Seen> {
    let mut rest = Span::new(first_part, second);
    let mut seen = Vec::new();
    while let Some(result) = first(rest, layout) {
        let Ok((record, len)) = result else {
            seen.push(Seen::Corrupt);
            break;
        };
        seen.push(match record {
            Record::Timed { time, body } => match body {
                Body::Sample { task, data } => {
                    let mut buffer = [0; 256];
                    Seen::Sample(time, task, data.flatten(&mut buffer).to_vec())
                }
                Body::News(news) => Seen::News(time, news),
            },
            Record::Lost(count) => Seen::Lost(count),
            Record::Malformed => Seen::Malformed,
            Record::Other => Seen::Other,
        });
        rest = rest.slice(len, rest.len() - len).expect("within");
    }
    seen
}

const TASK: Ids = Ids { pid: 7, tid: 8 };

#[test]
fn reads_samples_lost_and_others() {
    for (layout, task) in ALL {
        let mut bytes = sample_bytes(layout, task, 1, b"abcd");
        bytes.extend(lost_bytes(9));
        bytes.extend([1, 0, 0, 0, 0, 0, 8, 0]);
        let seen = read_all(layout, &bytes, &[]);
        let data = b"abcd".to_vec();
        let sample = Seen::Sample(1, task, data);
        assert_eq!(seen, [sample, Seen::Lost(9), Seen::Other]);
    }
}

#[test]
fn reads_what_becomes_of_tasks() {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    let task = Ids { pid: 1, tid: 3 };
    for name in [
        &b""[..],
        b"sh",
        b"sevenxx",
        b"a name of eight+",
        b"fifteen letters",
    ] {
        bytes.extend(comm_bytes(5, 3, name));
        let mut comm = [0; COMM_LEN];
        comm[..name.len()].copy_from_slice(name);
        let exec = true;
        expected.push(Seen::News(5, News::Comm { task, comm, exec }));
    }
    let parent = Ids { pid: 6, tid: 7 };
    bytes.extend(life_bytes(PERF_RECORD_FORK, 6, task, parent));
    expected.push(Seen::News(6, News::Fork { task, parent }));
    bytes.extend(life_bytes(PERF_RECORD_EXIT, 7, task, parent));
    expected.push(Seen::News(7, News::Exit { task }));
    bytes.extend(lost_bytes(4));
    expected.push(Seen::Lost(4));
    assert_eq!(read_all(NEWS, &bytes, &[]), expected);
    // Where there are samples, they end otherwise.
    for layout in [PLAIN, TASKS, OWN] {
        let seen = read_all(layout, &bytes, &[]);
        let (lost, others) = seen.split_last().expect("some");
        assert_eq!(*lost, Seen::Lost(4));
        assert!(others.iter().all(|s| *s == Seen::Other));
    }
    // Too short for what they are to hold, never a panic.
    for whole in [
        comm_bytes(1, 2, b""),
        life_bytes(PERF_RECORD_FORK, 6, task, parent),
    ] {
        for len in (HEADER_LEN..whole.len()).step_by(8) {
            let mut b = whole[..len].to_vec();
            b[6..8].copy_from_slice(&(len as u16).to_ne_bytes());
            assert_eq!(read_all(NEWS, &b, &[]).len(), 1);
        }
    }
}

#[test]
fn lying_sizes_are_corrupt_or_malformed() {
    for (layout, task) in ALL {
        let whole = sample_bytes(layout, task, 1, b"abcd");
        let with = |at: usize, bytes: &[u8]| {
            let mut b = whole.clone();
            b[at..at + bytes.len()].copy_from_slice(bytes);
            read_all(layout, &b, &[])
        };
        // A size of 0, one below the header, one that is no multiple of 8, one too long.
        for size in [0u16, 7, 12, 48] {
            assert_eq!(with(6, &size.to_ne_bytes()), [Seen::Corrupt], "{size}");
        }
        // The raw size says more than the record holds.
        for raw in [5u32, 1 << 20, u32::MAX] {
            let at = if layout == OWN { 8 } else { whole.len() - 8 };
            assert_eq!(with(at, &raw.to_ne_bytes()), [Seen::Malformed], "{raw}");
        }
        // A sample without room for its fields.
        let mut b = whole[..16].to_vec();
        b[6..8].copy_from_slice(&16u16.to_ne_bytes());
        assert_eq!(read_all(layout, &b, &[]), [Seen::Malformed]);
        // Truncated anywhere: never a panic, and never a record out of nothing.
        for len in 1..whole.len() {
            assert_eq!(
                read_all(layout, &whole[..len], &[]),
                [Seen::Corrupt],
                "{len}"
            );
        }
    }
    // A LOST without a count.
    let mut b = lost_bytes(1);
    b.truncate(16);
    b[6..8].copy_from_slice(&16u16.to_ne_bytes());
    assert_eq!(read_all(PLAIN, &b, &[]), [Seen::Malformed]);
}

proptest! {
    #[test]
    fn any_split_reads_the_same(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..20),
        cut in any::<prop::sample::Index>(),
        which in 0..ALL.len(),
    ) {
        let (layout, task) = ALL[which];
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            if i % 3 == 2 {
                bytes.extend(lost_bytes(i as u64));
                expected.push(Seen::Lost(i as u64));
            }
            let record = sample_bytes(layout, task, i as u64, payload);
            let data = if task.is_some() { 28 } else { 20 };
            expected.push(Seen::Sample(i as u64, task, record[data..].to_vec()));
            bytes.extend(record);
        }
        let at = cut.index(bytes.len() + 1);
        prop_assert_eq!(read_all(layout, &bytes[..at], &bytes[at..]), expected);
    }

    #[test]
    fn any_bytes_end(
        a in prop::collection::vec(any::<u8>(), 0..400),
        b in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        // Every record uses at least a header, so this ends; and no panic.
        for layout in [PLAIN, TASKS, NEWS, OWN] {
            prop_assert!(read_all(layout, &a, &b).len() <= (a.len() + b.len()) / 8 + 1);
        }
    }

    #[test]
    fn any_record_of_a_known_kind_ends(
        kind in 1u32..12,
        body in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let body = &body[..body.len() & !7];
        for layout in [PLAIN, TASKS, NEWS, OWN] {
            prop_assert_eq!(read_all(layout, &record(kind, 0, &[body]), &[]).len(), 1);
        }
    }
}
