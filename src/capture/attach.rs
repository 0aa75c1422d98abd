//! The programs of each way to the events: loaded, attached, and what a host
//! lacks of them.
//!
//! Contract: state changes and retransmissions must be had; every other program,
//! and every member of a kernel structure, may be missing alone, which costs
//! detail and is told as a [`Part`] with its reason.

use crate::bpf::load::{Extras, Program, Target};
use crate::bpf::maps::Maps;
use crate::bpf::passes::{self, Passes};
use crate::bpf::tally::Tally;
use crate::bpf_link::Template;
use crate::btf::Btf;
use crate::error::{Error, Kind};
use crate::model::event::Known;
use crate::programs;
use crate::sys;
use crate::tracepoint::{Attached, TraceFs};
use std::os::fd::AsFd;

/// What may be missing alone: a run goes on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Rings as large as they are wanted.
    Rings,
    /// Retransmissions that could not be sent.
    FailedRetransmissions,
    /// Retransmissions of SYN+ACKs.
    SynAcks,
    /// Resets sent.
    ResetsSent,
    /// Why they were sent.
    ResetReasons,
    /// Resets received.
    ResetsReceived,
    /// The process that accepts a connection, when it does.
    Accepts,
    /// The first read of a socket.
    Reads,
    /// Owners by the socket's lock, where the task on the CPU holds it.
    OwnerByLock,
    /// The network namespace of a socket.
    Netns,
    /// The owner's parent.
    Parent,
    /// The owner's cgroup.
    Cgroup,
    /// The error that ended a connection.
    SocketError,
    /// Bytes, segments and round-trip times of a connection.
    Counters,
    /// How many events the kernel keeps from the programs.
    Skips,
}

impl Part {
    /// What it is, to a person.
    pub fn name(self) -> &'static str {
        match self {
            Part::Rings => "rings as large as wanted",
            Part::FailedRetransmissions => "failed retransmissions",
            Part::SynAcks => "retransmitted SYN+ACKs",
            Part::ResetsSent => "resets sent",
            Part::ResetReasons => "the reasons of resets",
            Part::ResetsReceived => "resets received",
            Part::Accepts => "who accepts",
            Part::Reads => "first reads",
            Part::OwnerByLock => "owners by the socket's lock",
            Part::Netns => "network namespaces",
            Part::Parent => "owners' parents",
            Part::Cgroup => "cgroups",
            Part::SocketError => "the socket's error",
            Part::Counters => "bytes, segments and RTT",
            Part::Skips => "a count of events that are passed by",
        }
    }
}

/// What is missing only because a limit was reached, a line for each limit:
/// nobody would look for it.
pub fn short_of(absent: &[(Part, Error)]) -> Vec<String> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (part, why) in absent.iter().filter(|(_, why)| why.is_limit()) {
        let why = why.to_string();
        match lines
            .iter_mut()
            .find(|(_, other)| other.ends_with(why.rsplit("; ").next().unwrap_or("")))
        {
            Some((parts, _)) => *parts += &format!(", {}", part.name()),
            None => lines.push((part.name().into(), why)),
        }
    }
    let line = |(parts, why)| format!("warning: going on without {parts}: {why}");
    lines.into_iter().map(line).collect()
}

/// How the programs are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Tell of accepts themselves.
    pub accepts: bool,
    /// Learn the owner of an accepted socket at its first read, too.
    pub reads: bool,
    /// Believe the task on the CPU only in the transitions that are always the
    /// owner's own doing, as on hosts without BTF.
    pub owner_by_transitions: bool,
    /// Count the events that the kernel keeps from the programs, also where it
    /// does so itself.
    pub count_passes: bool,
}

/// What is in the kernel.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The programs.
    pub programs: Vec<Program>,
    /// What keeps them attached.
    pub attached: Vec<Attached>,
    /// What keeps the program of accepts attached. To let go of it the kernel
    /// waits until no task can be in the function's trampoline (v6.12
    /// kernel/trace/ftrace.c, ftrace_shutdown: synchronize_rcu_tasks).
    pub accepts: Option<Attached>,
    /// Whether they tell who first reads from a connection.
    pub reads: bool,
    /// What they read beyond what every host has.
    pub known: Known,
    /// What they go without, and why.
    pub absent: Vec<(Part, Error)>,
    /// The names of the reasons of resets, where tracefs or BTF tells.
    pub reset_reasons: Vec<(u32, String)>,
    /// Whether they tell when a socket is destroyed: then the kernel's own
    /// message about it has the counters that they can't read.
    pub destroys: bool,
    /// What counts the events that the kernel keeps from them, where it does not
    /// do so itself.
    pub passes: Option<Passes>,
}

