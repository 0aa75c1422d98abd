//! Programs and maps in the kernel: fill a template for this host, load it.
//!
//! Contract: a load is tried without the verifier's log first; only a refusal
//! is repeated with it, and its decisive line becomes part of the error.

use crate::bpf_link::{HIDDEN, Host, HostField, Template, is_member};
use crate::btf::{Btf, BtfTracepoint};
use crate::error::{Error, Kind};
use crate::event::Known;
use crate::perf::{Ring, Rings};
use crate::sys::bpf::{self, Map, MapType, ProgType, Update};
use crate::sys::caps::{self, Caps};
use crate::sys::{self, Errno};
use crate::tracepoint::{Attached, Tracepoint};
use crate::wire::OWNER_LEN;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The verifier's log is tried with this size first, then doubled.
const LOG_FIRST: usize = 64 * 1024;
/// The largest log that the kernels before 5.2 accept, in bytes.
const LOG_LAST: usize = (16 << 20) - 1;
/// Tries of a load that is interrupted (`EAGAIN`, kernel/bpf/verifier.c:
/// a pending signal).
const TRIES: u32 = 10;

/// Sockets whose owner is remembered. 48 bytes each and as many for the hash,
/// preallocated by the kernel.
const OWNERS: u32 = 65536;
/// Addresses with listeners that are remembered.
const LISTENERS: u32 = 8192;
/// A key of the map `listeners`, in bytes; see bpf-asm/owner.inc.
const LISTENER_KEY: usize = 24;
/// Its value, in bytes.
const LISTENER_LEN: usize = OWNER_LEN + 8;
/// The value of the map `lost`, in bytes.
const LOST_LEN: usize = 24;

/// The maps that the programs share.
#[derive(Debug)]
pub struct Maps {
    events: Map,
    lost: Map,
    owners: Map,
    listeners: Map,
    cpu_ids: usize,
}

/// Events that one CPU's programs could not send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// The ring was full (ENOSPC). Kernels before 5.2 do not tell.
    pub ring_full: u64,
    /// Any other reason.
    pub other: u64,
    /// Not events: owners that found no room in the map `owners`.
    pub owners: u64,
}

/// Checks the capabilities before anything else is tried, so that the error
/// names them all. `tracefs` says whether its files must be readable.
pub fn check_capabilities(tracefs: bool) -> Result<(), Error> {
    let Ok(have) = caps::effective() else {
        return Ok(());
    };
    let load = have.contains(Caps::SYS_ADMIN) || have.contains(Caps::BPF | Caps::PERFMON);
    let read = have.intersects(Caps::DAC_READ_SEARCH | Caps::DAC_OVERRIDE)
        || nix::unistd::geteuid().is_root();
    let missing = match (load, read) {
        (true, true) => return Ok(()),
        (true, false) if !tracefs => return Ok(()),
        (false, true) => "CAP_BPF and CAP_PERFMON",
        (true, false) => "CAP_DAC_READ_SEARCH",
        (false, false) => "CAP_BPF, CAP_PERFMON and CAP_DAC_READ_SEARCH",
    };
    Err(Error::new(
        Kind::Permission,
        format!(
            "not permitted to trace: {missing} missing; run as root (sudo), \
             or give those capabilities (before Linux 5.8: CAP_SYS_ADMIN)"
        ),
    ))
}

/// Runs what may be short of locked memory: kernels before 5.11 charge maps and
/// programs to RLIMIT_MEMLOCK and answer EPERM.
fn with_memlock<T>(mut action: impl FnMut() -> sys::Result<T>) -> sys::Result<T> {
    match action() {
        Err(Errno::EPERM) => {
            setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
                .map_err(|_| Errno::EPERM)?;
            action()
        }
        result => result,
    }
}

fn bpf_error(what: &str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM => Error::new(
            Kind::Permission,
            format!(
                "cannot {what} (bpf: {errno}): a capability of the initial user namespace is \
                 missing, locked memory is limited (ulimit -l), or lockdown forbids it"
            ),
        ),
        Errno::ENOSYS => Error::new(
            Kind::Unsupported,
            "this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)",
        ),
        _ => Error::new(Kind::Unsupported, format!("cannot {what} (bpf: {errno})")),
    }
}

