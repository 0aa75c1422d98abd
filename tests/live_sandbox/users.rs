//! Becoming another user: what is given to that one, and what is not.

use crate::common::{self, Run, TempDir, event, eventually, live, net};
use crate::{DAC_OVERRIDE, NOBODY, caps, lines_in, status};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use story::story;

/// User 0 is given up; the log in a folder of the new user's is reopened without
/// any capability.
#[story]
fn another_user_goes_on() {
    if !live() {
        return;
    }
    for (user, way) in [("nobody", "tracepoint"), ("65534", "perf")] {
        let dir = TempDir::new();
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let log = dir.join("snoop.log");
        let args = format!("--sandbox=strict --user={user} --transport={way} --log-file");
        let tracer = Run::new(&args).arg(&log).start();
        let pid = tracer.child.pid();
        for ids in ["Uid", "Gid"] {
            let ids: Vec<_> = status(pid, ids)
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            assert_eq!(ids, ["65534"; 4]);
        }
        assert_eq!(status(pid, "Groups"), "");
        assert_eq!(caps(pid, "CapEff") & DAC_OVERRIDE, 0);
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        net::converse(&listener);
        tracer.until(|lines| event::lines_with(lines, server).len() >= 10);
        fs::rename(&log, dir.join("1")).unwrap();
        tracer.child.signal(Signal::SIGHUP);
        assert!(eventually(|| log.exists()), "{}", tracer.stderr());
        net::converse(&listener);
        tracer.until(|lines| event::lines_with(lines, server).len() >= 20);
        let out = tracer.stop().ok();
        assert!(out.sandbox.contains("; user 65534; "), "{}", out.sandbox);
        let logged: Vec<_> = [dir.join("1"), log]
            .iter()
            .flat_map(|f| lines_in(f))
            .collect();
        assert_eq!(event::lines_with(&logged, server).len(), 20);
    }
}

/// A link to somebody's file does not make it the user's.
#[story]
fn a_log_with_another_name_is_not_given_away() {
    if !live() {
        return;
    }
    let dir = TempDir::new();
    let folder = dir.join("theirs");
    let (secret, log) = (dir.join("secret"), folder.join("log"));
    fs::create_dir(&folder).unwrap();
    chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::write(&secret, "").unwrap();
    fs::hard_link(&secret, &log).unwrap();
    let owner = || fs::metadata(&secret).unwrap().uid();
    let run = Run::new("--user=nobody --duration=0.1 --log-file");
    run.arg(&log).run().ok();
    assert_eq!(owner(), 0);
    fs::remove_file(&log).unwrap();
    // Nor is a third one's.
    fs::write(&log, "").unwrap();
    chown(&log, Some(1), None).unwrap();
    let run = Run::new("--user=nobody --duration=0.1 --log-file");
    run.arg(&log).run().ok();
    assert_eq!(fs::metadata(&log).unwrap().uid(), 1);
}

#[story]
fn a_user_that_is_not_there_is_an_error() {
    if !live() {
        return;
    }
    for check in ["", "--check "] {
        let out = Run::quiet(&format!("{check}--user=no_such_user")).run();
        assert_eq!(out.code, Some(2), "{check}{out:?}");
    }
    let out = Run::quiet("--user=no_such_user").run();
    assert!(out.stderr.contains("no_such_user"), "{}", out.stderr);
}
