//! Live: what goes wrong is said in one line that helps, with its exit code.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use story::story;

use common::net::in_mount_ns;
use common::{Output, Run, TempDir, binary, kernel, live, skip};

const NOBODY: u32 = 65534;

/// One line on standard error, none on standard output.
fn one_line(out: &Output, code: i32, what: &str) {
    assert_eq!(out.code, Some(code), "{what}: {out:?}");
    assert_eq!(out.stdout, "", "{what}");
    assert_eq!(out.stderr.lines().count(), 1, "{what}: {:?}", out.stderr);
    assert!(
        out.stderr.ends_with('\n') && out.stderr.len() > 20,
        "{what}: {out:?}"
    );
}

/// A copy of the program that every user may run.
fn for_everyone(dir: &TempDir) -> std::path::PathBuf {
    let copy = dir.join("socket-snoop");
    fs::copy(binary(), &copy).expect("copy the program");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

#[story]
fn an_unprivileged_user_is_told_what_to_do() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let out = Run::of(for_everyone(&dir), "--no-log").user(NOBODY).run();
    one_line(&out, 3, "nobody");
    let helps = ["root", "sudo", "CAP_BPF"]
        .iter()
        .any(|w| out.stderr.contains(w));
    assert!(helps, "{:?}", out.stderr);
}

/// Nor is a log left behind by one that couldn't start.
#[story]
fn an_unprivileged_user_leaves_no_log() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let copy = for_everyone(&dir);
    let out = Run::of(copy, "").dir(dir.path()).user(NOBODY).run();
    one_line(&out, 3, "nobody with a log");
    assert!(!dir.join("socket_monitor.log").exists());
}

/// Root in name only.
#[story]
fn root_without_capabilities_is_told_which() {
    if !live() {
        return;
    }
    let dropped = |caps: &str| {
        let out = Command::new("setpriv")
            .args([&format!("--bounding-set={caps}"), "--inh-caps=-all"])
            .arg(binary())
            .args(["--no-log", "--duration=0.1"])
            .output();
        out.map(|out| Output {
            code: out.status.code(),
            stdout: String::from_utf8(out.stdout).unwrap(),
            stderr: String::from_utf8(out.stderr).unwrap(),
            sandbox: String::new(),
            denied: String::new(),
            unseen: String::new(),
        })
    };
    let Ok(out) = dropped("-all") else {
        return skip("no setpriv");
    };
    one_line(&out, 3, "no capability at all");
    assert!(out.stderr.contains("CAP_"), "{:?}", out.stderr);
    // CAP_SYS_ADMIN stands for both, so it has to go as well.
    let out = dropped("-sys_admin,-perfmon").unwrap();
    one_line(&out, 3, "no perf events");
    assert!(out.stderr.contains("CAP_PERFMON missing"), "{out:?}");
    // Without the other one there is still a way, if tracefs is mounted.
    let work = move || {
        kernel::show_tracefs();
        dropped("-sys_admin,-bpf").unwrap()
    };
    let out = in_mount_ns(work)
        .expect("a mount namespace of our own")
        .ok();
    let note = "note: tracing by perf samples: ";
    let said = |l: &str| l.contains(note) && l.contains("CAP_BPF missing");
    assert!(out.stderr.lines().any(said), "{:?}", out.stderr);
}

