//! Per-CPU perf rings: opening, reading in the order of time, loss.
//!
//! Contract: [`Rings::drain`] hands out every sample older than a given time,
//! and what became of tasks, merged over all rings by timestamp, each exactly
//! once. Within one ring the
//! kernel's order is kept; it can differ from that of the timestamps only
//! between a context and the interrupt that nests in it, so never for one
//! socket. Newer samples are held back for the next drain: another CPU may
//! still be writing an older one. What the kernel could not store and what
//! can't be read is counted per CPU.

mod ahead;
mod bell;
pub mod cursor;
pub mod feed;
mod gap;
pub mod merge;
mod news;
pub mod record;
pub mod ring;
pub mod span;

use crate::error::{Error, Kind};
use crate::sys::perf_event::Attr;
use crate::sys::ring::page_size;
use crate::sys::{Errno, file, memory, time};
use bell::Bells;
use cursor::{Cursor, Part, count_samples};
use feed::{Feed, open_error, shortfall};
use gap::Gap;
use merge::{Merge, Step};
use news::{NewsRing, NewsRings};
pub use record::Sample;
use record::{Body, News, Topic};
pub use ring::Ring;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Ring bytes of all CPUs together up to which each CPU gets 2 MiB by default.
const DEFAULT_TOTAL: usize = 64 << 20;
/// No more than this part of memory is taken for them by default.
const MEMORY_SHARE: u64 = 32;
const DEFAULT_MAX: usize = 2 << 20;
const DEFAULT_MIN: usize = 128 << 10;

/// Records handed out before what they used goes back to the kernel.
const BATCH: usize = 1024;
/// The same for each ring, where there are many: to look at all of them takes
/// its time.
const EACH: usize = 16;
/// The folder of the CPUs.
const CPUS: &str = "/sys/devices/system/cpu";

/// The rings of all online CPUs.
#[derive(Debug)]
pub struct Rings {
    rings: Vec<Ring>,
    /// Replaced by another one of their CPU.
    retired: Vec<Ring>,
    /// What becomes of tasks.
    news: NewsRings,
    /// Why that can't be had.
    without_news: Option<Errno>,
    /// News of a CPU that has just come up are missing.
    came: bool,
    cpu_ids: u32,
    size: usize,
    wanted: usize,
    /// Why they are smaller, if they are.
    short: Errno,
    feed: Feed,
    bells: Bells,
}

impl Rings {
    /// Opens a ring on every online CPU, for this feed; tracepoints sample once
    /// [`Rings::switch`] lets them. What becomes of tasks is recorded from here
    /// on. `size` is in bytes per CPU, rounded up
    /// to a power of two of pages; `None` is 2 MiB, less on hosts with more
    /// than 32 CPUs or little memory. Where locked memory runs out, all rings are made smaller:
    /// compare [`Rings::size`] with [`Rings::wanted`].
    pub fn open(size: Option<usize>, mut feed: Feed) -> Result<Rings, Error> {
        let page = page_size();
        // The watermark is set at opening, the default size comes from the
        // number of CPUs: half of the smallest default ring will do.
        let (events, cpu_ids) = feed.open_rings(size.unwrap_or(DEFAULT_MAX))?;
        let wanted = match size {
            Some(size) => size.max(page).checked_next_power_of_two(),
            None => Some(default_size(events.len(), memory::total())),
        }
        .ok_or_else(|| Error::new(Kind::Usage, "--buffer is larger than memory can be"))?;
        let least = wanted.min(news::EVENTS_LEAST.max(page));
        let (mut without_news, mut short) = (None, Errno::EPERM);
        let mapped = match map_all(&feed, events, (wanted, least), true, &mut short) {
            Ok(mapped) => Ok(mapped),
            // Better no news than no events.
            Err(errno) => {
                without_news = Some(errno);
                let events = feed.open_rings(wanted)?.0;
                map_all(&feed, events, (wanted, page), false, &mut short)
            }
        };
        let (mut rings, news, size) = mapped.map_err(|errno| {
            let why = format!("cannot map a ring for each CPU ({errno})");
            Error::new(Kind::Runtime, why)
                .advise("try a smaller --buffer, or raise kernel.perf_event_mlock_kb")
                .or_limit(errno)
        })?;
        for ring in &mut rings {
            ring.sources = feed
                .open_sources(ring.cpu(), ring.as_fd(), size)
                .map_err(|errno| open_error(ring.cpu(), errno))?;
        }
        Ok(Rings {
            rings,
            retired: Vec::new(),
            news,
            without_news,
            came: false,
            cpu_ids,
            size,
            wanted,
            short,
            feed,
            bells: Bells::default(),
        })
    }

    /// From now on [`Rings::sleep`] works, where that can be had: an event of
    /// these tracepoints wakes.
    pub fn hang_bells(&mut self, tracepoints: &[u32]) {
        self.bells = Bells::hang(tracepoints, &self.cpus());
    }

