//! A file of recorded lines, or standard input: one whole line after the other.
//!
//! Contract: of a file as much is held as one line takes, [`LONGEST`] at most; a
//! longer one is passed over and handed out as too long. What stands behind the
//! last line break is a line, too.

use super::line::line_break;
use std::fs::File;
use std::io::{ErrorKind, Read, Result};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

/// The longest line that is read, in bytes.
pub(super) const LONGEST: usize = 1 << 20;
/// What is read at once.
const CHUNK: usize = 256 << 10;

/// Where lines come from.
pub(super) struct Source {
    file: File,
    buffer: Vec<u8>,
    /// What of the buffer is read and not handed out.
    pending: Range<usize>,
    ended: bool,
    /// The rest of a line that is too long is passed over.
    skipping: bool,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line: where it stands in the buffer, without its line break.
    Line(Range<usize>),
    /// The same of one without a line break: the last.
    Cut(Range<usize>),
    /// A line that is too long.
    TooLong,
    /// More must be read first: [`Source::fill`].
    Starved,
    /// Nothing.
    End,
}

impl Source {
    pub(super) fn new(file: File) -> Source {
        Source {
            file,
            buffer: Vec::new(),
            pending: 0..0,
            ended: false,
            skipping: false,
        }
    }

    /// What is read.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The bytes of a line that was handed out last.
    pub(super) fn text(&self, place: Range<usize>) -> &[u8] {
        self.buffer.get(place).unwrap_or_default()
    }

    /// What comes next of what was read.
    pub(super) fn next(&mut self) -> Next {
        loop {
            let from = self.pending.start;
            let pending = self.text(self.pending.clone());
            let found = line_break(pending);
            let len = match found {
                Some(len) => len,
                None if !self.ended => {
                    if pending.len() > LONGEST || self.skipping {
                        self.skipping = true;
                        self.pending.start = self.pending.end;
                    }
                    return Next::Starved;
                }
                None if pending.is_empty() && !self.skipping => return Next::End,
                None => pending.len(),
            };
            self.pending.start += len + usize::from(found.is_some());
            if std::mem::take(&mut self.skipping) {
                return Next::TooLong;
            }
            let text = self.text(from..from + len);
            let len = text.strip_suffix(b"\r").unwrap_or(text).len();
            match found {
                _ if len == 0 => {}
                Some(_) => return Next::Line(from..from + len),
                None => return Next::Cut(from..from + len),
            }
        }
    }

    /// Reads more, as far as there is some; waits for it if there is none.
    pub(super) fn fill(&mut self) -> Result<()> {
        let len = self.pending.len();
        self.buffer.copy_within(self.pending.clone(), 0);
        self.pending = 0..len;
        if self.buffer.len() < len + CHUNK {
            self.buffer.resize(len + CHUNK, 0);
        }
        let place = self.buffer.get_mut(len..).unwrap_or_default();
        match self.file.read(place) {
            Ok(0) => self.ended = true,
            Ok(more) => self.pending.end += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What was read begins as gzip's files do.
    pub(super) fn is_compressed(&self) -> bool {
        self.buffer.starts_with(&[0x1f, 0x8b])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    /// The lines of a file with these bytes; `None` for one that is too long.
    fn lines(bytes: &[u8]) -> Vec<Option<(Vec<u8>, bool)>> {
        let mut file = File::from(
            nix::sys::memfd::memfd_create(c"lines", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
                .expect("a file"),
        );
        file.write_all(bytes).expect("write");
        file.rewind().expect("rewind");
        let mut source = Source::new(file);
        let mut all = Vec::new();
        loop {
            match source.next() {
                Next::Line(place) => all.push(Some((source.text(place).to_vec(), true))),
                Next::Cut(place) => all.push(Some((source.text(place).to_vec(), false))),
                Next::TooLong => all.push(None),
                Next::Starved => source.fill().expect("read"),
                Next::End => return all,
            }
        }
    }

    #[test]
    fn lines_are_whole_whatever_is_read_at_once() {
        let line = |n: usize| vec![b'a' + (n % 26) as u8; n % 3000 + 1];
        let mut bytes = Vec::new();
        for n in 0..2000 {
            bytes.extend(line(n * 7));
            bytes.extend(if n % 3 == 0 { &b"\r\n"[..] } else { b"\n" });
        }
        bytes.extend(b"\n\n");
        bytes.extend(b"cut");
        let all = lines(&bytes);
        assert_eq!(all.len(), 2001);
        for (n, got) in all.iter().take(2000).enumerate() {
            assert_eq!(*got, Some((line(n * 7), true)), "{n}");
        }
        assert_eq!(all[2000], Some((b"cut".to_vec(), false)));
    }

    #[test]
    fn what_is_too_long_is_passed_over() {
        let long = vec![b'x'; 3 * LONGEST];
        let bytes = [&b"one\n"[..], &long, b"\ntwo\n", &long].concat();
        let some = |text: &[u8]| Some((text.to_vec(), true));
        assert_eq!(lines(&bytes), [some(b"one"), None, some(b"two"), None]);
        assert_eq!(lines(b""), []);
    }
}
