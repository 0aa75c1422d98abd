//! The programs of each way to the events: loaded, attached, and what a host
//! lacks of them.
//!
//! Contract: state changes and retransmissions must be had; every other program,
//! and every member of a kernel structure, may be missing alone, which costs
//! detail and is told with its reason.

use crate::bpf::load::{Extras, Program, Target};
use crate::bpf::maps::Maps;
use crate::bpf::misses::{self, Misses};
use crate::bpf::tally::Tally;
use crate::bpf_link::Template;
use crate::btf::Btf;
use crate::capture::given::Given;
use crate::capture::mixes::first_taken;
use crate::error::{Error, Kind};
use crate::model::ability::Abilities;
use crate::programs::{self, Assembled, Name};
use crate::sys;
use crate::tracepoint::{Attached, TraceFs};
use std::cell::RefCell;
use std::os::fd::AsFd;

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
    /// What they give, and what they go without.
    pub given: Given,
    /// The names of the reasons of resets, where tracefs or BTF tells.
    pub reset_reasons: Vec<(u32, String)>,
    /// What counts the events that the kernel keeps from them, where it does not
    /// do so itself.
    pub misses: Option<Misses>,
    /// The numbers of their tracepoints, those of [`REQUIRED`] first; none where
    /// tracefs does not tell.
    pub ids: Vec<u32>,
}

/// A tracepoint's programs: by its record, and by its arguments.
pub type Pair = [Name; 2];

/// The programs that must be had.
pub const REQUIRED: [Pair; 2] = [
    [programs::STATE, programs::STATE_BTF],
    [programs::RETRANSMIT, programs::RETRANSMIT_BTF],
];

/// The programs that a run can do without.
pub const OPTIONAL: [(Abilities, Pair); 3] = [
    (Abilities::SYNACKS, [programs::SYNACK, programs::SYNACK_BTF]),
    (
        Abilities::RESETS_SENT,
        [programs::RESET_SENT, programs::RESET_SENT_BTF],
    ),
    (
        Abilities::RESETS_RECEIVED,
        [programs::RESET_RECEIVED, programs::RESET_RECEIVED_BTF],
    ),
];

/// The programs of first reads, of which a run does without, too.
pub const READS: Pair = [programs::RCV_SPACE, programs::RCV_SPACE_BTF];

/// What becomes of accepts that are not seen.
const FROM_THE_FIRST_READ: &str = "who accepted a connection is known from its first read on";
const BY_ACCEPT_OWNER: &str =
    "use --accept-owner: then who accepted a connection is known from its first read on";

/// Which program of a pair.
const RECORD: usize = 0;
const ARGUMENTS: usize = 1;

/// Loads and attaches one program.
type Attach<'a> = dyn Fn(Name, Extras<'_>) -> Result<(Program, Attached), Error> + 'a;

/// By the tracepoints of tracefs; `cpus` are those online.
pub fn by_tracefs(maps: &Maps, cpus: &[u32], wants: Abilities) -> Result<Loaded, Error> {
    let tracefs = TraceFs::open()?;
    let programs = Assembled::unpack()?;
    let btf = Btf::of_kernel(&programs);
    let ids = RefCell::new(Vec::new());
    let attach = |name, extras: Extras<'_>| {
        let template = programs.get(name)?;
        let tracepoint = tracefs.event(&template.group, &template.event)?;
        let program = Program::load(&template, Target::Record(&tracepoint), maps, extras)?;
        let attached = tracepoint.attach(program.as_fd(), cpus)?;
        ids.borrow_mut().push(tracepoint.id);
        Ok((program, attached))
    };
    let counts = match misses::kernel_counts() {
        true => wants & Abilities::MISSES,
        false => Abilities::MISSES,
    };
    let mut loaded = all(
        &programs,
        &attach,
        RECORD,
        btf.as_ref(),
        maps,
        (wants, counts),
    )?;
    loaded.reset_reasons = tracefs.symbols("tcp", "tcp_send_reset", "reason");
    if let (true, Ok(btf)) = (loaded.reset_reasons.is_empty(), &btf) {
        loaded.reset_reasons = btf.reset_reasons();
    }
    if !loaded.given.has(Abilities::COUNTERS) {
        let bare = Extras {
            members: None,
            may: counts,
        };
        match attach(programs::DESTROY, bare) {
            Ok(program) => {
                loaded.push(program);
                loaded.given.gain(Abilities::DESTROYS);
            }
            Err(why) => loaded.given.no_counters(why),
        }
    }
    match counts.is_empty() {
        true => loaded.given.gain(Abilities::MISSES),
        false => {
            let counting = loaded.programs.iter();
            let counting: Vec<&str> = counting.filter_map(Program::counts_runs_on).collect();
            let count = programs.get(programs::COUNT);
            let misses = count.and_then(|count| Misses::count(&count, maps, &counting));
            let (misses, failed) = misses.map_or_else(|why| (None, Some(why)), |p| (Some(p), None));
            loaded.given.note(Abilities::MISSES, failed);
            loaded.misses = misses;
        }
    }
    loaded.ids = ids.take();
    Ok(loaded)
}

