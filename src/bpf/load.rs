//! Programs in the kernel: fill a template for this host, load it.
//!
//! Contract: a load is tried without the verifier's log first; only a refusal
//! is repeated with it, and its decisive line becomes part of the error.

pub(crate) mod door;
mod enter;
mod link;
mod verifier;

use crate::bpf::guard::Guard;
use crate::bpf::made::{bpf_error, with_memlock};
use crate::bpf::maps::Maps;
use crate::bpf_insn::{Alu, Insn, Operand};
use crate::bpf_link::{Cast, HIDDEN, Host, HostField, Linked, Template, is_member};
use crate::btf::{Btf, BtfFunction, BtfTracepoint};
use crate::error::{Error, Kind};
use crate::model::ability::Abilities;
use crate::sys;
use crate::sys::bpf::{self, ProgType};
use crate::sys::caps::{self, Caps};
use crate::tracepoint::{Attached, Tracepoint};
use door::Door;
use link::link;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What stands for [`Extras::count_runs`] in the programs.
const COUNTS_RUNS: &str = "helper.count_runs";

/// Checks the capabilities before anything else is tried, so that the error
/// names them all. `bpf` says whether programs are to be loaded, `tracefs`
/// whether its files must be readable; perf events are needed in any case.
pub(crate) fn check_capabilities(bpf: bool, tracefs: bool) -> Result<(), Error> {
    not_confined()?;
    let Ok(have) = caps::effective() else {
        return Ok(());
    };
    let has = |cap| have.contains(Caps::SYS_ADMIN) || have.contains(cap);
    let read = have.intersects(Caps::DAC_READ_SEARCH | Caps::DAC_OVERRIDE)
        || nix::unistd::geteuid().is_root();
    let mut missing = Vec::new();
    if bpf && !has(Caps::BPF) {
        missing.push("CAP_BPF");
    }
    if !has(Caps::PERFMON) {
        missing.push("CAP_PERFMON");
    }
    if tracefs && !read {
        missing.push("CAP_DAC_READ_SEARCH");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(Error::new(
        Kind::Permission,
        format!("not permitted to trace: {missing} missing"),
    )
    .advise("run as root (sudo), or give those capabilities (before Linux 5.8: CAP_SYS_ADMIN)"))
}

/// In a user namespace of its own, capabilities are there in name only: tracing
/// takes those of the first one (v6.12 kernel/bpf/syscall.c, bpf_token_capable;
/// kernel/events/core.c, perfmon_capable).
fn not_confined() -> Result<(), Error> {
    match caps::in_first_user_namespace() {
        Some(false) => Err(Error::new(
            Kind::Permission,
            "not permitted to trace: this is a user namespace of its own, whose root has no \
             rights over the host",
        )
        .advise(
            "start it outside of that namespace (of a rootless or remapped container, or unshare -U)",
        )),
        _ => Ok(()),
    }
}

/// Tries whether a program can be loaded at all, by one that does nothing; it
/// is gone again. Whether it became machine code is `None` where the kernel
/// doesn't tell.
pub(crate) fn try_load() -> Result<Option<bool>, Error> {
    let nothing = [Insn::alu(true, Alu::Mov, 0, Operand::Imm(0)), Insn::exit()].map(Insn::native);
    let load = || {
        bpf::prog_load(
            ProgType::Tracepoint,
            "probe",
            &nothing,
            c"Dual MIT/GPL",
            None,
            None,
        )
    };
    let prog = with_memlock(load).map_err(|errno| bpf_error("load a program", errno))?;
    Ok(bpf::is_jited(prog.as_fd()).ok())
}

/// What a program is loaded for.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A tracepoint's record, as tracefs describes it.
    Record(&'a Tracepoint),
    /// A tracepoint's arguments, as BTF describes them.
    Arguments(&'a BtfTracepoint<'a>),
    /// A function's arguments and what it returns, as BTF describes them.
    Return(&'a BtfFunction<'a>),
    /// Any raw tracepoint, whose arguments it does not look at.
    Every,
}

impl Target<'_> {
    /// What it is, and what a program for it takes; empty where all there is here
    /// has that.
    fn takes(&self) -> (&'static str, &'static str) {
        match self {
            Target::Record(_) => ("tracepoints", ""),
            Target::Every => ("raw tracepoints", "it takes Linux 4.17 or later"),
            Target::Arguments(_) | Target::Return(_) => {
                ("what BTF describes", "it takes Linux 5.5 or later")
            }
        }
    }

    fn enters_as(&self) -> enter::As {
        (self.prog_type(), self.takes())
    }

    fn prog_type(&self) -> ProgType {
        match self {
            Target::Record(_) => ProgType::Tracepoint,
            Target::Every => ProgType::RawTracepoint,
            Target::Arguments(tracepoint) => ProgType::Tracing {
                attach_type: bpf::TRACE_RAW_TP,
                btf_id: tracepoint.id,
            },
            Target::Return(function) => ProgType::Tracing {
                attach_type: bpf::TRACE_FEXIT,
                btf_id: function.id,
            },
        }
    }
}

