//! Folders: opening what is below one, and reading its names.
//!
//! Contract: what is opened is below the folder that was given: by [`BELOW`] a folder, to
//! be read: no file, nothing that a link leads to, and nothing of another mount; by
//! [`WITHIN`] a file, also by links. How it is opened is an object of its own, so that a seccomp filter can ask for that very one.
#![allow(unsafe_code, reason = "owns system calls")]

use super::{Errno, Result, check, own};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// struct open_how (include/uapi/linux/openat2.h).
#[derive(Clone, Debug)]
#[repr(C)]
pub struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const FLAGS: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_NOFOLLOW;

/// How a folder below another one is opened.
pub static BELOW: How = How {
    flags: FLAGS as u64,
    mode: 0,
    resolve: libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV,
};

/// How a file is opened to be read, by a name whose links lead nowhere out of the folder.
pub static WITHIN: How = How {
    flags: READING as u64,
    mode: 0,
    resolve: libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS,
};

/// The flags of a file that is read, and not waited for.
pub(crate) const READING: i32 =
    libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_LARGEFILE;

/// Bytes of names that are read at once.
const PIECE: usize = 4096;

/// Opens something by its path in a folder. EXDEV: a link leads out of it. ENOSYS: before Linux 5.6.
pub fn open(folder: BorrowedFd<'_>, path: &CStr, how: &'static How) -> Result<OwnedFd> {
    // SAFETY: the path ends with a NUL, `how` is as large as is said, and the result is
    // a new descriptor.
    unsafe {
        Ok(own(check(libc::syscall(
            libc::SYS_openat2,
            folder.as_raw_fd(),
            path.as_ptr(),
            std::ptr::from_ref(how),
            size_of::<How>(),
        ))?))
    }
}

/// Goes back to the first name of a folder.
pub(crate) fn rewind(folder: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes numbers.
    match unsafe { libc::lseek(folder.as_raw_fd(), 0, libc::SEEK_SET) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

/// Hands on the folders that are named in one, with their inode numbers, from where it
/// is read; what may be one counts, too.
pub(crate) fn names(folder: BorrowedFd<'_>, each: &mut dyn FnMut(u64, &str)) -> Result<()> {
    let mut piece = [0u8; PIECE];
    loop {
        // SAFETY: the piece is as long as is said.
        let read = check(unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                folder.as_raw_fd(),
                piece.as_mut_ptr(),
                PIECE,
            )
        })?;
        let mut rest = piece.get(..read as usize).unwrap_or(&[]);
        if rest.is_empty() {
            return Ok(());
        }
        while let Some((inode, kind, name, after)) = entry(rest) {
            rest = after;
            if !matches!(kind, libc::DT_DIR | libc::DT_UNKNOWN) || name.starts_with(b".") {
                continue;
            }
            if let Ok(name) = std::str::from_utf8(name) {
                each(inode, name);
            }
        }
    }
}

/// The first entry of some: its inode number, its kind and its name; and the others
/// (struct linux_dirent64, include/linux/dirent.h).
fn entry(bytes: &[u8]) -> Option<(u64, u8, &[u8], &[u8])> {
    let inode = u64::from_ne_bytes(*bytes.first_chunk()?);
    let len = u16::from_ne_bytes(*bytes.get(16..)?.first_chunk()?);
    let (entry, after) = bytes.split_at_checked(len.into())?;
    let name = entry.get(19..)?;
    let end = name.iter().position(|&b| b == 0)?;
    Some((inode, *entry.get(18)?, name.get(..end)?, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_object_that_is_not_whole_is_none() {
        let mut one = vec![7u8; 16];
        one.extend([24, 0, libc::DT_DIR, b'a', b'b', 0, 0, 0]);
        let whole = entry(&one).expect("an entry");
        assert_eq!((whole.1, whole.2), (libc::DT_DIR, &b"ab"[..]));
        for len in 0..24 {
            assert_eq!(entry(&one[..len]), None, "{len}");
        }
        // Without an end of its name; of no length.
        one[16] = 21;
        assert_eq!(entry(&one), None);
        one[16] = 0;
        assert_eq!(entry(&one), None);
    }

    #[test]
    fn only_folders_below() {
        let top = std::env::temp_dir().join(format!("snoop-folder-{}", std::process::id()));
        std::fs::create_dir_all(top.join("one/two")).expect("folders");
        std::fs::write(top.join("file"), "").expect("a file");
        std::os::unix::fs::symlink("one", top.join("link")).expect("a link");
        let folder = std::fs::File::open(&top).expect("the folder");
        let mut found = Vec::new();
        for _ in 0..2 {
            rewind(folder.as_fd()).expect("its beginning");
            let each = &mut |inode, name: &str| found.push((inode, name.to_string()));
            names(folder.as_fd(), each).expect("its names");
        }
        let inode = std::fs::metadata(top.join("one")).expect("it").ino();
        assert_eq!(found, [(inode, "one".into()), (inode, "one".into())]);
        let open = |path| open(folder.as_fd(), path, &BELOW).map(drop);
        if open(c".") != Err(Errno::ENOSYS) {
            assert_eq!(open(c"one/two"), Ok(()));
            for path in [c"file", c"link", c"link/two", c"..", c"one/../..", c"/proc"] {
                assert!(open(path).is_err(), "{path:?}");
            }
        }
        std::fs::remove_dir_all(&top).expect("remove it");
    }
}
