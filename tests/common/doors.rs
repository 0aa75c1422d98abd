//! Attempts from inside, after the doors are shut.
//!
//! Contract: each attempt is made by a process of its own and of one thread, a
//! test program that was started as `PROGRAM doors MODE ATTEMPT FOLDER`
//! ([`child`]); it shuts the doors as the program under test does, and says
//! what the kernel answered. [`attempt`] starts it.
//!
//! # Safety
//! The calls get numbers, NULL, or pointers to live memory of the size they are
//! told; those that would do harm are the ones that must be refused.
#![allow(unsafe_code, reason = "makes system calls")]

mod below;
pub mod numbers;

use std::ffi::CStr;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use libc::c_long;
use socket_snoop::output::log::{Care, Log};
use socket_snoop::sandbox::{self, LogAccess, Mode, Needs, OutputAccess, Pinned};
use socket_snoop::sys::landlock::Allowed;
use socket_snoop::sys::perf_event::{self, Attr};
use socket_snoop::sys::sealed::Sealed;
use socket_snoop::sys::{Errno, landlock, seccomp, time};

type Args = [c_long; 6];

/// What an attempt is made with.
struct Inside<'a> {
    log: LogAccess<'a>,
    pinned: Option<Pinned>,
    own: Attr,
    below: below::Below,
}

/// A system call and its arguments.
type Attempt = (&'static str, fn(&Inside<'_>) -> (c_long, Args));

/// What is done, with the result or the negative error, and how it must end.
type Working = (&'static str, fn(&Inside<'_>) -> i64, Answer);

const SEALED: c_long = Sealed::START as c_long;
const PAGE: c_long = 4096;
const RW: c_long = (libc::PROT_READ | libc::PROT_WRITE) as c_long;
const RWX: c_long = RW | libc::PROT_EXEC as c_long;
const ANONYMOUS: c_long = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as c_long;
const CWD: c_long = libc::AT_FDCWD as c_long;

const NAME: &CStr = c"other";

const SEND: c_long = socket_snoop::sys::send::FLAGS as c_long;

/// What may be sent to; it is not open.
const SOCKET: RawFd = 77;

fn name() -> c_long {
    NAME.as_ptr() as c_long
}

fn pinned_name(inside: &Inside<'_>) -> c_long {
    inside
        .pinned
        .map_or(0, |names| names.name.as_ptr() as c_long)
}

fn older_name(inside: &Inside<'_>) -> c_long {
    let older = inside.pinned.and_then(|names| names.older);
    older.map_or(0, |name| name.as_ptr() as c_long)
}

/// Sealed memory that need not be an event.
fn sealed(_: &Inside<'_>) -> c_long {
    SEALED
}

fn folder(inside: &Inside<'_>) -> c_long {
    use std::os::fd::AsRawFd;
    c_long::from(inside.log.folder.as_raw_fd())
}

