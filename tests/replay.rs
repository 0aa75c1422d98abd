//! Reading again what was recorded, without any privilege.

mod common;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Output, Run, TempDir, binary, event, full, wait};

const SAMPLE: &str = include_str!("../schema/sample.jsonl");

/// The program, as somebody who may do nothing, if that can be had.
fn run(dir: &TempDir, args: &str) -> Output {
    let program = dir.join("socket-snoop");
    if !program.exists() {
        fs::copy(full(), &program).expect("a copy");
    }
    let run = Run::of(program, args).env("TZ", "UTC");
    match nix::unistd::geteuid().is_root() {
        true => {
            open_to_all(dir);
            run.user(65534).run()
        }
        false => run.run(),
    }
}

fn open_to_all(dir: &TempDir) {
    use std::os::unix::fs::PermissionsExt;
    for path in [dir.path().to_path_buf(), dir.join("socket-snoop")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
    }
}

fn file(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("write");
    path
}

/// The sample's lines but for those of `--check`, of what was open, and the sums.
fn lines() -> Vec<&'static str> {
    let others = [
        "\"check\"",
        "\"check_result\"",
        "\"connection.open\"",
        "\"summary\"",
    ];
    let of = |line: &&str| !others.iter().any(|name| line.contains(name));
    SAMPLE.lines().filter(of).collect()
}

fn without_sums(out: &Output) -> Vec<String> {
    let all = out.lines();
    let (sums, lines) = all.split_last().expect("lines");
    assert!(sums.contains("\"event.name\":\"summary\""), "{sums}");
    lines.to_vec()
}

#[test]
fn json_comes_out_as_it_went_in() {
    let dir = TempDir::new();
    let path = file(&dir, "sample", SAMPLE);
    let out = run(
        &dir,
        &format!("-r {} --format json --on-cpu", path.display()),
    )
    .ok();
    assert_eq!(without_sums(&out), lines());
    assert!(out.stderr.contains("note: "), "{}", out.stderr);
    // What is unknown, or written otherwise, does not matter.
    let line = lines()[0];
    let more = line.replacen('{', "{\"a.new.key\":[{\"x\":\"}\"}],", 1);
    let more = more.replace("\":\"", "\" : \"");
    let path = file(&dir, "more", &format!("{more}\n"));
    let out = run(
        &dir,
        &format!("-r {} --format json --on-cpu", path.display()),
    )
    .ok();
    assert_eq!(without_sums(&out), [line]);
}

#[test]
fn classic_lines_and_the_report_come_of_it() {
    let dir = TempDir::new();
    let path = file(&dir, "sample", SAMPLE);
    let out = run(&dir, &format!("-r {} --connections", path.display())).ok();
    let all = out.lines();
    let first = "Dec 30 2024 00:00:25.455 State Change: SRC=10.100.10.150:0 DST=10.100.10.202:8000 \
                 PID=30512 COMM=audacious STATE=Connection Opening (SYN_SENT)";
    assert_eq!(all[0], first);
    let records = all.iter().filter(|l| l.contains(" Connection: SRC="));
    let recorded = lines()
        .iter()
        .filter(|l| l.contains("\"connection\""))
        .count();
    assert_eq!(records.count(), recorded);
    let report = event::report(&all);
    assert!(
        report.iter().any(|l| l.contains("reset by us")),
        "{report:#?}"
    );
    assert!(
        report
            .iter()
            .any(|l| l.contains("open since before the start"))
    );
    assert!(report.last().expect("sums").starts_with("Events: "));
}

#[test]
fn records_of_what_is_open_change_nothing() {
    let dir = TempDir::new();
    let (open, others): (Vec<&str>, Vec<&str>) = SAMPLE
        .lines()
        .partition(|line| line.contains("\"connection.open\""));
    assert!(!open.is_empty());
    // The latest line, too.
    let late = open[0].replace("2024-12-30T", "2024-12-31T");
    let with = [SAMPLE, &late, "\n"].concat();
    let read = |text: &str| {
        let path = file(&dir, "recorded", text);
        run(&dir, &format!("-r {} --connections", path.display())).ok()
    };
    let (with, without) = (read(&with), read(&(others.join("\n") + "\n")));
    assert_eq!(with.stdout, without.stdout);
    let unknown = |out: &Output| {
        let at = out.stderr.find(" could not be read, and ").expect("a note");
        out.stderr[at..].to_string()
    };
    assert_eq!(unknown(&with), unknown(&without));
}

