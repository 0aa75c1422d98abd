//! Per-CPU perf rings: opening, reading in the order of time, loss.
//!
//! Contract: [`Rings::drain`] hands out every sample older than a given time,
//! merged over all CPUs by timestamp, each exactly once. Within one ring the
//! kernel's order is kept; it can differ from that of the timestamps only
//! between a context and the interrupt that nests in it, so never for one
//! socket. Newer samples are held back for the next drain: another CPU may
//! still be writing an older one. What the kernel could not store and what
//! can't be read is counted per CPU.

pub mod record;

use crate::error::{Error, Kind};
use crate::sys::perf_event::{self, Attr, AttrFlags, SampleType};
use crate::sys::ring::{Drain, RingMap, page_size};
use crate::sys::{Errno, time};
use record::{Record, Span};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Ring bytes of all CPUs together up to which each CPU gets 2 MiB by default.
const DEFAULT_TOTAL: usize = 64 << 20;
const DEFAULT_MAX: usize = 2 << 20;
const DEFAULT_MIN: usize = 128 << 10;

/// Unread bytes at which poll wakes up: few wake-ups, and far from a full ring.
const WATERMARK: usize = 64 << 10;

/// Records handed out before what they used goes back to the kernel.
const BATCH: usize = 1024;

/// More CPU numbers than any kernel has (CONFIG_NR_CPUS_RANGE_END, x86: 8192).
const CPU_LIMIT: u32 = 8192;

/// One sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The CPU it was taken on.
    pub cpu: u32,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// What the program sent, with up to 7 bytes of padding.
    pub data: Span<'a>,
}

/// The ring of one CPU.
#[derive(Debug)]
pub struct Ring {
    cpu: u32,
    event: OwnedFd,
    map: RingMap,
    lost: Cell<u64>,
    unreadable: Cell<u64>,
}

impl Ring {
    /// The CPU's number.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Samples that found no room, as far as the ring has said so.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Records that were there and made no sense.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.get()
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
    cpu_ids: u32,
    size: usize,
    wanted: usize,
    attr: Attr,
    pinned: Option<&'static Attr>,
}

fn output_attr(size: usize) -> Attr {
    let mut attr = Attr::new(perf_event::TYPE_SOFTWARE, perf_event::COUNT_SW_BPF_OUTPUT);
    attr.sample_period = 1;
    attr.sample_type = SampleType::TIME | SampleType::RAW;
    attr.flags = AttrFlags::WATERMARK | AttrFlags::USE_CLOCKID;
    attr.wakeup = WATERMARK.min(size / 4) as u32;
    attr.clockid = time::EVENT_CLOCK;
    attr
}

