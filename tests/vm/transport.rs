//! Which way the events come, and what is said where none is left.

use std::fs;
use std::io::ErrorKind;

use nix::mount::{MsFlags, mount};

use crate::common::event::{self, CLIENT, SERVER};
use crate::common::{Output, Run, Tracer, net};
use crate::lives::{both_closed, pair, programs};
use crate::suite::{BTF, Done, Variant, with_mounts};
use crate::way::REFUSE;

/// The kernel is locked down as the variant says, where it can be (Linux 5.4).
pub fn lockdown() -> Done {
    const STATE: &str = "/sys/kernel/security/lockdown";
    let expected = Variant::here()
        .value("lockdown")
        .unwrap_or("none")
        .to_owned();
    let state = with_mounts(|| {
        let (kind, none) = (Some("securityfs"), None::<&str>);
        mount(kind, "/sys/kernel/security", kind, MsFlags::empty(), none)
            .unwrap_or_else(|e| panic!("mount securityfs: {e}"));
        fs::read_to_string(STATE)
    });
    let state = match state {
        Err(e) if e.kind() == ErrorKind::NotFound && expected == "none" => {
            return Err("this kernel can't be locked down".into());
        }
        read => read.unwrap_or_else(|e| panic!("{STATE}: {e}")),
    };
    assert!(state.contains(&format!("[{expected}]")), "{state}");
    Ok(())
}

/// What standard error says of the way that was taken.
fn notes(stderr: &str) -> Vec<&str> {
    let notes = stderr.lines().filter(|line| line.contains(": note: "));
    // Those on counters are checked elsewhere, and a slow machine may need longer
    // than the start waits for the search.
    let others = ["bytes, segments and RTT", "open before the start"];
    let notes = notes.filter(|line| others.iter().all(|other| !line.contains(other)));
    notes.collect()
}

/// The first way that there is, or the one asked for, is taken; standard
/// error says so unless it is the first of all.
pub fn in_use() -> Done {
    let variant = Variant::here();
    let way = variant.way();
    let mut note = match way {
        "btf" => "tracing by BTF".to_owned(),
        "perf" => "tracing by perf samples".to_owned(),
        _ => String::new(),
    };
    note += &match variant.value("transport") {
        Some(name) => format!(" (--transport {name})"),
        None => ": ".to_owned(),
    };
    let tracer = Tracer::json("");
    assert_eq!(programs().is_empty(), way == "perf", "{:?}", programs());
    let out = tracer.stop().ok();
    match (way, &notes(&out.stderr)[..]) {
        ("tracepoint", []) => {}
        (_, [one]) if one.contains(&note) => {}
        _ => panic!("no {note:?}: {}", out.stderr),
    }
    Ok(())
}

/// Where bpf(2) is not built, plain samples tell the same of a connection.
pub fn bpf_not_built() -> Done {
    let listener = net::listen(net::own_ip());
    let server = listener.local_addr().unwrap();
    let run = Run::quiet("--all --format=json").env(REFUSE, "bpf=ENOSYS");
    let tracer = run.start();
    net::converse(&listener);
    tracer.until(|lines| both_closed(lines, server));
    let out = tracer.stop().ok();
    let said = notes(&out.stderr);
    assert!(
        said.len() == 1 && said[0].contains("by perf samples: "),
        "{said:?}"
    );
    let (of_client, of_server) = pair(&event::objects(&out.lines()), server);
    assert_eq!(event::transitions(&of_client), CLIENT);
    assert_eq!(event::transitions(&of_server), SERVER);
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
    let no_sysfs = Variant::here().has("nosys");
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
        // Where there is no sysfs to ask, nobody knows whether the kernel has any.
        let code = if no_sysfs { 1 } else { 4 };
        failed(&run("--transport btf"), code, &[no_btf]);
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