/// By BTF.
pub fn by_btf(maps: &Maps, wants: Abilities) -> Result<Loaded, Error> {
    let programs = Assembled::unpack()?;
    let btf = Btf::of_kernel(&programs)?;
    let attach = |name, extras: Extras<'_>| to_arguments(&btf, &programs.get(name)?, maps, extras);
    let mut loaded = all(
        &programs,
        &attach,
        ARGUMENTS,
        Ok(&btf),
        maps,
        (wants, Abilities::empty()),
    )?;
    loaded.given.gain(Abilities::MISSES);
    loaded.reset_reasons = btf.reset_reasons();
    Ok(loaded)
}

/// Loads a program for a tracepoint's arguments and attaches it.
fn to_arguments(
    btf: &Btf,
    template: &Template,
    maps: &Maps,
    extras: Extras<'_>,
) -> Result<(Program, Attached), Error> {
    let what = format!("{}:{}", template.group, template.event);
    let tracepoint = btf.tracepoint(&template.event).ok_or_else(|| {
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
    programs: &Assembled,
    attach: &Attach<'_>,
    which: usize,
    btf: Result<&Btf, &Error>,
    maps: &Maps,
    (wants, counts): (Abilities, Abilities),
) -> Result<Loaded, Error> {
    let mut may = counts | wants & (Abilities::LOCK | Abilities::ON_CPU | Abilities::HELD);
    if which == RECORD {
        may |= Abilities::USERS;
    }
    // Members by loads, then by the helper.
    let with = |may| {
        btf.ok().map(|btf| Extras {
            members: Some(btf),
            may,
        })
    };
    let loads = btf.is_ok_and(|btf| which == RECORD && btf.cast("sock").is_some());
    let mixes = [
        loads.then(|| with(may | Abilities::LOADS)).flatten(),
        with(may),
    ];
    let bare = Extras { members: None, may };
    let mixed = |with: Option<_>, cgroup| {
        let mut extras = with.unwrap_or(bare);
        extras.may |= cgroup;
        extras
    };
    let state = |with, cgroup| attach(REQUIRED[0][which], mixed(with, cgroup));
    let taken = first_taken(mixes.into_iter().flatten(), &state)?;
    let (extras, first) = (mixed(taken.members, taken.cgroup), taken.made);
    let mut loaded = Loaded::default();
    loaded.given.gain(first.0.reads());
    loaded.push(first);
    for pair in &REQUIRED[1..] {
        loaded.push(attach(pair[which], extras)?);
    }
    for (ability, pair) in OPTIONAL {
        match attach(pair[which], extras) {
            Ok(program) => {
                loaded.push(program);
                loaded.given.gain(ability);
            }
            Err(why) => loaded.given.lack(ability, why),
        }
    }
    let refused = taken.without_members.as_ref();
    let why = match extras.members {
        Some(_) => None,
        None => refused.or(btf.err()),
    };
    if let (Some(_), Some(refused)) = (extras.members, refused) {
        loaded.given.lack(Abilities::LOADS, refused.clone());
    }
    let unseen = match (extras.members, why) {
        _ if !wants.contains(Abilities::ACCEPTS) => None,
        (Some(btf), _) => match accepts(programs, btf, maps, extras) {
            Ok((program, attached)) => {
                loaded.programs.push(program);
                loaded.accepts = Some(attached);
                loaded.given.gain(Abilities::ACCEPTS);
                None
            }
            Err(why) => Some(why),
        },
        (None, why) => why.cloned(),
    };
    if wants.contains(Abilities::READS) {
        match reads(programs, attach, which, maps, extras) {
            Ok(program) => {
                loaded.push(program);
                loaded.given.gain(Abilities::READS);
            }
            Err(why) => loaded.given.lack(Abilities::READS, why),
        }
    }
    if let Some(why) = unseen {
        let so = match loaded.given.has(Abilities::READS) {
            true => FROM_THE_FIRST_READ,
            false => BY_ACCEPT_OWNER,
        };
        let why = match why.is_limit() {
            true => why,
            false => Error::new(why.kind(), why.why()).advise(so),
        };
        loaded.given.lack(Abilities::ACCEPTS, why);
    }
    loaded.untold(wants, why);
    if let Some(why) = taken.without_cgroup {
        loaded.given.lack(Abilities::CGROUP, why);
    }
    Ok(loaded)
}

/// The program at the return of inet_csk_accept(). Whether a host takes it only
/// the host knows: it needs function tracing, and on some that refuse it the
/// tracepoints' programs work all the same.
fn accepts(
    programs: &Assembled,
    btf: &Btf,
    maps: &Maps,
    extras: Extras<'_>,
) -> Result<(Program, Attached), Error> {
    let template = &programs.get(programs::ACCEPT)?;
    let what = format!("the return of {}", template.event);
    let attach = || {
        let function = btf.function(&template.event).ok_or_else(|| {
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
    programs: &Assembled,
    attach: &Attach<'_>,
    which: usize,
    maps: &Maps,
    extras: Extras<'_>,
) -> Result<(Program, Attached), Error> {
    let by_arguments = match extras.members {
        Some(btf) if which == RECORD && extras.may.contains(Abilities::LOCK) => {
            to_arguments(btf, &programs.get(READS[ARGUMENTS])?, maps, extras)
        }
        _ => return attach(READS[which], extras),
    };
    match by_arguments {
        Err(why) if !why.is_limit() => attach(READS[which], extras),
        result => result,
    }
}

/// Why a host goes without an ability that the records of its tracepoints lack.
pub fn too_old(ability: Abilities) -> Error {
    let (what, version) = match ability {
        Abilities::RESET_REASONS => ("why a reset was sent", "6.10"),
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
        let counted = self.misses.as_ref().map_or(0, |p| p.skipped(tally));
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
        let programs = match &self.misses {
            Some(_) => &[],
            None => self.programs.as_slice(),
        };
        programs.iter().map(Program::recursion_misses)
    }

    /// Detaches all but the program of accepts.
    pub fn detach(&mut self, tally: &Tally) {
        if let Some(misses) = &mut self.misses {
            misses.stop(tally);
        }
        self.attached.clear();
    }

    /// Notes what the programs that are loaded can't tell. `why` is the reason
    /// that no member of a kernel structure is read, if there is one.
    fn untold(&mut self, wants: Abilities, why: Option<&Error>) {
        // By either way, see bpf-asm/.
        let lacks = |names: [&str; 2]| {
            let mut programs = self.programs.iter();
            programs.any(|p| names.iter().any(|name| p.is_without(name)))
        };
        let old = |lacks: bool, ability| lacks.then(|| too_old(ability));
        let ability = Abilities::FAILED_RETRANSMISSIONS;
        let failed = old(lacks(["err", "arg2.int"]), ability);
        self.given.note(ability, failed);
        if self.given.has(Abilities::RESETS_SENT) {
            let ability = Abilities::RESET_REASONS;
            let failed = old(lacks(["reason", "arg2.enum"]), ability);
            self.given.note(ability, failed);
        }
        for (ability, what) in [
            (Abilities::LOCK, "sock.sk_lock.owned"),
            (Abilities::NETNS, "the network namespace of a sock"),
            (Abilities::PARENT, "task_struct.real_parent"),
            (Abilities::SOCKET_ERROR, "sock.sk_err"),
            (Abilities::COUNTERS, "all counters of tcp_sock"),
        ] {
            let wanted = ability != Abilities::LOCK || wants.contains(ability);
            if self.given.has(ability) || !wanted {
                continue;
            }
            let error = match why {
                Some(why) => why.clone(),
                None => Error::new(
                    Kind::Unsupported,
                    format!("the BTF of this kernel does not tell where to find {what}"),
                ),
            };
            self.given.lack(ability, error);
        }
    }
}
