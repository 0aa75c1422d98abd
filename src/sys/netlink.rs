//! A netlink socket for socket diagnosis: NETLINK_SOCK_DIAG, see sock_diag(7).
//!
//! Contract: only what the kernel sends is handed out, whole messages of it;
//! what stands in them is for the caller to judge. Nothing here waits: the
//! kernel answers a dump while it is asked for, and goes on with it at each
//! receive (net/netlink/af_netlink.c, netlink_dump).
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check, own};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// NETLINK_SOCK_DIAG (include/uapi/linux/netlink.h).
const NETLINK_SOCK_DIAG: libc::c_int = 4;

/// The most that the kernel puts into one datagram of a dump, in bytes
/// (netlink_recvmsg() limits it to 32 KiB).
pub(crate) const DATAGRAM: usize = 32 * 1024;

/// SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY
/// (include/uapi/linux/sock_diag.h).
const TCP_DESTROY: [libc::c_int; 2] = [1, 3];

/// What a socket may hold of messages that were not received yet, in bytes of
/// the kernel's; some hundred for each message.
const PENDING: libc::c_int = 4 << 20;

/// A socket that asks the network namespace it was opened in.
#[derive(Debug)]
pub struct Diag(OwnedFd);

impl Diag {
    /// Opens one in the calling thread's network namespace.
    pub fn open() -> Result<Diag> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointer; the result is a new descriptor.
        unsafe {
            let fd = check(libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG).into())?;
            Ok(Diag(own(fd)))
        }
    }

    /// Opens one that receives, from now on, the kernel's message about every TCP
    /// socket of the calling thread's network namespace that it destroys: a
    /// datagram each. It must be asked nothing. Receiving fails with `ENOBUFS`
    /// once when some found no room.
    pub fn hear_destroyed() -> Result<Diag> {
        let diag = Diag::open()?;
        let fd = diag.0.as_raw_fd();
        // SAFETY: an all-zero address is a valid one: the kernel chooses the port.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the address is as long as the length given.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), len) };
        check(bound.into())?;
        // Beyond net.core.rmem_max with CAP_NET_ADMIN only.
        diag.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, PENDING)
            .or_else(|_| diag.set(libc::SOL_SOCKET, libc::SO_RCVBUF, PENDING))?;
        for group in TCP_DESTROY {
            diag.set(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)?;
        }
        Ok(diag)
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> Result<()> {
        let fd = self.0.as_raw_fd();
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the value is as long as the length given.
        let set = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), len) };
        check(set.into()).map(drop)
    }

    /// Sends a request to the kernel.
    pub fn send(&self, request: &[u8]) -> Result<()> {
        let fd = self.0.as_raw_fd();
        // SAFETY: the request is as long as the length given.
        let sent = unsafe { libc::send(fd, request.as_ptr().cast(), request.len(), 0) };
        check(sent as libc::c_long).map(drop)
    }

    /// Receives a datagram; its length. `EAGAIN` where there is none, `EMSGSIZE`
    /// where it is longer than the buffer, whose rest is then lost.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let mut from = MaybeUninit::<libc::sockaddr_nl>::zeroed();
            let mut len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            // SAFETY: buffer and address are as long as the lengths given; an
            // all-zero address is a valid one, if the kernel should write none.
            let (got, from) = unsafe {
                let got = libc::recvfrom(
                    self.0.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                    from.as_mut_ptr().cast(),
                    &raw mut len,
                );
                (got, from.assume_init())
            };
            let got = check(got as libc::c_long)? as usize;
            // Port 0 is the kernel's.
            if from.nl_pid != 0 {
                continue;
            }
            if got > buffer.len() {
                return Err(Errno::EMSGSIZE);
            }
            return Ok(got);
        }
    }
}

impl AsFd for Diag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_nothing_there() {
        let diag = Diag::open().expect("open");
        assert_eq!(diag.receive(&mut [0; 64]), Err(Errno::EAGAIN));
    }
}
