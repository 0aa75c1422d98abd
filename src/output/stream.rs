//! A file, pipe or terminal that lines go to, in blocks of whole lines.
//!
//! Contract: a line is written whole or counted as lost; what a failed write
//! leaves of a line is ended by a line break before the next one, so that two
//! lines never become one. Nothing here prints: what happened is returned.

use crate::sys::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;

/// Bytes held back at most.
const BLOCK: usize = 64 * 1024;

/// What a flush has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All is written, as before.
    Fine,
    /// Writing fails since now.
    Failed(Errno),
    /// Writing still fails.
    StillFailing,
    /// Writing works again; so many lines were lost in between.
    Recovered(u64),
    /// The reader has left.
    Closed,
}

/// A stream of lines.
#[derive(Debug)]
pub struct Stream {
    file: File,
    pending: Vec<u8>,
    failing: bool,
    torn: bool,
    lost: u64,
    lost_now: u64,
}

impl Stream {
    /// Lines to this file.
    pub fn new(file: File) -> Stream {
        Stream {
            file,
            pending: Vec::with_capacity(BLOCK),
            failing: false,
            torn: false,
            lost: 0,
            lost_now: 0,
        }
    }

    /// Where to append lines; every line must end in a line break.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Whether enough is pending to be written.
    pub fn is_full(&self) -> bool {
        self.pending.len() > BLOCK - 1024
    }

    /// Lines lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Goes on with another file; what is pending goes there.
    pub fn replace(&mut self, file: File) {
        self.file = file;
        self.torn = false;
    }

    /// Writes what is pending.
    pub fn flush(&mut self) -> Flushed {
        if self.pending.is_empty() {
            return Flushed::Fine;
        }
        let mut result = Ok(());
        if self.torn {
            result = self.write_all(b"\n").1;
            self.torn = result.is_err();
        }
        let pending = std::mem::take(&mut self.pending);
        let mut written = 0;
        if result.is_ok() {
            (written, result) = self.write_all(&pending);
        }
        let outcome = self.account(&pending, written, result);
        self.pending = pending;
        self.pending.clear();
        outcome
    }

    fn account(&mut self, pending: &[u8], written: usize, result: Result<(), Errno>) -> Flushed {
        match result {
            Ok(()) if self.failing => {
                self.failing = false;
                Flushed::Recovered(std::mem::take(&mut self.lost_now))
            }
            Ok(()) => Flushed::Fine,
            Err(Errno::EPIPE) => Flushed::Closed,
            Err(errno) => {
                if written > 0 {
                    self.torn = pending[written - 1] != b'\n';
                }
                let lost = count_lines(&pending[written..]);
                self.lost += lost;
                self.lost_now += lost;
                if std::mem::replace(&mut self.failing, true) {
                    Flushed::StillFailing
                } else {
                    Flushed::Failed(errno)
                }
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> (usize, Result<(), Errno>) {
        let mut at = 0;
        while at < bytes.len() {
            match self.file.write(&bytes[at..]) {
                Ok(0) => return (at, Err(Errno::EIO)),
                Ok(n) => at += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(),
                Err(e) => {
                    return (at, Err(Errno::from_io(&e)));
                }
            }
        }
        (at, Ok(()))
    }

    /// Somebody else has made our standard output non-blocking: wait for room.
    fn wait(&self) {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        // An interrupted wait is tried again by the caller.
        let _ = poll(&mut fds, PollTimeout::NONE);
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&b| b == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_closed_reader_is_told() {
        let (reader, writer) = nix::unistd::pipe().expect("pipe");
        let mut stream = Stream::new(File::from(writer));
        stream.buffer().extend_from_slice(b"one\n");
        assert_eq!(stream.flush(), Flushed::Fine);
        let mut text = [0; 4];
        File::from(reader).read_exact(&mut text).expect("read");
        assert_eq!(&text, b"one\n");
        stream.buffer().extend_from_slice(b"two\n");
        assert_eq!(stream.flush(), Flushed::Closed);
    }

    #[test]
    fn a_full_device_loses_counted_lines() {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full");
        let mut stream = Stream::new(full);
        stream.buffer().extend_from_slice(b"one\ntwo\n");
        assert_eq!(stream.flush(), Flushed::Failed(Errno::ENOSPC));
        stream.buffer().extend_from_slice(b"three\n");
        assert_eq!(stream.flush(), Flushed::StillFailing);
        assert_eq!(stream.lost(), 3);
        let null = File::options()
            .write(true)
            .open("/dev/null")
            .expect("/dev/null");
        stream.replace(null);
        stream.buffer().extend_from_slice(b"four\n");
        assert_eq!(stream.flush(), Flushed::Recovered(3));
        assert_eq!(stream.flush(), Flushed::Fine);
    }

    #[test]
    fn a_torn_line_is_ended() {
        let (reader, writer) = nix::unistd::pipe().expect("pipe");
        let mut stream = Stream::new(File::from(writer));
        let lost = stream.account(b"one\ntwo\nthree\n", 6, Err(Errno::ENOSPC));
        assert_eq!(lost, Flushed::Failed(Errno::ENOSPC));
        assert_eq!(stream.lost(), 2);
        stream.buffer().extend_from_slice(b"four\n");
        assert_eq!(stream.flush(), Flushed::Recovered(2));
        drop(stream);
        let mut text = String::new();
        let _ = File::from(reader).read_to_string(&mut text);
        assert_eq!(text, "\nfour\n");
    }
}
