//! Which way the events come, and what is said where none is left.

use std::fs;

use nix::mount::{MsFlags, mount};

use crate::common::{Output, Run, Tracer, net};
use crate::lives::programs;
use crate::suite::{BTF, Done, Variant, with_mounts};
use crate::way::REFUSE;

/// The kernel is locked down as the variant says.
pub fn lockdown() -> Done {
    const STATE: &str = "/sys/kernel/security/lockdown";
    let state = with_mounts(|| {
        let (kind, none) = (Some("securityfs"), None::<&str>);
        mount(kind, "/sys/kernel/security", kind, MsFlags::empty(), none)
            .unwrap_or_else(|e| panic!("mount securityfs: {e}"));
        fs::read_to_string(STATE).unwrap_or_else(|e| panic!("{STATE}: {e}"))
    });
    let expected = Variant::here()
        .value("lockdown")
        .unwrap_or("none")
        .to_owned();
    assert!(state.contains(&format!("[{expected}]")), "{state}");
    Ok(())
}

/// The first way that there is, or the one asked for, is taken; standard
/// error says so unless it is the first of all.
pub fn in_use() -> Done {
    let variant = Variant::here();
    let (note, loaded) = match variant.value("transport") {
        Some("btf") => (Some("note: tracing by BTF (--transport btf)"), 2),
        Some(other) => panic!("unknown: {other}"),
        None if variant.is_confidential() => (Some("note: tracing by BTF: "), 2),
        None => (None, 2),
    };
    let tracer = Tracer::json("");
    assert_eq!(programs().len(), loaded, "{:?}", programs());
    let out = tracer.stop().ok();
    let notes: Vec<&str> = out
        .stderr
        .lines()
        .filter(|l| l.contains("note: "))
        .collect();
    match note {
        Some(note) => assert!(notes.len() == 1 && notes[0].contains(note), "{notes:#?}"),
        None => assert_eq!(notes, Vec::<&str>::new()),
    }
    Ok(())
}

/// It ended by itself: one line, and this exit code.
fn failed(out: &Output, code: i32, said: &[&str]) {
    assert_eq!(out.code, Some(code), "{out:?}");
    assert_eq!(out.stdout, "", "{out:?}");
    assert_eq!(out.stderr.lines().count(), 1, "{out:?}");
    for words in said {
        assert!(out.stderr.contains(words), "{words}: {out:?}");
    }
}

/// Where the way asked for, or every way, is blocked, one line says why.
pub fn blocked() -> Done {
    let confidential = Variant::here().is_confidential();
    let run = |args: &str| {
        let run = Run::quiet(args).arg("--duration=0.1");
        run.env(REFUSE, "fsopen=ENOSYS").run()
    };
    net::in_mount_ns(move || {
        if fs::metadata(BTF).is_ok() {
            let (kind, none) = (Some("tmpfs"), None::<&str>);
            mount(kind, BTF, kind, MsFlags::empty(), none).expect("hide the BTF");
        }
        let no_btf = "/sys/kernel/btf/vmlinux";
        failed(&run("--transport btf"), 4, &[no_btf]);
        if confidential {
            failed(
                &run("--transport tracepoint"),
                4,
                &["lockdown=confidentiality"],
            );
            failed(&run(""), 4, &["lockdown=confidentiality", no_btf]);
        }
    })
    .expect("a mount namespace of our own");
    Ok(())
}
