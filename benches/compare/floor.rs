//! The floors: what a tracer of state changes costs at least, as small programs
//! of the project's own assembler (floors/*.s) and a reader that does nothing
//! but print. Played by a process of its own, as every tool that is measured.
//!
//! Contract: it reads as a tracer in earnest has to (a ring for each CPU, woken
//! by a watermark, each record copied out and written as a line of text), but
//! without filters, order, tables or losses: it is there to be measured, not used.
//! It ends by SIGINT or SIGTERM. What is wrong is a panic.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use socket_snoop::bpf_asm::{self, Exported, Program};
use socket_snoop::bpf_insn::Insn;
use socket_snoop::bpf_link::{Host, HostField};
use socket_snoop::sys::bpf::{Map, MapType, ProgType, Update, prog_load};
use socket_snoop::sys::perf_event::{self, Attr, AttrFlags, SampleType};
use socket_snoop::sys::ring::RingMap;
use socket_snoop::tracepoint::{TraceFs, Tracepoint};

use crate::common::kernel::online_cpus;
use crate::line::{Lines, RE_SIZE, SH_SIZE};

/// Bytes of each CPU's ring, and how many of them wake the reader.
const RING: usize = 1 << 20;
const WATERMARK: u32 = 1 << 16;
/// Sockets that are remembered.
const SOCKETS: u32 = 1 << 16;
/// Milliseconds after which the reader looks by itself.
const LOOK: u16 = 100;
/// Bytes of lines that are written at once.
const BLOCK: usize = 1 << 16;

/// The floors: name and text.
const TEXTS: [(&str, &str); 4] = [
    ("a", include_str!("floors/a.s")),
    ("b", include_str!("floors/b.s")),
    ("e", include_str!("floors/e.s")),
    ("k", include_str!("floors/k.s")),
];

/// A floor's program for records whose own fields begin here.
fn assemble(name: &str, record: u16) -> Program {
    let (_, text) = TEXTS
        .iter()
        .find(|(floor, _)| *floor == name)
        .unwrap_or_else(|| panic!("no floor {name}"));
    let mut include = |file: &str| match file {
        "record.inc" => {
            let rest = include_str!("floors/record.inc");
            Ok(format!(".equ RECORD {record}\n{rest}"))
        }
        "owners.inc" => Ok(include_str!("floors/owners.inc").to_string()),
        _ => Err("not there".into()),
    };
    let file = format!("benches/compare/floors/{name}.s");
    bpf_asm::assemble(&file, text, &mut include).unwrap_or_else(|e| panic!("{e}"))
}

/// The layout that the reader goes by is that of the text.
fn check_layout(program: &Program) {
    for (name, at) in crate::line::LAYOUT {
        let mut exports = program.exports.iter().filter(|export| export.name == name);
        if let Some(export) = exports.next() {
            let is = match export.what {
                Exported::Member(is, _) | Exported::Size(is) => usize::from(is),
                Exported::Constant(..) => panic!("{name} is no place"),
            };
            assert_eq!(is, at, "{name}");
        }
    }
}

/// Where the tracepoint's own fields begin; they lie as the text takes them.
fn record_at(tracepoint: &Tracepoint) -> u16 {
    let first = tracepoint.format.host_field("skaddr").expect("skaddr");
    for (name, offset, size) in [
        ("skaddr", 0, 8),
        ("oldstate", 8, 4),
        ("newstate", 12, 4),
        ("sport", 16, 2),
        ("dport", 18, 2),
        ("saddr", 24, 4),
        ("daddr", 28, 4),
        ("daddr_v6", 48, 16),
    ] {
        let offset = first.offset + offset;
        let is = tracepoint.format.host_field(name);
        assert_eq!(
            is,
            Some(HostField { offset, size }),
            "the floors are for the record of Linux 5.6 and later: {name}"
        );
    }
    first.offset
}

/// What a program is linked with.
struct Maps {
    events: Map,
    owners: Map,
}

impl Host for Maps {
    fn field(&self, _: &str) -> Option<HostField> {
        None
    }

    fn map_fd(&self, name: &str) -> Option<i32> {
        use std::os::fd::AsRawFd;
        let map = match name {
            "events" => &self.events,
            "owners" => &self.owners,
            _ => return None,
        };
        Some(map.as_fd().as_raw_fd())
    }
}

/// A ring, and the event that it is of.
struct Ring {
    _event: OwnedFd,
    map: RingMap,
}

impl Maps {
    fn new(cpus: &[u32]) -> Maps {
        let count = cpus.iter().max().expect("a CPU") + 1;
        let events = Map::create(MapType::PerfEventArray, "events", (4, 4), count, 0);
        let owners = Map::create(MapType::Hash, "owners", (8, 32), SOCKETS, 0);
        Maps {
            events: events.expect("a map"),
            owners: owners.expect("a map"),
        }
    }

