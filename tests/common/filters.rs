//! Filters and events by chance, the same every time.

use socket_snoop::bpf::layout::*;
use socket_snoop::filter::tree::*;
use socket_snoop::model::event::COMM_LEN;
use socket_snoop::model::tcp::{State, Wire};
use socket_snoop::order::Order;
use std::net::IpAddr;

/// splitmix64: the same every time.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

const ADDRESSES: [&str; 14] = [
    "0.0.0.0",
    "10.0.0.1",
    "10.0.0.2",
    "10.1.0.1",
    "127.0.0.1",
    "127.255.255.255",
    "128.0.0.1",
    "192.168.7.9",
    "255.255.255.254",
    "::",
    "::1",
    "2001:db8::1",
    "2001:db8:0:1::7fff:ffff",
    "fe80::8000:0:0:1",
];
const PORTS: [u16; 8] = [1, 22, 80, 443, 8000, 8080, 32768, 65535];
const PIDS: [u32; 6] = [1, 7, 4242, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe];
const NAMES: [&str; 6] = [
    "sh",
    "curl",
    "curl2",
    "nginx",
    "fifteen_letters",
    "kworker/0:1",
];
const STATES: [State; 6] = [
    State::SynSent,
    State::SynRecv,
    State::Established,
    State::FinWait1,
    State::Close,
    State::Listen,
];

