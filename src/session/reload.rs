//! The filter's file, read again on SIGHUP.
//!
//! Contract: its folder is held open from the start, and it is always opened by
//! its name in there: the same call in the sandbox and open. What can't be read or
//! understood leaves the filter as it is, and says why. In the sandbox nothing else
//! can be asked of the host: names of users are those of the start.

use crate::cli::Config;
use crate::cli::filter::{self, Held};
use crate::error::{Error, Kind};
use crate::filter::parse::LENGTH;
use crate::filter::tree::Expr;
use crate::model::text::printable;
use crate::output::place::{self, Place};
use crate::sandbox::{FilterAccess, Mode};
use crate::sys::{Errno, Result};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode as Bits, fstat};
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;

/// The file.
pub(super) struct FilterFile {
    path: String,
    place: Place,
    name: Option<&'static CStr>,
    /// What else must match.
    base: Expr,
    /// What names stand for in the sandbox.
    held: Option<Held>,
}

impl FilterFile {
    /// The one that was asked for, if one was.
    pub(super) fn open(config: &Config) -> std::result::Result<Option<FilterFile>, Error> {
        let Some(path) = &config.filter_file else {
            return Ok(None);
        };
        let place = place::find(path).map_err(|errno| {
            let shown = printable(path);
            Error::new(
                Kind::Usage,
                format!("cannot open the filter {shown}: {errno}"),
            )
        })?;
        Ok(Some(FilterFile {
            path: path.clone(),
            place,
            name: None,
            base: config.filter.base.clone(),
            held: (config.sandbox != Mode::Off).then(Held::now),
        }))
    }

    fn flags(&self) -> OFlag {
        let mut flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        flags |= OFlag::O_NOCTTY | OFlag::O_LARGEFILE;
        flags.set(OFlag::O_NOFOLLOW, !self.place.magic);
        flags
    }

    /// How it is opened again.
    pub(super) fn access(&self) -> FilterAccess<'_> {
        use std::os::fd::AsFd;
        FilterAccess {
            folder: self.place.folder.as_fd(),
            name: &self.place.name,
            flags: self.flags().bits(),
        }
    }

    /// From here on this copy of its name is used.
    pub(super) fn pin(&mut self, name: Option<&'static CStr>) {
        self.name = name;
    }

    fn text(&self) -> Result<Vec<u8>> {
        let name = self.name.unwrap_or(&self.place.name);
        let file = openat(&self.place.folder, name, self.flags(), Bits::empty())?;
        if place::kind(&fstat(&file)?) != libc::S_IFREG {
            return Err(Errno::EINVAL);
        }
        let mut text = Vec::new();
        let mut file = File::from(file).take(LENGTH as u64 + 1);
        file.read_to_end(&mut text)
            .map_err(|error| Errno::from_io(&error))?;
        Ok(text)
    }

    /// What it says now; else why that can't be told, in lines for a person.
    pub(super) fn read(&self) -> std::result::Result<Expr, String> {
        let text = self.text().map_err(|errno| {
            let why = match errno {
                Errno::EINVAL => "it is no regular file".to_string(),
                errno => errno.to_string(),
            };
            format!("cannot read the filter {}: {why}", printable(&self.path))
        })?;
        let names = self.held.as_ref().map(|held| held as _);
        filter::of_file(&self.path, &text, &self.base, names)
    }
}
