//! Records of tracepoints decoded by their `format` files: those of many
//! kernels with records made up for them, and hostile ones.

#[allow(dead_code, reason = "not all are wanted here")]
#[path = "../common/programs.rs"]
mod programs;
mod records;

use programs::program;
use proptest::prelude::*;
use records::{IDS, Kernel, PROGRAMS, Record, decoder, decoder_in, kernels, place, tracepoint};
use socket_snoop::bpf::wire::DecodeError;
use socket_snoop::capture::decoder::{Decoded, Decoder};
use socket_snoop::model::event::What;
use socket_snoop::model::tcp::{State, Wire};
use socket_snoop::order::Order;
use socket_snoop::programs::RCV_SPACE;

fn state_record(kernel: &Kernel) -> Record<'_> {
    kernel
        .record(0)
        .ends()
        .with("protocol", 6)
        .with("oldstate", 1)
        .with("newstate", 4)
}

fn retransmit_record(kernel: &Kernel) -> Record<'_> {
    kernel.record(1).ends().with("state", 2).with("err", 0)
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

/// The same where numbers begin with the highest byte, in fields of every width.
#[test]
fn records_in_either_order() {
    for kernel in &kernels() {
        let both = [Order::Little, Order::Big].map(|order| {
            let decoder = decoder_in(order, kernel).expect("fits");
            [0, 1, 2, 3].map(|which| {
                let record = kernel
                    .record_in(order, which)
                    .with("skaddr", 0xffff_8880_1234_5678)
                    .with("protocol", 6)
                    .with("oldstate", 1)
                    .with("newstate", 4)
                    .with("state", 2)
                    .with("err", -16i32 as u32 as u64)
                    .with("reason", 3);
                let record = match record.has("saddr_v6") {
                    true => record.ends(),
                    false => record,
                };
                let decoded = decoder.decode(7, 3, &record.bytes);
                decoded.expect("valid").expect("an event of TCP")
            })
        });
        assert_eq!(both[0], both[1], "{}", kernel.name);
        assert_eq!(both[1][0].event.local.port, 40_000);
        assert_eq!((both[1][0].tid, both[1][0].own_context), (4242, true));
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
        assert_eq!(
            event.what,
            What::Retransmit {
                kind: None,
                state,
                error,
                total: None
            }
        );
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
        assert_eq!(
            event.what,
            What::Retransmit {
                kind: None,
                state,
                error,
                total: None
            }
        );
    }
    assert!(failed > 0 && unnamed > 0, "{failed} {unnamed}");
}

/// The listener's socket, the connection's ends.
#[test]
fn synacks_of_every_kernel() {
    let mut unnamed = 0;
    for kernel in &kernels() {
        let record = kernel.record(2).ends().with("common_flags", 0x10);
        unnamed += usize::from(!record.has("family"));
        let decoded = decoded(kernel, &record);
        let event = decoded.event;
        assert_eq!(event.what, What::SynAck, "{}", kernel.name);
        assert!(event.is_line() && !decoded.own_context);
        assert_eq!(event.socket, 0xffff_8880_1234_5678);
        assert_eq!(event.local.addr.to_string(), "2001:db8::1");
        assert_eq!(event.peer.addr.to_string(), "2001:db8::2");
        assert_eq!((event.local.port, event.peer.port), (40_000, 443));
        assert_eq!(event.wire, Wire::Ipv6);
    }
    assert!(unnamed > 0);
}

/// As the programs send them: a socket, and a reason where the kernel has one.
#[test]
fn resets_of_every_kernel() {
    let mut reasons = 0;
    for kernel in &kernels() {
        let socket = 0xffff_8880_1234_5678;
        let sent = kernel.record(3).with("skaddr", socket).with("reason", 11);
        let reason = sent.has("reason").then_some(11);
        reasons += usize::from(reason.is_some());
        let tells = decoder(kernel).expect("fits").tells_reasons();
        assert_eq!(tells, reason.is_some(), "{}", kernel.name);
        let received = kernel.record(4).with("skaddr", socket);
        for (record, what) in [
            (sent, What::ResetSent { reason }),
            (received, What::ResetReceived),
        ] {
            let event = decoded(kernel, &record).event;
            assert_eq!((event.what, event.socket), (what, socket));
            assert!(!event.is_line() && event.is_noise());
            assert_eq!((event.local.port, event.peer.port), (0, 0));
            assert_eq!(event.wire, Wire::Ipv6);
            // In answer to a segment that no socket was meant by.
            let none = record.with("skaddr", 0);
            assert_eq!(decode(kernel, &none), Ok(None), "{}", kernel.name);
        }
    }
    assert!(reasons > 0 && reasons < kernels().len());
}

