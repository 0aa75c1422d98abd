//! Live: who else is there. Two instances, another perf user, the host's
//! mounts and its list of BPF programs are none the worse for a run.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use story::story;

use common::event;
use common::{Run, Tracer, eventually, kernel, live, net, skip};
use nix::mount::{MsFlags, mount};

/// Tests here look at what the whole host has: one at a time.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    live().then_some(guard)
}

/// One connection, seen whole by the tracer, which is then stopped.
fn traced(tracer: Tracer) {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    net::converse(&listener);
    tracer.until(|lines| event::with(&event::objects(lines), server).len() >= 10);
    let all = event::objects(&tracer.stop().ok().lines());
    let (of_client, of_server) = event::pair(&all, server);
    assert_eq!(event::transitions(&of_client), event::CLIENT);
    assert_eq!(event::transitions(&of_server), event::SERVER);
}

#[story]
fn two_instances_both_see_everything() {
    let Some(_alone) = alone() else { return };
    let (first, second) = (Tracer::json(""), Tracer::json(""));
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    for _ in 0..100 {
        net::converse(&listener);
    }
    for tracer in [first, second] {
        tracer.until(|lines| event::with(&event::objects(lines), server).len() >= 1000);
        let all = event::objects(&tracer.stop().ok().lines());
        let lives = event::lives(&event::with(&all, server));
        let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
        for life in &lives {
            *kinds.entry(event::transitions(life)).or_default() += 1;
        }
        let expected = [event::CLIENT, event::SERVER].map(|t| (t.map(str::to_owned).to_vec(), 100));
        assert_eq!(kinds, BTreeMap::from(expected));
    }
}

#[story]
fn another_perf_user_keeps_its_samples() {
    let Some(_alone) = alone() else { return };
    let mut other = kernel::Sampler::new("sock/inet_sock_set_state");
    let listener = net::listen(net::own_ip());
    let mut expect = |when: &str| {
        other.drain();
        for _ in 0..20 {
            net::converse(&listener);
        }
        let samples = other.drain();
        assert!(samples >= 200, "{when}: {samples} samples of 200 events");
    };
    expect("before");
    let tracer = Tracer::json("");
    expect("while it runs");
    // A program that filters must not filter for others.
    let filtering = Tracer::json("--dst-ip 192.0.2.1");
    expect("while two run, one with a filter");
    filtering.stop().ok();
    tracer.stop().ok();
    expect("after");
}

fn mountinfo() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo")
}

/// Nothing is mounted for others to see, whether tracefs is there or not.
#[story]
fn without_tracefs_no_mount_is_seen() {
    let Some(_alone) = alone() else { return };
    let check = || {
        for place in ["/sys/kernel/tracing", "/sys/kernel/debug"] {
            // Where there is none, there is nothing to take away.
            while nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH).is_ok() {}
        }
        let before = mountinfo();
        assert!(!before.contains(" - tracefs "), "{before}");
        let tracer = Tracer::json("");
        assert_eq!(mountinfo(), before, "while it runs");
        traced(tracer);
        assert_eq!(mountinfo(), before, "after it");
    };
    let host = mountinfo();
    if let Err(e) = net::in_mount_ns(check) {
        return skip(&format!("no mount namespace: {e}"));
    }
    // And the same with the namespace of the host.
    let tracer = Tracer::json("");
    assert_eq!(mountinfo(), host, "while it runs");
    traced(tracer);
    assert_eq!(mountinfo(), host, "after it");
}

#[story]
fn with_tracefs_mounted_it_is_used() {
    let Some(_alone) = alone() else { return };
    let check = || {
        let none = None::<&str>;
        let at = "/sys/kernel/tracing";
        mount(Some("tracefs"), at, Some("tracefs"), MsFlags::empty(), none).expect("tracefs");
        let before = mountinfo();
        traced(Tracer::json(""));
        assert_eq!(mountinfo(), before);
    };
    if let Err(e) = net::in_mount_ns(check) {
        skip(&format!("no mount namespace: {e}"));
    }
}

#[story]
fn no_program_is_left_behind() {
    let Some(_alone) = alone() else { return };
    let list = || kernel::programs().map(|all| all.into_iter().collect::<BTreeMap<_, _>>());
    if let Err(e) = list() {
        return skip(&format!("BPF programs can't be listed: {e}"));
    }
    let tracer = Tracer::json("");
    let ours = kernel::programs_of(tracer.child.pid());
    assert!(ours.len() >= 2, "one program for each tracepoint: {ours:?}");
    tracer.stop().ok();
    // The kernel frees a program after a grace period.
    let gone = eventually(|| {
        let after = list().unwrap();
        !ours.iter().any(|id| after.contains_key(id))
    });
    assert!(gone, "still loaded: {ours:?}");
}

/// A killed one leaves nothing either, and the next one starts as ever.
#[story]
fn killed_it_leaves_nothing() {
    let Some(_alone) = alone() else { return };
    let before = mountinfo();
    let mut tracer = Run::quiet("").start();
    let pid = tracer.child.pid();
    tracer.child.signal(nix::sys::signal::Signal::SIGKILL);
    tracer.child.wait(Duration::from_secs(5)).expect("killed");
    assert!(fs::metadata(format!("/proc/{pid}")).is_err());
    assert_eq!(mountinfo(), before);
    traced(Tracer::json(""));
}
