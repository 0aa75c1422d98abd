//! The log file: appended, never truncated, reopened on SIGHUP.
//!
//! Contract: its folder is held open from the start, and the log is always
//! opened by its name in it: the same call with the doors shut and open. A
//! folder that is renamed takes the log along.

use super::stream::Stream;
use crate::sandbox::LogAccess;
use crate::sys::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::{Mode, fstat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// Permissions of a log that is made new (less the umask).
const MODE: u32 = 0o640;

/// A log file.
#[derive(Debug)]
pub struct Log {
    path: String,
    folder: OwnedFd,
    name: CString,
    pinned: Option<&'static CStr>,
    flags: OFlag,
    /// Where a symbolic link of this name led to.
    target: Option<OwnedFd>,
    /// Where its lines go.
    pub stream: Stream,
}

fn open_folder(path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?)
}

fn open(folder: &OwnedFd, name: &CStr, flags: OFlag) -> Result<File, Errno> {
    let file = openat(folder, name, flags, Mode::from_bits_truncate(MODE))?;
    if is_regular(&file)? {
        // Has no effect on regular files, but would be seen in /proc.
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
        fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    }
    Ok(File::from(file))
}

fn is_regular(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(fstat(file)?.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// Folder and name.
fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => (".", path),
    }
}

impl Log {
    /// Opens or makes the log. With `follow` unset, a symbolic link at `path`
    /// is refused: in a folder that others can write to, it could lead anywhere.
    pub fn open(path: &str, follow: bool) -> Result<Log, Errno> {
        // O_NONBLOCK: a FIFO without a reader must not hold us up at opening.
        let mut flags = OFlag::O_WRONLY
            | OFlag::O_APPEND
            | OFlag::O_CREAT
            | OFlag::O_CLOEXEC
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_LARGEFILE;
        if !follow {
            flags |= OFlag::O_NOFOLLOW;
        }
        let (folder, name) = split(path);
        if name.is_empty() {
            return Err(Errno::EISDIR);
        }
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let folder = open_folder(folder)?;
        let file = open(&folder, &name, flags)?;
        let target = match nix::fcntl::readlinkat(&folder, name.as_c_str()) {
            Ok(_) => std::fs::canonicalize(path)
                .ok()
                .and_then(|real| open_folder(split(real.to_str()?).0).ok()),
            Err(_) => None,
        };
        Ok(Log {
            path: path.into(),
            folder,
            name,
            pinned: None,
            flags,
            target,
            stream: Stream::new(file),
        })
    }

    /// Its path, as it was given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How it is opened again.
    pub fn access(&self) -> LogAccess<'_> {
        LogAccess {
            file: self.stream.file().as_fd(),
            folder: self.folder.as_fd(),
            target: self.target.as_ref().map(|fd| fd.as_fd()),
            name: &self.name,
            flags: self.flags.bits(),
            mode: MODE,
        }
    }

    /// From here on this copy of its name is used for opening it again.
    pub fn pin(&mut self, name: &'static CStr) {
        self.pinned = Some(name);
    }

    /// Opens the log again, after a rotation. Where that fails, the old file
    /// stays in use.
    pub fn reopen(&mut self) -> Result<(), Errno> {
        let name = self.pinned.unwrap_or(&self.name);
        self.stream.replace(open(&self.folder, name, self.flags)?);
        Ok(())
    }
}
