//! Telling the service manager how far the program is: sd_notify(3).
//!
//! Contract: what `NOTIFY_SOCKET` names is connected to at the start, while
//! sockets can still be made. From then on a message is one write(2) to an open
//! descriptor, so the sandbox allows nothing more for it, and it never waits.
//! Without `NOTIFY_SOCKET` there is no socket, and nothing is sent. The variable
//! is text from outside: what is not a path or an abstract name is refused.

use crate::model::text::printable;
use crate::sys::{Errno, time};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The longest name of a socket, in bytes (struct sockaddr_un, without the NUL).
const LONGEST: usize = 107;

/// The service manager's ear, where there is one.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    socket: Option<OwnedFd>,
    /// Whether READY=1 found no room in the socket and is to be sent again.
    owed: bool,
}

/// The address that a value of `NOTIFY_SOCKET` stands for; why it can't be used.
/// Others than these two kinds are for virtual machines (vsock).
fn address(name: &OsStr) -> Result<SocketAddr, String> {
    let bytes = name.as_bytes();
    if bytes.len() > LONGEST {
        return Err("the name is too long".into());
    }
    let address = match bytes {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
        _ => return Err("it is neither a path nor an abstract name (@…)".into()),
    };
    address.map_err(|e| e.to_string())
}

fn connect(name: &OsStr) -> Result<OwnedFd, String> {
    let address = address(name)?;
    let connect = || {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    connect().map_err(|e| Errno::from_io(&e).to_string())
}

impl Notify {
    /// Connects to what `NOTIFY_SOCKET` names; `None` and an empty text name
    /// nothing. Where that fails, the second value says why, in one line, and
    /// nothing will be sent.
    pub(crate) fn open(name: Option<&OsStr>) -> (Notify, Option<String>) {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return (Notify::default(), None);
        };
        match connect(name) {
            Ok(socket) => {
                let notify = Notify {
                    socket: Some(socket),
                    owed: false,
                };
                (notify, None)
            }
            Err(why) => {
                let shown = name.to_string_lossy();
                let shown = printable(&shown);
                let why = format!(
                    "warning: the service manager is told nothing: NOTIFY_SOCKET={shown}: {why}"
                );
                (Notify::default(), Some(why))
            }
        }
    }

    /// Whether it is settled: false where there was no room.
    fn send(&self, message: &str) -> bool {
        let Some(socket) = &self.socket else {
            return true;
        };
        let sent = nix::unistd::write(socket, message.as_bytes()).map_err(Errno::from);
        // Who doesn't listen any more need not be told.
        !matches!(sent, Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR))
    }

    /// Everything is attached, and the sandbox is entered; or a reload is done.
    pub(crate) fn ready(&mut self) {
        self.owed = true;
        self.settle();
    }

    /// Sends again what found no room.
    pub(crate) fn settle(&mut self) {
        if self.owed {
            self.owed = !self.send("READY=1");
        }
    }

    /// The log is about to be reopened; [`Notify::ready`] ends that.
    pub(crate) fn reloading(&self) {
        if self.socket.is_some() {
            let now = time::monotonic() / 1000;
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
        }
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_or_abstract() {
        let path = address(OsStr::new("/run/systemd/notify")).expect("a path");
        assert_eq!(path.as_pathname(), Some("/run/systemd/notify".as_ref()));
        let name = address(OsStr::new("@a/b")).expect("an abstract name");
        assert_eq!(name.as_abstract_name(), Some(&b"a/b"[..]));
        let bytes = address(OsStr::from_bytes(b"@\xff")).expect("any bytes");
        assert_eq!(bytes.as_abstract_name(), Some(&b"\xff"[..]));
        let (fits, long) = (LONGEST - 1, LONGEST);
        for first in ["/", "@"] {
            let name = |rest: usize| format!("{first}{}", "x".repeat(rest));
            assert!(address(OsStr::new(&name(fits))).is_ok());
            assert!(address(OsStr::new(&name(long))).is_err());
        }
        for bad in ["@", "run/notify", "vsock:2:1234", " /run", "/a\0b"] {
            assert!(address(OsStr::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_named_nothing_opened() {
        for name in [None, Some(OsStr::new(""))] {
            let (mut notify, why) = Notify::open(name);
            assert_eq!(why, None);
            assert!(notify.socket.is_none());
            notify.ready();
            assert!(!notify.owed);
        }
        let (notify, why) = Notify::open(Some(OsStr::new("/nonexistent/\u{1b}\n")));
        assert!(notify.socket.is_none());
        let why = why.expect("a line");
        assert!(why.ends_with("ENOENT: No such file or directory"), "{why}");
        assert!(!why.contains(['\n', '\u{1b}']), "{why}");
    }
}
