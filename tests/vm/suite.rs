//! Which checks run in which variant, and how their results are printed.
//!
//! Contract: a check fails by panicking (in whichever thread), is skipped by
//! returning the reason, and never keeps the later ones from running. One
//! line each on the serial console.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use nix::mount::{MsFlags, mount};

use crate::common::{busy, kernel, net};
use crate::{
    accept, clock, counters, cpus, filters, listing, lives, loss, owners, preflight, report,
    retransmit, shut, transport,
};

/// What the kernel's command line asks for.
#[derive(Debug, Clone)]
pub struct Variant(String);

impl Variant {
    /// That of this boot.
    pub fn here() -> Variant {
        Variant(std::env::var("SNOOP_VARIANT").unwrap_or_default())
    }

    /// Whether `word` was given.
    pub fn has(&self, word: &str) -> bool {
        self.0.split(',').any(|w| w == word)
    }

    /// What was given for `name`, if anything.
    pub fn value(&self, name: &str) -> Option<&str> {
        let words = self.0.split(',').filter_map(|w| w.split_once('='));
        words.filter(|w| w.0 == name).map(|w| w.1).next()
    }

    /// The way to the events that a run takes.
    pub fn way(&self) -> &str {
        match self.value("transport") {
            Some(name) => name,
            None if self.has("nobpf") => "perf",
            None if self.is_confidential() => "btf",
            None => "tracepoint",
        }
    }

    /// Whether the kernel hides its tracepoints.
    pub fn is_confidential(&self) -> bool {
        self.value("lockdown") == Some("confidentiality")
    }
}

/// The kernel's folder with its BTF.
pub const BTF: &str = "/sys/kernel/btf";

/// Prints one line.
pub fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// The end of a check that didn't fail: done, or skipped for a reason.
pub type Done = Result<(), String>;

/// A check, its name, and whether it is in the short suite.
type Check = (&'static str, fn() -> Done, bool);

/// Those that need a quiet kernel: each cleans up after itself.
const QUIET: [Check; 34] = [
    ("listing", listing::held, false),
    ("start", report::start, true),
    ("lockdown", transport::lockdown, true),
    ("transport", transport::in_use, true),
    ("blocked", transport::blocked, true),
    ("bpf_not_built", transport::bpf_not_built, false),
    ("ipv4", lives::ipv4, true),
    ("ipv6", lives::ipv6, true),
    ("mapped_client", lives::mapped_client, false),
    ("dual_stack_server", lives::dual_stack_server, false),
    ("refused_connection", lives::refused_connection, false),
    ("listeners", lives::listeners, false),
    ("held", lives::held, true),
    ("two_hundred", lives::two_hundred, true),
    ("accept", accept::who_and_when, true),
    ("filter", filters::shown_and_refused, true),
    ("filter_large_sets", filters::large_sets, false),
    ("clock_set", clock::set, true),
    ("report_sigint", report::sigint, true),
    ("report_sigterm", report::sigterm, false),
    ("json", report::json, true),
    ("log", report::log, true),
    ("log_sighup", report::log_sighup, false),
    ("counters", counters::told, true),
    ("loss", loss::every_loss_is_said, true),
    ("loss_report", loss::the_report_says_it, false),
    ("nothing_left", report::nothing_left, true),
    ("preflight", preflight::true_answer, true),
    ("preflight_leaves_nothing", preflight::nothing_left, false),
    ("preflight_without_diag", preflight::without_diag, false),
    ("namespaces", lives::namespaces, false),
    ("sandbox_keeps", shut::kept, true),
    ("sandbox_attempts", shut::attempts, false),
    ("landlock", shut::landlock, false),
];

/// What the suite of owners takes for granted: accepts are told, but where the
/// kernel is known to refuse that.
const ACCEPTS: [Check; 1] = [("accept", accept::who_and_when, true)];

/// CPUs that go and come back.
const HOTPLUG: [Check; 2] = [
    ("cpu_off_and_on", cpus::off_and_on, true),
    ("cpu_off_and_on_recovers", cpus::off_and_on_recovers, true),
];

/// CPUs that come late.
const LATE_CPU: [Check; 2] = [
    ("late_cpu", cpus::late, true),
    ("late_cpu_recovers", cpus::late_recovers, true),
];

/// Those whose unanswered sockets outlive them for a while.
const NOISY: [Check; 6] = [
    ("bpf_busy", loss::what_bpf_keeps_is_said, true),
    ("data_lost", retransmit::data_lost, false),
    ("lossy_link", retransmit::lossy_link, false),
    ("syn_dropped", retransmit::syn_dropped, true),
    ("syn_to_nobody", retransmit::syn_to_nobody, false),
    ("retransmit_failed", retransmit::failed, false),
];

/// Opens a mount namespace with what the variant left out, for a look at the
/// kernel that the program under test doesn't get.
pub fn with_mounts<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let variant = Variant::here();
    net::in_mount_ns(move || {
        for (word, kind, at) in [("noproc", "proc", "/proc"), ("nosys", "sysfs", "/sys")] {
            if variant.has(word) {
                mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
                    .unwrap_or_else(|e| panic!("mount {kind}: {e}"));
            }
        }
        work()
    })
    .expect("a mount namespace of our own")
}

