//! Events that the kernel kept from the programs without a word.
//!
//! Contract: [`Misses::skipped`] only goes up, and is never more than there
//! were. Before Linux 6.7 nobody counts how often the programs on a perf event
//! are passed by (v6.1 kernel/trace/bpf_trace.c, trace_call_bpf), so a program
//! on the raw tracepoints, which is never passed by, counts all passes and they
//! count their runs. In one pass it comes after them: a tracepoint calls its
//! users in the order in which they came (kernel/tracepoint.c, func_add).

use crate::bpf::load::{Extras, Program, Target};
use crate::bpf::maps::Maps;
use crate::bpf::tally::{Counts, Tally};
use crate::bpf_link::Template;
use crate::error::Error;
use crate::tracepoint::Attached;
use nix::sys::utsname::uname;

/// How often the start is looked at: between a run and the count of its pass
/// there is a moment.
const LOOKS: usize = 8;

/// What counts the passes.
#[derive(Debug)]
pub struct Misses {
    attached: Vec<Attached>,
    /// By CPU: the runs at the start that came before their passes were counted.
    ahead: Vec<i64>,
    /// What there was when the counting ended.
    last: Option<u64>,
}

/// Whether this kernel itself counts the runs that it leaves out
/// (`bpf_prog_info.recursion_misses`).
pub fn kernel_counts() -> bool {
    uname().is_ok_and(|name| counts_by_itself(&name.release().to_string_lossy()))
}

fn counts_by_itself(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 7)
}

/// Runs without a counted pass.
fn ahead(counts: Counts) -> i64 {
    counts.ran.wrapping_sub(counts.passed) as i64
}

impl Misses {
    /// Starts to count at these tracepoints, by the program `count`: all of them
    /// have their program attached, which counts its runs.
    pub fn count(count: &Template, maps: &Maps, tracepoints: &[&str]) -> Result<Misses, Error> {
        let program = Program::load(count, Target::Every, maps, Extras::NONE)?;
        let mut attached = Vec::new();
        for name in tracepoints {
            attached.push(program.attach_to(name)?);
        }
        let tally = maps.tally();
        let least = |cpu| (0..LOOKS).map(|_| ahead(tally.of(cpu))).min();
        let ahead = (0..tally.cpus()).map(|cpu| least(cpu).unwrap_or(0));
        Ok(Misses {
            ahead: ahead.collect(),
            attached,
            last: None,
        })
    }

    /// Passes since the start in which the programs did not run.
    pub fn skipped(&self, tally: &Tally) -> u64 {
        if let Some(last) = self.last {
            return last;
        }
        let cpus = (0..).zip(&self.ahead);
        let skipped = cpus.map(|(cpu, at_start)| at_start.saturating_sub(ahead(tally.of(cpu))));
        skipped
            .map(|count| u64::try_from(count).unwrap_or(0))
            .fold(0, u64::saturating_add)
    }

    /// Ends the counting, before the programs are detached: what runs then has
    /// no counted pass.
    pub fn stop(&mut self, tally: &Tally) {
        self.last = Some(self.skipped(tally));
        self.attached.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for release in [
            "6.7.0",
            "6.18.44-fc-v669",
            "7.3.4+deb13-cloud-amd64",
            "10.0",
        ] {
            assert!(counts_by_itself(release), "{release}");
        }
        for release in ["6.6.99", "5.10.0-35-cloud-amd64", "4.18", "x", ""] {
            assert!(!counts_by_itself(release), "{release}");
        }
    }
}