/// A tracepoint's programs: by its record, and by its arguments.
pub type Pair = [&'static Template<'static>; 2];

/// The programs that must be had.
pub const REQUIRED: [Pair; 2] = [
    [&programs::STATE, &programs::STATE_BTF],
    [&programs::RETRANSMIT, &programs::RETRANSMIT_BTF],
];

/// The programs that a run can do without.
pub const OPTIONAL: [(Part, Pair); 3] = [
    (Part::SynAcks, [&programs::SYNACK, &programs::SYNACK_BTF]),
    (
        Part::ResetsSent,
        [&programs::RESET_SENT, &programs::RESET_SENT_BTF],
    ),
    (
        Part::ResetsReceived,
        [&programs::RESET_RECEIVED, &programs::RESET_RECEIVED_BTF],
    ),
];

/// The programs of first reads, of which a run does without, too.
pub const READS: Pair = [&programs::RCV_SPACE, &programs::RCV_SPACE_BTF];

/// What becomes of accepts that are not seen.
const FROM_THE_FIRST_READ: &str = "who accepted a connection is known from its first read on";
const BY_ACCEPT_OWNER: &str =
    "use --accept-owner: then who accepted a connection is known from its first read on";

/// Which program of a pair.
const RECORD: usize = 0;
const ARGUMENTS: usize = 1;

/// Loads and attaches one program.
type Attach<'a> =
    dyn Fn(&'static Template<'static>, Extras<'_>) -> Result<(Program, Attached), Error> + 'a;

/// By the tracepoints of tracefs; `cpus` are those online.
pub fn by_tracefs(maps: &Maps, cpus: &[u32], wants: Wants) -> Result<Loaded, Error> {
    let tracefs = TraceFs::open()?;
    let btf = Btf::of_kernel();
    let attach = |template: &'static Template<'static>, extras: Extras<'_>| {
        let tracepoint = tracefs.event(template.group, template.event)?;
        let program = Program::load(template, Target::Record(&tracepoint), maps, extras)?;
        let attached = tracepoint.attach(program.as_fd(), cpus)?;
        Ok((program, attached))
    };
    let count_runs = wants.count_passes || !passes::kernel_counts();
    let mut loaded = all(&attach, RECORD, btf.as_ref(), maps, wants, count_runs)?;
    loaded.reset_reasons = tracefs.symbols("tcp", "tcp_send_reset", "reason");
    if let (true, Ok(btf)) = (loaded.reset_reasons.is_empty(), &btf) {
        loaded.reset_reasons = btf.reset_reasons();
    }
    if loaded
        .absent
        .iter()
        .any(|(part, _)| *part == Part::Counters)
    {
        let bare = Extras {
            count_runs,
            ..Extras::NONE
        };
        if let Ok(program) = attach(&programs::DESTROY, bare) {
            loaded.push(program);
            loaded.destroys = true;
        }
    }
    if count_runs {
        let programs = loaded.programs.iter();
        let counting: Vec<&str> = programs.filter_map(Program::counts_runs_on).collect();
        match Passes::count(maps, &counting) {
            Ok(passes) => loaded.passes = Some(passes),
            Err(why) => loaded.absent.push((Part::Skips, why)),
        }
    }
    Ok(loaded)
}

/// By BTF.
pub fn by_btf(maps: &Maps, wants: Wants) -> Result<Loaded, Error> {
    let btf = Btf::of_kernel()?;
    let attach = |template: &'static Template<'static>, extras: Extras<'_>| {
        to_arguments(&btf, template, maps, extras)
    };
    let mut loaded = all(&attach, ARGUMENTS, Ok(&btf), maps, wants, false)?;
    loaded.reset_reasons = btf.reset_reasons();
    Ok(loaded)
}

/// Loads a program for a tracepoint's arguments and attaches it.
fn to_arguments(
    btf: &Btf,
    template: &'static Template<'static>,
    maps: &Maps,
    extras: Extras<'_>,
) -> Result<(Program, Attached), Error> {
    let what = format!("{}:{}", template.group, template.event);
    let tracepoint = btf.tracepoint(template.event).ok_or_else(|| {
        Error::new(
            Kind::Unsupported,
            format!("the BTF of this kernel has no tracepoint {what}"),
        )
        .advise("it needs Linux 5.9 or later")
    })?;
    let program = Program::load(template, Target::Arguments(&tracepoint), maps, extras)?;
    let attached = program.attach(&what)?;
    Ok((program, attached))
}

