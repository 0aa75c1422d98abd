//! What a run will do: one row for each feature.
//!
//! Contract: a row asks the [`Source`] that was really opened. A feature that
//! may be absent alone is a [`Part`]: the source says why it is. What exists at
//! the start is no matter of the source: it is tried in the same way as a run
//! looks for it.

use super::finding::{Finding, Section, Verdict};
use crate::capture::attach::Part;
use crate::capture::{Source, Transport};
use crate::error::{Error, Kind};
use crate::model::event::Known;
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

const FEATURES: [Feature; 14] = [
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
        probe: |source| part(source, Part::FailedRetransmissions, "told apart"),
    },
    Feature {
        name: "retransmitted SYN+ACKs",
        probe: |source| part(source, Part::SynAcks, "told"),
    },
    Feature {
        name: "owner",
        probe: |source| {
            let how = match source.transport() {
                Transport::Perf => "by the context of the events",
                _ if source.known().contains(Known::LOCK) => "by the socket's lock",
                _ => "by transitions, as asked for",
            };
            all(source, &[Part::OwnerByLock, Part::Reads], how)
        },
    },
    Feature {
        name: "who accepts",
        probe: |source| part(source, Part::Accepts, "told at once"),
    },
    Feature {
        name: "owner's parent and cgroup",
        probe: |source| all(source, &[Part::Parent, Part::Cgroup], "told"),
    },
    Feature {
        name: "network namespace",
        probe: |source| part(source, Part::Netns, "told"),
    },
    Feature {
        name: "cause of an end",
        probe: |source| {
            let parts = [Part::SocketError, Part::ResetsSent, Part::ResetsReceived];
            all(source, &parts, "by the socket's error and resets")
        },
    },
    Feature {
        name: "details",
        probe: details,
    },
    Feature {
        name: "reset reason",
        probe: |source| all(source, &[Part::ResetsSent, Part::ResetReasons], "told"),
    },
    Feature {
        name: "filters",
        probe: |_| Ok("in user space".into()),
    },
    Feature {
        name: "lost events",
        probe: |source| part(source, Part::Skips, "counted"),
    },
    Feature {
        name: "rings",
        probe: |source| {
            let (cpus, size) = (source.cpus(), source.ring_size() / 1024);
            part(source, Part::Rings, &format!("{cpus} of {size} KiB"))
        },
    },
];

/// What only members of kernel structures tell, without a [`Part`] of its own.
const DETAILS: [(Known, &str); 5] = [
    (Known::SOCKET, "whether a connection was accepted"),
    (
        Known::SENT,
        "bytes that never went out apart from those sent",
    ),
    (Known::RETRANSMITS, "all segments that were sent again"),
    (Known::TIME_WAIT, "whether there was room for TIME_WAIT"),
    (Known::USERS, "the user of an owner that is not on the CPU"),
];

fn details(source: &Source) -> Result<String, Error> {
    let absent = DETAILS
        .iter()
        .filter(|(known, _)| !source.known().contains(*known));
    let absent: Vec<&str> = absent.map(|(_, what)| *what).collect();
    if absent.is_empty() {
        return Ok("told".into());
    }
    let why = format!("not told: {}", absent.join(", "));
    Err(Error::new(Kind::Unsupported, why)
        .advise("they take tracefs and a kernel whose BTF has them"))
}

fn part(source: &Source, part: Part, evidence: &str) -> Result<String, Error> {
    match source.absent().iter().find(|(absent, _)| *absent == part) {
        Some((_, error)) => Err(error.clone()),
        None => Ok(evidence.into()),
    }
}

fn all(source: &Source, parts: &[Part], evidence: &str) -> Result<String, Error> {
    let mut answers = parts.iter().map(|p| part(source, *p, evidence));
    answers.find(Result::is_err).unwrap_or(Ok(evidence.into()))
}

/// What is no matter of the source alone, tried as a run does it, in the same time
/// and with as much room; `wanted` is whether that looks for what exists.
pub fn tried(source: &Source, wanted: bool, room: usize) -> [Finding; 2] {
    let purpose = Purpose {
        list: wanted,
        hear: source.tells_destroys(),
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
    match source.without_counters() {
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
pub fn of(source: &Source) -> Vec<Finding> {
    let row = |feature: &Feature| match (feature.probe)(source) {
        Ok(evidence) => Finding::new(Section::Feature, feature.name, Verdict::Yes, &evidence),
        Err(error) => Finding::failed(Section::Feature, feature.name, Verdict::No, &error),
    };
    FEATURES.iter().map(row).collect()
}

/// The same where no source could be opened.
pub fn none() -> Vec<Finding> {
    let rows = FEATURES.iter().map(|feature| feature.name);
    rows.chain([COUNTERS, EXISTING]).map(without_way).collect()
}

/// A feature where no source could be opened.
pub fn without_way(name: &str) -> Finding {
    let why = "there is no way to the events";
    Finding::new(Section::Feature, name, Verdict::No, why)
}
