//! What the state program costs the kernel for each event, and that of first
//! reads for each read, beside an empty program on the same tracepoint in the same
//! run: `make bench`.
//!
//! Contract: the time is the kernel's own (run_time_ns / run_cnt of the
//! programs); it is only measured while this runs. What reads lose is measured
//! without that. Ends with 1 where an event costs more than the budget.
//! `SOCKET_SNOOP_BASE` names another binary to compare with instead.

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{Read, Write, stdout};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use common::{Run, TempDir, kernel, live, net};
use socket_snoop::bpf_insn::Insn;
use socket_snoop::btf::Btf;
use socket_snoop::programs::Assembled;
use socket_snoop::sys::bpf::{ProgType, TRACE_RAW_TP, prog_load, raw_tracepoint_open};
use socket_snoop::tracepoint::TraceFs;

/// Nanoseconds of kernel time for an event at most.
const BUDGET: u64 = 800;
const LASTS: Duration = Duration::from_secs(3);
const STATE: &str = "socket_snoop_st";
const READS: &str = "socket_snoop_rd";
const EMPTY: &str = "empty";
const EMPTY_READ: &str = "empty_read";
/// Runs of each kind that are compared.
const ROUNDS: u64 = 5;

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

/// What an event costs with this binary, and an empty program beside it; says so.
fn measure(binary: PathBuf, flags: &str) -> [u64; 2] {
    let dir = TempDir::new();
    let quiet = "--no-log --format json --buffer 32M";
    let run = Run::of(binary, quiet).stdout_to(&dir.join("shown"));
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
    [each, empty]
}

/// What an event costs more than with another binary, in turns.
fn compare(base: &Path) {
    let flags = "--transport tracepoint";
    let mut more = Vec::new();
    for _ in 0..ROUNDS {
        let [before, _] = measure(base.to_owned(), flags);
        let [now, _] = measure(common::binary(), flags);
        more.push(now as i64 - before as i64);
    }
    let average = more.iter().sum::<i64>() / more.len() as i64;
    say(&format!("{average} ns/event more: {more:?}"));
}

/// Small reads from a connection that has something, for this long: the
/// picoseconds of one in the best tenth of all rounds, which nothing disturbs.
fn reads(lasts: Duration) -> u64 {
    const EACH: usize = 256;
    let listener = net::listen(net::own_ip());
    let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut reader, _) = listener.accept().unwrap();
    let (mut block, end) = ([0; 128], Instant::now() + lasts);
    let mut rounds = Vec::new();
    while Instant::now() < end {
        writer.write_all(&[0; EACH * 128]).unwrap();
        let begun = Instant::now();
        for _ in 0..EACH {
            reader.read_exact(&mut block).unwrap();
        }
        rounds.push(begun.elapsed().as_nanos() as u64 * 1000 / EACH as u64);
    }
    rounds.sort_unstable();
    rounds[rounds.len() / 10]
}

/// Attaches an empty program to the tracepoint of reads, by BTF.
fn empty_at_reads() -> [OwnedFd; 2] {
    let btf = Btf::of_kernel(&Assembled::unpack().expect("programs")).expect("BTF");
    let tracepoint = btf.tracepoint("tcp_rcv_space_adjust").expect("tracepoint");
    let tracing = ProgType::Tracing {
        attach_type: TRACE_RAW_TP,
        btf_id: tracepoint.id,
    };
    let nothing = NOTHING.map(|insn| Insn::decode(insn).native());
    let empty = prog_load(tracing, EMPTY_READ, &nothing, c"GPL", None).expect("load");
    let attached = raw_tracepoint_open(empty.as_fd(), None).expect("attach");
    [empty, attached]
}

/// What a run of the program of first reads costs.
fn measure_reads(flags: &str) {
    let _empty = empty_at_reads();
    let tracer = Run::quiet(&format!("--format json {flags}")).start();
    let traced = kernel::programs_of(tracer.child.pid());
    reads(LASTS);
    let (runs, each) = cost(&traced, READS);
    let (_, empty) = cost(&kernel::programs_of(std::process::id()), EMPTY_READ);
    tracer.stop().ok();
    say(&format!(
        "{flags:50} {each:4} ns/read, {empty:3} of an empty program; {runs} reads"
    ));
}

/// What a read lasts without the program, with an empty one in its place, and
/// with it, in turns.
fn compare_reads(with: &str) {
    let without = "--transport tracepoint";
    let mut sums = [0; 3];
    for _ in 0..ROUNDS {
        let ways = [(without, false), (without, true), (with, false)];
        for (sum, (flags, empty)) in sums.iter_mut().zip(ways) {
            let tracer = Run::quiet(&format!("--format json {flags}")).start();
            let _empty = empty.then(empty_at_reads);
            *sum += reads(LASTS / 2);
            tracer.stop().ok();
        }
    }
    let [none, empty, full] = sums.map(|sum| sum / ROUNDS / 1000);
    say(&format!(
        "{with:50} {none} ns/read without, {empty} with an empty program, {full} with it"
    ));
}

fn main() -> ExitCode {
    if !live() {
        return ExitCode::SUCCESS;
    }
    let reads = "--transport tracepoint --accept-owner";
    let by_record = "--transport tracepoint --accept-owner --owner-by transitions";
    let base = std::env::var_os("SOCKET_SNOOP_BASE").map(PathBuf::from);
    if base.is_none() {
        compare_reads(reads);
        compare_reads(by_record);
    }
    let _measuring = kernel::measure_programs().expect("BPF_ENABLE_STATS (Linux 5.8)");
    let nothing = NOTHING.map(|insn| Insn::decode(insn).native());
    let empty = prog_load(ProgType::Tracepoint, EMPTY, &nothing, c"GPL", None);
    let empty = empty.expect("an empty program");
    let tracefs = TraceFs::open().expect("tracefs");
    let tracepoint = tracefs.event("sock", "inet_sock_set_state").expect("event");
    let _attached = tracepoint
        .attach(empty.as_fd(), &kernel::online_cpus())
        .expect("attach");
    if let Some(base) = base {
        compare(&base);
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    for flags in [
        "--transport tracepoint",
        "--transport tracepoint --owner-by transitions",
        "--transport btf",
    ] {
        good &= measure(common::binary(), flags)[0] <= BUDGET;
    }
    measure_reads(reads);
    if !good {
        say(&format!("more than the budget of {BUDGET} ns/event"));
    }
    ExitCode::from(u8::from(!good))
}
