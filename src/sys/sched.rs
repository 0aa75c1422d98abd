//! How much of the CPUs this process gets: sched_setscheduler(2), setpriority(2),
//! and what it has got.
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check};

/// SCHED_RR at the lowest priority of that class: before all that is not of it.
pub(crate) fn real_time() -> Result<()> {
    // SAFETY: an all-zero parameter is a valid one.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = 1;
    // The C library's own function refuses (musl).
    // SAFETY: the kernel reads a struct sched_param.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            libc::SCHED_RR,
            &raw const param,
        )
    })
    .map(drop)
}

/// Whether this process is of a real-time class already.
pub(crate) fn is_real_time() -> bool {
    // SAFETY: takes a number.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    // Its children are not to have it, perhaps.
    let class = policy & !libc::c_long::from(libc::SCHED_RESET_ON_FORK);
    [libc::SCHED_RR, libc::SCHED_FIFO]
        .map(libc::c_long::from)
        .contains(&class)
}

/// A nice value: -20 is the most favourable, 19 the least.
pub(crate) fn nice(value: i32) -> Result<()> {
    // SAFETY: takes numbers.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, value) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

/// The CPUs that this process may run on.
pub(crate) fn cpus() -> usize {
    // A word for 64 CPUs.
    let mut mask = [0u64; 1024];
    // SAFETY: the mask is as long as the length given.
    let len = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of_val(&mask),
            mask.as_mut_ptr(),
        )
    };
    match len {
        1.. => mask.iter().map(|word| word.count_ones() as usize).sum(),
        // Unknown: as on the smallest host.
        _ => 1,
    }
}
