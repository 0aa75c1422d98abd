//! Live: where the log may go, whoever has been there before, and how it is
//! begun anew at a size.

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use story::story;

use common::event;
use common::{Output, Run, TempDir, Tracer, eventually, live, net, skip, wait};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

/// Some other user.
const OTHER: Option<u32> = Some(65534);

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Runs the test where the default log can't be written.
fn without_var_log(work: impl FnOnce() + Send + 'static) {
    let work = move || {
        let (at, none) = ("/var/log", None::<&str>);
        let read_only = MsFlags::MS_RDONLY;
        mount(Some("tmpfs"), at, Some("tmpfs"), read_only, none).expect("a tmpfs");
        work();
    };
    if let Err(e) = net::in_mount_ns(work) {
        skip(&format!("no mount namespace: {e}"));
    }
}

/// A run in this folder, without a log of its own choice.
fn fall_back(dir: &TempDir) -> Output {
    Run::new("--duration=0.3").dir(dir.path()).run().ok()
}

/// The fallback is taken only in a folder of our own, and only if it is a file
/// of our own, or is not there.
#[story]
fn the_fallback_is_our_own_or_none() {
    if !live() {
        return;
    }
    without_var_log(|| {
        type Make = fn(&TempDir, &Path);
        let refused: [(&str, Make); 9] = [
            ("a folder that all can write to", |dir, _| {
                set_mode(dir.path(), 0o777)
            }),
            ("a sticky folder", |dir, _| set_mode(dir.path(), 0o1777)),
            ("a folder of a group", |dir, _| set_mode(dir.path(), 0o775)),
            ("another user's folder", |dir, _| {
                chown(dir.path(), OTHER, None).unwrap()
            }),
            ("a FIFO", |_, log| {
                nix::unistd::mkfifo(log, Mode::S_IRWXU).unwrap();
                // With a reader that waits for us.
                let mut options = File::options();
                std::mem::forget(options.read(true).write(true).open(log).unwrap());
            }),
            ("a file that all can write to", |_, log| {
                fs::write(log, "theirs\n").unwrap();
                set_mode(log, 0o666);
            }),
            ("another user's file", |_, log| {
                fs::write(log, "theirs\n").unwrap();
                chown(log, OTHER, None).unwrap();
            }),
            ("a file with two names", |dir, log| {
                fs::write(dir.join("other"), "theirs\n").unwrap();
                fs::hard_link(dir.join("other"), log).unwrap();
            }),
            ("a link", |dir, log| {
                symlink(dir.join("other"), log).unwrap()
            }),
        ];
        for (what, make) in refused {
            let dir = TempDir::new();
            let log = dir.join("socket_monitor.log");
            make(&dir, &log);
            let out = fall_back(&dir);
            assert_eq!(out.stderr.lines().count(), 1, "{what}: {}", out.stderr);
            assert!(
                out.stderr.contains("nor ./socket_monitor.log: "),
                "{what}: {}",
                out.stderr
            );
            assert!(out.lines()[0].ends_with("No log is written."), "{what}");
            let text = match fs::metadata(&log) {
                Ok(stat) if stat.is_file() => fs::read_to_string(&log).unwrap(),
                _ => "theirs\n".into(),
            };
            assert!(text == "theirs\n" || what == "a link", "{what}: {text}");
            assert!(what != "a link" || !dir.join("other").exists());
        }
        // Its own is appended to.
        let dir = TempDir::new();
        let log = dir.join("socket_monitor.log");
        fs::write(&log, "ours\n").unwrap();
        set_mode(&log, 0o644);
        let out = fall_back(&dir);
        assert!(out.lines()[0].ends_with("./socket_monitor.log"), "{out:?}");
        assert!(fs::read_to_string(&log).unwrap().starts_with("ours\n"));
    });
}

/// That it is our own still holds behind shut doors, and when we have become
/// somebody else.
#[story]
fn the_fallback_is_rotated() {
    if !live() {
        return;
    }
    without_var_log(|| {
        for how in ["--sandbox=strict", "--sandbox=on --user=nobody"] {
            let dir = TempDir::new();
            let log = dir.join("socket_monitor.log");
            let tracer = Run::new(how).dir(dir.path()).start();
            for older in ["1", "2"] {
                fs::rename(&log, dir.join(older)).unwrap();
                tracer.child.signal(Signal::SIGHUP);
                assert!(eventually(|| log.exists()), "{how}: {}", tracer.stderr());
            }
            let out = tracer.stop().ok();
            let said = out.stderr;
            assert!(
                !said.contains("reopen") && !said.contains("refused"),
                "{said}"
            );
        }
    });
}

/// A folder as /tmp, with a link made by `user`.
fn with_link(user: Option<u32>) -> (TempDir, TempDir) {
    let (dir, target) = (TempDir::new(), TempDir::new());
    set_mode(dir.path(), 0o1777);
    symlink(target.join("target"), dir.join("log")).unwrap();
    lchown(dir.join("log"), user, None).unwrap();
    symlink(target.path(), dir.join("folder")).unwrap();
    lchown(dir.join("folder"), user, None).unwrap();
    (dir, target)
}

