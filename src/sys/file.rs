//! Whole files, and what they are.
//!
//! Contract: what is read is bounded, and read once from where it is; std does the
//! same in four ways, each with code of its own.

use super::{Errno, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// The most that is read of a file of the kernel's, in bytes.
const LIMIT: usize = 64 << 20;
/// What is read at once: the kernel's own files come by pages.
const PIECE: usize = 16 << 10;

/// Opens a file with these flags; a new one can be read by all, and written by its owner.
pub(crate) fn open(path: &Path, flags: OFlag) -> Result<File> {
    let mode = Mode::from_bits_truncate(0o666);
    Ok(nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, mode)?.into())
}

/// The text of a file of the kernel's.
pub(crate) fn text(path: &str) -> Result<Vec<u8>> {
    read(path, LIMIT)
}

/// The first bytes of a file, at most so many.
pub(crate) fn read(path: &str, limit: usize) -> Result<Vec<u8>> {
    rest(&open(path.as_ref(), OFlag::O_RDONLY)?, limit)
}

/// What is left of an open one, at most so many bytes.
pub(crate) fn rest(file: &dyn AsFd, limit: usize) -> Result<Vec<u8>> {
    let (mut text, mut piece) = (Vec::new(), [0; PIECE]);
    while text.len() < limit {
        let want = PIECE.min(limit - text.len());
        match nix::unistd::read(file.as_fd(), &mut piece[..want]).map_err(Errno::from) {
            Ok(0) => break,
            Ok(len) => text.extend_from_slice(&piece[..len]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(text)
}

/// What a path leads to.
pub(crate) fn status(path: &Path) -> Result<FileStat> {
    Ok(nix::sys::stat::stat(path)?)
}

/// The inode that a path leads to, where there is one.
pub(crate) fn inode(path: &str) -> Option<u64> {
    status(path.as_ref()).ok().map(|file| file.st_ino)
}

/// Whether that is a regular file.
pub(crate) fn is_regular(path: &Path) -> bool {
    status(path).is_ok_and(|file| file.st_mode & libc::S_IFMT == libc::S_IFREG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_bounded() {
        let name = format!("snoop-file-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let long: Vec<u8> = (0..PIECE * 2 + 7).map(|at| at as u8).collect();
        std::fs::write(&path, &long).expect("a file");
        assert!(is_regular(&path) && !is_regular("/".as_ref()));
        let path = path.to_str().expect("text");
        for limit in [
            0,
            1,
            PIECE - 1,
            PIECE,
            PIECE + 1,
            long.len(),
            long.len() + 1,
            LIMIT,
        ] {
            let read = read(path, limit).expect("read it");
            assert!(read == long[..limit.min(long.len())], "{limit}");
        }
        assert!(inode(path).is_some() && !is_regular("/nonexistent".as_ref()));
        assert_eq!(inode("/nonexistent"), None);
        assert_eq!(text("/nonexistent"), Err(Errno::ENOENT));
        assert_eq!(text("/"), Err(Errno::EISDIR));
        std::fs::remove_file(path).expect("remove it");
    }
}
