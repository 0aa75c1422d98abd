//! Sending without waiting, and what was sent and not taken yet.
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check};
use std::os::fd::{AsRawFd, BorrowedFd};

/// How a socket is sent to: it waits for nobody, and a peer that has left is an
/// error, not a signal.
pub const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// The requests that tell what a reader has not taken.
pub const UNREAD: [u32; 2] = [libc::FIONREAD as u32, libc::TIOCOUTQ as u32];

/// Sends to the socket's peer; how much of it went. `EAGAIN`: there is no room.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the bytes are as many as the length given.
    let sent = unsafe {
        let bytes = (bytes.as_ptr().cast(), bytes.len());
        libc::send(socket.as_raw_fd(), bytes.0, bytes.1, FLAGS)
    };
    check(sent as libc::c_long).map(|sent| sent as usize)
}

/// Bytes that the reader of a pipe (FIONREAD, fs/pipe.c), of a terminal or of a
/// socket (TIOCOUTQ) has not taken yet; `ENOTTY` where that can't be told.
pub fn unread(file: BorrowedFd<'_>) -> Result<u32> {
    let mut errno = Errno(libc::ENOTTY);
    for request in [libc::TIOCOUTQ, libc::FIONREAD] {
        let mut bytes: libc::c_int = 0;
        // SAFETY: both requests write one int.
        match unsafe { libc::ioctl(file.as_raw_fd(), request as _, &raw mut bytes) } {
            0 => return Ok(bytes as u32),
            _ => errno = Errno::last(),
        }
    }
    Err(errno)
}
