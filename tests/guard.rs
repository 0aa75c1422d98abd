//! The guard against the evaluator: whatever the filter and the event, where the
//! kernel's half says "no", the evaluator refuses the connection; and what it
//! lets through of what is refused is counted.

mod common;

use common::layouts::Fields;
use common::machine::{Machine, OnCpu};
use socket_snoop::bpf::guard::Guard;
use socket_snoop::bpf::layout::*;
use socket_snoop::bpf_insn::Insn;
use socket_snoop::bpf_link::{Item, Template};
use socket_snoop::filter::tree::*;
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::{COMM_LEN, Event, OwnerSource, What};
use socket_snoop::model::tcp::{State, Wire};
use socket_snoop::order::Order;
use std::net::IpAddr;

/// Filters, and events that each of them is asked about.
const FILTERS: usize = 2500;
const EVENTS: usize = 48;

const NOBODY: OnCpu = OnCpu {
    pid: 0,
    tid: 0,
    uid: 0,
    comm: [0; 16],
};

/// splitmix64: the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
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

fn nets(r: &mut Random) -> Nets {
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

fn expr(r: &mut Random, exact: bool, depth: usize) -> Expr {
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
fn event(r: &mut Random, whole: bool) -> [u8; EV_SIZE] {
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
    EV_FLAGS.put(&mut bytes, FLAG_FAMILY, order);
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
    EV_OWNER.put(&mut bytes, owner, order);
    bytes
}

/// What the evaluator knows of the connection at this event.
fn judged(expr: &Expr, event: &Event) -> Truth {
    match expr {
        Expr::All => Truth::Yes,
        Expr::None => Truth::No,
        Expr::And(parts) => {
            let all = parts.iter().map(|part| judged(part, event));
            all.min().expect("parts")
        }
        Expr::Or(parts) => {
            let all = parts.iter().map(|part| judged(part, event));
            all.max().expect("parts")
        }
        Expr::Term(true, term) => single(term, event),
        Expr::Term(false, term) => !single(term, event),
    }
}

fn single(term: &Term, event: &Event) -> Truth {
    let known = |known: bool, truth: bool| match known {
        true => Truth::of(truth),
        false => Truth::NotYet,
    };
    let sides = |side: Side, of: &dyn Fn(bool) -> Truth| match side {
        Side::Local => of(true),
        Side::Peer => of(false),
        Side::Either => of(true).max(of(false)),
    };
    let owner = event.owner;
    let sure = |truth: bool| match owner.map(|owner| owner.source) {
        Some(OwnerSource::Listener | OwnerSource::ListenerAccepted) if !truth => Truth::NotYet,
        Some(_) => Truth::of(truth),
        None => Truth::NotYet,
    };
    match term {
        Term::Net(side, nets) => sides(*side, &|local| {
            let addr = if local {
                event.local.addr
            } else {
                event.peer.addr
            };
            known(!addr.is_unspecified(), nets.has(addr))
        }),
        Term::Port(side, ports) => sides(*side, &|local| {
            let port = if local {
                event.local.port
            } else {
                event.peer.port
            };
            known(port != 0, ports.has(port.into()))
        }),
        Term::Family(wire) => Truth::of(event.wire == *wire),
        Term::Netns(all) => known(event.netns.is_some(), all.has(event.netns.unwrap_or(0))),
        Term::Opened(own) => match event.what {
            What::State {
                old: State::Close,
                new: State::SynSent,
            } => Truth::of(*own),
            What::State {
                old: State::Listen,
                new: State::SynRecv,
            } => Truth::of(!*own),
            _ => Truth::NotYet,
        },
        Term::Pid(all) => sure(owner.is_some_and(|owner| all.has(owner.task.pid))),
        Term::Uid(all) => match owner.and_then(|owner| owner.task.uid) {
            Some(uid) => sure(all.has(uid)),
            None => Truth::NotYet,
        },
        Term::Comm(all) => match owner {
            Some(owner) => sure(all.iter().any(|name| name.has(owner.task.comm()))),
            None => Truth::NotYet,
        },
        _ => Truth::NotYet,
    }
}

/// A part of a guard as a program of its own.
fn program(guard: &Guard, part: u8) -> Vec<Insn> {
    let template = Template {
        items: vec![Item::Filter { part }, Item::Insn(Insn::exit())],
        lines: vec![0, 0],
        ..Template::default()
    };
    let whole = template.with(guard.parts()).expect("a program");
    whole
        .link(&Fields::new(&[]))
        .unwrap_or_else(|e| panic!("{e}"))
}

/// A guard, ready to be asked.
struct Asked {
    parts: [Vec<Insn>; 2],
    machine: Machine,
}

impl Asked {
    fn new(guard: &Guard) -> Asked {
        let mut machine = Machine::new(Order::NATIVE, NOBODY);
        for (map, key, value) in guard.entries() {
            let fd = if map == "ports" { 7 } else { 8 };
            machine.entry(fd, key, value);
        }
        Asked {
            parts: [0, 1].map(|part| program(guard, part)),
            machine,
        }
    }

    /// Whether each part says "no", as the programs take it: while the owner is
    /// the listener's, who accepts may be another.
    fn refuses(&mut self, event: &[u8]) -> [bool; 2] {
        self.machine.stack(EVENT, event);
        let source = OW_SOURCE.get(&event[EV_OWNER.at..], Order::NATIVE) as u8;
        let sure = source != SOURCE_LISTENER && source != SOURCE_TAKEN;
        let no = [0, 1].map(|part| self.machine.run(&self.parts[part], Vec::new()) == 0);
        [no[0], no[1] && sure]
    }
}

/// What was asked, and what came of it.
#[derive(Default, Debug)]
struct Count {
    pairs: usize,
    kept_away: usize,
    let_through: usize,
}

fn play(r: &mut Random, filters: usize, exact: bool) -> Count {
    let mut count = Count::default();
    for _ in 0..filters {
        let depth = r.below(4);
        let expr = expr(r, exact, depth);
        let mut guard = Guard::compile(&expr).map(|guard| Asked::new(&guard));
        for _ in 0..EVENTS {
            let bytes = event(r, exact);
            let event = Event::decode(1, 0, &bytes, Abilities::all()).expect("an event");
            let refuses = guard.as_mut().map_or([false; 2], |g| g.refuses(&bytes));
            let judged = judged(&expr, &event);
            let no = refuses != [false; 2];
            assert!(
                !no || judged == Truth::No,
                "{expr:?}\n{event:?}\n{refuses:?}"
            );
            count.pairs += 1;
            count.kept_away += usize::from(no);
            count.let_through += usize::from(!no && judged == Truth::No);
        }
    }
    count
}

/// Whatever the filter: never a "no" to what could be shown.
#[test]
fn no_means_no() {
    let count = play(&mut Random(1), FILTERS, false);
    assert!(count.pairs >= 100_000, "{count:?}");
    // It is no guard that lets all through.
    assert!(count.kept_away > count.pairs / 10, "{count:?}");
    println!("{count:?}");
}

/// Of addresses, ports, family, states, pid and uid: never a "perhaps" to what is
/// refused either.
#[test]
fn what_the_kernel_knows_it_decides() {
    let count = play(&mut Random(2), FILTERS, true);
    assert!(count.kept_away > count.pairs / 10, "{count:?}");
    assert_eq!(count.let_through, 0, "{count:?}");
}

/// Every port and the borders of every network, compared and looked up.
#[test]
fn sets_are_whole() {
    let mut r = Random(3);
    for count in [0, 1, 2, 3, 4, 7, 33, 64, 65, 1000] {
        let one = |r: &mut Random| {
            let from = r.below(65536) as u32;
            (from, from + r.pick(&[0, 0, 1, 20]))
        };
        let ports = Ranges::of((0..count).map(|_| one(&mut r)).collect::<Vec<_>>());
        let expr = Expr::from(Term::Port(Side::Peer, ports.clone()));
        let mut asked = Asked::new(&Guard::compile(&expr).expect("a guard"));
        let mut bytes = event(&mut r, true);
        for port in 1..=u16::MAX {
            EV_PEER_PORT.put(&mut bytes, port, Order::NATIVE);
            let no = asked.refuses(&bytes) != [false; 2];
            assert_eq!(no, !ports.has(port.into()), "{count}: {port}");
        }
    }
    for _ in 0..120 {
        let nets = nets(&mut r);
        let expr = Expr::from(Term::Net(Side::Peer, nets.clone()));
        let mut asked = Asked::new(&Guard::compile(&expr).expect("a guard"));
        let mut bytes = event(&mut r, true);
        for net in nets.prefixes() {
            let (first, last) = (net.first, net.last());
            for at in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                EV_PEER.put(&mut bytes, at.to_be_bytes(), Order::NATIVE);
                let addr: IpAddr = std::net::Ipv6Addr::from(at).to_canonical();
                let no = asked.refuses(&bytes) != [false; 2];
                assert_eq!(
                    no,
                    !addr.is_unspecified() && !nets.has(addr),
                    "{nets:?} {addr}"
                );
            }
        }
    }
}

/// Long lists take no long programs.
#[test]
fn long_lists_are_short_programs() {
    let mut r = Random(4);
    let ports = Ranges::of((0..1000).map(|n| (n * 64 + 1, n * 64 + 1)));
    let nets = Nets::of((0..10_000u32).map(|n| {
        let addr = (10 << 24) | n << 8;
        (IpAddr::V4(addr.into()), 24 + (r.next() % 8) as u8)
    }));
    let expr = Expr::and([
        Expr::from(Term::Port(Side::Either, ports)),
        Expr::from(Term::Net(Side::Either, nets)),
    ]);
    let guard = Guard::compile(&expr).expect("a guard");
    let len = program(&guard, 0).len();
    assert!(len < 200, "{len}");
    // And so do many that are each short.
    let few = |n: u32| Ranges::of((0..60).map(|p| (p * 1000 + n, p * 1000 + n)));
    let many = (1..100).map(|n| Expr::from(Term::Port(Side::Peer, few(n))));
    let guard = Guard::compile(&Expr::or(many)).expect("a guard");
    let len = program(&guard, 0).len();
    assert!(len < 2500, "{len}");
    assert!(Guard::compile(&Expr::All).is_none());
}
