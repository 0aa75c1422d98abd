//! Linking: the templates of `bpf-asm/`, and small ones, against the layouts that kernels have had.

#[path = "../common/mod.rs"]
mod common;
mod pieces;

use common::layouts::*;
use common::programs::{all as all_programs, program};
use common::verifier::{self, width};
use socket_snoop::bpf::layout::*;
use socket_snoop::bpf_asm::fragment;
use socket_snoop::bpf_insn::{CLASS, Insn, LDX, PSEUDO_MAP_FD};
use socket_snoop::bpf_link::{Host, LinkError, Template, is_member};
use socket_snoop::programs::{self, Name};

/// Links a program for a host and checks the outcome: it is what every kernel takes, its loads from the record hit
/// fields, and it sends events of its sizes.
fn acceptable(template: &Template, host: &Fields<'_>) -> Vec<Insn> {
    let insns = template
        .link(host)
        .unwrap_or_else(|e| panic!("{}: {e}", template.name));
    // Each behind its time.
    let sent = verifier::check(&insns);
    let sent: Vec<usize> = sent.iter().map(|n| n - usize::from(EV_TIME)).collect();
    // Where cards are not kept, the name of the task on the CPU follows them.
    let more = match host.field("helper.cards") {
        Some(_) => 0,
        None => usize::from(EV_COMM_SIZE),
    };
    // And what is held goes with it, or alone.
    let held = usize::from(HELD_SIZE);
    let alone = EV_HEAD + held;
    let holds = host.field("helper.hold").is_some();
    match template.name.as_str() {
        "socket_snoop_st" if holds => {
            let (brief, closed) = (usize::from(EV_BRIEF_SIZE), EV_CLOSE_SIZE);
            let whole = [brief, EV_SIZE, brief + held, EV_SIZE + held, closed];
            assert_eq!(sent, [&[EV_HEAD, alone], &whole[..]].concat());
        }
        "socket_snoop_rs" | "socket_snoop_rr" if holds => assert_eq!(sent, [EV_HEAD, alone]),
        "socket_snoop_rt" | "socket_snoop_sa" if holds => assert_eq!(sent, [alone, EV_SIZE]),
        "socket_snoop_st" => {
            let [brief, whole, closed] =
                [EV_BRIEF_SIZE.into(), EV_SIZE + more, EV_CLOSE_SIZE + more];
            assert_eq!(sent, [EV_HEAD, brief, whole, closed]);
        }
        "socket_snoop_ct" => assert!(sent.is_empty()),
        "socket_snoop_rs" | "socket_snoop_rr" => assert_eq!(sent, [EV_HEAD]),
        "socket_snoop_ds" => assert_eq!(sent, [usize::from(EV_GONE_SIZE)]),
        _ => assert_eq!(sent, [EV_SIZE + more]),
    }
    for (at, insn) in insns.iter().enumerate() {
        if insn.code & CLASS == LDX && insn.src == 6 {
            let (from, len) = (i32::from(insn.off), width(insn));
            assert!(from >= i32::from(host.hidden()), "{at}: {insn}");
            assert_eq!(from % len, 0, "{at}: {insn} is not aligned");
            let inside = host.record.iter().any(|(_, offset, size)| {
                from >= i32::from(*offset) && from + len <= i32::from(*offset) + i32::from(*size)
            });
            assert!(inside, "{at}: {insn} reads no field");
        }
    }
    // What is read at once comes to stand below all else.
    let own = |insn: &&Insn| insn.dst == 10 && [0x62, 0x63].contains(&(insn.code & !0x18));
    let lowest = if holds { -392 } else { -272 };
    assert!(insns.iter().filter(own).all(|insn| insn.off >= lowest));
    // What the verifier demands at a function's return would take samples from others on a tracepoint.
    let end = match template.group.as_str() {
        "fexit" | "raw" => "r0 = 0\nexit",
        _ => "r0 = 1\nexit",
    };
    let end = fragment(end).expect("two instructions");
    assert_eq!(insns[insns.len() - 2..], end);
    insns
}

