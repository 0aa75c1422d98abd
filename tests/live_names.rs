//! Live: process names that try to break or forge a line.
//!
//! Contract: alone in its file, so that nothing forks while its connections
//! are open. A child that another test starts holds copies of all descriptors
//! until its exec, and where its copy is the last, the connection's close is
//! the child's, with the child's name.

mod common;

use std::ffi::CString;
use story::story;

use common::{Run, Tracer, event, live, net};
use nix::sys::prctl;

/// What the log line shows for a name: see docs/reading.md.
fn shown(comm: &[u8]) -> String {
    let bare = |b: &u8| b.is_ascii_graphic() && !b"\"\\=".contains(b);
    if comm.is_empty() {
        return "-".into();
    }
    if comm != b"-" && comm.iter().all(bare) {
        return String::from_utf8(comm.to_vec()).unwrap();
    }
    let mut text = String::from("\"");
    for &b in comm {
        match b {
            b'\n' => text += "\\n",
            b'\t' => text += "\\t",
            b'"' => text += "\\\"",
            b'\\' => text += "\\\\",
            b' '..=b'~' => text.push(b.into()),
            _ => text += &format!("\\x{b:02x}"),
        }
    }
    text + "\""
}

/// One connection made by a thread of this name, in a process of this name.
fn named(comm: &'static [u8], server: std::net::TcpListener) {
    // Of the first thread. What ends in NUL may be empty.
    std::fs::write("/proc/self/comm", [comm, b"\0"].concat()).unwrap();
    let work = move || {
        prctl::set_name(&CString::new(comm).unwrap()).unwrap();
        net::converse(&server);
    };
    std::thread::spawn(work).join().unwrap();
}

const NAMES: [&[u8]; 14] = [
    b"",
    b"-",
    b"plain-name_1.2",
    b"tmux: server",
    b"a\"b\\c",
    b"x=y",
    b"two\nlines",
    b"tab\there",
    b"\xff\xfe\x80",
    b" STATE=x",
    b"\" STATE=x",
    b" SRC=1.2.3.4:5",
    "n\u{e4}me \u{20ac}".as_bytes(),
    b"\x1b[31m\x7f\x01",
];

#[story]
fn a_hostile_name_breaks_no_line() {
    if !live() {
        return;
    }
    let classic = Run::quiet("").start();
    let json = Tracer::json("");
    for name in NAMES {
        let listener = net::listen(net::own_ip());
        let server = listener.local_addr().unwrap();
        named(name, listener);
        classic.until(|lines| event::lines_with(lines, server).len() >= 10);
        let lines = event::lines_with(&classic.lines(), server);
        assert_eq!(lines.len(), 10, "{name:?}: {lines:#?}");
        let own = |state: &str| {
            let found: Vec<_> = lines.iter().filter(|l| l.state == state).collect();
            assert_eq!(found.len(), 1, "{state}: {lines:#?}");
            found[0].comm.clone()
        };
        assert_eq!(own("Connection Opening (SYN_SENT)"), shown(name));
        assert_eq!(own("Connection Closing (FIN_WAIT1)"), shown(name));

        json.until(|lines| event::with(&event::objects(lines), server).len() >= 10);
        let all = event::objects(&json.lines());
        let (of_client, _) = event::pair(&all, server);
        // A name that is empty may as well be absent.
        for key in ["process.name", "thread.name"] {
            let text = of_client[0][key].as_str().unwrap_or_default();
            match std::str::from_utf8(name) {
                Ok(name) => assert_eq!(text, name, "{key}"),
                Err(_) => assert!(!text.is_empty() && text != "?", "{key}"),
            }
        }
    }
    classic.stop().ok();
    json.stop().ok();
}
