//! The log file: appended, never truncated, reopened on SIGHUP, and begun anew
//! where it may not grow beyond a size.
//!
//! Contract: its folder is held open from the start, and the log is always
//! opened by its name in it, which is no link: the same call in the sandbox
//! and open. What was opened is looked at before anything is written. A folder
//! that is renamed takes the log along. A log that isn't there is tried again;
//! what it misses meanwhile is lost, and counted.

use super::place::{self, Place, identity, kind};
use super::sink::Sink;
use super::stream::{Flushed, LIMIT, Stream};
use crate::model::loss::Reason;
use crate::model::text::printable;
use crate::output::notice::notice;
use crate::sandbox::{LogAccess, Pinned};
use crate::sys::{Errno, time};
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat};
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// Permissions of a log that is made new (less the umask).
const MODE: u32 = 0o640;

/// How often what failed is tried again, in nanoseconds.
const AGAIN: u64 = 10_000_000_000;

/// Why a log is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The kernel says so.
    Errno(Errno),
    /// Its folder isn't our own.
    Folder,
    /// It isn't our own.
    File,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault::Errno(errno)
    }
}

impl From<nix::Error> for Fault {
    fn from(errno: nix::Error) -> Fault {
        Fault::Errno(errno.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Errno(errno) => errno.fmt(f),
            Fault::Folder => {
                f.write_str("the folder is not this user's, or others can write to it")
            }
            Fault::File => f.write_str(
                "it is no regular file of this user's with one name that others can't write to",
            ),
        }
    }
}

/// What is asked of a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Care {
    /// Nobody has named it: folder and file must be our own.
    pub own: bool,
    /// The user that we become, once it is open.
    pub user: Option<u32>,
    /// It is begun anew where it would grow beyond so many bytes.
    pub max: Option<u64>,
}

/// A log file.
#[derive(Debug)]
pub struct Log {
    path: String,
    place: Place,
    /// The users that we are, at the start and later: asking is refused then.
    us: [u32; 2],
    older: Option<CString>,
    pinned: Option<Pinned>,
    flags: OFlag,
    care: Care,
    /// Where it is no regular file in its folder: the file itself.
    special: Option<OwnedFd>,
    /// Of the file that is open: which one, and bytes in it.
    open: Option<(u64, u64)>,
    size: u64,
    regular: bool,
    was_open: bool,
    /// When to try again to open it, and to begin it anew.
    again: u64,
    anew: u64,
    /// Where its lines go.
    pub stream: Stream,
}

fn is_regular(stat: &FileStat) -> bool {
    kind(stat) == libc::S_IFREG
}

impl Log {
    /// A log at this path, not yet opened. EACCES: a link on the way isn't to be
    /// followed.
    pub fn at(path: &str, care: Care) -> Result<Log, Fault> {
        let place = place::find(path)?;
        if care.own && place.linked {
            return Err(Fault::File);
        }
        // O_NONBLOCK: a FIFO without a reader must not hold us up at opening.
        let mut flags = OFlag::O_WRONLY
            | OFlag::O_APPEND
            | OFlag::O_CREAT
            | OFlag::O_CLOEXEC
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_LARGEFILE;
        flags.set(OFlag::O_NOFOLLOW, !place.magic);
        let older = care.max.map(|_| [place.name.to_bytes(), b".1"].concat());
        let older = older.and_then(|name| CString::new(name).ok());
        let reasons = (Reason::LogSlow, Reason::LogWrite);
        Ok(Log {
            path: path.into(),
            special: place.special(),
            place,
            us: [place::own(), care.user.unwrap_or_else(place::own)],
            older,
            pinned: None,
            flags,
            care,
            open: None,
            size: 0,
            regular: false,
            was_open: false,
            again: 0,
            anew: 0,
            stream: Stream::new(None, LIMIT, reasons),
        })
    }

    /// Opens or makes the log that was asked for.
    pub fn open(path: &str, care: Care) -> Result<Log, Fault> {
        let mut log = Log::at(path, care)?;
        log.reopen()?;
        Ok(log)
    }

    /// Its path, as it was given.
    pub fn path(&self) -> String {
        printable(&self.path)
    }

    /// Whether it is open now.
    pub fn is_open(&self) -> bool {
        self.stream.sink().is_some()
    }

    /// Whether it ever was.
    pub fn was_open(&self) -> bool {
        self.was_open
    }

