//! Who accepts a connection, and how long it waited for that.
//!
//! Contract: the listener is this process's, and a child that has inherited it
//! accepts; so the two can't be mistaken for each other. Whether that is told is
//! what `--check` says.

use std::io::{Read, Write, stderr, stdin, stdout};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{self, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::common::event::{self, Value};
use crate::common::preflight::Report;
use crate::common::{Run, Tracer, net, wait};
use crate::suite::{Done, Variant, say};

/// What the program is called with to be the child.
pub const CHILD: &str = "accept";

/// How long the connection waits at least.
const WAIT: Duration = Duration::from_millis(100);

/// As the child: accepts one connection from the listener that is its standard
/// error, says so, and reads it to its end once it is told to.
pub fn child() -> ExitCode {
    let listener = stderr().as_fd().try_clone_to_owned().map(TcpListener::from);
    let accepted = listener.and_then(|listener| listener.accept());
    let Ok((stream, _)) = accepted else {
        return ExitCode::FAILURE;
    };
    let _ = stdout().write_all(b"+");
    let _ = stdout().flush();
    let _ = stdin().read(&mut [0]);
    net::drain(stream);
    ExitCode::SUCCESS
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("not that long")
}

/// Whether this kernel, and this variant, can do without it. All others attach
/// programs to a function's return.
fn may_be_off(report: &Report) -> bool {
    let variant = Variant::here();
    // arm64 of Linux 6.1 and before has no direct calls from function tracing.
    let refused = report.evidence("who accepts").contains("ENOTSUPP");
    variant.way() == "perf" || variant.has("nobtf") || cfg!(target_arch = "aarch64") && refused
}

/// The accepting process and the time until then are told where `--check` says
/// so, and nowhere else.
pub fn who_and_when() -> Done {
    let report = Report::read(&Run::new("--check --format json").run());
    let row = report.of("who accepts");
    let told = row["check.verdict"] == "yes";
    assert!(told || may_be_off(&report), "{row}");
    let tracer = Tracer::json("--all");
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let of_server = |lines: &[String]| -> Vec<Value> {
        let mut own = event::with(&event::objects(lines), server);
        own.retain(|e| event::local(e) == server && e["event.name"] == "tcp_state");
        own
    };
    let entered = |lines: &[String], state: &str| {
        let own = of_server(lines);
        own.iter().any(|e| e["tcp.state.new"] == state)
    };

    let start = Instant::now();
    let client = TcpStream::connect(server).expect("connect");
    assert!(tracer.until(|lines| entered(lines, "ESTABLISHED")));
    wait::pass("the delay of the accept", WAIT);
    let mut child = Command::new("/init")
        .arg(CHILD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(OwnedFd::from(listener.try_clone().expect("another one")))
        .spawn()
        .expect("start the child");
    let mut said = [0];
    let out = child.stdout.as_mut().expect("piped");
    out.read_exact(&mut said).expect("it accepts");
    let longest = nanos(start.elapsed());
    // Its end comes while the child does nothing with the socket.
    client.shutdown(Shutdown::Write).expect("shutdown");
    assert!(tracer.until(|lines| entered(lines, "CLOSE_WAIT")));
    drop(child.stdin.take());
    let pid = u64::from(child.id());
    assert!(child.wait().expect("its end").success());
    net::drain(client);
    tracer.until(|lines| event::records(&event::objects(lines), server).len() >= 2);
    let lines = tracer.stop().ok().lines();

    let own = of_server(&lines);
    let end = own.iter().find(|e| e["tcp.state.new"] == "CLOSE_WAIT");
    let end = end.expect("CLOSE_WAIT");
    let records = event::records(&event::objects(&lines), server);
    assert_eq!(records.len(), 2, "{records:#?}");
    let delays = records.iter().map(|r| r.get("tcp.accept_delay_ns"));
    let delays: Vec<_> = delays.flatten().filter_map(Value::as_u64).collect();
    let source = event::text(end, "owner.source");
    say(&format!("info accept told={told} {source} {delays:?}"));
    if told {
        assert_eq!(
            (source, &end["process.pid"]),
            ("accept", &pid.into()),
            "{end}"
        );
        let at_server = records.iter().find(|r| event::local(r) == server);
        let record = at_server.expect("the server's");
        assert_eq!(record["process.pid"], pid, "{record}");
        assert!(record["tcp.accept_delay_ns"].is_u64(), "{record}");
        assert_eq!(delays.len(), 1, "{records:#?}");
        let bounds = nanos(WAIT)..=longest;
        assert!(bounds.contains(&delays[0]), "{bounds:?}: {record}");
    } else {
        assert_ne!(end["process.pid"], pid, "{end}");
        assert!(delays.is_empty(), "{records:#?}");
        let known = |e: &&Value| e["owner.source"] == "accept";
        let all = own.iter().chain(&records);
        assert_eq!(all.filter(known).collect::<Vec<_>>(), Vec::<&Value>::new());
    }
    // Before that it was the listener's.
    let mut before = own.iter().filter(|e| e["tcp.state.new"] == "ESTABLISHED");
    let e = before.next().expect("ESTABLISHED");
    assert_eq!(e["owner.source"], "listener", "{e}");
    assert_eq!(e["process.pid"], process::id(), "{e}");
    Ok(())
}
