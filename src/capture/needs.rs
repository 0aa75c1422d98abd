//! What each ability takes, as the table in docs/limits.md says it.
//!
//! Contract: every ability of [`Abilities`] stands in one row; what of a row the code
//! knows is held against it. With UPDATE in the environment that table is
//! written anew; else what differs fails.

use super::attach::{OPTIONAL, too_old};
use super::samples::UNTOLD;
use crate::bpf::load::PARTS;
use crate::model::ability::Abilities;
use std::path::Path;

/// A row.
struct Need {
    of: Abilities,
    /// What it is.
    what: &'static str,
    /// Since what Linux.
    linux: &'static str,
    /// Whether it takes BTF.
    btf: bool,
    /// Whether perf samples tell it, too.
    perf: bool,
    /// What else it takes.
    more: &'static str,
}

const fn need(
    of: Abilities,
    what: &'static str,
    linux: &'static str,
    (btf, perf): (bool, bool),
    more: &'static str,
) -> Need {
    Need {
        of,
        what,
        linux,
        btf,
        perf,
        more,
    }
}

const BY_BTF: (bool, bool) = (true, false);
const ANYHOW: (bool, bool) = (false, true);
const BY_PROGRAM: (bool, bool) = (false, false);

const TABLE: [Need; 25] = [
    need(
        Abilities::CARDS,
        "what belongs to a socket is told once, which costs less",
        "5.5",
        BY_PROGRAM,
        "BTF, and no `--on-cpu`",
    ),
    need(
        Abilities::LOADS,
        "kernel structures read without calls, which costs less",
        "6.2; by the way `btf` 5.9",
        BY_PROGRAM,
        "BTF, and a JIT compiler",
    ),
    need(
        Abilities::HELD,
        "with `--closed-only`, changes of state told when the connection ends, which costs less",
        "5.5",
        BY_PROGRAM,
        "BTF, no `--on-cpu` or `--filter-file`, and no filter that asks for owners",
    ),
    need(
        Abilities::ON_CPU,
        "the task on the CPU (`--on-cpu`)",
        "4.16",
        ANYHOW,
        "",
    ),
    need(
        Abilities::SYNACKS,
        "retransmitted SYN+ACKs",
        "4.16",
        ANYHOW,
        "",
    ),
    need(
        Abilities::FAILED_RETRANSMISSIONS,
        "which retransmissions failed",
        "6.17",
        ANYHOW,
        "",
    ),
    need(
        Abilities::RESETS_SENT.union(Abilities::RESETS_RECEIVED),
        "resets, for the cause of an end",
        "4.16",
        ANYHOW,
        "",
    ),
    need(
        Abilities::RESET_REASONS,
        "why a reset was sent",
        "6.10",
        ANYHOW,
        "",
    ),
    need(
        Abilities::SOCKET_ERROR,
        "the socket's error, for the cause of an end",
        "5.5",
        BY_BTF,
        "",
    ),
    need(
        Abilities::SOCKET,
        "whether a process had the socket, likewise",
        "5.5",
        BY_BTF,
        "",
    ),
    need(
        Abilities::LOCK,
        "the owner by the socket's lock; else by the changes that are always its own",
        "5.5",
        BY_BTF,
        "",
    ),
    need(
        Abilities::ACCEPTS,
        "who accepts, when it does",
        "5.9",
        BY_BTF,
        "function tracing; on arm64 seen from Linux 6.12 on",
    ),
    need(
        Abilities::READS,
        "who reads first (`--accept-owner`)",
        "4.18",
        BY_PROGRAM,
        "",
    ),
    need(
        Abilities::PARENT,
        "the owner's parent",
        "5.5; by the way `btf` 5.11",
        BY_BTF,
        "",
    ),
    need(
        Abilities::CGROUP,
        "the owner's cgroup",
        "4.18",
        BY_PROGRAM,
        "CONFIG_CGROUPS",
    ),
    need(
        Abilities::USERS,
        "the user of an owner that is not on the CPU",
        "5.5",
        BY_BTF,
        "the way `tracepoint`",
    ),
    need(Abilities::NETNS, "the network namespace", "5.5", BY_BTF, ""),
    need(
        Abilities::COUNTERS,
        "bytes, segments and RTT, read at the end",
        "5.5",
        BY_BTF,
        "",
    ),
    need(
        Abilities::DESTROYS,
        "the same from sock_diag, where they can't be read",
        "4.18",
        ANYHOW,
        "`CAP_SYS_ADMIN` for other network namespaces",
    ),
    need(
        Abilities::SENT,
        "bytes that never went out apart from those sent",
        "5.5",
        BY_BTF,
        "",
    ),
    need(
        Abilities::RETRANSMITS,
        "retransmissions in segments",
        "5.5",
        BY_BTF,
        "",
    ),
    need(
        Abilities::RESENDING,
        "what made the kernel send again (SYNs anywhere)",
        "5.5",
        BY_BTF,
        "",
    ),
    need(
        Abilities::TIME_WAIT,
        "whether TIME_WAIT was entered",
        "5.5",
        BY_BTF,
        "",
    ),
    need(
        Abilities::MISSES,
        "how many events are passed by",
        "4.17; by `perf` 4.16",
        ANYHOW,
        "",
    ),
    need(
        Abilities::RINGS,
        "rings beyond `kernel.perf_event_mlock_kb`",
        "4.16",
        ANYHOW,
        "`CAP_IPC_LOCK`",
    ),
];

