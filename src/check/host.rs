//! What the host is and has, looked at piece by piece.
//!
//! Contract: every piece may be absent, and so may /proc and /sys. What can't
//! be read is unknown, with the reason.

use crate::attach::{OPTIONAL, REQUIRED, Wants};
use crate::bpf_link::Template;
use crate::btf::{Btf, PATH as BTF_PATH};
use crate::error::Error;
use crate::finding::{Finding, Section, Verdict};
use crate::lockdown;
use crate::program::{self, Extras, Target};
use crate::sys::{Errno, caps};
use crate::tracepoint::{Origin, TraceFs};
use nix::sys::utsname::uname;
use std::fs::File;
use std::io::Read;

/// The longest value of a sysctl that is read, in bytes.
const SYSCTL_LIMIT: u64 = 64;

/// All of it, for a run that wants these programs.
pub fn findings(wants: Wants) -> Vec<Finding> {
    let mut all = Vec::from(kernel());
    all.extend([capabilities(), seccomp(), lockdown()]);
    all.extend(
        [
            "kernel.unprivileged_bpf_disabled",
            "kernel.perf_event_paranoid",
            "kernel.perf_event_mlock_kb",
        ]
        .map(sysctl),
    );
    let tracefs = TraceFs::open();
    let btf = Btf::of_kernel();
    all.push(of_tracefs(&tracefs));
    let extras = Extras {
        members: btf.as_ref().ok(),
        cgroup: true,
        lock: !wants.owner_by_transitions,
    };
    let optional = OPTIONAL.iter().map(|(_, pair)| pair);
    for [by_tracefs, by_btf] in REQUIRED.iter().chain(optional) {
        all.push(tracepoint(by_tracefs, by_btf, &tracefs, extras));
    }
    all.extend(bpf());
    all.push(match &btf {
        Ok(btf) => yes("BTF", &format!("{BTF_PATH} has {} types", btf.len())),
        Err(error) => Finding::of_host("BTF", error),
    });
    all
}

fn fact(what: &str, value: &str) -> Finding {
    Finding::new(Section::Host, what, Verdict::Fact, value)
}

fn yes(what: &str, evidence: &str) -> Finding {
    Finding::new(Section::Host, what, Verdict::Yes, evidence)
}

fn unknown(what: &str, why: &str) -> Finding {
    Finding::new(Section::Host, what, Verdict::Unknown, why)
}

fn kernel() -> [Finding; 2] {
    match uname() {
        Ok(name) => [
            fact("kernel", &name.release().to_string_lossy()),
            fact("arch", &name.machine().to_string_lossy()),
        ],
        Err(errno) => {
            let why = format!("uname: {}", Errno::from(errno));
            [unknown("kernel", &why), unknown("arch", &why)]
        }
    }
}

fn capabilities() -> Finding {
    let have = match caps::effective() {
        Ok(have) => have,
        Err(errno) => return unknown("capabilities", &format!("capget: {errno}")),
    };
    let mut names = String::new();
    for (name, _) in have.iter_names() {
        names.push_str(if names.is_empty() { "CAP_" } else { " CAP_" });
        names.push_str(name);
    }
    if names.is_empty() {
        names.push_str("none of those that matter");
    }
    fact("capabilities", &names)
}

fn seccomp() -> Finding {
    match caps::is_filtered() {
        Ok(true) => fact("seccomp", "a filter is in force"),
        Ok(false) => fact("seccomp", "no filter"),
        Err(errno) => unknown("seccomp", &format!("prctl: {errno}")),
    }
}

fn lockdown() -> Finding {
    const WHAT: &str = "lockdown";
    if let Some(state) = lockdown::stated() {
        return fact(WHAT, state.name());
    }
    match lockdown::lets_read_memory() {
        Some(true) => fact(WHAT, "not confidentiality: kernel memory can be read"),
        Some(false) => fact(WHAT, "confidentiality: kernel memory can't be read"),
        None => unknown(WHAT, "the kernel shows no state, and it can't be tried out"),
    }
}

/// The value of a sysctl, or why it can't be read.
fn sysctl_value(name: &str) -> Result<String, String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| {
        let read = file.take(SYSCTL_LIMIT).read_to_string(&mut text);
        read.map(drop)
    });
    match read {
        Ok(()) => Ok(text.trim().to_string()),
        Err(e) => Err(format!("cannot read {path}: {}", Errno::from_io(&e))),
    }
}

fn sysctl(name: &str) -> Finding {
    match sysctl_value(name) {
        Ok(value) => fact(name, &value),
        Err(why) => unknown(name, &why),
    }
}

fn of_tracefs(tracefs: &Result<TraceFs, Error>) -> Finding {
    match tracefs {
        Ok(tracefs) => match tracefs.origin() {
            Origin::Mounted(place) => yes("tracefs", &format!("mounted at {place}")),
            Origin::Private => yes("tracefs", "by a private mount"),
        },
        Err(error) => Finding::of_host("tracefs", error),
    }
}

/// A tracepoint with what the programs use of it: as tracefs shows it, or else
/// as BTF does.
fn tracepoint(
    by_tracefs: &Template<'static>,
    by_btf: &Template<'static>,
    tracefs: &Result<TraceFs, Error>,
    extras: Extras<'_>,
) -> Finding {
    let what = format!("{}:{}", by_tracefs.group, by_tracefs.event);
    let shown = match tracefs {
        Ok(tracefs) => tracefs.event(by_tracefs.group, by_tracefs.event),
        Err(error) => Err(error.clone()),
    };
    let error = match shown {
        Ok(found) => {
            let target = Target::Record(&found);
            return with_fields(what, "in tracefs", by_tracefs, target, extras);
        }
        Err(error) => error,
    };
    let found = extras.members.and_then(|btf| btf.tracepoint(by_btf.event));
    match found {
        Some(found) => {
            let target = Target::Arguments(&found);
            with_fields(what, "in BTF", by_btf, target, extras)
        }
        None => Finding::of_host(&what, &error),
    }
}

fn with_fields(
    what: String,
    place: &str,
    template: &Template<'static>,
    target: Target<'_>,
    extras: Extras<'_>,
) -> Finding {
    // A helper is no field: the feature that it is for says whether it is there.
    let names = template.fields.iter().map(|field| field.name);
    let names = names.filter(|name| !name.starts_with("helper."));
    let (used, missing): (Vec<_>, Vec<_>) =
        names.partition(|name| target.find(name, extras).is_some());
    let mut finding = yes(&what, place);
    finding.fields = Some((used, missing));
    finding
}

fn bpf() -> [Finding; 2] {
    const JIT: &str = "BPF JIT";
    const SYSCTL: &str = "net.core.bpf_jit_enable";
    let value = match sysctl_value(SYSCTL) {
        Ok(value) => format!("{SYSCTL} is {value}"),
        Err(_) => format!("{SYSCTL} is unknown"),
    };
    match program::try_load() {
        Ok(jited) => {
            let loads = yes("BPF", "a program can be loaded");
            let jit = match jited {
                Some(true) => yes(JIT, &value),
                Some(false) => {
                    let mut off = Finding::new(Section::Host, JIT, Verdict::No, &value);
                    off.remedy = format!("tracing costs more without: sysctl {SYSCTL}=1");
                    off
                }
                None => unknown(JIT, &value),
            };
            [loads, jit]
        }
        Err(error) => [Finding::of_host("BPF", &error), unknown(JIT, &value)],
    }
}
