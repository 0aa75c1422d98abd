//! Who this process is: setgroups(2), setresgid(2), setresuid(2).
//!
//! Contract: the kernel's own calls, which are about one thread: for a process that
//! has no other. (Those of the C library stop all threads and see to each, which is
//! much code.)
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Result, check};
use libc::c_ulong;

/// Becomes this user for ever, of this group, and in these groups alone.
pub(crate) fn change(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    // SAFETY: the kernel reads as many numbers as the slice has.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    for (call, id) in [(libc::SYS_setresgid, gid), (libc::SYS_setresuid, uid)] {
        let id = c_ulong::from(id);
        // SAFETY: it takes three numbers.
        check(unsafe { libc::syscall(call, id, id, id) })?;
    }
    Ok(())
}