impl Rings {
    /// Opens a ring on every online CPU. `size` is in bytes per CPU, rounded up
    /// to a power of two of pages; `None` is 2 MiB, less on hosts with more
    /// than 32 CPUs. Where locked memory runs out, all rings are made smaller:
    /// compare [`Rings::size`] with [`Rings::wanted`].
    pub fn open(size: Option<usize>) -> Result<Rings, Error> {
        let page = page_size();
        // The watermark is set at opening, the default size comes from the
        // number of CPUs: half of the smallest default ring will do.
        let (mut events, cpu_ids) = open_events(size.unwrap_or(DEFAULT_MAX))?;
        let wanted = match size {
            Some(size) => size.max(page).checked_next_power_of_two(),
            None => {
                let share = DEFAULT_TOTAL / events.len().next_power_of_two();
                Some(share.clamp(DEFAULT_MIN, DEFAULT_MAX))
            }
        }
        .ok_or_else(|| Error::new(Kind::Usage, "--buffer is larger than memory can be"))?;
        let mut size = wanted;
        loop {
            match map_all(events, size) {
                Ok(rings) => {
                    return Ok(Rings {
                        rings,
                        cpu_ids,
                        size,
                        wanted,
                        attr: output_attr(size),
                        pinned: None,
                    });
                }
                Err(Errno::EPERM | Errno::ENOMEM) if size > page => {
                    size /= 2;
                    events = open_events(size)?.0;
                }
                Err(errno) => {
                    return Err(Error::new(
                        Kind::Runtime,
                        format!("cannot map a ring of {size} bytes per CPU ({errno})"),
                    )
                    .advise("try a smaller --buffer, or raise kernel.perf_event_mlock_kb"));
                }
            }
        }
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
        (self.size < self.wanted).then(|| {
            let why = format!(
                "rings of {} KiB per CPU instead of {} KiB: locked memory is limited",
                self.size / 1024,
                self.wanted / 1024
            );
            Error::new(Kind::Permission, why)
                .advise("raise kernel.perf_event_mlock_kb or give CAP_IPC_LOCK")
        })
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
    /// ring dies with its CPU (kernel/events/core.c, perf_event_exit_cpu). A
    /// dead ring that still holds something is left alone. Returns whether
    /// there is a new one, which the programs and poll must get to know.
    pub fn revive(&mut self, cpu: u32) -> Result<bool, Errno> {
        let old = self.rings.iter_mut().find(|ring| ring.cpu == cpu);
        if old
            .as_ref()
            .is_some_and(|ring| !ring.map.unread().0.is_empty())
        {
            return Ok(false);
        }
        let attr = self.pinned.unwrap_or(&self.attr);
        let event = perf_event::open(attr, cpu)?;
        let map = RingMap::new(event.as_fd(), self.size)?;
        match old {
            Some(ring) => (ring.event, ring.map) = (event, map),
            None => self.rings.push(Ring {
                cpu,
                event,
                map,
                lost: Cell::new(0),
                unreadable: Cell::new(0),
            }),
        }
        Ok(true)
    }

    /// The event behind a ring that is opened later.
    pub fn attr(&self) -> &Attr {
        &self.attr
    }

    /// From here on this copy of it is used.
    pub fn pin(&mut self, attr: &'static Attr) {
        self.pinned = Some(attr);
    }

    /// Opens one ring more on a CPU that has one, and closes it again: what a
    /// CPU that comes up will need.
    pub fn try_another(&self) -> Result<(), Errno> {
        let cpu = self.rings.first().map_or(0, Ring::cpu);
        let event = perf_event::open(&self.attr, cpu)?;
        RingMap::new(event.as_fd(), self.size).map(drop)
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

    /// The ring of a CPU.
    pub fn of(&self, cpu: u32) -> Option<&Ring> {
        self.rings.iter().find(|ring| ring.cpu == cpu)
    }

    /// Hands out, in the order of time, every sample older than `until`
    /// (CLOCK_MONOTONIC, nanoseconds), until `sink` returns false. Returns
    /// whether samples are left.
    pub fn drain(&mut self, until: u64, sink: &mut dyn FnMut(Sample<'_>) -> bool) -> bool {
        loop {
            match self.drain_batch(until, sink) {
                Progress::More => {}
                Progress::Held => return true,
                Progress::Empty => return false,
            }
        }
    }

    fn drain_batch(&mut self, until: u64, sink: &mut dyn FnMut(Sample<'_>) -> bool) -> Progress {
        let mut parts: Vec<(u32, &Cell<u64>, &Cell<u64>, Drain<'_>)> = self
            .rings
            .iter_mut()
            .map(|r| (r.cpu, &r.lost, &r.unreadable, r.map.drain()))
            .collect();
        let mut cursors: Vec<Cursor<'_>> = parts
            .iter_mut()
            .map(|(cpu, lost, unreadable, drain)| Cursor::new(*cpu, lost, unreadable, drain))
            .collect();
        for _ in 0..BATCH {
            let next = cursors
                .iter_mut()
                .filter(|c| c.next.is_some())
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

/// Reads one ring, a sample ahead.
struct Cursor<'a> {
    cpu: u32,
    rest: Span<'a>,
    next: Option<(u64, Span<'a>, usize)>,
    used: &'a Cell<usize>,
    lost: &'a Cell<u64>,
    unreadable: &'a Cell<u64>,
}

impl<'a> Cursor<'a> {
    fn new(
        cpu: u32,
        lost: &'a Cell<u64>,
        unreadable: &'a Cell<u64>,
        drain: &'a Drain<'_>,
    ) -> Cursor<'a> {
        let (first, second) = drain.unread();
        let mut cursor = Cursor {
            cpu,
            rest: Span::new(first, second),
            next: None,
            used: drain.used(),
            lost,
            unreadable,
        };
        cursor.look();
        cursor
    }

    fn time(&self) -> u64 {
        self.next.map_or(u64::MAX, |(time, ..)| time)
    }

    fn skip(&mut self, len: usize) {
        self.used.set(self.used.get() + len);
        let left = self.rest.len().saturating_sub(len);
        self.rest = self.rest.slice(len, left).unwrap_or(Span::new(&[], &[]));
    }

    /// Finds the next sample; what stands before it is accounted for.
    fn look(&mut self) {
        self.next = None;
        while let Some(result) = record::first(self.rest) {
            match result {
                Ok((Record::Sample { time, data }, len)) => {
                    self.next = Some((time, data, len));
                    return;
                }
                Ok((other, len)) => {
                    match other {
                        Record::Lost(count) => self.lost.set(self.lost.get().saturating_add(count)),
                        Record::Malformed => self.unreadable.set(self.unreadable.get() + 1),
                        Record::Sample { .. } | Record::Other => {}
                    }
                    self.skip(len);
                }
                Err(record::Corrupt) => {
                    self.unreadable.set(self.unreadable.get() + 1);
                    self.skip(self.rest.len());
                }
            }
        }
    }

    fn take(&mut self) -> Option<Sample<'a>> {
        let (time, data, len) = self.next?;
        self.skip(len);
        self.look();
        Some(Sample {
            cpu: self.cpu,
            time,
            data,
        })
    }
}

/// Opens an output event on every online CPU, and finds how many CPU numbers
/// there are: perf_event_open refuses an offline CPU with ENODEV and a number
/// from nr_cpu_ids on with EINVAL (kernel/events/core.c, perf_event_alloc).
/// This needs neither /sys nor /proc.
fn open_events(size: usize) -> Result<(Vec<(u32, OwnedFd)>, u32), Error> {
    let attr = output_attr(size);
    let mut events = Vec::new();
    for cpu in 0..CPU_LIMIT {
        match perf_event::open(&attr, cpu) {
            Ok(fd) => events.push((cpu, fd)),
            Err(Errno::ENODEV) => {}
            Err(Errno::EINVAL) if cpu > 0 => return Ok((events, cpu)),
            Err(errno) => return Err(open_error(cpu, errno)),
        }
    }
    Ok((events, CPU_LIMIT))
}

fn open_error(cpu: u32, errno: Errno) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::new(
            Kind::Permission,
            format!("cannot open a perf ring on CPU {cpu} (perf_event_open: {errno})"),
        )
        .advise("run as root or with CAP_PERFMON"),
        Errno::ENOSYS => Error::new(
            Kind::Unsupported,
            "this kernel has no perf_event_open(2) (CONFIG_PERF_EVENTS)",
        ),
        Errno::EMFILE => Error::new(
            Kind::Runtime,
            format!("cannot open a perf ring on CPU {cpu} ({errno})"),
        )
        .advise("raise the limit: ulimit -n"),
        _ => Error::new(
            Kind::Runtime,
            format!("cannot open a perf ring on CPU {cpu} (perf_event_open: {errno})"),
        ),
    }
}

fn map_all(events: Vec<(u32, OwnedFd)>, size: usize) -> Result<Vec<Ring>, Errno> {
    events
        .into_iter()
        .map(|(cpu, event)| {
            let map = RingMap::new(event.as_fd(), size)?;
            Ok(Ring {
                cpu,
                event,
                map,
                lost: Cell::new(0),
                unreadable: Cell::new(0),
            })
        })
        .collect()
}