    /// Lets the next event be noticed at once by who waits for what is
    /// [`watched`](Rings::watched), once; whether it will be. What has come
    /// before is not.
    pub fn sleep(&mut self) -> bool {
        self.bells.set() && self.rings.iter().all(Ring::is_empty)
    }

    /// Lets the tracepoints sample into the rings, or no longer.
    pub fn switch(&self, on: bool) -> Result<(), Error> {
        for ring in &self.rings {
            match ring.switch(on) {
                Ok(()) => {}
                Err(errno) => return Err(open_error(ring.cpu(), errno)),
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

    /// Why it can't be told what becomes of tasks, where it can't.
    pub fn without_news(&self) -> Option<Error> {
        self.without_news.map(|errno| {
            let why = format!("perf does not tell what becomes of processes ({errno})");
            let error = Error::new(Kind::Permission, why);
            match errno {
                Errno::EPERM => {
                    error.advise("raise kernel.perf_event_mlock_kb or give CAP_IPC_LOCK")
                }
                _ => error,
            }
        })
    }

    /// What is to be waited for, with its CPU.
    pub fn watched(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        let lives = |ring: &&NewsRing| ring.gap.topic == Topic::Lives;
        let news = self.news.rings.iter().filter(lives);
        let news = news.map(|ring| (ring.cpu, ring.as_fd()));
        let events = self.rings.iter().map(|ring| (ring.cpu(), ring.as_fd()));
        events.chain(news).chain(self.bells.watched())
    }

    /// Whether a ring should be read soon.
    pub fn is_filling(&self) -> bool {
        self.rings.iter().any(Ring::is_filling) || self.news.rings.iter().any(NewsRing::is_filling)
    }

    /// Records of what became of a CPU's tasks that found no room, as far as is
    /// known.
    pub fn lost_news(&self, cpu: u32) -> u64 {
        self.news.lost(cpu)
    }

    /// Records of a CPU that made no sense.
    pub fn unreadable(&self, cpu: u32) -> u64 {
        self.of(cpu).map_or(0, Ring::unreadable) + self.news.unreadable(cpu)
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
        let news = self.news.of_cpu(cpu);
        let event = self.feed.open_ring(cpu, self.size)?;
        let mut new = Ring::new(cpu, event, self.size)?;
        new.sources = self.feed.open_sources(new.cpu(), new.as_fd(), self.size)?;
        new.switch(true)?;
        // Of what became of the CPU's tasks before, nothing is known.
        self.news.replace(cpu, news.unwrap_or_default());
        self.came = true;
        self.bells.add(cpu);
        let at = match self.rings.iter().position(|ring| ring.cpu() == cpu) {
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
        let of_cpu = rings.filter(|ring| ring.cpu() == cpu);
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
            if let Some(ring) = self.rings.iter().find(|ring| ring.cpu() == old.cpu()) {
                ring.take_losses(&old);
                ring.before
                    .set(ring.before.get() + old.before.take() + old.samples.take());
            }
            let empty = old.map.unread().0.is_empty();
            if !(empty && std::mem::replace(&mut old.idle, empty)) {
                self.retired.push(old);
            }
        }
        self.news.release_retired();
    }

    /// The events that may be opened for a CPU that comes up.
    pub fn events(&self) -> Vec<Attr> {
        let mut events = self.feed.events(self.size);
        events.extend(self.news.events());
        events.extend(self.bells.events());
        events
    }

    /// Opens one ring more on a CPU that has one, and closes it again: what a
    /// CPU that comes up will need.
    pub fn try_another(&self) -> Result<(), Errno> {
        let cpu = self.rings.first().map_or(0, Ring::cpu);
        let event = self.feed.open_ring(cpu, self.size)?;
        let ring = Ring::new(cpu, event, self.size)?;
        self.news.of_cpu(cpu)?;
        self.bells.try_another(cpu)?;
        self.feed
            .clone()
            .open_sources(ring.cpu(), ring.as_fd(), self.size)
            .map(drop)
    }

    /// Whether a CPU may come up later: one that is not there now, or one that
    /// can be taken away (Documentation/core-api/cpu_hotplug.rst). Without
    /// /sys the answer is yes.
    pub fn may_grow(&self) -> bool {
        let is_there = |path: &str| file::status(path.as_ref()).is_ok();
        let removable = |cpu: u32| is_there(&format!("{CPUS}/cpu{cpu}/online"));
        self.rings.len() < self.cpu_ids as usize
            || self.cpu_ids > 1 && !is_there(CPUS)
            || self.rings.iter().any(|ring| removable(ring.cpu()))
    }

    /// The CPUs without a live ring, as far as is known without asking the
    /// programs. To be called at intervals: a ring is taken for dead when its
    /// CPU has done nothing for it since the last call.
    pub fn without_ring(&mut self) -> Vec<u32> {
        let mut cpus: Vec<u32> = (0..self.cpu_ids).collect();
        for ring in &mut self.rings {
            if !ring.is_dead() {
                cpus.retain(|&cpu| cpu != ring.cpu());
            }
        }
        cpus
    }

    /// The ring of a CPU.
    pub fn of(&self, cpu: u32) -> Option<&Ring> {
        self.rings.iter().find(|ring| ring.cpu() == cpu)
    }

    /// Hands out, in the order of time, every sample older than `until`
    /// (CLOCK_MONOTONIC, nanoseconds), until `sink` returns false, and before
    /// each what has become of tasks until then. Returns whether samples are
    /// left.
    #[inline]
    pub fn drain(&mut self, until: u64, sink: &mut dyn FnMut(Sample<'_>) -> bool) -> bool {
        if std::mem::take(&mut self.came) {
            miss(Topic::Lives, sink);
            miss(Topic::Names, sink);
        }
        loop {
            for ring in &mut self.rings {
                if self.feed.may_have_lost(ring.map.take_fullest(), self.size) {
                    ring.count_missing(&self.feed);
                }
            }
            let progress = self.drain_batch(until, sink);
            self.news.made_room(time::monotonic());
            match progress {
                Progress::More => {}
                Progress::Held => return true,
                Progress::Empty => return false,
            }
        }
    }

    #[inline]
    fn drain_batch(&mut self, until: u64, sink: &mut dyn FnMut(Sample<'_>) -> bool) -> Progress {
        let layout = self.feed.layout();
        let suspects = self.news.suspects();
        let counts_lost = self.news.counts_lost();
        let rings = self.rings.iter_mut().chain(&mut self.retired);
        let news = self.news.rings.iter_mut().chain(&mut self.news.retired);
        let parts: Vec<Part<'_>> = news
            .map(NewsRing::part)
            .chain(rings.map(|ring| ring.part(layout)))
            .collect();
        // Asked after the bytes were looked at: what is missing then is missing
        // after them.
        let mut cursors: Vec<Cursor<'_>> = parts.iter().map(Cursor::new).collect();
        for at in suspects {
            if let (Some(part), Some(cursor)) = (parts.get(at), cursors.get_mut(at)) {
                NewsRings::ask(counts_lost, part);
                cursor.look();
            }
        }
        let mut merge = Merge::new(cursors);
        let gaps: Vec<&Gap> = parts.iter().filter_map(Part::gap).collect();
        let open = || gaps.iter().filter(|gap| gap.is_open());
        let mut any_open = open().next().is_some();
        for _ in 0..BATCH.max(EACH * parts.len()) {
            let more = match merge.next(until) {
                Step::Whole { cpu, time, data } => {
                    if any_open {
                        open().for_each(|gap| miss(gap.topic, sink));
                    }
                    sink(Sample::whole(cpu, time, data))
                }
                Step::Other => {
                    let Some(sample) = merge.take() else { continue };
                    match sample.body {
                        Body::Sample { .. } if any_open => {
                            open().for_each(|gap| miss(gap.topic, sink));
                        }
                        Body::News(News::Missing(_)) => any_open = open().next().is_some(),
                        _ => {}
                    }
                    sink(sample)
                }
                Step::Held => return Progress::Held,
                Step::Empty => return Progress::Empty,
            };
            if !more {
                return Progress::Held;
            }
        }
        Progress::More
    }
}

/// Hands out that news of this may be missing.
#[inline]
fn miss(topic: Topic, sink: &mut dyn FnMut(Sample<'_>) -> bool) {
    let body = Body::News(News::Missing(topic));
    let (cpu, time) = (0, 0);
    sink(Sample { cpu, time, body });
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

/// Rings of all CPUs, those of news beside them, and the events' size.
type Mapped = (Vec<Ring>, NewsRings, usize);

/// Maps rings of `size` bytes for these events and opens those of news beside
/// them, if wanted; smaller ones, but not below `least`, where locked memory runs out.
fn map_all(
    feed: &Feed,
    mut events: Vec<(u32, OwnedFd)>,
    (mut size, least): (usize, usize),
    with_news: bool,
    short: &mut Errno,
) -> Result<Mapped, Errno> {
    loop {
        let cpus: Vec<u32> = events.iter().map(|(cpu, _)| *cpu).collect();
        let rings = events.into_iter();
        let rings = rings.map(|(cpu, event)| Ring::new(cpu, event, size));
        let rings: Result<Vec<Ring>, Errno> = rings.collect();
        let news = || match with_news {
            true => NewsRings::open(&cpus, size),
            false => Ok(NewsRings::default()),
        };
        let all = rings.and_then(|rings| Ok((rings, news()?)));
        match all {
            Ok((rings, news)) => return Ok((rings, news, size)),
            Err(errno @ (Errno::EPERM | Errno::ENOMEM)) if size > least => {
                *short = errno;
                size /= 2;
            }
            Err(errno) => return Err(errno),
        }
        let again = cpus
            .iter()
            .map(|&cpu| Ok((cpu, feed.open_ring(cpu, size)?)));
        events = again.collect::<Result<_, Errno>>()?;
    }
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
