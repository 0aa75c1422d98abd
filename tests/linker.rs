//! Linking: the templates of `bpf-asm/` and small ones, against the layouts that kernels have had.

use socket_snoop::bpf_asm::{Program, assemble, fragment};
use socket_snoop::bpf_insn::{CLASS, Insn, JMP32, LDX, PSEUDO_MAP_FD, STX};
use socket_snoop::bpf_link::{Host, HostField, LinkError, Template};
use socket_snoop::programs::{RETRANSMIT, STATE};

/// A host: fields as (name, offset, size), map descriptors 3 and 4.
struct Fields<'a>(&'a [(&'a str, u16, u16)]);

impl Host for Fields<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        let found = self.0.iter().find(|(field, _, _)| *field == name)?;
        Some(HostField {
            offset: found.1,
            size: found.2,
        })
    }
    fn map_fd(&self, name: &str) -> Option<i32> {
        match name {
            "events" => Some(3),
            "lost" => Some(4),
            _ => None,
        }
    }
}

type Layout = [(&'static str, u16, u16)];

/// sock:inet_sock_set_state from 5.6, and with 8 bytes more before the first field (real-time kernels, RHEL 9).
const STATE_NEW: [(&str, u16, u16); 11] = state(0, 2);
const STATE_RT: [(&str, u16, u16); 11] = state(8, 2);
/// Before 5.6: `protocol` of one byte, and everything behind it at odd places.
const STATE_OLD: [(&str, u16, u16); 11] = state(0, 1);

const fn state(more: u16, protocol: u16) -> [(&'static str, u16, u16); 11] {
    let behind = more + 30 + protocol;
    [
        ("skaddr", 8 + more, 8),
        ("oldstate", 16 + more, 4),
        ("newstate", 20 + more, 4),
        ("sport", 24 + more, 2),
        ("dport", 26 + more, 2),
        ("family", 28 + more, 2),
        ("protocol", 30 + more, protocol),
        ("saddr", behind, 4),
        ("daddr", behind + 4, 4),
        ("saddr_v6", behind + 8, 16),
        ("daddr_v6", behind + 24, 16),
    ]
}

/// tcp:tcp_retransmit_skb before 4.20 (no state), to 5.11 (no family), to 6.16 (no err), from 6.17, and real-time.
const RETRANSMIT_416: &Layout = &[
    ("skbaddr", 8, 8),
    ("skaddr", 16, 8),
    ("sport", 24, 2),
    ("dport", 26, 2),
    ("saddr_v6", 36, 16),
    ("daddr_v6", 52, 16),
];
const RETRANSMIT_510: &Layout = &[
    ("skaddr", 16, 8),
    ("state", 24, 4),
    ("sport", 28, 2),
    ("dport", 30, 2),
    ("saddr_v6", 40, 16),
    ("daddr_v6", 56, 16),
];
const RETRANSMIT_61: &Layout = &[
    ("skaddr", 16, 8),
    ("state", 24, 4),
    ("sport", 28, 2),
    ("dport", 30, 2),
    ("family", 32, 2),
    ("saddr_v6", 42, 16),
    ("daddr_v6", 58, 16),
];
const RETRANSMIT_618: &Layout = &[
    ("skaddr", 16, 8),
    ("state", 24, 4),
    ("sport", 28, 2),
    ("dport", 30, 2),
    ("family", 32, 2),
    ("saddr_v6", 42, 16),
    ("daddr_v6", 58, 16),
    ("err", 76, 4),
];
const RETRANSMIT_RT: &Layout = &[
    ("skaddr", 24, 8),
    ("state", 32, 4),
    ("sport", 36, 2),
    ("dport", 38, 2),
    ("family", 40, 2),
    ("saddr_v6", 50, 16),
    ("daddr_v6", 66, 16),
];

fn is_store(insn: &Insn) -> bool {
    insn.code & CLASS == STX && insn.code & 0xe0 == 0x60
}

fn width(insn: &Insn) -> i32 {
    match insn.code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

/// What every kernel asks of a program, as far as it can be seen without one.
fn acceptable(template: &Template<'_>, layout: &Layout) -> Vec<Insn> {
    let insns = template
        .link(&Fields(layout))
        .unwrap_or_else(|e| panic!("{}: {e}", template.name));
    assert!(insns.len() <= 4096);
    let mut written = [false; 84];
    let mut second = false;
    for (at, insn) in insns.iter().enumerate() {
        if std::mem::replace(&mut second, insn.is_wide()) {
            continue;
        }
        assert_eq!(insn.check(), Ok(()), "{at}: {insn}");
        assert_ne!(insn.code & CLASS, JMP32, "{at}: {insn} needs Linux 5.1");
        assert!(!insn.is_jump() || insn.off >= 0, "{at}: {insn} is a loop");
        if insn.code & CLASS == LDX && insn.src == 6 {
            assert!(insn.off >= 8, "{at}: {insn}");
            assert_eq!(
                i32::from(insn.off) % width(insn),
                0,
                "{at}: {insn} is not aligned"
            );
            let inside = layout.iter().any(|(_, offset, size)| {
                i32::from(insn.off) >= i32::from(*offset)
                    && i32::from(insn.off) + width(insn) <= i32::from(*offset) + i32::from(*size)
            });
            assert!(inside, "{at}: {insn} reads no field");
        }
        let store = is_store(insn) || insn.code & 0xe7 == 0x62;
        if store && insn.dst == 10 {
            assert_eq!(
                i32::from(insn.off) % width(insn),
                0,
                "{at}: {insn} is not aligned"
            );
            for byte in 0..width(insn) {
                if let Ok(place) = usize::try_from(i32::from(insn.off) + 88 + byte) {
                    written.get_mut(place).into_iter().for_each(|w| *w = true);
                }
            }
        }
    }
    // The task's name is written by the helper.
    written[48..64].fill(true);
    assert_eq!(
        written.iter().position(|w| !w),
        None,
        "a byte of the event is never written"
    );
    assert_eq!(
        insns[insns.len() - 2..],
        fragment("r0 = 1\nexit").expect("two instructions")
    );
    insns
}

/// The loads from the record, as text.
fn loads(insns: &[Insn]) -> Vec<String> {
    insns
        .iter()
        .filter(|i| i.code & CLASS == LDX && i.src == 6)
        .map(ToString::to_string)
        .collect()
}

#[test]
fn state_on_every_layout() {
    let new = acceptable(&STATE, &STATE_NEW);
    assert!(loads(&new).contains(&"r1 = *(u16 *)(r6 + 30)".to_string()));
    assert!(loads(&new).contains(&"r1 = *(u64 *)(r6 + 40)".to_string()));
    let rt = acceptable(&STATE, &STATE_RT);
    assert_eq!(rt.len(), new.len());
    assert!(loads(&rt).contains(&"r1 = *(u64 *)(r6 + 16)".to_string()));
    let old = acceptable(&STATE, &STATE_OLD);
    assert!(loads(&old).contains(&"r1 = *(u8 *)(r6 + 30)".to_string()));
    // 16 bytes at 39 go one by one.
    assert_eq!(old.len(), new.len() + 2 * (2 * 16 - 2 * 2));
    assert!(loads(&old).contains(&"r1 = *(u8 *)(r6 + 39)".to_string()));
    assert!(loads(&old).contains(&"r1 = *(u8 *)(r6 + 70)".to_string()));
}

#[test]
fn retransmit_on_every_layout() {
    let has = |insns: &[Insn], text: &str| insns.iter().any(|insn| insn.to_string() == text);
    let oldest = acceptable(&RETRANSMIT, RETRANSMIT_416);
    assert!(has(&oldest, "*(u8 *)(r10 - 13) = 0") && has(&oldest, "r1 = *(u32 *)(r6 + 36)"));
    let without_family = acceptable(&RETRANSMIT, RETRANSMIT_510);
    assert!(has(&without_family, "*(u16 *)(r10 - 8) = 0") && !has(&without_family, "r7 |= 2"));
    let without_err = acceptable(&RETRANSMIT, RETRANSMIT_61);
    assert!(has(&without_err, "*(u32 *)(r10 - 20) = 0") && !has(&without_err, "r7 |= 1"));
    assert!(has(&without_err, "r1 = *(u16 *)(r6 + 42)") && has(&without_err, "r7 |= 2"));
    let newest = acceptable(&RETRANSMIT, RETRANSMIT_618);
    assert!(
        has(&newest, "r1 = *(u32 *)(r6 + 76)")
            && has(&newest, "r7 |= 1")
            && has(&newest, "r7 |= 2")
    );
    assert!(!has(&newest, "*(u32 *)(r10 - 20) = 0"));
    acceptable(&RETRANSMIT, RETRANSMIT_RT);
}

#[test]
fn names_and_maps() {
    for template in [&STATE, &RETRANSMIT] {
        assert!(template.name.starts_with("socket_snoop") && template.name.len() <= 15);
        assert_eq!(
            (template.license, template.maps),
            ("Dual MIT/GPL", ["events", "lost"].as_slice())
        );
    }
    let insns = acceptable(&STATE, &STATE_NEW);
    let fds: Vec<i32> = insns
        .iter()
        .filter(|i| i.is_wide() && i.src == PSEUDO_MAP_FD)
        .map(|i| i.imm)
        .collect();
    assert_eq!(fds, [3, 4]);
}

/// The layout with one field changed, or taken away.
fn changed(layout: &Layout, name: &str, to: Option<(u16, u16)>) -> Vec<(&'static str, u16, u16)> {
    let change = |f: &(&'static str, u16, u16)| match to {
        _ if f.0 != name => Some(*f),
        Some((offset, size)) => Some((f.0, offset, size)),
        None => None,
    };
    layout.iter().filter_map(change).collect()
}

#[test]
fn hosts_that_do_not_fit() {
    let refused = |template: &Template<'_>, layout: &Layout, name: &str, to: Option<(u16, u16)>| {
        template
            .link(&Fields(&changed(layout, name, to)))
            .expect_err(name)
            .to_string()
    };
    assert_eq!(
        refused(&STATE, &STATE_NEW, "newstate", None),
        "tracepoint sock:inet_sock_set_state has no field 'newstate', which the program needs"
    );
    assert_eq!(
        refused(&STATE, &STATE_NEW, "protocol", Some((30, 4))),
        "field 'protocol' has 4 bytes, but the program reads 2 or 1"
    );
    assert_eq!(
        refused(&STATE, &STATE_NEW, "saddr_v6", Some((40, 12))),
        "field 'saddr_v6' has 12 bytes, but the program reads 16"
    );
    assert_eq!(
        refused(&RETRANSMIT, RETRANSMIT_618, "err", Some((76, 8))),
        "field 'err' has 8 bytes, but the program reads 4"
    );
    assert_eq!(
        refused(&STATE, &STATE_NEW, "sport", Some((25, 2))),
        "field 'sport' lies at byte 25, not a multiple of its 2 bytes: it can't be read"
    );
    let outside = |at| format!("at byte {at}: programs can read from byte 8 up to 32767 only");
    assert!(refused(&STATE, &STATE_NEW, "sport", Some((6, 2))).ends_with(&outside(6)));
    assert!(refused(&STATE, &STATE_NEW, "sport", Some((32768, 2))).ends_with(&outside(32768)));
    assert!(refused(&STATE, &STATE_NEW, "daddr_v6", Some((32760, 16))).ends_with(&outside(32760)));
    assert!(refused(&STATE, &STATE_NEW, "daddr_v6", Some((65535, 16))).ends_with(&outside(65535)));
    for (name, to) in [
        ("sport", (32766, 2)),
        ("daddr_v6", (32752, 16)),
        ("skaddr", (32760, 8)),
    ] {
        acceptable(&STATE, &changed(&STATE_NEW, name, Some(to)).leak()[..]);
    }
}

#[test]
fn a_map_that_was_not_made() {
    let program = small(".map other\nr1 = map other ll\nexit");
    let e = program
        .with(|t| t.link(&Fields(&[])))
        .expect_err("no such map");
    assert_eq!(e, LinkError::UnknownMap("other".into()));
    assert_eq!(
        e.to_string(),
        "no map 'other' has been made for the program"
    );
}

fn small(body: &str) -> Program {
    let text = format!(".program p\n.tracepoint g:e\n.license \"GPL\"\n{body}\n");
    assemble("small.s", &text, &mut |_| Err("none".into())).unwrap_or_else(|e| panic!("{e}"))
}

/// Every piece of a copy is as wide as both places allow, and every byte goes once.
#[test]
fn copies() {
    let program =
        small(".field a u8[16]\nr6 = r1\nmemcpy(r10 - 20, r6 + a, 15) via r3\nr0 = 1\nexit");
    for offset in 8..64 {
        let insns = program
            .with(|t| t.link(&Fields(&[("a", offset, 16)])))
            .expect("it links");
        let pairs = &insns[1..insns.len() - 2];
        let mut done = 0;
        for pair in pairs.chunks(2) {
            let (load, store) = (pair[0], pair[1]);
            assert_eq!((load.src, load.dst, store.dst, store.src), (6, 3, 10, 3));
            assert_eq!(
                (i32::from(load.off), i32::from(store.off)),
                (i32::from(offset) + done, done - 20)
            );
            assert_eq!(width(&load), width(&store));
            let aligned = |n: i32| {
                (i32::from(offset) + done) % n == 0 && (done - 20) % n == 0 && done + n <= 15
            };
            let widest = [8, 4, 2, 1].into_iter().find(|n| aligned(*n)).unwrap_or(0);
            assert_eq!(width(&load), widest, "at {offset}+{done}");
            done += widest;
        }
        assert_eq!(done, 15);
    }
}

/// Blocks, nested ones too, for every mix; jumps over them land where they should.
#[test]
fn blocks() {
    let program = small(
        ".field a u32 optional\n.field b u32 optional\n.field c u8[16]\n\
         if r1 == 0 goto out\n.ifdef a\nr2 = *(u32 *)(r6 + a)\n.ifdef b\nr3 = *(u32 *)(r6 + b)\n.else\nr3 = 7\nif r3 == 1 goto inner\nr3 = 8\ninner:\n\
         .endif\n.else\nr2 = 9\n.endif\nmemcpy(r10 - 16, r6 + c, 16) via r1\nout: r0 = 1\nexit",
    );
    let link = |fields: &[(&'static str, u16, u16)]| {
        let mut all = vec![("c", 32, 16)];
        all.extend(fields);
        let insns = program.with(|t| t.link(&Fields(&all))).expect("it links");
        insns.iter().map(|i| i.to_string()).collect::<Vec<_>>()
    };
    let copy = [
        "r1 = *(u64 *)(r6 + 32)",
        "*(u64 *)(r10 - 16) = r1",
        "r1 = *(u64 *)(r6 + 40)",
        "*(u64 *)(r10 - 8) = r1",
    ];
    let expect = |distance: usize, middle: &[&str]| {
        let mut all = vec![format!("if r1 == 0 goto +{distance}")];
        all.extend(
            middle
                .iter()
                .chain(&copy)
                .chain(&["r0 = 1", "exit"])
                .map(|s| s.to_string()),
        );
        all
    };
    assert_eq!(link(&[]), expect(5, &["r2 = 9"]));
    assert_eq!(link(&[("b", 12, 4)]), expect(5, &["r2 = 9"]));
    let (a, b) = (("a", 8, 4), ("b", 12, 4));
    assert_eq!(
        link(&[a, b]),
        expect(6, &["r2 = *(u32 *)(r6 + 8)", "r3 = *(u32 *)(r6 + 12)"])
    );
    assert_eq!(
        link(&[a]),
        expect(
            8,
            &[
                "r2 = *(u32 *)(r6 + 8)",
                "r3 = 7",
                "if r3 == 1 goto +1",
                "r3 = 8"
            ]
        )
    );
}

/// The whole listing of a program, as an auditor sees it; the file is the contract.
#[test]
fn listings() {
    let state = STATE.listing(&Fields(&STATE_NEW)).expect("it links");
    assert_eq!(state, include_str!("data/listing-state.txt"));
    let retransmit = RETRANSMIT
        .listing(&Fields(RETRANSMIT_618))
        .expect("it links");
    assert_eq!(retransmit, include_str!("data/listing-retransmit.txt"));
    assert!(STATE.listing(&Fields(&[])).is_err());
}