/// Every way out that must be shut.
#[rustfmt::skip]
const REFUSED: &[Attempt] = &[
    #[cfg(target_arch = "x86_64")]
    ("open", |_| (libc::SYS_open, [name(), 0, 0, 0, 0, 0])),
    ("openat", |_| (libc::SYS_openat, [CWD, name(), 0, 0, 0, 0])),
    ("openat2", |_| (libc::SYS_openat2, [CWD, name(), 0, 0, 0, 0])),
    ("openat_another_name", |i| (libc::SYS_openat, [folder(i), name(), i.log.flags.into(), 0o640, 0, 0])),
    ("openat_to_read", |i| (libc::SYS_openat, [folder(i), pinned_name(i), 0, 0, 0, 0])),
    ("openat_elsewhere", |i| (libc::SYS_openat, [CWD, pinned_name(i), i.log.flags.into(), 0o640, 0, 0])),
    ("openat_mode", |i| (libc::SYS_openat, [folder(i), pinned_name(i), i.log.flags.into(), 0o4777, 0, 0])),
    ("openat_a_part_of_the_name", |i| (libc::SYS_openat, [folder(i), pinned_name(i) + 1, i.log.flags.into(), 0o640, 0, 0])),
    ("openat_the_older", |i| (libc::SYS_openat, [folder(i), older_name(i), i.log.flags.into(), 0o640, 0, 0])),
    ("renameat_back", |i| (libc::SYS_renameat, [folder(i), older_name(i), folder(i), pinned_name(i), 0, 0])),
    ("renameat_to_another", |i| (libc::SYS_renameat, [folder(i), pinned_name(i), folder(i), name(), 0, 0])),
    ("renameat_elsewhere", |i| (libc::SYS_renameat, [folder(i), pinned_name(i), CWD, older_name(i), 0, 0])),
    ("sendto_another", |_| (libc::SYS_sendto, [0, name(), 1, SEND, 0, 0])),
    ("sendto_an_address", |_| (libc::SYS_sendto, [SOCKET.into(), name(), 1, SEND, SEALED, 16])),
    ("sendto_waiting", |_| (libc::SYS_sendto, [SOCKET.into(), name(), 1, 0, 0, 0])),
    ("unlinkat", |_| (libc::SYS_unlinkat, [CWD, name(), 0, 0, 0, 0])),
    ("getdents64", |i| (libc::SYS_getdents64, [folder(i), 0, 0, 0, 0, 0])),
    ("fchmodat", |_| (libc::SYS_fchmodat, [CWD, name(), 0o777, 0, 0, 0])),
    ("socket", |_| (libc::SYS_socket, [2, 1, 0, 0, 0, 0])),
    ("socket_unix", |_| (libc::SYS_socket, [1, 1, 0, 0, 0, 0])),
    ("socket_netlink", |_| (libc::SYS_socket, [16, 3, 0, 0, 0, 0])),
    ("connect", |_| (libc::SYS_connect, [0, 0, 0, 0, 0, 0])),
    ("execve", |_| (libc::SYS_execve, [name(), 0, 0, 0, 0, 0])),
    ("execveat", |_| (libc::SYS_execveat, [CWD, name(), 0, 0, 0, 0])),
    ("clone", |_| (libc::SYS_clone, [17, 0, 0, 0, 0, 0])),
    ("clone3", |_| (libc::SYS_clone3, [0, 0, 0, 0, 0, 0])),
    #[cfg(target_arch = "x86_64")]
    ("fork", |_| (libc::SYS_fork, [0; 6])),
    ("ptrace", |_| (libc::SYS_ptrace, [0; 6])),
    ("process_vm_readv", |_| (libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, 0])),
    ("pidfd_open", |_| (libc::SYS_pidfd_open, [1, 0, 0, 0, 0, 0])),
    ("kill", |_| (libc::SYS_kill, [1, 0, 0, 0, 0, 0])),
    ("tkill", |_| (libc::SYS_tkill, [1, 9, 0, 0, 0, 0])),
    // No thread has this number; but the call must not get there.
    ("tkill_another", |_| (libc::SYS_tkill, [0x3f_ffff, libc::SIGABRT.into(), 0, 0, 0, 0])),
    ("pidfd_send_signal", |_| (libc::SYS_pidfd_send_signal, [0, libc::SIGKILL.into(), 0, 0, 0, 0])),
    ("setpriority", |_| (libc::SYS_setpriority, [0, 0, 0, 0, 0, 0])),
    ("prlimit64", |_| (libc::SYS_prlimit64, [0; 6])),
    ("openat_environ", |i| (libc::SYS_openat, [folder(i), c"/proc/1/environ".as_ptr() as c_long, 0, 0, 0, 0])),
    ("tgkill", |_| (libc::SYS_tgkill, [1, 1, 0, 0, 0, 0])),
    ("bpf_map", |_| (libc::SYS_bpf, [0, 0, 0, 0, 0, 0])),
    ("bpf_load", |_| (libc::SYS_bpf, [5, 0, 0, 0, 0, 0])),
    ("bpf_attach", |_| (libc::SYS_bpf, [17, 0, 0, 0, 0, 0])),
    ("perf_another_event", |i| (libc::SYS_perf_event_open, [std::ptr::from_ref(&i.own) as c_long, -1, 0, -1, 8, 0])),
    ("perf_of_a_process", |i| (libc::SYS_perf_event_open, [sealed(i), 1, -1, -1, 8, 0])),
    ("mount", |_| (libc::SYS_mount, [name(), name(), name(), 0, 0, 0])),
    ("fsopen", |_| (libc::SYS_fsopen, [name(), 0, 0, 0, 0, 0])),
    ("unshare", |_| (libc::SYS_unshare, [0x2000_0000, 0, 0, 0, 0, 0])),
    ("setns", |_| (libc::SYS_setns, [0, 0, 0, 0, 0, 0])),
    ("init_module", |_| (libc::SYS_init_module, [0, 0, 0, 0, 0, 0])),
    ("setuid", |_| (libc::SYS_setuid, [0; 6])),
    ("capset", |_| (libc::SYS_capset, [0; 6])),
    ("prctl", |_| (libc::SYS_prctl, [0; 6])),
    ("seccomp", |_| (libc::SYS_seccomp, [0; 6])),
    ("io_uring_setup", |_| (libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0])),
    ("userfaultfd", |_| (libc::SYS_userfaultfd, [0; 6])),
    ("memfd_create", |_| (libc::SYS_memfd_create, [name(), 0, 0, 0, 0, 0])),
    ("dup", |_| (libc::SYS_dup, [1, 0, 0, 0, 0, 0])),
    ("fcntl_dup", |_| (libc::SYS_fcntl, [1, libc::F_DUPFD.into(), 0, 0, 0, 0])),
    ("ioctl_inject", |_| (libc::SYS_ioctl, [0, libc::TIOCSTI as c_long, name(), 0, 0, 0])),
    ("sigaction_sigsys", |_| (libc::SYS_rt_sigaction, [libc::SIGSYS.into(), 0, 0, 8, 0, 0])),
    ("mmap_to_execute", |_| (libc::SYS_mmap, [0, PAGE, RWX, ANONYMOUS, -1, 0])),
    ("mmap_over_sealed", |_| (libc::SYS_mmap, [SEALED, PAGE, RW, ANONYMOUS | libc::MAP_FIXED as c_long, -1, 0])),
    ("mprotect_to_execute", |i| (libc::SYS_mprotect, [(std::ptr::from_ref(&i.own) as c_long) & -PAGE, PAGE, RWX, 0, 0, 0])),
    ("mprotect_sealed", |_| (libc::SYS_mprotect, [SEALED, PAGE, RW, 0, 0, 0])),
    ("munmap_sealed", |_| (libc::SYS_munmap, [SEALED, PAGE, 0, 0, 0, 0])),
    ("munmap_around_sealed", |_| (libc::SYS_munmap, [SEALED - PAGE, 3 * PAGE, 0, 0, 0, 0])),
    ("munmap_all", |_| (libc::SYS_munmap, [PAGE, 1 << 40, 0, 0, 0, 0])),
    ("madvise_sealed", |_| (libc::SYS_madvise, [SEALED, PAGE, libc::MADV_DONTNEED.into(), 0, 0, 0])),
    ("mremap_sealed", |_| (libc::SYS_mremap, [SEALED, PAGE, 2 * PAGE, 1, 0, 0])),
    ("mremap_onto_sealed", |_| (libc::SYS_mremap, [5 << 32, PAGE, PAGE, 3, SEALED, 0])),
    #[cfg(target_arch = "x86_64")]
    ("x32_getpid", |_| (0x4000_0000 | libc::SYS_getpid, [0; 6])),
    ("no_such_call", |_| (5000, [0; 6])),
];

