//! What /proc says of tasks, as long as they are there.
//!
//! Contract: task ids mean the same here as in perf's records of this process:
//! a /proc of another PID namespace is not used, but one of our own mounted
//! for nobody else to see. What can't be read is not known; nothing is guessed.
//! Once it is handed over, a helper reads it, which can be asked for nothing but
//! a task's name and status: /proc shows more than that, such as environments.

use crate::model::event::COMM_LEN;
use crate::sys::caps::Caps;
use crate::sys::child::{self, Child, PIECE, Parent, Plan};
use crate::sys::{self, file, tracefs};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::read;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

const DIR: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);

/// The inode of the first PID namespace (PROC_PID_INIT_INO,
/// include/linux/proc_ns.h): its process ids are those of the kernel.
const FIRST_PID_NAMESPACE: u64 = 0xeffffffc;

/// A task's name, ended by a NUL if it is shorter.
pub type Name = [u8; COMM_LEN];

/// An open /proc.
#[derive(Debug)]
pub struct Proc(Way);

#[derive(Debug)]
enum Way {
    /// Its root.
    Own(OwnedFd),
    /// Who reads it for us.
    Asked(Child),
}

/// The network namespace of this process: the inode of its `ns/net`; `None`
/// where there is no /proc that tells.
pub fn own_netns() -> Option<u32> {
    u32::try_from(file::inode("/proc/self/ns/net")?).ok()
}

/// A file of a task.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
enum About {
    Comm,
    Status,
}

/// A question in bytes: the task's id, and which file.
const QUESTION: usize = 8;

/// What a task's `status` file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Process id.
    pub pid: u32,
    /// Real user id.
    pub uid: u32,
    /// The name, where it stands there as it is.
    pub name: Option<Name>,
}

impl Proc {
    /// Opens /proc, or mounts one that is attached nowhere; `None` where
    /// neither is to be had.
    pub fn open() -> Option<Proc> {
        let here = open("/proc", DIR, Mode::empty()).ok();
        here.and_then(Proc::of_our_namespace).or_else(|| {
            let root = tracefs::detached_of(c"proc").ok()?;
            Proc::of_our_namespace(root)
        })
    }

    fn of_our_namespace(root: OwnedFd) -> Option<Proc> {
        let kind = fstatfs(&root).ok()?.filesystem_type();
        let status = read_in(&root, "self/status")?;
        let ours = kind == PROC_SUPER_MAGIC && is_of_our_namespace(&status);
        ours.then_some(Proc(Way::Own(root)))
    }

    /// Hands it over to a helper, and lets go of it.
    pub fn hand_over(&mut self) -> sys::Result<()> {
        if let Way::Own(root) = &self.0 {
            let plan = Plan {
                name: c"snoop-names",
                keep: Caps::empty(),
                give: Some(root.as_fd()),
                kill: false,
            };
            self.0 = Way::Asked(child::start(&plan, &mut answer)?);
        }
        Ok(())
    }

    fn read(&self, tid: u32, about: About) -> Option<Vec<u8>> {
        match &self.0 {
            Way::Own(root) => read_of(root, tid, about as u32),
            Way::Asked(helper) => ask(helper, tid, about),
        }
    }

    /// A task's name now.
    pub fn name(&self, tid: u32) -> Option<Name> {
        name_of(&self.read(tid, About::Comm)?)
    }

    /// A task's process and user now.
    pub fn status(&self, tid: u32) -> Option<Status> {
        status_of(&self.read(tid, About::Status)?)
    }

    /// A process's `stat` file now; else whether that is because it has gone. Until
    /// it is handed over, as all below.
    pub fn stat(&self, pid: u32) -> Result<Vec<u8>, bool> {
        let gone = |errno| matches!(errno, nix::Error::ENOENT | nix::Error::ESRCH);
        let Way::Own(root) = &self.0 else {
            return Err(false);
        };
        try_read_in(root, &format!("{pid}/stat")).map_err(gone)
    }

    /// Whether ids here are those of the first PID namespace: the kernel's own.
    pub fn is_first_namespace(&self) -> bool {
        let Way::Own(root) = &self.0 else {
            return false;
        };
        let stat = fstatat(root, "self/ns/pid", AtFlags::empty());
        stat.is_ok_and(|stat| stat.st_ino == FIRST_PID_NAMESPACE)
    }

