//! Live: what the kernel makes of compiled filters. Its verifier takes them all,
//! and they say there what they say to the interpreter.

// SAFETY: of each call of bpf(2) below the attribute and what it points to live
// as long as the call, and have the lengths given.
#![allow(unsafe_code, reason = "makes system calls")]

mod common;

use common::filters::{Random, event, expr};
use common::machine::{Machine, OnCpu};
use common::{live, net, skip};
use nix::errno::Errno;
use socket_snoop::bpf::guard::Guard;
use socket_snoop::bpf::layout::*;
use socket_snoop::bpf::made::with_memlock;
use socket_snoop::bpf_insn::{Alu, Cmp, FP, Insn, Operand, Size};
use socket_snoop::bpf_link::{Host, HostField, Item, Template};
use socket_snoop::capture::{Source, Transport};
use socket_snoop::filter::tree::{Expr, Nets, Ranges, Side, Term};
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::What;
use socket_snoop::model::loss::Reason;
use socket_snoop::model::tcp::State;
use socket_snoop::order::Order;
use socket_snoop::sys::bpf::{self, Map, MapType, NO_PREALLOC, ProgType, Update};
use socket_snoop::sys::time;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use story::story;

/// Of TEST-NET-1.
const NOBODYS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Filters, and events that each of them is asked about.
const FILTERS: usize = 300;
const EVENTS: usize = 12;

/// A part as a program of its own: it asks about the event that the map `event`
/// has, and returns what the part says.
fn asking(guard: &Guard, part: u8) -> Template {
    const KEY: i16 = -4;
    let mov = |dst, operand| Item::Insn(Insn::alu(true, Alu::Mov, dst, operand));
    let mut items = vec![
        Item::Insn(Insn::store(Size::W, FP, KEY, Operand::Imm(0))),
        Item::Map { dst: 1, map: 0 },
        mov(2, Operand::Reg(FP)),
        Item::Insn(Insn::alu(true, Alu::Add, 2, Operand::Imm(KEY.into()))),
        Item::Insn(Insn::call(1)),
        Item::Jump {
            insn: Insn::branch(true, Cmp::Ne, 0, Operand::Imm(0), 0),
            target: 8,
        },
        mov(0, Operand::Imm(2)),
        Item::Insn(Insn::exit()),
    ];
    for at in (0..EV_SIZE as i16).step_by(4) {
        items.push(Item::Insn(Insn::load(Size::W, 1, 0, at)));
        let store = Insn::store(Size::W, FP, EVENT + at, Operand::Reg(1));
        items.push(Item::Insn(store));
    }
    items.extend([Item::Filter { part }, Item::Insn(Insn::exit())]);
    let template = Template {
        lines: vec![0; items.len()],
        items,
        maps: vec!["event".into()],
        ..Template::default()
    };
    template.with(guard.parts()).expect("a program")
}

