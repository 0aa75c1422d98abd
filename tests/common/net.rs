//! Connections and namespaces made by the tests themselves.
//!
//! Contract: traffic is bounded and stays on loopback or in namespaces of the
//! test's own. A namespace belongs to a thread and goes away with it: nothing
//! is bound to a path, nothing has to be cleaned up.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::gettid;

/// A loopback address that no other test uses.
pub fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let third = (std::process::id() % 251) as u8;
    Ipv4Addr::new(127, 77, third, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The IPv6 loopback address.
pub const LOOPBACK6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Nanoseconds since 1970 now.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

/// A listening socket on this address, at a port of the kernel's choice.
pub fn listen(ip: impl Into<IpAddr>) -> TcpListener {
    TcpListener::bind((ip.into(), 0)).expect("listen")
}

/// A process that this one starts has copies of its sockets until it runs its own
/// program, and by the last copy a socket is closed: then it is not this one's
/// doing. Held while a program is started.
pub fn forking() -> RwLockWriteGuard<'static, ()> {
    FORKS.write().unwrap_or_else(|e| e.into_inner())
}

/// Held while it matters that this process itself closes its sockets.
pub fn not_forking() -> RwLockReadGuard<'static, ()> {
    FORKS.read().unwrap_or_else(|e| e.into_inner())
}

static FORKS: RwLock<()> = RwLock::new(());

/// One connection from open to close, client first; the client's address.
/// Both ends are in this thread. The client waits for the server's end, so that
/// it is no orphan and its way into TIME_WAIT can be seen.
pub fn converse(listener: &TcpListener) -> SocketAddr {
    converse_at(listener, listener.local_addr().unwrap())
}

/// As [`converse`], by another of the listener's addresses.
pub fn converse_at(listener: &TcpListener, server: SocketAddr) -> SocketAddr {
    let _whole = not_forking();
    let mut client = TcpStream::connect(server).expect("connect");
    let (accepted, _) = listener.accept().expect("accept");
    let address = client.local_addr().unwrap();
    client.write_all(b"hello").expect("send");
    client.shutdown(Shutdown::Write).expect("shutdown");
    drain(accepted);
    drain(client);
    address
}

/// Reads until the peer closes, then closes. By the close alone: one that comes
/// upon an unanswered FIN of ours is a change from LAST_ACK to LAST_ACK.
pub fn drain(mut stream: TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("read to the end");
}

/// Closes at once and for good (RST): nothing of it is sent or waits any more.
pub fn abort(stream: TcpStream) {
    let now = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &now).expect("SO_LINGER");
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, held by a thread that runs what it is given.
pub struct Netns {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl Netns {
    /// A new namespace with its loopback up; an error where the kernel refuses.
    pub fn new() -> Result<Netns, nix::Error> {
        let (jobs, todo) = channel::<Job>();
        let (ready, answer) = channel();
        let thread = thread::spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid().as_raw());
            let go_on = made.is_ok();
            ready.send(made).unwrap();
            if go_on {
                todo.iter().for_each(|job| job());
            }
        });
        let netns = Netns {
            tid: answer.recv().unwrap()?,
            jobs: Some(jobs),
            thread: Some(thread),
        };
        netns.ip("link set lo up");
        Ok(netns)
    }

    /// Runs `work` in the namespace; threads it starts are in it, too.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = Box::new(move || {
            let _ = done.send(work());
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().expect("the work in the namespace panicked")
    }

    /// Runs `ip` with these arguments in the namespace; it must succeed.
    pub fn ip(&self, args: &str) {
        if let Err(why) = self.tool("ip", args) {
            panic!("ip {args}: {why}");
        }
    }

    /// Runs a program with these arguments in the namespace.
    pub fn tool(&self, program: &'static str, args: &str) -> Result<(), String> {
        self.ask(program, args).map(drop)
    }

    /// As [`Netns::tool`]; what it prints.
    pub fn ask(&self, program: &'static str, args: &str) -> Result<String, String> {
        let args = args.to_owned();
        self.run(move || {
            let mut command = Command::new(program);
            command.args(args.split_ascii_whitespace());
            let out = output(command).map_err(|e| e.to_string())?;
            if out.status.success() {
                return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
            }
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        })
    }

    /// Runs `nft` with each of these commands in the namespace; why not, where it
    /// can't.
    pub fn nft(&self, commands: &[&str]) -> Result<(), String> {
        let mut all = commands.iter();
        all.try_for_each(|command| self.tool("nft", command))
    }

    /// A setting of the namespace, below /proc/sys/net.
    pub fn set(&self, name: &'static str, value: &'static str) {
        self.run(move || {
            let path = std::path::Path::new("/proc/sys/net").join(name);
            std::fs::write(path, value).expect("a setting of the namespace");
        });
    }

    /// A counter of the namespace's TCP in /proc/net/snmp.
    pub fn snmp(&self, name: &'static str) -> u64 {
        self.counter("/proc/thread-self/net/snmp", "Tcp: ", name)
    }

    /// One of those beyond the MIB's, in /proc/net/netstat.
    pub fn tcp_ext(&self, name: &'static str) -> u64 {
        self.counter("/proc/thread-self/net/netstat", "TcpExt: ", name)
    }

    fn counter(&self, path: &'static str, of: &str, name: &str) -> u64 {
        let text = self.run(move || std::fs::read_to_string(path));
        let text = text.expect("the namespace's counters");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(of));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|n| n == name).expect(name);
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }

    /// Two namespaces joined by a veth pair `v0` - `v0`: 10.77.0.1 and
    /// fd77::1 in the first, 10.77.0.2 and fd77::2 in the second.
    pub fn joined() -> Result<(Netns, Netns), nix::Error> {
        let (a, b) = (Netns::new()?, Netns::new()?);
        a.ip(&format!(
            "link add v0 type veth peer name v0 netns {}",
            b.tid
        ));
        for (netns, n) in [(&a, 1), (&b, 2)] {
            netns.ip(&format!("addr add 10.77.0.{n}/24 dev v0"));
            netns.ip(&format!("addr add fd77::{n}/64 dev v0 nodad"));
            netns.ip("link set v0 up");
        }
        Ok((a, b))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs a program to its end; what it printed.
pub fn output(mut command: Command) -> std::io::Result<Output> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let forking = forking();
    let child = command.spawn()?;
    drop(forking);
    child.wait_with_output()
}

/// Runs `work` in a private mount namespace: what it mounts, only it and the
/// processes it starts can see.
pub fn in_mount_ns<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, nix::Error> {
    let private = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        Ok(work())
    };
    match thread::spawn(private).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
