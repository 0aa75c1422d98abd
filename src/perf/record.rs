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
mod tests;