fn all(
    attach: &Attach<'_>,
    which: usize,
    btf: Result<&Btf, &Error>,
    maps: &Maps,
    wants: Wants,
    count_runs: bool,
) -> Result<Loaded, Error> {
    // What the verifier does not take costs detail, not the run.
    let mut mixes = [(btf.ok(), true), (None, true), (None, false)].into_iter();
    let mut refused = None;
    let (extras, first) = loop {
        let Some((members, cgroup)) = mixes.next() else {
            let none = || Error::new(Kind::Refused, "no program can be loaded");
            return Err(refused.unwrap_or_else(none));
        };
        let extras = Extras {
            members,
            cgroup,
            lock: !wants.owner_by_transitions,
            leaders: which == RECORD,
            count_runs,
        };
        match attach(REQUIRED[0][which], extras) {
            Ok(first) => break (extras, first),
            Err(why) if why.kind() == Kind::Refused => refused = refused.or(Some(why)),
            Err(why) => return Err(refused.unwrap_or(why)),
        }
    };
    let mut loaded = Loaded {
        known: first.0.known(),
        ..Loaded::default()
    };
    loaded.push(first);
    for pair in &REQUIRED[1..] {
        loaded.push(attach(pair[which], extras)?);
    }
    for (part, pair) in OPTIONAL {
        match attach(pair[which], extras) {
            Ok(program) => loaded.push(program),
            Err(why) => loaded.absent.push((part, why)),
        }
    }
    let why = refused.as_ref().or(btf.err());
    let unseen = match (extras.members, why) {
        _ if !wants.accepts => None,
        (Some(btf), _) => match accepts(btf, maps, extras) {
            Ok((program, attached)) => {
                loaded.programs.push(program);
                loaded.accepts = Some(attached);
                None
            }
            Err(why) => Some(why),
        },
        (None, why) => why.cloned(),
    };
    if wants.reads {
        match reads(attach, which, maps, extras) {
            Ok(program) => {
                loaded.push(program);
                loaded.reads = true;
            }
            Err(why) => loaded.absent.push((Part::Reads, why)),
        }
    }
    loaded.absent.extend(unseen.map(|why| {
        let so = match loaded.reads {
            true => FROM_THE_FIRST_READ,
            false => BY_ACCEPT_OWNER,
        };
        let why = match why.is_limit() {
            true => why,
            false => Error::new(why.kind(), why.why()).advise(so),
        };
        (Part::Accepts, why)
    }));
    loaded.untold(wants, why);
    Ok(loaded)
}

/// The program at the return of inet_csk_accept(). Whether a host takes it only
/// the host knows: it needs function tracing, and on some that refuse it the
/// tracepoints' programs work all the same.
fn accepts(btf: &Btf, maps: &Maps, extras: Extras<'_>) -> Result<(Program, Attached), Error> {
    let template = &programs::ACCEPT;
    let what = format!("the return of {}", template.event);
    let attach = || {
        let function = btf.function(template.event).ok_or_else(|| {
            let message = format!("the BTF of this kernel has no function {}", template.event);
            Error::new(Kind::Unsupported, message)
        })?;
        let program = Program::load(template, Target::Return(&function), maps, extras)?;
        let attached = program.attach(&what)?;
        Ok((program, attached))
    };
    attach()
}

/// The program of first reads. It is cheapest by the tracepoint's arguments, which
/// is taken by tracefs, too, where the socket's lock tells who reads.
fn reads(
    attach: &Attach<'_>,
    which: usize,
    maps: &Maps,
    extras: Extras<'_>,
) -> Result<(Program, Attached), Error> {
    let by_arguments = match extras.members {
        Some(btf) if which == RECORD && extras.lock => {
            to_arguments(btf, READS[ARGUMENTS], maps, extras)
        }
        _ => return attach(READS[which], extras),
    };
    match by_arguments {
        Err(why) if !why.is_limit() => attach(READS[which], extras),
        result => result,
    }
}

/// Why a host goes without a part that the records of its tracepoints lack.
pub fn too_old(part: Part) -> Error {
    let (what, version) = match part {
        Part::ResetReasons => ("why a reset was sent", "6.10"),
        _ => ("which retransmissions failed", "6.17"),
    };
    let what = format!("this kernel does not tell {what}");
    Error::new(Kind::Unsupported, what).advise(format!("it takes Linux {version} or later"))
}

