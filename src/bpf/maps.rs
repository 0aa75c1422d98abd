//! The maps that the programs share, and how a refusal by bpf(2) is told.
//!
//! Contract: layouts of keys and values stand in bpf-asm/; nothing is pinned.

use crate::bpf::tally::Tally;
use crate::bpf::wire::OWNER_LEN;
use crate::error::{Error, Kind};
use crate::model::event::Owner;
use crate::model::tcp::Endpoint;
use crate::perf::{Ring, Rings};
use crate::sys::bpf::{Map, MapType, Update};
use crate::sys::{self, Errno, caps, memory};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// Sockets whose owner is remembered, at most. 56 bytes each and about as many
/// for the hash, preallocated by the kernel.
const OWNERS: u32 = 65536;
/// One for so many bytes of memory: the map takes no more than 1.5 % of it.
const MEMORY_PER_OWNER: u64 = 8192;
/// Addresses with listeners that are remembered, at most.
pub const LISTENERS: u32 = 8192;
/// One for so many owners.
const OWNERS_PER_LISTENER: u32 = OWNERS / LISTENERS;
/// A key of the map `listeners`, in bytes; see bpf-asm/owner.inc.
pub const LISTENER_KEY: usize = 32;
/// An owner in the maps, in bytes: behind it stands the address of its process's
/// first thread, which only the programs know.
const KEPT_LEN: usize = OWNER_LEN + 8;
/// A value of the map `listeners`, in bytes.
const LISTENER_LEN: usize = KEPT_LEN + 8;

/// The maps that the programs share.
#[derive(Debug)]
pub struct Maps {
    events: Map,
    lost: Tally,
    owners: Map,
    listeners: Map,
}

/// An address with listeners, as the map `listeners` knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The network namespace: an inode number, 0 where the programs know none.
    pub netns: u32,
    /// AF_INET or AF_INET6, of the socket.
    pub family: u16,
    /// Where it listens; the address may be unspecified.
    pub local: Endpoint,
    /// The network device it is bound to: its index, 0 for none, or where the
    /// programs know none.
    pub device: u32,
    /// The process that all of them belong to; `None` where it isn't known, or
    /// where they belong to several.
    pub owner: Option<Owner>,
    /// How many of them there are (SO_REUSEPORT).
    pub count: u32,
    /// Whether other processes have one of them, too.
    pub shared: bool,
}

impl Listener {
    /// Its key in the map.
    pub fn key(&self) -> [u8; LISTENER_KEY] {
        let address = match self.local.addr {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut key = [0; LISTENER_KEY];
        key[..4].copy_from_slice(&self.netns.to_le_bytes());
        key[4..6].copy_from_slice(&self.local.port.to_le_bytes());
        key[6..8].copy_from_slice(&self.family.to_le_bytes());
        key[8..24].copy_from_slice(&address.octets());
        key[24..28].copy_from_slice(&self.device.to_le_bytes());
        key
    }
}

/// A value of the map `listeners`.
#[derive(Clone, Copy, Debug)]
struct Listening([u8; LISTENER_LEN]);

impl Listening {
    fn word(&self, at: usize) -> u32 {
        let bytes = self.0[at..].first_chunk();
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn pid(&self) -> u32 {
        self.word(4)
    }

    fn count(&self) -> u32 {
        self.word(KEPT_LEN)
    }

    fn disagrees(&self) -> bool {
        self.word(KEPT_LEN + 4) != 0
    }

    fn set(&mut self, count: u32, disagree: bool) {
        self.0[KEPT_LEN..KEPT_LEN + 4].copy_from_slice(&count.to_le_bytes());
        self.0[KEPT_LEN + 4..].copy_from_slice(&u32::from(disagree).to_le_bytes());
    }
}

/// Runs what may be short of locked memory: kernels before 5.11 charge maps and
/// programs to RLIMIT_MEMLOCK and answer EPERM.
pub fn with_memlock<T>(mut action: impl FnMut() -> sys::Result<T>) -> sys::Result<T> {
    match action() {
        Err(Errno::EPERM) => {
            lift_memlock()?;
            action()
        }
        result => result,
    }
}

/// Takes the limit of locked memory away from this process.
pub fn lift_memlock() -> sys::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).map_err(|_| Errno::EPERM)
}

/// What a failed call of bpf(2) means to a person; `what` was to be done.
pub fn bpf_error(what: &str, errno: Errno) -> Error {
    let filtered = caps::is_filtered() == Ok(true);
    match errno {
        Errno::EPERM if filtered => Error::new(
            Kind::Permission,
            format!("cannot {what} (bpf: {errno}): a seccomp filter is in force, or a capability is missing"),
        )
        .advise("run it outside of the container or service that sets the filter"),
        Errno::EPERM => Error::new(
            Kind::Permission,
            format!(
                "cannot {what} (bpf: {errno}): a capability of the initial user namespace is \
                 missing, locked memory is limited (ulimit -l), or lockdown forbids it"
            ),
        ),
        Errno::ENOSYS if filtered => Error::new(
            Kind::Unsupported,
            "no bpf(2): this kernel has none (CONFIG_BPF_SYSCALL), or the seccomp filter in force hides it",
        ),
        Errno::ENOSYS => Error::new(
            Kind::Unsupported,
            "this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)",
        ),
        // A command, type, flag or way to attach that it does not know.
        Errno::EINVAL | Errno::E2BIG | Errno::ENOTSUPP => {
            Error::new(Kind::Unsupported, format!("cannot {what} (bpf: {errno})"))
        }
        _ => Error::new(Kind::Runtime, format!("cannot {what} (bpf: {errno})")).or_limit(errno),
    }
}

