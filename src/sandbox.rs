//! The sandbox: once everything is open, give up what isn't needed.
//!
//! Contract: after [`shut`] this process can wait, read what is open, write to
//! what is open, open its log again by its name in its folder, give a CPU
//! that comes up its ring, and end its own helper; that is all, as far as this kernel can enforce it.
//! What it can't enforce is told, and costs nothing else. It is for ever, and
//! for a process of one thread. What has to be opened must be open before.

pub mod calls;
pub(crate) mod filter;

use crate::sys::caps::{self, Caps};
use crate::sys::folder::How;
use crate::sys::landlock::Allowed;
use crate::sys::perf_event::{self, Attr};
use crate::sys::sealed::Sealed;
use crate::sys::{self, Errno, folder, landlock, limits, seccomp, time};
use calls::Opening;
pub use calls::{Names, Pinned, PinnedFilter};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode as Bits, fstat};
use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// How tight the sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Off,
    /// A refused call fails with EPERM. Capabilities that features need are kept.
    On,
    /// A refused call ends the process. No capability is kept but where losses
    /// could not be told without.
    Strict,
}

/// How the log is opened again.
#[derive(Clone, Copy, Debug)]
pub struct LogAccess<'a> {
    /// The log, where it is there.
    pub file: Option<BorrowedFd<'a>>,
    /// Its folder.
    pub folder: BorrowedFd<'a>,
    /// The log, where it is no regular file in its folder.
    pub special: Option<BorrowedFd<'a>>,
    /// Its name in its folder.
    pub name: &'a CStr,
    /// What it is renamed to in its folder, if it is.
    pub older: Option<&'a CStr>,
    /// The flags for openat(2), all of them.
    pub flags: i32,
    /// The mode of a new file.
    pub mode: u32,
}

/// How the filter's file is opened again.
#[derive(Clone, Copy, Debug)]
pub struct FilterAccess<'a> {
    /// Its folder.
    pub folder: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a CStr,
    /// The flags for openat(2), all of them.
    pub flags: i32,
    /// How, where links in its folder are followed.
    pub how: Option<&'static How>,
}

impl FilterAccess<'_> {
    /// Opens it.
    pub(crate) fn open(&self) -> sys::Result<OwnedFd> {
        if let Some(how) = self.how {
            return folder::open(self.folder, self.name, how);
        }
        let flags = OFlag::from_bits_retain(self.flags);
        Ok(openat(self.folder, self.name, flags, Bits::empty())?)
    }
}

/// Where lines go, and what says which.
#[derive(Clone, Debug, Default)]
pub struct OutputAccess<'a> {
    /// The log to be reopened.
    pub log: Option<LogAccess<'a>>,
    /// The file of figures to be replaced.
    pub metrics: Option<LogAccess<'a>>,
    /// The filter's file to be read again.
    pub filter: Option<FilterAccess<'a>>,
    /// Sockets that are sent to.
    pub send: Vec<RawFd>,
    /// The terminal whose keys are taken, and whose modes are set back.
    pub keys: Option<BorrowedFd<'a>>,
    /// The folder whose names, and those below, are read later.
    pub below: Option<BorrowedFd<'a>>,
    /// An open folder whose names are read again.
    pub names: Option<RawFd>,
}

impl<'a> OutputAccess<'a> {
    /// The files that are opened by their names, to be written to.
    fn written(&self) -> [Option<&LogAccess<'a>>; 2] {
        [self.log.as_ref(), self.metrics.as_ref()]
    }
}

/// What has to work inside of the sandbox.
pub struct Needs<'a> {
    /// Where lines go.
    pub outputs: OutputAccess<'a>,
    /// The user that this process has become for it.
    pub user: Option<u32>,
    /// Whether sockets that are open already are received from.
    pub receive: bool,
    /// The process that may be killed, by its descriptor.
    pub kill: Option<RawFd>,
    /// Whether children are waited for.
    pub wait: bool,
    /// The events that may be opened for a CPU that comes up.
    pub events: &'a [Attr],
    /// Opens them all, and closes them; `None` where no CPU can come up.
    pub open_ring: Option<&'a dyn Fn() -> sys::Result<()>>,
    /// What telling of lost events takes.
    pub tell_losses: &'a dyn Fn() -> sys::Result<()>,
}

/// What is enforced, for a person to read.
#[derive(Clone, Copy, Debug)]
pub struct Enforced {
    mode: Mode,
    /// The user that it has become.
    user: Option<u32>,
    /// The capabilities kept.
    kept: sys::Result<Caps>,
    no_new_privs: sys::Result<()>,
    offered: Offered,
}

/// What this kernel offers, found out without shutting anything.
#[derive(Clone, Copy, Debug)]
pub struct Offered {
    /// Filters of system calls.
    pub seccomp: sys::Result<()>,
    /// The version of Landlock's ABI.
    pub landlock: sys::Result<u32>,
}