impl Loaded {
    fn push(&mut self, (program, attached): (Program, Attached)) {
        self.programs.push(program);
        self.attached.push(attached);
    }

    /// Runs that the kernel left out.
    pub fn skipped(&self, tally: &Tally) -> u64 {
        let counted = self.passes.as_ref().map_or(0, |p| p.skipped(tally));
        // A kernel that can't tell has told of none.
        let told = self.told_by_kernel().map(|told| told.unwrap_or(0));
        counted + told.sum::<u64>()
    }

    /// Whether [`Loaded::skipped`] may still ask what it has to.
    pub fn may_ask(&self) -> sys::Result<()> {
        self.told_by_kernel().try_for_each(|told| told.map(drop))
    }

    /// What the kernel itself counts.
    fn told_by_kernel(&self) -> impl Iterator<Item = sys::Result<u64>> + '_ {
        // A kernel that leaves the counting to us tells nothing.
        let programs = match &self.passes {
            Some(_) => &[],
            None => self.programs.as_slice(),
        };
        programs.iter().map(Program::recursion_misses)
    }

    /// Detaches all but the program of accepts.
    pub fn detach(&mut self, tally: &Tally) {
        if let Some(passes) = &mut self.passes {
            passes.stop(tally);
        }
        self.attached.clear();
    }

    /// Notes what the programs that are loaded can't tell. `why` is the reason
    /// that no member of a kernel structure is read, if there is one.
    fn untold(&mut self, wants: Wants, why: Option<&Error>) {
        // By either way, see bpf-asm/.
        let lacks = |names: [&str; 2]| {
            let mut programs = self.programs.iter();
            programs.any(|p| names.iter().any(|name| p.is_without(name)))
        };
        let mut absent = Vec::new();
        if lacks(["err", "arg2.int"]) {
            let part = Part::FailedRetransmissions;
            absent.push((part, too_old(part)));
        }
        let sent = self
            .absent
            .iter()
            .all(|(part, _)| *part != Part::ResetsSent);
        if sent && lacks(["reason", "arg2.enum"]) {
            absent.push((Part::ResetReasons, too_old(Part::ResetReasons)));
        }
        let counters = Known::BYTES_SENT
            | Known::BYTES_RECEIVED
            | Known::SEGMENTS_SENT
            | Known::SEGMENTS_RECEIVED
            | Known::RTT
            | Known::MIN_RTT;
        for (part, known, what) in [
            (Part::OwnerByLock, Known::LOCK, "sock.sk_lock.owned"),
            (Part::Netns, Known::NETNS, "the network namespace of a sock"),
            (Part::Parent, Known::PARENT, "task_struct.real_parent"),
            (Part::SocketError, Known::ERROR, "sock.sk_err"),
            (Part::Counters, counters, "all counters of tcp_sock"),
        ] {
            if self.known.contains(known) || part == Part::OwnerByLock && wants.owner_by_transitions
            {
                continue;
            }
            let error = match why {
                Some(why) => why.clone(),
                None => Error::new(
                    Kind::Unsupported,
                    format!("the BTF of this kernel does not tell where to find {what}"),
                ),
            };
            absent.push((part, error));
        }
        if !self.known.contains(Known::CGROUP) {
            let what = "this kernel knows no cgroups (CONFIG_CGROUPS)";
            absent.push((Part::Cgroup, Error::new(Kind::Unsupported, what)));
        }
        self.absent.append(&mut absent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Errno;

    #[test]
    fn only_limits_are_said_and_each_once() {
        let error = |why: &str| Error::new(Kind::Runtime, why);
        let all = [
            (Part::SynAcks, error("a").or_limit(Errno::EMFILE)),
            (Part::Netns, error("this kernel has none")),
            (Part::ResetsSent, error("b").or_limit(Errno::EMFILE)),
            (Part::Accepts, error("c").or_limit(Errno::ENOMEM)),
            (Part::Reads, error("d").or_limit(Errno::EPERM)),
        ];
        let said = short_of(&all);
        let [files, memory] = &said[..] else {
            panic!("{said:?}");
        };
        let start = "warning: going on without retransmitted SYN+ACKs, resets sent: a; raise";
        assert!(files.starts_with(start), "{files}");
        assert!(
            memory.starts_with("warning: going on without who accepts: c; "),
            "{memory}"
        );
    }
}
