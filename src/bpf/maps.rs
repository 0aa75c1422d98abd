//! The maps that the programs share.
//!
//! Contract: layouts of keys and values stand in bpf-asm/; nothing is pinned.

use crate::bpf::guard::Guard;
use crate::bpf::guarded::Guarded;
use crate::bpf::layout::*;
use crate::bpf::made::{Shape, bpf_error, with_memlock};
use crate::bpf::tally::Tally;
use crate::error::Error;
use crate::filter::tree::Expr;
use crate::model::ability::Abilities;
use crate::model::event::Owner;
use crate::model::tcp::Endpoint;
use crate::order::{Order, Value};
use crate::perf::{Ring, Rings};
use crate::sys::bpf::{Map, MapType, Update};
use crate::sys::{self, Errno, memory};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// Sockets that are remembered, at most. 112 bytes each (168 where changes of state are
/// held back) and about 56 for the hash, preallocated by the kernel.
pub(crate) const OWNERS: u32 = 65536;
/// One for so many bytes of memory: the map takes no more than 2.1 % of it (2.8 % where
/// changes of state are held back).
const MEMORY_PER_OWNER: u64 = 8192;
/// Addresses with listeners that are remembered, at most.
pub const LISTENERS: u32 = 8192;
/// One for so many owners.
const OWNERS_PER_LISTENER: u32 = OWNERS / LISTENERS;
/// The maps that the programs share.
#[derive(Debug)]
pub struct Maps {
    events: Map,
    lost: Tally,
    owners: Map,
    listeners: Map,
    guarded: Option<Guarded>,
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
    pub fn key(&self) -> [u8; LK_SIZE] {
        self.key_in(Order::NATIVE)
    }

    fn key_in(&self, order: Order) -> [u8; LK_SIZE] {
        let address = match self.local.addr {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut key = [0; LK_SIZE];
        LK_NETNS.put(&mut key, self.netns, order);
        LK_PORT.put(&mut key, self.local.port, order);
        LK_FAMILY.put(&mut key, self.family, order);
        LK_ADDRESS.put(&mut key, address.octets(), order);
        LK_DEVICE.put(&mut key, self.device, order);
        key
    }
}

/// A value of the map `listeners`.
#[derive(Clone, Copy, Debug)]
struct Listening {
    bytes: [u8; LI_SIZE],
    order: Order,
}

impl Listening {
    fn new(order: Order) -> Listening {
        Listening {
            bytes: [0; LI_SIZE],
            order,
        }
    }

    fn pid(&self) -> u32 {
        (OW_TASK.get(&self.bytes[LI_OWNER.at..], self.order) >> 32) as u32
    }

    fn count(&self) -> u32 {
        LI_COUNT.get(&self.bytes, self.order)
    }

    fn disagrees(&self) -> bool {
        LI_DISAGREE.get(&self.bytes, self.order) != 0
    }

    /// Sets the owner; the address of its process's first thread is known to the programs alone.
    fn set_owner(&mut self, owner: &Owner, netns: u32) {
        let owner = owner.encode(self.order, netns);
        owner.write(&mut self.bytes[LI_OWNER.at..], self.order);
    }

    fn set(&mut self, count: u32, disagree: bool) {
        LI_COUNT.put(&mut self.bytes, count, self.order);
        LI_DISAGREE.put(&mut self.bytes, disagree.into(), self.order);
    }
}

/// How many owners are remembered with so many bytes of memory.
fn owners_for(memory: u64) -> u32 {
    let most = u32::try_from(memory / MEMORY_PER_OWNER).unwrap_or(OWNERS);
    1 << most.clamp(1024, OWNERS).ilog2()
}

/// All of them, with so many possible CPUs and bytes of memory, for a run that wants
/// this.
pub(crate) fn shapes(cpus: u32, memory: u64, wants: Abilities) -> [Shape; 4] {
    let shape = |name, kind, sizes, entries| Shape {
        name,
        kind,
        sizes,
        entries,
    };
    let owners = owners_for(memory);
    let owner = match wants.contains(Abilities::HELD) {
        true => OW_HOLDS,
        false => OW_KEPT,
    };
    let listener = (LK_SIZE as u32, LI_SIZE as u32);
    let listeners = owners / OWNERS_PER_LISTENER;
    [
        shape("events", MapType::PerfEventArray, (4, 4), cpus),
        shape("lost", MapType::Array, (4, LOST_SIZE as u32), cpus),
        shape("owners", MapType::Hash, (8, owner as u32), owners),
        shape("listeners", MapType::Hash, listener, listeners),
    ]
}

impl Maps {
    /// Creates the maps and connects the rings, for a run that wants this; `guard` is
    /// the user's filter.
    pub fn create(rings: &Rings, guard: Option<Guard>, wants: Abilities) -> Result<Maps, Error> {
        let cpu_ids = rings.cpu_ids();
        let [events, lost, owners, listeners] = shapes(cpu_ids, memory::total(), wants);
        let failed =
            |of: Shape| move |errno| bpf_error(&format!("create the map {}", of.name), errno);
        let create = |of: Shape| {
            let create = || Map::create(of.kind, of.name, of.sizes, of.entries, 0);
            with_memlock(create).map_err(failed(of))
        };
        let maps = Maps {
            events: create(events)?,
            lost: with_memlock(|| Tally::create(lost.name, cpu_ids)).map_err(failed(lost))?,
            owners: create(owners)?,
            listeners: create(listeners)?,
            guarded: guard.map(Guarded::create).transpose()?,
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
            _ => self.guarded.as_ref()?.fd(name)?,
        };
        Some(fd.as_raw_fd())
    }

