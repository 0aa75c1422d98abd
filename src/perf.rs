//! Per-CPU perf rings: opening, reading in the order of time, loss.
//!
//! Contract: [`Rings::drain`] hands out every sample older than a given time,
//! merged over all CPUs by timestamp, each exactly once. Within one ring the
//! kernel's order is kept; it can differ from that of the timestamps only
//! between a context and the interrupt that nests in it, so never for one
//! socket. Newer samples are held back for the next drain: another CPU may
//! still be writing an older one. What the kernel could not store and what
//! can't be read is counted per CPU.

mod cursor;
pub mod feed;
pub mod record;
pub mod span;

use crate::error::{Error, Kind};
use crate::sys::perf_event::Attr;
use crate::sys::ring::{RingMap, page_size};
use crate::sys::{Errno, memory, perf_event};
use cursor::{Cursor, Part, count_samples};
use feed::{Feed, open_error, shortfall};
use record::{Body, News};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Ring bytes of all CPUs together up to which each CPU gets 2 MiB by default.
const DEFAULT_TOTAL: usize = 64 << 20;
/// No more than this part of memory is taken for them by default.
const MEMORY_SHARE: u64 = 32;
const DEFAULT_MAX: usize = 2 << 20;
const DEFAULT_MIN: usize = 128 << 10;

/// Records handed out before what they used goes back to the kernel.
const BATCH: usize = 1024;

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

/// The ring of one CPU.
#[derive(Debug)]
pub struct Ring {
    cpu: u32,
    event: OwnedFd,
    map: RingMap,
    /// The tracepoints that sample into it.
    sources: Vec<OwnedFd>,
    /// What PERF_RECORD_LOST told.
    lost: Cell<u64>,
    /// Samples handed out of the sources that it has now.
    samples: Cell<u64>,
    missing: Cell<Missing>,
    /// Of `missing`, what was missing from sources that are gone.
    missing_before: Missing,
    unreadable: Cell<u64>,
    /// How long the event has been enabled, when last asked, in nanoseconds.
    enabled: u64,
    /// Of a retired one: whether it was empty when last asked.
    idle: bool,
    /// Samples handed out of the rings that it replaced.
    before: Cell<u64>,
}

/// Events that the tracepoints counted and that came to no sample.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    /// For want of room.
    full: u64,
    /// For other reasons.
    other: u64,
}

impl Ring {
    /// The CPU's number.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Whether half of it holds what nobody has read yet.
    pub fn is_filling(&self) -> bool {
        let (first, second) = self.map.unread();
        first.len() + second.len() > self.map.data_size() / 2
    }

    /// Samples that found no room, as far as the ring has said so, or the
    /// tracepoints when last asked.
    pub fn lost(&self) -> u64 {
        match self.sources.is_empty() {
            true => self.lost.get(),
            false => self.missing.get().full,
        }
    }

    /// Events that the kernel has counted and not sampled, though there was
    /// room; see [`Rings::count_missing`].
    pub fn unsampled(&self) -> u64 {
        self.missing.get().other
    }

