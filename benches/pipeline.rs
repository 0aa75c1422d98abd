//! What an event costs this program itself, on hosts of any number of CPUs: a
//! ring for each is filled with what the programs would send, and read, decoded,
//! followed and shown as in a run. No kernel's events, no privileges.
//! `SOCKET_SNOOP_OUT=FILE` keeps the lines of the first round.
//!
//! Contract: the time is the CPU time of the reading thread. The events are the
//! same for any number of CPUs, in the same order; only their rings differ. Where records
//! alone are shown, changes are held back as the programs do.
//! Arguments, if any, are the numbers of CPUs, and the formats: `classic`, `json`, and
//! with records alone `closed-classic`, `closed-json`.

use std::cell::Cell;
use std::fs::File;
use std::io::{Write, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};
use socket_snoop::bpf::cards::Cards;
use socket_snoop::bpf::changes::{self, Changes, Tell};
use socket_snoop::bpf::layout::*;
use socket_snoop::bpf::wire::DecodeError;
use socket_snoop::capture::Transport;
use socket_snoop::cli::{Command, Config, parse};
use socket_snoop::host::proc::Proc;
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::Event;
use socket_snoop::model::tcp::State::{self, *};
use socket_snoop::order::{Order, Value};
use socket_snoop::output::{FormatName, Output};
use socket_snoop::owner::processes::Processes;
use socket_snoop::perf::Sample;
use socket_snoop::perf::cursor::{Cursor, Part};
use socket_snoop::perf::merge::{Merge, Step};
use socket_snoop::perf::record::Body;
use socket_snoop::session::view::View;
use socket_snoop::sys::perf_event::SampleType;
use socket_snoop::sys::ring::{RingMap, page_size};
use socket_snoop::sys::time;

/// Connections of a round, their events of both ends, and the rounds.
const CONNECTIONS: usize = 4096;
const EVENTS: usize = 11;
const ROUNDS: usize = 9;
/// Nanoseconds between two connections' beginnings, and between two events of one.
const EVERY: u64 = 20_000;
const STEP: u64 = 7_000;

const LAYOUT: SampleType = SampleType::RAW;

/// What a connection over loopback goes through: whether it is the client's
/// socket, and the states; the accept is a change to nothing.
const LIFE: [(bool, State, Option<State>); EVENTS] = [
    (true, Close, Some(SynSent)),
    (false, Listen, Some(SynRecv)),
    (true, SynSent, Some(Established)),
    (false, SynRecv, Some(Established)),
    (false, Established, None),
    (true, Established, Some(FinWait1)),
    (false, Established, Some(CloseWait)),
    (true, FinWait1, Some(FinWait2)),
    (false, CloseWait, Some(LastAck)),
    (true, FinWait2, Some(Close)),
    (false, LastAck, Some(Close)),
];

fn put<T: Value>(bytes: &mut [u8], member: &Field<T>, value: T) {
    member.put(bytes, value, Order::NATIVE);
}

fn mapped(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, last]
}

/// Whether the card goes with it: at a socket's first event, and at the first change
/// after the accept, where its owner is another one. The accept tells all, too, but
/// nothing that is to be kept.
fn has_card(step: usize) -> bool {
    matches!(step, 0 | 1 | 4 | 6)
}

/// The changes that are held back where records alone are shown, and go with this one.
fn held_with(step: usize) -> &'static [usize] {
    match step {
        6 => &[3],
        9 => &[2, 5, 7],
        10 => &[8],
        _ => &[],
    }
}

