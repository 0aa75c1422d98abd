//! What the host is and has, looked at piece by piece.
//!
//! Contract: every piece may be absent, and so may /proc and /sys. What can't
//! be read is unknown, with the reason.

use super::finding::{Finding, Section, Verdict};
use crate::bpf::load::{self, Extras, Target};
use crate::bpf_link::Template;
use crate::btf::{Btf, PATH as BTF_PATH};
use crate::capture::attach::{OPTIONAL, READS, REQUIRED};
use crate::error::{Error, Kind};
use crate::host::lockdown;
use crate::model::ability::Abilities;
use crate::programs::Assembled;
use crate::sys::{Errno, caps, file};
use crate::tracepoint::{Origin, TraceFs};
use nix::sys::utsname::uname;

/// The longest value of a sysctl that is read, in bytes.
const SYSCTL_LIMIT: usize = 64;

/// All of it, for a run that wants these programs.
pub(super) fn findings(wants: Abilities) -> Vec<Finding> {
    let mut all = Host(Vec::new());
    all.kernel();
    all.capabilities();
    all.seccomp();
    all.lockdown();
    for sysctl in [
        "kernel.unprivileged_bpf_disabled",
        "kernel.perf_event_paranoid",
        "kernel.perf_event_mlock_kb",
    ] {
        all.sysctl(sysctl);
    }
    let tracefs = TraceFs::open();
    let programs = Assembled::unpack();
    let btf = match &programs {
        Ok(programs) => Btf::of_kernel(programs),
        Err(why) => Err(why.clone()),
    };
    all.tracefs(&tracefs);
    let extras = Extras {
        members: btf.as_ref().ok(),
        may: Abilities::CGROUP | wants & Abilities::LOCK,
    };
    let optional = OPTIONAL.iter().map(|(_, pair)| pair);
    for pair in REQUIRED.iter().chain(optional).chain([&READS]) {
        let [by_tracefs, by_btf] = pair.map(|name| programs.as_ref().ok()?.get(name).ok());
        if let (Some(by_tracefs), Some(by_btf)) = (by_tracefs, by_btf) {
            all.tracepoint(&by_tracefs, &by_btf, &tracefs, extras);
        }
    }
    all.bpf();
    match &btf {
        Ok(btf) => all.yes("BTF", &format!("{BTF_PATH} has {} types", btf.len())),
        Err(error) => all.failed("BTF", error),
    }
    all.0
}

/// What was found so far.
struct Host(Vec<Finding>);

impl Host {
    // Called from everywhere, and never in a hurry.
    #[inline(never)]
    fn put(&mut self, what: &str, verdict: Verdict, evidence: &str) {
        self.0
            .push(Finding::new(Section::Host, what, verdict, evidence));
    }

    fn fact(&mut self, what: &str, value: &str) {
        self.put(what, Verdict::Fact, value);
    }

    fn yes(&mut self, what: &str, evidence: &str) {
        self.put(what, Verdict::Yes, evidence);
    }

    fn unknown(&mut self, what: &str, why: &str) {
        self.put(what, Verdict::Unknown, why);
    }

    #[inline(never)]
    fn failed(&mut self, what: &str, error: &Error) {
        self.0.push(Finding::of_host(what, error));
    }

    fn kernel(&mut self) {
        match uname() {
            Ok(name) => {
                self.fact("kernel", &name.release().to_string_lossy());
                self.fact("arch", &name.machine().to_string_lossy());
            }
            Err(errno) => {
                let why = format!("uname: {}", Errno::from(errno));
                self.unknown("kernel", &why);
                self.unknown("arch", &why);
            }
        }
    }

    fn capabilities(&mut self) {
        let have = match caps::effective() {
            Ok(have) => have,
            Err(errno) => return self.unknown("capabilities", &format!("capget: {errno}")),
        };
        let mut names = String::new();
        for (name, _) in have.iter_names() {
            names.push_str(if names.is_empty() { "CAP_" } else { " CAP_" });
            names.push_str(name);
        }
        if names.is_empty() {
            names.push_str("none of those that matter");
        }
        self.fact("capabilities", &names)
    }

