//! Live: a command whose sockets are shown, as strace runs one.

mod common;

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use story::story;

use common::event::{self, Value};
use common::{Output, PATIENCE, Run, TempDir, eventually, live, net};

fn run(args: &str, words: &[&str]) -> Run {
    let run = Run::quiet(args).arg("--format=json").arg("--");
    words.iter().fold(run, |run, word| run.arg(*word))
}

/// What was shown of connections to this server.
fn clients(out: &Output, server: &TcpListener) -> Vec<Value> {
    let mut all = event::with(&event::objects(&out.lines()), server.local_addr().unwrap());
    all.retain(|e| event::peer(e) == server.local_addr().unwrap());
    all
}

/// Its own, that of a child and that of a grandchild; not those of others. The run
/// ends with it, and has its exit code.
#[story]
fn it_and_its_descendants() {
    if !live() {
        return;
    }
    let servers: [_; 4] = std::array::from_fn(|_| net::listen(net::own_ip()));
    let place = |l: &TcpListener| l.local_addr().unwrap();
    let to = |l| format!("{} {}", place(l).ip(), place(l).port());
    for server in &servers[..3] {
        let server = server.try_clone().unwrap();
        thread::spawn(move || server.accept().map(drop));
    }
    // Who is no descendant opens one meanwhile: this test, once the first has come.
    let script = format!(
        "c() {{ exec 3<>/dev/tcp/$1/$2; exec 3>&-; }}
         c {}; (c {}; (c {}; true); true); read -r x <&0; exit 7",
        to(&servers[0]),
        to(&servers[1]),
        to(&servers[2])
    );
    let (read, write) = std::io::pipe().unwrap();
    let tracer = run("", &["bash", "-c", &script]).stdin(read).start();
    assert!(
        tracer.until(|lines| {
            let all = event::objects(lines);
            !event::records(&all, place(&servers[2])).is_empty()
        }),
        "{:?}",
        tracer.lines()
    );
    net::converse(&servers[3]);
    drop(write);
    let out = tracer.finish(PATIENCE);
    assert_eq!(out.code, Some(7), "{}", out.stderr);
    for server in &servers[..3] {
        let seen = clients(&out, server);
        assert!(!seen.is_empty());
        let records = event::records(&event::objects(&out.lines()), place(server));
        assert_eq!(records.len(), 1, "{seen:#?}");
        assert!(
            seen.iter().all(|e| e["process.name"] == "bash"),
            "{seen:#?}"
        );
    }
    let foreign = event::with(&event::objects(&out.lines()), place(&servers[3]));
    assert_eq!(foreign, Vec::<Value>::new());
}

/// What a signal ended, and what can't be run.
#[story]
fn how_it_ends() {
    if !live() {
        return;
    }
    let out = run("", &["bash", "-c", "kill -TERM $$"]).run();
    assert_eq!(out.code, Some(128 + 15), "{}", out.stderr);
    let out = run("", &["true"]).run();
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    let out = run("", &["no-such-command-at-all"]).run();
    assert_eq!(out.code, Some(2));
    let said = "socket-snoop: cannot run no-such-command-at-all: no such command";
    assert_eq!(out.stderr.trim_end(), said);
    let out = run("", &["/etc/passwd"]).run();
    assert_eq!(out.code, Some(2));
    let said = "socket-snoop: cannot run /etc/passwd: it is no file that can be executed";
    assert_eq!(out.stderr.trim_end(), said);
    let out = run("", &[]).run();
    assert_eq!(out.code, Some(2));
    assert!(
        out.stderr.contains("followed by no command"),
        "{}",
        out.stderr
    );
    // There, but no program.
    let dir = TempDir::new();
    let empty = dir.join("broken\u{1b}");
    fs::write(&empty, "#!/no/such/interpreter\n").unwrap();
    assert!(
        Command::new("chmod")
            .arg("+x")
            .arg(&empty)
            .status()
            .unwrap()
            .success()
    );
    let out = run("", &[empty.to_str().unwrap()]).run();
    assert_eq!(out.code, Some(126), "{}", out.stderr);
    assert!(
        out.stderr.contains("can't be run (ENOENT"),
        "{}",
        out.stderr
    );
    assert!(!out.stderr.contains('\u{1b}'));
}

/// As who called through sudo, or as was asked for; the tracer need not.
#[story]
fn as_whom() {
    if !live() {
        return;
    }
    let who = [
        "bash",
        "-c",
        "id -u >&2; id -g >&2; grep SigIgn /proc/self/status >&2",
    ];
    let sudo = |run: Run| run.env("SUDO_UID", "4242").env("SUDO_GID", "4343");
    let ids = |out: &Output| -> Vec<String> {
        let said = out
            .stderr
            .lines()
            .filter(|l| l.bytes().all(|b| b.is_ascii_digit()));
        said.map(str::to_owned).collect()
    };
    let out = sudo(run("", &who)).run();
    assert_eq!(ids(&out), ["4242", "4343"], "{}", out.stderr);
    // What is ignored is what is ignored here, but for what Rust's start adds.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|l| l.strip_prefix("SigIgn:\t"));
    let own = u64::from_str_radix(own.unwrap(), 16).unwrap() & !(1 << (Signal::SIGPIPE as u64 - 1));
    let ignored = format!("SigIgn:\t{own:016x}");
    assert!(out.stderr.contains(&ignored), "{ignored}: {}", out.stderr);
    let out = sudo(run("--user 4545", &who)).run();
    assert_eq!(ids(&out), ["4545", "4545"], "{}", out.stderr);
    let out = run("", &who).run();
    assert_eq!(ids(&out), ["0", "0"], "{}", out.stderr);
    // Without a group it is that of /etc/passwd; and nobody is root who can't be told.
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let daemon = passwd.lines().find(|line| line.starts_with("daemon:"));
    let daemon: Vec<&str> = daemon.expect("its entry").split(':').collect();
    let out = run("", &who).env("SUDO_UID", daemon[2]).run();
    assert_eq!(ids(&out), daemon[2..4], "{}", out.stderr);
    for (uid, gid) in [
        ("4242", None),
        ("4242", Some("x")),
        ("x", Some("0")),
        ("", Some("0")),
    ] {
        let told = run("", &who).env("SUDO_UID", uid);
        let told = gid
            .into_iter()
            .fold(told, |run, gid| run.env("SUDO_GID", gid));
        let out = told.run();
        assert_eq!(
            (out.code, out.stdout.as_str()),
            (Some(2), ""),
            "{}",
            out.stderr
        );
        let says = "cannot run bash: SUDO_UID and SUDO_GID don't say who called";
        assert!(
            out.stderr.contains(says) && ids(&out).is_empty(),
            "{}",
            out.stderr
        );
    }
}

/// A stop that the command does not take part in: it goes on, and that is said.
#[story]
fn a_stop_leaves_it() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let script = format!(
        "echo $$ > {}; exec sleep 60 >/dev/null 2>&1",
        dir.join("pid").display()
    );
    let tracer = run("", &["bash", "-c", &script]).start();
    let pid = || {
        fs::read_to_string(dir.join("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    assert!(eventually(|| pid().is_some()));
    let out = tracer.stop();
    kill(Pid::from_raw(pid().unwrap()), Signal::SIGKILL).expect("it went on");
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert!(
        out.stderr.contains("note: the command goes on"),
        "{}",
        out.stderr
    );
}
