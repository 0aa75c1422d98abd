//! What the kernel says of the sockets that it destroys, where no program can
//! read their counters: sock_diag's multicast, see sock_diag(7).
//!
//! Contract: what is received is handed out; nothing here waits longer than it
//! is told to. A message about a socket comes a moment after its
//! tcp:tcp_destroy_sock, by a worker of the kernel (v6.12 net/core/sock_diag.c,
//! sock_diag_broadcast_destroy()), from the network namespaces that were there
//! at the start. That some found no room is told.

use super::diag;
use crate::model::event::Destroyed;
use crate::sys::netlink::Diag;
use crate::sys::{self, Errno};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::{AsFd, BorrowedFd};

/// Network namespaces that are listened to at most: a descriptor each.
const NAMESPACES: usize = 512;
/// Descriptors that are given back when there are no more.
const SPARE: usize = 16;
/// More than a message takes: headers, struct inet_diag_msg, struct tcp_info.
const MESSAGE: usize = 2048;

/// The sockets that receive it.
#[derive(Debug, Default)]
pub struct Broadcasts {
    epoll: Option<Epoll>,
    diags: Vec<Diag>,
    /// Namespaces that can't be listened to, and why the first can't.
    deaf: usize,
    /// Whether no more are to be added.
    silent: bool,
    why: Option<Errno>,
    overruns: u64,
    said: bool,
}

impl Broadcasts {
    /// Listens to one more network namespace.
    pub fn add(&mut self, diag: sys::Result<Diag>) {
        if self.silent {
            self.deaf += 1;
            return;
        }
        let room = match self.diags.len() < NAMESPACES {
            true => Ok(()),
            false => Err(Errno::EMFILE),
        };
        let added = room.and(diag).and_then(|diag| {
            let epoll = match self.epoll.take() {
                Some(epoll) => epoll,
                None => Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            };
            let event = EpollEvent::new(EpollFlags::EPOLLIN, self.diags.len() as u64);
            let added = epoll.add(&diag, event);
            self.epoll = Some(epoll);
            added?;
            self.diags.push(diag);
            Ok(())
        });
        if let Err(errno) = added {
            self.deaf += 1;
            self.why.get_or_insert(errno);
            if errno == Errno::EMFILE {
                // What is opened later needs some, too: the log, a ring.
                self.silent = true;
                let kept = self.diags.len().saturating_sub(SPARE);
                self.deaf += self.diags.len() - kept;
                self.diags.truncate(kept);
            }
        }
    }

    /// Listens to nothing: sock_diag fails.
    pub fn give_up(&mut self, why: Errno) {
        self.deaf += self.diags.len();
        self.why = Some(why);
        self.silent = true;
        self.diags.clear();
        self.epoll = None;
    }

    /// The network namespaces that are listened to.
    pub fn namespaces(&self) -> usize {
        self.diags.len()
    }

    /// How many can't be, and why the first can't.
    pub fn deaf(&self) -> Option<(usize, Errno)> {
        self.why.map(|why| (self.deaf, why))
    }

    /// Ready to be read while a message is there; `None` where nothing is
    /// listened to.
    pub fn ready(&self) -> Option<BorrowedFd<'_>> {
        self.epoll.as_ref().map(|epoll| epoll.0.as_fd())
    }

    /// Hands out what has come, or comes within so many milliseconds.
    pub fn read(&mut self, wait: u8, each: &mut dyn FnMut(&Destroyed)) {
        let Some(epoll) = &self.epoll else { return };
        let mut events = [EpollEvent::empty(); 16];
        let mut buffer = [0; MESSAGE];
        let mut wait = EpollTimeout::from(wait);
        loop {
            let ready = epoll.wait(&mut events, wait).unwrap_or(0);
            for event in &events[..ready] {
                let diag = &self.diags[event.data() as usize];
                loop {
                    match diag.receive(&mut buffer) {
                        Ok(len) => diag::destroyed(&buffer[..len]).iter().for_each(&mut *each),
                        Err(Errno::ENOBUFS) => self.overruns += 1,
                        Err(Errno::EMSGSIZE | Errno::EINTR) => {}
                        Err(_) => break,
                    }
                }
            }
            if ready < events.len() {
                return;
            }
            wait = EpollTimeout::ZERO;
        }
    }

    /// Whether messages found no room, which is said once.
    pub fn overran(&mut self) -> bool {
        let news = self.overruns > 0 && !self.said;
        self.said |= news;
        news
    }
}