    /// How it is opened again.
    pub fn access(&self) -> LogAccess<'_> {
        let open = self.stream.sink().map(Sink::as_fd);
        let special = self.special.as_ref().map(OwnedFd::as_fd);
        LogAccess {
            file: open.or(special),
            folder: self.place.folder.as_fd(),
            special,
            name: &self.place.name,
            older: self.older.as_deref(),
            flags: self.flags.bits(),
            mode: MODE,
        }
    }

    /// From here on these copies of its names are used.
    pub fn pin(&mut self, pinned: Pinned) {
        self.pinned = Some(pinned);
    }

    fn file(&self) -> Result<(File, FileStat), Fault> {
        if self.care.own && !place::is_ours(&fstat(&self.place.folder)?, &self.us) {
            return Err(Fault::Folder);
        }
        let name = self.pinned.map_or(self.place.name.as_c_str(), |p| p.name);
        let mode = Mode::from_bits_truncate(MODE);
        let file = openat(&self.place.folder, name, self.flags, mode)?;
        let stat = fstat(&file)?;
        let single = is_regular(&stat) && stat.st_nlink == 1;
        if self.care.own && !(single && place::is_ours(&stat, &self.us)) {
            return Err(Fault::File);
        }
        if is_regular(&stat) {
            // Has no effect on regular files, but would be seen in /proc.
            let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
            fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
        }
        Ok((File::from(file), stat))
    }

    fn go_on(&mut self, file: File, stat: &FileStat) {
        let same = self.open.replace(identity(stat)) == self.open;
        self.regular = is_regular(stat);
        self.was_open = true;
        self.size = u64::try_from(stat.st_size).unwrap_or(0);
        self.stream.replace(Sink::own(file), same);
    }

    /// Opens the log again, after a rotation. Where that fails, the old file
    /// stays in use, if there is one.
    pub fn reopen(&mut self) -> Result<(), Fault> {
        self.again = time::monotonic().saturating_add(AGAIN);
        let (file, stat) = self.file()?;
        self.go_on(file, &stat);
        Ok(())
    }

    /// Tries again to open it, if it isn't and it is time to.
    pub fn retry(&mut self) {
        if !self.is_open() && time::monotonic() >= self.again {
            // It was said that it can't be written.
            let _ = self.reopen();
        }
    }

    /// It can't be opened, or its reader has left: its lines are lost until it
    /// is opened again.
    pub fn lack(&mut self, why: Errno) {
        self.open = None;
        self.again = time::monotonic().saturating_add(AGAIN);
        self.stream.lack(why);
    }

    /// Writes what waits for it, beginning it anew where it has to be.
    pub fn flush(&mut self) -> Flushed {
        loop {
            let max = self.care.max.filter(|_| self.regular);
            let Some(max) = max.filter(|_| time::monotonic() >= self.anew) else {
                return self.stream.flush();
            };
            let (room, before) = (max.saturating_sub(self.size), self.stream.written());
            let flushed = self.stream.flush_within(room, self.size == 0);
            self.size += self.stream.written() - before;
            if flushed != Flushed::Full {
                return flushed;
            }
            if let Err(fault) = self.begin_anew() {
                if self.anew == 0 {
                    notice(&format!(
                        "warning: cannot rename the log {} to begin it anew: {fault}; \
                         it grows beyond --log-max-size until it can be",
                        self.path()
                    ));
                }
                self.anew = time::monotonic().saturating_add(AGAIN);
            }
        }
    }

    fn begin_anew(&mut self) -> Result<(), Fault> {
        // Somebody else may have shortened it, or moved it away.
        let now = self.stream.sink().map(|sink| fstat(sink.file()));
        let size = now.transpose()?.map_or(0, |stat| stat.st_size);
        let size = u64::try_from(size).unwrap_or(0);
        if size < self.size {
            self.size = size;
            return Ok(());
        }
        let (file, stat) = self.file()?;
        if self.open != Some(identity(&stat)) {
            self.go_on(file, &stat);
            return Ok(());
        }
        drop(file);
        let folder = &self.place.folder;
        let (name, older) = match (self.pinned, &self.older) {
            (Some(Pinned { name, older }), _) => (name, older),
            (None, older) => (self.place.name.as_c_str(), older.as_deref()),
        };
        match renameat(folder, name, folder, older.ok_or(Errno::EINVAL)?) {
            // Somebody else has done it in this very moment.
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let (file, stat) = self.file()?;
        self.go_on(file, &stat);
        self.anew = 0;
        Ok(())
    }
}

/// Opens a log, else the one to fall back to. One that can't be written costs a
/// warning, not the run; it is tried again later where that can be done.
pub fn open(path: &str, fallback: Option<&str>, care: Care) -> Option<Log> {
    let (mut log, fault) = match Log::at(path, care) {
        Ok(mut log) => match log.reopen() {
            Ok(()) => return Some(log),
            Err(fault) => (Some(log), fault),
        },
        Err(fault) => (None, fault),
    };
    let shown = printable(path);
    let failed = format!("warning: cannot write the log {shown}: {fault}");
    let mut nor = String::new();
    if let Some(fallback) = fallback {
        match Log::open(fallback, Care { own: true, ..care }) {
            Ok(log) => {
                notice(&format!("{failed}; writing {fallback}"));
                return Some(log);
            }
            Err(fault) => nor = format!(", nor {fallback}: {fault}"),
        }
    }
    if let (Some(log), Fault::Errno(errno)) = (&mut log, fault) {
        log.lack(errno);
    }
    let log = log.filter(|log| log.place.may_come());
    let until = log.as_ref().map_or("", |_| " until it can be");
    notice(&format!("{failed}{nor}; going on without a log{until}"));
    log
}