#[story]
fn a_foreign_link_in_a_sticky_folder_is_not_followed() {
    if !live() {
        return;
    }
    for name in ["log", "folder/target"] {
        let (dir, target) = with_link(OTHER);
        let run = Run::new("--duration=0.3 --log-file").arg(dir.join(name));
        let out = run.run().ok();
        assert!(out.stderr.contains("EACCES"), "{name}: {}", out.stderr);
        assert!(!target.join("target").exists(), "{name}");
        // One of our own is.
        let (dir, target) = with_link(None);
        let run = Run::new("--duration=0.3 --log-file").arg(dir.join(name));
        assert_eq!(run.run().ok().stderr, "", "{name}");
        assert!(target.join("target").exists(), "{name}");
    }
}

#[story]
fn a_link_put_in_the_logs_place_is_not_followed() {
    if !live() {
        return;
    }
    for mode in ["off", "on", "strict"] {
        let (dir, target) = (TempDir::new(), TempDir::new());
        set_mode(dir.path(), 0o1777);
        let log = dir.join("log");
        let run = Run::new(&format!("--sandbox={mode} --log-file")).arg(&log);
        let tracer = run.start();
        fs::rename(&log, dir.join("log.1")).unwrap();
        symlink(target.join("target"), &log).unwrap();
        lchown(&log, OTHER, None).unwrap();
        tracer.child.signal(Signal::SIGHUP);
        let said = || tracer.stderr().contains("going on with the old file");
        assert!(eventually(said), "{mode}: {}", tracer.stderr());
        show(&tracer, 1);
        tracer.stop().ok();
        assert!(!target.join("target").exists(), "{mode}");
        let old = fs::read_to_string(dir.join("log.1")).unwrap();
        assert!(old.lines().count() >= 10, "{mode}");
    }
}

/// What is asked for by name may be a device.
#[story]
fn a_device_may_be_the_log() {
    if !live() {
        return;
    }
    let tracer = Run::new("--log-file=/dev/null").start();
    show(&tracer, 1);
    assert_eq!(tracer.stop().ok().stderr, "");
}

/// So many connections, shown.
fn show(tracer: &Tracer, count: usize) {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    for _ in 0..count {
        net::converse(&listener);
    }
    tracer.until(|lines| event::lines_with(lines, server).len() >= 10 * count);
}

fn lines_in(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "an unfinished line"
    );
    text.lines().map(str::to_owned).collect()
}

/// Both files hold whole lines, the last of what was shown, within the size.
#[story]
fn the_log_is_begun_anew_at_its_size() {
    if !live() {
        return;
    }
    for mode in ["off", "on", "strict"] {
        let dir = TempDir::new();
        let (log, older) = (dir.join("log"), dir.join("log.1"));
        let args = format!("--sandbox={mode} --log-max-size=20K --log-file");
        let tracer = Run::new(&args).arg(&log).start();
        show(&tracer, 100);
        let out = tracer.stop().ok();
        assert_eq!(out.stderr, "", "{mode}");
        for file in [&log, &older] {
            let size = fs::metadata(file).unwrap().len();
            assert!(size <= 20 << 10, "{mode}: {size}");
        }
        assert!(fs::metadata(&older).unwrap().len() > 19 << 10, "{mode}");
        let logged = [lines_in(&older), lines_in(&log)].concat();
        let shown = event::event_lines(&out.lines());
        // A line has less than 190 bytes.
        assert!(logged.len() > 100 && logged.len() < shown.len());
        assert_eq!(logged, shown[shown.len() - logged.len()..], "{mode}");
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 2, "{mode}");
    }
}

/// A log that can't be renamed grows on, which is said, and nothing is lost.
#[story]
fn a_log_that_cannot_be_begun_anew_grows() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let log = dir.join("log");
    fs::create_dir(dir.join("log.1")).unwrap();
    let tracer = Run::new("--log-max-size=10K --log-file").arg(&log).start();
    show(&tracer, 30);
    wait::until("a word on it", || tracer.stderr().contains("cannot rename"));
    // It grows on, and that it can't be renamed is said once.
    show(&tracer, 30);
    let out = tracer.stop().ok();
    assert_eq!(out.stderr.lines().count(), 1, "{}", out.stderr);
    assert!(out.stderr.contains("cannot rename"), "{}", out.stderr);
    assert_eq!(lines_in(&log), event::event_lines(&out.lines()));
}

/// logrotate and a size go together.
#[story]
fn a_log_with_a_size_is_rotated_by_others_too() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let (log, moved) = (dir.join("log"), dir.join("moved"));
    let tracer = Run::new("--log-max-size=20K --log-file").arg(&log).start();
    show(&tracer, 5);
    fs::rename(&log, &moved).unwrap();
    // Moved away, and the size is reached before the signal comes.
    show(&tracer, 15);
    assert!(eventually(|| log.exists()), "{}", tracer.stderr());
    tracer.child.signal(Signal::SIGHUP);
    show(&tracer, 1);
    let out = tracer.stop().ok();
    assert_eq!(out.stderr, "");
    let logged = [lines_in(&moved), lines_in(&log)].concat();
    assert_eq!(logged, event::event_lines(&out.lines()));
    assert!(!dir.join("log.1").exists());
}
