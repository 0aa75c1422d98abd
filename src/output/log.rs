//! The log file: appended, never truncated, reopened on SIGHUP.

use super::stream::Stream;
use crate::sys::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

/// Permissions of a log that is made new (less the umask).
const MODE: u32 = 0o640;

/// A log file.
#[derive(Debug)]
pub struct Log {
    path: String,
    follow: bool,
    /// Where its lines go.
    pub stream: Stream,
}

fn open(path: &str, follow: bool) -> io::Result<File> {
    // O_NONBLOCK: a FIFO without a reader must not hold us up at opening.
    let mut flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    if !follow {
        flags |= OFlag::O_NOFOLLOW;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(flags.bits())
        .open(path)?;
    if file.metadata()?.is_file() {
        // Has no effect on regular files, but would be seen in /proc.
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).map_err(Errno::from)?);
        fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map_err(Errno::from)?;
    }
    Ok(file)
}

impl Log {
    /// Opens or makes the log. With `follow` unset, a symbolic link at `path`
    /// is refused: in a folder that others can write to, it could lead anywhere.
    pub fn open(path: &str, follow: bool) -> Result<Log, Errno> {
        let file = open(path, follow).map_err(|e| Errno::from_io(&e))?;
        Ok(Log {
            path: path.into(),
            follow,
            stream: Stream::new(file),
        })
    }

    /// Its path, as it was given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Opens the path again, after a rotation. Where that fails, the old file
    /// stays in use.
    pub fn reopen(&mut self) -> Result<(), Errno> {
        let file = open(&self.path, self.follow).map_err(|e| Errno::from_io(&e))?;
        self.stream.replace(file);
        Ok(())
    }
}
