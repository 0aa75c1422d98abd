//! What is known of one process. A private part of `processes`.

use crate::host::proc::Name;

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// A time that does not come.
pub(super) const NEVER: u64 = u64::MAX;

/// A process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// When it was born, or first seen.
    pub(super) born: u64,
    /// From when on this id is known to have been this process.
    pub(super) known_from: u64,
    /// Older records are in what is known of it.
    pub(super) news_from: u64,
    /// Records until then may be.
    pub(super) read_until: u64,
    /// When it was last seen to live by something that leaves no doubt.
    pub(super) seen: u64,
    /// Its living threads, where they could be counted.
    pub(super) threads: Option<u32>,
    pub(super) living: bool,
    /// A thread of it has ended and it isn't known whether it was the last.
    pub(super) doubtful: bool,
    /// It was taken for ended, and ran.
    pub(super) revived: bool,
    pub(super) kernel: bool,
    /// The name of its first thread, from `named` on.
    pub(super) name: Name,
    /// [`NEVER`] where the name isn't known.
    pub(super) named: u64,
    /// When it last ran another program; 0 where it has not.
    pub(super) execed: u64,
    /// When it last made a process.
    pub(super) forked: u64,
    /// The process that had its id before, where that is kept.
    pub(super) older: Option<Index>,
}
