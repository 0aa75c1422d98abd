//! A terminal: its size, its modes, and the way back from both screen and modes.
//!
//! Contract: what [`Terminal::enter`] changes is put back by [`restore`], which may be
//! called at any time and from a signal's handler, too.
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result};
use nix::errno::Errno as Raw;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// To the other screen, without a cursor; and back.
pub(crate) const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
pub(crate) const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// The way back, for [`restore`]: made once, and never freed.
static KEPT: AtomicPtr<Kept> = AtomicPtr::new(std::ptr::null_mut());
/// Whether the modes are others than they were, and whether the screen is.
static ENTERED: AtomicBool = AtomicBool::new(false);
static SCREEN: AtomicBool = AtomicBool::new(false);

struct Kept {
    keys: libc::c_int,
    modes: libc::termios,
}

/// The terminal that keys come from.
#[derive(Debug)]
pub(crate) struct Terminal {
    keys: OwnedFd,
    raw: libc::termios,
}

fn modes(fd: BorrowedFd<'_>) -> Result<libc::termios> {
    // SAFETY: all-zero is a valid struct termios.
    let mut modes = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel's struct is the beginning of the C library's.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCGETS as _, &raw mut modes) } {
        0 => Ok(modes),
        _ => Err(Errno::last()),
    }
}

/// Sets modes. For a handler, too: it makes nothing but a system call.
fn set(fd: libc::c_int, modes: *const libc::termios) -> bool {
    // SAFETY: the callers' pointers are to live objects; the kernel reads their beginning.
    unsafe { libc::ioctl(fd, libc::TCSETS as _, modes) == 0 }
}

/// Lines and columns of a terminal; `None` where it has no size, or is none.
pub(crate) fn size(fd: BorrowedFd<'_>) -> Option<(usize, usize)> {
    // SAFETY: all-zero is a valid struct winsize.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the request writes one struct winsize.
    let got = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size) };
    let known = got == 0 && size.ws_row > 0 && size.ws_col > 0;
    known.then(|| (size.ws_row.into(), size.ws_col.into()))
}

/// Standard input, without a buffer.
pub(crate) fn input() -> BorrowedFd<'static> {
    // SAFETY: standard input is open, by std where it was not at the start, and nothing
    // closes it.
    unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
}

impl Terminal {
    /// The terminal that keys come from, which this is to be. Nothing is changed yet.
    pub(crate) fn of(keys: OwnedFd) -> Result<Terminal> {
        let was = modes(keys.as_fd())?;
        let mut raw = was;
        // A signal still comes of Ctrl-C, as that ends a program also where it hangs.
        raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::IEXTEN);
        for (at, value) in [
            (libc::VMIN, 1),
            (libc::VTIME, 0),
            (libc::VSUSP, 0),
            (libc::VQUIT, 0),
        ] {
            raw.c_cc[at] = value;
        }
        let kept = Box::new(Kept {
            keys: keys.as_raw_fd(),
            modes: was,
        });
        KEPT.store(Box::into_raw(kept), Ordering::Release);
        Ok(Terminal { keys, raw })
    }

    /// Each key comes at once and is not shown; `screen`: [`ENTER`] is written, too. In
    /// the background the process stops here (SIGTTOU).
    pub(crate) fn enter(&self, screen: bool) {
        SCREEN.store(screen, Ordering::Release);
        ENTERED.store(true, Ordering::Release);
        set(self.keys.as_raw_fd(), &self.raw);
    }

    /// Puts back all, and stops the process and those that a shell started with it, as
    /// Ctrl-Z does.
    pub(crate) fn suspend() {
        restore();
        // SAFETY: it takes two numbers.
        unsafe { libc::kill(0, libc::SIGTSTP) };
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.keys.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
        // Its descriptor may be another's soon.
        KEPT.store(std::ptr::null_mut(), Ordering::Release);
    }
}

/// The screen is as it was: [`LEAVE`] is written otherwise.
pub(crate) fn left() {
    SCREEN.store(false, Ordering::Release);
}

/// Puts back modes and screen, where they are others than they were.
pub(crate) fn restore() {
    // SAFETY: it is null, or was made by Box::into_raw and is never freed.
    let Some(kept) = (unsafe { KEPT.load(Ordering::Acquire).as_ref() }) else {
        return;
    };
    let errno = Raw::last_raw();
    if SCREEN.swap(false, Ordering::AcqRel) {
        let mut ready = libc::pollfd {
            fd: libc::STDOUT_FILENO,
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: one struct, and as many bytes as are told; both calls are
        // async-signal-safe.
        unsafe {
            if libc::poll(&raw mut ready, 1, 0) > 0 {
                libc::write(ready.fd, LEAVE.as_ptr().cast(), LEAVE.len());
            }
        }
    }
    if ENTERED.swap(false, Ordering::AcqRel) {
        in_background(&mut || {
            set(kept.keys, &kept.modes);
        });
    }
    Raw::set_raw(errno);
}

/// Does something that the kernel would stop a process in the background for.
fn in_background(action: &mut dyn FnMut()) {
    // SAFETY: an all-zero set of signals is valid, and is made an empty one; the calls
    // are async-signal-safe.
    unsafe {
        let mut blocked = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigemptyset(&raw mut blocked);
        libc::sigaddset(&raw mut blocked, libc::SIGTTOU);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before);
        action();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;

    fn of(modes: &libc::termios) -> (libc::tcflag_t, Vec<libc::cc_t>) {
        (modes.c_lflag, modes.c_cc.to_vec())
    }

    #[test]
    fn modes_are_put_back() {
        let size = libc::winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let ours = pty.slave.try_clone().expect("a descriptor");
        assert_eq!(super::size(ours.as_fd()), Some((30, 100)));
        let before = of(&modes(ours.as_fd()).expect("a terminal"));
        let terminal = Terminal::of(pty.slave).expect("a terminal");
        assert_eq!(of(&modes(ours.as_fd()).expect("its modes")), before);
        for _ in 0..2 {
            terminal.enter(false);
            let entered = modes(ours.as_fd()).expect("its modes");
            assert_eq!(entered.c_lflag & (libc::ICANON | libc::ECHO), 0);
            assert_ne!(entered.c_lflag & libc::ISIG, 0);
            restore();
            assert_eq!(of(&modes(ours.as_fd()).expect("its modes")), before);
        }
        // Once it is another's, nothing is done to it.
        terminal.enter(false);
        drop(terminal);
        assert_eq!(of(&modes(ours.as_fd()).expect("its modes")), before);
        restore();
    }

    #[test]
    fn what_is_no_terminal_has_no_size() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert_eq!(size(file.as_fd()), None);
        assert!(modes(file.as_fd()).is_err());
    }
}