/// An event as the programs send it, all of it.
fn event(connection: usize, step: usize, pid: u32) -> Vec<u8> {
    let (client, old, new) = LIFE[step];
    let closed = new == Some(Close);
    let mut event = vec![0; if closed { EV_CLOSE_SIZE } else { EV_SIZE }];
    let out = &mut event[..];
    // As a slab of sockets uses its places again.
    let socket = 0xffff_8881_0000_0000 + (connection * 2 + usize::from(client)) % 3000 * 2368;
    let port = 32768 + (connection % 28000) as u16;
    let (local, peer) = if client { (port, 8080) } else { (8080, port) };
    put(out, &EV_SOCKET, socket as u64);
    put(out, &EV_TASK, u64::from(pid) << 32 | u64::from(pid));
    put(out, &EV_LOCAL, mapped(1));
    put(out, &EV_PEER, mapped(1));
    put(out, &EV_VERSION, VERSION);
    put(
        out,
        &EV_KIND,
        if new.is_some() {
            KIND_STATE
        } else {
            KIND_ACCEPT
        },
    );
    put(out, &EV_OLDSTATE, old as u8);
    put(out, &EV_NEWSTATE, new.map_or(0, |new| new as u8));
    put(out, &EV_LOCAL_PORT, local);
    put(out, &EV_PEER_PORT, peer);
    put(out, &EV_FAMILY, libc::AF_INET as u16);
    let card = match step {
        4 => 0,
        _ if has_card(step) => FLAG_CARD,
        _ => FLAG_BRIEF,
    };
    put(out, &EV_FLAGS, FLAG_FAMILY | FLAG_USER | card);
    let owner = &mut out[EV_OWNER.at..];
    put(owner, &OW_TASK, u64::from(pid) << 32 | u64::from(pid));
    put(owner, &OW_CGROUP, 4711);
    put(owner, &OW_COMM, *b"connload\0\0\0\0\0\0\0\0");
    put(owner, &OW_UID, 0);
    put(owner, &OW_PARENT, 1);
    put(owner, &OW_NETNS, 4_026_531_840);
    let source = match (client, step) {
        (true, 0 | 5) | (false, 8) => SOURCE_TASK,
        (false, 1..4) => SOURCE_LISTENER,
        (false, 4..8) => SOURCE_ACCEPT,
        _ => SOURCE_CACHED,
    };
    put(owner, &OW_THREAD, *b"connload\0\0\0\0\0\0\0\0");
    put(out, &EV_HOW, source);
    if closed {
        put(out, &EV_SEGS_OUT, 6);
        put(out, &EV_SEGS_IN, 5);
        put(out, &EV_BYTES_SENT, 0);
        put(out, &EV_SKFLAGS, 2);
        put(out, &EV_RECEIVED, 1);
        put(out, &EV_SRTT, 8 * 30);
        put(out, &EV_MINRTT, 21);
        put(out, &EV_ACKED, 1);
        put(out, &EV_TW_LIMIT, 65536);
    }
    event
}

/// The same in a record of its ring, with what was held back until then.
fn record(connection: usize, step: usize, time: u64, pid: u32, held: &[usize]) -> Vec<u8> {
    let mut event = event(connection, step, pid);
    let mut changes = Vec::new();
    for &before in held {
        let change = self::event(connection, before, pid);
        changes.extend(&change[EV_VERSION.at..EV_FLAGS.at]);
        changes.extend((time - (step - before) as u64 * STEP).to_ne_bytes());
        changes.extend(&change[EV_FLAGS.at..EV_HEAD]);
    }
    if !held.is_empty() {
        changes.resize(HELD_SIZE.into(), 0);
        put(&mut event, &EV_TOTAL, held.len() as u32);
    }
    match has_card(step) {
        true => event.extend(changes),
        false => drop(event.splice(EV_HEAD..EV_SIZE, changes)),
    }
    let len = 8 + 4 + 8 + event.len();
    assert!(len % 8 == 0);
    let mut record = Vec::with_capacity(len);
    record.extend(9u32.to_ne_bytes());
    record.extend(1u16.to_ne_bytes());
    record.extend((len as u16).to_ne_bytes());
    record.extend((8 + event.len() as u32).to_ne_bytes());
    record.extend(time.to_ne_bytes());
    record.extend(event);
    record
}