    /// The user's filter, for the programs.
    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.guarded.as_ref().map(Guarded::guard)
    }

    /// The user's filter and what is in force of it.
    pub(crate) fn guarded(&self) -> Option<&Guarded> {
        self.guarded.as_ref()
    }

    /// Another filter for the programs, which is not in force yet; whether there can be
    /// one while they run. It must do without maps of its own, for to fill them would
    /// keep the programs from running.
    pub(crate) fn renew_guard(&mut self, expr: &Expr) -> Result<bool, Error> {
        match &mut self.guarded {
            Some(guarded) if guarded.guard().is_renewable() => guarded.renew(expr).map(|()| true),
            _ => Ok(false),
        }
    }

    /// From here on it is in force.
    pub(crate) fn close_guard(&self) -> Result<(), Error> {
        let close = self.guarded.as_ref().map_or(Ok(()), Guarded::close);
        close.map_err(|errno| bpf_error("put the filter into force", errno))
    }

    /// Hands out each socket of which changes of state are held back, with what the map
    /// has of it; to be called when the programs are detached, and hold more.
    pub(crate) fn each_held(&self, see: &mut dyn FnMut(u64, &[u8; OW_HOLDS])) {
        let (mut key, mut next, mut value) = (None, [0; 8], [0; OW_HOLDS]);
        // Each is there once, unless others come and go.
        for _ in 0..2 * OWNERS {
            if self.owners.next_key(key.as_ref(), &mut next).is_err() {
                return;
            }
            key = Some(next);
            let found = self.owners.lookup(&next, &mut value);
            if found.is_ok() && OW_HELD.get(&value, Order::NATIVE) > 0 {
                see(u64::from_ne_bytes(next), &value);
            }
        }
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
        let mut value = Listening::new(Order::NATIVE);
        if let Some(owner) = listener.owner {
            value.set_owner(&owner, listener.netns);
        }
        value.set(listener.count, listener.owner.is_none());
        match self.listeners.update(&key, &value.bytes, Update::Add) {
            Err(Errno::EEXIST) => {}
            other => return other,
        }
        let mut there = Listening::new(Order::NATIVE);
        match self.listeners.lookup(&key, &mut there.bytes) {
            // It has gone again.
            Err(Errno::ENOENT) => return self.listeners.update(&key, &value.bytes, Update::Add),
            other => other?,
        }
        let alike = listener.owner.is_some() && there.pid() == value.pid();
        if there.disagrees() || (alike && there.count() >= listener.count) {
            return Ok(());
        }
        // A program may count at the same time, which would be lost here: the
        // worst of it is that children are nobody's.
        there.set(there.count().max(listener.count), true);
        match self.listeners.update(&key, &there.bytes, Update::Replace) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Takes back what [`Maps::add_listener`] told of a single listener, which
    /// had gone before the programs knew of it.
    pub fn forget_listener(&self, listener: &Listener) {
        let key = listener.key();
        let mut there = Listening::new(Order::NATIVE);
        let found = self.listeners.lookup(&key, &mut there.bytes);
        if found.is_ok() && there.count() <= 1 {
            // Where it has gone, there is nothing to take back.
            let _ = self.listeners.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::tests::owner;
    use crate::model::event::OwnerSource;

    #[test]
    fn owners_take_a_small_part_of_memory() {
        assert_eq!(owners_for(u64::MAX), OWNERS);
        assert_eq!(owners_for(512 << 20), OWNERS);
        assert_eq!(owners_for((512 << 20) - 1), OWNERS / 2);
        assert_eq!(owners_for(48 << 20), 4096);
        assert_eq!(owners_for(0), 1024);
    }

    fn listener() -> Listener {
        Listener {
            netns: 0x0102_0304,
            family: 10,
            local: Endpoint {
                addr: "10.0.0.1".parse().expect("an address"),
                port: 0x0506,
            },
            device: 7,
            owner: None,
            count: 2,
            shared: false,
        }
    }

    #[test]
    fn a_key_in_either_order() {
        let address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        let device = |bytes: [u8; 4]| [&bytes[..], &[0; 4]].concat();
        let little = [
            &[4, 3, 2, 1, 6, 5, 10, 0],
            &address[..],
            &device([7, 0, 0, 0]),
        ]
        .concat();
        assert_eq!(listener().key_in(Order::Little)[..], little);
        let big = [
            &[1, 2, 3, 4, 5, 6, 0, 10],
            &address[..],
            &device([0, 0, 0, 7]),
        ]
        .concat();
        assert_eq!(listener().key_in(Order::Big)[..], big);
    }

    #[test]
    fn a_value_in_either_order() {
        for order in [Order::Little, Order::Big] {
            let mut value = Listening::new(order);
            value.set_owner(&owner(0x0102, OwnerSource::Snapshot), 9);
            value.set(3, true);
            assert_eq!((value.pid(), value.count()), (0x0102, 3));
            assert!(value.disagrees());
            // The process id is the high half of a number.
            let pid = match order {
                Order::Little => [2, 1, 0, 0],
                Order::Big => [0, 0, 1, 2],
            };
            let high = if order == Order::Little { 4 } else { 0 };
            assert_eq!(value.bytes[high..high + 4], pid);
        }
    }
}