/// Asks the kernel what [`shut`] will find.
pub fn offered() -> Offered {
    Offered {
        seccomp: seccomp::available(),
        landlock: landlock::abi(),
    }
}

fn denied(result: sys::Result<()>) -> bool {
    matches!(result, Err(Errno::EPERM | Errno::EACCES))
}

/// The first of these sets of capabilities with which `action` is not denied;
/// none where all are.
fn enough(action: &dyn Fn() -> sys::Result<()>, sets: &[Caps], have: Caps) -> sys::Result<Caps> {
    for &set in sets {
        if have.contains(set) {
            caps::set_effective(set)?;
            if !denied(action()) {
                return Ok(set);
            }
        }
    }
    Ok(Caps::empty())
}

/// Whether the owner's, group's or others' permission bits let this process
/// have `wanted` (of 7). ACLs and further groups don't count: then "no" is
/// wrong on the safe side.
fn permitted(stat: &FileStat, wanted: u32) -> bool {
    let shift = if stat.st_uid == nix::unistd::geteuid().as_raw() {
        6
    } else if stat.st_gid == nix::unistd::getegid().as_raw() {
        3
    } else {
        0
    };
    (stat.st_mode >> shift) & wanted == wanted
}

fn log_needs(log: &LogAccess<'_>) -> Caps {
    let fine = |fd: BorrowedFd<'_>, wanted| fstat(fd).is_ok_and(|s| permitted(&s, wanted));
    // A special file is only opened again, never made.
    let wanted = if log.special.is_some() { 0o1 } else { 0o3 };
    if fine(log.folder, wanted) && log.file.is_none_or(|file| fine(file, 0o2)) {
        Caps::empty()
    } else {
        Caps::DAC_OVERRIDE
    }
}

/// Drops all capabilities that nothing needs any more. They are tried out: what
/// the kernel asks for depends on its version and on its sysctls.
fn drop_capabilities(mode: Mode, needs: &Needs<'_>) -> sys::Result<Caps> {
    let have = caps::permitted()?;
    let none = Caps::empty();
    // Before Linux 5.19 every bpf(2) wants CAP_BPF where
    // kernel.unprivileged_bpf_disabled is set (kernel/bpf/syscall.c, __sys_bpf).
    let lock = Caps::IPC_LOCK;
    let for_losses = [
        none,
        Caps::BPF,
        // By samples it takes a ring.
        Caps::PERFMON,
        Caps::PERFMON | lock,
        Caps::SYS_ADMIN,
        Caps::SYS_ADMIN | lock,
    ];
    let mut keep = enough(needs.tell_losses, &for_losses, have)?;
    if mode == Mode::On {
        if let Some(open_ring) = needs.open_ring {
            let sets = [
                none,
                Caps::PERFMON,
                Caps::PERFMON | lock,
                Caps::SYS_ADMIN,
                Caps::SYS_ADMIN | lock,
            ];
            keep |= enough(open_ring, &sets, have)?;
        }
        for log in needs.outputs.written() {
            keep |= log.map_or(Caps::empty(), log_needs) & have;
        }
        if let Some(filter) = &needs.outputs.filter {
            let open = || filter.open().map(drop);
            keep |= enough(&open, &[none, Caps::DAC_READ_SEARCH], have)?;
        }
    }
    caps::keep_only(keep)?;
    Ok(keep)
}

/// Gives up the file system but for the log: the folder of a regular file, or
/// the special file itself, for its folder may hold all devices.
fn restrict_files(needs: &Needs<'_>) -> sys::Result<u32> {
    let mut allowed = Vec::new();
    for log in needs.outputs.written() {
        let Some(log) = log else { continue };
        allowed.push(match (log.special, log.older) {
            (Some(file), _) => Allowed::Write(file),
            (None, None) => Allowed::WriteIn(log.folder),
            (None, Some(_)) => Allowed::RenameIn(log.folder),
        });
    }
    if let Some(filter) = &needs.outputs.filter {
        allowed.push(Allowed::ReadIn(filter.folder));
    }
    allowed.extend(needs.outputs.below.map(Allowed::ListIn));
    landlock::restrict(&allowed)
}

