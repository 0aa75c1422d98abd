//! Finding and reading the BTF of the running kernel. A private part of `btf`.
//!
//! Contract: that there is none is said only where sysfs says so; not to be
//! allowed to look is another error.

use super::Btf;
use crate::error::{Error, Kind as ErrorKind};
use crate::sys::{Errno, tracefs};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{SYSFS_MAGIC, statfs};
use std::fs::File;
use std::io::Read;

/// Where the kernel shows its BTF (Linux 5.4 and later, CONFIG_DEBUG_INFO_BTF).
pub const PATH: &str = "/sys/kernel/btf/vmlinux";
/// The longest file that is read, in bytes.
const FILE_LIMIT: u64 = 64 << 20;

impl Btf {
    /// Reads the BTF of the running kernel; where sysfs is not mounted, by a
    /// mount that nobody else sees.
    pub fn of_kernel() -> Result<Btf, Error> {
        let bytes = read_file()?;
        Btf::parse(bytes).map_err(|e| {
            Error::new(ErrorKind::Unsupported, format!("cannot use {PATH}: {e}"))
                .advise("please report this kernel")
        })
    }
}

fn open_error(errno: Errno) -> Error {
    let failed = |kind, why: &str| Error::new(kind, format!("cannot read {PATH}: {why}"));
    match errno {
        Errno::ENOENT => failed(
            ErrorKind::Unsupported,
            "this kernel shows no BTF (CONFIG_DEBUG_INFO_BTF)",
        ),
        Errno::EACCES | Errno::EPERM => {
            failed(ErrorKind::Permission, &errno.to_string()).advise("run as root")
        }
        _ => failed(ErrorKind::Runtime, &errno.to_string()),
    }
}

/// Opens the file in a sysfs that nobody else sees.
fn open_privately() -> Result<File, Error> {
    let sysfs = tracefs::detached_of(c"sysfs").map_err(|errno| {
        let kind = match errno {
            Errno::EPERM | Errno::EACCES => ErrorKind::Permission,
            _ => ErrorKind::Runtime,
        };
        let why = format!("sysfs is not mounted and a private mount was refused ({errno})");
        Error::new(kind, format!("cannot read {PATH}: {why}"))
            .advise("run as root, or mount it: mount -t sysfs sysfs /sys")
    })?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(sysfs, "kernel/btf/vmlinux", flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| open_error(errno.into()))
}

fn read_file() -> Result<Vec<u8>, Error> {
    let file = match File::open(PATH).map_err(|e| Errno::from_io(&e)) {
        Ok(file) => file,
        // Only sysfs itself can say that there is none.
        Err(Errno::ENOENT) if !has_sysfs() => open_privately()?,
        Err(errno) => return Err(open_error(errno)),
    };
    let size = file.metadata().map_or(0, |m| m.len().min(FILE_LIMIT));
    // One more than the file has, so that its end is seen without growing.
    let mut bytes = Vec::with_capacity(size as usize + 1);
    let read = file.take(FILE_LIMIT).read_to_end(&mut bytes);
    read.map_err(|e| open_error(Errno::from_io(&e)))?;
    Ok(bytes)
}

fn has_sysfs() -> bool {
    statfs("/sys").is_ok_and(|at| at.filesystem_type() == SYSFS_MAGIC)
}
