//! The preflight in the guest: on each kernel, in each variant.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::kmod::{DeleteModuleFlags, delete_module};

use crate::boot::DIAG;
use crate::common::preflight::{EXISTING, Report, truth};
use crate::common::{Run, eventually};
use crate::lives::programs;
use crate::suite::{Done, Variant, say, with_mounts};

/// What it says is what a run then does.
pub fn true_answer() -> Done {
    let variant = Variant::here();
    let forced = variant.value("transport");
    let args = forced.map_or(String::new(), |way| format!("--transport {way}"));
    let report = truth(&|args| Run::new(args).run(), &args);
    assert_ne!(report.result["check.result"], "cannot_run");
    let tracefs = match variant.is_confidential() {
        true => "no",
        false => "yes",
    };
    assert_eq!(report.verdict("tracefs"), tracefs);
    assert_eq!(report.taken(), Some(variant.way()));
    for finding in report
        .findings
        .iter()
        .filter(|f| f["check.verdict"] == "no" || f["check.name"] == "details")
    {
        say(&format!("info check {finding}"));
    }
    Ok(())
}

fn is_loaded(module: &str) -> bool {
    let all = fs::read_to_string("/proc/modules").unwrap_or_default();
    all.lines()
        .any(|line| line.split(' ').next() == Some(module))
}

/// Without the modules for socket diagnosis what is open at the start can't be
/// found, and that is said. Where the kernel gets them, a look leaves none there.
pub fn without_diag() -> Done {
    // Its path is the kernel's to choose (CONFIG_MODPROBE_PATH).
    let modprobe = fs::read_to_string("/proc/sys/kernel/modprobe").expect("a path");
    let modprobe = Path::new(modprobe.trim());
    if !DIAG.iter().all(|module| is_loaded(module)) {
        return Err("socket diagnosis is built in".into());
    }
    for module in DIAG {
        let name = CString::new(module).expect("a name");
        delete_module(&name, DeleteModuleFlags::O_NONBLOCK)
            .unwrap_or_else(|e| panic!("unload {module}: {e}"));
    }
    let start = |args: &str| Run::new(args).run();
    let report = truth(&start, "");
    assert_eq!(report.verdict(EXISTING), "no");
    let why = report.evidence(EXISTING);
    assert!(why.contains("sock_diag: ENOENT"), "{why}");
    fs::create_dir_all(modprobe.parent().expect("a folder")).expect("a folder");
    symlink("/init", modprobe).expect("a link");
    let report = Report::read(&start("--check --format json"));
    assert_eq!(report.verdict(EXISTING), "yes", "{}", report.of(EXISTING));
    let left: Vec<_> = DIAG.iter().filter(|module| is_loaded(module)).collect();
    assert!(left.is_empty(), "{left:?}");
    // A run uses them, as ss does.
    start("--no-log --duration 0.1").ok();
    assert!(DIAG.iter().all(|module| is_loaded(module)));
    fs::remove_file(modprobe).expect("remove the link");
    Ok(())
}

/// It leaves no mount that others can see, and no program.
pub fn nothing_left() -> Done {
    let mounts = || {
        with_mounts(|| fs::read_to_string("/proc/1/mountinfo").expect("the mounts of process 1"))
    };
    let before = mounts();
    Report::read(&Run::new("--check --format json").run());
    assert_eq!(mounts(), before);
    // Freed after a grace period.
    eventually(|| programs().is_empty());
    assert_eq!(programs(), Vec::<String>::new());
    Ok(())
}
