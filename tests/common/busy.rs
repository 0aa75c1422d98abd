//! A kernel that keeps events from programs: bpf(2) at work on a map, and
//! timers that fire meanwhile.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
use nix::unistd::Pid;
use socket_snoop::bpf::made::with_memlock;
use socket_snoop::sys::bpf::{Map, MapType};

use super::life::lose;
use super::net::Netns;
use super::wait;

/// Bytes that a lookup copies, during which no program on a perf event runs.
const VALUE: usize = 1 << 20;

/// Keeps this thread on a CPU.
pub fn stay_on(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu).expect("a CPU number");
    sched_setaffinity(Pid::from_raw(0), &one).unwrap_or_else(|e| panic!("to CPU {cpu}: {e}"));
}

/// A thread that looks up a large value over and over.
pub struct BusyMap {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BusyMap {
    /// Starts it on this CPU; an error where there is no bpf(2).
    pub fn start(cpu: usize) -> Result<BusyMap, String> {
        let create = || Map::create(MapType::Array, "busy", (4, VALUE as u32), 1, 0);
        let map = with_memlock(create);
        let map = map.map_err(|errno| format!("no map by bpf(2): {errno}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            stay_on(cpu);
            let mut value = vec![0; VALUE];
            while !stopped.load(Ordering::Relaxed) {
                map.lookup(&[0; 4], &mut value).expect("a lookup");
            }
        };
        Ok(BusyMap {
            stop,
            thread: Some(thread::spawn(work)),
        })
    }
}

impl Drop for BusyMap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_some_and(|end| end.is_ok()) || thread::panicking());
    }
}

/// The network of the port that [`unanswered`] goes to.
pub const NOBODYS: &str = "10.77.0.9";

/// So many SYNs that nobody answers, sent from this CPU of the namespace, the
/// first of a joined pair. Their timers fire there, after a second and after
/// three.
pub fn unanswered(here: &Netns, cpu: usize, count: usize) -> Vec<OwnedFd> {
    lose(here, NOBODYS);
    let one = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("socket");
        let to = SockaddrIn::new(10, 77, 0, 9, 4477);
        let sent = connect(fd.as_raw_fd(), &to);
        assert_eq!(sent, Err(Errno::EINPROGRESS));
        // One timer after the other, not all in one softirq.
        wait::pace(Duration::from_millis(1));
        fd
    };
    here.run(move || {
        stay_on(cpu);
        (0..count).map(|_| one()).collect()
    })
}

/// Segments sent again in a namespace so far (RetransSegs).
pub fn sent_again(here: &Netns) -> u64 {
    let text = here.run(|| fs::read_to_string("/proc/thread-self/net/snmp"));
    retrans_segs(&text.expect("/proc/thread-self/net/snmp"))
}

/// RetransSegs of a /proc/net/snmp.
pub fn retrans_segs(text: &str) -> u64 {
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().expect("names"), tcp.next().expect("values"));
    let at = names.split(' ').position(|name| name == "RetransSegs");
    let number = values.split(' ').nth(at.expect("RetransSegs"));
    number.and_then(|n| n.parse().ok()).expect("a number")
}
