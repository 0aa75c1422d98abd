//! Landlock: what of the file system and the network this process gives up.
//!
//! Layouts: include/uapi/linux/landlock.h. A domain belongs to a thread; the
//! program has only one.
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check, own};
use std::os::fd::{AsRawFd, BorrowedFd};

/// LANDLOCK_ACCESS_FS_WRITE_FILE
const WRITE_FILE: u64 = 1 << 1;
/// LANDLOCK_ACCESS_FS_READ_FILE
const READ_FILE: u64 = 1 << 2;
/// LANDLOCK_ACCESS_FS_READ_DIR
const READ_DIR: u64 = 1 << 3;
/// LANDLOCK_ACCESS_FS_REMOVE_FILE
const REMOVE_FILE: u64 = 1 << 5;
/// LANDLOCK_ACCESS_FS_MAKE_REG
const MAKE_REG: u64 = 1 << 8;
/// LANDLOCK_ACCESS_FS_TRUNCATE, since ABI 3
const TRUNCATE: u64 = 1 << 14;
/// LANDLOCK_ACCESS_NET_BIND_TCP and …_CONNECT_TCP
const NET_TCP: u64 = 0b11;
/// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and …_SIGNAL
const SCOPES: u64 = 0b11;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

#[repr(C)]
struct Ruleset {
    fs: u64,
    net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    fd: i32,
}

impl Ruleset {
    /// Everything that this ABI can refuse, and the size it knows in bytes.
    fn of(abi: u32) -> (Ruleset, usize) {
        // The file system's rights in the order of their bits, by ABI.
        let rights = match abi {
            ..=1 => 13,
            2 => 14,
            3 | 4 => 15,
            _ => 16,
        };
        let ruleset = Ruleset {
            fs: (1 << rights) - 1,
            net: if abi >= 4 { NET_TCP } else { 0 },
            scoped: if abi >= 6 { SCOPES } else { 0 },
        };
        let size = match abi {
            ..=3 => 8,
            4 | 5 => 16,
            _ => 24,
        };
        (ruleset, size)
    }
}

/// The ABI's version. ENOSYS: not built in. EOPNOTSUPP: not turned on.
pub fn abi() -> Result<u32> {
    // SAFETY: with this flag the kernel reads no memory.
    let version = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    })?;
    Ok(version as u32)
}

/// What stays allowed.
#[derive(Clone, Copy, Debug)]
pub enum Allowed<'a> {
    /// Writing to this file.
    Write(BorrowedFd<'a>),
    /// Reading the files in this folder.
    ReadIn(BorrowedFd<'a>),
    /// Reading the names in this folder, and in those below.
    ListIn(BorrowedFd<'a>),
    /// Writing to the files in this folder, and making new ones.
    WriteIn(BorrowedFd<'a>),
    /// The same, and shortening, renaming or removing them.
    RenameIn(BorrowedFd<'a>),
}

/// Gives up for ever everything that Landlock can refuse, but for what is
/// allowed. Open descriptors stay as they are. no_new_privs must be set.
/// Returns the ABI.
pub fn restrict(allowed: &[Allowed<'_>]) -> Result<u32> {
    let abi = abi()?;
    let (handled, size) = Ruleset::of(abi);
    let flags: u32 = 0;
    // SAFETY: `handled` is at least `size` bytes long; the result is a new descriptor.
    let ruleset = unsafe {
        own(check(libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const handled,
            size,
            flags,
        ))?)
    };
    for &one in allowed {
        let (allowed, fd) = match one {
            Allowed::Write(fd) => (WRITE_FILE, fd),
            Allowed::ReadIn(fd) => (READ_FILE, fd),
            Allowed::ListIn(fd) => (READ_DIR, fd),
            Allowed::WriteIn(fd) => (WRITE_FILE | MAKE_REG, fd),
            Allowed::RenameIn(fd) => {
                let all = WRITE_FILE | MAKE_REG | REMOVE_FILE | TRUNCATE;
                (all & handled.fs, fd)
            }
        };
        let rule = PathBeneath {
            allowed,
            fd: fd.as_raw_fd(),
        };
        // SAFETY: the rule is a live object of the type that goes with its number.
        let added = check(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                flags,
            )
        });
        match (one, added) {
            // A pipe, or else on no file system that could be seen, is allowed by
            // itself (v6.12 security/landlock/syscalls.c, get_path_from_fd; fs.c,
            // is_nouser_or_private).
            (Allowed::Write(_), Err(Errno(libc::EBADFD))) => {}
            (_, added) => drop(added?),
        }
    }
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), flags) })?;
    Ok(abi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<Ruleset>(), size_of::<PathBeneath>()), (24, 12));
        assert_eq!(Ruleset::of(1).0.fs, 0x1fff);
        assert_eq!((Ruleset::of(1).1, Ruleset::of(4).1), (8, 16));
        let (newest, size) = Ruleset::of(99);
        assert_eq!((newest.fs, size), (0xffff, 24));
    }
}
