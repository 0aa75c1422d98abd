//! What wakes who sleeps: on a quiet host the next event of a tracepoint is not
//! to wait until its ring is looked at.
//!
//! Contract: a bell rings once, and costs nothing from then on until it is set
//! again: the kernel disables its event (kernel/events/core.c,
//! __perf_event_overflow, event_limit). It says no more than that something
//! happened, perhaps nothing of interest, and has a ring of its own for that. It
//! comes after the program on the tracepoint, whose record can be read by then.

use crate::sys::perf_event::{self, Attr, AttrFlags};
use crate::sys::ring::{RingMap, page_size};
use crate::sys::{Errno, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A sample at each pass of the tracepoint, of nothing but its header.
fn attr(id: u32) -> Attr {
    let mut attr = Attr::new(perf_event::TYPE_TRACEPOINT, id.into());
    attr.sample_period = 1;
    attr.wakeup = 1;
    attr.flags = AttrFlags::DISABLED;
    attr
}

/// The bell of a tracepoint on one CPU.
#[derive(Debug)]
struct Bell {
    cpu: u32,
    event: OwnedFd,
    map: RingMap,
    set: bool,
}

impl Bell {
    fn open(cpu: u32, id: u32) -> Result<Bell> {
        let event = perf_event::open(&attr(id), cpu)?;
        let map = RingMap::new(event.as_fd(), page_size())?;
        let set = false;
        Ok(Bell {
            cpu,
            event,
            map,
            set,
        })
    }

    /// Sets it, if it has rung.
    fn set(&mut self) -> Result<()> {
        let rung = self.map.unread().0.len();
        self.map.consume(rung);
        if rung > 0 || !self.set {
            self.set = false;
            perf_event::refresh(self.event.as_fd())?;
            self.set = true;
        }
        Ok(())
    }
}

/// Those of all CPUs, or none.
#[derive(Debug, Default)]
pub(super) struct Bells {
    /// Numbers of the tracepoints.
    ids: Vec<u32>,
    all: Vec<Bell>,
}

impl Bells {
    /// Of these tracepoints on these CPUs; none where that can't be had.
    pub(super) fn hang(ids: &[u32], cpus: &[u32]) -> Bells {
        let mut bells = Bells {
            ids: ids.to_vec(),
            all: Vec::new(),
        };
        for &cpu in cpus {
            bells.add(cpu);
        }
        bells
    }

    /// Hangs those of a CPU that came up; its old ones went away with it. Where
    /// one lacks, all are let go: sleeping would be no good.
    pub(super) fn add(&mut self, cpu: u32) {
        self.all.retain(|bell| bell.cpu != cpu);
        match self.of_cpu(cpu) {
            Ok(new) => self.all.extend(new),
            Err(_) => *self = Bells::default(),
        }
    }

    fn of_cpu(&self, cpu: u32) -> Result<Vec<Bell>> {
        self.ids.iter().map(|&id| Bell::open(cpu, id)).collect()
    }

    /// Opens those of a CPU, and closes them again.
    pub(super) fn try_another(&self, cpu: u32) -> Result<()> {
        self.of_cpu(cpu).map(drop)
    }

    /// The events behind them.
    pub(super) fn events(&self) -> impl Iterator<Item = Attr> + '_ {
        self.ids.iter().map(|&id| attr(id))
    }

    /// What is to be waited for, with its CPU.
    pub(super) fn watched(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        self.all.iter().map(|bell| (bell.cpu, bell.event.as_fd()))
    }

    /// Sets those that are not set: whether there are any, and all are.
    pub(super) fn set(&mut self) -> bool {
        let set = self.all.iter_mut().try_for_each(Bell::set);
        match set {
            Ok(()) => !self.all.is_empty(),
            // Its CPU has gone.
            Err(Errno(_)) => false,
        }
    }
}
