//! What is measured: this program in its ways, the floors, others' programs; and
//! one run of it.
//!
//! Contract: a tool runs in a mount namespace in which tracefs is mounted for it
//! alone, writes to a file, is never more than one at a time, and is gone when its
//! [`Running`] is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::{self, Guard, TempDir, kernel, net, wait};
use crate::count::Count;
use crate::load::CHANGES;
use crate::watch::{self, Used};

/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What its lines are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes of state: ten a connection.
    Changes,
    /// Connections that have ended: two a connection.
    Records,
    /// Nothing: it prints none.
    Nothing,
}

/// Something that traces.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its name in the tables.
    pub name: String,
    pub command: Vec<String>,
    pub kind: Kind,
    /// Whether it says in its lines what is missing in them, as this program does.
    pub tells: bool,
}

/// Others' tools: name, package of Debian, what their lines are of.
const PEERS: [(&str, &str, Kind); 2] = [
    ("tcpstates", "libbpf-tools", Kind::Changes),
    ("tcplife", "libbpf-tools", Kind::Records),
];

/// Where programs are.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let folders = std::env::split_paths(&path).chain(sbin);
    let mut files = folders.map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}

impl Tool {
    fn new(name: &str, command: &[&str], kind: Kind) -> Tool {
        Tool {
            name: name.into(),
            command: command.iter().map(|word| word.to_string()).collect(),
            kind,
            tells: false,
        }
    }

    /// This program with these flags.
    fn own(name: &str, flags: &[&str], kind: Kind) -> Tool {
        let binary = common::binary();
        let binary = binary.to_str().expect("a path in UTF-8");
        let mut tool = Tool::new(name, &[binary, "--no-log"], kind);
        tool.tells = true;
        tool.command
            .extend(flags.iter().map(|flag| flag.to_string()));
        tool
    }

    /// A floor.
    fn floor(floor: &str) -> Tool {
        let program = std::env::current_exe().expect("this program");
        let program = program.to_str().expect("a path in UTF-8");
        let kind = match floor {
            "a" => Kind::Nothing,
            _ => Kind::Changes,
        };
        Tool::new(&format!("floor {floor}"), &[program, "floor", floor], kind)
    }

    /// `NAME=COMMAND`, its words separated by spaces.
    pub fn given(text: &str) -> Option<Tool> {
        let (name, command) = text.split_once('=')?;
        let command: Vec<&str> = command.split_ascii_whitespace().collect();
        let program = Path::new(command.first()?).file_name()?.to_str()?;
        let records = program.starts_with("tcplife") || command.contains(&"--closed-only");
        let kind = if records {
            Kind::Records
        } else {
            Kind::Changes
        };
        Some(Tool::new(name, &command, kind))
    }

    /// This program, as it is built: everything on, lines of both kinds, and
    /// records alone.
    pub fn ours() -> Vec<Tool> {
        vec![
            Tool::own("classic", &[], Kind::Changes),
            Tool::own("JSON", &["--format", "json"], Kind::Changes),
            Tool::own("--closed-only", &["--closed-only"], Kind::Records),
        ]
    }

    /// This program with filters: one that lets all of the load through, one that
    /// refuses it, and such as let it through after many comparisons.
    pub fn filters() -> Vec<Tool> {
        let json = |name: &str, filter: &[&str], kind| {
            let flags = [&["--format", "json"], filter].concat();
            Tool::own(name, &flags, kind)
        };
        let list = |one: &dyn Fn(u32) -> String| {
            let all: Vec<String> = (0..100).map(one).collect();
            all.join(", ")
        };
        let ports = list(&|n| (2 * n + 1).to_string());
        let nets = list(&|n| format!("198.18.{n}.0/25"));
        let with = |what: &str, list: String| format!("not {what} {{ {list} }}");
        let (ports, nets) = (with("port", ports), with("net", nets));
        let changes = Kind::Changes;
        let mut nothing = json("nothing", &["net 192.0.2.0/24"], Kind::Nothing);
        nothing.tells = false;
        vec![
            json("no filter", &[], changes),
            json("everything", &["not net 192.0.2.0/24"], changes),
            nothing,
            json("100 ports", &[&ports], changes),
            json("100 networks", &[&nets], changes),
        ]
    }

    /// All floors.
    pub fn floors() -> Vec<Tool> {
        ["a", "b", "e", "k"].map(Tool::floor).into()
    }

