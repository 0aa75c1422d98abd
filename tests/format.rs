//! The `format` parser on real files of many kernels and on hostile ones, and
//! the programs linked against all of them.

#[allow(dead_code, reason = "not all are wanted here")]
#[path = "common/programs.rs"]
mod assembled;

use assembled::program;
use proptest::prelude::*;
use socket_snoop::bpf_link::{Host, HostField};
use socket_snoop::programs;
use socket_snoop::tracepoint::{Format, FormatError};
use std::fs;
use std::path::PathBuf;

fn formats() -> Vec<(PathBuf, Vec<u8>)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats");
    let mut files = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("tests/data/formats") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read(&path).expect("readable");
                files.push((path, text));
            }
        }
    }
    assert!(files.len() > 100, "only {} files", files.len());
    files
}

/// An independent reading of a field line: by words, not by position.
fn numbers(line: &str) -> Option<(u16, u16, bool)> {
    let number = |key: &str| {
        let at = line.find(key)? + key.len();
        let digits: String = line[at..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse::<u16>().ok()
    };
    Some((
        number("offset:")?,
        number("size:")?,
        number("signed:")? != 0,
    ))
}

#[test]
fn every_real_file_is_read_whole() {
    for (path, text) in formats() {
        let format = Format::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let text = String::from_utf8(text).expect("UTF-8");
        let lines: Vec<&str> = text.lines().filter(|l| l.contains("field:")).collect();
        assert_eq!(format.fields().len(), lines.len(), "{}", path.display());
        for (field, line) in format.fields().iter().zip(lines) {
            let has = (field.offset, field.size, field.signed);
            assert_eq!(Some(has), numbers(line), "{}: {line}", path.display());
            assert!(line.contains(&field.name), "{}: {line}", path.display());
        }
    }
}

#[test]
fn known_offsets() {
    let find = |name: &str| {
        let (_, text) = formats()
            .into_iter()
            .find(|(path, _)| path.to_string_lossy().contains(name))
            .expect(name);
        Format::parse(&text).expect(name)
    };
    let at = |format: &Format, field: &str| format.field(field).map(|f| (f.offset, f.size));
    let host = find("amd64-6.18.44-host/sock/inet_sock_set_state");
    assert_eq!(at(&host, "skaddr"), Some((8, 8)));
    assert_eq!(at(&host, "daddr_v6"), Some((56, 16)));
    let rt = find("amd64-6.1.0-56-rt-amd64/sock/inet_sock_set_state");
    assert_eq!(at(&rt, "skaddr"), Some((16, 8)));
    let retransmit = find("amd64-6.18.44-host/tcp/tcp_retransmit_skb");
    assert_eq!(at(&retransmit, "saddr_v6"), Some((42, 16)));
    assert_eq!(at(&retransmit, "err"), Some((76, 4)));
    assert!(retransmit.field("err").expect("err").signed);
    let old = find("amd64-5.10.0-46-cloud-amd64/tcp/tcp_retransmit_skb");
    assert_eq!((at(&old, "family"), at(&old, "err")), (None, None));
    for oldest in ["4.16.13", "4.19.79", "4.18-rhel8.3", "4.18-rhel8.10"] {
        let retransmit = find(&format!("amd64-{oldest}/tcp/tcp_retransmit_skb"));
        assert_eq!(at(&retransmit, "state"), None, "{oldest}");
        assert_eq!(at(&retransmit, "saddr_v6"), Some((36, 16)), "{oldest}");
        let state = find(&format!("amd64-{oldest}/sock/inet_sock_set_state"));
        assert_eq!(at(&state, "protocol"), Some((30, 1)), "{oldest}");
        assert_eq!(at(&state, "daddr_v6"), Some((55, 16)), "{oldest}");
    }
    let rhel = find("amd64-5.14-rhel9.6/tcp/tcp_destroy_sock");
    assert_eq!(at(&rhel, "sock_cookie"), Some((72, 8)));
}

struct OnFormat<'a>(&'a Format);

impl Host for OnFormat<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        self.0.host_field(name)
    }
    fn map_fd(&self, _: &str) -> Option<i32> {
        Some(3)
    }
}

#[test]
fn the_programs_link_on_every_kernel() {
    use programs::{DESTROY, RCV_SPACE, RESET_RECEIVED, RESET_SENT, RETRANSMIT, STATE, SYNACK};
    let names = [
        STATE,
        RETRANSMIT,
        SYNACK,
        RESET_SENT,
        RESET_RECEIVED,
        RCV_SPACE,
        DESTROY,
    ];
    let templates = names.map(program);
    let (mut linked, mut refused) = (0, Vec::new());
    for (path, text) in formats() {
        let stem = path
            .file_stem()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        let Some(template) = templates.iter().find(|t| t.event == stem) else {
            continue;
        };
        let format = Format::parse(&text).expect("read");
        match template.link(&OnFormat(&format)) {
            Ok(insns) => assert!(insns.len() < 4096),
            Err(why) => refused.push(format!("{}: {why}", path.display())),
        }
        linked += 1;
    }
    // The tracepoint of first reads came with Linux 4.18.
    assert_eq!(linked, 14 * 7 - 1);
    // Before that the cookie of what is destroyed was not told.
    let [refused] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert!(refused.contains("amd64-4.16.13/tcp/tcp_destroy_sock.format"));
    assert!(refused.ends_with("no field 'sock_cookie', which the program needs"));
}