/// The members by which an owner is told where transitions don't.
const BY_LOCK: [&str; 2] = ["sock.sk_lock.owned", "tcp_sock.tsorted_sent_queue.next"];

/// What a program may use beyond the tracepoint itself.
#[derive(Clone, Copy, Debug)]
pub struct Extras<'a> {
    /// The members of kernel structures, where BTF tells their places.
    pub members: Option<&'a Btf>,
    /// Of [`Abilities::CGROUP`], [`Abilities::LOCK`], [`Abilities::USERS`],
    /// [`Abilities::MISSES`], [`Abilities::ON_CPU`], [`Abilities::HELD`] and [`Abilities::LOADS`],
    /// what may be used.
    pub may: Abilities,
}

impl Extras<'_> {
    /// Nothing.
    pub const NONE: Extras<'static> = Extras {
        members: None,
        may: Abilities::empty(),
    };
}

/// What a template needs to know of a host.
pub(crate) struct Onto<'a> {
    /// What it is for.
    pub(crate) target: Target<'a>,
    /// What it may use.
    pub(crate) extras: Extras<'a>,
    /// The descriptors of the maps.
    pub(crate) maps: &'a dyn Fn(&str) -> Option<i32>,
    /// The user's filter, which the template has.
    pub(crate) guard: Option<&'a Guard>,
}

/// What stands for it in the programs.
const GUARD: &str = "helper.guard";

impl Target<'_> {
    /// Where a program for this target finds a field: in the record, among the
    /// arguments, or as a member of a kernel structure.
    pub fn find(&self, name: &str, extras: Extras<'_>) -> Option<HostField> {
        match self {
            Target::Arguments(tracepoint) if name.starts_with("arg") => tracepoint.field(name),
            Target::Return(function) if name.starts_with("ret.") || name.starts_with("arg") => {
                function.field(name)
            }
            _ if is_member(name) => self.member(name, extras),
            Target::Record(tracepoint) => tracepoint.format.host_field(name),
            Target::Arguments(_) | Target::Return(_) | Target::Every => None,
        }
    }

    /// A member of a kernel structure, or a helper as `helper.NAME`.
    fn member(&self, name: &str, extras: Extras<'_>) -> Option<HostField> {
        if let Some(helper) = name.strip_prefix("helper.") {
            let has = match helper {
                "cgroup_id" => extras.may.contains(Abilities::CGROUP),
                "loads" => {
                    extras.members.is_some()
                        && (extras.may.contains(Abilities::LOADS)
                            || !matches!(self, Target::Record(_)))
                }
                "leaders" => extras.may.contains(Abilities::USERS) && extras.members.is_some(),
                "cards" => extras.members.is_some() && !extras.may.contains(Abilities::ON_CPU),
                "room" => extras.may.contains(Abilities::HELD),
                "hold" => {
                    let on_cpu = extras.may.contains(Abilities::ON_CPU);
                    extras.members.is_some() && extras.may.contains(Abilities::HELD) && !on_cpu
                }
                "count_runs" => {
                    extras.may.contains(Abilities::MISSES) && matches!(self, Target::Record(_))
                }
                _ => false,
            };
            return has.then_some(HostField { offset: 0, size: 8 });
        }
        if BY_LOCK.contains(&name) && !extras.may.contains(Abilities::LOCK) {
            return None;
        }
        let btf = extras.members?;
        // By BTF alone a task can be looked at only through this helper (5.11).
        let reachable = !name.starts_with("task_struct.")
            || matches!(self, Target::Record(_))
            || btf.has_enumerator("bpf_func_id", "BPF_FUNC_get_current_task_btf");
        reachable.then(|| btf.field(name))?
    }
}