    /// Names the processes that are there now, until `each` returns false.
    pub fn processes(&self, each: &mut dyn FnMut(u32) -> bool) {
        let Way::Own(proc) = &self.0 else { return };
        if let Ok(root) = openat(proc, ".", DIR, Mode::empty()) {
            numbers(root, each);
        }
    }

    /// Names the threads that are there now, until `each` returns false.
    pub fn threads(&self, each: &mut dyn FnMut(u32) -> bool) {
        let Way::Own(proc) = &self.0 else { return };
        let Ok(root) = openat(proc, ".", DIR, Mode::empty()) else {
            return;
        };
        let _ = numbers(root, &mut |pid| {
            let path = format!("{pid}/task");
            // The number of links is that of threads and 2 (fs/proc/base.c,
            // proc_task_getattr): most processes have one thread.
            let links = fstatat(proc, path.as_str(), AtFlags::empty());
            if links.is_ok_and(|stat| stat.st_nlink > 3) {
                let Ok(threads) = openat(proc, path.as_str(), DIR, Mode::empty()) else {
                    return true;
                };
                return numbers(threads, each);
            }
            each(pid)
        });
    }
}

/// The first bytes of a file, which is enough of those that are read here, and
/// less than a pipe takes in one piece.
fn read_in(root: &OwnedFd, path: &str) -> Option<Vec<u8>> {
    try_read_in(root, path).ok()
}

fn try_read_in(root: &OwnedFd, path: &str) -> nix::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(root, path, flags, Mode::empty())?;
    let mut bytes = [0; PIECE - 1];
    let len = read(&file, &mut bytes)?;
    Ok(bytes[..len].to_vec())
}

fn read_of(root: &OwnedFd, tid: u32, about: u32) -> Option<Vec<u8>> {
    let file = match about {
        about if about == About::Comm as u32 => "comm",
        _ => "status",
    };
    read_in(root, &format!("{tid}/{file}"))
}

/// Asks the helper.
fn ask(helper: &Child, tid: u32, about: About) -> Option<Vec<u8>> {
    let mut question = [0; QUESTION];
    question[..4].copy_from_slice(&tid.to_ne_bytes());
    question[4..].copy_from_slice(&(about as u32).to_ne_bytes());
    (&helper.words).write_all(&question).ok()?;
    let mut bytes = vec![0; PIECE];
    let len = loop {
        match (&helper.answers).read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => break other.ok()?,
        }
    };
    bytes.truncate(len);
    // What there is of the file comes behind a byte that is 1.
    (bytes.first() == Some(&1)).then(|| bytes.split_off(1))
}

/// What the helper does: it answers until nobody asks any more.
fn answer(mut parent: Parent) {
    let Some(root) = parent.given.take() else {
        return;
    };
    let mut question = [0; QUESTION];
    while parent.words.read_exact(&mut question).is_ok() {
        let word = |at: usize| {
            let bytes = question[at..].first_chunk();
            bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
        };
        let mut piece = vec![0];
        if let Some(bytes) = read_of(&root, word(0), word(4)) {
            piece[0] = 1;
            piece.extend(bytes);
        }
        if parent.answers.write_all(&piece).is_err() {
            return;
        }
    }
}

/// The numbers among a folder's names, until `each` returns false; whether all
/// were named.
fn numbers(folder: OwnedFd, each: &mut dyn FnMut(u32) -> bool) -> bool {
    let Ok(mut folder) = Dir::from_fd(folder) else {
        return true;
    };
    for entry in folder.iter().flatten() {
        let name = entry.file_name().to_str().unwrap_or("");
        if let Ok(number) = name.parse() {
            if !each(number) {
                return false;
            }
        }
    }
    true
}

/// Whether a `status` file of our own was read in our own PID namespace: then
/// NSpid, which names the ids from there on down, has a single one.
fn is_of_our_namespace(status: &[u8]) -> bool {
    field(status, b"NSpid:").is_some_and(|ids| ids.split(u8::is_ascii_whitespace).count() == 1)
}

fn field<'a>(status: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut lines = status.split(|&b| b == b'\n');
    lines.find_map(|line| line.strip_prefix(key).map(<[u8]>::trim_ascii))
}