const START: &str = "<!-- what features need: made from src/capture/needs.rs -->\n";
const END: &str = "<!-- end -->";

/// The page with the table in it.
fn page(old: &str) -> String {
    let (before, rest) = old.split_once(START).expect("the table's beginning");
    let (_, after) = rest.split_once(END).expect("its end");
    let mut new = format!("{before}{START}\n");
    new += "| what is told | Linux | BTF | by `perf` | also |\n|---|---|---|---|---|\n";
    let yes = |is| if is { "yes" } else { "no" };
    for row in &TABLE {
        let (btf, perf) = (if row.btf { "needed" } else { "no" }, yes(row.perf));
        let Need {
            what, linux, more, ..
        } = row;
        new += &format!("| {what} | {linux} | {btf} | {perf} | {more} |\n");
    }
    new + "\n" + END + after
}

#[test]
fn the_page_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/limits.md");
    let old = std::fs::read_to_string(&file).expect("docs/limits.md");
    let new = page(&old);
    if std::env::var_os("UPDATE").is_some() && old != new {
        return std::fs::write(&file, new).expect("write the table");
    }
    assert!(old == new, "not what is said here: run 'make keys'");
}

/// Whether the row of an ability says so.
fn row(ability: Abilities) -> &'static Need {
    let mut rows = TABLE.iter().filter(|row| row.of.contains(ability));
    rows.next()
        .unwrap_or_else(|| panic!("no row for {ability:?}"))
}

#[test]
fn every_ability_has_one_row() {
    let mut all = Abilities::empty();
    for need in &TABLE {
        assert!(!all.intersects(need.of), "{:?}", need.of);
        all |= need.of;
    }
    assert_eq!(all, Abilities::all());
}

#[test]
fn rows_say_what_the_code_knows() {
    // Members of kernel structures take BTF, and perf samples have none.
    for (part, members) in PARTS {
        let btf = members.iter().any(|name| !name.starts_with("helper."));
        assert_eq!((row(part).btf, row(part).perf), (btf, false), "{part:?}");
    }
    for part in UNTOLD.into_iter().chain([Abilities::READS]) {
        assert!(!row(part).perf, "{part:?}");
    }
    for (part, _) in OPTIONAL {
        assert!(row(part).perf && !row(part).btf, "{part:?}");
    }
    for part in [Abilities::RESET_REASONS, Abilities::FAILED_RETRANSMISSIONS] {
        let takes = format!("Linux {} or later", row(part).linux);
        assert!(too_old(part).remedy().contains(&takes), "{takes}");
    }
}