    /// Others' tools that are here; the packages of those that are not.
    pub fn peers() -> (Vec<Tool>, Vec<String>) {
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for (name, package, kind) in PEERS {
            match (find(name), find("stdbuf")) {
                // Line by line, as ours does: who watches wants to see them.
                (Some(program), Some(stdbuf)) => {
                    let words = [&stdbuf, &program].map(|path| path.to_str().expect("UTF-8"));
                    here.push(Tool::new(name, &[words[0], "-oL", words[1]], kind));
                }
                (None, _) => missing.push(format!("{name} is not here: package {package}")),
                (_, None) => missing.push(format!("{name} needs stdbuf: package coreutils")),
            }
        }
        (here, missing)
    }

    /// Lines that it prints for a connection.
    pub fn lines(&self) -> u64 {
        match self.kind {
            Kind::Changes => CHANGES,
            Kind::Records => 2,
            Kind::Nothing => 0,
        }
    }

    /// Starts it with its lines going here.
    pub fn spawn(
        &self,
        out: impl Into<Stdio> + Send + 'static,
        err: File,
    ) -> Result<Guard, String> {
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let start = move || {
            kernel::show_tracefs();
            command.spawn()
        };
        let child: std::io::Result<Child> =
            net::in_mount_ns(start).map_err(|e| format!("a mount namespace: {e}"))?;
        match child {
            Ok(child) => Ok(Guard(child)),
            Err(e) => Err(format!("start {}: {e}", self.command[0])),
        }
    }

    /// Starts it with its lines going to a file of its own.
    pub fn start(&self) -> Result<Running, String> {
        let dir = TempDir::new();
        let out = File::create(dir.join("out")).map_err(|e| format!("its output: {e}"))?;
        self.start_in(dir, out)
    }

    /// Starts it with its lines going here.
    pub fn start_with(&self, out: File) -> Result<Running, String> {
        self.start_in(TempDir::new(), out)
    }

    /// Starts it, and waits until its programs are in the kernel and it has nothing
    /// more to do.
    fn start_in(&self, dir: TempDir, out: File) -> Result<Running, String> {
        let err = File::create(dir.join("err")).map_err(|e| format!("its errors: {e}"))?;
        let child = self.spawn(out, err)?;
        let mut running = Running {
            child,
            dir,
            kind: self.kind,
        };
        let pid = running.child.pid();
        let mut loaded = Vec::new();
        let started = wait::within(PATIENCE, || {
            let before = std::mem::replace(&mut loaded, kernel::programs_of(pid));
            let ended = running
                .child
                .0
                .try_wait()
                .is_ok_and(|status| status.is_some());
            ended || !loaded.is_empty() && before == loaded
        });
        if !started || kernel::programs_of(pid).is_empty() {
            let said = running.said();
            return Err(format!("{} does not start: {said}", self.name));
        }
        running.settle();
        Ok(running)
    }
}

/// A tool that runs.
pub struct Running {
    pub child: Guard,
    dir: TempDir,
    kind: Kind,
}

impl Running {
    /// What it has used so far.
    pub fn used(&self) -> Used {
        watch::used(self.child.pid())
    }

    /// Waits until it has read what there is.
    pub fn settle(&self) {
        watch::settle(self.child.pid());
    }

    /// The last that it said on standard error.
    fn said(&self) -> String {
        let said = std::fs::read_to_string(self.dir.join("err")).unwrap_or_default();
        said.lines().last().unwrap_or("nothing said").to_string()
    }

    /// Ends it as Ctrl-C does; the most memory that it had, in KiB.
    pub fn stop(&mut self) -> Result<u64, String> {
        let pid = self.child.pid();
        self.child.signal(Signal::SIGINT);
        let (mut peak, mut status) = (0, None);
        wait::within(PATIENCE, || {
            peak = peak.max(watch::peak(pid));
            status = self.child.0.try_wait().ok().flatten();
            status.is_some()
        });
        match status {
            Some(_) => Ok(peak),
            None => Err("it does not end".into()),
        }
    }

    /// Lines of events of the loads in this net; only once it has ended.
    pub fn shown(&self, net: u8) -> Result<(u64, Count), String> {
        let count = Count::of(&self.dir.join("out"), net)?;
        let shown = match self.kind {
            Kind::Changes => count.changes,
            Kind::Records => count.changes + count.records,
            Kind::Nothing => 0,
        };
        Ok((shown, count))
    }
}
