//! Opening a file by a name whose links lead nowhere outside of its folder.
//!
//! Layout: include/uapi/linux/openat2.h (Linux 5.6).
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check, own};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// RESOLVE_NO_MAGICLINKS and RESOLVE_BENEATH
const RESOLVE: u64 = 0x02 | 0x08;

/// How often it is tried where something is renamed meanwhile.
const TRIES: usize = 8;

/// How it is opened: struct open_how.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

impl How {
    /// Its size in bytes, which the call is told.
    pub(crate) const SIZE: u32 = size_of::<How>() as u32;

    /// To be read, with these flags.
    pub fn with(flags: i32) -> How {
        How {
            flags: flags as u32 as u64,
            mode: 0,
            resolve: RESOLVE,
        }
    }
}

/// Opens it. EXDEV: a link leads out of the folder.
pub(crate) fn open(folder: BorrowedFd<'_>, name: &CStr, how: &How) -> Result<OwnedFd> {
    let mut failed = Errno::EAGAIN;
    for _ in 0..TRIES {
        // SAFETY: both are live objects, the second one of the size that is told; the
        // result is a new descriptor.
        let opened = check(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                folder.as_raw_fd(),
                name.as_ptr(),
                std::ptr::from_ref(how),
                size_of::<How>(),
            )
        });
        match opened {
            // SAFETY: it was just opened, and nothing else has it.
            Ok(fd) => return Ok(unsafe { own(fd) }),
            Err(errno) => failed = errno,
        }
        if failed != Errno::EAGAIN {
            break;
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(How::SIZE, 24);
    }
}
