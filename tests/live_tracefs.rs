//! Live: the three ways to tracefs, none of which shows a mount to anybody.

mod common;

use common::live;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use socket_snoop::sys::tracefs;
use socket_snoop::tracepoint::{Origin, TraceFs};
use std::fs;
use std::os::fd::OwnedFd;
use story::story;

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("mountinfo")
}

fn has_the_tracepoint(root: &OwnedFd) -> bool {
    let path = "events/sock/inet_sock_set_state/format";
    openat(
        root,
        path,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .is_ok()
}

#[story]
fn private_mounts_work_and_stay_private() {
    if !live() {
        return;
    }
    let before = mounts();
    let detached = tracefs::detached().expect("fsopen and fsmount");
    assert!(has_the_tracepoint(&detached));
    let hidden = tracefs::in_own_namespace().expect("a namespace of its own");
    assert!(has_the_tracepoint(&hidden));
    assert_eq!(mounts(), before);
    drop((detached, hidden));
    assert_eq!(mounts(), before);
}

#[story]
fn the_tracepoints_are_found_wherever_tracefs_is() {
    if !live() {
        return;
    }
    let mounted = mounts().contains(" - tracefs ");
    let tracefs = TraceFs::open().expect("tracefs");
    assert_eq!(tracefs.origin() != &Origin::Private, mounted);
    for tracefs in [tracefs, TraceFs::private().expect("private")] {
        for (group, name) in [
            ("sock", "inet_sock_set_state"),
            ("tcp", "tcp_retransmit_skb"),
        ] {
            let tracepoint = tracefs.event(group, name).expect(name);
            assert!(tracepoint.id > 0);
            assert!(tracepoint.format.field("skaddr").is_some());
        }
        let missing = tracefs.event("sock", "no_such_event").expect_err("missing");
        assert_eq!(missing.exit_code(), 4);
        assert!(
            missing.to_string().contains("sock:no_such_event"),
            "{missing}"
        );
    }
}
