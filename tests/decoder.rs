//! Records of tracepoints decoded by their `format` files: those of eight
//! kernels with records made up for them, and hostile ones.

use proptest::prelude::*;
use socket_snoop::bpf_link::Template;
use socket_snoop::decoder::{Decoded, Decoder};
use socket_snoop::event::What;
use socket_snoop::programs::{RETRANSMIT, STATE};
use socket_snoop::tcp::{State, Wire};
use socket_snoop::tracepoint::{Format, Tracepoint};
use socket_snoop::wire::DecodeError;
use std::fs;
use std::path::PathBuf;

/// The format files of a kernel's two tracepoints.
#[derive(Clone)]
struct Kernel {
    name: String,
    state: String,
    retransmit: String,
}

fn kernels() -> Vec<Kernel> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats");
    let all: Vec<Kernel> = fs::read_dir(root)
        .expect("tests/data/formats")
        .map(|folder| {
            let folder = folder.expect("a folder").path();
            let read = |file| fs::read_to_string(folder.join(file)).expect(file);
            Kernel {
                name: folder.display().to_string(),
                state: read("sock/inet_sock_set_state.format"),
                retransmit: read("tcp/tcp_retransmit_skb.format"),
            }
        })
        .collect();
    assert!(all.len() >= 8, "{} kernels", all.len());
    all
}

const IDS: [u32; 2] = [1293, 2281];

fn tracepoint(template: &Template<'_>, id: u32, text: &str) -> Tracepoint {
    Tracepoint {
        group: template.group.into(),
        name: template.event.into(),
        id,
        format: Format::parse(text.as_bytes()).expect("a format"),
    }
}

fn decoder(kernel: &Kernel) -> Result<Decoder, String> {
    let state = tracepoint(&STATE, IDS[0], &kernel.state);
    let retransmit = tracepoint(&RETRANSMIT, IDS[1], &kernel.retransmit);
    Decoder::new(&[(&state, &STATE), (&retransmit, &RETRANSMIT)]).map_err(|e| e.to_string())
}

/// Where a field lies, read by words, not by position.
fn place(format: &str, name: &str) -> Option<(usize, usize)> {
    let line = format.lines().find(|line| {
        let declaration = line.split(';').next().unwrap_or("");
        let word = declaration.rsplit([' ', '*']).next().unwrap_or("");
        line.contains("field:") && word.split('[').next() == Some(name)
    })?;
    let number = |key: &str| {
        let rest = &line[line.find(key)? + key.len()..];
        rest.split(';').next()?.parse().ok()
    };
    Some((number("offset:")?, number("size:")?))
}

struct Record<'a> {
    format: &'a str,
    bytes: Vec<u8>,
}

impl Record<'_> {
    /// Every byte that is no field of ours is garbage.
    fn new(format: &str, id: u32) -> Record<'_> {
        let bytes = vec![0xa5; 120];
        Record { format, bytes }
            .with("common_type", id.into())
            .with("common_flags", 0)
            .with("common_pid", 4242)
    }

    fn has(&self, name: &str) -> bool {
        place(self.format, name).is_some()
    }

    /// A number, as wide as the field is; passed over where there is no field.
    fn with(self, name: &str, value: u64) -> Self {
        match place(self.format, name) {
            Some((_, size)) => self.put(name, &value.to_le_bytes()[..size]),
            None => self,
        }
    }

    fn put(mut self, name: &str, bytes: &[u8]) -> Self {
        let (at, size) = place(self.format, name).expect(name);
        assert_eq!(size, bytes.len(), "{name}");
        self.bytes[at..at + size].copy_from_slice(bytes);
        self
    }

    fn ends(self) -> Self {
        let v6 = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        self.with("skaddr", 0xffff_8880_1234_5678)
            .with("sport", 40_000)
            .with("dport", 443)
            .with("family", libc::AF_INET6 as u64)
            .put("saddr_v6", &v6(1))
            .put("daddr_v6", &v6(2))
    }
}

fn state_record(kernel: &Kernel) -> Record<'_> {
    Record::new(&kernel.state, IDS[0])
        .ends()
        .with("protocol", 6)
        .with("oldstate", 1)
        .with("newstate", 4)
}

fn retransmit_record(kernel: &Kernel) -> Record<'_> {
    Record::new(&kernel.retransmit, IDS[1])
        .ends()
        .with("state", 2)
        .with("err", 0)
}

