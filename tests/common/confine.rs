//! Poorer surroundings for the program under test: without system calls,
//! without /proc and /sys, with little locked memory.
//!
//! # Safety
//! What runs between fork and exec makes system calls only: it allocates
//! nothing and takes no lock. The filter lives until the call that copies it
//! into the kernel has returned.
#![allow(unsafe_code, reason = "makes system calls")]

use std::io::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::mount::{MsFlags, mount};

use super::net::in_mount_ns;

/// A system call of that number is answered with this errno from exec on.
pub fn refuse(command: &mut Command, call: libc::c_long, errno: i32) {
    let call = u32::try_from(call).expect("a system call's number");
    let errno = u32::try_from(errno).expect("an errno");
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Classic BPF on struct seccomp_data, whose first member is the number.
    let filter = [
        step(0x20, 0, 0, 0),
        step(0x15, 0, 1, call),
        step(0x06, 0, 0, 0x0005_0000 | errno),
        step(0x06, 0, 0, 0x7fff_0000),
    ];
    let install = move || {
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_ptr().cast_mut(),
        };
        // SAFETY: the program lives as long as the call; prctl takes numbers else.
        let set = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
        };
        set.then_some(()).ok_or_else(Error::last_os_error)
    };
    // SAFETY: the closure makes only system calls.
    unsafe { command.pre_exec(install) };
}

/// Runs `work` where these folders are empty, for it and what it starts.
pub fn with_empty<T: Send + 'static>(
    places: &'static [&'static str],
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, nix::Error> {
    let empty = move || {
        for place in places {
            let flags = MsFlags::MS_RDONLY;
            mount(Some("none"), *place, Some("tmpfs"), flags, None::<&str>)?;
        }
        Ok(work())
    };
    in_mount_ns(empty)?
}