/// The members but for those that `without` says.
fn members(without: impl Fn(&str) -> bool) -> Vec<(&'static str, u16, u16)> {
    let all = MEMBERS.iter().filter(|member| !without(member.0));
    all.copied().collect()
}

#[test]
fn every_program_on_every_host() {
    let mut checked = 0;
    let hosts = [(BY_RECORD.as_slice(), false), (BY_BTF.as_slice(), true)];
    for (name, layouts, loads) in hosts
        .iter()
        .flat_map(|(all, loads)| all.iter().map(|(t, l)| (*t, *l, *loads)))
    {
        let template = program(name);
        let mut layouts: Vec<_> = layouts.iter().map(|layout| layout.to_vec()).collect();
        if !loads {
            layouts.extend(recorded(name));
            layouts.sort_unstable();
            layouts.dedup();
            layouts.retain(|layout| !without_cookie(name, layout));
        }
        // With all members, with none, and without each of them, or with it alone. What is kept in a map is followed by
        // the helper alone.
        let kept = |name: &str| loads && template.group != "fexit" && name == "helper.leaders";
        let members = |without: &dyn Fn(&str) -> bool| members(|n| without(n) || kept(n));
        let mut choices = vec![members(&|_| true)];
        for by_helper in [true, false] {
            let loads = |n: &str| n == LOADS && by_helper;
            choices.push(members(&|n| loads(n)));
            for field in template.fields.iter().filter(|f| is_member(&f.name)) {
                choices.push(members(&|n| n == field.name || loads(n)));
                choices.push(members(&|n| n != field.name && (n != LOADS || by_helper)));
            }
        }
        // With what is held, and with the room for it alone.
        let all = members(&|_| false);
        let helped = members(&|n| n == LOADS);
        choices.extend([&all, &helped].map(|all| [all, HOLD].concat()));
        choices.push([&all, &HOLD[1..]].concat());
        choices.push(HOLD[1..].to_vec());
        for layout in layouts {
            for choice in &choices {
                let needed = if loads { NEEDED } else { &[] };
                let known = [choice, needed].concat();
                let host = Fields {
                    record: &layout,
                    members: &known,
                    loads,
                };
                let insns = acceptable(template, &host);
                // Helpers that lockdown refuses, or that a host may lack.
                let calls = |number: i32| insns.contains(&Insn::call(number));
                let pointers = !loads && choice.iter().any(|m| m.0 == LOADS);
                let made = insns.contains(&Insn::kernel_call(65486));
                assert!(pointers || !made, "{}: {choice:?}", template.name);
                let peeks = choice.iter().any(|m| !m.0.starts_with("helper."));
                let peeks = peeks && !loads && !pointers;
                assert!(peeks || !calls(113), "{}: {choice:?}", template.name);
                let of_task =
                    |name: &str| name.starts_with("task_struct.") || name == "helper.leaders";
                let tasks = choice.iter().any(|m| of_task(m.0));
                assert!(tasks || !calls(35) && !calls(158));
                let groups = choice.iter().any(|m| m.0 == "helper.cgroup_id");
                assert!(groups || !calls(80));
                checked += 1;
            }
        }
    }
    let all = BY_RECORD.iter().chain(&BY_BTF).map(|(t, _)| program(*t));
    let listed: Vec<_> = all.map(|t| (&t.name, &t.fields)).collect();
    for template in all_programs() {
        assert!(listed.contains(&(&template.name, &template.fields)));
    }
    assert!(checked > 200, "{checked}");
    // None that the programs know of is left out here.
    for field in all_programs().flat_map(|t| &t.fields) {
        let known = [MEMBERS, NEEDED, HOLD].concat();
        let member = is_member(&field.name) && !field.name.starts_with("arg");
        let found = known.iter().any(|(name, _, _)| *name == field.name);
        assert!(
            // With a filter: see tests/guard.rs.
            !member || found || ["ret.ptr", "helper.guard"].contains(&field.name.as_str()),
            "{}",
            field.name
        );
    }
}