impl Maps {
    /// Creates the maps and connects the rings.
    pub fn create(rings: &Rings) -> Result<Maps, Error> {
        let cpu_ids = rings.cpu_ids();
        let create = |kind, name, sizes, entries| {
            with_memlock(|| Map::create(kind, name, sizes, entries, cpu_ids as usize))
                .map_err(|errno| bpf_error(&format!("create the map {name}"), errno))
        };
        let listener = (LISTENER_KEY as u32, LISTENER_LEN as u32);
        let maps = Maps {
            events: create(MapType::PerfEventArray, "events", (4, 4), cpu_ids)?,
            lost: create(MapType::PerCpuArray, "lost", (4, LOST_LEN as u32), 1)?,
            owners: create(MapType::Hash, "owners", (8, OWNER_LEN as u32), OWNERS)?,
            listeners: create(MapType::Hash, "listeners", listener, LISTENERS)?,
            cpu_ids: cpu_ids as usize,
        };
        for ring in rings.iter() {
            maps.connect(ring)
                .map_err(|errno| bpf_error(&format!("connect CPU {}", ring.cpu()), errno))?;
        }
        Ok(maps)
    }

    /// Tells the programs the ring of a CPU.
    pub fn connect(&self, ring: &Ring) -> sys::Result<()> {
        let fd = ring.as_fd().as_raw_fd().to_ne_bytes();
        let cpu = ring.cpu().to_ne_bytes();
        self.events.update(&cpu, &fd, Update::Any)
    }

    /// Whether the counters of [`Maps::unsent`] can be read.
    pub fn readable(&self) -> sys::Result<()> {
        self.lost.lookup(&[0; 4], &mut vec![0; self.cpu_ids * 16])
    }

    /// What each possible CPU's programs could not send so far.
    pub fn unsent(&self) -> Vec<Unsent> {
        let mut bytes = vec![0; self.cpu_ids * LOST_LEN];
        if self.lost.lookup(&[0; 4], &mut bytes).is_err() {
            return Vec::new();
        }
        let number = |b: &[u8]| b.try_into().map_or(0, u64::from_ne_bytes);
        bytes
            .chunks_exact(LOST_LEN)
            .map(|numbers| Unsent {
                ring_full: number(&numbers[..8]),
                other: number(&numbers[8..16]),
                owners: number(&numbers[16..]),
            })
            .collect()
    }
}

/// What a program is loaded for.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A tracepoint's record, as tracefs describes it.
    Record(&'a Tracepoint),
    /// A tracepoint's arguments, as BTF describes them.
    Arguments(&'a BtfTracepoint<'a>),
}

impl Target<'_> {
    fn prog_type(&self) -> ProgType {
        match self {
            Target::Record(_) => ProgType::Tracepoint,
            Target::Arguments(tracepoint) => ProgType::Tracing {
                attach_type: bpf::TRACE_RAW_TP,
                btf_id: tracepoint.id,
            },
        }
    }
}

/// What a program may use beyond the tracepoint itself.
#[derive(Clone, Copy, Debug)]
pub struct Extras<'a> {
    /// The members of kernel structures, where BTF tells their places.
    pub members: Option<&'a Btf>,
    /// The helper bpf_get_current_cgroup_id (CONFIG_CGROUPS).
    pub cgroup: bool,
}

/// What a template needs to know of this host.
struct ThisHost<'a> {
    target: Target<'a>,
    maps: &'a Maps,
    extras: Extras<'a>,
}

impl ThisHost<'_> {
    /// A member of a kernel structure, or a helper as `helper.NAME`.
    fn member(&self, name: &str) -> Option<HostField> {
        if let Some(helper) = name.strip_prefix("helper.") {
            let has = helper == "cgroup_id" && self.extras.cgroup;
            return has.then_some(HostField { offset: 0, size: 8 });
        }
        let btf = self.extras.members?;
        // By BTF alone a task can be looked at only through this helper (5.11).
        let reachable = !name.starts_with("task_struct.")
            || matches!(self.target, Target::Record(_))
            || btf.has_enumerator("bpf_func_id", "BPF_FUNC_get_current_task_btf");
        reachable.then(|| btf.field(name))?
    }
}

