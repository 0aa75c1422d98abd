//! The arithmetic of a perf ring, without a kernel: records out of the bytes
//! between tail and head.
//!
//! Contract: every size that a record states is checked against what is there,
//! in every build. A record that can't be right ends the reading: what follows
//! it can't be found, so all the rest is used up and reported as corrupt.
//! Layout: include/uapi/linux/perf_event.h, struct perf_event_header.

use super::span::Span;
use crate::sys::perf_event::SampleType;

const HEADER_LEN: usize = 8;
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_COMM: u32 = 3;
const PERF_RECORD_EXIT: u32 = 4;
const PERF_RECORD_FORK: u32 = 7;
const PERF_RECORD_SAMPLE: u32 = 9;
const PERF_RECORD_MISC_COMM_EXEC: u16 = 1 << 13;

/// TASK_COMM_LEN: a task's name with its terminating NUL, in bytes.
const COMM_LEN: usize = 16;

/// A task as perf sees it: in the PID namespace of whoever opened the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Process id; 0 for the idle task and for processes of other namespaces,
    /// -1 for a task that is gone.
    pub pid: u32,
    /// Thread id, likewise.
    pub tid: u32,
}

/// Which records of tasks: each kind has a ring of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Tasks that are made and that end.
    Lives,
    /// Their names.
    Names,
}

/// What becomes of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// PERF_RECORD_COMM: a task has a new name.
    Comm {
        /// The task.
        task: Ids,
        /// The name, ended by a NUL unless it is as long as this.
        comm: [u8; COMM_LEN],
        /// Whether it has it from execve(2).
        exec: bool,
    },
    /// PERF_RECORD_FORK: a new task.
    Fork {
        /// The new one.
        task: Ids,
        /// The one that made it.
        parent: Ids,
    },
    /// PERF_RECORD_EXIT: a task ends. What it has open it closes before, or,
    /// since Linux 6.16, after this (kernel/exit.c, do_exit).
    Exit {
        /// The task.
        task: Ids,
    },
    /// From this time on something of this may be missing here.
    Missing(Topic),
}

/// What a record holds besides its time.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// PERF_RECORD_SAMPLE
    Sample {
        /// The task on the CPU, where the sample type has TID.
        task: Option<Ids>,
        /// The raw data: what a program sent, or a tracepoint's record. Up to
        /// 7 bytes of padding follow.
        data: Span<'a>,
    },
    /// A task was made, named or has ended.
    News(News),
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// Something of a certain time.
    Timed {
        /// Nanoseconds of the event clock.
        time: u64,
        /// What it is.
        body: Body<'a>,
    },
    /// PERF_RECORD_LOST: so many records found no room before this one.
    Lost(u64),
    /// A sample whose inner size is wrong: one event that can't be read.
    Malformed,
    /// A record of another type, of no interest.
    Other,
}

/// A record's sizes make no sense: nothing after it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// Reads the record at the start of `bytes`: the record and its length in
/// bytes. `None` when there is nothing left. `layout` is the events' sample
/// type, of which TID, TIME and RAW are understood. Without TIME the raw data begins
/// with the time. With RAW there are samples; without, there are records of tasks, of events that have
/// `SAMPLE_ID_ALL`.
pub fn first<'a>(
    bytes: Span<'a>,
    layout: SampleType,
) -> Option<Result<(Record<'a>, usize), Corrupt>> {
    if bytes.is_empty() {
        return None;
    }
    Some(parse(bytes, layout).ok_or(Corrupt))
}

fn parse<'a>(bytes: Span<'a>, layout: SampleType) -> Option<(Record<'a>, usize)> {
    let kind = bytes.u32(0)?;
    let len = usize::from(bytes.u16(6)?);
    if len < HEADER_LEN || len % 8 != 0 {
        return None;
    }
    let record = bytes.slice(0, len)?;
    let samples = layout.contains(SampleType::RAW);
    let parsed = match kind {
        PERF_RECORD_SAMPLE if samples => sample(record, layout).unwrap_or(Record::Malformed),
        PERF_RECORD_COMM | PERF_RECORD_FORK | PERF_RECORD_EXIT if !samples => {
            news(record, kind).unwrap_or(Record::Malformed)
        }
        // header, u64 id, u64 lost
        PERF_RECORD_LOST => record.u64(16).map_or(Record::Malformed, Record::Lost),
        _ => Record::Other,
    };
    Some((parsed, len))
}

