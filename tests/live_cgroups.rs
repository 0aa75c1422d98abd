//! Live: the container and the pod that an owner's cgroup is in: of cgroups from before
//! the start and of later ones, behind shut doors, and of processes that are gone.
//!
//! Contract: no container engine is needed: cgroups are made with the names that
//! engines give theirs, and the pod's folder of logs in a mount namespace of its own.

mod common;

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use story::story;

use common::event::{self, Value};
use common::{Guard, Run, Tracer, eventually, live, net, skip, wait};

const ID: &str = "3f4b1a0c9d8e7f60514233241506978877665544332211009f8e7d6c5b4a3928";
const LATER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const POD: &str = "6f1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

/// What a line begins with that says what is not as it should be, such as a refused call.
const SAYS: &str = "socket-snoop: ";

/// A cgroup of the test's own, removed on drop.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(parent: &Path, name: &str) -> Cgroup {
        let path = parent.join(name);
        fs::create_dir(&path).expect("make a cgroup");
        Cgroup(path)
    }

    /// A process in it that has connected, and holds the connection until its standard
    /// input ends; and the server's end.
    fn client(&self, server: &TcpListener) -> (Guard, TcpStream) {
        let place = server.local_addr().expect("its address");
        let procs = self.0.join("cgroup.procs");
        let script = format!(
            "echo $$ > {} && exec 3<>/dev/tcp/{}/{} && read -r x",
            procs.display(),
            place.ip(),
            place.port()
        );
        let mut command = Command::new("bash");
        command.args(["-c", &script]).stdin(Stdio::piped());
        let forking = net::forking();
        let child = Guard(command.spawn().expect("bash"));
        drop(forking);
        (child, server.accept().expect("its connection").0)
    }

    /// A connection from in there, from beginning to end.
    fn converse(&self, server: &TcpListener) {
        let (mut child, mut stream) = self.client(server);
        drop(child.0.stdin.take());
        let _ = stream.read(&mut [0]);
        drop(stream);
        child.wait(common::PATIENCE).expect("it ends");
    }

    /// Away with it, once nobody is in it.
    fn remove(&self) {
        wait::until("an empty cgroup", || {
            !self.0.exists() || fs::remove_dir(&self.0).is_ok()
        });
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A slice of this test's own, where cgroups of version 2 are.
fn slice(name: &str) -> Option<Cgroup> {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let root = roots.iter().find(|r| r.join("cgroup.controllers").exists());
    let Some(root) = root else {
        skip("no cgroups of version 2");
        return None;
    };
    let name = format!("snoop{name}{}.slice", std::process::id());
    Some(Cgroup::make(root, &name))
}

/// Of these, what is told of the end that opened a connection to there.
fn opener(mut all: Vec<Value>, server: SocketAddr) -> Vec<Value> {
    all.retain(|e| event::peer(e) == server && e["process.cgroup.id"].is_string());
    all
}

/// The events of connections to there, at the end that opened them.
fn told(tracer: &Tracer, server: SocketAddr) -> Vec<Value> {
    let all = event::with(&event::objects(&tracer.lines()), server);
    opener(all, server)
}

/// What was told of their ends.
fn records(tracer: &Tracer, server: SocketAddr) -> Vec<Value> {
    let all = event::records(&event::objects(&tracer.lines()), server);
    opener(all, server)
}

/// Opens connections from in there until one is told with all that is expected, from
/// its first event to its last; nothing else is ever told instead.
fn whole(tracer: &Tracer, cgroup: &Cgroup, server: &TcpListener, expected: &[(&str, &str)]) {
    let place = server.local_addr().expect("its address");
    let mut ended = 0;
    wait::until("a connection of which all is told", || {
        let before = told(tracer, place).len();
        cgroup.converse(server);
        ended += 1;
        assert!(eventually(|| records(tracer, place).len() == ended));
        let mut all = told(tracer, place);
        all.extend(records(tracer, place).pop());
        for (key, value) in expected {
            let wrong = |e: &&Value| !e[key].is_null() && e[key] != *value;
            assert_eq!(all.iter().find(wrong), None, "{key}");
        }
        let is = |e: &Value| expected.iter().all(|(key, value)| e[key] == *value);
        all.len() > before + 3 && all[before..].iter().all(is)
    });
}

#[story]
fn containers_from_before_and_from_later() {
    if !live() {
        return;
    }
    let Some(slice) = slice("docker") else { return };
    for mode in ["off", "on", "strict"] {
        let first = Cgroup::make(&slice.0, &format!("docker-{ID}.scope"));
        let tracer = Tracer::json(&format!("--sandbox={mode}"));
        let server = net::listen(net::own_ip());
        let docker = [("container.id", ID), ("container.runtime", "docker")];
        whole(&tracer, &first, &server, &docker);
        // Docker's cgroup in another one of its: the innermost.
        let inner = Cgroup::make(&first.0, "docker");
        let inner = Cgroup::make(&inner.0, LATER);
        let server = net::listen(net::own_ip());
        let later = [("container.id", LATER), ("container.runtime", "docker")];
        whole(&tracer, &inner, &server, &later);
        // This test is in none.
        let server = net::listen(net::own_ip());
        let place = server.local_addr().expect("its address");
        net::converse(&server);
        assert!(eventually(|| !records(&tracer, place).is_empty()));
        for e in told(&tracer, place) {
            assert!(e["container.id"].is_null(), "{e}");
        }
        let out = tracer.stop().ok();
        assert!(!out.stderr.contains(SAYS), "{mode}: {}", out.stderr);
        drop(inner);
        Cgroup(first.0.join("docker")).remove();
    }
}

/// It is known when the process has ended and its cgroup is gone.
#[story]
fn of_a_container_that_is_gone() {
    if !live() {
        return;
    }
    let Some(slice) = slice("gone") else { return };
    let tracer = Tracer::json("--sandbox=on");
    let cgroup = Cgroup::make(&slice.0, &format!("libpod-{ID}.scope"));
    let server = net::listen(net::own_ip());
    let place = server.local_addr().expect("its address");
    let podman = [("container.id", ID), ("container.runtime", "podman")];
    whole(&tracer, &cgroup, &server, &podman);
    let before = records(&tracer, place).len();
    let (mut child, stream) = cgroup.client(&server);
    let open = |e: &Value| e["tcp.state.new"] == "ESTABLISHED";
    let opened = || told(&tracer, place).iter().filter(|e| open(e)).count();
    assert!(eventually(|| opened() == before + 1));
    drop(child.0.stdin.take());
    child.wait(common::PATIENCE).expect("it ends");
    cgroup.remove();
    drop(stream);
    assert!(eventually(|| records(&tracer, place).len() == before + 1));
    let record = records(&tracer, place).pop().expect("a record");
    for (key, value) in podman {
        assert_eq!(record[key], value, "{record}");
    }
    tracer.stop().ok();
}

/// A pod's names are those of the folder of its logs, also where it comes later.
#[story]
fn pods_have_names() {
    if !live() {
        return;
    }
    let work = || {
        let none = None::<&str>;
        mount(
            Some("tmpfs"),
            "/var/log",
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .expect("a folder of logs");
        fs::create_dir_all("/var/log/pods").expect("a folder for pods");
        let Some(slice) = slice("pods") else { return };
        let tracer = Run::quiet("--format=json --sandbox=strict").start();
        let pod = format!("kubepods-burstable-pod{}.slice", POD.replace('-', "_"));
        let pod = Cgroup::make(&slice.0, &pod);
        let folder = format!("/var/log/pods/shop_web-0_{POD}");
        fs::create_dir(folder).expect("a folder of logs");
        let cgroup = Cgroup::make(&pod.0, &format!("cri-containerd-{ID}.scope"));
        let server = net::listen(net::own_ip());
        let expected = [
            ("container.id", ID),
            ("container.runtime", "containerd"),
            ("k8s.pod.uid", POD),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "web-0"),
        ];
        whole(&tracer, &cgroup, &server, &expected);
        let out = tracer.stop().ok();
        assert!(!out.stderr.contains(SAYS), "{}", out.stderr);
        drop(cgroup);
        drop(pod);
    };
    if let Err(e) = net::in_mount_ns(work) {
        skip(&format!("no mount namespace: {e}"));
    }
}

/// The filter knows those that come later, too.
#[story]
fn the_filter_knows_later_ones() {
    if !live() {
        return;
    }
    let Some(slice) = slice("filter") else { return };
    let path = slice.0.to_str().expect("a path");
    let other = Cgroup::make(slice.0.parent().expect("a root"), "snoop-other");
    for filter in [format!("container {}", &ID[..12]), format!("cgroup {path}")] {
        let tracer = Run::quiet("--format=json --sandbox=on")
            .arg(&filter)
            .start();
        let cgroup = Cgroup::make(&slice.0, &format!("crio-{ID}.scope"));
        let server = net::listen(net::own_ip());
        let place = server.local_addr().expect("its address");
        other.converse(&server);
        let crio = [("container.id", ID), ("container.runtime", "cri-o")];
        whole(&tracer, &cgroup, &server, &crio);
        for e in event::with(&event::objects(&tracer.lines()), place) {
            assert!(event::peer(&e) != place || e["container.id"] == ID, "{e}");
        }
        let out = tracer.stop().ok();
        assert!(!out.stderr.contains(SAYS), "{filter}: {}", out.stderr);
    }
}
