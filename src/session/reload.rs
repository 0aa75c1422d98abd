//! The filter's file, read again on SIGHUP.
//!
//! Contract: its folder is held open from the start, and it is always opened by its name
//! in there: the same call in the sandbox and open; where the kernel can follow links
//! no further than that folder (Linux 5.6), such are followed anew each time, as a
//! ConfigMap of Kubernetes has them. What can't be read or understood leaves the filter
//! as it is, and says why. In the sandbox nothing else can be asked of the host: names of
//! users are those of the start.

use crate::cli::Config;
use crate::cli::filter::{self, FLAGS, Held, NO_FILE, may_be_read};
use crate::error::{Error, Kind};
use crate::filter::parse::LENGTH;
use crate::filter::tree::Expr;
use crate::model::text::printable;
use crate::output::notice::notice;
use crate::output::place::{self, Place};
use crate::sandbox::{FilterAccess, Mode, PinnedFilter};
use crate::sys::folder::{self, How};
use crate::sys::{Errno, Result, file};
use nix::fcntl::OFlag;
use std::os::fd::AsFd;

/// The file.
pub(super) struct FilterFile {
    path: String,
    place: Place,
    /// How it is opened, where links in its folder are followed.
    how: Option<&'static How>,
    pinned: Option<PinnedFilter>,
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
        let said = |what: &str, then: &str| [what, " the filter ", &printable(path), then].concat();
        let mut place = place::find(path).map_err(|errno| {
            let why = [": ", &errno.to_string()].concat();
            Error::new(Kind::Usage, said("cannot open", &why))
        })?;
        let mut how = None;
        let named = place::plain(path).ok();
        if let Some(named) = named.filter(|named| !place.magic && !named.is_anybodys()) {
            if folder::open(named.folder.as_fd(), &named.name, &folder::WITHIN).is_ok() {
                (place, how) = (named, Some(&folder::WITHIN));
            }
        }
        if place.linked && !place.magic {
            let then = " are followed once: read again is the file that they lead to now";
            notice(&said("note: links on the way to", then));
        }
        Ok(Some(FilterFile {
            path: path.clone(),
            place,
            how,
            pinned: None,
            base: config.filter.base.clone(),
            held: (config.sandbox != Mode::Off).then(Held::now),
        }))
    }

    /// How it is opened again.
    pub(super) fn access(&self) -> FilterAccess<'_> {
        let mut flags = FLAGS;
        flags.set(OFlag::O_NOFOLLOW, !self.place.magic);
        let pinned = self.pinned;
        FilterAccess {
            folder: self.place.folder.as_fd(),
            name: pinned.map_or(&self.place.name, |pinned| pinned.name),
            flags: flags.bits(),
            how: pinned.map_or(self.how, |pinned| pinned.how),
        }
    }

    /// From here on these copies are used.
    pub(super) fn pin(&mut self, pinned: Option<PinnedFilter>) {
        self.pinned = pinned;
    }

    fn text(&self) -> Result<Vec<u8>> {
        let file = self.access().open()?;
        if !may_be_read(&file, false)? {
            return Err(Errno::EINVAL);
        }
        file::rest(&file, LENGTH + 1)
    }

    /// What it says now; else why that can't be told, in lines for a person.
    pub(super) fn read(&self) -> std::result::Result<Expr, String> {
        let text = self.text().map_err(|errno| {
            let why = match errno {
                Errno::EINVAL if self.place.magic => ": what came from there can't be read again",
                Errno::EINVAL => NO_FILE,
                Errno(libc::EXDEV) => ": a link leads out of its folder",
                Errno::ELOOP => ": it is a link, which it was not at the start; start again",
                Errno::EACCES => ", as the user of this process and without capabilities",
                _ => "",
            };
            let errno = match why.starts_with(':') {
                true => String::new(),
                false => [": ", &errno.to_string()].concat(),
            };
            [
                "cannot read the filter ",
                &printable(&self.path),
                why,
                &errno,
            ]
            .concat()
        })?;
        let names = self.held.as_ref().map(|held| held as _);
        filter::of_file(&self.path, &text, &self.base, names)
    }
}