/// Returns the names that are to be used from here on.
fn filter_calls(mode: Mode, needs: &Needs<'_>) -> sys::Result<Names> {
    seccomp::available()?;
    let mut sealed = Sealed::new()?;
    perf_event::pin(needs.events, &mut sealed)?;
    let mut pinned = [None; 2];
    for (log, pinned) in needs.outputs.written().into_iter().zip(&mut pinned) {
        let Some(log) = log else { continue };
        let names = Pinned {
            name: sealed.text(log.name)?,
            older: log.older.map(|name| sealed.text(name)).transpose()?,
        };
        let how = Opening {
            folder: log.folder.as_raw_fd(),
            flags: log.flags,
            mode: log.mode,
        };
        *pinned = Some((how, names));
    }
    let file = needs.outputs.filter;
    let name = match &file {
        Some(file) => Some(PinnedFilter {
            name: sealed.text(file.name)?,
            how: file.how.map(|how| sealed.value(how)).transpose()?,
        }),
        None => None,
    };
    let below = needs.outputs.below;
    let below = match below {
        Some(fd) => Some((fd.as_raw_fd(), sealed.value(&folder::BELOW)?)),
        None => None,
    };
    sealed.seal()?;
    let opening = file.map(|file| Opening {
        folder: file.folder.as_raw_fd(),
        flags: file.flags,
        mode: 0,
    });
    let kill = libc::SECCOMP_RET_KILL_PROCESS;
    let refuse = match mode {
        Mode::Strict => kill,
        _ => {
            seccomp::catch_refused()?;
            libc::SECCOMP_RET_TRAP
        }
    };
    seccomp::install(&filter::compile(
        &calls::rules(&calls::Granted {
            written: pinned,
            filter: opening.zip(name),
            below,
            names: needs.outputs.names,
            receive: needs.receive,
            send: &needs.outputs.send,
            keys: needs.outputs.keys.map(|keys| keys.as_raw_fd()),
            kill: needs.kill,
            wait: needs.wait,
            thread: nix::unistd::gettid().as_raw() as u32,
        }),
        refuse,
        kill,
    ))?;
    Ok(Names {
        log: pinned[0].map(|(_, names)| names),
        metrics: pinned[1].map(|(_, names)| names),
        filter: name,
        below: below.map(|(_, how)| how),
    })
}

/// Enters the sandbox. What the kernel doesn't offer is left out, and said in
/// [`Enforced`]. Also returns the names of files that have to be used from here
/// on.
pub fn enter(mode: Mode, needs: &Needs<'_>) -> (Enforced, Names) {
    let mut enforced = Enforced {
        mode,
        user: needs.user,
        kept: Ok(Caps::empty()),
        no_new_privs: Ok(()),
        offered: Offered {
            seccomp: Ok(()),
            landlock: Ok(0),
        },
    };
    let mut pinned = Names::default();
    if mode != Mode::Off {
        // The C library reads the time zone's file once, at first use.
        time::local(0);
        // No process, no picture of the memory, no look into it.
        for limit in [limits::PROCESSES, limits::CORE] {
            // Lowering a limit can't be refused.
            let _ = limits::set(limit, 0);
        }
        enforced.kept = drop_capabilities(mode, needs);
        let _ = caps::not_dumpable();
        enforced.no_new_privs = caps::no_new_privs();
        enforced.offered.landlock = restrict_files(needs);
        match filter_calls(mode, needs) {
            Ok(names) => pinned = names,
            Err(errno) => enforced.offered.seccomp = Err(errno),
        }
    }
    (enforced, pinned)
}

impl Enforced {
    /// Whether everything is enforced that every supported kernel can enforce;
    /// Landlock (Linux 5.13) is not.
    pub fn is_whole(&self) -> bool {
        self.kept.is_ok() && self.no_new_privs.is_ok() && self.offered.seccomp.is_ok()
    }
}

/// `sandbox on: no capabilities; no new privileges; seccomp; Landlock (ABI 7)`
impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            Mode::Off => {
                f.write_str("sandbox: off")?;
                return self.user.map_or(Ok(()), |uid| write!(f, "; user {uid}"));
            }
            Mode::On => f.write_str("sandbox on: ")?,
            Mode::Strict => f.write_str("sandbox strict: ")?,
        }
        match self.kept {
            Ok(kept) if kept.is_empty() => f.write_str("no capabilities")?,
            Ok(kept) => {
                f.write_str("only")?;
                for (name, _) in kept.iter_names() {
                    write!(f, " CAP_{name}")?;
                }
            }
            Err(errno) => write!(f, "all capabilities kept ({errno})")?,
        }
        if let Some(uid) = self.user {
            write!(f, "; user {uid}")?;
        }
        match self.no_new_privs {
            Ok(()) => f.write_str("; no new privileges")?,
            Err(errno) => write!(f, "; new privileges possible ({errno})")?,
        }
        write!(f, "; {}", self.offered)
    }
}

/// `seccomp; Landlock (ABI 7)`
impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seccomp {
            Ok(()) => f.write_str("seccomp")?,
            Err(_) if seccomp::ARCH.is_none() => {
                f.write_str("no seccomp (no filter is made for this architecture)")?;
            }
            Err(errno) => write!(f, "no seccomp ({errno})")?,
        }
        match self.landlock {
            Ok(abi) => write!(f, "; Landlock (ABI {abi})"),
            Err(errno) => write!(f, "; no Landlock ({errno})"),
        }
    }
}
