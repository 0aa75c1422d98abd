//! What the kernel says of a running tool: its CPU time, how often it woke, its
//! memory, and what its programs cost.
//!
//! Contract: read from /proc and bpf(2) alone, so that any tool can be watched.

use std::fs;
use std::time::Duration;

use crate::common::{kernel, wait};

/// How long it may take until there is nothing more to do.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at whether there is.
const STILL: Duration = Duration::from_millis(150);
/// A process that uses less of a CPU than this in that time does nothing.
const IDLE: Duration = Duration::from_millis(1);

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Time on a CPU, of all its threads, user and system.
    pub cpu: Duration,
    /// How often it gave up a CPU by itself: each is a wake-up.
    pub wakes: u64,
}

/// What a process has used so far; nothing once it has ended.
pub fn used(pid: u32) -> Used {
    let mut used = Used::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
    {
        let Ok(task) = task else { continue };
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let on_cpu = read("schedstat");
        let on_cpu = on_cpu.split(' ').next().and_then(|n| n.parse().ok());
        used.cpu += Duration::from_nanos(on_cpu.unwrap_or(0));
        used.wakes += number(&read("status"), "voluntary_ctxt_switches:");
    }
    used
}

/// Waits until a process has nothing more to do, for a while at most. One that only
/// gets no CPU looks the same: so it is looked at twice.
pub fn settle(pid: u32) {
    let (mut before, mut idle) = (used(pid).cpu, 0);
    wait::within(PATIENCE, || {
        wait::pace(STILL);
        let now = used(pid).cpu;
        let worked = now.saturating_sub(std::mem::replace(&mut before, now)) >= IDLE;
        idle = if worked { 0 } else { idle + 1 };
        idle == 2
    });
}

/// The number behind the first line that begins so.
fn number(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|v| v.split_whitespace().next());
    value.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// The most memory that it ever had, in KiB.
pub fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    number(&status.unwrap_or_default(), "VmHWM:")
}

/// What of its memory is rings, in KiB: none where the kernel does not count
/// them as its own (6.16 and later).
pub fn rings(pid: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let (mut sum, mut ring) = (0, false);
    for line in maps.lines() {
        match line.strip_prefix("Rss:") {
            Some(_) if ring => sum += number(line, "Rss:"),
            Some(_) => {}
            None if line.contains("-") && !line.contains(": ") => {
                ring = line.contains("[perf_event]");
            }
            None => {}
        }
    }
    sum
}

/// What all BPF programs of a process cost so far, in nanoseconds, and how often
/// the one ran that ran most: that of the state changes.
pub fn programs(pid: u32) -> (u64, u64) {
    let ids = kernel::programs_of(pid);
    let runs = ids.iter().flat_map(|id| kernel::program_runs(*id));
    runs.fold((0, 0), |(time, most), (_, ns, runs)| {
        (time + ns, most.max(runs))
    })
}
