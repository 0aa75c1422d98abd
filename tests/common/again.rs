//! A story that failed is told again where it was the kernel that kept a part of it.
//!
//! Contract: there are machines whose kernel runs no program for some events, and
//! says nothing of it: those of softirq while a certain process is on the CPU. No
//! tracer can tell of them. A [`Witness`] knows how many there were: passes that a
//! perf event counts at the traced tracepoints, and that an empty program there did
//! not run for. Only a story during which there were such is played again, each time
//! is said, and there is an end to it. What else fails a test fails it at once.

use std::any::Any;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::LazyLock;

use nix::unistd::Uid;
use socket_snoop::bpf_insn::Insn;
use socket_snoop::sys::bpf::{ProgType, prog_load, raw_tracepoint_open};

use super::kernel::{self, Counter, Program};
use super::ledger;

/// How often a story is played at most.
const PLAYS: usize = 5;

/// Reads of the counts: a pass is counted at two places, one after the other.
const LOOKS: usize = 8;

/// `r0 = 0; exit`
const NOTHING: [u64; 2] = [0xb7, 0x95];

/// The kernel's count of passes, and the runs of an empty program beside it.
struct Witness {
    _measuring: File,
    passes: Counter,
    programs: Vec<(Program, [OwnedFd; 2])>,
}

impl Witness {
    /// `None` where the kernel does not count runs (BPF_ENABLE_STATS, Linux 5.8).
    fn open() -> Option<Witness> {
        let measuring = kernel::measure_programs().ok()?;
        let known = kernel::LINES.into_iter();
        let known: Vec<&str> = known.filter(|name| kernel::has_tracepoint(name)).collect();
        let watch = |name: &&str| {
            let point = name.split_once('/').expect("a group and a name").1;
            let point = std::ffi::CString::new(point).expect("a name");
            let nothing = NOTHING.map(|insn| Insn::decode(insn).native());
            let kind = ProgType::RawTracepoint;
            let program = prog_load(kind, "witness", &nothing, c"GPL", None, None);
            let program = program.expect("an empty program");
            let attached = raw_tracepoint_open(program.as_fd(), Some(&point));
            let asked = File::from(program.try_clone().expect("a descriptor"));
            (
                Program::of(asked),
                [program, attached.expect("the tracepoint")],
            )
        };
        Some(Witness {
            _measuring: measuring,
            passes: Counter::new(&known),
            programs: known.iter().map(watch).collect(),
        })
    }

    fn runs(&self) -> u64 {
        let runs = |(program, _): &(Program, _)| program.runs().expect("its counts").1;
        self.programs.iter().map(runs).sum()
    }

    /// Passes without a run so far, but for those that are under way: never too few.
    fn most(&self) -> i64 {
        let look = |_| {
            let runs = self.runs();
            self.passes.read() as i64 - runs as i64
        };
        (0..LOOKS).map(look).min().unwrap_or(0)
    }

    /// The same, and never too many.
    fn least(&self) -> i64 {
        let look = |_| {
            let passes = self.passes.read();
            passes as i64 - self.runs() as i64
        };
        (0..LOOKS).map(look).max().unwrap_or(0)
    }
}

static WITNESS: LazyLock<Option<Witness>> =
    LazyLock::new(|| Uid::effective().is_root().then(Witness::open).flatten());

/// Plays it; again only for what the kernel kept.
pub fn played(story: impl Fn()) {
    for _ in 1..PLAYS {
        let before = WITNESS.as_ref().map_or(0, Witness::most);
        let Err(failure) = once(&story) else {
            return;
        };
        match WITNESS.as_ref().map_or(0, |w| w.least() - before) {
            kept @ 1.. => ledger::replay(kept as u64),
            _ => resume_unwind(failure),
        }
    }
    story();
}

fn once(story: &impl Fn()) -> Result<(), Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(story))
}
