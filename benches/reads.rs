//! What the program of first reads costs the kernel for each read, and what a read
//! lasts without it, beside an empty program on the same tracepoint in the same
//! run: `make bench ARGS=reads`. What a state change costs is compare's to tell.
//!
//! Contract: the time in the kernel is its own count (run_time_ns / run_cnt of the
//! programs); it is only measured while that is asked for, for it costs itself.

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{Read, Write, stdout};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{Run, kernel, live, net};
use socket_snoop::bpf_insn::Insn;
use socket_snoop::btf::Btf;
use socket_snoop::programs::Assembled;
use socket_snoop::sys::bpf::{ProgType, TRACE_RAW_TP, prog_load, raw_tracepoint_open};

const LASTS: Duration = Duration::from_secs(3);
const READS: &str = "socket_snoop_rd";
const EMPTY_READ: &str = "empty_read";
/// Runs of each kind that are compared.
const ROUNDS: u64 = 5;

/// `r0 = 1; exit`
const NOTHING: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];

fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// Runs of a program and nanoseconds of one.
fn cost(programs: &[u32], name: &str) -> (u64, u64) {
    let mut all = programs.iter().map(|id| kernel::program_runs(*id).unwrap());
    let (_, time, runs) = all.find(|(n, _, _)| n == name).expect(name);
    assert!(runs > 0, "{name} did not run");
    (runs, time / runs)
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
    let empty = prog_load(tracing, EMPTY_READ, &nothing, c"GPL", None, None).expect("load");
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
    if live() {
        let reads = "--transport tracepoint --accept-owner";
        let by_record = "--transport tracepoint --accept-owner --owner-by transitions";
        compare_reads(reads);
        compare_reads(by_record);
        let _measuring = kernel::measure_programs().expect("BPF_ENABLE_STATS (Linux 5.8)");
        measure_reads(reads);
    }
    ExitCode::SUCCESS
}