/// Counts what the kernel generates from now on.
pub struct Witness {
    counter: Option<kernel::Counter>,
    retransmitted: u64,
}

/// The kernel's count of both tracepoints. Where it hides them there is none,
/// and its tracefs must not be touched.
pub fn witness() -> Witness {
    const EVENTS: [&str; 2] = ["sock/inet_sock_set_state", "tcp/tcp_retransmit_skb"];
    let hidden = Variant::here().is_confidential();
    Witness {
        counter: (!hidden).then(|| with_mounts(|| kernel::Counter::new(&EVENTS))),
        retransmitted: retransmitted(),
    }
}

impl Witness {
    /// How many events there were: the changes of state that the test's own
    /// traffic comes to, and what a slow machine sent again even on loopback.
    /// The kernel's count must be the same.
    pub fn generated(&self, changes: u64) -> u64 {
        let made = changes + retransmitted() - self.retransmitted;
        if let Some(counter) = &self.counter {
            assert_eq!(counter.read(), made, "the kernel's count, and ours");
        }
        made
    }
}

/// Segments sent again in this network namespace so far (RetransSegs).
pub fn retransmitted() -> u64 {
    let text = with_mounts(|| fs::read_to_string("/proc/net/snmp").expect("/proc/net/snmp"));
    busy::retrans_segs(&text)
}

/// What the first panic of the check said, from whichever thread.
static SAID: Mutex<Option<String>> = Mutex::new(None);

fn keep_panics() {
    set_hook(Box::new(|info| {
        let mut said = SAID.lock().unwrap_or_else(|e| e.into_inner());
        said.get_or_insert_with(|| info.to_string());
    }));
}

/// The results so far.
#[derive(Default)]
struct Tally {
    pass: u32,
    fail: u32,
    skip: u32,
}

impl Tally {
    fn run(&mut self, name: &str, check: fn() -> Done) {
        *SAID.lock().unwrap_or_else(|e| e.into_inner()) = None;
        let started = Instant::now();
        let end = catch_unwind(AssertUnwindSafe(check));
        let ms = started.elapsed().as_millis();
        match end {
            Ok(Ok(())) => {
                self.pass += 1;
                say(&format!("ok {name} ({ms} ms)"));
            }
            Ok(Err(why)) => {
                self.skip += 1;
                say(&format!("skip {name}: {why}"));
            }
            Err(_) => {
                self.fail += 1;
                let said = SAID.lock().unwrap_or_else(|e| e.into_inner()).take();
                let why = said.unwrap_or_else(|| "it panicked".to_owned());
                say(&format!("FAIL {name}: {}", why.replace('\n', " | ")));
            }
        }
    }
}

/// Runs what the variant asks for.
pub fn main() -> ExitCode {
    keep_panics();
    let variant = Variant::here();
    if let Ok(name) = nix::sys::utsname::uname() {
        let (release, machine) = (name.release(), name.machine());
        say(&format!("info kernel {release:?} on {machine:?}"));
    }
    let memory = with_mounts(|| fs::read_to_string("/proc/meminfo").unwrap_or_default());
    if let Some(line) = memory
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))
    {
        say(&format!("info {line}"));
    }
    let mut tally = Tally::default();
    let owners = variant.has("owners");
    let times = variant
        .value("times")
        .map_or(1, |times| times.parse().unwrap_or(1));
    let sets: [(&[Check], bool); 5] = [
        (&ACCEPTS, owners),
        (&QUIET, !owners),
        (&HOTPLUG, variant.has("hotplug")),
        (&LATE_CPU, variant.has("latecpu")),
        (&NOISY, !owners),
    ];
    for (checks, _) in sets.iter().filter(|(_, asked)| *asked) {
        for (name, check, short) in *checks {
            let wanted = variant.value("only").is_none_or(|only| only == *name);
            if wanted && (*short || !variant.has("core")) {
                (0..times).for_each(|_| tally.run(name, *check));
            }
        }
    }
    for _ in 0..if owners { times } else { 0 } {
        owners::play(variant.value("only"), |result| match result {
            owners::Result::Pass => tally.pass += 1,
            owners::Result::Fail => tally.fail += 1,
            owners::Result::Skip => tally.skip += 1,
        });
    }
    let Tally { pass, fail, skip } = tally;
    say(&format!("RESULT pass={pass} fail={fail} skip={skip}"));
    ExitCode::SUCCESS
}