/// What must still work.
const ALLOWED: &[Working] = &[
    (
        "read",
        |_| call(libc::SYS_read, [-1, 0, 0, 0, 0, 0]),
        Answer::Errno(libc::EBADF),
    ),
    (
        "reopen",
        |i| {
            call(
                libc::SYS_openat,
                [folder(i), pinned_name(i), i.log.flags.into(), 0o640, 0, 0],
            )
            .min(0)
        },
        Answer::Done,
    ),
    (
        "begin_anew",
        |i| {
            let (from, to) = (pinned_name(i), older_name(i));
            call(libc::SYS_renameat, [folder(i), from, folder(i), to, 0, 0])
        },
        Answer::Done,
    ),
    (
        "send",
        |_| call(libc::SYS_sendto, [SOCKET.into(), name(), 1, SEND, 0, 0]),
        Answer::Errno(libc::EBADF),
    ),
    ("bpf_lookup", |_| lookup(), Answer::Done),
    ("ring", |i| ring(i), Answer::Done),
    ("memory", |_| memory(), Answer::Done),
    (
        "local_time",
        |_| i64::from(time::local(1 << 30).year - 2004),
        Answer::Done,
    ),
    ("panic", |_| panic(), Answer::Signal(libc::SIGABRT)),
    (
        "abort",
        |_| std::process::abort(),
        Answer::Signal(libc::SIGABRT),
    ),
    (
        "stack_overflow",
        |_| overflow(1),
        Answer::Signal(libc::SIGSEGV),
    ),
];

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call was made, without an error.
    Done,
    /// The call was made, and answered with this error.
    Errno(i32),
    /// The filter refused it, with this error.
    Refused(i32),
    /// A signal ended the process.
    Signal(i32),
    /// There is no seccomp to refuse anything.
    NoFilter,
}