impl Host for ThisHost<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        match self.target {
            Target::Arguments(tracepoint) if name.starts_with("arg") => tracepoint.field(name),
            _ if is_member(name) => self.member(name),
            Target::Record(tracepoint) => tracepoint.format.host_field(name),
            Target::Arguments(_) => None,
        }
    }

    fn loads_members(&self) -> bool {
        matches!(self.target, Target::Arguments(_))
    }

    fn hidden(&self) -> u16 {
        match self.target {
            Target::Record(_) => HIDDEN,
            Target::Arguments(_) => 0,
        }
    }

    fn map_fd(&self, name: &str) -> Option<i32> {
        let map = match name {
            "events" => &self.maps.events,
            "lost" => &self.maps.lost,
            "owners" => &self.maps.owners,
            "listeners" => &self.maps.listeners,
            _ => return None,
        };
        Some(map.as_fd().as_raw_fd())
    }
}

/// A loaded program; unloaded when dropped, unless something still uses it.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    known: Known,
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Program {
    /// Completes a template for this host's tracepoint and loads it.
    pub fn load(
        template: &Template<'_>,
        target: Target<'_>,
        maps: &Maps,
        extras: Extras<'_>,
    ) -> Result<Program, Error> {
        let host = ThisHost {
            target,
            maps,
            extras,
        };
        let known = known(template, &host);
        let insns = template.link(&host).map_err(|e| {
            let on = format!("{}:{}", template.group, template.event);
            Error::new(
                Kind::Unsupported,
                format!("cannot use tracepoint {on} of this kernel: {e}"),
            )
        })?;
        let insns: Vec<u64> = insns.into_iter().map(|i| i.encode()).collect();
        let license = CString::new(template.license).unwrap_or_default();
        let name = template.name;
        let prog_type = target.prog_type();
        let load = |mut log: Option<&mut [u8]>| {
            let mut tries = 0;
            loop {
                let log = log.as_deref_mut();
                match bpf::prog_load(prog_type, name, &insns, &license, log) {
                    Err(Errno::EAGAIN) if tries < TRIES => tries += 1,
                    result => return result,
                }
            }
        };
        match with_memlock(|| load(None)) {
            Ok(fd) => Ok(Program { fd, known }),
            Err(errno @ (Errno::EPERM | Errno::ENOSYS)) => {
                Err(bpf_error(&format!("load the program {name}"), errno))
            }
            Err(errno) => {
                let mut size = LOG_FIRST;
                let log = loop {
                    let mut log = vec![0; size];
                    match load(Some(&mut log)) {
                        Ok(fd) => return Ok(Program { fd, known }),
                        Err(Errno::ENOSPC) if size < LOG_LAST => size = (size * 2).min(LOG_LAST),
                        Err(_) => break log,
                    }
                };
                Err(Error::new(
                    Kind::Refused,
                    format!(
                        "the kernel refused the program {name} (bpf: {errno}): {}; please report this kernel",
                        verifier_line(&log)
                    ),
                ))
            }
        }
    }

    /// What it reads beyond what every host has.
    pub fn known(&self) -> Known {
        self.known
    }

    /// Attaches a program that was loaded for a tracepoint's arguments; `what`
    /// is the tracepoint, for the error.
    pub fn attach(&self, what: &str) -> Result<Attached, Error> {
        let attached = bpf::raw_tracepoint_open(self.fd.as_fd());
        attached
            .map(Attached::from)
            .map_err(|errno| bpf_error(&format!("attach to {what} by BTF"), errno))
    }

    /// Runs that the kernel skipped.
    pub fn recursion_misses(&self) -> u64 {
        // A kernel that can't tell has told of none.
        bpf::recursion_misses(self.fd.as_fd()).unwrap_or(0)
    }
}

