//! The doors, on this kernel: what can't be done from inside, and what is kept.

use std::fs;
use std::path::Path;

use crate::common::{Run, TempDir, doors};
use crate::suite::{Done, Variant, say, with_mounts};

/// This very program.
const PROGRAM: &str = "/init";

fn with_folder<T>(work: impl FnOnce(&Path) -> Result<T, String>) -> Result<T, String> {
    let dir = TempDir::new();
    // A folder in a folder: beside it nothing may be made.
    let folder = dir.join("logs");
    fs::create_dir(&folder).expect("make a folder");
    work(&folder)
}

/// Every attempt after the doors are shut.
pub fn attempts() -> Done {
    let count = with_folder(|folder| doors::all(Path::new(PROGRAM), folder))?;
    say(&format!("info {count} attempts"));
    Ok(())
}

/// Files and TCP under Landlock, where this kernel has it.
pub fn landlock() -> Done {
    with_folder(|folder| doors::landlock(Path::new(PROGRAM), folder))
}

/// A strict sandbox keeps nothing but what telling of losses takes, and says
/// what it keeps.
pub fn kept() -> Done {
    let tracer = Run::quiet("--sandbox=strict").start();
    let pid = tracer.child.pid();
    let status = with_mounts(move || fs::read_to_string(format!("/proc/{pid}/status")).unwrap());
    let out = tracer.stop().ok();
    say(&format!("info {}", out.sandbox.trim_end()));
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}")).trim()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    let caps = |set: &str| u64::from_str_radix(field(set), 16).expect("hexadecimal");
    let (bpf, perfmon, lock) = (1 << 39, 1 << 38, 1 << 14);
    // What Debian's kernels want where kernel.perf_event_paranoid is 3, its default.
    let admin = 1 << 21;
    let may = match Variant::here().way() {
        "perf" => perfmon | lock | admin,
        _ => bpf,
    };
    let kept = caps("CapEff:");
    assert_eq!(kept & !may, 0, "{kept:x}");
    assert_eq!(caps("CapPrm:"), kept);
    for set in ["CapInh:", "CapBnd:", "CapAmb:"] {
        assert_eq!(caps(set), 0, "{set}");
    }
    for (bit, name) in [
        (bpf, "CAP_BPF"),
        (perfmon, "CAP_PERFMON"),
        (lock, "CAP_IPC_LOCK"),
        (admin, "CAP_SYS_ADMIN"),
    ] {
        assert_eq!(
            out.sandbox.contains(name),
            kept & bit != 0,
            "{}",
            out.sandbox
        );
    }
    Ok(())
}