struct Maps(HashMap<&'static str, Map>);

impl Host for Maps {
    fn field(&self, _: &str) -> Option<HostField> {
        None
    }
    fn map_fd(&self, name: &str) -> Option<i32> {
        self.0.get(name).map(|map| map.as_fd().as_raw_fd())
    }
}

impl Maps {
    fn of(guard: &Guard) -> Maps {
        let create = |name, kind, sizes, entries, flags| {
            with_memlock(|| Map::create(kind, name, sizes, entries, flags)).expect(name)
        };
        let array = |name, size| create(name, MapType::Array, (4, size), 8, 0);
        let all = HashMap::from([
            ("event", array("event", EV_SIZE as u32)),
            ("ports", array("ports", 8192)),
            (
                "nets",
                create("nets", MapType::LpmTrie, (24, 1), 20_000, NO_PREALLOC),
            ),
        ]);
        for (name, key, value) in guard.entries() {
            all[name].update(&key, &value, Update::Any).expect(name);
        }
        Maps(all)
    }
}

fn load(template: &Template, maps: &Maps) -> OwnedFd {
    let insns = template.link(maps).unwrap_or_else(|e| panic!("{e}"));
    let insns: Vec<u64> = insns.iter().map(|insn| insn.native()).collect();
    let load = |log: Option<&mut [u8]>| {
        let kind = ProgType::RawTracepoint;
        bpf::prog_load(kind, "guard", &insns, c"Dual MIT/GPL", None, log)
    };
    with_memlock(|| load(None)).unwrap_or_else(|errno| {
        let mut log = vec![0; 1 << 20];
        let _ = load(Some(&mut log));
        let end = log.iter().position(|b| *b == 0).unwrap_or(0);
        panic!("{errno}: {}", String::from_utf8_lossy(&log[..end]))
    })
}

/// BPF_PROG_TEST_RUN of a raw tracepoint's program (Linux 5.10 and later): what it
/// returns.
fn run(program: BorrowedFd<'_>) -> Result<u32, Errno> {
    const BPF_PROG_TEST_RUN: i32 = 10;
    // Up to `batch_size`; the program is first, what it returned second.
    let mut attr = [0u32; 18];
    attr[0] = program.as_raw_fd() as u32;
    let (at, len) = (attr.as_mut_ptr(), size_of_val(&attr));
    // SAFETY: the attributes and what they point to live as long as the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, at, len) };
    Errno::result(done).map(|_| attr[1])
}

#[test]
fn the_kernel_says_what_the_interpreter_says() {
    if !live() {
        return;
    }
    let mut r = Random(5);
    let mut refused = 0;
    let mut compiled = 0;
    while compiled < FILTERS {
        let (exact, depth) = (r.one_in(2), r.below(4));
        let expr = expr(&mut r, exact, depth);
        let Some(guard) = Guard::compile(&expr) else {
            continue;
        };
        compiled += 1;
        let maps = Maps::of(&guard);
        for part in [0, 1] {
            let program = load(&asking(&guard, part), &maps);
            let alone = Template {
                items: vec![Item::Filter { part }, Item::Insn(Insn::exit())],
                lines: vec![0; 2],
                ..Template::default()
            };
            let alone = alone.with(guard.parts()).expect("a program");
            let alone = alone
                .link(&common::layouts::Fields::new(&[]))
                .expect("a program");
            let mut machine = Machine::new(Order::NATIVE, OnCpu::NOBODY);
            for (map, key, value) in guard.entries() {
                machine.entry(if map == "ports" { 7 } else { 8 }, key, value);
            }
            for _ in 0..EVENTS {
                let bytes = event(&mut r, exact);
                maps.0["event"]
                    .update(&[0; 4], &bytes, Update::Any)
                    .expect("an event");
                let said = match run(program.as_fd()) {
                    Err(errno @ (Errno::EINVAL | Errno::EOPNOTSUPP)) => {
                        return skip(&format!(
                            "this kernel runs no such program for a test: {errno}"
                        ));
                    }
                    said => said.expect("a run"),
                };
                machine.stack(EVENT, &bytes);
                assert_eq!(
                    u64::from(said),
                    machine.run(&alone, Vec::new()),
                    "{}",
                    expr.text()
                );
                refused += usize::from(said == 0);
            }
        }
    }
    assert!(refused > FILTERS, "{refused}");
}

/// What came of one socket.
#[derive(Default, Debug)]
struct Life {
    events: usize,
    /// Its events that are not the last told of it.
    told: Vec<(State, State)>,
}

/// The lives of those sockets of which an end is this, and of all others that
/// have one of `ends`.
fn lives(source: &mut Source, ends: &[SocketAddr]) -> Vec<(SocketAddr, u64, Life)> {
    let mut all: Vec<(SocketAddr, u64, Life)> = Vec::new();
    source.drain(u64::MAX, &mut |event, _| {
        let What::State { old, new } = event.what else {
            return true;
        };
        let own = [event.local, event.peer].map(|end| SocketAddr::new(end.addr, end.port));
        let Some(end) = own.into_iter().find(|end| ends.contains(end)) else {
            return true;
        };
        if old == State::Listen && new == State::Close || new == State::Listen {
            return true;
        }
        let known = all
            .iter_mut()
            .rfind(|(_, socket, _)| *socket == event.socket && !event.is_birth());
        let life = match known {
            Some((_, _, life)) => life,
            None => {
                all.push((end, event.socket, Life::default()));
                &mut all.last_mut().expect("it").2
            }
        };
        life.events += 1;
        if !event.last {
            life.told.push((old, new));
        }
        true
    });
    all
}

/// A source with this filter, what `happen` makes of two listeners, and what came
/// of their connections: refused ones, and others.
fn guarded(
    transport: Transport,
    filter: impl Fn(SocketAddr) -> Expr,
    happen: impl Fn(&Source, &[TcpListener; 2]),
) -> [Vec<Life>; 2] {
    let listeners = [net::listen(net::own_ip()), net::listen(net::own_ip())];
    let ends = listeners
        .each_ref()
        .map(|l| l.local_addr().expect("its end"));
    let guard = Guard::compile(&filter(ends[1])).expect("a guard");
    let source = Source::open(None, Some(transport), Abilities::LOCK, Some(guard));
    let mut source = source.unwrap_or_else(|e| panic!("{e}"));
    happen(&source, &listeners);
    source.detach();
    let mut all = [Vec::new(), Vec::new()];
    for (end, _, life) in lives(&mut source, &ends) {
        all[usize::from(end == ends[1])].push(life);
    }
    source.losses(0, &mut |lost| panic!("{lost:?}"));
    let [refused, shown] = all;
    [refused, shown]
}

const CONNECTIONS: usize = 40;

fn converse(_: &Source, listeners: &[TcpListener; 2]) {
    for _ in 0..CONNECTIONS {
        for listener in listeners {
            net::converse(listener);
        }
    }
}

/// By the ways that have programs.
const WAYS: [Transport; 2] = [Transport::Tracepoint, Transport::Btf];

/// Whole lives: each of five changes.
fn whole(lives: &[Life]) -> usize {
    let all = |life: &&Life| life.told.len() == 5;
    lives.iter().filter(all).count()
}

fn port(end: SocketAddr, side: Side) -> Expr {
    let port = end.port().into();
    Expr::from(Term::Port(side, Ranges::of([(port, port)])))
}

/// What is refused ends with the event at which that is known, and is not sent at
/// all where it is known at the first.
#[test]
fn refused_connections_are_not_sent() {
    if !live() {
        return;
    }
    for transport in WAYS {
        let [refused, shown] = guarded(transport, |end| port(end, Side::Either), converse);
        // Both ends of each.
        assert!(whole(&shown) > CONNECTIONS, "{transport:?}: {shown:?}");
        for life in &refused {
            let births = [
                (State::Close, State::SynSent),
                (State::Listen, State::SynRecv),
            ];
            let unknown = life.told.iter().all(|change| births.contains(change));
            assert!(unknown && life.events <= 2, "{transport:?}: {life:?}");
        }
        let [refused, shown] = guarded(
            transport,
            |end| {
                let net = Nets::of([(end.ip(), 32)]);
                Expr::from(Term::Net(Side::Either, net))
            },
            converse,
        );
        assert!(whole(&shown) > CONNECTIONS, "{transport:?}: {shown:?}");
        // All but those whose birth a program did not see.
        let told = refused.iter().filter(|life| !life.told.is_empty()).count();
        assert_eq!(told, 0, "{transport:?}: {refused:?}");
    }
}

/// By its owner a socket is refused as long as it is his.
#[test]
fn sockets_of_others_are_not_sent() {
    if !live() {
        return;
    }
    for transport in WAYS {
        let pid = std::process::id();
        let own = |with: bool| {
            let own = Expr::from(Term::Pid(Ranges::of([(pid, pid)])));
            move |end| {
                Expr::and([
                    port(end, Side::Peer),
                    if with { own.clone() } else { !own.clone() },
                ])
            }
        };
        // The clients of one listener.
        let [_, shown] = guarded(transport, own(true), converse);
        assert!(whole(&shown) > CONNECTIONS / 2, "{transport:?}: {shown:?}");
        let [_, shown] = guarded(transport, own(false), converse);
        let told = shown.iter().filter(|life| !life.told.is_empty()).count();
        assert!(told < CONNECTIONS / 4, "{transport:?}: {shown:?}");
    }
}

/// A guard that is opened lets all through, also what it has refused before.
#[test]
fn an_opened_guard_lets_all_through() {
    if !live() {
        return;
    }
    for transport in WAYS {
        let happen = |source: &Source, listeners: &[TcpListener; 2]| {
            let end = listeners[0].local_addr().expect("its end");
            let before = TcpStream::connect(end).expect("a connection");
            let accepted = listeners[0].accept().expect("its other end");
            assert_eq!(source.open_guard(), Ok(true));
            converse(source, listeners);
            drop((before, accepted));
        };
        let [refused, shown] = guarded(transport, |end| port(end, Side::Peer), happen);
        for lives in [refused, shown] {
            assert!(whole(&lives) > CONNECTIONS, "{transport:?}: {lives:?}");
        }
    }
}

/// What is kept away is counted: with what came it is what another source has.
#[story]
fn what_is_kept_away_is_counted() {
    if !live() {
        return;
    }
    for transport in WAYS {
        let open = |guard| {
            let source = Source::open(None, Some(transport), Abilities::LOCK, guard);
            source.unwrap_or_else(|e| panic!("{e}"))
        };
        let mut all = open(None);
        let nobody = Expr::from(Term::Net(Side::Either, Nets::of([(NOBODYS, 32)])));
        let mut some = open(Guard::compile(&nobody));
        let begun = time::monotonic();
        let listener = net::listen(net::own_ip());
        for _ in 0..CONNECTIONS {
            net::converse(&listener);
        }
        let ended = time::monotonic();
        some.detach();
        all.detach();
        let mut came = 0;
        some.drain(u64::MAX, &mut |event, _| {
            came += u64::from(event.is_line());
            true
        });
        let kept = some.kept_away().expect("a guard");
        // What others did in between may be in one of them.
        let (mut least, mut most) = (0, 0);
        all.drain(u64::MAX, &mut |event, _| {
            if event.is_line() {
                most += 1;
                least += u64::from((begun..ended).contains(&event.time));
            }
            true
        });
        // What the kernel passes by is in neither.
        for source in [&mut some, &mut all] {
            source.losses(0, &mut |lost| assert_eq!(lost.reason, Reason::Recursion));
        }
        assert!(
            (least..=most).contains(&(kept + came)),
            "{transport:?}: {kept} and {came}, of {least} to {most}"
        );
        assert!(kept >= 10 * CONNECTIONS as u64, "{transport:?}: {kept}");
        assert_eq!(all.kept_away(), None);
    }
}