fn decode(kernel: &Kernel, record: &Record<'_>) -> Result<Option<Decoded>, DecodeError> {
    decoder(kernel).expect("fits").decode(7, 3, &record.bytes)
}

fn decoded(kernel: &Kernel, record: &Record<'_>) -> Decoded {
    decode(kernel, record)
        .unwrap_or_else(|e| panic!("{}: {e}", kernel.name))
        .expect("an event of TCP")
}

#[test]
fn state_changes_of_every_kernel() {
    for kernel in &kernels() {
        let Decoded {
            event,
            own_context,
            tid,
        } = decoded(kernel, &state_record(kernel));
        assert_eq!((event.time, event.cpu), (7, 3));
        assert_eq!(event.socket, 0xffff_8880_1234_5678);
        let what = What::State {
            old: State::Established,
            new: State::FinWait1,
        };
        assert_eq!(event.what, what, "{}", kernel.name);
        assert_eq!(event.local.addr.to_string(), "2001:db8::1");
        assert_eq!(event.peer.addr.to_string(), "2001:db8::2");
        assert_eq!((event.local.port, event.peer.port), (40_000, 443));
        assert_eq!((event.wire, event.owner), (Wire::Ipv6, None));
        assert_eq!((own_context, tid), (true, 4242));
    }
}

#[test]
fn retransmissions_of_every_kernel() {
    let (mut failed, mut unnamed) = (0, 0);
    for kernel in &kernels() {
        let record = retransmit_record(kernel);
        let state = record.has("state").then_some(State::SynSent);
        let error = None;
        let event = decoded(kernel, &record).event;
        assert_eq!(event.what, What::Retransmit { state, error });
        assert_eq!(event.socket, 0xffff_8880_1234_5678, "{}", kernel.name);
        assert_eq!(event.peer.to_owned().addr.to_string(), "2001:db8::2");
        assert_eq!((event.local.port, event.peer.port), (40_000, 443));
        assert_eq!(event.wire, Wire::Ipv6);
        unnamed += usize::from(!record.has("family"));
        // A failed one has a negative errno, where the kernel tells.
        let record = record.with("err", -16i32 as u32 as u64);
        let error = record.has("err").then_some(16);
        failed += usize::from(error.is_some());
        let event = decoded(kernel, &record).event;
        assert_eq!(event.what, What::Retransmit { state, error });
    }
    assert!(failed > 0 && unnamed > 0, "{failed} {unnamed}");
}

#[test]
fn ipv4_is_told_by_family_or_by_its_mapped_address() {
    let mapped = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
    for kernel in &kernels() {
        for family in [libc::AF_INET, libc::AF_INET6] {
            for record in [state_record(kernel), retransmit_record(kernel)] {
                let record = record
                    .with("family", family as u64)
                    .put("saddr_v6", &mapped(1))
                    .put("daddr_v6", &mapped(2));
                let event = decoded(kernel, &record).event;
                assert_eq!(event.wire, Wire::Ipv4);
                assert_eq!(event.local.addr.to_string(), "10.0.0.1");
                assert_eq!(event.peer.addr.to_string(), "10.0.0.2");
            }
        }
    }
}

#[test]
fn the_context_is_in_the_common_flags() {
    let kernel = &kernels()[0];
    // Interrupts off, need-resched, preempt-resched: the task's own.
    for (flags, own) in [
        (0x00, true),
        (0x01, true),
        (0x04 | 0x20, true),
        (0x08, false),
        (0x10, false),
        (0x11, false),
        (0x40, false),
        (0x80, false),
    ] {
        let record = state_record(kernel).with("common_flags", flags);
        assert_eq!(decoded(kernel, &record).own_context, own, "{flags:#x}");
    }
}

