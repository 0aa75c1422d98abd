//! Live: the rights that are enough in a container: those of
//! `docker run --cap-drop ALL --cap-add BPF --cap-add PERFMON`.
//!
//! Contract: there is no container engine here. The same is made by hand: namespaces of its own for
//! mounts, network, processes, host name, IPC and cgroups, no tracefs, the capabilities in every set
//! but the ambient one, no new privileges, and the calls refused that the engine's usual filter keeps
//! from who has just these capabilities.

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use story::story;

use common::{PATIENCE, Run, binary, confine, event, live, net, skip};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// What Docker's default profile allows with CAP_SYS_ADMIN only (moby
/// profiles/seccomp/default.go), as far as this program could want it.
const REFUSED: [libc::c_long; 9] = [
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// What is different for the program, made between fork and exec: it is the first process of its
/// process namespace, in namespaces of its own. The parent ends as the program does.
///
/// # Safety
/// It makes system calls and nothing else; to be called in a process of one thread.
#[allow(unsafe_code, reason = "makes system calls")]
unsafe fn enter() -> std::io::Result<()> {
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP,
    )?;
    // SAFETY: this process has one thread; the parent leaves by _exit.
    unsafe {
        match libc::fork() {
            -1 => return Err(std::io::Error::last_os_error()),
            0 => libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
            child => {
                // The pipe by which the harness waits for the exec.
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
                let mut status = 0;
                libc::waitpid(child, &mut status, 0);
                let fine = libc::WIFEXITED(status);
                libc::_exit(if fine { libc::WEXITSTATUS(status) } else { 99 });
            }
        };
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for place in ["/sys/kernel/debug", "/sys/kernel/tracing"] {
        let _ = umount2(place, MntFlags::MNT_DETACH);
    }
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    Ok(())
}

/// The program as in a container with these capabilities (those of setpriv).
fn contained(caps: &str, args: &str) -> Run {
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all"]);
    command.arg(format!("--bounding-set=-all,{caps}"));
    command.arg(binary());
    // SAFETY: called between fork and exec.
    #[allow(unsafe_code, reason = "makes system calls")]
    unsafe {
        command.pre_exec(|| enter());
    }
    for call in REFUSED {
        confine::refuse(&mut command, call, libc::EPERM);
    }
    // The usual mode: what it keeps is looked at.
    Run::through(command, &format!("--sandbox=on {args}"))
}

/// Whether a ring takes CAP_SYS_ADMIN here (Debian's kernels with 3 or more).
fn is_paranoid() -> bool {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let level = level.ok().and_then(|text| text.trim().parse::<i32>().ok());
    level.is_some_and(|level| level >= 3)
}

#[story]
fn two_capabilities_are_enough_in_a_container() {
    if !live() {
        return;
    }
    if let Err(e) = Command::new("setpriv").arg("--version").output() {
        skip(&format!("setpriv (package util-linux): {e}"));
        return;
    }
    if !fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) {
        skip("without tracefs and CAP_SYS_ADMIN it takes the kernel's BTF");
        return;
    }
    if is_paranoid() {
        skip("kernel.perf_event_paranoid is 3 here: a ring takes CAP_SYS_ADMIN");
        return;
    }
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().expect("its address");
    // It ends by itself: a signal would be the parent's.
    let args = format!("--no-log --count=5 --dst-ip={}", server.ip());
    let tracer = contained("+bpf,+perfmon", &args).start();
    net::converse(&listener);
    let out = tracer.finish(PATIENCE).ok();
    assert!(
        out.stderr.contains("note: tracing by BTF"),
        "{}",
        out.stderr
    );
    assert!(!out.sandbox.contains("CAP_SYS_ADMIN"), "{}", out.sandbox);
    // The host's connection, from another network and process namespace, by the host's PID.
    let lines = out.lines();
    let own = event::lines_with(&lines, server);
    assert_eq!(own.len(), 5, "{lines:#?}");
    let pid = std::process::id();
    assert!(own.iter().all(|l| l.pid == pid), "{own:#?}");
}

/// One of them alone is not.
#[story]
fn none_is_to_spare() {
    if !live() || Command::new("setpriv").arg("--version").output().is_err() {
        return;
    }
    for caps in ["+bpf", "+perfmon"] {
        let out = contained(caps, "--no-log --duration=0.1 --transport=btf").run();
        assert_eq!(out.code, Some(3), "{caps}: {}", out.stderr);
    }
}