#[test]
fn what_cannot_be_read_is_said_and_counted() {
    let dir = TempDir::new();
    let good = lines()[0];
    let cut = &good[..good.len() / 2];
    let text = format!(
        "{good}\nwhat?\n\n{}\n{good}\r\n{cut}",
        good.replace("SYN_SENT", "x")
    );
    let path = file(&dir, "broken", &text);
    let out = run(
        &dir,
        &format!("-r {} --format json --on-cpu", path.display()),
    )
    .ok();
    assert_eq!(without_sums(&out), [good, good]);
    let said = format!("warning: line 2 of {} can't be read: ", path.display());
    assert!(out.stderr.contains(&said), "{}", out.stderr);
    assert!(
        out.stderr.contains("note: of the 5 lines of ")
            && out.stderr.contains(", 3 could not be read"),
        "{}",
        out.stderr
    );

    let zipped = dir.join("zipped");
    fs::write(&zipped, [0x1f, 0x8b, 8, 0, 0, b'\n', 1]).expect("write");
    let out = run(&dir, &format!("-r {}", zipped.display()));
    assert_eq!(out.code, Some(1));
    assert!(out.stderr.contains("zcat"), "{}", out.stderr);

    let out = run(&dir, "-r /nowhere/at/all");
    assert_eq!(out.code, Some(1));
    assert!(
        out.stderr.contains("cannot read /nowhere/at/all: ENOENT"),
        "{}",
        out.stderr
    );
}

/// The lines of one connection: a client's, its port known from the second on.
fn life() -> Vec<&'static str> {
    let of = |line: &&str| line.contains("\"socket.id\":\"19414dd276e-1\"");
    let all: Vec<_> = lines().into_iter().filter(of).collect();
    assert!(all.len() > 5 && !all[0].contains("network.local.port"));
    all
}

#[test]
fn filters_judge_as_they_do_live() {
    let dir = TempDir::new();
    let path = file(&dir, "life", &(life().join("\n") + "\n"));
    let shown = |flags: &str| {
        let args = format!("-r {} --format json --on-cpu {flags}", path.display());
        without_sums(&run(&dir, &args).ok())
    };
    // The first event waits for its port, and is then what it was.
    assert_eq!(shown("--src-port 39134"), life());
    assert_eq!(shown("--src-port 39135"), Vec::<String>::new());
    assert_eq!(shown("--dst-port 8000 --pid 30512"), life());
    assert_eq!(shown("--pid 1"), Vec::<String>::new());
    let name = |line: &str, name: &str| line.contains(&format!("\"event.name\":\"{name}\""));
    let records = |lines: &[String]| lines.iter().filter(|l| name(l, "connection")).count();
    let active = shown("--active-only");
    assert_eq!((active.len(), records(&active)), (2, 1));
    let closed = shown("--closed-only");
    assert_eq!((closed.len(), records(&closed)), (1, 1));
    assert_eq!(shown("--count 3").len(), 3);
    // Records alone are judged by their connections.
    let alone = life().into_iter().filter(|l| name(l, "connection"));
    let path = file(
        &dir,
        "alone",
        &(alone.collect::<Vec<_>>().join("\n") + "\n"),
    );
    for (flags, count) in [("--dst-port 8000", 1), ("--dst-port 8001", 0)] {
        let args = format!("-r {} --format json --on-cpu {flags}", path.display());
        assert_eq!(without_sums(&run(&dir, &args).ok()).len(), count, "{flags}");
    }
}

