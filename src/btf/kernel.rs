//! Finding the BTF of the running kernel, and what of it is wanted. A private
//! part of `btf`.
//!
//! Contract: that there is none is said only where sysfs says so; not to be
//! allowed to look is another error.

use super::file::Reader;
use super::{Btf, BtfError, CAST, elf, typedef};
use crate::error::{Error, Kind};
use crate::programs::Assembled;
use crate::sys::{Errno, file, tracefs};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{SYSFS_MAGIC, statfs};
use std::fs::File;

/// Where the kernel shows its BTF (Linux 5.4 and later, CONFIG_DEBUG_INFO_BTF).
pub const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Why a reset was sent (include/net/rstreason.h, Linux 6.10 and later).
const RESET_REASONS: &str = "sk_rst_reason";

impl Btf {
    /// Reads the BTF of the running kernel; where sysfs is not mounted, by a
    /// mount that nobody else sees. What the programs want of it is looked for
    /// at once; each name beyond costs a search of some milliseconds.
    pub fn of_kernel(programs: &Assembled) -> Result<Btf, Error> {
        let wanted = wanted(programs);
        let mut names = wanted.iter().map(String::as_str);
        let read = Reader::of_kernel(open()?).map_err(BtfError::Read);
        let read = read.and_then(|reader| Btf::read(reader, &mut names));
        read.map_err(|why| match why {
            BtfError::Read(errno) => cannot_read(errno),
            _ => Error::new(Kind::Unsupported, format!("cannot use {PATH}: {why}"))
                .advise("please report this kernel"),
        })
    }

    /// Reads the BTF of another kernel: the file's own, or that of an ELF file's
    /// section.
    pub fn of_copy(file: File, programs: &Assembled) -> Result<Btf, BtfError> {
        let wanted = wanted(programs);
        let mut names = wanted.iter().map(String::as_str);
        match elf::section(&file)? {
            Some((start, len)) => Btf::read(Reader::of_part(file, start, len), &mut names),
            None => Btf::read_file(file, &mut names),
        }
    }

    /// The names of the reasons of resets, as `tcp:tcp_send_reset` prints them
    /// (include/trace/events/tcp.h, DEFINE_RST_REASON); none on older kernels.
    pub fn reset_reasons(&self) -> Vec<(u32, String)> {
        self.symbols(RESET_REASONS, "SK_RST_REASON_")
    }
}

/// The names of types that these programs may ask for.
fn wanted(programs: &Assembled) -> Vec<String> {
    // Whether a helper is there; see src/bpf/load.rs.
    let others = ["bpf_func_id", RESET_REASONS, CAST];
    let mut names: Vec<String> = others.map(String::from).into();
    let structures = programs.fields().filter_map(|field| field.split_once('.'));
    names.extend(structures.map(|(name, _)| name.to_string()));
    for event in programs.events() {
        names.extend([typedef(event), event.to_string()]);
    }
    names
}

fn cannot_read(errno: Errno) -> Error {
    let failed = |kind, why: &str| Error::new(kind, format!("cannot read {PATH}: {why}"));
    match errno {
        Errno::ENOENT => failed(
            Kind::Unsupported,
            "this kernel shows no BTF (CONFIG_DEBUG_INFO_BTF)",
        ),
        Errno::EACCES | Errno::EPERM => {
            failed(Kind::Permission, &errno.to_string()).advise("run as root")
        }
        _ => failed(Kind::Runtime, &errno.to_string()).or_limit(errno),
    }
}

/// Opens the running kernel's file; where sysfs is not mounted, by a mount that
/// nobody else sees.
fn open() -> Result<File, Error> {
    match file::open(PATH.as_ref(), OFlag::O_RDONLY) {
        Ok(file) => Ok(file),
        // Only sysfs itself can say that there is none.
        Err(Errno::ENOENT) if !has_sysfs() => open_privately(),
        Err(errno) => Err(cannot_read(errno)),
    }
}

/// Opens the file in a sysfs that nobody else sees.
fn open_privately() -> Result<File, Error> {
    let sysfs = tracefs::detached_of(c"sysfs").map_err(|errno| {
        let kind = match errno {
            Errno::EPERM | Errno::EACCES => Kind::Permission,
            _ => Kind::Runtime,
        };
        let why = format!("sysfs is not mounted and a private mount was refused ({errno})");
        Error::new(kind, format!("cannot read {PATH}: {why}"))
            .advise("run as root, or mount it: mount -t sysfs sysfs /sys")
            .or_limit(errno)
    })?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(sysfs, "kernel/btf/vmlinux", flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| cannot_read(errno.into()))
}

fn has_sysfs() -> bool {
    statfs("/sys").is_ok_and(|at| at.filesystem_type() == SYSFS_MAGIC)
}
