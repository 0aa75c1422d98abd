//! Where a log is: its folder, held open, and its name in it.
//!
//! Contract: a path is walked a step at a time, each step looked at after it was
//! opened, so that nothing can be put in between. A symbolic link in a folder
//! where anybody can make one is followed only if it is ours or the folder's
//! owner's, whether fs.protected_symlinks is on or not. Links are followed once,
//! here: what is opened later is the name that they led to, and no link.

use crate::sys::{Errno, Result};
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// How many links are followed (MAXSYMLINKS, include/linux/namei.h).
const LINKS: usize = 40;

/// The sticky bit, and writing by everybody.
const ANYBODYS: u32 = 0o1002;

/// A name in a folder.
#[derive(Debug)]
pub(crate) struct Place {
    /// The folder.
    pub folder: OwnedFd,
    /// The name; with `/` where a folder on the way is not there yet.
    pub name: CString,
    /// Whether a link led there.
    pub linked: bool,
    /// Whether it is a link of /proc, which nobody can make, to an open file.
    pub magic: bool,
}

/// The kind of a file.
pub(crate) fn kind(stat: &FileStat) -> u32 {
    stat.st_mode & libc::S_IFMT
}

/// Which file it is.
pub(crate) fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Whether others than its owner can change it.
pub(crate) fn is_others(stat: &FileStat) -> bool {
    stat.st_mode & 0o022 != 0
}

/// This user.
pub(crate) fn own() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Whether it is one of ours, who are these users, and nobody else can change it.
pub(crate) fn is_ours(stat: &FileStat, us: &[u32]) -> bool {
    us.contains(&stat.st_uid) && !is_others(stat)
}

fn step(folder: &impl AsFd, name: &str, flags: OFlag) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_PATH | OFlag::O_CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

fn root_of(path: &str) -> Result<OwnedFd> {
    let start = if path.starts_with('/') { "/" } else { "." };
    Ok(nix::fcntl::open(start, FOLDER, Mode::empty())?)
}

/// The name that ends a path as it is, though it be a link, in its folder.
pub(crate) fn plain(path: &str) -> Result<Place> {
    let split = path.rfind('/').map(|at| path.split_at_checked(at + 1));
    let (folder, name) = split.flatten().unwrap_or((".", path));
    Ok(Place {
        folder: nix::fcntl::open(folder, FOLDER, Mode::empty())?,
        name: CString::new(name).map_err(|_| Errno::EINVAL)?,
        linked: false,
        magic: false,
    })
}

/// How a folder is held.
const FOLDER: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// Where an opened link leads to, if it may be followed.
fn target(folder: &OwnedFd, link: &OwnedFd, stat: &FileStat) -> Result<String> {
    let around = fstat(folder)?;
    let foreign = stat.st_uid != own() && stat.st_uid != around.st_uid;
    if around.st_mode & ANYBODYS == ANYBODYS && foreign {
        return Err(Errno::EACCES);
    }
    let target = readlinkat(link, "")?;
    target.into_string().map_err(|_| Errno::EINVAL)
}

/// Finds the place of a path; the file itself need not be there.
pub(crate) fn find(path: &str) -> Result<Place> {
    let mut folder = root_of(path)?;
    let mut rest = path.to_owned();
    for links in 0..=LINKS {
        match walk(&mut folder, &rest)? {
            Walked::There(name, magic) => {
                let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
                return Ok(Place {
                    folder,
                    name,
                    linked: links > 0,
                    magic,
                });
            }
            Walked::Link(target) => rest = target,
        }
        if rest.starts_with('/') {
            folder = root_of(&rest)?;
        }
    }
    Err(Errno::ELOOP)
}

enum Walked {
    /// This name, and whether it is a link of /proc.
    There(String, bool),
    /// A link: on from here by this path.
    Link(String),
}

/// Walks until there is one name left, or a link.
fn walk(folder: &mut OwnedFd, path: &str) -> Result<Walked> {
    let mut rest = path.trim_start_matches('/');
    loop {
        let (name, after) = rest.split_once('/').unwrap_or((rest, ""));
        let is_last = name.len() == rest.len();
        let after = after.trim_start_matches('/');
        match name {
            "" => return Err(Errno::EISDIR),
            "." | ".." if is_last => return Err(Errno::EISDIR),
            _ => {}
        }
        let in_proc = fstatfs(&*folder).is_ok_and(|s| s.filesystem_type() == PROC_SUPER_MAGIC);
        if in_proc && is_last {
            return Ok(Walked::There(name.into(), true));
        }
        if !is_last {
            let mut flags = OFlag::O_DIRECTORY;
            flags.set(OFlag::O_NOFOLLOW, !in_proc);
            match step(folder, name, flags) {
                Ok(next) => {
                    *folder = next;
                    rest = after;
                    continue;
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) if !in_proc => {}
                Err(Errno::ENOENT) => return Ok(Walked::There(rest.into(), false)),
                Err(errno) => return Err(errno),
            }
        }
        let link = match step(folder, name, OFlag::O_NOFOLLOW) {
            Ok(link) => link,
            Err(Errno::ENOENT) if is_last => return Ok(Walked::There(name.into(), false)),
            Err(errno) => return Err(errno),
        };
        let stat = fstat(&link)?;
        return match kind(&stat) {
            libc::S_IFLNK => {
                let target = target(folder, &link, &stat)?;
                Ok(Walked::Link(match is_last {
                    true => target,
                    false => format!("{target}/{after}"),
                }))
            }
            libc::S_IFDIR if is_last => Err(Errno::EISDIR),
            _ if is_last => Ok(Walked::There(name.into(), false)),
            _ => Err(Errno::ENOTDIR),
        };
    }
}

impl Place {
    /// Opens it with these flags.
    pub(crate) fn open(&self, mut flags: OFlag) -> Result<OwnedFd> {
        flags.set(OFlag::O_NOFOLLOW, !self.magic);
        Ok(openat(&self.folder, &*self.name, flags, Mode::empty())?)
    }

    /// Whether anybody can make links in its folder.
    pub(crate) fn is_anybodys(&self) -> bool {
        fstat(&self.folder).is_ok_and(|stat| stat.st_mode & ANYBODYS == ANYBODYS)
    }

    /// Whether a folder on the way is not there.
    pub(crate) fn is_missing(&self) -> bool {
        self.name.to_bytes().contains(&b'/')
    }

    /// Whether whoever makes the missing folders is to be trusted, and is not
    /// given the whole file system for it.
    pub(crate) fn may_come(&self) -> bool {
        let Ok(stat) = fstat(&self.folder) else {
            return false;
        };
        let root = nix::sys::stat::stat("/");
        let is_root = root.is_ok_and(|r| (r.st_dev, r.st_ino) == (stat.st_dev, stat.st_ino));
        let trusted = [0, own()].contains(&stat.st_uid) && !is_others(&stat);
        !self.is_missing() || (trusted && !is_root)
    }

    /// A hold of what is there, if it is neither a regular file nor a folder.
    pub(crate) fn special(&self) -> Option<OwnedFd> {
        let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        flags.set(OFlag::O_NOFOLLOW, !self.magic);
        let name = self.name.as_c_str();
        let held = openat(&self.folder, name, flags, Mode::empty()).ok()?;
        let kind = kind(&fstat(&held).ok()?);
        (![libc::S_IFREG, libc::S_IFDIR, libc::S_IFLNK].contains(&kind)).then_some(held)
    }
}
