//! The only room that may use `unsafe`: system calls and mappings, thin and
//! typed.
//!
//! Contract: every function here is safe to call with any arguments; what the
//! kernel refuses comes back as an `Errno`, never as a panic. No policy lives
//! here: which object a call was about, and what to do about its failure, is
//! added by the caller.

pub(crate) mod append;
pub mod bpf;
pub(crate) mod btf;
pub mod caps;
pub(crate) mod child;
pub(crate) mod command;
pub(crate) mod copy;
pub(crate) mod errno;
pub(crate) mod file;
pub mod folder;
pub(crate) mod ids;
pub mod landlock;
pub(crate) mod limits;
mod mapping;
pub(crate) mod memory;
pub(crate) mod netlink;
pub mod perf_event;
pub(crate) mod random;
pub mod ring;
pub(crate) mod sched;
pub mod sealed;
pub mod seccomp;
pub mod send;
pub(crate) mod signal;
pub(crate) mod table;
pub(crate) mod terminal;
pub mod time;
pub mod tracefs;
#[cfg(all(target_env = "musl", panic = "abort", not(debug_assertions)))]
mod unwind;

pub use errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;

/// The path by which /proc knows what is open.
pub(crate) fn path_of(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Turns the return value of `syscall(2)` into a result.
fn check(ret: libc::c_long) -> Result<libc::c_long> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}

/// Takes ownership of the descriptor that a system call has just returned.
///
/// # Safety
/// `fd` must be an open descriptor that nothing else owns.
#[allow(unsafe_code, reason = "owns system calls")]
unsafe fn own(fd: libc::c_long) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the caller promises that fd is open and unowned; descriptors fit in a c_int.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as libc::c_int) }
}
