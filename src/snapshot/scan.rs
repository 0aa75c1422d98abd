//! What /proc tells of processes: their descriptors, names and namespaces.
//!
//! Contract: a process is looked at through its opened folder, so that one that
//! ends and another that gets its number are never mixed up. What has gone away
//! meanwhile is passed over; what may not be read is told to the caller. All
//! contents are checked, none is trusted.

use crate::model::event::COMM_LEN;
use crate::sys::{Errno, Result, file};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The inode of the first PID namespace (PROC_PID_INIT_INO,
/// include/linux/proc_ns.h): its process ids are those of the kernel.
const FIRST_PID_NAMESPACE: u64 = 0xeffffffc;

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);

/// A process that owns a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id, in the PID namespace of /proc.
    pub pid: u32,
    /// Process id of its parent.
    pub parent: u32,
    /// When it started, in clock ticks since the boot.
    pub start: u64,
    /// Its name, ended by a NUL if it is shorter.
    pub name: [u8; COMM_LEN],
}

impl Process {
    /// Whether it is older than another one: it started earlier, or is its
    /// parent, where both started in the same tick.
    pub fn is_older(&self, other: &Process) -> bool {
        match self.start.cmp(&other.start) {
            std::cmp::Ordering::Equal if other.parent == self.pid => true,
            std::cmp::Ordering::Equal if self.parent == other.pid => false,
            std::cmp::Ordering::Equal => self.pid < other.pid,
            order => order.is_lt(),
        }
    }
}

