//! The guard against the evaluator: whatever the filter and the event, where the
//! kernel's half says "no", the evaluator refuses the connection; and what it
//! lets through of what is refused is counted.

mod common;

use common::filters::{Random, event, expr, nets};
use common::layouts::Fields;
use common::machine::{Machine, OnCpu};
use socket_snoop::bpf::guard::Guard;
use socket_snoop::bpf::layout::*;
use socket_snoop::bpf_insn::Insn;
use socket_snoop::bpf_link::{Item, Template};
use socket_snoop::filter::tree::*;
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::{Event, OwnerSource, What};
use socket_snoop::model::tcp::State;
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