fn name(text: &str) -> [u8; COMM_LEN] {
    let mut name = [0; COMM_LEN];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn ranges(r: &mut Random, of: &[u32], most: u32) -> Ranges {
    // Now and then more than are compared.
    let count = if r.one_in(12) { 200 } else { 1 + r.below(5) };
    let mut one = || match r.one_in(3) {
        _ if count > 100 => {
            let at = r.next() as u32 % most;
            (at, at)
        }
        true => {
            let from = r.pick(of);
            (from, from.saturating_add(r.below(9000) as u32).min(most))
        }
        false => {
            let at = r.pick(of);
            (at, at)
        }
    };
    Ranges::of((0..count).map(|_| one()).collect::<Vec<_>>())
}

/// Some networks.
pub fn nets(r: &mut Random) -> Nets {
    let count = if r.one_in(12) { 300 } else { 1 + r.below(5) };
    let one = |r: &mut Random| -> (IpAddr, u8) {
        let addr: IpAddr = r.pick(&ADDRESSES).parse().expect("an address");
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        let addr = match addr {
            IpAddr::V4(v4) if count > 100 => IpAddr::V4((v4.to_bits() ^ r.next() as u32).into()),
            _ if count > 100 => u128::from(r.next()).into_addr(),
            other => other,
        };
        let bits = if addr.is_ipv4() { bits } else { 128 };
        (
            addr,
            (bits - r.below(bits + 1).min(bits)).max(usize::from(!r.one_in(8))) as u8,
        )
    };
    Nets::of((0..count).map(|_| one(r)).collect::<Vec<_>>())
}

trait IntoAddr {
    fn into_addr(self) -> IpAddr;
}

impl IntoAddr for u128 {
    fn into_addr(self) -> IpAddr {
        IpAddr::V6((0x2001_0db8 << 96 | self << 20).into())
    }
}

/// What the kernel's half is to decide as well as the evaluator.
const EXACT: usize = 6;

fn term(r: &mut Random, exact: bool) -> Term {
    let side = r.pick(&[Side::Local, Side::Peer, Side::Either]);
    let ports = PORTS.map(u32::from);
    let states = |r: &mut Random| States(r.next() as u16);
    match r.below(if exact { EXACT } else { 16 }) {
        0 => Term::Net(side, nets(r)),
        1 => Term::Port(side, ranges(r, &ports, 65535)),
        2 => Term::Family(r.pick(&[Wire::Ipv4, Wire::Ipv6])),
        3 => Term::Pid(ranges(r, &PIDS, u32::MAX)),
        4 => Term::Uid(ranges(r, &PIDS, u32::MAX)),
        5 => Term::State(states(r)),
        6 => Term::Netns(ranges(r, &PIDS, u32::MAX)),
        7 => Term::Opened(r.one_in(2)),
        8 | 9 => {
            let open = r.one_in(2);
            let names = (0..1 + r.below(3)).map(|_| Pattern {
                name: name(r.pick(&NAMES)),
                open,
            });
            Term::Comm(names.collect())
        }
        10 => Term::NoOwner,
        11 => Term::Tree(vec![7]),
        12 => Term::Event(Kinds::STATE),
        13 => Term::From(states(r)),
        14 => Term::Cause(1),
        _ => Term::Cgroup(vec![9]),
    }
}

/// A filter.
pub fn expr(r: &mut Random, exact: bool, depth: usize) -> Expr {
    let one = match depth {
        0 => Expr::from(term(r, exact)),
        _ => {
            let parts: Vec<Expr> = (0..1 + r.below(4))
                .map(|_| expr(r, exact, depth - 1))
                .collect();
            match r.one_in(2) {
                true => Expr::and(parts),
                false => Expr::or(parts),
            }
        }
    };
    if r.one_in(3) { !one } else { one }
}

/// An event as it lies on the stack. `whole`: its ends and its owner are known as
/// well as they can be.
pub fn event(r: &mut Random, whole: bool) -> [u8; EV_SIZE] {
    let order = Order::NATIVE;
    let mut bytes = [0; EV_SIZE];
    let address = |r: &mut Random| {
        let pool = if whole {
            &ADDRESSES[1..]
        } else {
            &ADDRESSES[..]
        };
        loop {
            let addr: IpAddr = r.pick(pool).parse().expect("an address");
            if !(whole && addr.is_unspecified()) {
                return addr;
            }
        }
    };
    let local = address(r);
    let mut peer = address(r);
    while peer.is_ipv4() != local.is_ipv4() {
        peer = address(r);
    }
    EV_LOCAL.put(&mut bytes, mapped(local).to_be_bytes(), order);
    EV_PEER.put(&mut bytes, mapped(peer).to_be_bytes(), order);
    let (old, new) = (r.pick(&STATES), r.pick(&STATES));
    EV_OLDSTATE.put(&mut bytes, old as u8, order);
    // The counters at a CLOSE are no matter.
    let new = if new == State::Close {
        State::FinWait2
    } else {
        new
    };
    EV_NEWSTATE.put(&mut bytes, new as u8, order);
    if new != State::SynSent {
        EV_LOCAL_PORT.put(&mut bytes, r.pick(&PORTS), order);
    }
    if whole || !r.one_in(4) {
        EV_PEER_PORT.put(&mut bytes, r.pick(&PORTS), order);
    }
    // An AF_INET6 socket may be IPv4 on the wire.
    let inet = local.is_ipv4() && r.one_in(2);
    EV_FAMILY.put(&mut bytes, if inet { 2 } else { 10 }, order);
    let told = whole || !r.one_in(4);
    let user = if told { FLAG_USER } else { 0 };
    EV_FLAGS.put(&mut bytes, FLAG_FAMILY | user, order);
    EV_VERSION.put(&mut bytes, VERSION, order);
    EV_KIND.put(&mut bytes, KIND_STATE, order);
    let mut owner = [0; OW_SIZE];
    let sources = [SOURCE_TASK, SOURCE_CACHED, SOURCE_ACCEPT];
    let source = match whole {
        true => r.pick(&sources),
        false => r.pick(&[
            SOURCE_TASK,
            SOURCE_NONE,
            SOURCE_LISTENER,
            SOURCE_TAKEN,
            SOURCE_CACHED,
        ]),
    };
    if source != SOURCE_NONE {
        OW_TASK.put(&mut owner, u64::from(r.pick(&PIDS)) << 32 | 5, order);
        let unknown = !whole && r.one_in(4);
        OW_UID.put(
            &mut owner,
            if unknown { u32::MAX } else { r.pick(&PIDS) },
            order,
        );
        let mut comm = name(r.pick(&NAMES));
        if r.one_in(4) {
            // What older kernels leave behind the end.
            comm[15] = b'x' * u8::from(comm[14] == 0);
        }
        OW_COMM.put(&mut owner, comm, order);
    }
    OW_SOURCE.put(&mut owner, source.into(), order);
    if whole || r.one_in(2) {
        OW_NETNS.put(&mut owner, r.pick(&PIDS), order);
    }
    EV_HOW.put(&mut bytes, source, order);
    EV_OWNER.put(&mut bytes, owner, order);
    bytes
}