#[story]
fn a_bad_command_line_is_one_line_and_code_2() {
    let bad = [
        "--nope",
        "--pid x",
        "--pid -1",
        "--pid 99999999999",
        "--src-port 65536",
        "--src-port -1",
        "--dst-port http",
        "--src-ip 300.1.1.1",
        "--src-ip 10.0.0.1/8",
        "--dst-ip ::g",
        "--dst-ip=",
        "--buffer 0",
        "--buffer 1X",
        "--buffer 99999999999999999999",
        "--buffer 999999999999M",
        "--duration -1",
        "--duration nan",
        "--duration inf",
        "--duration 1e300",
        "--duration x",
        "--count -1",
        "--count x",
        "--history x",
        "--connections-max 0",
        "--priority maybe",
        "--format xml",
        "--log-format xml",
        "--log-file",
        "--pid",
        "--pid 1 --pid 2",
        "--format=json --nope=1",
    ];
    let mut wrong = Vec::new();
    for args in bad {
        let out = Run::new(args).run();
        let fine = out.code == Some(2) && out.stdout.is_empty() && out.stderr.lines().count() == 1;
        if !fine {
            wrong.push((args, out));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What was wrong is in the line.
#[story]
fn a_bad_value_is_named() {
    for (args, part) in [
        ("--src-port 70000", "70000"),
        ("--src-ip 300.1.1.1", "300.1.1.1"),
        ("--format xml", "xml"),
        ("--nope", "--nope"),
    ] {
        let out = Run::new(args).run();
        one_line(&out, 2, args);
        assert!(out.stderr.contains(part), "{args}: {:?}", out.stderr);
    }
}

/// An argument that is no UTF-8 is a bad one, not a crash.
#[story]
fn an_argument_that_is_not_utf8() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let out = Run::new("--src-ip")
        .arg(OsString::from_vec(vec![0xff]))
        .run();
    one_line(&out, 2, "not UTF-8");
}

#[story]
fn help_names_every_flag() {
    let out = Run::new("--help").run().ok();
    assert_eq!(out.stderr, "");
    for flag in [
        "--pid",
        "--src-ip",
        "--dst-ip",
        "--src-port",
        "--dst-port",
        "--active-only",
        "--all",
        "--format",
        "--log-file",
        "--no-log",
        "--log-format",
        "--duration",
        "--count",
        "--buffer",
        "--connections-max",
        "--history",
        "--transport",
        "--sandbox",
        "--user",
        "--priority",
        "--check",
        "--version",
        "--help",
    ] {
        assert!(out.stdout.contains(flag), "{flag} is not in --help");
    }
}

#[story]
fn version_is_one_line() {
    let out = Run::new("--version").run().ok();
    let version = concat!("socket-snoop ", env!("CARGO_PKG_VERSION"));
    let rest = out.stdout.strip_prefix(version);
    // A release names its commit.
    let rest = rest.and_then(|rest| rest.strip_suffix('\n'));
    let commit = rest.map(|rest| rest.trim_matches([' ', '(', ')']).replace("-dirty", ""));
    let commit = commit.unwrap_or_else(|| panic!("{}", out.stdout));
    let named = commit.len() >= 12 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(commit.is_empty() || named, "{}", out.stdout);
    assert_eq!(out.stderr, "");
}

/// In a user namespace of its own root has no rights over the host, and "run as
/// root" would help nobody.
#[story]
fn root_of_a_user_namespace_is_told_where_it_is() {
    if !live() {
        return;
    }
    for way in ["", "--transport=btf", "--transport=perf"] {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user"]).arg(binary());
        let out = unshare
            .arg("--no-log")
            .args(way.split_whitespace())
            .output();
        let out = match out {
            Ok(out) if String::from_utf8_lossy(&out.stderr).contains("unshare failed") => {
                return skip("no user namespaces");
            }
            Ok(out) => out,
            Err(_) => return skip("no unshare"),
        };
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(
            (out.status.code(), said.lines().count()),
            (Some(3), 1),
            "{said}"
        );
        assert!(
            said.contains("user namespace") && !said.contains("as root"),
            "{said}"
        );
    }
}

/// With so few descriptors, as the hard limit.
fn with_descriptors(limit: u32, args: &str) -> Output {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -n {limit} && exec \"$@\"");
    shell.args(["-c", &script, "sh"]).arg(binary());
    Run::through(shell, args).run()
}

/// What can't be had for want of descriptors is said, with that reason; what is
/// said to be the reason is none other.
#[story]
fn a_limit_of_descriptors_is_named() {
    if !live() {
        return;
    }
    let (mut refused, mut without, mut whole) = (0, 0, 0);
    for limit in 8..64 {
        let out = with_descriptors(limit, "--no-log --duration=0.1");
        let said = &out.stderr;
        let limited = said.contains("raise the limit of open files");
        assert!(
            !said.contains("mount it") && !said.contains("as root"),
            "{limit}: {said}"
        );
        match out.code {
            Some(0) if said.contains("warning: going on without ") => {
                assert!(limited && said.contains("EMFILE"), "{limit}: {said}");
                without += 1;
            }
            Some(0) => whole += 1,
            _ => {
                assert!(limited, "{limit}: {out:?}");
                // Only parts that were given up may be named before the reason.
                let other = said.lines().filter(|line| !line.contains("EMFILE")).count();
                assert_eq!(other, 0, "{limit}: {said}");
                refused += 1;
            }
        }
        if whole > 2 {
            break;
        }
    }
    assert!(
        refused > 0 && without > 0 && whole > 2,
        "{refused} {without} {whole}"
    );
}

/// A soft limit alone is none.
#[story]
fn a_soft_limit_of_descriptors_is_raised() {
    if !live() {
        return;
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -S -n 9 && exec \"$@\"", "sh"]);
    shell.arg(binary());
    let out = Run::through(shell, "--no-log --duration=0.1").run().ok();
    assert_eq!(out.stderr, "");
}
