//! Live: what happens in another network namespace can't be taken for what
//! happens in that of the tracer.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use story::story;

use common::event::{self, Line};
use common::net::{self, Netns};
use common::{Run, TempDir, live, skip};

const NOBODY: u32 = 65534;

/// The tracer's own.
fn own_netns() -> u32 {
    let file = fs::metadata("/proc/self/ns/net").expect("/proc");
    u32::try_from(file.ino()).expect("an inode of 32 bits")
}

/// Whether the way to the events tells namespaces.
fn tells() -> bool {
    let args = std::env::var("SOCKET_SNOOP_ARGS").unwrap_or_default();
    let tells = fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) && !args.contains("perf");
    if !tells {
        skip("without BTF no network namespace is known");
    }
    tells
}

/// A user makes a namespace of its own in which it is root, with the address of
/// somebody else and a program with somebody else's name: the number of the
/// namespace. `None`, with the reason said, where there can't be one.
fn pretend(dir: &TempDir, address: &str) -> Option<u32> {
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let sshd = dir.join("sshd");
    symlink("/bin/bash", &sshd).expect("another name for bash");
    // A connection to itself, which is refused.
    let script = format!(
        "ip addr add {address}/32 dev lo && ip link set lo up && stat -Lc %i /proc/self/ns/net \
         && exec {} -c 'exec 3<>/dev/tcp/{address}/22' 2>/dev/null",
        sshd.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--net", "--map-root-user", "sh", "-c", &script]);
    let out = command
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .output();
    let out = out.expect("unshare(1)");
    let netns = String::from_utf8_lossy(&out.stdout).trim().parse().ok();
    if netns.is_none() {
        skip(&format!(
            "no user namespaces: {}",
            String::from_utf8_lossy(&out.stderr)
        ));
    }
    netns
}

/// What a user plays in a namespace of its own says so, in each kind of line.
#[story]
fn a_users_own_namespace_is_told_at_the_end_of_the_line() {
    if !live() || !tells() {
        return;
    }
    let dir = TempDir::new();
    let address = net::own_ip().to_string();
    let run = |flags: &str| Run::quiet(&format!("--dst-ip {address} {flags}")).start();
    let (plain, with_cpu) = (run("--connections"), run("--on-cpu"));
    let Some(netns) = pretend(&dir, &address) else {
        return;
    };
    let of_it = |line: &&String| line.contains(&format!("DST={address}:22 "));
    plain.until(|lines| lines.iter().filter(of_it).count() >= 3);
    with_cpu.until(|lines| lines.iter().filter(of_it).count() >= 2);
    let all = plain.stop().ok().lines();
    let mark = format!(" NETNS={netns} UID={NOBODY}");
    let lines: Vec<&String> = all.iter().filter(of_it).collect();
    assert_eq!(lines.len(), 3, "{all:#?}");
    for line in &lines {
        assert!(
            line.contains(" COMM=sshd ") && line.ends_with(&mark),
            "{line}"
        );
    }
    // Without that, as if it were the host's.
    let parsed: Vec<Line> = lines.iter().filter_map(|line| event::line(line)).collect();
    assert_eq!(parsed.len(), 2, "{lines:#?}");
    assert!(
        parsed
            .iter()
            .all(|l| (l.netns, l.uid) == (Some(netns), Some(NOBODY)))
    );
    let heading = format!(" -> {address}:22{mark}");
    let report = event::report(&all);
    assert!(
        report.iter().any(|line| line.ends_with(&heading)),
        "{report:#?}"
    );
    // The task on the CPU comes last.
    let all = with_cpu.stop().ok().lines();
    let mark = format!("{mark} ON_CPU=");
    let marked = all.iter().filter(of_it).filter(|line| line.contains(&mark));
    assert_eq!(marked.count(), 2, "{all:#?}");
}

/// What is in the tracer's own namespace has no such end; seen from another
/// one it is the other way round.
#[story]
fn the_own_namespace_is_that_of_the_tracer() {
    if !live() || !tells() {
        return;
    }
    let there = match Netns::new() {
        Ok(netns) => netns,
        Err(e) => return skip(&format!("no network namespace: {e}")),
    };
    let inode = there.run(|| fs::metadata("/proc/thread-self/ns/net").map(|file| file.ino()));
    let inode = u32::try_from(inode.expect("its inode")).expect("32 bits");
    let ip = net::own_ip();
    let here_listener = net::listen(ip);
    let there_listener = there.run(move || net::listen(ip));
    let servers = [&here_listener, &there_listener].map(|l| l.local_addr().unwrap());
    if servers[0] == servers[1] {
        return skip("the kernel chose the same port in both namespaces");
    }
    let here_tracer = Run::quiet("").start();
    let there_tracer = there.run(|| Run::quiet("").start());
    net::converse(&here_listener);
    there.run(move || net::converse(&there_listener));
    let own = Some(own_netns());
    for (tracer, expected) in [
        (here_tracer, [None, Some(inode)]),
        (there_tracer, [own, None]),
    ] {
        let enough = |lines: &[String]| {
            let with = |server: &_| event::lines_with(lines, *server).len();
            servers.iter().map(with).all(|count| count >= 10)
        };
        tracer.until(enough);
        let lines = tracer.stop().ok().lines();
        for (server, expected) in servers.iter().zip(expected) {
            let lines = event::lines_with(&lines, *server);
            assert_eq!(lines.len(), 10);
            for line in lines {
                assert_eq!(line.netns, expected, "{line:?}");
                // Told of what is foreign, where it is known of that moment.
                assert!(line.uid.is_none() || expected.is_some(), "{line:?}");
                let own_doing = line.state.contains("SYN_SENT") && expected.is_some();
                assert!(line.uid == Some(0) || !own_doing, "{line:?}");
            }
        }
    }
}
