//! What a run will do: one row for each feature.
//!
//! Contract: a row asks the [`Source`] that was really opened. A feature that
//! may be absent alone is a of its own ability: the source says why it is. What exists at
//! the start is no matter of the source: it is tried in the same way as a run
//! looks for it.

use super::finding::{Finding, Section, Verdict};
use crate::capture::{Source, Transport};
use crate::error::{Error, Kind};
use crate::model::ability::Abilities;
use crate::snapshot::{self, Lack, Limits, Purpose, Stock};

/// What a connection has counted.
const COUNTERS: &str = "bytes, segments, RTT";
/// What was open before the start.
const EXISTING: &str = "what is open at the start";

/// A feature and its probe: what it is made with, or why it is off.
struct Feature {
    name: &'static str,
    probe: fn(&Source) -> Result<String, Error>,
}

const FEATURES: [Feature; 15] = [
    Feature {
        name: "state changes",
        // The source would not be open without.
        probe: |source| Ok(format!("by {}", source.transport().name())),
    },
    Feature {
        name: "retransmissions",
        probe: |source| Ok(format!("by {}", source.transport().name())),
    },
    Feature {
        name: "failed retransmissions",
        probe: |source| one(source, Abilities::FAILED_RETRANSMISSIONS, "told apart"),
    },
    Feature {
        name: "retransmitted SYN+ACKs",
        probe: |source| one(source, Abilities::SYNACKS, "told"),
    },
    Feature {
        name: "owner",
        probe: |source| {
            let how = match source.transport() {
                Transport::Perf => "by the context of the events",
                _ if source.given().has(Abilities::LOCK) => "by the socket's lock",
                _ => "by transitions, as asked for",
            };
            all(source, &[Abilities::LOCK, Abilities::READS], how)
        },
    },
    Feature {
        name: "who accepts",
        probe: |source| one(source, Abilities::ACCEPTS, "told at once"),
    },
    Feature {
        name: "owner's parent",
        probe: |source| one(source, Abilities::PARENT, "told"),
    },
    Feature {
        name: "owner's cgroup",
        probe: |source| one(source, Abilities::CGROUP, "told"),
    },
    Feature {
        name: "network namespace",
        probe: |source| one(source, Abilities::NETNS, "told"),
    },
    Feature {
        name: "cause of an end",
        probe: |source| {
            let needed = [
                Abilities::SOCKET_ERROR,
                Abilities::RESETS_SENT,
                Abilities::RESETS_RECEIVED,
            ];
            all(source, &needed, "by the socket's error and resets")
        },
    },
    Feature {
        name: "details",
        probe: details,
    },
    Feature {
        name: "reset reason",
        probe: |source| {
            all(
                source,
                &[Abilities::RESETS_SENT, Abilities::RESET_REASONS],
                "told",
            )
        },
    },
    Feature {
        name: "filters",
        probe: |_| Ok("in user space".into()),
    },
    Feature {
        name: "lost events",
        probe: |source| one(source, Abilities::MISSES, "counted"),
    },
    Feature {
        name: "rings",
        probe: |source| {
            let (cpus, size) = (source.cpus(), source.ring_size() / 1024);
            one(source, Abilities::RINGS, &format!("{cpus} of {size} KiB"))
        },
    },
];

/// What only members of kernel structures tell, without a row of its own.
const DETAILS: [(Abilities, &str); 6] = [
    (Abilities::SOCKET, "whether a connection was accepted"),
    (
        Abilities::SENT,
        "bytes that never went out apart from those sent",
    ),
    (Abilities::RETRANSMITS, "all segments that were sent again"),
    (Abilities::RESENDING, "what made the kernel send again"),
    (Abilities::TIME_WAIT, "whether there was room for TIME_WAIT"),
    (
        Abilities::USERS,
        "the user of an owner that is not on the CPU",
    ),
];