/// What a host lacks of one tracepoint takes nothing from the others, and its
/// records, should there be any, are nobody's.
#[test]
fn each_tracepoint_may_be_missing_alone() {
    for kernel in &kernels() {
        for missing in 2..PROGRAMS.len() {
            let mut broken = kernel.clone();
            let lines = kernel.formats[missing].lines();
            let lines = lines.filter(|line| !line.contains("skaddr;"));
            broken.formats[missing] = lines.collect::<Vec<_>>().join("\n");
            let mut decoder = Decoder::default();
            for (which, name) in PROGRAMS.iter().enumerate() {
                let error = decoder
                    .add(&tracepoint(&broken, which), program(*name))
                    .err();
                assert_eq!(error.is_some(), which == missing);
                if let Some(error) = error {
                    let error = error.to_string();
                    assert!(error.contains("'skaddr'"), "{error}");
                    assert!(error.contains(program(*name).event.as_str()), "{error}");
                }
            }
            for which in 0..PROGRAMS.len() {
                let record = match which {
                    0 => state_record(kernel),
                    3 | 4 => kernel.record(which),
                    _ => kernel.record(which).ends(),
                };
                let answer = decoder.decode(0, 0, &record.bytes);
                match which == missing {
                    true => assert_eq!(answer, Err(DecodeError::Kind)),
                    false => assert!(answer.expect("decoded").is_some()),
                }
            }
        }
    }
}

/// There are tracepoints of which only a program knows what to make.
#[test]
fn a_tracepoint_that_nobody_reads_is_refused() {
    let kernel = &kernels()[0];
    let known = tracepoint(kernel, 4);
    let mut decoder = Decoder::default();
    let error = decoder
        .add(&known, program(RCV_SPACE))
        .expect_err("refused");
    assert!(
        error.to_string().contains(&program(RCV_SPACE).event),
        "{error}"
    );
    let record = kernel.record(4);
    let answer = decoder.decode(0, 0, &record.bytes);
    assert_eq!(answer, Err(DecodeError::Kind));
    assert_eq!(decoder.longest(), 0);
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
            if place(&kernel.formats[0], "protocol").expect("a protocol").1 == 2 || protocol < 256 {
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
            What::Retransmit {
                kind: None,
                state,
                error,
                total: None
            }
        );
        // Cut anywhere before its last field: never an event, never a panic.
        let ends = |format: &str, name: &str| {
            let (at, size) = place(format, name).expect(name);
            at + size
        };
        let reason = match kernel.record(3).has("reason") {
            true => "reason",
            false => "skaddr",
        };
        for (which, last) in ["daddr_v6", "daddr_v6", "daddr_v6", reason, "skaddr"]
            .into_iter()
            .enumerate()
        {
            let record = match which {
                0 => state_record(kernel),
                3 | 4 => kernel.record(which),
                _ => kernel.record(which).ends(),
            };
            let end = ends(&kernel.formats[which], last);
            for len in 0..end {
                let cut = record.cut(len);
                assert_eq!(decode(kernel, &cut), Err(DecodeError::Short), "{len}");
            }
        }
    }
}

/// A copy with a field's line changed.
fn changed(kernel: &Kernel, name: &str, change: impl Fn(&str) -> String) -> Kernel {
    let (at, size) = place(&kernel.formats[0], name).expect(name);
    let numbers = format!("offset:{at};\tsize:{size};");
    let lines = kernel.formats[0].lines().map(|line| {
        let ours = line.contains(&format!(" {name}")) && line.contains(&numbers);
        if ours { change(line) } else { line.to_owned() }
    });
    let mut changed = kernel.clone();
    changed.formats[0] = lines.collect::<Vec<_>>().join("\n");
    changed
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
            let (_, size) = place(&kernel.formats[0], name).expect(name);
            let without = changed(kernel, name, |_| String::new());
            let wider = changed(kernel, name, |line| {
                line.replace(&format!("size:{size};"), &format!("size:{};", size + 3))
            });
            for broken in [without, wider] {
                assert_ne!(broken.formats[0], kernel.formats[0]);
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
                let (at, _) = place(&kernel.formats[0], name).expect(name);
                line.replace(&format!("offset:{at};"), &format!("offset:{};", at + 801))
            });
        }
        let mut record = moved.record(0);
        record.bytes = vec![0x5a; 1000];
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
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        which in 0..IDS.len(),
    ) {
        let kernel = &kernels()[0];
        let mut record = bytes;
        if record.len() >= 2 {
            record[..2].copy_from_slice(&(IDS[which] as u16).to_ne_bytes());
        }
        let _ = decoder(kernel).expect("fits").decode(0, 0, &record);
        let _ = Decoder::default().decode(0, 0, &record);
    }
}
