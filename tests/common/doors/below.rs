//! A folder that may be looked through: its names and those below, and nothing else.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use libc::c_long;
use socket_snoop::sandbox::OutputAccess;
use socket_snoop::sys::folder::{BELOW, How};

use super::{Answer, Attempt, CWD, Inside, Working, call};

/// The folder, where an attempt is about it, and how those below are opened.
pub(super) struct Below {
    folder: Option<File>,
    pub(super) how: Option<&'static How>,
}

impl Below {
    /// It is granted to these attempts alone: the others are made without.
    pub(super) fn granted(what: &str, at: &Path) -> Below {
        let folder = what.starts_with("below");
        let folder = folder.then(|| File::open(at).expect("the folder"));
        Below { folder, how: None }
    }

    pub(super) fn access(&self) -> OutputAccess<'_> {
        OutputAccess {
            below: self.folder.as_ref().map(File::as_fd),
            names: self.folder.as_ref().map(File::as_raw_fd),
            ..OutputAccess::default()
        }
    }

    fn fd(&self) -> c_long {
        self.folder.as_ref().expect("a folder").as_raw_fd().into()
    }
}

const SIZE: c_long = size_of::<How>() as c_long;

fn how(inside: &Inside<'_>) -> c_long {
    let how = inside.below.how;
    how.map_or(0, |how| std::ptr::from_ref(how) as c_long)
}

fn open(inside: &Inside<'_>, path: &CStr) -> i64 {
    let args = [
        inside.below.fd(),
        path.as_ptr() as c_long,
        how(inside),
        SIZE,
        0,
        0,
    ];
    call(libc::SYS_openat2, args)
}

/// All names, from the first on.
fn list(fd: c_long) -> i64 {
    let mut names = [0u8; 4096];
    let args = [fd, names.as_mut_ptr() as c_long, 4096, 0, 0, 0];
    match call(libc::SYS_getdents64, args) {
        1.. => 0,
        0 => -i64::from(libc::ENOENT),
        errno => errno,
    }
}

fn dot() -> c_long {
    c".".as_ptr() as c_long
}

#[rustfmt::skip]
pub(super) const REFUSED: &[Attempt] = &[
    ("below_elsewhere", |i| (libc::SYS_openat2, [CWD, dot(), how(i), SIZE, 0, 0])),
    ("below_another_how", |i| (libc::SYS_openat2, [i.below.fd(), dot(), std::ptr::from_ref(&BELOW) as c_long, SIZE, 0, 0])),
    ("below_a_part_of_how", |i| (libc::SYS_openat2, [i.below.fd(), dot(), how(i) + 8, SIZE, 0, 0])),
    ("below_another_size", |i| (libc::SYS_openat2, [i.below.fd(), dot(), how(i), 32, 0, 0])),
    ("below_by_openat", |i| (libc::SYS_openat, [i.below.fd(), dot(), libc::O_DIRECTORY.into(), 0, 0, 0])),
    ("below_lseek_another", |_| (libc::SYS_lseek, [0, 0, libc::SEEK_SET.into(), 0, 0, 0])),
    ("below_lseek_on", |i| (libc::SYS_lseek, [i.below.fd(), 1, libc::SEEK_SET.into(), 0, 0, 0])),
    ("below_lseek_end", |i| (libc::SYS_lseek, [i.below.fd(), 0, libc::SEEK_END.into(), 0, 0, 0])),
];

pub(super) const ALLOWED: &[Working] = &[
    (
        "below_names",
        |i| match open(i, c".") {
            fd @ 0.. => list(fd as c_long),
            errno => errno,
        },
        Answer::Done,
    ),
    (
        "below_names_again",
        |i| match list(i.below.fd()) {
            0 => call(
                libc::SYS_lseek,
                [i.below.fd(), 0, libc::SEEK_SET.into(), 0, 0, 0],
            )
            .min(list(i.below.fd())),
            errno => errno,
        },
        Answer::Done,
    ),
    (
        "below_no_file",
        |i| open(i, c"log"),
        Answer::Errno(libc::ENOTDIR),
    ),
    (
        "below_not_out",
        |i| open(i, c".."),
        Answer::Errno(libc::EXDEV),
    ),
    (
        "below_no_root",
        |i| open(i, c"/"),
        Answer::Errno(libc::EXDEV),
    ),
];