/// How many owners are remembered with so many bytes of memory.
fn owners_for(memory: u64) -> u32 {
    let most = u32::try_from(memory / MEMORY_PER_OWNER).unwrap_or(OWNERS);
    1 << most.clamp(1024, OWNERS).ilog2()
}

impl Maps {
    /// Creates the maps and connects the rings.
    pub fn create(rings: &Rings) -> Result<Maps, Error> {
        let cpu_ids = rings.cpu_ids();
        let failed = |name| move |errno| bpf_error(&format!("create the map {name}"), errno);
        let create = |kind, name, sizes, entries| {
            with_memlock(|| Map::create(kind, name, sizes, entries, 0)).map_err(failed(name))
        };
        let listener = (LISTENER_KEY as u32, LISTENER_LEN as u32);
        let owners = owners_for(memory::total());
        let listeners = owners / OWNERS_PER_LISTENER;
        let maps = Maps {
            events: create(MapType::PerfEventArray, "events", (4, 4), cpu_ids)?,
            lost: with_memlock(|| Tally::create("lost", cpu_ids)).map_err(failed("lost"))?,
            owners: create(MapType::Hash, "owners", (8, KEPT_LEN as u32), owners)?,
            listeners: create(MapType::Hash, "listeners", listener, listeners)?,
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

    /// The descriptor of the map of this name, for the programs.
    pub fn fd(&self, name: &str) -> Option<i32> {
        let fd = match name {
            "events" => self.events.as_fd(),
            "lost" => self.lost.as_fd(),
            "owners" => self.owners.as_fd(),
            "listeners" => self.listeners.as_fd(),
            _ => return None,
        };
        Some(fd.as_raw_fd())
    }

    /// What the programs count.
    pub fn tally(&self) -> &Tally {
        &self.lost
    }

    /// Tells the programs of listeners that were there before them. Where
    /// others came in between, the children of both are nobody's unless all are
    /// known to be of one process.
    pub fn add_listener(&self, listener: &Listener) -> sys::Result<()> {
        let key = listener.key();
        let mut value = Listening([0; LISTENER_LEN]);
        if let Some(owner) = listener.owner {
            value.0[..OWNER_LEN].copy_from_slice(&owner.encode(listener.netns));
        }
        value.set(listener.count, listener.owner.is_none());
        match self.listeners.update(&key, &value.0, Update::Add) {
            Err(Errno::EEXIST) => {}
            other => return other,
        }
        let mut there = Listening([0; LISTENER_LEN]);
        match self.listeners.lookup(&key, &mut there.0) {
            // It has gone again.
            Err(Errno::ENOENT) => return self.listeners.update(&key, &value.0, Update::Add),
            other => other?,
        }
        let alike = listener.owner.is_some() && there.pid() == value.pid();
        if there.disagrees() || (alike && there.count() >= listener.count) {
            return Ok(());
        }
        // A program may count at the same time, which would be lost here: the
        // worst of it is that children are nobody's.
        there.set(there.count().max(listener.count), true);
        match self.listeners.update(&key, &there.0, Update::Replace) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Takes back what [`Maps::add_listener`] told of a single listener, which
    /// had gone before the programs knew of it.
    pub fn forget_listener(&self, listener: &Listener) {
        let key = listener.key();
        let mut there = Listening([0; LISTENER_LEN]);
        let found = self.listeners.lookup(&key, &mut there.0);
        if found.is_ok() && there.count() <= 1 {
            // Where it has gone, there is nothing to take back.
            let _ = self.listeners.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::tally::tests::equ;

    #[test]
    fn owners_take_a_small_part_of_memory() {
        assert_eq!(owners_for(u64::MAX), OWNERS);
        assert_eq!(owners_for(512 << 20), OWNERS);
        assert_eq!(owners_for((512 << 20) - 1), OWNERS / 2);
        assert_eq!(owners_for(48 << 20), 4096);
        assert_eq!(owners_for(0), 1024);
    }

    /// The layouts stand in bpf-asm/, too.
    #[test]
    fn sizes_are_those_of_the_programs() {
        let all = concat!(
            include_str!("../../bpf-asm/event.inc"),
            include_str!("../../bpf-asm/owner.inc")
        );
        let equ = |name: &str| equ(all, name);
        assert_eq!(LISTENER_LEN, equ("LI_SIZE"));
        assert_eq!(OWNER_LEN, equ("OW_SIZE"));
        assert_eq!(KEPT_LEN, equ("OW_KEPT"));
        // The device is the last of the key, with as many bytes behind it.
        let device = all.lines().find(|line| line.starts_with(".equ LK_DEVICE"));
        assert!(device.is_some_and(|line| line.contains("LK + 24 ")));
        assert_eq!(LISTENER_KEY, 24 + 8);
    }
}