impl Onto<'_> {
    /// Completes a template for this, with the filter.
    pub(crate) fn link(&self, template: &mut Template) -> Result<Linked, Error> {
        link(self, self.guard, template)
    }
}

impl Host for Onto<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        if name == GUARD {
            let there = HostField { offset: 0, size: 8 };
            return self.guard.map(|_| there);
        }
        self.target.find(name, self.extras)
    }

    fn loads_members(&self) -> bool {
        !matches!(self.target, Target::Record(_))
    }

    fn cast(&self, structure: &str) -> Option<Cast> {
        let may = self.extras.may.contains(Abilities::LOADS);
        self.extras.members.filter(|_| may)?.cast(structure)
    }

    fn hidden(&self) -> u16 {
        match self.target {
            Target::Record(_) => HIDDEN,
            Target::Arguments(_) | Target::Return(_) | Target::Every => 0,
        }
    }

    fn map_fd(&self, name: &str) -> Option<i32> {
        (self.maps)(name)
    }
}

/// A loaded program; unloaded when dropped, unless something still uses it.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    /// What is attached in its place, where another one may take that.
    door: Option<Door>,
    reads: Abilities,
    without: Vec<String>,
    /// The tracepoint whose runs it counts, where it does.
    counts: Option<String>,
}

/// What is to be attached.
impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.door {
            Some(door) => door.as_fd(),
            None => self.fd.as_fd(),
        }
    }
}

impl Program {
    /// Completes a template for this host's tracepoint and loads it.
    pub fn load(
        template: &Template,
        target: Target<'_>,
        maps: &Maps,
        extras: Extras<'_>,
    ) -> Result<Program, Error> {
        let host = Onto {
            target,
            extras,
            maps: &|name| maps.fd(name),
            guard: maps.guard(),
        };
        let reads = reads(template, &host);
        let bare = template;
        let template = &mut bare.clone();
        let linked = host.link(template)?;
        let optional = template.fields.iter().filter(|field| field.optional);
        let without = optional
            .filter(|field| host.field(&field.name).is_none())
            .map(|field| field.name.clone())
            .collect();
        let counts = template.fields.iter().any(|f| f.name == COUNTS_RUNS)
            && host.field(COUNTS_RUNS).is_some();
        let fd = enter::load(target.enters_as(), template, &linked)?;
        let door = door::is_wanted(bare, maps.guard())
            .then(|| Door::before(bare, &host, target.enters_as(), fd.as_fd()));
        Ok(Program {
            fd,
            door: door.transpose()?,
            reads,
            without,
            counts: counts.then(|| template.event.clone()),
        })
    }

    /// What it reads beyond what every host has.
    pub fn reads(&self) -> Abilities {
        self.reads
    }

    /// Attaches a program that was loaded for what BTF describes; `what` is
    /// that, for the error.
    pub fn attach(&self, what: &str) -> Result<Attached, Error> {
        let attached = bpf::raw_tracepoint_open(self.as_fd(), None);
        attached
            .map(Attached::from)
            .map_err(|errno| bpf_error(&format!("attach to {what} by BTF"), errno))
    }

    /// Attaches a program for [`Target::Every`] to a tracepoint, also to more
    /// than one.
    pub fn attach_to(&self, tracepoint: &str) -> Result<Attached, Error> {
        let name = CString::new(tracepoint).unwrap_or_default();
        let attached = bpf::raw_tracepoint_open(self.fd.as_fd(), Some(&name));
        attached.map(Attached::from).map_err(|errno| {
            bpf_error(&format!("attach to the raw tracepoint {tracepoint}"), errno)
        })
    }

    /// One with the filter that the maps have now takes the place of this one, between
    /// two events, where it has a filter.
    pub(crate) fn renew(&mut self, maps: &Maps) -> Result<(), Error> {
        if let Some(door) = &self.door {
            self.fd = door.renew(maps)?;
        }
        Ok(())
    }

