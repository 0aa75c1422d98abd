//! The first program in the virtual machines of the kernel matrix: besides it
//! there are only the one under test and, in one variant, the suite of owners.
//!
//! Contract: as process 1 it mounts what the variant allows, loads the modules
//! it was given, runs itself as `suite` and powers the machine off. The suite
//! prints `ok NAME`, `skip NAME: why` or `FAIL NAME: why` for each check and
//! `RESULT pass=N fail=N skip=N` at the end. Called `ip`, `tc` or `ss`, it does
//! what the suites need of these tools; called `modprobe`, it loads what they ask
//! for. Started by anything else than a kernel it does nothing and says so:
//! `cargo test` passes by.
//!
//! The kernel hands over `SNOOP_VARIANT=...` of its command line as
//! environment: words out of `core` (the short suite), `noproc`, `nosys`,
//! `hotplug`, `latecpu`, `lockdown=NAME` (which the kernel was told, too),
//! `transport=NAME` (forced), `nobpf` (bpf(2) is refused), `nobtf` (the
//! kernel's BTF is hidden), `owners` (the suite of owners, and no other).

#[path = "../common/mod.rs"]
mod common;

mod accept;
mod boot;
mod clock;
mod counters;
mod cpus;
mod diag;
mod filters;
mod link;
mod listing;
mod lives;
mod loss;
mod owners;
mod preflight;
mod report;
mod retransmit;
mod shut;
mod suite;
mod transport;
mod way;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    match name.rsplit('/').next() {
        Some("ip" | "tc") => link::main(&rest),
        Some("ss") => diag::main(&rest),
        Some("tracer") => way::main(&rest),
        Some("modprobe") => boot::modprobe(&rest),
        _ if rest.first().is_some_and(|first| first == "doors") => common::doors::child(&rest[1..]),
        _ if rest == [accept::CHILD] => accept::child(),
        _ if std::process::id() == 1 => boot::main(),
        _ if rest == ["suite"] => suite::main(),
        _ => {
            // As cargo's own harness ends, for who counts such lines.
            suite::say("test result: ok. 0 passed; 0 failed; it runs as init only");
            ExitCode::SUCCESS
        }
    }
}
