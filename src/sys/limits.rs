//! Limits of this process (prlimit(2)).
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Result, check};

/// No limit.
pub(crate) const INFINITY: u64 = u64::MAX;
/// Memory that is locked.
pub(crate) const MEMLOCK: u64 = libc::RLIMIT_MEMLOCK as u64;
/// The size of a picture of the memory.
pub(crate) const CORE: u64 = libc::RLIMIT_CORE as u64;
/// Processes of this user.
pub(crate) const PROCESSES: u64 = libc::RLIMIT_NPROC as u64;
const OPEN_FILES: u64 = libc::RLIMIT_NOFILE as u64;

/// A limit and the most that it can be (struct rlimit64), as before; they become what
/// is given, if anything.
fn exchange(limit: u64, new: Option<&[u64; 2]>) -> Result<[u64; 2]> {
    let mut old = [0; 2];
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the kernel reads two numbers, if they are there, and writes two.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, limit, new, &raw mut old) })?;
    Ok(old)
}

/// Lets a limit, and the most that it can be, become this.
pub(crate) fn set(limit: u64, most: u64) -> Result<()> {
    exchange(limit, Some(&[most; 2])).map(drop)
}

/// Lets this process have as many descriptors as it may: programs, maps, rings,
/// and by samples each tracepoint on each CPU take one.
pub(crate) fn raise_open_files() {
    if let Ok([_, most]) = exchange(OPEN_FILES, None) {
        // Where that is refused, they may do as they are.
        let _ = set(OPEN_FILES, most);
    }
}

/// How many descriptors this process may have; 0 where that is not known.
pub(crate) fn open_files() -> usize {
    let limits = exchange(OPEN_FILES, None);
    limits.map_or(0, |[now, _]| usize::try_from(now).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_the_kernels() {
        let [_, most] = exchange(CORE, None).expect("a limit");
        set(CORE, most).expect("no more than it can be");
        assert_eq!(exchange(CORE, None).expect("a limit"), [most; 2]);
        assert!(open_files() > 0);
        set(u64::from(u32::MAX), 0).expect_err("no such limit");
    }
}