    /// The ring of a CPU, told to the program and to who waits.
    fn ring(&self, cpu: u32, epoll: &Epoll) -> Ring {
        use std::os::fd::AsRawFd;
        let mut attr = Attr::new(perf_event::TYPE_SOFTWARE, perf_event::COUNT_SW_BPF_OUTPUT);
        attr.sample_type = SampleType::RAW;
        attr.sample_period = 1;
        attr.flags = AttrFlags::WATERMARK;
        attr.wakeup = WATERMARK;
        let event = perf_event::open(&attr, cpu).expect("perf_event_open");
        let map = RingMap::new(event.as_fd(), RING).expect("a ring");
        let fd = event.as_raw_fd().to_ne_bytes();
        let told = self.events.update(&cpu.to_ne_bytes(), &fd, Update::Any);
        told.expect("the ring in its map");
        let wake = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        epoll.add(event.as_fd(), wake).expect("epoll");
        Ring { _event: event, map }
    }
}

impl Ring {
    /// Hands out each record of the program; how many.
    fn drain(&mut self, mut each: impl FnMut(&[u8])) -> u64 {
        const PERF_RECORD_SAMPLE: u8 = 9;
        /// The header, and the raw data's length.
        const BEFORE: usize = 12;
        let (first, second) = self.map.unread();
        let (mut at, mut count) = (0, 0);
        let mut whole = [0; 256];
        while at < first.len() + second.len() {
            let header = piece(first, second, at, 8, &mut whole);
            let kind = header[0];
            let len = usize::from(u16::from_ne_bytes([header[6], header[7]]));
            if kind == PERF_RECORD_SAMPLE {
                let record = piece(first, second, at, len, &mut whole);
                each(&record[BEFORE..]);
                count += 1;
            }
            at += len;
        }
        if at > 0 {
            self.map.consume(at);
        }
        count
    }
}

/// These bytes of the unread ones; copied where they lie around the ring's end.
#[inline]
fn piece<'a>(
    first: &'a [u8],
    second: &'a [u8],
    at: usize,
    len: usize,
    whole: &'a mut [u8; 256],
) -> &'a [u8] {
    if at + len <= first.len() {
        return &first[at..at + len];
    }
    if at >= first.len() {
        return &second[at - first.len()..][..len];
    }
    let there = first.len() - at;
    whole[..there].copy_from_slice(&first[at..]);
    whole[there..len].copy_from_slice(&second[..len - there]);
    &whole[..len]
}

/// Loads a floor, attaches it, and prints what it sends until a signal comes.
pub fn play(name: &str) {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGINT);
    ends.add(Signal::SIGTERM);
    ends.thread_block().expect("block the signals");
    let ends = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC).expect("signalfd");
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
    let end = EpollEvent::new(EpollFlags::EPOLLIN, 1);
    epoll.add(&ends, end).expect("epoll");

    let tracefs = TraceFs::open().expect("tracefs");
    let tracepoint = tracefs.event("sock", "inet_sock_set_state");
    let tracepoint = tracepoint.expect("the tracepoint");
    let program = assemble(name, record_at(&tracepoint));
    check_layout(&program);
    let cpus: Vec<u32> = online_cpus();
    let maps = Maps::new(&cpus);
    let mut rings: Vec<Ring> = cpus.iter().map(|cpu| maps.ring(*cpu, &epoll)).collect();
    let insns = program.link(&maps).expect("linked");
    let insns: Vec<u64> = insns.into_iter().map(Insn::native).collect();
    let kind = ProgType::Tracepoint;
    let loaded = prog_load(kind, &program.name, &insns, c"Dual MIT/GPL", None, None);
    let loaded = loaded.expect("load the floor");
    let _attached = tracepoint.attach(loaded.as_fd(), &cpus).expect("attach");

    let mut out = std::fs::File::from(
        std::io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .expect("stdout"),
    );
    let mut lines = Lines::new(BLOCK, name == "k");
    let mut woken = [EpollEvent::empty(); 64];
    loop {
        let count = epoll.wait(&mut woken, LOOK).expect("epoll_wait");
        let mut events = 0;
        for ring in &mut rings {
            events += ring.drain(|record| {
                match record.len() {
                    RE_SIZE.. => lines.whole(record),
                    SH_SIZE.. => lines.short(record),
                    _ => {}
                }
                if lines.text().len() > BLOCK - 512 {
                    out.write_all(lines.text()).expect("write the lines");
                    lines.clear();
                }
            });
        }
        let ends = woken[..count].iter().any(|event| event.data() == 1);
        if events == 0 || ends {
            out.write_all(lines.text()).expect("write the lines");
            lines.clear();
        }
        if ends {
            return;
        }
    }
}
