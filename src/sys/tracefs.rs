//! Mounting tracefs, or sysfs, so that nobody else sees it.
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check, own};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe, read, write};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

/// Makes a tracefs mount that is attached nowhere (fsopen, fsconfig, fsmount;
/// Linux 5.2 and later) and returns its root. It is gone when the descriptor
/// is closed.
pub fn detached() -> Result<OwnedFd> {
    detached_of(c"tracefs")
}

/// The same with another kind of file system, such as `sysfs`.
pub fn detached_of(kind: &CStr) -> Result<OwnedFd> {
    // SAFETY: the name is a NUL-terminated string; the result is a new descriptor.
    let fs = unsafe {
        own(check(libc::syscall(
            libc::SYS_fsopen,
            kind.as_ptr(),
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
/// kernels before 5.2. Only a child process enters that namespace, and it ends
/// at once; it shares our descriptors (CLONE_FILES), so the one that it opens
/// is ours and keeps the file system alive.
pub fn in_own_namespace() -> Result<OwnedFd> {
    let (reader, writer) = pipe()?;
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: without CLONE_VM this is fork(2) but for the shared descriptors:
    // the child has its own copy of all memory, and leaves by _exit below. This
    // process has one thread, so no lock can be held in the copy.
    let child = check(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) })?;
    if child == 0 {
        let answer = mount_and_open().map_or_else(|errno| -errno.0, IntoRawFd::into_raw_fd);
        // A failed write leaves the reader without an answer: EIO there.
        let _ = write(&writer, &answer.to_ne_bytes());
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    // The child exits whatever it finds, so this can't hang.
    let _ = waitpid(Pid::from_raw(child as libc::pid_t), None);
    drop(writer);
    let mut answer = [0; 4];
    match read(&reader, &mut answer) {
        Ok(4) => match i32::from_ne_bytes(answer) {
            // SAFETY: the child opened it in our table and never closed it.
            fd if fd >= 0 => Ok(unsafe { own(fd.into()) }),
            errno => Err(Errno(-errno)),
        },
        _ => Err(Errno::EIO),
    }
}

fn mount_and_open() -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNS)?;
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
                return Ok(open(place, flags, Mode::empty())?);
            }
            Err(errno) => last = errno.into(),
        }
    }
    Err(last)
}
