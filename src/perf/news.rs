//! The rings of what becomes of tasks: on each CPU one for those that are made
//! and end, and one for names.
//!
//! Contract: they are apart from each other and from the events, so that a flood
//! of one kind pushes out no other. What finds no room is told at its place in
//! time: see [`Gap`].

use super::cursor::Part;
use super::gap::Gap;
use super::record::Topic;
use crate::model::sort;
use crate::sys::perf_event::{self, Attr, AttrFlags, ReadFormat, SampleType};
use crate::sys::ring::{RingMap, page_size};
use crate::sys::{Errno, Result, time};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Such a ring has this part of the events' ring: a record takes 40 bytes, so
/// that 256 KiB hold the forks and ends of 30,000 tasks a second between two
/// looks, many more than one CPU can make.
const SHARE: usize = 8;
/// The least, in bytes: 8,000 a second.
const LEAST: usize = 64 << 10;

/// More than the longest record of a task and a PERF_RECORD_LOST before it take.
const ONE: usize = 128;

/// A ring is not made smaller for these than this many bytes, where locked
/// memory is limited.
pub(super) const EVENTS_LEAST: usize = 128 << 10;

/// What their records end with.
pub(super) const LAYOUT: SampleType = SampleType::TIME;

const TOPICS: [Topic; 2] = [Topic::Lives, Topic::Names];

/// Bytes of each, where the events' ring has `size`.
fn size_beside(size: usize) -> usize {
    (size / SHARE).max(LEAST).max(page_size())
}

/// The event behind such a ring; it never happens itself.
fn attr(topic: Topic, size: usize, counts_lost: bool) -> Attr {
    let mut attr = Attr::new(perf_event::TYPE_SOFTWARE, perf_event::COUNT_SW_DUMMY);
    attr.sample_type = LAYOUT;
    attr.flags = AttrFlags::WATERMARK | AttrFlags::USE_CLOCKID | AttrFlags::SAMPLE_ID_ALL;
    attr.flags |= match topic {
        Topic::Lives => AttrFlags::TASK,
        // With COMM_EXEC names from execve(2) are marked; the mark is there
        // since the flag is (3.16), whether asked for or not.
        Topic::Names => AttrFlags::COMM,
    };
    // Names wake nobody: a flood of them would do nothing else.
    attr.wakeup = match topic {
        Topic::Lives => size_beside(size) / 2,
        Topic::Names => size_beside(size),
    } as u32;
    attr.clockid = time::EVENT_CLOCK;
    attr.read_format.set(ReadFormat::LOST, counts_lost);
    attr
}

/// One of them.
#[derive(Debug)]
pub(super) struct NewsRing {
    pub(super) cpu: u32,
    event: OwnedFd,
    pub(super) map: RingMap,
    pub(super) gap: Gap,
    /// What PERF_RECORD_LOST told.
    pub(super) lost: Cell<u64>,
    pub(super) unreadable: Cell<u64>,
    /// No sample comes here.
    pub(super) samples: Cell<u64>,
    /// Of a retired one: whether it was empty when last asked.
    pub(super) idle: bool,
}

impl NewsRing {
    fn open(cpu: u32, topic: Topic, size: usize, counts_lost: bool) -> Result<NewsRing> {
        let event = perf_event::open(&attr(topic, size, counts_lost), cpu)?;
        let map = RingMap::new(event.as_fd(), size_beside(size))?;
        Ok(NewsRing {
            cpu,
            event,
            map,
            gap: Gap::new(topic),
            lost: Cell::new(0),
            unreadable: Cell::new(0),
            samples: Cell::new(0),
            idle: false,
        })
    }

    /// Whether half of it holds what nobody has read yet.
    pub(super) fn is_filling(&self) -> bool {
        let (first, second) = self.map.unread();
        self.gap.topic == Topic::Lives && first.len() + second.len() > self.map.data_size() / 2
    }

    /// Whether so many unread bytes left no room for a record.
    pub(super) fn may_have_lost(&self, fullest: usize) -> bool {
        fullest + ONE >= self.map.data_size()
    }

    /// It as something to be read.
    pub(super) fn part(&mut self) -> Part<'_> {
        Part {
            cpu: self.cpu,
            layout: LAYOUT,
            lost: &self.lost,
            samples: &self.samples,
            unreadable: &self.unreadable,
            news: Some((&self.gap, self.event.as_fd())),
            drain: self.map.drain(),
        }
    }
}

impl AsFd for NewsRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Those of all CPUs.
#[derive(Debug, Default)]
pub(super) struct NewsRings {
    pub(super) rings: Vec<NewsRing>,
    /// Replaced by others of their CPU.
    pub(super) retired: Vec<NewsRing>,
    /// What rings had lost that are gone, with their CPUs.
    gone: Vec<(u32, u64)>,
    /// Bytes of the events' ring of each CPU.
    size: usize,
    /// Whether the events count what found no room (PERF_FORMAT_LOST, 6.0).
    counts_lost: bool,
    /// Whether they were opened at all.
    on: bool,
}