    fn seccomp(&mut self) {
        match caps::is_filtered() {
            Ok(true) => self.fact("seccomp", "a filter is in force"),
            Ok(false) => self.fact("seccomp", "no filter"),
            Err(errno) => self.unknown("seccomp", &format!("prctl: {errno}")),
        }
    }

    fn lockdown(&mut self) {
        const WHAT: &str = "lockdown";
        if let Some(state) = lockdown::stated() {
            return self.fact(WHAT, state.name());
        }
        match lockdown::lets_read_memory() {
            Some(true) => self.fact(WHAT, "not confidentiality: kernel memory can be read"),
            Some(false) => self.fact(WHAT, "confidentiality: kernel memory can't be read"),
            None => self.unknown(WHAT, "the kernel shows no state, and it can't be tried out"),
        }
    }

    fn sysctl(&mut self, name: &str) {
        match sysctl_value(name) {
            Ok(value) => self.fact(name, &value),
            Err(why) => self.unknown(name, &why),
        }
    }

    fn tracefs(&mut self, tracefs: &Result<TraceFs, Error>) {
        match tracefs {
            Ok(tracefs) => match tracefs.origin() {
                Origin::Mounted(place) => self.yes("tracefs", &format!("mounted at {place}")),
                Origin::Private => self.yes("tracefs", "by a private mount"),
            },
            Err(error) => self.failed("tracefs", error),
        }
    }

    /// A tracepoint with what the programs use of it: as tracefs shows it, or else
    /// as BTF does.
    fn tracepoint(
        &mut self,
        by_tracefs: &Template,
        by_btf: &Template,
        tracefs: &Result<TraceFs, Error>,
        extras: Extras<'_>,
    ) {
        let what = format!("{}:{}", by_tracefs.group, by_tracefs.event);
        let shown = match tracefs {
            Ok(tracefs) => tracefs.event(&by_tracefs.group, &by_tracefs.event),
            Err(error) => Err(error.clone()),
        };
        let error = match shown {
            Ok(found) => {
                let target = Target::Record(&found);
                return self.with_fields(&what, "in tracefs", by_tracefs, target, extras);
            }
            Err(error) => error,
        };
        let found = extras.members.and_then(|btf| btf.tracepoint(&by_btf.event));
        match found {
            Some(found) => {
                let target = Target::Arguments(&found);
                self.with_fields(&what, "in BTF", by_btf, target, extras)
            }
            None => self.failed(&what, &error),
        }
    }

    fn with_fields(
        &mut self,
        what: &str,
        place: &str,
        template: &Template,
        target: Target<'_>,
        extras: Extras<'_>,
    ) {
        // A helper is no field: the feature that it is for says whether it is there.
        let names = template.fields.iter().map(|field| field.name.clone());
        let names = names.filter(|name| !name.starts_with("helper."));
        let (used, missing): (Vec<_>, Vec<_>) =
            names.partition(|name| target.find(name, extras).is_some());
        self.yes(what, place);
        if let Some(finding) = self.0.last_mut() {
            finding.fields = Some((used, missing));
        }
    }

    fn bpf(&mut self) {
        const JIT: &str = "BPF JIT";
        const SYSCTL: &str = "net.core.bpf_jit_enable";
        let value = match sysctl_value(SYSCTL) {
            Ok(value) => format!("{SYSCTL} is {value}"),
            Err(_) => format!("{SYSCTL} is unknown"),
        };
        match load::try_load() {
            Ok(jited) => {
                self.yes("BPF", "a program can be loaded");
                match jited {
                    Some(true) => self.yes(JIT, &value),
                    Some(false) => {
                        let error = Error::new(Kind::Unsupported, value);
                        let remedy = format!("tracing costs more without: sysctl {SYSCTL}=1");
                        self.failed(JIT, &error.advise(remedy));
                    }
                    None => self.unknown(JIT, &value),
                }
            }
            Err(error) => {
                self.failed("BPF", &error);
                self.unknown(JIT, &value);
            }
        }
    }
}

/// The value of a sysctl, or why it can't be read.
fn sysctl_value(name: &str) -> Result<String, String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let text = file::read(&path, SYSCTL_LIMIT)
        .and_then(|text| String::from_utf8(text).map_err(|_| Errno::EIO));
    match text {
        Ok(text) => Ok(text.trim().to_string()),
        Err(errno) => Err(format!("cannot read {path}: {errno}")),
    }
}
