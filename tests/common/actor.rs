//! Programs of the tests' own whose ids are known: each does what it is told,
//! one command at a time, and says what came of it.
//!
//! Contract: an [`Actor`] is this test program run again ([`play`] before
//! anything else in `main`), a fork of one, or a thread of one. It holds its
//! sockets by name; every command is answered before the next is read, so what
//! happened in which order is known. It ends when the test lets go of it.

// Each suite is a crate of its own and uses only a part of it.
#![allow(dead_code, reason = "no test uses all of it")]

#[path = "actor/part.rs"]
mod part;
#[path = "actor/steer.rs"]
mod steer;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, process};

use serde_json::Value;

use super::common::net::{self, Netns};
use super::common::{Guard, TempDir};
use part::Part;

const CONTROL: &str = "SOCKET_SNOOP_TEST_CONTROL";

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A task, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Process id.
    pub pid: u64,
    /// Thread id.
    pub tid: u64,
    /// Process id of the parent.
    pub parent: u64,
    /// User id.
    pub uid: u64,
    /// Name of the process: of its first thread.
    pub comm: String,
    /// Name of the thread.
    pub thread: String,
}

/// Where actors report.
pub struct Stage {
    dir: TempDir,
    control: UnixListener,
}

impl Stage {
    /// An empty one.
    pub fn new() -> Stage {
        let dir = TempDir::new();
        let control = UnixListener::bind(dir.join("control")).expect("a control socket");
        Stage { dir, control }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command
            .env(CONTROL, self.dir.join("control"))
            .stdin(Stdio::null());
        command
    }

    /// A new process of this name.
    pub fn actor(&self, name: &str) -> Actor {
        let forking = net::forking();
        let child = self.command().spawn().expect("start an actor");
        drop(forking);
        self.named(Guard(child), name)
    }

    /// The same in a network namespace.
    pub fn actor_in(&self, netns: &Netns, name: &str) -> Actor {
        let mut command = self.command();
        let child = netns.run(move || command.spawn().expect("start an actor"));
        self.named(Guard(child), name)
    }

    fn named(&self, child: Guard, name: &str) -> Actor {
        let mut actor = self.arrival(u64::from(child.pid()), None);
        actor.child = Some(child);
        actor.rename(name);
        actor
    }

    fn arrival(&self, pid: u64, tid: Option<u64>) -> Actor {
        let (stream, _) = self.control.accept().expect("an actor");
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        let mut actor = Actor {
            control: BufReader::new(stream),
            who: Who {
                pid,
                tid: 0,
                parent: 0,
                uid: 0,
                comm: String::new(),
                thread: String::new(),
            },
            sockets: self.dir.path().to_owned(),
            child: None,
        };
        let hello = actor.answer();
        let number = |key: &str| hello[key].as_u64().unwrap();
        assert_eq!(number("pid"), pid, "the wrong actor came");
        assert!(
            tid.is_none_or(|t| t == number("tid")),
            "the wrong thread came"
        );
        actor.who.tid = number("tid");
        actor.who.parent = number("parent");
        actor.who.uid = number("uid");
        actor.who.thread = hello["comm"].as_str().unwrap().into();
        actor.who.comm = actor.who.thread.clone();
        actor
    }

    /// A fork of an actor (with one thread), with its sockets.
    pub fn fork(&self, of: &mut Actor) -> Actor {
        let pid = of.ask("fork")["child"].as_u64().unwrap();
        self.arrival(pid, None)
    }

    /// Another thread of an actor, with the same sockets.
    pub fn thread(&self, of: &mut Actor) -> Actor {
        of.ask("thread");
        let mut thread = self.arrival(of.who.pid, None);
        thread.who.comm = of.who.comm.clone();
        thread
    }
}

/// A task that does as told.
pub struct Actor {
    control: BufReader<UnixStream>,
    /// Who it is now.
    pub who: Who,
    sockets: PathBuf,
    child: Option<Guard>,
}

impl Actor {
    /// Gives a command without waiting.
    pub fn tell(&mut self, command: &str) {
        let line = format!("{command}\n");
        self.control.get_mut().write_all(line.as_bytes()).unwrap();
    }

    /// The answer to a command that was given.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        let read = self.control.read_line(&mut line);
        assert!(
            matches!(read, Ok(1..)),
            "{:?} does not answer: {read:?}",
            self.who
        );
        serde_json::from_str(&line).expect("an answer")
    }

    /// Gives a command, which must succeed, and waits for its answer.
    pub fn ask(&mut self, command: &str) -> Value {
        self.tell(command);
        let answer = self.answer();
        let error = answer.get("error");
        assert!(error.is_none(), "{:?}: {command}: {answer}", self.who);
        answer
    }

    /// Gives a command that must fail with this error.
    pub fn fails(&mut self, command: &str, error: &str) {
        self.tell(command);
        assert_eq!(self.answer()["error"], error, "{:?}: {command}", self.who);
    }

    /// An address in the answer to a command.
    pub fn address(&mut self, command: &str) -> SocketAddr {
        self.ask(command)["local"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Listens on an address.
    pub fn listen(&mut self, name: &str, at: SocketAddr) -> SocketAddr {
        let family = if at.is_ipv4() { 4 } else { 6 };
        self.ask(&format!("socket {name} {family}"));
        self.ask(&format!("bind {name} {at}"));
        self.address(&format!("listen {name}"))
    }

    /// Connects to an address; this end's.
    pub fn connect(&mut self, name: &str, to: SocketAddr) -> SocketAddr {
        let family = if to.is_ipv4() { 4 } else { 6 };
        self.ask(&format!("socket {name} {family}"));
        self.address(&format!("connect {name} {to}"))
    }

    /// Passes a socket to another process, and keeps it.
    pub fn pass(&mut self, name: &str, to: &mut Actor) {
        let path = self.sockets.join(format!("fd-{}", to.who.tid));
        to.ask(&format!("mailbox {}", path.display()));
        self.ask(&format!("post {name} {}", path.display()));
        to.ask(&format!("unpack {name}"));
        std::fs::remove_file(path).expect("the mailbox");
    }

    /// Changes its name: of a thread that is not the first, its own alone.
    pub fn rename(&mut self, name: &str) {
        self.ask(&format!("comm {name}"));
        self.who.thread = name.into();
        if self.who.pid == self.who.tid {
            self.who.comm = name.into();
        }
    }

    /// Looks who it is now: its parent may have ended.
    pub fn look(&mut self) {
        self.who.parent = self.ask("parent")["parent"].as_u64().unwrap();
    }

    /// Gives itself to another user.
    pub fn become_user(&mut self, uid: u32) {
        self.ask(&format!("uid {uid}"));
        self.who.uid = uid.into();
    }

    /// Kills itself: its sockets are closed by the kernel, on its way out.
    pub fn die(&mut self) {
        self.tell("die");
        let mut line = String::new();
        assert!(!matches!(self.control.read_line(&mut line), Ok(1..)));
    }
}

/// Plays an actor for as long as it takes, where this process is one.
pub fn play() {
    if let Some(path) = env::var_os(CONTROL) {
        Part::new(path.into(), Arc::default()).play();
        process::exit(0);
    }
}

/// Where the unified hierarchy of control groups is, if it is mounted.
pub fn cgroup2() -> Option<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .map(Path::new)
        .find(|dir| dir.join("cgroup.procs").exists() && dir.join("cgroup.controllers").exists())
        .map(Path::to_owned)
}