impl NewsRings {
    /// Opens them on these CPUs, beside rings of `size` bytes.
    pub(super) fn open(cpus: &[u32], size: usize) -> Result<NewsRings> {
        let mut news = NewsRings {
            size,
            counts_lost: true,
            on: true,
            ..NewsRings::default()
        };
        for &cpu in cpus {
            let rings = match news.of_cpu(cpu) {
                Err(Errno::EINVAL) if news.counts_lost => {
                    news.counts_lost = false;
                    news.of_cpu(cpu)?
                }
                rings => rings?,
            };
            news.rings.extend(rings);
        }
        Ok(news)
    }

    /// Opens those of a CPU.
    pub(super) fn of_cpu(&self, cpu: u32) -> Result<Vec<NewsRing>> {
        let topics = TOPICS.iter().filter(|_| self.on);
        let open = |&topic: &Topic| NewsRing::open(cpu, topic, self.size, self.counts_lost);
        topics.map(open).collect()
    }

    /// Replaces those of a CPU that came up.
    pub(super) fn replace(&mut self, cpu: u32, new: Vec<NewsRing>) {
        let (old, kept) = std::mem::take(&mut self.rings)
            .into_iter()
            .partition(|ring| ring.cpu == cpu);
        self.rings = kept;
        self.retired.extend::<Vec<_>>(old);
        self.rings.extend(new);
    }

    /// Lets go of those that were replaced and got nothing since the call before.
    pub(super) fn release_retired(&mut self) {
        for mut old in std::mem::take(&mut self.retired) {
            let empty = old.map.unread().0.is_empty();
            if empty && std::mem::replace(&mut old.idle, empty) {
                self.gone.push((old.cpu, self.lost_of(&old)));
            } else {
                old.idle = empty;
                self.retired.push(old);
            }
        }
        // One sum a CPU.
        sort::by_key(&mut self.gone, |gone| *gone);
        self.gone.dedup_by(|next, sum| {
            let same = next.0 == sum.0;
            sum.1 += if same { next.1 } else { 0 };
            same
        });
    }

    /// What was read of them has made room at this time.
    pub(super) fn made_room(&self, now: u64) {
        let all = self.rings.iter().chain(&self.retired);
        all.for_each(|ring| ring.gap.made_room(now));
    }

    /// Asks what is missing of a ring that may have been too full.
    pub(super) fn ask(counts_lost: bool, part: &Part<'_>) {
        let Some((gap, event)) = part.news else {
            return;
        };
        let total = match (counts_lost, perf_event::read_counts(event)) {
            (true, Ok((_, lost))) => lost,
            // How many isn't known.
            _ => gap.lost(part.lost.get()) + 1,
        };
        gap.count(total);
    }

    /// Whether the events count what found no room.
    pub(super) fn counts_lost(&self) -> bool {
        self.counts_lost
    }

    fn lost_of(&self, ring: &NewsRing) -> u64 {
        let told = ring.lost.get();
        match self.counts_lost {
            true => ring.gap.lost(told),
            false => told,
        }
    }

    /// Records of a CPU that found no room, as far as is known.
    pub(super) fn lost(&self, cpu: u32) -> u64 {
        let all = self.rings.iter().chain(&self.retired);
        let now = all.filter(|ring| ring.cpu == cpu);
        let now: u64 = now.map(|ring| self.lost_of(ring)).sum();
        let gone = self.gone.iter().find(|(of, _)| *of == cpu);
        now + gone.map_or(0, |(_, lost)| *lost)
    }

    /// Records of a CPU that made no sense.
    pub(super) fn unreadable(&self, cpu: u32) -> u64 {
        let of_cpu = self.rings.iter().filter(|ring| ring.cpu == cpu);
        of_cpu.map(|ring| ring.unreadable.get()).sum()
    }

    /// All events that a CPU needs.
    pub(super) fn events(&self) -> Vec<Attr> {
        let topics = TOPICS.iter().filter(|_| self.on);
        topics
            .map(|&topic| attr(topic, self.size, self.counts_lost))
            .collect()
    }

    /// Those that were once so full that something may be missing, as indexes
    /// into all of them. To be called before they are read.
    pub(super) fn suspects(&mut self) -> Vec<usize> {
        let all = self.rings.iter_mut().chain(&mut self.retired).enumerate();
        let mut suspects = Vec::new();
        for (at, ring) in all {
            let fullest = ring.map.take_fullest();
            if ring.may_have_lost(fullest) {
                suspects.push(at);
            }
        }
        suspects
    }
}
