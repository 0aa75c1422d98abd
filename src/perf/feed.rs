//! What fills a CPU's ring, and how its events are opened.

use crate::error::{Error, Kind};
use crate::sys::perf_event::{self, Attr, AttrFlags, ReadFormat, SampleType};
use crate::sys::{Errno, Result, time};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Unread bytes at which poll wakes up: few wake-ups, and far from a full ring.
const WATERMARK: usize = 256 << 10;

/// More CPU numbers than any kernel has (CONFIG_NR_CPUS_RANGE_END, x86: 8192).
const CPU_LIMIT: u32 = 8192;

/// What a record may take besides a tracepoint's own bytes: its header, its
/// ids, a PERF_RECORD_LOST before it, and the byte that a full ring lacks.
const AROUND: usize = 128;

/// What fills the rings.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Programs, by bpf_perf_event_output.
    Programs,
    /// Every event of these tracepoints as a sample with the task's ids.
    Tracepoints {
        /// Their numbers.
        ids: Vec<u32>,
        /// Bytes of their longest record.
        longest: usize,
        /// Whether the events are opened so that they count what found no room
        /// (PERF_FORMAT_LOST, Linux 6.0); unset where that is refused.
        counts_lost: bool,
    },
}

impl Feed {
    /// Of tracepoints with these ids.
    pub fn tracepoints(ids: Vec<u32>, longest: usize) -> Feed {
        Feed::Tracepoints {
            ids,
            longest,
            counts_lost: true,
        }
    }

    /// The layout of the ring's records.
    pub(super) fn layout(&self) -> SampleType {
        match self {
            // An event brings its time itself, which costs less.
            Feed::Programs => SampleType::RAW,
            // The CPU is the ring's: it needs no room in every sample.
            Feed::Tracepoints { .. } => SampleType::TIME | SampleType::RAW | SampleType::TID,
        }
    }

    /// Whether the tracepoints tell what found no room apart from other loss.
    pub(super) fn counts_lost(&self) -> bool {
        match self {
            Feed::Programs => false,
            Feed::Tracepoints { counts_lost, .. } => *counts_lost,
        }
    }

    /// Whether a ring of `size` bytes, `fullest` of which were in use, may have
    /// had no room for a record. Programs tell that themselves.
    pub(super) fn may_have_lost(&self, fullest: usize, size: usize) -> bool {
        match self {
            Feed::Programs => false,
            Feed::Tracepoints { longest, .. } => fullest + longest + AROUND >= size,
        }
    }

    fn attr(&self, kind: u32, config: u64, size: usize) -> Attr {
        let mut attr = Attr::new(kind, config);
        attr.sample_type = self.layout();
        attr.flags = AttrFlags::WATERMARK | AttrFlags::USE_CLOCKID;
        attr.wakeup = WATERMARK.min(size / 4) as u32;
        attr.clockid = time::EVENT_CLOCK;
        attr
    }

    /// The event that a CPU's ring belongs to.
    fn of_ring(&self, size: usize) -> Attr {
        let config = match self {
            Feed::Programs => perf_event::COUNT_SW_BPF_OUTPUT,
            Feed::Tracepoints { .. } => perf_event::COUNT_SW_DUMMY,
        };
        let mut attr = self.attr(perf_event::TYPE_SOFTWARE, config, size);
        attr.read_format = ReadFormat::TIME_ENABLED;
        match self {
            Feed::Programs => attr.sample_period = 1,
            // It takes no sample, and raw data is a sample's alone.
            Feed::Tracepoints { .. } => attr.sample_type -= SampleType::RAW,
        }
        attr
    }

    /// A tracepoint's event.
    fn of_source(&self, id: u32, counts_lost: bool, size: usize) -> Attr {
        let mut attr = self.attr(perf_event::TYPE_TRACEPOINT, id.into(), size);
        attr.sample_period = 1;
        attr.flags |= AttrFlags::DISABLED;
        attr.read_format.set(ReadFormat::LOST, counts_lost);
        attr
    }

