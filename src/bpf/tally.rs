//! What the programs count on each CPU: the map `lost` of bpf-asm/lost.inc.
//!
//! Contract: numbers only go up. They are looked at where the kernel keeps
//! them: a lookup by bpf(2) would keep the programs from running meanwhile, and
//! so lose what it asks for (v6.12 include/linux/bpf.h,
//! bpf_disable_instrumentation). Only kernels before 5.5 have to be asked.

use super::layout::*;
use crate::sys::bpf::{MMAPABLE, Map, MapType};
use crate::sys::table::Table;
use crate::sys::{Errno, Result};
use std::os::fd::{AsFd, BorrowedFd};

/// A CPU's value in the map, in numbers of 64 bits and in bytes.
const WORDS: usize = LOST_SIZE / 8;

/// What the programs have counted on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were to be sent, looked at before all else.
    pub tried: u64,
    /// Events that found the ring full (ENOSPC). Kernels before 5.2 do not tell.
    pub ring_full: u64,
    /// Events that could not be sent for any other reason.
    pub other: u64,
    /// Not events: owners that found no room in the map `owners`.
    pub owners: u64,
    /// Not events either: listeners that found no room in the maps.
    pub listeners: u64,
    /// Passes through tracepoints; see [`crate::bpf::misses`].
    pub passed: u64,
    /// Runs of the programs on them, looked at after the passes.
    pub ran: u64,
    /// Not lost either: events that the filter keeps away.
    pub kept: u64,
}

/// The map.
#[derive(Debug)]
pub struct Tally {
    map: Map,
    table: Option<Table>,
    cpus: u32,
}

impl Tally {
    /// Creates the map for so many possible CPUs.
    pub fn create(name: &str, cpus: u32) -> Result<Tally> {
        let create = |flags| Map::create(MapType::Array, name, (4, LOST_SIZE as u32), cpus, flags);
        let (map, table) = match create(MMAPABLE) {
            Ok(map) => {
                let table = Table::new(map.as_fd(), WORDS * cpus as usize)?;
                (map, Some(table))
            }
            Err(Errno::EINVAL) => (create(0)?, None),
            Err(errno) => return Err(errno),
        };
        Ok(Tally { map, table, cpus })
    }

    /// Possible CPUs.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Whether it can still be looked at.
    pub fn readable(&self) -> Result<()> {
        self.value(0).map(drop)
    }

    fn value(&self, cpu: u32) -> Result<[u64; WORDS]> {
        if let Some(table) = &self.table {
            let first = WORDS * cpu as usize;
            // One after the other, which says what is looked at first.
            return Ok(std::array::from_fn(|word| table.get(first + word)));
        }
        let mut bytes = [0; LOST_SIZE];
        self.map.lookup(&cpu.to_ne_bytes(), &mut bytes)?;
        let mut value = [0; WORDS];
        for (word, bytes) in value.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_ne_bytes);
        }
        Ok(value)
    }

    /// Events that the filter keeps away, on all CPUs.
    pub(crate) fn kept(&self) -> u64 {
        (0..self.cpus).map(|cpu| self.of(cpu).kept).sum()
    }

    /// What was counted on a CPU; nothing where it can't be looked at.
    pub fn of(&self, cpu: u32) -> Counts {
        let first = self.value(cpu).unwrap_or_default();
        // A lookup copies in no order.
        let then = match self.table {
            Some(_) => first,
            None => self.value(cpu).unwrap_or_default(),
        };
        let of = |value: &[u64; WORDS], field: Field<u64>| value[field.at / 8];
        Counts {
            tried: of(&first, LOST_TRIED),
            ring_full: of(&then, LOST_FULL),
            other: of(&then, LOST_OTHER),
            owners: of(&then, LOST_OWNER),
            listeners: of(&then, LOST_LISTENER),
            passed: of(&first, LOST_PASSED),
            ran: of(&then, LOST_RAN),
            kept: of(&then, LOST_KEPT),
        }
    }
}

impl AsFd for Tally {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