    /// Records that were there and made no sense.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.get()
    }

    fn new(cpu: u32, event: OwnedFd, size: usize) -> Result<Ring, Errno> {
        let map = RingMap::new(event.as_fd(), size)?;
        Ok(Ring {
            cpu,
            event,
            map,
            sources: Vec::new(),
            lost: Cell::new(0),
            samples: Cell::new(0),
            missing: Cell::default(),
            missing_before: Missing::default(),
            unreadable: Cell::new(0),
            enabled: 0,
            idle: false,
            before: Cell::new(0),
        })
    }

    /// Compares what the sources counted with what was sampled.
    fn count_missing(&self, feed: &Feed) {
        let (mut counted, mut lost) = (0, 0);
        for source in &self.sources {
            let Ok((count, full)) = perf_event::read_counts(source.as_fd()) else {
                return;
            };
            counted += count;
            lost += full;
        }
        // Looked at after the count: what has come since makes the difference
        // too small, never too large, and only until the next time.
        let waiting = count_samples(self.map.unread(), feed.layout());
        let missing = counted.saturating_sub(self.samples.get() + waiting);
        let full = match feed.counts_lost() {
            true => lost.min(missing),
            false => missing,
        };
        let (told, before) = (self.missing.get(), self.missing_before);
        self.missing.set(Missing {
            full: told.full.max(before.full + full),
            other: told.other.max(before.other + missing - full),
        });
    }

    /// Whether its CPU went away, and the ring with it: its event is then no
    /// longer enabled. Each call looks at the time since the one before.
    fn is_dead(&mut self) -> bool {
        let enabled = perf_event::read_counts(self.event.as_fd()).map_or(0, |(_, time)| time);
        std::mem::replace(&mut self.enabled, enabled) == enabled
    }

    /// Takes over what another ring of its CPU counted as lost.
    fn take_losses(&self, other: &Ring) {
        self.lost.set(self.lost.get() + other.lost.take());
        self.unreadable
            .set(self.unreadable.get() + other.unreadable.take());
    }

    fn switch(&self, on: bool) -> Result<(), Errno> {
        let switch = if on {
            perf_event::enable
        } else {
            perf_event::disable
        };
        self.sources.iter().try_for_each(|s| switch(s.as_fd()))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// The rings of all online CPUs.
#[derive(Debug)]
pub struct Rings {
    rings: Vec<Ring>,
    /// Replaced by another one of their CPU.
    retired: Vec<Ring>,
    cpu_ids: u32,
    size: usize,
    wanted: usize,
    /// Why they are smaller, if they are.
    short: Errno,
    feed: Feed,
}

impl Rings {
    /// Opens a ring on every online CPU, for this feed; tracepoints sample once
    /// [`Rings::switch`] lets them. `size` is in bytes per CPU, rounded up
    /// to a power of two of pages; `None` is 2 MiB, less on hosts with more
    /// than 32 CPUs or little memory. Where locked memory runs out, all rings are made smaller:
    /// compare [`Rings::size`] with [`Rings::wanted`].
    pub fn open(size: Option<usize>, mut feed: Feed) -> Result<Rings, Error> {
        let page = page_size();
        // The watermark is set at opening, the default size comes from the
        // number of CPUs: half of the smallest default ring will do.
        let (mut events, cpu_ids) = feed.open_rings(size.unwrap_or(DEFAULT_MAX))?;
        let wanted = match size {
            Some(size) => size.max(page).checked_next_power_of_two(),
            None => Some(default_size(events.len(), memory::total())),
        }
        .ok_or_else(|| Error::new(Kind::Usage, "--buffer is larger than memory can be"))?;
        let (mut size, mut short) = (wanted, Errno::EPERM);
        let mut rings = loop {
            match map_all(events, size) {
                Ok(rings) => break rings,
                Err(errno @ (Errno::EPERM | Errno::ENOMEM)) if size > page => {
                    short = errno;
                    size /= 2;
                    events = feed.open_rings(size)?.0;
                }
                Err(errno) => {
                    return Err(Error::new(
                        Kind::Runtime,
                        format!("cannot map a ring of {size} bytes per CPU ({errno})"),
                    )
                    .advise("try a smaller --buffer, or raise kernel.perf_event_mlock_kb")
                    .or_limit(errno));
                }
            }
        };
        for ring in &mut rings {
            ring.sources = feed
                .open_sources(ring, size)
                .map_err(|errno| open_error(ring.cpu, errno))?;
        }
        Ok(Rings {
            rings,
            retired: Vec::new(),
            cpu_ids,
            size,
            wanted,
            short,
            feed,
        })
    }

    /// Lets the tracepoints sample into the rings, or no longer.
    pub fn switch(&self, on: bool) -> Result<(), Error> {
        for ring in &self.rings {
            match ring.switch(on) {
                Ok(()) => {}
                Err(errno) => return Err(open_error(ring.cpu, errno)),
            }
        }
        Ok(())
    }

    /// Asks the tracepoints how often they were passed, and so brings what is
    /// missing up to date. There are kernels that count an event and do not
    /// sample it, and say nothing: Linux 6.18.44 in the idle task of CPU 1, in a
    /// virtual machine (perf(1) lacks the same samples).
    pub fn count_missing(&self) {
        self.rings.iter().for_each(|r| r.count_missing(&self.feed));
    }

    /// Bytes per CPU.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes per CPU that were asked for.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Why the rings are smaller than wanted; `None` if they are not.
    pub fn shortfall(&self) -> Option<Error> {
        (self.size < self.wanted).then(|| shortfall(self.size, self.wanted, self.short))
    }

    /// One more than the highest CPU number this kernel can have (nr_cpu_ids).
    pub fn cpu_ids(&self) -> u32 {
        self.cpu_ids
    }

    /// The rings.
    pub fn iter(&self) -> std::slice::Iter<'_, Ring> {
        self.rings.iter()
    }

    /// The numbers of the CPUs that have a ring.
    pub fn cpus(&self) -> Vec<u32> {
        self.rings.iter().map(Ring::cpu).collect()
    }

    /// Opens the ring of a CPU that came up, for the first time or again: a
    /// ring dies with its CPU (kernel/events/core.c, perf_event_exit_cpu).
    /// Returns the new one, which the programs and poll must get to know. What
    /// the old one holds, or gets until the programs know, is handed out all
    /// the same.
    pub fn revive(&mut self, cpu: u32) -> Result<&Ring, Errno> {
        let event = self.feed.open_ring(cpu, self.size)?;
        let mut new = Ring::new(cpu, event, self.size)?;
        new.sources = self.feed.open_sources(&new, self.size)?;
        new.switch(true)?;
        let at = match self.rings.iter().position(|ring| ring.cpu == cpu) {
            Some(at) => {
                let old = std::mem::replace(&mut self.rings[at], new);
                old.count_missing(&self.feed);
                self.rings[at].missing_before = old.missing.get();
                self.rings[at].missing.set(old.missing.get());
                self.rings[at].take_losses(&old);
                self.retired.push(old);
                at
            }
            None => {
                self.rings.push(new);
                self.rings.len() - 1
            }
        };
        Ok(&self.rings[at])
    }

    /// Samples that a CPU's rings have had, handed out or not.
    pub fn delivered(&self, cpu: u32) -> u64 {
        let rings = self.rings.iter().chain(&self.retired);
        let of_cpu = rings.filter(|ring| ring.cpu == cpu);
        let one = |ring: &Ring| {
            let waiting = count_samples(ring.map.unread(), self.feed.layout());
            ring.before.get() + ring.samples.get() + waiting
        };
        of_cpu.map(one).sum()
    }

    /// Lets go of the rings that were replaced and got nothing since the call
    /// before. To be called at intervals that no program needs for one event.
    pub fn release_retired(&mut self) {
        for mut old in std::mem::take(&mut self.retired) {
            if let Some(ring) = self.rings.iter().find(|ring| ring.cpu == old.cpu) {
                ring.take_losses(&old);
                ring.before
                    .set(ring.before.get() + old.before.take() + old.samples.take());
            }
            let empty = old.map.unread().0.is_empty();
            if !(empty && std::mem::replace(&mut old.idle, empty)) {
                self.retired.push(old);
            }
        }
    }

    /// The events that may be opened for a CPU that comes up.
    pub fn events(&self) -> Vec<Attr> {
        self.feed.events(self.size)
    }

    /// Opens one ring more on a CPU that has one, and closes it again: what a
    /// CPU that comes up will need.
    pub fn try_another(&self) -> Result<(), Errno> {
        let cpu = self.rings.first().map_or(0, Ring::cpu);
        let event = self.feed.open_ring(cpu, self.size)?;
        let ring = Ring::new(cpu, event, self.size)?;
        self.feed.clone().open_sources(&ring, self.size).map(drop)
    }

    /// Whether a CPU may come up later: one that is not there now, or one that
    /// can be taken away (Documentation/core-api/cpu_hotplug.rst). Without
    /// /sys the answer is yes.
    pub fn may_grow(&self) -> bool {
        let folder = Path::new("/sys/devices/system/cpu");
        let removable = |cpu: u32| folder.join(format!("cpu{cpu}/online")).exists();
        self.rings.len() < self.cpu_ids as usize
            || self.cpu_ids > 1 && !folder.exists()
            || self.rings.iter().any(|ring| removable(ring.cpu))
    }

    /// The CPUs without a live ring, as far as is known without asking the
    /// programs. To be called at intervals: a ring is taken for dead when its
    /// CPU has done nothing for it since the last call.
    pub fn without_ring(&mut self) -> Vec<u32> {
        let mut cpus: Vec<u32> = (0..self.cpu_ids).collect();
        for ring in &mut self.rings {
            if !ring.is_dead() {
                cpus.retain(|&cpu| cpu != ring.cpu);
            }
        }
        cpus
    }

    /// The ring of a CPU.
    pub fn of(&self, cpu: u32) -> Option<&Ring> {
        self.rings.iter().find(|ring| ring.cpu == cpu)
    }

    /// Hands out, in the order of time, every sample older than `until`
    /// (CLOCK_MONOTONIC, nanoseconds), until `sink` returns false. Returns
    /// whether samples are left.
    pub fn drain(&mut self, until: u64, sink: &mut dyn FnMut(Sample<'_>) -> bool) -> bool {
        loop {
            self.look_for_loss(sink);
            match self.drain_batch(until, sink) {
                Progress::More => {}
                Progress::Held => return true,
                Progress::Empty => return false,
            }
        }
    }

    /// Where something may have found no room since the last look, news of
    /// tasks may be among it.
    fn look_for_loss(&mut self, sink: &mut dyn FnMut(Sample<'_>) -> bool) {
        for ring in &mut self.rings {
            if self.feed.may_have_lost(ring.map.take_fullest(), self.size) {
                ring.count_missing(&self.feed);
                let body = Body::News(News::Missing);
                let (cpu, time) = (ring.cpu, 0);
                sink(Sample { cpu, time, body });
            }
        }
    }

    fn drain_batch(&mut self, until: u64, sink: &mut dyn FnMut(Sample<'_>) -> bool) -> Progress {
        let layout = self.feed.layout();
        let rings = self.rings.iter_mut().chain(&mut self.retired);
        let mut parts: Vec<Part<'_>> = rings
            .map(|r| Part {
                cpu: r.cpu,
                lost: &r.lost,
                samples: &r.samples,
                unreadable: &r.unreadable,
                drain: r.map.drain(),
            })
            .collect();
        let mut cursors: Vec<Cursor<'_>> = parts
            .iter_mut()
            .map(|part| Cursor::new(part, layout))
            .collect();
        for _ in 0..BATCH {
            let next = cursors
                .iter_mut()
                .filter(|c| !c.is_done())
                .min_by_key(|c| c.time());
            let Some(cursor) = next else {
                return Progress::Empty;
            };
            if cursor.time() >= until {
                return Progress::Held;
            }
            if cursor.take().is_some_and(|sample| !sink(sample)) {
                return Progress::Held;
            }
        }
        Progress::More
    }
}

enum Progress {
    More,
    Held,
    Empty,
}

/// The default ring of each CPU in bytes, with so many CPUs and so much memory.
fn default_size(cpus: usize, memory: u64) -> usize {
    let memory = usize::try_from(memory / MEMORY_SHARE).unwrap_or(usize::MAX);
    let share = DEFAULT_TOTAL.min(memory) / cpus.next_power_of_two();
    let share = share.clamp(DEFAULT_MIN, DEFAULT_MAX);
    1 << share.ilog2()
}

fn map_all(events: Vec<(u32, OwnedFd)>, size: usize) -> Result<Vec<Ring>, Errno> {
    events
        .into_iter()
        .map(|(cpu, event)| Ring::new(cpu, event, size))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_rings_shrink_with_many_cpus_and_little_memory() {
        const PLENTY: u64 = u64::MAX;
        assert_eq!(default_size(1, PLENTY), DEFAULT_MAX);
        assert_eq!(default_size(32, PLENTY), DEFAULT_MAX);
        assert_eq!(default_size(33, PLENTY), 1 << 20);
        assert_eq!(default_size(4096, PLENTY), DEFAULT_MIN);
        assert_eq!(default_size(2, 512 << 20), DEFAULT_MAX);
        assert_eq!(default_size(2, 48 << 20), 512 << 10);
        assert_eq!(default_size(2, 0), DEFAULT_MIN);
    }
}
