//! The load: whole connections over loopback in a network namespace of its own,
//! made by a process of its own.
//!
//! Contract: each connection is opened, used and closed by one thread that plays
//! both ends, so that it has [`CHANGES`] changes of state whatever the CPUs do.
//! It is bounded by its number of connections, and by [`PATIENCE`]. How many it
//! made is its own count, held against that of its namespace (/proc/net/snmp).

use std::io::{Read, Write, stdout};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::common::{Guard, net, wait};

/// Changes of state of one connection: five of each end.
pub const CHANGES: u64 = 10;

/// Connections to one listener at most: a client's ports are kept for a minute
/// after its end.
const EACH: u64 = 20_000;
/// What a load may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A load to be made.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: u64,
    pub threads: u64,
    /// Connections a second; 0 is as many as can be.
    pub rate: u64,
    /// Its servers are at 127.`net`.x.y.
    pub net: u8,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    pub connections: u64,
    /// What the connections took.
    pub wall: Duration,
    /// The load's own CPU time.
    pub cpu: Duration,
}

impl Made {
    /// Connections a second.
    pub fn rate(&self) -> f64 {
        self.connections as f64 / self.wall.as_secs_f64()
    }

    /// CPU time of a connection in nanoseconds.
    pub fn each(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.connections as f64
    }
}

impl Load {
    /// Makes it, in a process of its own.
    pub fn make(self) -> Result<Made, String> {
        let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
        let numbers = [self.connections, self.threads, self.rate, self.net.into()];
        let child = Command::new(program)
            .arg("load")
            .args(numbers.map(|n| n.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = Guard(child.map_err(|e| format!("start a load: {e}"))?);
        let mut said = child.0.stdout.take().expect("piped");
        let status = child.wait(PATIENCE).ok_or("the load does not end")?;
        let mut text = String::new();
        said.read_to_string(&mut text).map_err(|e| e.to_string())?;
        let numbers: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
        match (status.success(), &numbers[..]) {
            (true, &[connections, wall, cpu, opened, accepted]) => {
                if opened != connections || accepted != connections {
                    let counted = format!("{opened} opened and {accepted} accepted");
                    return Err(format!(
                        "the load made {connections} connections, its namespace counts {counted}"
                    ));
                }
                Ok(Made {
                    connections,
                    wall: Duration::from_nanos(wall),
                    cpu: Duration::from_nanos(cpu),
                })
            }
            _ => Err(format!("the load ended with {status} and said {text:?}")),
        }
    }

    /// A thread's listeners: addresses that no other has.
    fn listeners(self, thread: u64, connections: u64) -> Vec<TcpListener> {
        let count = u8::try_from(connections / EACH + 1).expect("a bounded load");
        let thread = u8::try_from(thread).expect("few threads");
        (1..=count)
            .map(|n| net::listen(Ipv4Addr::new(127, self.net, thread, n)))
            .collect()
    }

    /// What one thread does; how many connections it made.
    fn work(self, thread: u64) -> u64 {
        let more = u64::from(thread < self.connections % self.threads);
        let connections = self.connections / self.threads + more;
        let listeners = self.listeners(thread, connections);
        let began = Instant::now();
        let mut made = 0;
        for listener in listeners.iter().cycle() {
            if made == connections {
                break;
            }
            if self.rate > 0 {
                let due = Duration::from_secs(1) * (made * self.threads) as u32 / self.rate as u32;
                let ahead = due.saturating_sub(began.elapsed());
                if !ahead.is_zero() {
                    wait::pace(ahead);
                }
            }
            connect(listener);
            made += 1;
        }
        made
    }
}

/// One connection, the client's FIN first.
fn connect(listener: &TcpListener) {
    let server = listener.local_addr().expect("its address");
    let mut client = TcpStream::connect(server).expect("connect");
    let (mut accepted, _) = listener.accept().expect("accept");
    let mut byte = [b'x'];
    client.write_all(&byte).expect("send");
    accepted.read_exact(&mut byte).expect("receive");
    accepted.write_all(&byte).expect("send");
    client.read_exact(&mut byte).expect("receive");
    drop(client);
    drop(accepted);
}

/// Two counters of this namespace's TCP: connections opened, and accepted.
fn counted() -> Option<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |name: &str| {
        let at = names.split(' ').position(|n| n == name)?;
        values.split(' ').nth(at)?.parse().ok()
    };
    Some([value("ActiveOpens")?, value("PassiveOpens")?])
}

/// CPU time of this process.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros as u64)
}

/// Makes the load that the arguments describe: the process that [`Load::make`]
/// starts.
pub fn play(args: &[String]) {
    let numbers: Vec<u64> = args.iter().flat_map(|arg| arg.parse()).collect();
    let &[connections, threads, rate, net] = &numbers[..] else {
        panic!("no numbers of a load: {args:?}");
    };
    let load = Load {
        connections,
        threads,
        rate,
        net: net as u8,
    };
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("start ip").success(), "loopback comes up");
    let before = cpu();
    let began = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|thread| thread::spawn(move || load.work(thread)))
        .collect();
    let made: u64 = workers.into_iter().map(|w| w.join().expect("a load")).sum();
    let wall = began.elapsed().as_nanos();
    let cpu = (cpu() - before).as_nanos();
    let [opened, accepted] = counted().expect("the namespace's counters");
    let _ = writeln!(stdout(), "{made} {wall} {cpu} {opened} {accepted}");
}