/// A ring of a CPU that doesn't exist.
struct Fake {
    file: File,
    map: RingMap,
    size: usize,
    head: u64,
}

impl Fake {
    fn new(size: usize) -> Fake {
        let file = File::from(memfd_create(c"ring", MFdFlags::MFD_CLOEXEC).expect("memfd"));
        file.set_len((page_size() + size) as u64).expect("room");
        let map = RingMap::new(file.as_fd(), size).expect("a mapping");
        let head = 0;
        Fake {
            file,
            map,
            size,
            head,
        }
    }

    /// Puts records in.
    fn fill(&mut self, bytes: &[u8]) {
        assert!(bytes.len() < self.size);
        let at = self.head as usize % self.size;
        let (first, second) = bytes.split_at(bytes.len().min(self.size - at));
        let page = page_size() as u64;
        self.file
            .write_all_at(first, page + at as u64)
            .expect("the data");
        self.file.write_all_at(second, page).expect("the data");
        self.head += bytes.len() as u64;
        self.file
            .write_all_at(&self.head.to_ne_bytes(), 1024)
            .expect("the head");
    }
}

/// What each ring gets in a round.
fn streams(cpus: usize, round: usize, start: u64, pid: u32, hold: bool) -> Vec<Vec<u8>> {
    let mut all: Vec<(u64, usize, usize)> = Vec::new();
    let is_held = |step: usize| hold && (0..EVENTS).any(|with| held_with(with).contains(&step));
    for n in 0..CONNECTIONS {
        for step in (0..EVENTS).filter(|step| !is_held(*step)) {
            all.push((n as u64 * EVERY + step as u64 * STEP, n, step));
        }
    }
    all.sort();
    let mut streams = vec![Vec::new(); cpus];
    for (at, n, step) in all {
        let number = round * CONNECTIONS + n;
        let held = if hold { held_with(step) } else { &[] };
        streams[n % cpus].extend(record(number, step, start + at, pid, held));
    }
    streams
}

fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// The format itself, and whether records alone are shown.
fn named(format: &str) -> (&str, bool) {
    match format.strip_prefix("closed-") {
        Some(name) => (name, true),
        None => (format, false),
    }
}

fn config(format: &str) -> Config {
    let (name, closed) = named(format);
    let mut args = ["--no-log", "--format", name].map(String::from).to_vec();
    if closed {
        args.push("--closed-only".to_owned());
    }
    match parse(&args, None, true).expect("flags") {
        Command::Run(config) => *config,
        _ => unreachable!("a run was asked for"),
    }
}

/// What takes what was held back.
struct Late<'a> {
    view: &'a mut View,
    past: &'a Processes,
    taken: u64,
}

impl Tell for Late<'_> {
    fn event(&mut self, event: &mut Event, read: Result<(), DecodeError>) {
        read.expect("an event");
        self.view.take(event, self.past);
        self.taken += u64::from(event.is_line());
    }

    #[inline]
    fn changes(&mut self, changes: &Changes<'_>) -> bool {
        let taken = self.view.take_held(changes);
        self.taken += changes.count() * u64::from(taken);
        taken
    }
}