/// Linux 4.16 destroys sockets without a word on their cookies, which is what the
/// program is for.
fn without_cookie(name: Name, layout: &Layout) -> bool {
    let without = name == programs::DESTROY && layout.iter().all(|f| f.0 != "sock_cookie");
    if without {
        let why = program(name).link(&Fields::new(layout)).map(drop);
        assert!(
            matches!(why, Err(LinkError::MissingField { .. })),
            "{why:?}"
        );
    }
    without
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
    let new = acceptable(program(programs::STATE), &Fields::new(&STATE_NEW));
    assert!(loads(&new).contains(&"r1 = *(u16 *)(r6 + 30)".to_string()));
    assert!(loads(&new).contains(&"r1 = *(u64 *)(r6 + 40)".to_string()));
    let rt = acceptable(program(programs::STATE), &Fields::new(&STATE_RT));
    assert_eq!(rt.len(), new.len());
    assert!(loads(&rt).contains(&"r7 = *(u64 *)(r6 + 16)".to_string()));
    let old = acceptable(program(programs::STATE), &Fields::new(&STATE_OLD));
    assert!(loads(&old).contains(&"r1 = *(u8 *)(r6 + 30)".to_string()));
    // 16 bytes at 39 go one by one.
    assert_eq!(old.len(), new.len() + 2 * (2 * 16 - 2 * 2));
    assert!(loads(&old).contains(&"r1 = *(u8 *)(r6 + 39)".to_string()));
    assert!(loads(&old).contains(&"r1 = *(u8 *)(r6 + 70)".to_string()));
}

#[test]
fn retransmit_on_every_layout() {
    let of = |layout| acceptable(program(programs::RETRANSMIT), &Fields::new(layout));
    let has = |insns: &[Insn], text: &str| insns.iter().any(|insn| insn.to_string() == text);
    // state, family, err
    let (error, family) = ("r3 |= 1", "r3 |= 2");
    let oldest = of(RETRANSMIT_416);
    assert!(has(&oldest, "r2 = 0") && has(&oldest, "r1 = *(u32 *)(r6 + 36)"));
    assert!(!has(&oldest, "r2 = *(u32 *)(r6 + 24)"));
    let without_family = of(RETRANSMIT_510);
    assert!(has(&without_family, "r2 = *(u32 *)(r6 + 24)") && !has(&without_family, family));
    let without_err = of(RETRANSMIT_61);
    assert!(has(&without_err, "r2 = *(u16 *)(r6 + 32)") && has(&without_err, family));
    assert!(has(&without_err, "r1 = *(u16 *)(r6 + 42)") && !has(&without_err, error));
    let newest = of(RETRANSMIT_618);
    assert!(has(&newest, "r1 = *(u32 *)(r6 + 76)"));
    assert!(has(&newest, error) && has(&newest, family));
    assert_eq!(newest.len(), without_err.len() + 2);
    let rt = of(RETRANSMIT_RT);
    assert!(has(&rt, "r2 = *(u32 *)(r6 + 32)") && !has(&rt, error));
    assert_eq!(rt.len(), without_err.len());
    // What the oldest record does not tell, the socket itself does, where BTF tells of it.
    let state = [("sock.__sk_common.skc_state", 18, 1)];
    let with = |record| {
        let host = Fields {
            record,
            members: &state,
            loads: false,
        };
        acceptable(program(programs::RETRANSMIT), &host)
    };
    let peeked = with(RETRANSMIT_416);
    assert!(has(&peeked, "r3 += 18") && has(&peeked, "call 113"));
    assert_eq!(peeked.len(), oldest.len() + 6);
    assert_eq!(with(RETRANSMIT_510), without_family);
}