/// The result, or the negative error.
fn call(number: c_long, a: Args) -> i64 {
    // SAFETY: what it may do to this process is what the test is for.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    match result {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap()),
        other => other,
    }
}

/// In a map that isn't there; Linux before 5.19 may want CAP_BPF first.
fn lookup() -> i64 {
    let attr = [u64::from(u32::MAX), 0, 0, 0];
    match -call(libc::SYS_bpf, [1, attr.as_ptr() as c_long, 32, 0, 0, 0]) as i32 {
        libc::EBADF | libc::EPERM => 0,
        errno => -i64::from(errno),
    }
}

/// The event that was named beforehand; not allowed by the kernel is allowed by
/// the filter.
fn ring(_: &Inside<'_>) -> i64 {
    match perf_event::open(&Attr::new(1, 10), 0) {
        Ok(_) | Err(Errno::EPERM | Errno::EACCES) => 0,
        Err(errno) => -i64::from(errno.0),
    }
}

/// Grows, moves and frees small and large blocks.
fn memory() -> i64 {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for n in 0..2000usize {
        let mut one = vec![n as u8; 1 << (n % 18)];
        one.resize(one.len() * 3, 1);
        all.push(one);
        if n % 3 == 0 {
            all.swap_remove(n / 5);
        }
    }
    all.iter().map(|one| i64::from(one.is_empty())).sum()
}

/// As in the release binary, which doesn't unwind.
fn panic() -> ! {
    let _ = std::panic::catch_unwind(|| panic!("said at the end"));
    std::process::abort()
}

#[allow(unconditional_recursion, reason = "overflows the stack on purpose")]
fn overflow(n: u64) -> i64 {
    let block = std::hint::black_box([n; 512]);
    overflow(block[3] + 1) + block[7] as i64
}

fn mode(name: &str) -> Mode {
    match name {
        "on" => Mode::On,
        "strict" => Mode::Strict,
        _ => Mode::Off,
    }
}

/// Makes one attempt; `args` are MODE, ATTEMPT and FOLDER. What it says: a line
/// on the sandbox, then `done`, `errno N` or `refused N`.
pub fn child(args: &[String]) -> ExitCode {
    let [how, what, at] = args else {
        return ExitCode::from(2);
    };
    let path = format!("{at}/log");
    let mut out = std::io::stdout();
    if how == "landlock" {
        let said = match files(Path::new(at)) {
            Ok(()) => "done".to_owned(),
            Err(why) => why,
        };
        let _ = writeln!(out, "{said}");
        return ExitCode::SUCCESS;
    }
    let log = Log::open(
        &path,
        Care {
            own: false,
            max: Some(1),
            ..Care::default()
        },
    )
    .expect("a log");
    let ring = Attr::new(1, 10);
    let mut below = below::Below::granted(what, Path::new(at));
    let (enforced, pinned) = sandbox::enter(
        mode(how),
        &Needs {
            outputs: OutputAccess {
                log: Some(log.access()),
                send: vec![SOCKET],
                ..below.access()
            },
            user: None,
            receive: false,
            kill: None,
            wait: false,
            events: std::slice::from_ref(&ring),
            open_ring: None,
            tell_losses: &|| Ok(()),
        },
    );
    let _ = writeln!(out, "{enforced}");
    below.how = pinned.below;
    let inside = Inside {
        below,
        log: log.access(),
        pinned: pinned.log,
        own: Attr::new(1, 9),
    };
    let mut refused = REFUSED.iter().chain(below::REFUSED);
    let refused = refused.find(|a| a.0 == what).map(|a| {
        let (number, args) = a.1(&inside);
        call(number, args)
    });
    let number = what.strip_prefix(NUMBER).and_then(|n| n.parse().ok());
    let refused = refused.or(number.map(|number| call(number, numbers::SENSELESS)));
    if what == SWEEP {
        let wrong = numbers::sweep();
        let _ = match wrong.as_slice() {
            [] => writeln!(out, "done"),
            wrong => writeln!(out, "sweep {wrong:?}"),
        };
        return ExitCode::SUCCESS;
    }
    let answer = refused.unwrap_or_else(|| {
        let mut allowed = ALLOWED.iter().chain(below::ALLOWED);
        let allowed = allowed.find(|a| a.0 == what).expect("known");
        allowed.1(&inside)
    });
    let said = match (seccomp::take_refused(), answer) {
        (Some(_), errno) => format!("refused {}", -errno),
        (None, errno @ ..=-1) => format!("errno {}", -errno),
        (None, _) => "done".to_owned(),
    };
    let _ = writeln!(out, "{said}");
    ExitCode::SUCCESS
}

