//! What the state program costs the kernel for each event, beside an empty
//! program on the same tracepoint in the same run: `make bench`.
//!
//! Contract: the time is the kernel's own (run_time_ns / run_cnt of the
//! programs); it is only measured while this runs. Ends with 1 where an event
//! costs more than the budget.

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{Write, stdout};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use common::{Run, TempDir, kernel, live, net};
use socket_snoop::bpf_insn::Insn;
use socket_snoop::sys::bpf::{ProgType, prog_load};
use socket_snoop::tracepoint::TraceFs;

/// Nanoseconds of kernel time for an event at most.
const BUDGET: u64 = 800;
const LASTS: Duration = Duration::from_secs(3);
const STATE: &str = "socket_snoop_st";
const EMPTY: &str = "empty";

/// `r0 = 1; exit`
const NOTHING: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];

fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// Connections as fast as they can be made; how many.
fn traffic() -> u64 {
    let work = || {
        let listener = net::listen(net::own_ip());
        let end = Instant::now() + LASTS;
        let mut count = 0;
        while Instant::now() < end {
            net::converse(&listener);
            count += 1;
        }
        count
    };
    let workers = [thread::spawn(work), thread::spawn(work)];
    workers.into_iter().map(|w| w.join().unwrap()).sum()
}

/// Runs of a program and nanoseconds of one.
fn cost(programs: &[u32], name: &str) -> (u64, u64) {
    let mut all = programs.iter().map(|id| kernel::program_runs(*id).unwrap());
    let (_, time, runs) = all.find(|(n, _, _)| n == name).expect(name);
    assert!(runs > 0, "{name} did not run");
    (runs, time / runs)
}

fn measure(flags: &str) -> bool {
    let dir = TempDir::new();
    let run = Run::quiet("--format json --buffer 32M").stdout_to(&dir.join("shown"));
    let tracer = flags.split_ascii_whitespace().fold(run, Run::arg).start();
    let traced = kernel::programs_of(tracer.child.pid());
    let own = kernel::programs_of(std::process::id());
    let connections = traffic();
    let (runs, each) = cost(&traced, STATE);
    let (_, empty) = cost(&own, EMPTY);
    tracer.stop().ok();
    let rate = connections / LASTS.as_secs();
    let ratio = each * 10 / empty.max(1);
    say(&format!(
        "{flags:50} {each:4} ns/event, {empty:3} of an empty program ({}.{} times); {runs} events, {rate} connections/s",
        ratio / 10,
        ratio % 10
    ));
    each <= BUDGET
}

fn main() -> ExitCode {
    if !live() {
        return ExitCode::SUCCESS;
    }
    let _measuring = kernel::measure_programs().expect("BPF_ENABLE_STATS (Linux 5.8)");
    let nothing = NOTHING.map(|insn| Insn::decode(insn).encode());
    let empty = prog_load(ProgType::Tracepoint, EMPTY, &nothing, c"GPL", None);
    let empty = empty.expect("an empty program");
    let tracefs = TraceFs::open().expect("tracefs");
    let tracepoint = tracefs.event("sock", "inet_sock_set_state").expect("event");
    let _attached = tracepoint
        .attach(empty.as_fd(), &kernel::online_cpus())
        .expect("attach");
    let mut good = true;
    for flags in [
        "--transport tracepoint",
        "--transport tracepoint --owner-by transitions",
        "--transport btf",
    ] {
        good &= measure(flags);
    }
    if !good {
        say(&format!("more than the budget of {BUDGET} ns/event"));
    }
    ExitCode::from(u8::from(!good))
}
