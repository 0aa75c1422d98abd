//! The load: whole connections on loopback, at a steady rate or as fast as can be,
//! in a network namespace of its own, by a process of its own.
//!
//! Contract: bounded in time, or in number, by who asks for it. Each connection is opened,
//! used and closed in order by one thread, so that it has [`CHANGES`] changes
//! of state, whatever the CPUs do. At its end it prints how many it made.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setresgid, setresuid};

use crate::common::{Guard, net, wait};

/// Changes of state of one connection that are shown: five of each end.
pub const CHANGES: u64 = 10;

/// Listeners of each thread, so that the client's ports last for the minute that
/// each stays in TIME_WAIT.
const LISTENERS: u8 = 32;

/// A load to be made.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its servers are at 127.`net`.0.1 and on.
    pub net: u8,
    /// Connections a second of each thread; 0 is as many as can be.
    pub rate: u32,
    /// How long at most.
    pub lasts: Duration,
    /// How many of each thread at most.
    pub connections: u64,
    pub threads: u8,
    /// By which user.
    pub user: u32,
}

/// A load that is being made; killed on drop.
pub struct Running {
    child: Guard,
    count: ChildStdout,
}

impl Load {
    /// What one thread does; how many connections it made.
    fn work(self, thread: u8) -> u64 {
        let listeners: Vec<TcpListener> = (1..=LISTENERS)
            .map(|last| net::listen(Ipv4Addr::new(127, self.net, thread, last)))
            .collect();
        let began = Instant::now();
        let mut made: u32 = 0;
        for listener in listeners.iter().cycle() {
            if began.elapsed() >= self.lasts || u64::from(made) == self.connections {
                break;
            }
            if self.rate > 0 {
                let due = Duration::from_secs(1) * made / self.rate;
                wait::pace(due.saturating_sub(began.elapsed()));
            }
            net::converse(listener);
            made += 1;
        }
        made.into()
    }

    /// Starts it in a process of its own.
    pub fn start(self) -> Running {
        let program = std::env::current_exe().expect("this program");
        let numbers = [
            u64::from(self.net),
            u64::from(self.rate),
            u64::try_from(self.lasts.as_millis()).expect("a while"),
            u64::from(self.user),
            self.connections,
            u64::from(self.threads),
        ];
        let mut child: Child = Command::new(program)
            .arg("load")
            .args(numbers.map(|n| n.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a load");
        let count = child.stdout.take().expect("piped");
        Running {
            child: Guard(child),
            count,
        }
    }
}

impl Running {
    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.wait(Duration::ZERO).is_some()
    }

    /// Waits for its end; how many connections it made.
    pub fn finish(mut self, limit: Duration) -> Result<u64, String> {
        let status = self.child.wait(limit).ok_or("the load does not end")?;
        if !status.success() {
            return Err(format!("the load failed: {status}"));
        }
        let text = std::io::read_to_string(self.count).map_err(|e| e.to_string())?;
        text.trim().parse().map_err(|e| format!("{text:?}: {e}"))
    }
}

fn numbers(args: &[String]) -> Option<Load> {
    let number = |index: usize| args.get(index)?.parse::<u32>().ok();
    Some(Load {
        net: u8::try_from(number(0)?).ok()?,
        rate: number(1)?,
        lasts: Duration::from_millis(number(2)?.into()),
        user: number(3)?,
        connections: args.get(4)?.parse().ok()?,
        threads: u8::try_from(number(5)?).ok()?,
    })
}

/// Makes the load that the arguments describe: the process that
/// [`Load::start`] starts.
pub fn child(args: &[String]) -> ExitCode {
    let load = numbers(args).expect("the numbers of a load");
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("start ip").success(), "loopback comes up");
    if load.user != 0 {
        let (user, group) = (Uid::from_raw(load.user), Gid::from_raw(load.user));
        setresgid(group, group, group).expect("become another group");
        setresuid(user, user, user).expect("become another user");
    }
    let threads = (0..load.threads).map(|thread| thread::spawn(move || load.work(thread)));
    let threads: Vec<_> = threads.collect();
    let made = threads.into_iter().map(|t| t.join().expect("a load"));
    let _ = writeln!(std::io::stdout(), "{}", made.sum::<u64>());
    ExitCode::SUCCESS
}
