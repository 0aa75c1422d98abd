//! The program under test as the variant wants it run.
//!
//! Contract: called `tracer`, the guest program becomes the one under test,
//! with the same arguments. `transport=NAME` among the variant's words adds
//! `--transport NAME`. System calls are refused as `SNOOP_REFUSE` says, such as
//! `bpf=EPERM,fsopen=ENOSYS`; without it, `nobpf` refuses bpf(2), and `nobtf`
//! the private mount in which hidden BTF would still be found.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::common::confine;
use crate::suite::{Variant, say};

/// The program under test.
const PROGRAM: &str = "/socket-snoop";
/// What the suite starts instead.
pub const TRACER: &str = "/bin/tracer";
/// System calls to be refused, and the errors.
pub const REFUSE: &str = "SNOOP_REFUSE";

fn refused(variant: &Variant) -> Vec<(i64, i32)> {
    let own = [("nobpf", "bpf=EPERM"), ("nobtf", "fsopen=ENOSYS")];
    let own = own.into_iter().filter(|(word, _)| variant.has(word));
    let own = own.map(|(_, calls)| calls).collect::<Vec<_>>().join(",");
    let asked = std::env::var(REFUSE).unwrap_or(own);
    let parse = |word: &str| match word {
        "bpf=EPERM" => (libc::SYS_bpf, libc::EPERM),
        "bpf=ENOSYS" => (libc::SYS_bpf, libc::ENOSYS),
        "fsopen=ENOSYS" => (libc::SYS_fsopen, libc::ENOSYS),
        other => panic!("{REFUSE}: {other}"),
    };
    let words = asked.split(',').filter(|word| !word.is_empty());
    words.map(parse).collect()
}

/// Becomes the program under test; returns only where that fails.
pub fn main(args: &[String]) -> ExitCode {
    let variant = Variant::here();
    let mut command = Command::new(PROGRAM);
    for (call, errno) in refused(&variant) {
        confine::refuse(&mut command, call, errno);
    }
    // What a check asks for itself comes first.
    if !args.iter().any(|arg| arg.starts_with("--transport")) {
        if let Some(name) = variant.value("transport") {
            command.args(["--transport", name]);
        }
    }
    let failed = command.args(args).exec();
    say(&format!("cannot run {PROGRAM}: {failed}"));
    ExitCode::FAILURE
}