/// A file with these lines after the name.
fn parse(lines: &[&str]) -> Result<Format, FormatError> {
    let mut text = String::from("name: x\nID: 7\nformat:\n");
    for line in lines {
        text += line;
        text.push('\n');
    }
    Format::parse(text.as_bytes())
}

#[test]
fn hostile_files_are_refused_in_words() {
    let good = "\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;";
    assert_eq!(parse(&[]), Err(FormatError::Empty));
    assert_eq!(Format::parse(b""), Err(FormatError::Empty));
    assert_eq!(
        Format::parse(b"\xff\xfe\x00 garbage"),
        Err(FormatError::Empty)
    );
    assert_eq!(parse(&[good, good]), Err(FormatError::Twice("a".into())));
    for line in [
        "\tfield:int a;",
        "\tfield:int a;\toffset:8;",
        "\tfield:int a;\toffset:8;\tsize:4;",
        "\tfield:int a;\toffset:x;\tsize:4;\tsigned:1;",
        "\tfield:int a;\toffset:-8;\tsize:4;\tsigned:1;",
        "\tfield:int a;\toffset:99999999999999999999;\tsize:4;\tsigned:1;",
        "\tfield:;\toffset:8;\tsize:4;\tsigned:1;",
        "\tfield:int;\toffset:8;\tsize:4;\tsigned:1;",
        "\tfield:int [4];\toffset:8;\tsize:4;\tsigned:1;",
        "\tfield:int a]b[;\toffset:8;\tsize:4;\tsigned:1;;;",
    ] {
        let result = parse(&[good, line]);
        assert_eq!(result, Err(FormatError::Line(5)), "{line}");
    }
    for (offset, size) in [(8192, 1), (0, 8193), (u32::MAX, 1), (8, u32::MAX)] {
        let line = format!("\tfield:int b;\toffset:{offset};\tsize:{size};\tsigned:0;");
        assert_eq!(
            parse(&[good, &line]),
            Err(FormatError::Range("b".into())),
            "{line}"
        );
    }
    let mut text = b"\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;\n\tfield:int ".to_vec();
    text.extend(b"\xff;\toffset:8;\tsize:4;\tsigned:1;\n");
    assert_eq!(Format::parse(&text), Err(FormatError::Line(2)));
}

#[test]
fn gaps_missing_fields_and_wrong_widths() {
    // A gap before the first field, and one between two, are what RT kernels have.
    let gap = parse(&[
        "\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;",
        "\tfield:int b;\toffset:64;\tsize:4;\tsigned:1;",
    ])
    .expect("read");
    assert_eq!(gap.field("b").expect("b").offset, 64);
    // A program refuses a record without its field, or with another width.
    let (_, real) = formats()
        .into_iter()
        .find(|(p, _)| p.ends_with("amd64-6.18.44-host/sock/inet_sock_set_state.format"))
        .expect("the host's");
    let real = String::from_utf8(real).expect("UTF-8");
    let link = |text: &str| {
        let format = Format::parse(text.as_bytes()).expect("read");
        program(programs::STATE)
            .link(&OnFormat(&format))
            .map(drop)
            .map_err(|e| e.to_string())
    };
    assert_eq!(link(&real), Ok(()));
    let without: String = real
        .lines()
        .filter(|l| !l.contains(" newstate;"))
        .map(|l| format!("{l}\n"))
        .collect();
    let message = link(&without).expect_err("no newstate");
    assert!(message.contains("newstate"), "{message}");
    let wide = real.replace(
        "int newstate;\toffset:20;\tsize:4;",
        "int newstate;\toffset:20;\tsize:8;",
    );
    assert_ne!(wide, real);
    let message = link(&wide).expect_err("newstate of 8 bytes");
    assert!(
        message.contains("newstate") && message.contains('8'),
        "{message}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Format::parse(&text);
    }

    #[test]
    fn any_field_like_line_is_read_or_refused(
        name in "[a-z_* \\[\\]0-9]{0,12}",
        offset in any::<u64>(),
        size in any::<u32>(),
        signed in "[01x]",
    ) {
        let line = format!("\tfield:{name};\toffset:{offset};\tsize:{size};\tsigned:{signed};");
        if let Ok(format) = Format::parse(line.as_bytes()) {
            for field in format.fields() {
                prop_assert!(u32::from(field.offset) + u32::from(field.size) <= 8192);
            }
        }
    }
}