fn number(bytes: &[u8]) -> Option<u32> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// What a `status` file says; `None` where it is none.
pub fn status_of(status: &[u8]) -> Option<Status> {
    let uids = field(status, b"Uid:")?;
    let name = status.strip_prefix(b"Name:\t")?;
    let name = &name[..name.iter().position(|&b| b == b'\n')?];
    Some(Status {
        pid: number(field(status, b"Tgid:")?)?,
        uid: number(uids.split(u8::is_ascii_whitespace).next()?)?,
        name: name_of(name).filter(|_| !name.contains(&b'\\')),
    })
}

/// The name in a `comm` file. Of a worker of the kernel, /proc adds what it is
/// working at (kernel/workqueue.c, wq_worker_comm): the name ends before that,
/// if that place can be told.
pub fn name_of(comm: &[u8]) -> Option<Name> {
    let mut comm = comm.strip_suffix(b"\n").unwrap_or(comm);
    if let Some(rest) = comm.strip_prefix(b"kworker/") {
        let end = rest.iter().position(|b| b"+-".contains(b));
        match end {
            // A rescuer's own name may hold a '-'.
            Some(_) if rest.starts_with(b"R-") => return None,
            Some(end) => comm = &comm[..b"kworker/".len() + end],
            None => {}
        }
    }
    let mut name = [0; COMM_LEN];
    let len = comm.len().min(COMM_LEN - 1);
    name[..len].copy_from_slice(&comm[..len]);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: Option<Name>) -> Option<String> {
        let name = name?;
        let end = name.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
        Some(String::from_utf8_lossy(&name[..end]).into_owned())
    }

    #[test]
    fn names() {
        for (comm, name) in [
            (&b"bash\n"[..], Some("bash")),
            (b"\n", Some("")),
            (b"two\nlines\n", Some("two\nlines")),
            (b"kworker/0:1-events\n", Some("kworker/0:1")),
            (b"kworker/u8:2+flush-254:0\n", Some("kworker/u8:2")),
            (b"kworker/1:0H\n", Some("kworker/1:0H")),
            (b"kworker/R-xfs-b\n", None),
            (b"kworker-of-mine\n", Some("kworker-of-mine")),
            (b"more than fifteen bytes\n", Some("more than fifte")),
        ] {
            assert_eq!(text(name_of(comm)).as_deref(), name);
        }
    }

    #[test]
    fn status_files() {
        let status = b"Name:\tsome thing\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t12\n\
            Ngid:\t0\nPid:\t13\nUid:\t1000\t0\t0\t0\nNSpid:\t13\n";
        let read = status_of(status).expect("whole");
        assert_eq!((read.pid, read.uid), (12, 1000));
        assert_eq!(text(read.name).as_deref(), Some("some thing"));
        assert!(is_of_our_namespace(status));
        assert!(!is_of_our_namespace(b"Name:\tx\nNSpid:\t13\t1\n"));
        assert!(!is_of_our_namespace(b"Name:\tx\n"));
        // A name with a line break is escaped there, and can't forge a field.
        let escaped = b"Name:\ta\\nUid:\\t0\nTgid:\t1\nUid:\t7\t7\t7\t7\n";
        let read = status_of(escaped).expect("whole");
        assert_eq!((read.uid, read.name), (7, None));
        for broken in [
            &b""[..],
            b"Name:\tx",
            b"Name:\tx\nTgid:\t1\n",
            b"Name:\tx\nTgid:\t1\nUid:\n",
            b"Name:\tx\nTgid:\t-1\nUid:\t1\n",
            b"\xff\xfe",
        ] {
            assert_eq!(status_of(broken), None);
        }
    }

    #[test]
    fn this_very_task_is_found() {
        let proc = Proc::open().expect("/proc");
        let tid = nix::unistd::gettid().as_raw() as u32;
        let status = proc.status(tid).expect("status");
        assert_eq!(status.pid, std::process::id());
        assert_eq!(status.uid, nix::unistd::getuid().as_raw());
        assert!(proc.name(tid).is_some());
        assert_eq!(proc.name(u32::MAX), None);
        let mut seen = false;
        proc.threads(&mut |thread| {
            seen |= thread == tid;
            true
        });
        assert!(seen);
        let mut count = 0;
        proc.threads(&mut |_| {
            count += 1;
            false
        });
        assert_eq!(count, 1);
    }
}