    /// All events that a CPU needs, as they can be opened here.
    pub(super) fn events(&self, size: usize) -> Vec<Attr> {
        let mut all = vec![self.of_ring(size)];
        if let Feed::Tracepoints {
            ids, counts_lost, ..
        } = self
        {
            let sources = ids.iter().map(|&id| self.of_source(id, *counts_lost, size));
            all.extend(sources);
        }
        all
    }

    /// Opens the event that a CPU's ring belongs to.
    pub(super) fn open_ring(&self, cpu: u32, size: usize) -> Result<OwnedFd> {
        perf_event::open(&self.of_ring(size), cpu)
    }

    fn set_counts_lost(&mut self, now: bool) {
        if let Feed::Tracepoints { counts_lost, .. } = self {
            *counts_lost = now;
        }
    }

    /// Opens the ring's event on every online CPU, and finds how many CPU
    /// numbers there are: perf_event_open refuses an offline CPU with ENODEV
    /// and a number from nr_cpu_ids on with EINVAL (kernel/events/core.c,
    /// perf_event_alloc). This needs neither /sys nor /proc.
    pub(super) fn open_rings(
        &self,
        size: usize,
    ) -> std::result::Result<(Vec<(u32, OwnedFd)>, u32), Error> {
        let mut events = Vec::new();
        for cpu in 0..CPU_LIMIT {
            match self.open_ring(cpu, size) {
                Ok(fd) => events.push((cpu, fd)),
                Err(Errno::ENODEV) => {}
                Err(Errno::EINVAL) if cpu > 0 => return Ok((events, cpu)),
                Err(errno) => return Err(open_error(cpu, errno)),
            }
        }
        Ok((events, CPU_LIMIT))
    }

    /// Lets the tracepoints of a CPU sample into its mapped ring, once they are
    /// enabled.
    pub(super) fn open_sources(
        &mut self,
        cpu: u32,
        ring: BorrowedFd<'_>,
        size: usize,
    ) -> Result<Vec<OwnedFd>> {
        let Feed::Tracepoints {
            ids,
            mut counts_lost,
            ..
        } = self.clone()
        else {
            return Ok(Vec::new());
        };
        let mut sources = Vec::new();
        for id in ids {
            let mut opened = perf_event::open(&self.of_source(id, counts_lost, size), cpu);
            if let (Err(Errno::EINVAL), true) = (&opened, counts_lost) {
                counts_lost = false;
                opened = perf_event::open(&self.of_source(id, counts_lost, size), cpu);
                self.set_counts_lost(false);
            }
            let source = opened?;
            perf_event::set_output(source.as_fd(), ring)?;
            sources.push(source);
        }
        Ok(sources)
    }
}

/// What it means that an event can't be opened.
pub(super) fn open_error(cpu: u32, errno: Errno) -> Error {
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
        _ => Error::new(
            Kind::Runtime,
            format!("cannot open a perf ring on CPU {cpu} (perf_event_open: {errno})"),
        )
        .or_limit(errno),
    }
}

/// What it means that rings are smaller than wanted. Where locked memory is
/// limited the kernel says EPERM, where there is none ENOMEM
/// (v6.12 kernel/events/core.c, perf_mmap).
pub(super) fn shortfall(size: usize, wanted: usize, errno: Errno) -> Error {
    let limit = match errno {
        Errno::EPERM => "locked memory is limited".into(),
        errno => errno.to_string(),
    };
    let (size, wanted) = (size / 1024, wanted / 1024);
    let why = format!("rings of {size} KiB per CPU instead of {wanted} KiB: {limit}");
    Error::new(Kind::Permission, why)
        .advise("raise kernel.perf_event_mlock_kb or give CAP_IPC_LOCK")
        .or_limit(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_ring_has_its_own_reason() {
        let said = |errno| shortfall(4096, 8192, errno).to_string();
        assert!(said(Errno::EPERM).contains("locked memory is limited; raise kernel.perf"));
        let memory = said(Errno::ENOMEM);
        assert!(
            memory.contains("ENOMEM") && memory.contains("more memory"),
            "{memory}"
        );
        assert!(!memory.contains("lock"), "{memory}");
    }
}
