//! Live: the filter's file: what it may be, and how it is found again.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use common::event;
use common::net;
use common::{PATIENCE, Run, TempDir, Tracer, live, skip, wait};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use story::story;

const READ: &str = "the filter was read again";

/// A run with this file as its filter.
fn with(args: &str, file: &Path) -> Run {
    Run::quiet(args).arg(format!("--filter-file={}", file.display()))
}

/// Lets it read its file again; it says this.
fn again(tracer: &Tracer, says: &str) {
    let count = |tracer: &Tracer| tracer.stderr().matches(says).count();
    let before = count(tracer);
    tracer.child.signal(Signal::SIGHUP);
    let said = wait::within(PATIENCE, || count(tracer) > before);
    assert!(said, "not said: {says}: {}", tracer.stderr());
}

/// What is no file of its own is refused at once, at the start and later.
#[story]
fn a_pipe_with_a_name_is_not_waited_for() {
    if !live() {
        return;
    }
    let folder = TempDir::new();
    let fifo = folder.join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("a pipe");
    for (path, says) in [
        (fifo.as_path(), ": it is no regular file"),
        (Path::new("/dev/null"), ": it is no regular file"),
        (folder.path(), "Is a directory"),
    ] {
        let out = with("", path).run();
        assert_eq!(out.code, Some(2), "{}", out.stderr);
        assert!(
            out.stderr.contains("cannot read the filter "),
            "{}",
            out.stderr
        );
        assert!(out.stderr.contains(says), "{}", out.stderr);
    }
    let file = folder.join("filter");
    for mode in ["on", "off"] {
        fs::write(&file, "port 9").expect("the filter");
        let tracer = with(&format!("--sandbox {mode}"), &file).start();
        fs::remove_file(&file).expect("the file");
        mkfifo(&file, Mode::S_IRWXU).expect("a pipe");
        again(&tracer, ": it is no regular file");
        tracer.stop().ok();
        fs::remove_file(&file).expect("the pipe");
    }
}

/// What is given as a descriptor is read to its end, once.
#[story]
fn a_pipe_that_is_open_is_read() {
    if !live() {
        return;
    }
    let program = common::binary();
    let program = program.display();
    for script in [
        format!("(sleep 0.2; echo prot 80) | {program} --filter-file /dev/stdin"),
        format!("{program} --filter-file <(sleep 0.2; echo prot 80)"),
        format!("echo prot 80 | {program} --filter-file /proc/self/fd/0"),
        format!("{program} --filter-file /dev/fd/7 7<<< 'prot 80'"),
        // A byte order mark is no word.
        format!("printf '\\xef\\xbb\\xbfprot 80' | {program} --filter-file /dev/stdin"),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]);
        let out = net::output(bash).expect("bash");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let says = ":1: unknown word 'prot'; did you mean 'port'?\n  prot 80\n  ^^^^\n";
        assert!(said.contains(says), "{script}: {said}");
    }
    let (read, mut write) = std::io::pipe().expect("a pipe");
    std::io::Write::write_all(&mut write, b"port 9").expect("the filter");
    drop(write);
    let tracer = with("", Path::new("/dev/stdin")).stdin(read).start();
    again(&tracer, ": what came from there can't be read again");
    tracer.stop().ok();
}

/// As a ConfigMap of Kubernetes is changed: the file is a link through the link
/// `..data`, which is renamed to lead into another folder.
#[story]
fn links_in_its_folder_are_followed_again() {
    if !live() {
        return;
    }
    for args in [
        "--sandbox on",
        "--sandbox strict",
        "--sandbox off",
        "--user 4242",
    ] {
        let [one, other] = [net::own_ip(), net::own_ip()].map(net::listen);
        let servers = [one.local_addr().unwrap(), other.local_addr().unwrap()];
        let folder = TempDir::new();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
        let put = |name: &str, text: String| {
            fs::create_dir(folder.join(name)).expect("a folder");
            fs::write(folder.join(name).join("filter"), text).expect("the filter");
            symlink(name, folder.join("..data_tmp")).expect("a link");
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("the exchange");
        };
        put("..2024_1", format!("dst port {}", servers[0].port()));
        symlink("..data/filter", folder.join("filter")).expect("a link");
        let tracer = with(&format!("--format json {args}"), &folder.join("filter")).start();
        put("..2024_2", format!("dst port {}", servers[1].port()));
        fs::remove_dir_all(folder.join("..2024_1")).expect("the old folder");
        again(&tracer, READ);
        net::converse(&one);
        net::converse(&other);
        let seen = |lines: &[String]| event::with(&event::objects(lines), servers[1]).len() >= 5;
        assert!(tracer.until(seen), "{args}: {}", tracer.stderr());
        // One that leads out of the folder is not followed.
        fs::remove_file(folder.join("filter")).expect("the link");
        symlink("/etc/hostname", folder.join("filter")).expect("a link");
        again(&tracer, ": a link leads out of its folder");
        let out = tracer.stop().ok();
        let all = event::objects(&out.lines());
        assert_eq!(event::with(&all, servers[0]).len(), 0, "{args}");
        assert!(!out.stderr.contains("followed once"), "{}", out.stderr);
    }
    // Where the link leads out of its folder at the start, what it led to then is read again.
    let folder = TempDir::new();
    let far = TempDir::new();
    fs::write(far.join("filter"), "port 9").expect("the filter");
    symlink(far.join("filter"), folder.join("filter")).expect("a link");
    let tracer = with("", &folder.join("filter")).start();
    fs::write(far.join("filter"), "prot 9").expect("the filter");
    again(&tracer, "did you mean 'port'?");
    let out = tracer.stop().ok();
    let says = "are followed once: read again is the file that they lead to now";
    assert!(out.stderr.contains(says), "{}", out.stderr);
}

/// What only another user may read is read again with the one capability for it; where
/// none is kept, that is said.
#[story]
fn anothers_file_is_read_again() {
    if !live() {
        return;
    }
    let folder = TempDir::new();
    let file = folder.join("filter");
    fs::write(&file, "port 9").expect("the filter");
    if chown(&file, Some(4242), None).is_err() {
        return skip("no file can be another user's here");
    }
    fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).expect("its mode");
    let tracer = with("--sandbox on", &file).start();
    fs::write(&file, "port 10").expect("the filter");
    again(&tracer, READ);
    let out = tracer.stop().ok();
    assert!(
        out.sandbox.contains("CAP_DAC_READ_SEARCH"),
        "{}",
        out.sandbox
    );
    let tracer = with("--sandbox strict", &file).start();
    again(
        &tracer,
        ", as the user of this process and without capabilities: EACCES",
    );
    tracer.stop().ok();
}

/// A file that everybody may read takes no capability.
#[story]
fn a_plain_file_takes_no_capability() {
    if !live() {
        return;
    }
    let folder = TempDir::new();
    let file = folder.join("filter");
    fs::write(&file, "port 9").expect("the filter");
    let out = with("--sandbox on --duration 0.1", &file)
        .start()
        .finish(PATIENCE);
    assert!(
        !out.sandbox.contains("CAP_DAC_READ_SEARCH"),
        "{}",
        out.sandbox
    );
}