/// What must be there for each part of an event; see bpf-asm/.
const PARTS: [(Known, &[&str]); 11] = [
    (Known::LOCK, &["sock.sk_lock.owned"]),
    (
        Known::NETNS,
        &["sock.__sk_common.skc_net.net", "net.ns.inum"],
    ),
    (
        Known::PARENT,
        &["task_struct.real_parent", "task_struct.tgid"],
    ),
    (Known::CGROUP, &["helper.cgroup_id"]),
    (Known::ERROR, &["sock.sk_err"]),
    (
        Known::BYTES_SENT,
        &["tcp_sock.bytes_sent", "tcp_sock.bytes_retrans"],
    ),
    (
        Known::BYTES_RECEIVED,
        &["tcp_sock.bytes_received", "sock.sk_flags"],
    ),
    (Known::SEGMENTS_SENT, &["tcp_sock.segs_out"]),
    (Known::SEGMENTS_RECEIVED, &["tcp_sock.segs_in"]),
    (Known::RTT, &["tcp_sock.srtt_us"]),
    (Known::MIN_RTT, &["tcp_sock.rtt_min.s.v"]),
];

fn known(template: &Template<'_>, host: &dyn Host) -> Known {
    let has = |name: &&str| {
        let field = template.fields.iter().find(|field| field.name == *name);
        field.is_some_and(|field| {
            let found = host.field(name);
            found.is_some_and(|found| field.widths.contains(&found.size))
        })
    };
    let parts = PARTS.iter().filter(|(_, names)| names.iter().all(has));
    parts.fold(Known::empty(), |all, (part, _)| all | *part)
}

/// The line of a verifier's log that says what is wrong: the last one before
/// the statistics that is neither an instruction nor a dump of registers, with
/// the instruction it is about.
pub fn verifier_line(log: &[u8]) -> String {
    let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let mut instruction = "";
    let mut reason = "";
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with("processed ") {
            continue;
        }
        if is_instruction(line) {
            instruction = line;
            reason = "";
        } else if !is_chatter(line) {
            reason = line;
        }
    }
    let escape = crate::text::printable;
    match (instruction, reason) {
        ("", "") => "the verifier gave no reason".into(),
        (at, "") => format!("at {}", escape(at)),
        ("", reason) => escape(reason),
        (at, reason) => format!("{} (at {})", escape(reason), escape(at)),
    }
}

/// `12: (61) r2 = *(u32 *)(r1 +8)`
fn is_instruction(line: &str) -> bool {
    line.split_once(": (")
        .is_some_and(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()))
}

/// Lines that say where the verifier is, not what it found.
fn is_chatter(line: &str) -> bool {
    const STARTS: [&str; 12] = [
        "verification time",
        "stack depth",
        "from ",
        "; ",
        "R0",
        "R1=",
        "R6",
        "frame",
        "last_idx",
        "regs=",
        "parent ",
        "func#",
    ];
    let registers = |rest: &str| rest.starts_with("R") && rest.contains('=');
    STARTS.iter().any(|start| line.starts_with(start))
        && !line.contains(" invalid ")
        && !line.contains(" !")
        || line
            .split_once(": ")
            .is_some_and(|(n, rest)| n.bytes().all(|b| b.is_ascii_digit()) && registers(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_reason_in_one_line() {
        let log = b"func#0 @0\n0: R1=ctx() R10=fp0\n0: (61) r2 = *(u32 *)(r1 +0)\n\
            invalid bpf_context access off=0 size=4\n\
            processed 1 insns (limit 1000000) max_states_per_insn 0\n\0junk";
        assert_eq!(
            verifier_line(log),
            "invalid bpf_context access off=0 size=4 (at 0: (61) r2 = *(u32 *)(r1 +0))"
        );
        assert_eq!(verifier_line(b"\0"), "the verifier gave no reason");
        let log = b"0: (95) exit\nR0 !read_ok\nprocessed 1 insns\n";
        assert_eq!(verifier_line(log), "R0 !read_ok (at 0: (95) exit)");
        assert_eq!(verifier_line(b"unreachable insn 5\n"), "unreachable insn 5");
    }
}
