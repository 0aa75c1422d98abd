//! Live: whose each socket is, told of programs whose ids are known, by every
//! way to the events and both ways to learn the owner.
//!
//! All tracers run at once and see the same traffic. The test runner is this
//! program's own, since it also plays the programs. `SOCKET_SNOOP_TEST_EMULATED`
//! says that its CPUs are emulated, and may stop at any moment for longer than a
//! tracer waits for the reset that ended a connection: its cause may be unknown.

#[path = "../common/actor.rs"]
mod actor;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod ends;
mod holders;
mod judge;
mod nets;
mod scenes;
mod servers;
mod steered;
mod told;
mod volume;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use actor::Stage;
use check::Life;
use common::ledger::{Account, Ledger, replay, replays};
use common::{Tracer, event, kernel, live, net};
use judge::{Means, OwnerBy, Tasks};
use told::Told;

/// The tracers: a name, its flags, how it learns.
const TRACERS: [(&str, &str, OwnerBy); 5] = [
    ("tracepoint", "--transport tracepoint", OwnerBy::Lock),
    (
        "tracepoint, transitions",
        "--transport tracepoint --owner-by transitions",
        OwnerBy::Transitions,
    ),
    ("btf", "--transport btf", OwnerBy::Lock),
    (
        "btf, transitions",
        "--transport btf --owner-by transitions --on-cpu",
        OwnerBy::Transitions,
    ),
    ("perf", "--transport perf --on-cpu", OwnerBy::Samples),
];

/// What a line has that says what was lost.
const LOST: &str = "\"event.name\":\"lost\"";

fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// The many connections, with these flags.
const VOLUMES: [(&str, &str); 2] = [
    ("volume", ""),
    ("volume_by_transitions", "--owner-by transitions"),
];

/// Tests that passed.
static PASSED: AtomicUsize = AtomicUsize::new(0);

/// Says how a test ended; whether it failed.
fn report(name: &str, faults: &str) -> bool {
    PASSED.fetch_add(usize::from(faults.is_empty()), Ordering::Relaxed);
    let verdict = if faults.is_empty() { "ok" } else { "FAILED" };
    say(format!("test {name} ... {verdict}\n{faults}").trim_end());
    !faults.is_empty()
}

/// The lines that can be of a scene, and the summary: others on the host may
/// make many more. Up to Linux 6.12 the first of a wildcard listener's child has
/// no address yet.
fn own(lines: &[String]) -> Vec<&str> {
    let ip = net::own_ip().to_string();
    let own = format!("\"{}.", &ip[..ip.rfind('.').unwrap()]);
    let needles = [
        own.as_str(),
        "\"10.77.0.",
        "\"::",
        "\"0.0.0.0\"",
        "\"event.name\":\"summary\"",
        LOST,
    ];
    let lines = lines.iter().map(String::as_str);
    lines
        .filter(|line| needles.iter().any(|needle| line.contains(needle)))
        .collect()
}

/// Whether a tracer is told of accepts: by the programs that it holds, for
/// what it says of itself is under test.
fn is_told_of_accepts(tracer: &Tracer) -> bool {
    let name = |id| kernel::program_runs(id).map(|(name, _, _)| name);
    let held = kernel::programs_of(tracer.child.pid());
    held.into_iter()
        .any(|id| name(id).is_ok_and(|name| name == "socket_snoop_ac"))
}

/// Whether a program that knows the kernel by its BTF can look at a task: the
/// kernel has a helper for it.
fn btf_shows_tasks() -> bool {
    let helper = b"BPF_FUNC_get_current_task_btf";
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("the kernel's BTF");
    btf.windows(helper.len()).any(|name| name == helper)
}

/// Where a tracer's programs can look at a task.
fn tasks(flags: &str, by_btf: bool) -> Tasks {
    match flags {
        _ if flags.contains("perf") => Tasks::Unseen,
        _ if by_btf => Tasks::Seen,
        _ if flags.contains("btf") => Tasks::Unseen,
        _ => Tasks::UnseenAtAccepts,
    }
}

/// What came of all scenes.
struct Played {
    /// Tests that failed.
    failed: usize,
    /// Whether an owner was wrong: no loss excuses that.
    wrong: bool,
    /// Events that the kernel kept from a tracer.
    kernels: u64,
}

