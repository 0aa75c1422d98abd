//! Signals: remembered in atomics, announced through an eventfd.
//!
//! Handlers are installed without SA_RESTART. A second SIGINT or SIGTERM ends
//! the process at once, without the rest of the report; not one that comes with the
//! first, as timeout(1) sends them: to its child, and to the group that it is in.
#![allow(unsafe_code, reason = "owns system calls")]

use super::Result;
use super::time::monotonic;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

/// When SIGINT or SIGTERM came first, by the event clock; 0: not yet.
static STOP: AtomicU64 = AtomicU64::new(0);
/// How much later it is a second one, in nanoseconds.
const AGAIN: u64 = 200_000_000;
static HANGUP: AtomicBool = AtomicBool::new(false);
static RESIZED: AtomicBool = AtomicBool::new(false);
/// Whether children are waited for.
static WATCHING: AtomicBool = AtomicBool::new(false);
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Lets the kernel forget children that have ended, unless they are waited for.
pub(super) fn forget_children() -> Result<()> {
    if !WATCHING.load(Ordering::Acquire) {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is run.
        unsafe { sigaction(Signal::SIGCHLD, &ignore) }?;
    }
    Ok(())
}

/// What signals have asked for; pollable.
#[derive(Debug)]
pub(crate) struct Signals {
    wake: EventFd,
}

/// Whether one to stop came before, and not just now.
fn comes_again(now: u64) -> bool {
    let first = STOP.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
    first.is_err_and(|first| now.saturating_sub(first) >= AGAIN)
}

extern "C" fn on_signal(signal: libc::c_int) {
    let errno = Errno::last_raw();
    if signal == libc::SIGHUP {
        HANGUP.store(true, Ordering::Release);
    } else if signal == libc::SIGWINCH || signal == libc::SIGCONT {
        RESIZED.store(true, Ordering::Release);
    } else if signal == libc::SIGCHLD {
        // Who waits for it is woken below.
    } else if comes_again(monotonic().max(1)) {
        super::terminal::restore();
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(128 + signal) };
    }
    let one = 1u64.to_ne_bytes();
    // SAFETY: write is async-signal-safe; a full or closed eventfd is harmless.
    unsafe { libc::write(WAKE.load(Ordering::Acquire), one.as_ptr().cast(), one.len()) };
    Errno::set_raw(errno);
}

/// From here on it is as if the terminal's size had changed when the process goes on
/// after a stop.
pub(crate) fn watch_continuing() -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(on_signal),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only touches atomics and async-signal-safe calls.
    unsafe { sigaction(Signal::SIGCONT, &action) }?;
    Ok(())
}

/// Whether the terminal's size has changed since the last call.
pub(crate) fn take_resized() -> bool {
    RESIZED.swap(false, Ordering::AcqRel)
}

/// Whether SIGINT or SIGTERM came.
pub(crate) fn stopped() -> bool {
    STOP.load(Ordering::Acquire) != 0
}

impl Signals {
    /// Takes over SIGINT, SIGTERM, SIGHUP and SIGWINCH. A write beyond RLIMIT_FSIZE fails
    /// from now on (EFBIG), and is no end (SIGXFSZ).
    pub(crate) fn install() -> Result<Signals> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        WAKE.store(wake.as_fd().as_raw_fd(), Ordering::Release);
        let action = SigAction::new(
            SigHandler::Handler(on_signal),
            SaFlags::empty(),
            SigSet::empty(),
        );
        let all = [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGWINCH,
        ];
        for signal in all {
            // SAFETY: the handler only touches atomics and async-signal-safe calls.
            unsafe { sigaction(signal, &action) }?;
        }
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is run.
        unsafe { sigaction(Signal::SIGXFSZ, &ignore) }?;
        Ok(Signals { wake })
    }

    /// From here on a child that has ended is told of, and is to be waited for.
    pub(crate) fn watch_children(&self) -> Result<()> {
        WATCHING.store(true, Ordering::Release);
        let action = SigAction::new(
            SigHandler::Handler(on_signal),
            SaFlags::SA_NOCLDSTOP,
            SigSet::empty(),
        );
        // SAFETY: as above.
        unsafe { sigaction(Signal::SIGCHLD, &action) }?;
        Ok(())
    }

    /// Forgets that the descriptor was readable.
    pub(crate) fn acknowledge(&self) {
        // Nothing to read is what a false wake-up looks like.
        let _ = self.wake.read();
    }

    /// Whether SIGINT or SIGTERM came.
    pub(crate) fn stop(&self) -> bool {
        stopped()
    }

    /// Whether SIGHUP came since the last call.
    pub(crate) fn take_hangup(&self) -> bool {
        HANGUP.swap(false, Ordering::AcqRel)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        WAKE.store(-1, Ordering::Release);
    }
}