fn details(source: &Source) -> Result<String, Error> {
    let absent = DETAILS
        .iter()
        .filter(|(ability, _)| !source.given().has(*ability));
    let absent: Vec<&str> = absent.map(|(_, what)| *what).collect();
    if absent.is_empty() {
        let how = match source.given().why_not(Abilities::LOADS) {
            Some(why) => format!("told, but read by calls, which cost more: {why}"),
            None if source.given().has(Abilities::LOADS) => "told, and read without calls".into(),
            None => "told".into(),
        };
        return Ok(how);
    }
    let why = format!("not told: {}", absent.join(", "));
    Err(Error::new(Kind::Unsupported, why)
        .advise("they take tracefs and a kernel whose BTF has them"))
}

fn one(source: &Source, ability: Abilities, evidence: &str) -> Result<String, Error> {
    match source.given().why_not(ability) {
        Some(error) => Err(error.clone()),
        None => Ok(evidence.into()),
    }
}

fn all(source: &Source, abilities: &[Abilities], evidence: &str) -> Result<String, Error> {
    let mut answers = abilities.iter().map(|a| one(source, *a, evidence));
    answers.find(Result::is_err).unwrap_or(Ok(evidence.into()))
}

/// What is no matter of the source alone, tried as a run does it, in the same time
/// and with as much room; `wanted` is whether that looks for what exists.
pub(super) fn tried(source: &Source, wanted: bool, room: usize) -> [Finding; 2] {
    let purpose = Purpose {
        list: wanted,
        hear: source.given().has(Abilities::DESTROYS),
    };
    let stock = match purpose.list || purpose.hear {
        true => snapshot::try_out(purpose, room, Limits::from_now()),
        false => Stock::default(),
    };
    let existing = match wanted {
        true => existing(&stock),
        false => {
            let how = "not looked for, as asked for";
            Finding::new(Section::Feature, EXISTING, Verdict::Yes, how)
        }
    };
    [counters(source, &stock), existing]
}

/// What a connection has counted.
fn counters(source: &Source, stock: &Stock) -> Finding {
    let yes = |how: &str| Finding::new(Section::Feature, COUNTERS, Verdict::Yes, how);
    let heard = stock.broadcasts.as_ref().map_or(0, |b| b.namespaces());
    match source.given().why_not(Abilities::COUNTERS) {
        None => yes("read at the end of a connection"),
        Some(why) if heard == 0 => Finding::failed(Section::Feature, COUNTERS, Verdict::No, why),
        Some(_) => yes(&format!(
            "by sock_diag when a socket is destroyed, in {heard} network namespaces"
        )),
    }
}

/// What exists already.
fn existing(stock: &Stock) -> Finding {
    let lacks: Vec<Error> = stock.lacks.iter().map(Lack::error).collect();
    let Some((first, others)) = lacks.split_first() else {
        let namespaces = stock.namespaces;
        let how = format!("by sock_diag in {namespaces} network namespaces, and /proc");
        return Finding::new(Section::Feature, EXISTING, Verdict::Yes, &how);
    };
    let mut finding = Finding::failed(Section::Feature, EXISTING, Verdict::No, first);
    for lack in others {
        for (to, more) in [
            (&mut finding.evidence, lack.why()),
            (&mut finding.remedy, lack.remedy()),
        ] {
            if !to.is_empty() && !more.is_empty() {
                to.push_str("; ");
            }
            to.push_str(more);
        }
    }
    finding
}

/// What this source can do.
pub(super) fn of(source: &Source) -> Vec<Finding> {
    let row = |feature: &Feature| match (feature.probe)(source) {
        Ok(evidence) => Finding::new(Section::Feature, feature.name, Verdict::Yes, &evidence),
        Err(error) => Finding::failed(Section::Feature, feature.name, Verdict::No, &error),
    };
    FEATURES.iter().map(row).collect()
}

/// The same where no source could be opened.
pub(super) fn none() -> Vec<Finding> {
    let rows = FEATURES.iter().map(|feature| feature.name);
    rows.chain([COUNTERS, EXISTING]).map(without_way).collect()
}

/// A feature where no source could be opened.
pub(super) fn without_way(name: &str) -> Finding {
    let why = "there is no way to the events";
    Finding::new(Section::Feature, name, Verdict::No, why)
}