#[test]
fn names_and_maps() {
    for template in all_programs() {
        assert!(template.name.starts_with("socket_snoop") && template.name.len() <= 15);
        assert_eq!(template.license, "Dual MIT/GPL");
        let known = |map: &String| MAPS.contains(&map.as_str());
        assert!(template.maps.iter().all(known), "{:?}", template.maps);
    }
    // By either way a tracepoint's program has the same name.
    let key = |name| {
        let Template {
            name, group, event, ..
        } = program(name);
        (name, group, event)
    };
    let of = |by: &[(Name, &[&Layout])]| -> Vec<_> { by.iter().map(|(t, _)| key(*t)).collect() };
    let (mut one, mut other) = (of(&BY_RECORD), of(&BY_BTF));
    // Each has programs that the other has no use for.
    one.retain(|t| ![key(programs::DESTROY), key(programs::COUNT)].contains(t));
    other.retain(|t| *t != key(programs::ACCEPT));
    assert_eq!(one, other);
    let insns = acceptable(program(programs::STATE), &Fields::new(&STATE_NEW));
    let mut fds: Vec<i32> = insns
        .iter()
        .filter(|i| i.is_wide() && i.src == PSEUDO_MAP_FD)
        .map(|i| i.imm)
        .collect();
    fds.sort_unstable();
    fds.dedup();
    assert_eq!(fds, [3, 4, 5, 6]);
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
    let refused = |template: &Template, layout: &Layout, name: &str, to: Option<(u16, u16)>| {
        template
            .link(&Fields::new(&changed(layout, name, to)))
            .expect_err(name)
            .to_string()
    };
    assert_eq!(
        refused(program(programs::STATE), &STATE_NEW, "newstate", None),
        "tracepoint sock:inet_sock_set_state has no field 'newstate', which the program needs"
    );
    assert_eq!(
        refused(
            program(programs::STATE),
            &STATE_NEW,
            "protocol",
            Some((30, 4))
        ),
        "field 'protocol' has 4 bytes, but the program reads 2 or 1"
    );
    assert_eq!(
        refused(
            program(programs::STATE),
            &STATE_NEW,
            "saddr_v6",
            Some((40, 12))
        ),
        "field 'saddr_v6' has 12 bytes, but the program reads 16"
    );
    assert_eq!(
        refused(
            program(programs::RETRANSMIT),
            RETRANSMIT_618,
            "err",
            Some((76, 8))
        ),
        "field 'err' has 8 bytes, but the program reads 4"
    );
    assert_eq!(
        refused(program(programs::STATE), &STATE_NEW, "sport", Some((25, 2))),
        "field 'sport' lies at byte 25, not a multiple of its 2 bytes: it can't be read"
    );
    let outside = |at| format!("at byte {at}: programs can read from byte 8 up to 32767 only");
    assert!(
        refused(program(programs::STATE), &STATE_NEW, "sport", Some((6, 2))).ends_with(&outside(6))
    );
    assert!(
        refused(
            program(programs::STATE),
            &STATE_NEW,
            "sport",
            Some((32768, 2))
        )
        .ends_with(&outside(32768))
    );
    assert!(
        refused(
            program(programs::STATE),
            &STATE_NEW,
            "daddr_v6",
            Some((32760, 16))
        )
        .ends_with(&outside(32760))
    );
    assert!(
        refused(
            program(programs::STATE),
            &STATE_NEW,
            "daddr_v6",
            Some((65535, 16))
        )
        .ends_with(&outside(65535))
    );
    for (name, to) in [
        ("sport", (32766, 2)),
        ("daddr_v6", (32752, 16)),
        ("skaddr", (32760, 8)),
    ] {
        acceptable(
            program(programs::STATE),
            &Fields::new(&changed(&STATE_NEW, name, Some(to))),
        );
    }
}

/// The listing of a program on a host, as `-d` prints it.
fn listing(name: Name, host: &Fields<'_>) -> String {
    let template = program(name);
    let linked = template.linked(host).expect("it links");
    template.listing(&linked, &|name| host.field(name))
}

/// The whole listing of a program, as an auditor sees it; the file is the contract.
#[test]
fn listings() {
    let state = listing(programs::STATE, &Fields::new(&STATE_NEW));
    assert_eq!(state, include_str!("../data/listing-state.txt"));
    let by_helper: Vec<_> = members(|name| name == LOADS);
    let host = Fields {
        record: RETRANSMIT_618,
        members: &by_helper,
        loads: false,
    };
    let retransmit = listing(programs::RETRANSMIT, &host);
    assert_eq!(retransmit, include_str!("../data/listing-retransmit.txt"));
    let host = Fields {
        record: RETURN,
        members: &[MEMBERS, NEEDED].concat(),
        loads: true,
    };
    let accept = listing(programs::ACCEPT, &host);
    assert_eq!(accept, include_str!("../data/listing-accept.txt"));
}