/// A sample that lies in one piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'a> {
    pub(super) time: u64,
    pub(super) data: &'a [u8],
    /// The record's length.
    pub(super) len: usize,
}

/// The sample at the start of `bytes`, if there is one as programs send them and it
/// lies in one piece, which is nearly always so: [`first`] in fewer steps.
#[inline(always)]
pub(super) fn whole_sample<'a>(bytes: &Span<'a>, layout: SampleType) -> Option<Whole<'a>> {
    /// header, u32 size, u64 time, data
    const BEFORE: usize = 20;
    /// Of these, what the size does not count.
    const OUTER: usize = 12;
    if layout != SampleType::RAW {
        return None;
    }
    let bytes = bytes.in_place();
    let head: &[u8; BEFORE] = bytes.first_chunk()?;
    let head = Span::new(head, &[]);
    let (kind, len) = (head.u32(0)?, usize::from(head.u16(6)?));
    let (size, time) = (head.u32(HEADER_LEN)? as usize, head.u64(OUTER)?);
    if kind != PERF_RECORD_SAMPLE || len % 8 != 0 {
        return None;
    }
    // Of a size that is more than there can be, the end is before the beginning.
    let end = OUTER.wrapping_add(size);
    let data = bytes.get(..len)?.get(BEFORE..end)?;
    Some(Whole { time, data, len })
}

/// header, u32 pid, u32 tid (if TID), u64 time (if TIME), u32 size, u64 time (if not), data
fn sample<'a>(record: Span<'a>, layout: SampleType) -> Option<Record<'a>> {
    let mut at = HEADER_LEN;
    let mut task = None;
    if layout.contains(SampleType::TID) {
        task = Some(Ids {
            pid: record.u32(at)?,
            tid: record.u32(at + 4)?,
        });
        at += 8;
    }
    // Both orders take the same room.
    let (time, size, own) = match layout.contains(SampleType::TIME) {
        true => (record.u64(at)?, record.u32(at + 8)?, 0),
        false => (record.u64(at + 4)?, record.u32(at)?, 8),
    };
    let len = usize::try_from(size).ok()?.checked_sub(own)?;
    let data = record.slice(at + 12, len)?;
    let body = Body::Sample { task, data };
    Some(Record::Timed { time, body })
}

/// COMM: header, u32 pid, u32 tid, name padded with NULs to a multiple of 8
/// bytes; FORK and EXIT: header, u32 pid, u32 ppid, u32 tid, u32 ptid, u64 time.
/// Then of each: u64 time.
fn news<'a>(record: Span<'a>, kind: u32) -> Option<Record<'a>> {
    let end = record.len().checked_sub(8)?;
    let time = record.u64(end)?;
    let fixed = record.slice(0, end)?;
    let ids = |pid: usize, tid: usize| {
        Some(Ids {
            pid: fixed.u32(HEADER_LEN + pid)?,
            tid: fixed.u32(HEADER_LEN + tid)?,
        })
    };
    let news = match kind {
        PERF_RECORD_COMM => {
            let name = fixed.slice(HEADER_LEN + 8, fixed.len().checked_sub(HEADER_LEN + 8)?)?;
            let name = name.slice(0, name.len().min(COMM_LEN))?;
            let mut comm = [0; COMM_LEN];
            let mut buffer = [0; COMM_LEN];
            comm[..name.len()].copy_from_slice(name.flatten(&mut buffer));
            News::Comm {
                task: ids(0, 4)?,
                comm,
                exec: fixed.u16(4)? & PERF_RECORD_MISC_COMM_EXEC != 0,
            }
        }
        PERF_RECORD_EXIT => News::Exit { task: ids(0, 8)? },
        _ => News::Fork {
            task: ids(0, 8)?,
            parent: ids(4, 12)?,
        },
    };
    let body = Body::News(news);
    Some(Record::Timed { time, body })
}

/// One sample, or what became of a task.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The CPU it happened on.
    pub cpu: u32,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// What it is.
    pub body: Body<'a>,
}

impl<'a> Sample<'a> {
    /// One of this raw data, which lies in one piece.
    #[inline(always)]
    pub fn whole(cpu: u32, time: u64, data: &'a [u8]) -> Sample<'a> {
        let (task, data) = (None, Span::new(data, &[]));
        let body = Body::Sample { task, data };
        Sample { cpu, time, body }
    }
}

#[cfg(test)]
mod tests {
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
}
