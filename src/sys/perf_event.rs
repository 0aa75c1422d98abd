//! perf_event_open(2) and its ioctls.
//!
//! Layout: include/uapi/linux/perf_event.h, struct perf_event_attr, up to
//! PERF_ATTR_SIZE_VER5 (Linux 4.1).
#![allow(unsafe_code, reason = "owns system calls")]

use super::sealed::Sealed;
use super::{Errno, Result, check, own};
use bitflags::bitflags;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// PERF_TYPE_SOFTWARE
pub const TYPE_SOFTWARE: u32 = 1;
/// PERF_TYPE_TRACEPOINT
pub const TYPE_TRACEPOINT: u32 = 2;
/// PERF_COUNT_SW_DUMMY: an event that never happens, for what comes besides.
pub const COUNT_SW_DUMMY: u64 = 9;
/// PERF_COUNT_SW_BPF_OUTPUT: the event behind a ring of bpf_perf_event_output.
pub const COUNT_SW_BPF_OUTPUT: u64 = 10;

const BIG_ENDIAN: bool = cfg!(target_endian = "big");

/// The `n`th of a row of one-bit fields, in a number of 64 bits: the order of
/// bit fields follows that of bytes.
const fn bit(n: u32, big_endian: bool) -> u64 {
    1 << if big_endian { 63 - n } else { n }
}

bitflags! {
    /// What a sample carries (enum perf_event_sample_format).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SampleType: u64 {
        /// PERF_SAMPLE_TID: u32 process id, u32 thread id.
        const TID = 1 << 1;
        /// PERF_SAMPLE_TIME: u64 nanoseconds of the chosen clock.
        const TIME = 1 << 2;
        /// PERF_SAMPLE_RAW: u32 size, then that many bytes.
        const RAW = 1 << 10;
    }

    /// What read(2) gives after the count (enum perf_event_read_format).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ReadFormat: u64 {
        /// PERF_FORMAT_TOTAL_TIME_ENABLED: u64 nanoseconds.
        const TIME_ENABLED = 1 << 0;
        /// PERF_FORMAT_LOST (6.0): u64 samples that found no room.
        const LOST = 1 << 4;
    }

    /// The bit field of struct perf_event_attr.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AttrFlags: u64 {
        /// Start disabled.
        const DISABLED = bit(0, BIG_ENDIAN);
        /// PERF_RECORD_COMM where a task gets a name.
        const COMM = bit(9, BIG_ENDIAN);
        /// PERF_RECORD_FORK and PERF_RECORD_EXIT.
        const TASK = bit(13, BIG_ENDIAN);
        /// `wakeup` counts bytes, not events.
        const WATERMARK = bit(14, BIG_ENDIAN);
        /// Other records end like samples start: TID, TIME.
        const SAMPLE_ID_ALL = bit(18, BIG_ENDIAN);
        /// Timestamps are of `clockid`.
        const USE_CLOCKID = bit(25, BIG_ENDIAN);
    }
}

/// struct perf_event_attr.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// PERF_TYPE_…
    pub kind: u32,
    size: u32,
    /// Event number within its type; of a tracepoint, its tracefs id.
    pub config: u64,
    /// Events between two samples; 0 only counts.
    pub sample_period: u64,
    /// What a sample carries.
    pub sample_type: SampleType,
    /// What read(2) gives.
    pub read_format: ReadFormat,
    /// Flags.
    pub flags: AttrFlags,
    /// Bytes (WATERMARK) or events until poll wakes up.
    pub wakeup: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    /// CLOCK_… of the timestamps (USE_CLOCKID).
    pub clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved_2: u16,
}

impl Attr {
    /// An attribute of this type and event number; everything else is zero.
    pub fn new(kind: u32, config: u64) -> Attr {
        Attr {
            kind,
            size: size_of::<Attr>() as u32,
            config,
            sample_period: 0,
            sample_type: SampleType::empty(),
            read_format: ReadFormat::empty(),
            flags: AttrFlags::empty(),
            wakeup: 0,
            bp_type: 0,
            config1: 0,
            config2: 0,
            branch_sample_type: 0,
            sample_regs_user: 0,
            sample_stack_user: 0,
            clockid: 0,
            sample_regs_intr: 0,
            aux_watermark: 0,
            sample_max_stack: 0,
            reserved_2: 0,
        }
    }
}

/// The flags of every perf_event_open(2) here: PERF_FLAG_FD_CLOEXEC.
pub const FLAGS: u32 = 1 << 3;
/// _IO('$', 0) and _IO('$', 1), the same on x86-64 and arm64.
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_DISABLE: libc::c_ulong = 0x2401;
/// _IO('$', 2)
const PERF_EVENT_IOC_REFRESH: libc::c_ulong = 0x2402;
/// _IOW('$', 4, __u64)
const PERF_EVENT_IOC_PERIOD: libc::c_ulong = 0x4008_2404;
/// _IO('$', 5)
const PERF_EVENT_IOC_SET_OUTPUT: libc::c_ulong = 0x2405;
/// _IOW('$', 8, __u32)
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// What [`pin`] was given.
static PINNED: OnceLock<Vec<&'static Attr>> = OnceLock::new();

