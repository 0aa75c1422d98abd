//! Process 1: mounts, modules, the suite as a child, power off.
//!
//! Contract: whatever happens, a RESULT line is printed and the machine goes
//! down; what can't be mounted or loaded is said and the suite runs all the same.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, ExitCode};

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

use crate::suite::{BTF, Variant, say};
use crate::way::TRACER;

/// The modules of TCP's socket diagnosis; the first one uses the second.
pub const DIAG: [&str; 2] = ["tcp_diag", "inet_diag"];

/// Mounts a file system of this kind, making its folder where needed.
fn attach(kind: &str, at: &str) {
    let _ = fs::create_dir_all(at);
    if let Err(e) = mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>) {
        say(&format!("info cannot mount {kind} at {at}: {e}"));
    }
}

/// Loads the modules in the order of their list; absent ones cost the checks
/// that need them, not the run.
fn modules() {
    let list = fs::read_to_string("/modules/list").unwrap_or_default();
    for name in list.lines() {
        if let Err(why) = load(name) {
            say(&format!("info module {name} is not loaded: {why}"));
        }
    }
}

/// Loads one of them.
fn load(name: &str) -> Result<(), String> {
    let file = File::open(format!("/modules/{name}")).map_err(|e| e.to_string())?;
    finit_module(&file, c"", ModuleInitFlags::empty()).map_err(|e| e.to_string())
}

/// As the program that the kernel asks for modules: it gives those of TCP's
/// socket diagnosis, by the names that net/core/sock_diag.c has for them.
pub fn modprobe(args: &[String]) -> ExitCode {
    let asked = args.last().map(String::as_str);
    let name = match asked {
        Some("net-pf-16-proto-4-type-2" | "net-pf-16-proto-4-type-10") => DIAG[1],
        Some("net-pf-16-proto-4-type-2-6") => DIAG[0],
        _ => return ExitCode::FAILURE,
    };
    match load(&format!("{name}.ko")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// As the kernel's init.
pub fn main() -> ExitCode {
    // scripts/vm-matrix looks for this line: the kernel came up.
    say("info init");
    let variant = Variant::here();
    attach("devtmpfs", "/dev");
    attach("tmpfs", "/tmp");
    for (word, kind, at) in [("noproc", "proc", "/proc"), ("nosys", "sysfs", "/sys")] {
        if variant.has(word) {
            let _ = fs::create_dir_all(at);
        } else {
            attach(kind, at);
        }
    }
    if variant.has("nobtf") {
        attach("tmpfs", BTF);
    }
    if variant.has("owners") {
        attach("cgroup2", "/sys/fs/cgroup");
    }
    modules();
    let _ = fs::create_dir_all("/bin");
    for tool in ["ip", "tc", "ss", "tracer"] {
        let _ = symlink("/init", format!("/bin/{tool}"));
    }
    let run = |program: &str, args: &[&str]| {
        Command::new(program)
            .args(args)
            .env("PATH", "/bin")
            .env("SOCKET_SNOOP_BIN", TRACER)
            .status()
    };
    // So small a machine has room for some 2,000 sockets in TIME_WAIT, which are left
    // by fewer connections than a check makes: a FIN to one without room is answered
    // by a reset.
    let _ = fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "100000");
    let up = run("/bin/ip", &["link", "set", "lo", "up"]);
    if !up.as_ref().is_ok_and(|status| status.success()) {
        say(&format!("info lo is not up: {up:?}"));
    }
    match run("/init", &["suite"]) {
        Ok(status) if status.code().is_some() => {}
        died => {
            say(&format!("FAIL suite: it ended early: {died:?}"));
            say("RESULT pass=0 fail=1 skip=0");
        }
    }
    let _ = std::io::stdout().flush();
    let failed = reboot(RebootMode::RB_POWER_OFF);
    say(&format!("info cannot power off: {failed:?}"));
    ExitCode::FAILURE
}
