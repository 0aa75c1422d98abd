//! Live: events that the kernel keeps from the programs, and those that come
//! while a ring is replaced by another one. None goes uncounted.

mod common;

use common::busy::{BusyMap, NOBODYS, sent_again, unanswered};
use common::life::joined;
use common::{eventually, kernel, live, net, wait};
use socket_snoop::bpf::cards::Cards;
use socket_snoop::bpf::maps::Maps;
use socket_snoop::bpf::misses;
use socket_snoop::capture::attach;
use socket_snoop::capture::{Source, Transport};
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::{Event, What};
use socket_snoop::model::loss::Reason;
use socket_snoop::order::Order;
use socket_snoop::perf::Rings;
use socket_snoop::perf::feed::Feed;
use socket_snoop::perf::record::Body;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use story::story;

/// The program on retransmissions.
const RETRANSMISSIONS: &str = "socket_snoop_rt";

/// Tests here count all events of the host: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

fn open(count_passes: bool) -> Source {
    let mut wants = Abilities::LOCK;
    wants.set(Abilities::MISSES, count_passes);
    Source::open(Some(4 << 20), Some(Transport::Tracepoint), wants, None).expect("a source")
}

/// A program of this process on retransmissions, and its runs and misses before.
struct Passes(kernel::Program, u64);

impl Passes {
    fn of(program: &kernel::Program) -> u64 {
        let (_, runs, missed) = program.runs().expect("its counts");
        runs + missed
    }

    fn since(&self) -> u64 {
        Passes::of(&self.0) - self.1
    }
}

/// All of them.
fn passes() -> Vec<Passes> {
    let programs = kernel::programs_of(std::process::id()).into_iter();
    let programs = programs.map(|id| kernel::Program::held(id).expect("a program of ours"));
    let own = |program: &kernel::Program| program.runs().expect("its name").0 == RETRANSMISSIONS;
    let own = programs.filter(own).map(|program| {
        let before = Passes::of(&program);
        Passes(program, before)
    });
    own.collect()
}

/// Retransmissions to nobody, and events that were kept from the programs.
fn outcome(source: &mut Source) -> (u64, u64) {
    source.detach();
    let nobody: IpAddr = NOBODYS.parse().unwrap();
    let mut again = 0;
    source.drain(u64::MAX, &mut |event, _| {
        let own = matches!(event.what, What::Retransmit { .. }) && event.peer.addr == nobody;
        again += u64::from(own);
        true
    });
    let mut kept = 0;
    source.losses(0, &mut |lost| {
        assert_eq!(lost.reason, Reason::Recursion, "{lost:?}");
        kept += lost.count;
    });
    (again, kept)
}

/// What is counted here is what the kernel counts, where it does.
#[story]
fn what_bpf_keeps_from_the_programs_is_counted() {
    let _alone = alone();
    let Some((here, _there)) = joined() else {
        return;
    };
    let _measuring = kernel::measure_programs().expect("BPF_ENABLE_STATS (Linux 5.8)");
    let (mut counting, mut told) = (open(true), open(false));
    let passes = passes();
    let before = sent_again(&here);
    let busy = BusyMap::start(0).expect("bpf(2)");
    let sockets = unanswered(&here, 0, 200);
    assert!(eventually(|| sent_again(&here) >= before + 200));
    wait::settled("what was sent again", || sent_again(&here));
    let made = sent_again(&here) - before;
    // There are kernels that pass a program by without a count, too: see
    // common/ledger.rs. Only those passes are not ours to know.
    let made = match misses::kernel_counts() {
        true => passes.iter().map(Passes::since).fold(made, u64::min),
        false => made,
    };
    let (again, kept) = outcome(&mut counting);
    drop(busy);
    drop(sockets);
    assert!(
        again < made && kept > 0,
        "nothing was kept: {again} of {made}"
    );
    // Others' events may be among those that were kept.
    assert!(again + kept >= made, "{again} and {kept} kept of {made}");
    let (again_told, kept_told) = outcome(&mut told);
    assert!(again_told >= again);
    if misses::kernel_counts() {
        // It was detached a little later.
        let late = kept_told.checked_sub(kept);
        assert!(late.is_some_and(|late| late < 20), "{kept_told}, {kept}");
    }
}

/// Where nothing is kept from them nothing is said to be, however many events
/// there are.
#[story]
fn nothing_is_said_to_be_kept_that_was_not() {
    let _alone = alone();
    if !live() {
        return;
    }
    let (mut source, mut told) = (open(true), open(false));
    let mut kept = 0;
    let work = || {
        let listener = net::listen(net::own_ip());
        for _ in 0..500 {
            net::converse(&listener);
        }
    };
    let workers = [thread::spawn(work), thread::spawn(work)];
    while !workers.iter().all(|w| w.is_finished()) {
        source.drain(u64::MAX, &mut |_, _| true);
        source.losses(0, &mut |lost| kept += lost.count);
    }
    workers.into_iter().for_each(|w| w.join().unwrap());
    let (_, at_end) = outcome(&mut source);
    let (_, by_kernel) = outcome(&mut told);
    assert!(
        kept + at_end <= by_kernel,
        "{kept} and {at_end}, {by_kernel}"
    );
}

/// Rings that are replaced again and again, alive as they are, while events come.
#[story]
fn a_ring_that_is_replaced_loses_nothing() {
    let _alone = alone();
    if !live() {
        return;
    }
    const CONNECTIONS: usize = 2000;
    let mut rings = Rings::open(Some(1 << 20), Feed::Programs).expect("rings");
    let maps = Maps::create(&rings, None, Abilities::empty()).expect("maps");
    let cpus = rings.cpus();
    let loaded = attach::by_tracefs(&maps, &cpus, Abilities::LOCK).expect("programs");
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let worker = thread::spawn(move || {
        for _ in 0..CONNECTIONS {
            net::converse(&listener);
        }
    });
    let mut own = 0;
    let mut cards = Cards::new(4096);
    let mut sink = |sample: socket_snoop::perf::Sample<'_>| {
        let mut buffer = [0; 256];
        if let Body::Sample { data, .. } = sample.body {
            let bytes = data.flatten(&mut buffer);
            let (at, known) = ((sample.time, sample.cpu), Abilities::CARDS);
            let event = Event::decode_from(Order::NATIVE, at, bytes, known, &mut cards);
            let event = event.expect("an event");
            let state = matches!(event.what, What::State { .. });
            let ends = [&event.local, &event.peer];
            let is_own = ends
                .iter()
                .any(|e| (e.addr, e.port) == (server.ip(), server.port()));
            own += usize::from(state && is_own);
        }
        true
    };
    let mut replaced = 0;
    while !worker.is_finished() {
        for cpu in &cpus {
            let ring = rings.revive(*cpu).expect("another ring");
            maps.connect(ring).expect("connected");
            replaced += 1;
        }
        rings.release_retired();
        rings.drain(u64::MAX, &mut sink);
    }
    worker.join().unwrap();
    drop(loaded);
    rings.drain(u64::MAX, &mut sink);
    assert!(replaced > 20, "{replaced}");
    assert_eq!(cards.missing(), 0);
    // The listener's end, too; its start was before the programs'.
    assert!(
        (10 * CONNECTIONS..=10 * CONNECTIONS + 2).contains(&own),
        "{own}"
    );
    let lost: u64 = cpus
        .iter()
        .map(|cpu| maps.tally().of(*cpu))
        .map(|c| c.ring_full + c.other)
        .sum();
    assert_eq!(lost, 0);
}
