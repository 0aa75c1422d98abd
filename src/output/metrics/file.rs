//! The file of the figures: written whole beside itself, and renamed.
//!
//! Contract: its folder is held open from the start, and it is always written by the
//! two names in there, the same calls in the sandbox and open. Who reads it sees a
//! whole one, always.

use crate::model::text::printable;
use crate::output::place::{self, Place};
use crate::sandbox::{LogAccess, Pinned};
use crate::sys::{Errno, Result};
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

/// For others to read: node_exporter has a user of its own.
const MODE: u32 = 0o644;

const FLAGS: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_TRUNC)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_LARGEFILE);

/// The file.
#[derive(Debug)]
pub(crate) struct MetricsFile {
    path: String,
    place: Place,
    beside: CString,
    pinned: Option<Pinned>,
}

impl MetricsFile {
    /// That of a path. EINVAL: what is there is no regular file.
    pub(super) fn at(path: &str) -> Result<MetricsFile> {
        let place = place::find(path)?;
        if place.magic || place.special().is_some() {
            return Err(Errno::EINVAL);
        }
        let beside = [place.name.to_bytes(), b".tmp"].concat();
        Ok(MetricsFile {
            path: path.into(),
            place,
            beside: CString::new(beside).map_err(|_| Errno::EINVAL)?,
            pinned: None,
        })
    }

    /// Its path, as it was given.
    pub(super) fn path(&self) -> String {
        printable(&self.path)
    }

    /// How it is written: as a log that is renamed.
    pub(super) fn access(&self) -> LogAccess<'_> {
        LogAccess {
            file: None,
            folder: self.place.folder.as_fd(),
            special: None,
            name: &self.beside,
            older: Some(&self.place.name),
            flags: FLAGS.bits(),
            mode: MODE,
        }
    }

    /// From here on these copies of its names are used.
    pub(crate) fn pin(&mut self, pinned: Option<Pinned>) {
        self.pinned = pinned;
    }

    pub(super) fn write(&self, text: &[u8]) -> Result<()> {
        let (beside, name) = match self.pinned {
            Some(Pinned {
                name,
                older: Some(older),
            }) => (name, older),
            _ => (self.beside.as_c_str(), self.place.name.as_c_str()),
        };
        let folder = &self.place.folder;
        let mode = Mode::from_bits_truncate(MODE);
        let mut file = File::from(openat(folder, beside, FLAGS, mode)?);
        file.write_all(text)
            .map_err(|error| Errno::from_io(&error))?;
        drop(file);
        Ok(renameat(folder, beside, folder, name)?)
    }
}