/// Copies these to sealed memory: from now on [`open`] hands the kernel the
/// copy, whose address a seccomp filter can ask for.
pub fn pin(attrs: &[Attr], into: &mut Sealed) -> Result<()> {
    let pinned: Result<Vec<_>> = attrs.iter().map(|attr| into.value(attr)).collect();
    PINNED.set(pinned?).map_err(|_| Errno::EEXIST)
}

/// The ioctls that a running tracer needs: none attaches a program.
pub const LATER: [u32; 5] = [
    PERF_EVENT_IOC_PERIOD as u32,
    PERF_EVENT_IOC_ENABLE as u32,
    PERF_EVENT_IOC_DISABLE as u32,
    PERF_EVENT_IOC_REFRESH as u32,
    PERF_EVENT_IOC_SET_OUTPUT as u32,
];

/// Opens an event for all tasks on one CPU.
pub fn open(attr: &Attr, cpu: u32) -> Result<OwnedFd> {
    let pinned = PINNED.get().into_iter().flatten();
    let attr = pinned.copied().find(|p| *p == attr).unwrap_or(attr);
    // SAFETY: attr is a live struct perf_event_attr whose `size` is its own;
    // the result is a new descriptor.
    unsafe {
        Ok(own(check(libc::syscall(
            libc::SYS_perf_event_open,
            attr as *const Attr,
            -1 as libc::pid_t,
            cpu as libc::c_int,
            -1 as libc::c_int,
            libc::c_ulong::from(FLAGS),
        ))?))
    }
}

fn ioctl(fd: BorrowedFd<'_>, request: libc::c_ulong, arg: libc::c_ulong) -> Result<()> {
    // SAFETY: the requests of this module take their argument by value.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), request, arg) }).map(drop)
}

/// PERF_EVENT_IOC_ENABLE
pub fn enable(event: BorrowedFd<'_>) -> Result<()> {
    ioctl(event, PERF_EVENT_IOC_ENABLE, 0)
}

/// PERF_EVENT_IOC_DISABLE
pub fn disable(event: BorrowedFd<'_>) -> Result<()> {
    ioctl(event, PERF_EVENT_IOC_DISABLE, 0)
}

/// PERF_EVENT_IOC_REFRESH: enables it for one sample more. It was stopped, too,
/// where the kernel is 6.16 or later, and a tracepoint's event is only started by
/// giving it a period (v6.18 kernel/events/core.c, __perf_event_overflow and
/// __perf_event_period; kernel/trace/trace_event_perf.c, perf_trace_add).
pub fn refresh(event: BorrowedFd<'_>) -> Result<()> {
    ioctl(event, PERF_EVENT_IOC_REFRESH, 1)?;
    let period: u64 = 1;
    let (fd, request) = (event.as_raw_fd(), PERF_EVENT_IOC_PERIOD);
    // SAFETY: it reads a number of 64 bits, which lives here.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd, request, &period as *const u64) }).map(drop)
}

/// PERF_EVENT_IOC_SET_OUTPUT: what the event samples goes into the ring of
/// another event on the same CPU and with the same clock.
pub fn set_output(event: BorrowedFd<'_>, ring: BorrowedFd<'_>) -> Result<()> {
    ioctl(
        event,
        PERF_EVENT_IOC_SET_OUTPUT,
        ring.as_raw_fd() as libc::c_ulong,
    )
}

/// What read(2) gives of an event with at most one [`ReadFormat`]: how often it
/// happened, and the number of the format, 0 where it has none. `EIO` where the
/// event gives nothing.
pub fn read_counts(event: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let mut words = [0; 16];
    match nix::unistd::read(event, &mut words) {
        Ok(8 | 16) => {
            let word = |at: usize| words[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
            Ok((word(0), word(8)))
        }
        Ok(_) => Err(Errno::EIO),
        Err(errno) => Err(errno.into()),
    }
}

/// PERF_EVENT_IOC_SET_BPF: attaches a program to a tracepoint event. One event
/// covers every CPU (kernel/events/core.c, perf_event_set_bpf_prog). `EACCES`
/// here means that the program reads past the end of the record.
pub fn set_bpf(event: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> Result<()> {
    ioctl(
        event,
        PERF_EVENT_IOC_SET_BPF,
        prog.as_raw_fd() as libc::c_ulong,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_has_the_kernels_layout() {
        assert_eq!(size_of::<Attr>(), 112);
        assert_eq!(std::mem::offset_of!(Attr, read_format), 32);
        assert_eq!(std::mem::offset_of!(Attr, flags), 40);
        assert_eq!(std::mem::offset_of!(Attr, clockid), 92);
    }

    /// The fields are in the order of their declaration, from the first byte on.
    #[test]
    fn bit_fields_in_either_order() {
        let both = |n| (bit(n, false).to_le_bytes(), bit(n, true).to_be_bytes());
        assert_eq!(
            both(0),
            ([1, 0, 0, 0, 0, 0, 0, 0], [0x80, 0, 0, 0, 0, 0, 0, 0])
        );
        assert_eq!(
            both(14),
            ([0, 0x40, 0, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0, 0, 0])
        );
        assert_eq!(AttrFlags::TASK.bits(), bit(13, BIG_ENDIAN));
    }
}