/// Landlock alone: only files in the folder can be written, none can be read,
/// and where it knows TCP, there is none.
fn files(at: &Path) -> Result<(), String> {
    use std::fs::{File, read_dir};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let server = listener.local_addr().expect("an address");
    let folder = File::open(at).expect("the folder");
    socket_snoop::sys::caps::no_new_privs().expect("no new privileges");
    let abi = match landlock::restrict(&[Allowed::WriteIn(folder.as_fd())]) {
        Ok(abi) => abi,
        Err(errno) => return Err(format!("no Landlock ({errno})")),
    };
    let make = |path| File::options().write(true).create_new(true).open(path);
    make(at.join("new")).expect("a new file in the folder");
    let other = at.parent().expect("a parent");
    for (what, wrong) in [
        ("reads the folder", read_dir(at).is_ok()),
        ("reads a file", File::open(at.join("new")).is_ok()),
        ("reads the root", read_dir("/").is_ok()),
        ("writes elsewhere", make(other.join("new")).is_ok()),
        ("removes", std::fs::remove_file(at.join("new")).is_ok()),
        (
            "makes a folder",
            std::fs::create_dir(at.join("dir")).is_ok(),
        ),
        ("connects", abi >= 4 && TcpStream::connect(server).is_ok()),
        (
            "listens",
            abi >= 4 && TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok(),
        ),
    ] {
        if wrong {
            return Err(format!("it {what}"));
        }
    }
    Ok(())
}

/// Lets `program`, which hands its arguments after `doors` to [`child`], make
/// an attempt; what came of it, and what it said on standard error.
pub fn attempt(program: &Path, mode: &str, what: &str, folder: &Path) -> (Answer, String) {
    let out = Command::new(program)
        .args(["doors", mode, what])
        .arg(folder)
        .stdin(Stdio::null())
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("start the test program");
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    if text.contains("no seccomp") {
        return (Answer::NoFilter, text);
    }
    if let Some(signal) = out.status.signal() {
        return (Answer::Signal(signal), errors);
    }
    let last = text.lines().last().unwrap_or_default();
    let number = || last.rsplit(' ').next().unwrap().parse().expect(last);
    let answer = match last.split(' ').next() {
        Some("done") => Answer::Done,
        Some("errno") => Answer::Errno(number()),
        Some("refused") => Answer::Refused(number()),
        // The call was its end.
        _ if what.starts_with(NUMBER) && out.status.code() == Some(255) => Answer::Done,
        _ => panic!("{mode} {what}: {text:?} {errors:?}"),
    };
    (answer, errors)
}

/// Makes every attempt in both modes. Err: why it can't be tried here.
pub fn all(program: &Path, folder: &Path) -> Result<usize, String> {
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut expect = |mode: &str, what: &str, expected: Answer| {
        let (answer, said) = attempt(program, mode, what, folder);
        if answer == Answer::NoFilter {
            return Err(said);
        }
        count += 1;
        if answer != expected {
            wrong.push(format!(
                "{mode} {what}: {answer:?}, not {expected:?}: {said}"
            ));
        }
        if what == "panic" && !said.contains("said at the end") {
            wrong.push(format!("{mode} {what}: it says {said:?}"));
        }
        Ok(())
    };
    for (what, _) in REFUSED.iter().chain(below::REFUSED) {
        expect("on", what, Answer::Refused(libc::EPERM))?;
        expect("strict", what, Answer::Signal(libc::SIGSYS))?;
    }
    for (what, _, end) in ALLOWED.iter().chain(below::ALLOWED) {
        expect("on", what, *end)?;
        expect("strict", what, *end)?;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(count)
}

/// An attempt by the number of a call.
const NUMBER: &str = "number:";
/// All that are refused, by one process that goes on.
const SWEEP: &str = "sweep";

/// Landlock without the rest. Err: why it can't be tried here.
pub fn landlock(program: &Path, folder: &Path) -> Result<(), String> {
    let out = Command::new(program)
        .args(["doors", "landlock", "files"])
        .arg(folder)
        .output()
        .expect("start the test program");
    let text = String::from_utf8_lossy(&out.stdout);
    match text.trim() {
        "done" => Ok(()),
        no if no.starts_with("no Landlock") => Err(no.to_owned()),
        wrong => panic!("{wrong}: {}", String::from_utf8_lossy(&out.stderr)),
    }
}
