//! How fast recorded lines are read: lines for each second of one CPU.
//!
//!     scripts/bench recorded [--than PATH]
//!
//! Contract: all numbers are of one run, by turns with those of another program (`--than`), and are
//! the best of some rounds; the CPU time is what counts, as others may run beside. The lines are as the
//! program writes them: with process and cgroup (`plain`), and with container, pod and the task on the
//! CPU, too (`whole`, twice as long).

#![allow(clippy::print_stdout, reason = "prints what it measured")]

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SAMPLE: &str = include_str!("../schema/sample.jsonl");
/// The connection of which the lines are.
const ID: &str = "\"socket.id\":\"19414dd276e-1\"";
const LINES: usize = 400_000;
const ROUNDS: usize = 5;

/// What is left out of plain lines.
const MORE: [&str; 8] = [
    "container.id",
    "container.runtime",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "network.namespace",
    "on_cpu.pid",
    "on_cpu.name",
];

fn line(text: &str, whole: bool) -> String {
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).expect("a line");
    if !whole {
        MORE.iter().for_each(|key| drop(object.shift_remove(*key)));
    }
    serde_json::to_string(&object).expect("a line")
}

/// So many connections, one after the other.
fn write(path: &Path, whole: bool) -> usize {
    let lines: Vec<String> = SAMPLE
        .lines()
        .filter(|line| line.contains(ID))
        .map(|text| line(text, whole))
        .collect();
    let mut out = BufWriter::new(fs::File::create(path).expect("a file"));
    let count = LINES / lines.len();
    for n in 0..count {
        let id = format!("\"socket.id\":\"19414dd276e-{n}\"");
        let port = format!("\"network.local.port\":{}", 1024 + n % 60_000);
        for (at, line) in lines.iter().enumerate() {
            let (second, micros) = (n / 2000, n % 2000 * 500);
            let time = format!(
                "{{\"time\":\"2024-12-30T{:02}:{:02}:{:02}.{micros:06}{at:03}Z\"",
                second / 3600,
                second / 60 % 60,
                second % 60
            );
            let rest = &line[time.len()..];
            let rest = rest.replace(ID, &id);
            let rest = rest.replace("\"network.local.port\":39134", &port);
            writeln!(out, "{time}{rest}").expect("write");
        }
    }
    out.flush().expect("write");
    count * lines.len()
}

/// Microseconds of the CPU that it takes to read them with these flags.
fn measure(program: &Path, file: &Path, flags: &[&str]) -> i64 {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("what was used");
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    };
    let before = used();
    let status = Command::new(program)
        .arg("-r")
        .arg(file)
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("a run").success());
    used() - before
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let than = args.iter().position(|arg| arg == "--than");
    let than = than.map(|at| PathBuf::from(args.get(at + 1).expect("--than PATH")));
    let own = std::env::var_os("SOCKET_SNOOP_BIN").map_or_else(
        || env!("CARGO_BIN_EXE_socket-snoop-full").into(),
        PathBuf::from,
    );
    let file = std::env::temp_dir().join(format!("socket-snoop-recorded-{}", std::process::id()));
    for (name, whole) in [("plain", false), ("whole", true)] {
        let lines = write(&file, whole) as i64;
        let bytes = fs::metadata(&file).expect("it").len() as i64;
        for flags in [
            &["port", "1"][..],
            &["--closed-only"],
            &["--format", "json"],
        ] {
            let mut best = [i64::MAX; 2];
            for _ in 0..ROUNDS {
                for (program, best) in [Some(&own), than.as_ref()].into_iter().zip(&mut best) {
                    let Some(program) = program else { continue };
                    *best = measure(program, &file, flags).min(*best);
                }
            }
            let a_second = |micros: i64| lines * 1_000_000 / micros.max(1);
            let ratio = match than {
                Some(_) => format!(
                    ", {:.2} times {}",
                    best[1] as f64 / best[0] as f64,
                    a_second(best[1])
                ),
                None => String::new(),
            };
            println!(
                "{name} ({} bytes a line), {}: {} lines a second{ratio}",
                bytes / lines,
                flags.join(" "),
                a_second(best[0])
            );
        }
    }
    fs::remove_file(&file).expect("remove it");
}
