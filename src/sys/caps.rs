//! What the kernel lets this process do: the capabilities in effect, by
//! capget(2), and whether a seccomp filter stands before its system calls.
#![allow(unsafe_code)]

use super::{Result, check};
use bitflags::bitflags;

bitflags! {
    /// Capabilities that matter here (include/uapi/linux/capability.h).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Caps: u64 {
        /// CAP_DAC_OVERRIDE
        const DAC_OVERRIDE = 1 << 1;
        /// CAP_DAC_READ_SEARCH: read tracefs as another user than root.
        const DAC_READ_SEARCH = 1 << 2;
        /// CAP_IPC_LOCK: rings of any size.
        const IPC_LOCK = 1 << 14;
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
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3: two 32-bit words a set.
const VERSION_3: u32 = 0x2008_0522;

/// The effective capabilities of this process.
pub fn effective() -> Result<Caps> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: version 3 makes the kernel write exactly two Data.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let bits = u64::from(data[0].effective) | u64::from(data[1].effective) << 32;
    Ok(Caps::from_bits_truncate(bits))
}

/// Whether a seccomp filter stands before the system calls of this process.
pub fn is_filtered() -> Result<bool> {
    // SAFETY: this option takes no argument.
    let mode = check(unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) }.into())?;
    Ok(mode == libc::c_long::from(libc::SECCOMP_MODE_FILTER))
}
