//! Mounting tracefs so that nobody else sees it.
#![allow(unsafe_code)]

use super::{Errno, Result, check, own};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, OwnedFd};

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

/// Makes a tracefs mount that is attached nowhere (fsopen, fsconfig, fsmount;
/// Linux 5.2 and later) and returns its root. It is gone when the descriptor
/// is closed.
pub fn detached() -> Result<OwnedFd> {
    // SAFETY: the name is a NUL-terminated string; the result is a new descriptor.
    let fs = unsafe {
        own(check(libc::syscall(
            libc::SYS_fsopen,
            c"tracefs".as_ptr(),
            FSOPEN_CLOEXEC,
        ))?)
    };
    // SAFETY: this command takes neither key nor value.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            std::ptr::null::<libc::c_char>(),
            std::ptr::null::<libc::c_char>(),
            0 as libc::c_int,
        )
    })?;
    // SAFETY: no pointers; the result is a new descriptor.
    Ok(unsafe {
        own(check(libc::syscall(
            libc::SYS_fsmount,
            fs.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            0 as libc::c_uint,
        ))?)
    })
}

/// Mounts tracefs in a mount namespace of its own and returns its root. For
/// kernels before 5.2. Only a short-lived thread enters that namespace, which
/// ends with it; the descriptor keeps the file system alive, and this process
/// stays where it was.
pub fn in_own_namespace() -> Result<OwnedFd> {
    std::thread::Builder::new()
        .spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
            let none = None::<&str>;
            // Nothing of what follows may reach the namespace we come from.
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            let mut last = Errno::ENOENT;
            for place in ["/sys/kernel/tracing", "/sys", "/proc", "/dev", "/tmp"] {
                match mount(
                    Some("tracefs"),
                    place,
                    Some("tracefs"),
                    MsFlags::empty(),
                    none,
                ) {
                    Ok(()) => {
                        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                        return open(place, flags, Mode::empty());
                    }
                    Err(errno) => last = errno,
                }
            }
            Err(last)
        })
        .map_err(|_| Errno::EAGAIN)?
        .join()
        .unwrap_or(Err(Errno::EINVAL))
}
