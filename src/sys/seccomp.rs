//! seccomp(2): installing a filter, and what it refused.
//!
//! Contract: a filter that answers SECCOMP_RET_TRAP makes the call fail with
//! EPERM once [`catch_refused`] was called; [`take_refused`] then tells which
//! call it was. Filters belong to a thread; the program has only one.
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, Ordering};

/// One instruction of a filter (classic BPF).
pub type Insn = libc::sock_filter;

/// The kernel's number of this architecture (include/uapi/linux/audit.h); `None` where no filter is made, for the
/// system calls of the others have not been looked at: on s390x, for one, mmap(2) has its arguments in memory, which no
/// filter sees.
pub const ARCH: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xc000_00f3)
} else {
    None
};

/// The last call that was refused; -1 is none.
static REFUSED: AtomicI32 = AtomicI32::new(-1);

/// struct siginfo of a SIGSYS (include/uapi/asm-generic/siginfo.h).
#[repr(C)]
struct Info {
    signo: i32,
    errno: i32,
    code: i32,
    pad: i32,
    address: usize,
    call: i32,
    arch: u32,
}

/// si_code of a SIGSYS from a filter.
const SYS_SECCOMP: i32 = 1;

extern "C" fn on_refused(_signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a signal handler a siginfo that is larger than
    // Info, which has its layout for SIGSYS.
    let info = unsafe { &*info.cast::<Info>() };
    if info.code != SYS_SECCOMP {
        return;
    }
    REFUSED.store(info.call, Ordering::Release);
    let context = context.cast::<libc::ucontext_t>();
    let failed = i64::from(-libc::EPERM);
    // SAFETY: the kernel hands over a ucontext, and takes the registers back
    // from it: this is the one that holds the call's result.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        (*context).uc_mcontext.gregs[libc::REG_RAX as usize] = failed;
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        (*context).uc_mcontext.regs[0] = failed as u64;
    }
    // SAFETY: as above: a0.
    #[cfg(target_arch = "riscv64")]
    unsafe {
        (*context).uc_mcontext.__gregs[10] = failed as _;
    }
    // Elsewhere no filter is installed that would lead here.
    let _ = (context, failed);
}

/// Makes refused calls fail with EPERM instead of ending the process.
pub fn catch_refused() -> Result<()> {
    let action = SigAction::new(
        SigHandler::SigAction(on_refused),
        SaFlags::SA_ONSTACK,
        SigSet::empty(),
    );
    // SAFETY: the handler touches an atomic and the interrupted registers only.
    unsafe { sigaction(Signal::SIGSYS, &action) }?;
    // While it is blocked the kernel ends the process instead.
    Ok(SigSet::from(Signal::SIGSYS).thread_unblock()?)
}

/// The number of the last call that was refused since this was last asked.
pub fn take_refused() -> Option<i32> {
    match REFUSED.load(Ordering::Acquire) {
        -1 => None,
        _ => Some(REFUSED.swap(-1, Ordering::AcqRel)),
    }
}

fn seccomp(operation: libc::c_uint, argument: *const c_void) -> Result<()> {
    let flags: libc::c_ulong = 0;
    // SAFETY: both operations of this module read what they are given: an
    // action's number, or a sock_fprog whose pointer and length are a slice's.
    check(unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, argument) }).map(drop)
}

/// Whether this kernel has filters that can end a process (Linux 4.14).
pub fn available() -> Result<()> {
    if ARCH.is_none() {
        return Err(Errno::ENOSYS);
    }
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    seccomp(libc::SECCOMP_GET_ACTION_AVAIL, (&raw const action).cast())
}

/// Installs a filter for ever. no_new_privs must be set.
pub fn install(filter: &[Insn]) -> Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?,
        filter: filter.as_ptr().cast_mut(),
    };
    seccomp(libc::SECCOMP_SET_MODE_FILTER, (&raw const program).cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(std::mem::offset_of!(Info, call), 24);
        assert!(size_of::<Info>() <= size_of::<libc::siginfo_t>());
    }
}