/// The ports that the kernel chooses from for outgoing connections in the network
/// namespace that this thread is in (net.ipv4.ip_local_port_range).
pub fn ephemeral_ports() -> Option<RangeInclusive<u16>> {
    let text = file::text("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    parse_range(&text)
}

fn parse_range(text: &[u8]) -> Option<RangeInclusive<u16>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

/// An opened folder in /proc.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// /proc itself.
    pub fn proc() -> Result<Folder> {
        let flags = OFlag::O_PATH | FOLDER;
        let fd = nix::fcntl::open("/proc", flags, Mode::empty())?;
        let proc = Folder(fd);
        // Where nothing is mounted there is no such folder.
        proc.stat(c"self/ns")?;
        Ok(proc)
    }

    /// A folder in this one.
    pub fn folder(&self, name: &CStr) -> Result<Folder> {
        let flags = OFlag::O_PATH | FOLDER;
        Ok(Folder(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// A file in this one.
    pub fn file(&self, name: &CStr) -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, Mode::empty())?))
    }

    fn stat(&self, name: &CStr) -> Result<FileStat> {
        Ok(fstatat(&self.0, name, AtFlags::empty())?)
    }

    /// Calls `visit` with every entry that is a number, until it returns false;
    /// returns what it returned last.
    pub fn numbers(
        &self,
        name: &CStr,
        visit: &mut dyn FnMut(u32, &CStr, BorrowedFd<'_>) -> bool,
    ) -> Result<bool> {
        let mut dir = Dir::openat(&self.0, name, OFlag::O_RDONLY | FOLDER, Mode::empty())?;
        // Reading moves the position of a second descriptor of the same file.
        let fd = dir.as_fd().try_clone_to_owned();
        let fd = fd.map_err(|error| Errno::from_io(&error))?;
        for entry in dir.iter() {
            let Ok(entry) = entry else {
                break;
            };
            let name = entry.file_name();
            if let Some(number) = number(name.to_bytes()) {
                if !visit(number, name, fd.as_fd()) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The inode of a namespace, such as `ns/net`.
    pub fn namespace(&self, name: &CStr) -> Result<u64> {
        self.stat(name).map(|stat| stat.st_ino)
    }

    /// Whether a process has more threads than the first one.
    pub fn has_threads(&self) -> bool {
        // Its folder has one link more a thread (fs/proc/base.c, proc_task_getattr).
        self.stat(c"task").is_ok_and(|stat| stat.st_nlink > 3)
    }

    /// Whether the process ids here are those of the kernel: this is /proc, of
    /// this process's PID namespace, and that is the first one.
    pub fn has_kernels_pids(&self) -> bool {
        let own = readlinkat(&self.0, c"self").ok();
        let own = own.and_then(|text| number(text.as_bytes()));
        own == Some(std::process::id()) && self.namespace(c"self/ns/pid") == Ok(FIRST_PID_NAMESPACE)
    }

    /// Whether the kernel tells how many descriptors a process has (Linux 6.2,
    /// fs/proc/fd.c, proc_fd_getattr), where this is /proc itself.
    pub fn counts_descriptors(&self) -> bool {
        self.stat(c"self/fd").is_ok_and(|stat| stat.st_size > 0)
    }

    /// About how many descriptors a process has: the very number where they are
    /// `counted`, else that of the places for them; 0 where it can't be told.
    pub fn descriptors(&self, counted: bool) -> u32 {
        if counted {
            let stat = self.stat(c"fd").ok();
            return stat.map_or(0, |s| u32::try_from(s.st_size).unwrap_or(u32::MAX));
        }
        let mut status = [0; 4096];
        let status = self.read(c"status", &mut status).unwrap_or_default();
        let mut lines = status.split(|&b| b == b'\n');
        let size = lines.find_map(|line| line.strip_prefix(b"FDSize:"));
        size.and_then(|size| number(size.trim_ascii())).unwrap_or(0)
    }

    /// The process whose folder this is.
    pub fn process(&self, pid: u32) -> Option<Process> {
        let mut stat = [0; 1024];
        let stat = self.read(c"stat", &mut stat)?;
        let (parent, start) = parse_stat(stat)?;
        let mut comm = [0; 80];
        let comm = self.read(c"comm", &mut comm)?;
        Some(Process {
            pid,
            parent,
            start,
            name: parse_comm(comm),
        })
    }

    fn read<'a>(&self, name: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let len = self.file(name).ok()?.read(buffer).ok()?;
        buffer.get(..len)
    }
}

/// The inode of the socket that a descriptor is, by its link in /proc/PID/fd;
/// `None` for what is no socket.
pub fn socket_inode(folder: BorrowedFd<'_>, name: &CStr) -> Result<Option<u32>> {
    // EACCES is also the answer for a process that has gone in this moment (v6.12
    // fs/proc/base.c, proc_pid_readlink): a moment later there is no such link.
    // (It must not be asked again where the link has gone: the process may go then.)
    let target = match readlinkat(folder, name) {
        Err(nix::errno::Errno::EACCES) => readlinkat(folder, name)?,
        target => target?,
    };
    let inode = target.as_bytes().strip_prefix(b"socket:[");
    let inode = inode.and_then(|inode| inode.strip_suffix(b"]"));
    Ok(inode.and_then(number))
}

/// A decimal number without a sign.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    text.iter().try_fold(0u32, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

/// The parent and the start time in /proc/PID/stat (proc_pid_stat(5)). The name
/// in there may hold anything, also parentheses and spaces.
pub fn parse_stat(text: &[u8]) -> Option<(u32, u64)> {
    let end = text.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    // Field 3, the state, is the first one here.
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, start))
}

/// A name in /proc/PID/comm: any bytes, then a line break.
pub fn parse_comm(text: &[u8]) -> [u8; COMM_LEN] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let len = text.len().min(COMM_LEN - 1);
    let mut out = [0; COMM_LEN];
    out[..len].copy_from_slice(&text[..len]);
    out
}

