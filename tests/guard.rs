//! The guard against the evaluator: whatever the filter and the event, where the
//! kernel's half says "no", the evaluator refuses the connection; and what it
//! lets through of what is refused is counted.

mod common;

use common::filters::{Random, event, expr, nets};
use common::layouts::{BY_BTF, BY_RECORD, Fields, Layout, MEMBERS, NEEDED};
use common::machine::{Machine, OnCpu};
use common::programs::program as program_of;
use common::verifier;
use socket_snoop::bpf::guard::Guard;
use socket_snoop::bpf::layout::*;
use socket_snoop::bpf_insn::Insn;
use socket_snoop::bpf_link::{Item, Template};
use socket_snoop::filter::eval::{Around, Figures, Judge, Settled, Subject};
use socket_snoop::filter::tree::*;
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::{Event, OwnerSource, What};
use socket_snoop::model::tcp::State;
use socket_snoop::order::Order;
use std::io::Write;
use std::net::IpAddr;

/// Filters, and events that each of them is asked about.
const FILTERS: usize = 2700;
const EVENTS: usize = 48;

/// Nobody knows more of a process than its event tells.
struct Nowhere;

impl Around for Nowhere {
    fn descends(&self, _: u32, _: u32) -> Option<bool> {
        None
    }
    fn is_below(&self, _: u64, _: &[u64]) -> Option<bool> {
        None
    }
    fn is_contained(&self, _: u64, _: &[String]) -> Option<bool> {
        None
    }
}

/// Whether the evaluator refuses an event, whatever comes of its connection, and
/// whether it does by what is about the connection alone.
fn refused(judge: &Judge, event: &Event) -> (bool, bool) {
    let provisional = [OwnerSource::Listener, OwnerSource::ListenerAccepted];
    let subject = Subject {
        local: event.local,
        peer: event.peer,
        wire: event.wire,
        listener: false,
        netns: event.netns,
        outgoing: match event.what {
            What::State {
                old: State::Close,
                new: State::SynSent,
            } => Some(true),
            What::State {
                old: State::Listen,
                new: State::SynRecv,
            } => Some(false),
            _ => None,
        },
        owner: event.owner,
        sure: !event.owner.is_some_and(|o| provisional.contains(&o.source)),
        over: false,
        around: &Nowhere,
    };
    let mut settled = Settled::default();
    let mut no = judge.event(&subject, &mut settled, event, false) == Truth::No;
    for duration in [None, Some(5_000_000_000)] {
        let figures = Figures {
            duration,
            ..Figures::default()
        };
        no &= judge.record(settled, &figures) == Truth::No;
    }
    (no, !judge.admits(&subject))
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
        let mut machine = Machine::new(Order::NATIVE, OnCpu::NOBODY);
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
        let Ok(judge) = Judge::new(&expr) else {
            continue;
        };
        let mut guard = Guard::compile(&expr).map(|guard| Asked::new(&guard));
        for _ in 0..EVENTS {
            let bytes = event(r, exact);
            let event = Event::decode(1, 0, &bytes, Abilities::all()).expect("an event");
            let refuses = guard.as_mut().map_or([false; 2], |g| g.refuses(&bytes));
            let (refused, outright) = refused(&judge, &event);
            let no = refuses != [false; 2];
            assert!(!no || refused, "{}\n{event:?}\n{refuses:?}", expr.text());
            count.pairs += 1;
            count.kept_away += usize::from(no);
            count.let_through += usize::from(!no && outright && !judge.is_of_records());
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
    let _ = writeln!(std::io::stdout(), "{count:?}");
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
    let ports = Ranges::of(
        (0..1000)
            .map(|n| (n * 64 + 1, n * 64 + 1))
            .collect::<Vec<_>>(),
    );
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
    let few = |n: u32| {
        Ranges::of(
            (0..60)
                .map(|p| (p * 1000 + n, p * 1000 + n))
                .collect::<Vec<_>>(),
        )
    };
    let many = (1..100).map(|n| Expr::from(Term::Port(Side::Peer, few(n))));
    let guard = Guard::compile(&Expr::or(many)).expect("a guard");
    let len = program(&guard, 0).len();
    assert!(len < 2500, "{len}");
    assert!(Guard::compile(&Expr::All).is_none());
    // And so do alternatives of alternatives, through which there are more ways than a verifier goes in time.
    let group = |n: u32| {
        let (port, uid) = (Ranges::of([(n, n)]), Ranges::of([(n, n)]));
        Expr::or([
            Expr::from(Term::Port(Side::Peer, port)),
            Expr::from(Term::Uid(uid)),
        ])
    };
    let len = |groups: u32| {
        let guard = Guard::compile(&Expr::and((1..=groups).map(group))).expect("a guard");
        program(&guard, 1).len()
    };
    assert!(len(4) < len(8));
    assert_eq!(len(20), len(100));
}

/// The programs with a filter in its places are such as every kernel takes, by
/// either way and whatever a host tells.
#[test]
fn the_programs_with_a_filter_are_sound() {
    let mut r = Random(6);
    let filters = std::iter::repeat_with(|| {
        let (exact, depth) = (r.one_in(2), r.below(4));
        Guard::compile(&expr(&mut r, exact, depth))
    });
    let guards: Vec<Guard> = filters.flatten().take(6).collect();
    let by_record = BY_RECORD.iter().map(|program| (program, false));
    let by_btf = BY_BTF.iter().map(|program| (program, true));
    let mut count = 0;
    for (&(name, layouts), loads) in by_record.chain(by_btf) {
        let template = program_of(name);
        if !template
            .fields
            .iter()
            .any(|field| field.name == "helper.guard")
        {
            continue;
        }
        let needed = if loads { NEEDED } else { &[] };
        let filter: &Layout = &[("helper.guard", 0, 8)];
        let cards: &Layout = &[("helper.cards", 0, 8)];
        let leaders = |member: &&(&str, u16, u16)| !loads || member.0 != "helper.leaders";
        let all: Vec<_> = MEMBERS.iter().filter(leaders).copied().collect();
        for members in [&all[..], cards, &[]] {
            let members = [members, filter, needed].concat();
            for (record, guard) in layouts
                .iter()
                .flat_map(|l| guards.iter().map(move |g| (l, g)))
            {
                let host = Fields {
                    record,
                    members: &members,
                    loads,
                };
                let whole = template.with(guard.parts()).expect("all its parts");
                let insns = whole.link(&host).unwrap_or_else(|e| panic!("{e}"));
                verifier::check(&insns);
                count += 1;
            }
        }
    }
    assert!(count > 100, "{count}");
}