/// Plays all wanted scenes before all tracers at once; how many tests failed.
/// For each event that a tracer says it lost, one life may have a gap. Where the
/// kernel skips the programs at a tracepoint, plain samples get nothing either,
/// and nothing tells them so (v6.12 kernel/events/core.c,
/// perf_trace_run_bpf_submit): what those programs' tracers say counts for them.
fn play(stage: &Stage, wanted: &dyn Fn(&str) -> bool) -> Played {
    let old = scenes::Old::open(stage);
    let ledger = Ledger::open();
    let tracers: Vec<Tracer> = TRACERS
        .iter()
        .map(|(_, flags, _)| Tracer::json(&format!("--all {flags}")))
        .collect();
    let accepts: Vec<bool> = tracers.iter().map(is_told_of_accepts).collect();
    let accounts: Vec<Account> = tracers.iter().map(|t| ledger.account(t)).collect();
    let mut played: Vec<(&str, Vec<Life>)> = Vec::new();
    for (name, scene) in scenes::ALL.iter().filter(|(name, _)| wanted(name)) {
        if let Some(lives) = scene(stage) {
            played.push((name, lives));
        }
    }
    if wanted(scenes::OLD) {
        played.push((scenes::OLD, old.close()));
    }
    let all: Vec<Life> = played.iter().flat_map(|(_, l)| l.clone()).collect();
    let (mut failed, mut wrong, mut kernels) = (0, false, 0);
    let by_btf = btf_shows_tasks();
    let mut skipped = 0;
    let runs = tracers.into_iter().zip(accounts).zip(accepts);
    for ((tracer, flags, owner_by), ((run, mut account), accepts)) in TRACERS.iter().zip(runs) {
        let means = Means {
            owner_by: *owner_by,
            accepts,
            tasks: tasks(flags, by_btf),
            users: flags.contains("tracepoint"),
        };
        say(&format!("{tracer}: told of accepts: {accepts}"));
        run.until(|lines| Told::new(&event::objects(&own(lines))).is_complete(&all));
        account.close();
        let lines = run.stop().ok().lines();
        let said = lines.iter().filter(|l| l.contains(LOST));
        said.for_each(|line| say(&format!("{tracer}: {line}")));
        let objects = event::objects(&own(&lines));
        let balance = account.balance(&objects);
        let told = Told::new(&objects);
        for id in &told.twins {
            say(&format!(
                "{tracer}: the kernel made a second socket of a handshake: {id}"
            ));
        }
        kernels = kernels.max(balance.kernels());
        let mut gaps = balance.lost();
        match means.owner_by {
            OwnerBy::Samples => gaps += skipped,
            _ if flags.contains("tracepoint") => skipped = skipped.max(balance.lost()),
            _ => {}
        }
        for (name, lives) in &played {
            let mut faults = String::new();
            for life in lives {
                let strangers = told.strangers(life);
                wrong |= !strangers.is_empty();
                faults += &strangers;
                if gaps > 0 && told.has_gap(life) {
                    gaps -= 1;
                    say(&format!("{name} ({tracer}): {}: not whole", life.name));
                    continue;
                }
                faults += &told.faults(life, means);
            }
            failed += usize::from(report(&format!("{name} ({tracer})"), &faults));
        }
    }
    Played {
        failed,
        wrong,
        kernels,
    }
}

/// Plays once more where events are missing that the kernel kept: a whole story
/// can't be demanded then. What is wrong.
fn twice(play: impl Fn() -> volume::Faults) -> String {
    let first = play();
    if first.all.is_empty() || first.wrong || first.kernels == 0 {
        return first.all;
    }
    say(first.all.trim_end());
    replay(first.kernels);
    play().all
}

fn main() -> ExitCode {
    actor::play();
    // As libtest takes them: words select, flags are ignored but --list.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<_> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|w| name.contains(*w));
    let scenes = scenes::ALL.iter().map(|(name, _)| *name);
    let volumes = VOLUMES.iter().map(|(name, _)| *name);
    let names = scenes.chain([scenes::OLD]);
    if args.iter().any(|a| a == "--list") {
        let all = names.chain(volumes).filter(|name| wanted(name));
        all.for_each(|name| say(&format!("{name}: test")));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    if !words.is_empty() && !names.chain(volumes).any(wanted) || !live() {
        return ExitCode::SUCCESS;
    }
    let stage = Stage::new();
    if scenes::ALL.iter().any(|(name, _)| wanted(name)) || wanted(scenes::OLD) {
        let before = PASSED.load(Ordering::Relaxed);
        let mut played = play(&stage, &wanted);
        if played.failed > 0 && !played.wrong && played.kernels > 0 {
            replay(played.kernels);
            PASSED.store(before, Ordering::Relaxed);
            played = play(&stage, &wanted);
        }
        failed += played.failed;
    }
    for (name, flags) in VOLUMES.into_iter().filter(|(name, _)| wanted(name)) {
        let faults = twice(|| volume::faults(&stage, flags));
        failed += usize::from(report(name, &faults));
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let passed = PASSED.load(Ordering::Relaxed);
    say(&format!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed\nreplays: {}",
        replays()
    ));
    ExitCode::from(u8::from(failed > 0))
}