    /// Whether it does without this optional field of its template, which the
    /// host has not.
    pub fn is_without(&self, field: &str) -> bool {
        self.without.iter().any(|name| name == field)
    }

    /// The tracepoint whose runs it counts in the map `lost`, where it does.
    pub fn counts_runs_on(&self) -> Option<&str> {
        self.counts.as_deref()
    }

    /// Runs that the kernel skipped, as far as it counts them.
    pub fn recursion_misses(&self) -> sys::Result<u64> {
        bpf::recursion_misses(self.as_fd())
    }
}

/// What must be there for each part of an event, which may be told by several
/// mixes of members; see bpf-asm/.
pub(crate) const PARTS: [(Abilities, &[&str]); 22] = [
    (Abilities::LOADS, &["helper.loads"]),
    (Abilities::CARDS, &["helper.cards"]),
    (Abilities::HELD, &["helper.hold"]),
    (Abilities::LOCK, &["sock.sk_lock.owned"]),
    (
        Abilities::NETNS,
        &["sock.__sk_common.skc_net.net", "net.ns.inum"],
    ),
    (
        Abilities::PARENT,
        &["task_struct.real_parent", "task_struct.tgid"],
    ),
    (Abilities::CGROUP, &["helper.cgroup_id"]),
    (Abilities::SOCKET_ERROR, &["sock.sk_err"]),
    (
        Abilities::BYTES_SENT,
        &["tcp_sock.bytes_sent", "tcp_sock.bytes_retrans"],
    ),
    (
        Abilities::BYTES_RECEIVED,
        &["tcp_sock.bytes_received", "sock.__sk_common.skc_flags"],
    ),
    (Abilities::SEGMENTS_SENT, &["tcp_sock.segs_out"]),
    (Abilities::SEGMENTS_RECEIVED, &["tcp_sock.segs_in"]),
    (Abilities::RTT, &["tcp_sock.srtt_us"]),
    (Abilities::MIN_RTT, &["tcp_sock.rtt_min.s.v"]),
    (Abilities::SOCKET, &["sock.sk_socket"]),
    (
        Abilities::SENT,
        &[
            "tcp_sock.bytes_acked",
            "tcp_sock.snd_una",
            "tcp_sock.snd_nxt",
            "tcp_sock.write_seq",
        ],
    ),
    (Abilities::RETRANSMITS, &["tcp_sock.total_retrans"]),
    (
        Abilities::RESENDING,
        &[
            "tcp_sock.inet_conn.icsk_ca_state.bits",
            "tcp_sock.inet_conn.icsk_pending",
        ],
    ),
    (
        Abilities::USERS,
        &[
            "helper.leaders",
            "task_struct.tgid",
            "task_struct.real_cred",
            "cred.uid.val",
        ],
    ),
    (
        Abilities::TIME_WAIT,
        &[
            "sock.__sk_common.skc_net.net",
            "net.ipv4.tcp_death_row.tw_refcount.refs.counter",
            "net.ipv4.tcp_death_row.sysctl_max_tw_buckets",
        ],
    ),
    (
        Abilities::TIME_WAIT,
        &[
            "sock.__sk_common.skc_net.net",
            "net.ipv4.tcp_death_row.tw_count.counter",
            "net.ipv4.tcp_death_row.sysctl_max_tw_buckets",
        ],
    ),
    (
        Abilities::TIME_WAIT,
        &[
            "sock.__sk_common.skc_net.net",
            "net.ipv4.tcp_death_row",
            "inet_timewait_death_row.tw_refcount.refs.counter",
            "inet_timewait_death_row.sysctl_max_tw_buckets",
        ],
    ),
];

/// What a program reads of this.
pub(crate) fn reads(template: &Template, host: &dyn Host) -> Abilities {
    let has = |name: &&str| {
        let field = template.fields.iter().find(|field| field.name == *name);
        field.is_some_and(|field| {
            let found = host.field(name);
            found.is_some_and(|found| field.widths.contains(&found.size))
        })
    };
    let parts = PARTS.iter().filter(|(_, names)| names.iter().all(has));
    parts.fold(Abilities::empty(), |all, (part, _)| all | *part)
}
