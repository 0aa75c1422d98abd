//! What the kernel lets this process do: its capabilities, by capget(2), capset(2)
//! and prctl(2), and whether a seccomp filter stands before its system calls.
//!
//! Contract: all of that belongs to a thread; the program has only one.
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Result, check};
use bitflags::bitflags;
use nix::sys::prctl;

bitflags! {
    /// Capabilities that matter here (include/uapi/linux/capability.h).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Caps: u64 {
        /// CAP_DAC_OVERRIDE: write where only others may.
        const DAC_OVERRIDE = 1 << 1;
        /// CAP_DAC_READ_SEARCH: read tracefs as another user than root.
        const DAC_READ_SEARCH = 1 << 2;
        /// CAP_IPC_LOCK: rings beyond kernel.perf_event_mlock_kb.
        const IPC_LOCK = 1 << 14;
        /// CAP_SYS_PTRACE: see the descriptors of other users' processes.
        const SYS_PTRACE = 1 << 19;
        /// CAP_SYS_ADMIN: stands for the two below, and did before Linux 5.8.
        const SYS_ADMIN = 1 << 21;
        /// CAP_PERFMON (5.8)
        const PERFMON = 1 << 38;
        /// CAP_BPF (5.8)
        const BPF = 1 << 39;
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3: two 32-bit words a set.
const VERSION_3: u32 = 0x2008_0522;

/// More capabilities than any kernel knows, for they are bits of 64.
const ALL: libc::c_ulong = 64;

fn get() -> Result<[Data; 2]> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 makes the kernel write exactly two Data.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(data)
}

fn set(data: &[Data; 2]) -> Result<()> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    // SAFETY: version 3 makes the kernel read exactly two Data.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

fn caps(low: u32, high: u32) -> Caps {
    Caps::from_bits_truncate(u64::from(low) | u64::from(high) << 32)
}

/// The effective capabilities of this process.
pub fn effective() -> Result<Caps> {
    let [low, high] = get()?;
    Ok(caps(low.effective, high.effective))
}

/// The capabilities that this process may make effective.
pub fn permitted() -> Result<Caps> {
    let [low, high] = get()?;
    Ok(caps(low.permitted, high.permitted))
}

/// Makes exactly these effective; the others can be made so again.
pub fn set_effective(keep: Caps) -> Result<()> {
    let mut data = get()?;
    data[0].effective = keep.bits() as u32;
    data[1].effective = (keep.bits() >> 32) as u32;
    set(&data)
}

/// Gives up all but these for ever, in every set: none can be inherited, and
/// the bounding and the ambient set are emptied where that is permitted.
pub fn keep_only(keep: Caps) -> Result<()> {
    let mut data = get()?;
    for word in &mut data {
        word.effective = word.permitted;
    }
    set(&data)?;
    // Where CAP_SETPCAP is missing the bounding set stays; with no_new_privs
    // it has no meaning.
    for cap in 0..ALL {
        // SAFETY: prctl with PR_CAPBSET_DROP takes a number.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) } < 0 {
            break;
        }
    }
    // SAFETY: prctl with these takes numbers. Linux before 4.3 has no ambient set.
    unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    let word = |bits: u64| Data {
        effective: bits as u32,
        permitted: bits as u32,
        inheritable: 0,
    };
    set(&[word(keep.bits()), word(keep.bits() >> 32)])
}

/// PR_SET_NO_NEW_PRIVS: no execve(2) gives a right from here on.
pub fn no_new_privs() -> Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// PR_SET_KEEPCAPS: whether the permitted capabilities outlast a change from
/// user 0 to another one.
pub fn keep_with_user(keep: bool) -> Result<()> {
    Ok(prctl::set_keepcaps(keep)?)
}

/// PR_SET_DUMPABLE: from here on no other process of this user may look into
/// this one (ptrace(2), /proc/PID/mem).
pub fn not_dumpable() -> Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// Whether this process is in the first user namespace, where alone the
/// capabilities for tracing count; `None` where /proc doesn't tell.
pub fn in_first_user_namespace() -> Option<bool> {
    // PROC_USER_INIT_INO (include/linux/proc_ns.h).
    const FIRST: u64 = 0xeffffffd;
    Some(super::file::inode("/proc/self/ns/user")? == FIRST)
}

/// Whether a seccomp filter stands before the system calls of this process.
pub fn is_filtered() -> Result<bool> {
    // SAFETY: this option takes no argument.
    let mode = check(unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) }.into())?;
    Ok(mode == libc::c_long::from(libc::SECCOMP_MODE_FILTER))
}
