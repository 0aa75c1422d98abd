//! Live: what `--check` says is what a run then does, whatever the
//! surroundings, and it leaves nothing behind.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use story::story;

use common::event;
use common::net::{self, in_mount_ns};
use common::preflight::{EXISTING, Report, text_agrees, truth};
use common::{
    DENIED, Output, Run, TempDir, Tracer, binary, confine, eventually, kernel, live, skip,
};
use nix::mount::{MsFlags, mount};
use nix::sys::utsname::uname;

/// One test at a time: each starts the program many times, and together they
/// would wait for the CPUs longer than the harness waits for them.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ONE: Mutex<()> = Mutex::new(());
    live().then(|| ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The tracepoints, as the folders of tracefs name them.
const TRACEPOINTS: [&str; 2] = ["sock/inet_sock_set_state", "tcp/tcp_retransmit_skb"];

/// A copy of the program that every user may run.
fn for_everyone(dir: &TempDir) -> PathBuf {
    let copy = dir.join("socket-snoop");
    fs::copy(binary(), &copy).expect("copy the program");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// The program as a user without rights, but for these capabilities.
fn with_caps(user: u32, caps: &str) -> impl Fn(&str) -> Output {
    let dir = TempDir::new();
    let copy = for_everyone(&dir);
    let sets =
        ["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}=-all{caps}"));
    move |args| {
        let _there = &dir;
        let mut command = Command::new("setpriv");
        command
            .args(["reuid", "regid"].map(|id| format!("--{id}={user}")))
            .arg("--clear-groups")
            .args(&sets)
            .arg(&copy);
        Run::through(command, args).run()
    }
}

/// The program where a system call is answered with this errno.
fn refused(call: libc::c_long, errno: i32) -> impl Fn(&str) -> Output {
    move |args| {
        let mut command = Command::new(binary());
        confine::refuse(&mut command, call, errno);
        Run::through(command, args).run()
    }
}

fn has_setpriv() -> bool {
    let there = Command::new("setpriv").arg("--version").output().is_ok();
    if !there {
        skip("no setpriv");
    }
    there
}

fn has_btf() -> bool {
    let there = fs::metadata(socket_snoop::btf::PATH).is_ok();
    if !there {
        skip("this kernel shows no BTF");
    }
    there
}

fn here(args: &str) -> Output {
    Run::new(args).run()
}

#[story]
fn root_is_told_what_a_run_does() {
    let Some(_alone) = alone() else { return };
    let report = truth(&here, "");
    text_agrees(&here, "", &report);
    let name = uname().unwrap();
    assert_eq!(report.evidence("kernel"), name.release().to_str().unwrap());
    assert_eq!(report.evidence("arch"), name.machine().to_str().unwrap());
    assert_ne!(report.result["check.result"], "cannot_run");
    for sysctl in [
        "kernel.unprivileged_bpf_disabled",
        "kernel.perf_event_paranoid",
        "kernel.perf_event_mlock_kb",
    ] {
        let value = fs::read_to_string(format!("/proc/sys/{}", sysctl.replace('.', "/")));
        match value {
            Ok(value) => assert_eq!(report.evidence(sysctl), value.trim()),
            Err(_) => assert_eq!(report.verdict(sysctl), "unknown"),
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = mounts.contains(" - tracefs ");
    let place = report.evidence("tracefs");
    assert_eq!(place.starts_with("mounted at /"), mounted, "{place}");
    let has_btf = fs::metadata(socket_snoop::btf::PATH).is_ok();
    assert_eq!(report.verdict("BTF") == "yes", has_btf);
}

/// The fields are those of the `format` files, and decide what is on.
#[story]
fn fields_are_those_of_the_kernel() {
    let Some(_alone) = alone() else { return };
    let report = Report::read(&here("--check --format json"));
    let mut untold = false;
    for tracepoint in TRACEPOINTS {
        let format = kernel::tracefs(&format!("events/{tracepoint}/format"));
        let has = |field: &str| {
            let ends = [format!(" {field};"), format!(" {field}[")];
            ends.iter().any(|end| format.contains(end))
        };
        let finding = report.of(&tracepoint.replace('/', ":"));
        let list = |key: &str| -> Vec<String> {
            let all = finding[key].as_array().expect(key).iter();
            all.map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let (used, missing) = (list("check.fields.used"), list("check.fields.missing"));
        assert!(used.len() > 5, "{finding}");
        let mut of_record = used.iter().filter(|f| !f.contains('.'));
        assert!(of_record.all(|f| has(f)), "{finding}\n{format}");
        assert!(!missing.iter().any(|f| has(f)), "{finding}\n{format}");
        untold |= missing.iter().any(|f| f == "err");
    }
    assert_eq!(report.verdict("failed retransmissions") == "no", untold);
}

/// What is asked for is what is said.
#[story]
fn owners_are_told_as_asked_for() {
    let Some(_alone) = alone() else { return };
    if !has_btf() {
        return;
    }
    let report = truth(&here, "--owner-by transitions");
    let how = report.evidence("owner");
    assert_eq!(how, "by transitions, as asked for");
    let plain = Report::read(&here("--check --format json"));
    assert_eq!(plain.evidence("owner"), "by the socket's lock");
    let perf = truth(&here, "--transport perf --accept-owner");
    assert_eq!(perf.result["check.result"], "degraded");
    assert_eq!(perf.verdict("owner"), "no");
}

/// The doors are shut as a run shuts them.
#[story]
fn the_sandbox_is_told() {
    let Some(_alone) = alone() else { return };
    for mode in ["off", "on", "strict"] {
        let report = truth(&here, &format!("--sandbox {mode}"));
        let told = report.evidence("sandbox");
        let start = match mode {
            "off" => "sandbox: off",
            _ => &format!("sandbox {mode}: "),
        };
        assert!(told.starts_with(start), "{told}");
        assert_eq!(report.verdict("sandbox"), "yes");
    }
    let report = truth(&refused(libc::SYS_seccomp, libc::ENOSYS), "");
    assert_eq!(report.verdict("sandbox"), "no");
    assert_eq!(report.result["check.result"], "degraded");
}

/// What is open at the start is looked for as asked for, and as far as the
/// surroundings let it: each of them is told as a run tells it.
#[story]
fn the_search_at_the_start_is_told() {
    let Some(_alone) = alone() else { return };
    let told = |report: &Report, said: &[&str]| {
        assert_eq!(report.verdict(EXISTING), "no");
        assert_eq!(report.result["check.result"], "degraded");
        for words in said {
            let why = report.evidence(EXISTING);
            assert!(why.contains(words), "{words}: {why}");
        }
    };
    let report = truth(&here, "--no-snapshot");
    assert_eq!(report.verdict(EXISTING), "yes");
    assert_eq!(report.evidence(EXISTING), "not looked for, as asked for");
    let nothing = confine::with_empty(&["/proc"], || truth(&here, ""));
    told(&nothing.expect("an empty folder"), &["no /proc (ENOENT"]);
    let cannot = "cannot list all sockets that were open before the start (sock_diag: ";
    let report = truth(&refused(libc::SYS_socket, libc::EPERM), "");
    told(&report, &[cannot, "EPERM"]);
    let remedy = event::text(report.of(EXISTING), "check.remedy");
    assert!(remedy.contains("NETLINK_SOCK_DIAG"), "{remedy}");
    // As a kernel without tcp_diag answers.
    let report = truth(&refused(libc::SYS_sendto, libc::ENOENT), "");
    told(&report, &[cannot, "ENOENT"]);
    let remedy = event::text(report.of(EXISTING), "check.remedy");
    assert!(remedy.contains("modprobe tcp_diag"), "{remedy}");
    // Its numbers of processes are not the kernel's.
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc"]);
        command
    };
    match unshare().arg("true").status() {
        Ok(status) if status.success() => {
            let start = |args: &str| {
                let mut command = unshare();
                command.arg(binary());
                Run::through(command, args).run()
            };
            told(&truth(&start, ""), &["in a PID namespace of its own"]);
        }
        _ => skip("no unshare, or no PID namespaces"),
    }
}

/// Rights to some of it: other namespaces, and other users' descriptors.
#[story]
fn what_the_search_may_not_see_is_told() {
    let Some(_alone) = alone() else { return };
    if !has_setpriv() || !has_btf() {
        return;
    }
    let (namespaces, descriptors) = (
        "without CAP_SYS_ADMIN only this network namespace",
        DENIED.trim_end(),
    );
    for (caps, user) in [
        (",+bpf,+perfmon", 61_005),
        // Enough to list descriptors, but not to see what they are.
        (",+bpf,+perfmon,+dac_read_search", 61_006),
    ] {
        let report = truth(&with_caps(user, caps), "--buffer=64K");
        let why = report.evidence(EXISTING);
        assert_eq!(report.verdict(EXISTING), "no");
        for words in [namespaces, descriptors] {
            assert!(why.contains(words), "{caps}: {why}");
        }
    }
}

/// By each way that is said to work, events come.
#[story]
fn a_way_that_works_brings_events() {
    let Some(_alone) = alone() else { return };
    let report = Report::read(&here("--check --format json"));
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let mut seen = 0;
    for way in report.section("transport") {
        if way["check.verdict"] != "yes" {
            continue;
        }
        let name = event::text(way, "check.name");
        let tracer = Tracer::json(&format!("--transport {name}"));
        net::converse(&listener);
        let came = tracer.until(|lines| {
            let own = event::with(&event::objects(lines), server);
            own.iter()
                .filter(|e| e["event.name"] == "tcp_state")
                .count()
                >= 9
        });
        assert!(came, "nothing by {name}");
        tracer.stop().ok();
        seen += 1;
    }
    assert!(seen > 0, "no way");
}

#[story]
fn an_unprivileged_user_is_told_that_nothing_goes() {
    let Some(_alone) = alone() else { return };
    let dir = TempDir::new();
    let copy = for_everyone(&dir);
    let start = |args: &str| Run::of(copy.clone(), args).user(65534).run();
    let report = truth(&start, "");
    text_agrees(&start, "", &report);
    assert_eq!(report.result["check.result"], "cannot_run");
    let none = report.evidence("capabilities");
    assert!(!none.contains("CAP_"), "{none}");
    // Not to be allowed is not to know.
    for what in ["BPF", "BPF JIT", "tracefs"] {
        assert_eq!(report.verdict(what), "unknown", "{}", report.of(what));
    }
}

#[story]
fn with_the_capabilities_for_bpf_alone_it_is_by_btf() {
    let Some(_alone) = alone() else { return };
    if !has_setpriv() || !has_btf() {
        return;
    }
    let start = with_caps(61_001, ",+bpf,+perfmon");
    let report = truth(&start, "--buffer=64K");
    assert_eq!(report.evidence("capabilities"), "CAP_PERFMON CAP_BPF");
    assert_eq!(report.taken(), Some("btf"), "{:#?}", report.findings);
    assert_eq!(report.verdict("tracepoint"), "no");
    assert_eq!(report.verdict("rings"), "yes");
}

/// More than may be locked: smaller rings are less than all.
#[story]
fn smaller_rings_are_a_degraded_run() {
    let Some(_alone) = alone() else { return };
    if !has_setpriv() || !has_btf() {
        return;
    }
    let start = with_caps(61_002, ",+bpf,+perfmon");
    let report = truth(&start, "--buffer=64M");
    text_agrees(&start, "--buffer=64M", &report);
    assert_eq!(report.result["check.result"], "degraded");
    assert_eq!(report.verdict("rings"), "no");
    assert_eq!(report.verdict("state changes"), "yes");
}

#[story]
fn without_the_capability_for_bpf() {
    let Some(_alone) = alone() else { return };
    if !has_setpriv() {
        return;
    }
    let start = with_caps(61_003, ",+perfmon,+dac_read_search");
    let report = truth(&start, "--buffer=64K");
    let caps = report.evidence("capabilities");
    assert_eq!(caps, "CAP_DAC_READ_SEARCH CAP_PERFMON");
    assert_eq!(report.verdict("BPF"), "unknown");
    for way in ["tracepoint", "btf"] {
        assert_eq!(report.verdict(way), "no");
    }
    // Without CAP_SYS_ADMIN tracefs can't be mounted.
    let tracefs = report.verdict("tracefs") == "yes";
    assert_eq!(report.taken(), tracefs.then_some("perf"));
}

/// As containers have it (EPERM), and as a kernel without bpf(2) looks.
#[story]
fn where_a_filter_refuses_bpf() {
    let Some(_alone) = alone() else { return };
    for (errno, verdict) in [(libc::EPERM, "unknown"), (libc::ENOSYS, "no")] {
        let report = truth(&refused(libc::SYS_bpf, errno), "");
        assert_eq!(report.verdict("BPF"), verdict);
        assert_eq!(report.evidence("seccomp"), "a filter is in force");
        assert!(report.evidence("BPF").contains("seccomp filter"));
        for way in ["tracepoint", "btf"] {
            assert_eq!(report.verdict(way), "no");
        }
        assert_eq!(report.taken(), Some("perf"));
        assert_eq!(report.verdict("owner"), "yes");
    }
    assert_eq!(
        Report::read(&here("--check --format json")).evidence("seccomp"),
        "no filter"
    );
}

/// perf events are needed by every way.
#[story]
fn where_a_filter_refuses_perf_events() {
    let Some(_alone) = alone() else { return };
    for errno in [libc::EACCES, libc::ENOSYS, libc::EINVAL] {
        let report = truth(&refused(libc::SYS_perf_event_open, errno), "");
        assert_eq!(report.result["check.result"], "cannot_run");
        assert_eq!(report.verdict("BPF"), "yes");
    }
}

#[story]
fn without_proc_sys_and_etc() {
    let Some(_alone) = alone() else { return };
    let report = confine::with_empty(&["/etc", "/sys", "/proc"], || truth(&here, ""));
    let report = report.expect("empty folders");
    assert_ne!(report.result["check.result"], "cannot_run");
    assert_eq!(report.evidence("tracefs"), "by a private mount");
    assert_eq!(report.verdict("kernel.perf_event_paranoid"), "unknown");
    assert_eq!(report.verdict("BPF"), "yes");
}

/// Where nobody may look, nothing is said to be absent.
#[story]
fn nobody_without_proc_and_sys() {
    let Some(_alone) = alone() else { return };
    let dir = TempDir::new();
    let copy = for_everyone(&dir);
    let look = move || truth(&|args| Run::of(copy.clone(), args).user(65534).run(), "");
    let report = confine::with_empty(&["/sys", "/proc"], look).expect("empty folders");
    for what in [
        "BTF",
        "BPF",
        "tracefs",
        "lockdown",
        "sock:inet_sock_set_state",
    ] {
        assert_eq!(report.verdict(what), "unknown", "{}", report.of(what));
    }
}

/// A way that is asked for is the only one that counts.
#[story]
fn a_way_that_is_asked_for() {
    let Some(_alone) = alone() else { return };
    if !has_setpriv() {
        return;
    }
    if has_btf() {
        let report = truth(&here, "--transport btf");
        assert_eq!(report.taken(), Some("btf"));
        assert_eq!(report.evidence("state changes"), "by btf");
    }
    let start = with_caps(61_004, ",+bpf,+perfmon");
    let report = truth(&start, "--buffer=64K --transport=tracepoint");
    assert_eq!(report.result["check.result"], "cannot_run");
}

/// A place in the file system can have any name.
#[story]
fn a_hostile_place_is_escaped() {
    let Some(_alone) = alone() else { return };
    let dir = TempDir::new();
    let place = dir.join("a\n\u{1b}[2J\u{9b}b\\ \"c");
    fs::create_dir(&place).unwrap();
    let mounted = place.clone();
    let look = move || {
        let (kind, none) = (Some("tracefs"), None::<&str>);
        // Wherever it is mounted already, that is gone first.
        while let Some(at) = first_tracefs() {
            nix::mount::umount2(Path::new(&at), nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
        mount(kind, &mounted, kind, MsFlags::empty(), none).expect("mount tracefs");
        (here("--check"), here("--check --format json"))
    };
    let (text, json) = in_mount_ns(look).expect("a mount namespace of our own");
    let report = Report::read(&json);
    let expected = format!("mounted at {}", place.display());
    assert_eq!(report.evidence("tracefs"), expected);
    for out in [&text.stdout, &json.stdout] {
        let controls = out.chars().filter(|c| c.is_control() && *c != '\n');
        assert_eq!(controls.count(), 0, "{out:?}");
    }
    let lines = text.lines();
    let line = lines.iter().find(|l| l.starts_with("  tracefs ")).unwrap();
    assert!(line.contains("/a\\n\\u{1b}[2J\\u{9b}b"), "{line}");
}

fn first_tracefs() -> Option<String> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let line = mounts.lines().find(|l| l.contains(" - tracefs "))?;
    line.split(' ').nth(4).map(str::to_owned)
}

#[story]
fn nothing_is_left() {
    let Some(_alone) = alone() else { return };
    let list = || -> Result<BTreeSet<u32>, _> {
        let ours = |name: &str| name.starts_with("socket_snoop") || name == "probe";
        let all = kernel::programs()?.into_iter();
        Ok(all
            .filter(|(_, name)| ours(name))
            .map(|(id, _)| id)
            .collect())
    };
    let before = match list() {
        Ok(before) => before,
        Err(e) => {
            let e: std::io::Error = e;
            return skip(&format!("BPF programs can't be listed: {e}"));
        }
    };
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mounts_before = mounts();
    let out = here("--check");
    assert!(out.stdout.contains("What will be on"), "{out:?}");
    assert_eq!(mounts(), mounts_before);
    // What other tests have loaded by now is gone soon, too.
    let after: Vec<u32> = list().unwrap().difference(&before).copied().collect();
    let gone = eventually(|| {
        let now = list().unwrap();
        !after.iter().any(|id| now.contains(id))
    });
    assert!(gone, "still loaded: {after:?}");
}