/// The mount points of network namespaces in a mountinfo file
/// (proc_pid_mountinfo(5)), with their inodes.
pub fn mounted_namespaces(mountinfo: &[u8]) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for line in mountinfo.split(|&b| b == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        // Fields 4 and 5: what is mounted, and where.
        let mut fields = line.split(' ').skip(3);
        let (Some(root), Some(place)) = (fields.next(), fields.next()) else {
            continue;
        };
        let inode = root.strip_prefix("net:[").and_then(|r| r.strip_suffix(']'));
        if let Some(inode) = inode.and_then(|text| number(text.as_bytes())) {
            found.push((inode, crate::tracepoint::unescape(place)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_hides_nothing_in_stat() {
        let stat = |name: &str| {
            format!("7 ({name}) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10\n")
        };
        for name in ["plain", "a) R 9 9", "((", ") (", "x y\u{1b}"] {
            assert_eq!(parse_stat(stat(name).as_bytes()), Some((3, 4711)), "{name}");
        }
        assert_eq!(parse_stat(b"7 (cut) S 3 7"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_name_is_any_bytes() {
        let name = |text: &[u8]| parse_comm(text);
        assert_eq!(&name(b"curl\n")[..5], b"curl\0");
        assert_eq!(&name(b"a\nb\n\n")[..5], b"a\nb\n\0");
        assert_eq!(&name(b"0123456789abcde\n"), b"0123456789abcde\0");
        // Kernel threads have longer ones.
        assert_eq!(&name(b"0123456789abcdefghi\n"), b"0123456789abcde\0");
        assert_eq!(name(b""), [0; COMM_LEN]);
    }

    #[test]
    fn a_range_of_ports_is_read() {
        assert_eq!(parse_range(b"32768\t60999\n"), Some(32768..=60999));
        for text in ["", "1", "1 x", "1 65536", "-1 2"] {
            assert_eq!(parse_range(text.as_bytes()), None, "{text}");
        }
        assert!(ephemeral_ports().is_some_and(|range| !range.is_empty()));
    }

    #[test]
    fn the_oldest_process_is_the_opener() {
        let process = |pid, parent, start| Process {
            pid,
            parent,
            start,
            name: [0; COMM_LEN],
        };
        assert!(process(9, 1, 4).is_older(&process(3, 1, 5)));
        // Its child got a smaller number: the numbers start anew.
        assert!(process(9, 1, 5).is_older(&process(3, 9, 5)));
        assert!(!process(3, 9, 5).is_older(&process(9, 1, 5)));
        assert!(process(3, 1, 5).is_older(&process(9, 1, 5)));
    }

    #[test]
    fn mountinfo_gives_network_namespaces() {
        let text = b"30 24 0:4 net:[4026532220] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw\n\
            31 24 0:4 mnt:[4026532221] /run/x rw - nsfs nsfs rw\n\
            32 24 0:4 net:[x] /run/y rw - nsfs nsfs rw\n33 24\n";
        assert_eq!(
            mounted_namespaces(text),
            [(4026532220, "/run/netns/a b".to_string())]
        );
    }

    #[test]
    fn this_process_is_found() {
        let proc = Folder::proc().expect("open /proc");
        let me = proc.folder(c"self").expect("open the process");
        let pid = std::process::id();
        let process = me.process(pid).expect("a process");
        assert_eq!(process.parent, std::os::unix::process::parent_id());
        assert!(process.start > 0);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        let mut sockets = 0;
        let all = me.numbers(c"fd", &mut |fd, name, folder| {
            use std::os::fd::AsRawFd;
            let this = fd == socket.as_raw_fd() as u32;
            sockets += u32::from(this && matches!(socket_inode(folder, name), Ok(Some(_))));
            true
        });
        assert_eq!((all, sockets), (Ok(true), 1));
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || stopped.recv());
        assert!(me.has_threads());
        drop(stop);
        assert!(thread.join().expect("a thread").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in prop::collection::vec(any::<u8>(), 0..200)) {
            parse_stat(&text);
            parse_comm(&text);
            mounted_namespaces(&text);
            if let Some(value) = number(&text) {
                let plain = String::from_utf8(text).expect("digits");
                prop_assert_eq!(plain.parse::<u32>(), Ok(value));
            }
        }

        #[test]
        fn numbers_are_read(value in any::<u64>()) {
            let expected = u32::try_from(value).ok();
            prop_assert_eq!(number(value.to_string().as_bytes()), expected);
        }
    }
}
