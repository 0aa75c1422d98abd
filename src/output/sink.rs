//! A file, pipe, terminal or socket that takes bytes without making us wait.
//!
//! Contract: no write waits for a reader, and no flag of an open file that
//! somebody else has too (our standard output is the shell's) is changed. Only
//! what is stored on a disk may take its time.

use crate::sys::{Errno, Result, path_of, send};
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fstat, major, minor};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// What a pipe that has room takes at once (PIPE_BUF, pipe(7)).
const PIPE_BUF: usize = 4096;
/// What a terminal that has room takes before its reader must go on: it says
/// that it has room below 256 bytes (v6.12 drivers/tty/n_tty.c, n_tty_poll).
const TERMINAL: usize = 256;
/// /dev/ptmx, which is another terminal at each opening
/// (Documentation/admin-guide/devices.txt).
const PTMX: (u64, u64) = (5, 2);

/// How it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By write(2): it never waits, by its kind or by a flag that is ours alone.
    Write,
    /// By send(2), with a flag for each call.
    Send,
    /// By write(2) of at most so many bytes, after poll(2) said that there is
    /// room: the flags belong to others, too. (Where another process takes the
    /// room in between, it does wait for the reader.)
    Poll(usize),
}

/// Something that bytes go to.
#[derive(Debug)]
pub struct Sink {
    file: File,
    way: Way,
}

/// Opens the same file once more: a pipe or a terminal then has flags of our own.
fn another(file: &File) -> Option<File> {
    let path = path_of(file.as_fd());
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let new = open(path.as_str(), flags, Mode::empty()).ok()?;
    let (old, got) = (fstat(file).ok()?, fstat(&new).ok()?);
    let same = (old.st_dev, old.st_ino, old.st_rdev) == (got.st_dev, got.st_ino, got.st_rdev);
    same.then(|| File::from(new))
}

impl Sink {
    /// For a file that was opened by this process, for itself alone, with
    /// O_NONBLOCK where it isn't a regular one.
    pub fn own(file: File) -> Sink {
        Sink {
            file,
            way: Way::Write,
        }
    }

    /// For standard output or standard error, which others may have, too.
    pub fn shared(file: File) -> Sink {
        let Ok(stat) = fstat(&file) else {
            return Sink::own(file);
        };
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        let (way, renew) = match stat.st_mode & libc::S_IFMT {
            libc::S_IFSOCK => (Way::Send, false),
            libc::S_IFIFO => (Way::Poll(PIPE_BUF), true),
            libc::S_IFCHR if file.is_terminal() => (Way::Poll(TERMINAL), device != PTMX),
            libc::S_IFCHR => (Way::Poll(PIPE_BUF), true),
            _ => (Way::Write, false),
        };
        match renew.then(|| another(&file)).flatten() {
            Some(file) => Sink::own(file),
            None => Sink { file, way },
        }
    }

    /// Writes; how much of it went. `EAGAIN`: there is no room now.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let most = match self.way {
            Way::Send => return send::send(self.file.as_fd(), bytes),
            Way::Write => bytes.len(),
            Way::Poll(most) => {
                let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut fds, PollTimeout::ZERO)? == 0 {
                    return Err(Errno::EAGAIN);
                }
                most.min(bytes.len())
            }
        };
        let written = self.file.write(bytes.get(..most).unwrap_or(bytes));
        written.map_err(|e| Errno::from_io(&e))
    }

    /// Bytes that were written and that its reader has not taken yet, where that
    /// can be told.
    pub fn unread(&self) -> Option<u32> {
        send::unread(self.file.as_fd()).ok()
    }

    /// The socket, where it is one.
    pub fn socket(&self) -> Option<RawFd> {
        (self.way == Way::Send).then(|| self.file.as_raw_fd())
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, fcntl};
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    fn flags(file: &impl AsFd) -> OFlag {
        OFlag::from_bits_retain(fcntl(file.as_fd(), FcntlArg::F_GETFL).expect("flags"))
    }

    /// Writes until there is no room; how much went.
    fn fill(sink: &mut Sink) -> usize {
        let mut all = 0;
        loop {
            match sink.write(&[b'x'; 10_000]) {
                Ok(n) => all += n,
                Err(Errno::EAGAIN) => return all,
                Err(errno) => panic!("{errno}"),
            }
        }
    }

    #[test]
    fn a_full_pipe_says_so_and_keeps_its_flags() {
        let (reader, writer) = nix::unistd::pipe().expect("pipe");
        let (mut reader, writer) = (File::from(reader), File::from(writer));
        let before = flags(&writer);
        let mut sink = Sink::shared(writer.try_clone().expect("share"));
        let all = fill(&mut sink);
        assert_eq!(sink.unread(), Some(all as u32));
        assert_eq!(flags(&writer), before);
        reader.read_exact(&mut vec![0; all]).expect("read");
        // As where there is no /proc.
        let way = Way::Poll(PIPE_BUF);
        let mut sink = Sink { file: writer, way };
        assert!(fill(&mut sink) > PIPE_BUF);
        drop(reader);
        assert_eq!(sink.write(b"x"), Err(Errno::EPIPE));
    }

    #[test]
    fn a_full_socket_says_so_and_keeps_its_flags() {
        let (ours, peer) = UnixStream::pair().expect("pair");
        let ours = File::from(OwnedFd::from(ours));
        let mut sink = Sink::shared(ours.try_clone().expect("share"));
        assert_eq!(sink.socket(), Some(sink.file().as_raw_fd()));
        assert!(fill(&mut sink) > 0);
        assert!(sink.unread().is_some_and(|n| n > 0));
        assert!(!flags(&ours).contains(OFlag::O_NONBLOCK));
        drop(peer);
        let gone = [Err(Errno::EPIPE), Err(Errno::ECONNRESET)];
        assert!(gone.contains(&sink.write(b"x")));
    }
}