/// Takes what is in the rings; the events that are shown.
#[inline(never)]
fn drained(
    rings: &mut [Fake],
    counts: &[Cell<u64>; 3],
    (view, processes, cards): &mut (&mut View, &mut Processes, &mut Cards),
    past: &Processes,
) -> u64 {
    let (mut taken, most) = (0, 1024.max(16 * rings.len()));
    let (mut event, mut buffer) = (Event::blank(), [0; EV_CLOSE_SIZE]);
    // As many in one go as a drain takes.
    loop {
        let cells = [&counts[0], &counts[1], &counts[2]];
        let parts: Vec<Part<'_>> = (0u32..)
            .zip(&mut *rings)
            .map(|(cpu, ring)| Part::of_samples(cpu, LAYOUT, cells, ring.map.drain()))
            .collect();
        let mut merge = Merge::new(parts.iter().map(Cursor::new).collect());
        for _ in 0..most {
            let sample = match merge.next(u64::MAX) {
                Step::Whole { cpu, time, data } => Sample::whole(cpu, time, data),
                Step::Other => match merge.take() {
                    Some(sample) => sample,
                    None => continue,
                },
                Step::Held | Step::Empty => return taken,
            };
            let Body::Sample { data, .. } = sample.body else {
                continue;
            };
            let bytes = data.flatten(&mut buffer);
            let given = Abilities::all() - Abilities::DESTROYS - Abilities::READS;
            let at = (sample.time, sample.cpu);
            let mut late = Late {
                view,
                past,
                taken: 0,
            };
            let read = changes::decode(&mut event, at, bytes, given, cards, &mut late);
            taken += late.taken;
            read.expect("an event");
            processes.ran(event.time, &event.on_cpu);
            view.take(&mut event, *processes);
            taken += u64::from(event.is_line());
        }
    }
}

/// Nanoseconds of an event that is shown: the median of all rounds but the first.
fn measure(cpus: usize, format: &str) -> u64 {
    let config = config(format);
    assert!(config.format != FormatName::Picture, "lines were asked for");
    let path = std::env::var("SOCKET_SNOOP_OUT").unwrap_or("/dev/null".into());
    let to = File::create(match path.as_str() {
        "/dev/null" => path,
        _ => format!("{path}.{format}"),
    });
    let to = to.expect("a place for the lines");
    let shape = config.shape;
    let output = Output::new(
        to,
        config.format,
        None,
        config.log_format,
        shape,
        Vec::new(),
    );
    let mut view = View::of(
        &config,
        output.expect("an output"),
        Abilities::all() - Abilities::DESTROYS - Abilities::READS,
        (Transport::Tracepoint, &[]),
    );
    let mut processes = Processes::open(Proc::open().as_ref(), true);
    let past = Processes::empty(true);
    let pid = std::process::id();
    let hold = named(format).1;
    let bytes = CONNECTIONS * 2048 / cpus * 2;
    let size = bytes.next_power_of_two().max(page_size() * 4);
    let mut rings: Vec<Fake> = (0..cpus).map(|_| Fake::new(size)).collect();
    let counts = [Cell::new(0), Cell::new(0), Cell::new(0)];
    let start = time::monotonic();
    let mut cards = Cards::new(2 * CONNECTIONS);
    let mut costs = Vec::new();
    for round in 0..ROUNDS {
        let start = start + round as u64 * (CONNECTIONS as u64 + 10) * EVERY;
        for (ring, bytes) in rings.iter_mut().zip(streams(cpus, round, start, pid, hold)) {
            ring.fill(&bytes);
        }
        let before = cpu_time();
        let taken = drained(
            &mut rings,
            &counts,
            &mut (&mut view, &mut processes, &mut cards),
            &past,
        );
        view.output.flush();
        let cost = cpu_time() - before;
        assert_eq!(taken as usize, CONNECTIONS * (EVENTS - 1));
        if round > 0 {
            costs.push(cost / taken);
        }
    }
    costs.sort_unstable();
    costs[costs.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    if numbers.is_empty() {
        numbers = vec![2, 16, 128, 512];
    }
    let is_named = |name: &&str| args.iter().any(|arg| arg == name);
    let mut formats = vec!["classic", "json", "closed-classic", "closed-json"];
    match formats.iter().any(is_named) {
        true => formats.retain(is_named),
        false => formats.truncate(2),
    }
    let mut out = stdout();
    for cpus in numbers {
        let _ = write!(out, "{cpus:4} CPUs: ns an event:");
        for format in &formats {
            let _ = write!(out, " {:5} ({format})", measure(cpus, format));
        }
        let _ = writeln!(out);
    }
}