#[test]
fn what_is_no_tcp_event_is_passed_over_and_nonsense_refused() {
    for kernel in &kernels() {
        // SCTP, DCCP; MPTCP only where the field has room for it.
        for protocol in [132, 33, 262] {
            let record = state_record(kernel).with("protocol", protocol);
            if place(&kernel.state, "protocol").expect("a protocol").1 == 2 || protocol < 256 {
                assert_eq!(decode(kernel, &record), Ok(None), "{protocol}");
            }
        }
        for number in [0, 14, 255, 256, 257, u64::from(u32::MAX)] {
            for field in ["oldstate", "newstate"] {
                let record = state_record(kernel).with(field, number);
                assert_eq!(decode(kernel, &record), Err(DecodeError::State));
            }
        }
        let record = state_record(kernel).with("common_type", 7);
        assert_eq!(decode(kernel, &record), Err(DecodeError::Kind));
        // A state that isn't known is none, as the programs send it.
        let record = retransmit_record(kernel).with("state", 99);
        let (state, error) = (None, None);
        assert_eq!(
            decoded(kernel, &record).event.what,
            What::Retransmit { state, error }
        );
        // Cut anywhere before its last field: never an event, never a panic.
        let ends = |format: &str, name: &str| {
            let (at, size) = place(format, name).expect(name);
            at + size
        };
        for (record, end) in [
            (state_record(kernel), ends(&kernel.state, "daddr_v6")),
            (
                retransmit_record(kernel),
                ends(&kernel.retransmit, "daddr_v6"),
            ),
        ] {
            for len in 0..end {
                let cut = Record {
                    format: record.format,
                    bytes: record.bytes[..len].to_vec(),
                };
                assert_eq!(decode(kernel, &cut), Err(DecodeError::Short), "{len}");
            }
        }
    }
}

/// A copy with a field's line changed.
fn changed(kernel: &Kernel, name: &str, change: impl Fn(&str) -> String) -> Kernel {
    let (at, size) = place(&kernel.state, name).expect(name);
    let numbers = format!("offset:{at};\tsize:{size};");
    let lines = kernel.state.lines().map(|line| {
        let ours = line.contains(&format!(" {name}")) && line.contains(&numbers);
        if ours { change(line) } else { line.to_owned() }
    });
    Kernel {
        state: lines.collect::<Vec<_>>().join("\n"),
        ..kernel.clone()
    }
}

#[test]
fn a_field_that_is_missing_or_of_another_width_is_refused_by_name() {
    for kernel in &kernels() {
        for name in [
            "common_type",
            "common_flags",
            "common_pid",
            "skaddr",
            "oldstate",
            "newstate",
            "sport",
            "dport",
            "protocol",
            "family",
            "saddr_v6",
            "daddr_v6",
        ] {
            let (_, size) = place(&kernel.state, name).expect(name);
            let without = changed(kernel, name, |_| String::new());
            let wider = changed(kernel, name, |line| {
                line.replace(&format!("size:{size};"), &format!("size:{};", size + 3))
            });
            for broken in [without, wider] {
                assert_ne!(broken.state, kernel.state);
                let error = decoder(&broken).expect_err(name);
                assert!(error.contains(&format!("'{name}'")), "{error}");
                assert!(error.contains("sock:inet_sock_set_state"), "{error}");
                assert_eq!(error.lines().count(), 1);
            }
        }
    }
}

#[test]
fn a_record_may_be_laid_out_in_any_way() {
    // Moved by an odd number of bytes: numbers need not be aligned here.
    for kernel in &kernels() {
        let mut moved = kernel.clone();
        for name in [
            "skaddr", "oldstate", "newstate", "saddr_v6", "daddr_v6", "sport",
        ] {
            moved = changed(&moved, name, |line| {
                let (at, _) = place(&kernel.state, name).expect(name);
                line.replace(&format!("offset:{at};"), &format!("offset:{};", at + 801))
            });
        }
        let mut record = Record {
            format: &moved.state,
            bytes: vec![0x5a; 1000],
        };
        record = record
            .with("common_type", IDS[0].into())
            .with("common_flags", 0)
            .ends()
            .with("protocol", 6)
            .with("oldstate", 7)
            .with("newstate", 2);
        let event = decoded(&moved, &record).event;
        let what = What::State {
            old: State::Close,
            new: State::SynSent,
        };
        assert_eq!((event.what, event.local.port), (what, 40_000));
        assert!(decoder(&moved).expect("fits").longest() > 801);
    }
}

#[test]
fn tracepoints_that_disagree_about_the_type_are_refused() {
    let kernel = &kernels()[0];
    let odd = changed(kernel, "common_type", |line| {
        line.replace("offset:0", "offset:90")
    });
    let error = decoder(&odd).expect_err("elsewhere");
    assert!(error.contains("common_type"), "{error}");
    assert!(Decoder::new(&[]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        which in 0usize..2,
    ) {
        let kernel = &kernels()[0];
        let mut record = bytes;
        if record.len() >= 2 {
            record[..2].copy_from_slice(&(IDS[which] as u16).to_le_bytes());
        }
        let _ = decoder(kernel).expect("fits").decode(0, 0, &record);
    }
}