/// Several files, one of them standard input, come by their times; the same
/// `socket.id` of two hosts is not one connection.
#[test]
fn files_are_merged_by_time() {
    let dir = TempDir::new();
    let ours = life();
    let theirs: Vec<String> = ours
        .iter()
        .map(|l| {
            l.replace("10.100.10.150", "10.100.99.1")
                .replace("25.4", "25.5")
        })
        .collect();
    let path = file(&dir, "theirs", &theirs.join("\n"));
    let mut child = Command::new(full())
        .args(["--format", "json", "--on-cpu", "-r", "-", "-r"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a run");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(ours.join("\n").as_bytes()).expect("write");
    drop(stdin);
    let out = child.wait_with_output().expect("an end");
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let all: Vec<&str> = text.lines().collect();
    let time = |line: &&str| line[9..39].to_owned();
    let times: Vec<String> = all[..all.len() - 1].iter().map(time).collect();
    assert_eq!(times.len(), ours.len() + theirs.len());
    assert!(times.is_sorted(), "{times:#?}");
    let sums = event::objects(&all[all.len() - 1..]);
    assert_eq!(event::number(&sums[0], "connections.opened"), 2, "{sums:?}");
}

/// The tracer alone becomes the other edition where that lies beside it, and only where
/// nobody else could have changed it.
#[test]
fn the_other_edition_is_found_beside_it_if_it_is_safe() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = TempDir::new();
    let path = file(&dir, "sample", SAMPLE);
    let mode = |path: &std::path::Path, bits| {
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).expect("permissions");
    };
    let (small, other) = (dir.join("socket-snoop-1"), dir.join("socket-snoop-full-1"));
    fs::copy(binary(), &small).expect("a copy");
    mode(&small, 0o755);
    mode(dir.path(), 0o755);
    let args = format!("-r {} --format json --on-cpu", path.display());
    let run = || Run::of(small.clone(), &args).run();
    let refused = |why: &str| {
        let out = run();
        assert_eq!(
            (out.code, out.stdout.as_str()),
            (Some(2), ""),
            "{}",
            out.stderr
        );
        assert!(
            out.stderr.contains("-r is not in this file"),
            "{}",
            out.stderr
        );
        assert!(out.stderr.contains(why), "{}", out.stderr);
        assert_eq!(out.stderr.lines().count(), 1, "{}", out.stderr);
    };
    refused("copy it and run it instead");
    fs::copy(full(), &other).expect("a copy");
    mode(&other, 0o755);
    assert_eq!(without_sums(&run().ok()), lines());
    for (path, unsafe_bits) in [
        (other.as_path(), 0o757),
        (&other, 0o775),
        (dir.path(), 0o777),
    ] {
        mode(path, unsafe_bits);
        refused("is not run: it must be a file");
        mode(path, 0o755);
    }
    assert_eq!(without_sums(&run().ok()), lines());
    // What is no file of its own.
    let real = dir.join("elsewhere");
    fs::rename(&other, &real).expect("a name");
    symlink(&real, &other).expect("a link");
    refused("is not run: it must be a file");
    fs::remove_file(&other).expect("remove it");
    fs::create_dir(&other).expect("a folder");
    refused("is not run: it must be a file");
    fs::remove_dir(&other).expect("remove it");
    // That of somebody else.
    if nix::unistd::geteuid().is_root() {
        fs::copy(full(), &other).expect("a copy");
        mode(&other, 0o755);
        std::os::unix::fs::chown(&other, Some(65534), None).expect("another's");
        refused("is not run: it must be a file");
    }
}

/// What would never end, or can't be meant, is refused; what is no recording is said.
#[test]
fn what_is_no_recording_is_said() {
    let dir = TempDir::new();
    let path = file(&dir, "recorded", SAMPLE);
    let shown = path.display();
    for (args, why) in [
        (
            format!("-r {shown} --log-format json --log-file {shown}"),
            "written to at once",
        ),
        ("-r - -r -".to_string(), "once only"),
        (format!("-r {shown} --top --closed-only"), "--closed-only"),
    ] {
        let out = run(&dir, &args);
        assert_eq!(out.code, Some(2), "{args}: {out:?}");
        assert!(out.stderr.contains(why), "{args}: {out:?}");
    }
    assert_eq!(fs::read_to_string(&path).expect("it"), SAMPLE);
    let path = file(&dir, "classic", &"Nov 27 State Change: SRC=\n".repeat(3));
    let out = run(&dir, &format!("-r {}", path.display()));
    assert_eq!(out.code, Some(1), "{out:?}");
    assert!(out.stderr.contains("none of the 3 lines"), "{out:?}");
}

/// A FIFO that nobody writes to is waited for, until told to stop.
#[test]
fn a_fifo_without_a_writer_can_be_left() {
    let dir = TempDir::new();
    let path = dir.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let mut child = Run::of(full(), &format!("-r {}", path.display())).spawn();
    let call = format!("/proc/{}/syscall", child.pid());
    // open(2), or openat(2).
    let opens = |call: String| ["2 ", "257 ", "56 "].iter().any(|n| call.starts_with(n));
    wait::until("it waits for a writer", || {
        fs::read_to_string(&call).is_ok_and(opens)
    });
    child.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = child.wait(common::PATIENCE).expect("an end");
    assert_eq!(ended.code(), Some(0));
}
