//! Linking: the templates of `bpf-asm/` and small ones, against the layouts that kernels have had.

mod common;

use common::layouts::*;
use common::programs::{all as all_programs, program};
use common::verifier::{self, width};
use socket_snoop::bpf::layout::*;
use socket_snoop::bpf_asm::{Program, assemble, fragment};
use socket_snoop::bpf_insn::{CLASS, Insn, LDX, PSEUDO_MAP_FD};
use socket_snoop::bpf_link::{Host, LinkError, Template, is_member};
use socket_snoop::programs::{self, Name};

/// Links a program for a host and checks the outcome: it is what every kernel takes, its loads from the record hit
/// fields, and it sends events of its sizes.
fn acceptable(template: &Template, host: &Fields<'_>) -> Vec<Insn> {
    let insns = template
        .link(host)
        .unwrap_or_else(|e| panic!("{}: {e}", template.name));
    let sent = verifier::check(&insns);
    // Where cards are not kept, the name of the task on the CPU follows them.
    let more = match host.field("helper.cards") {
        Some(_) => 0,
        None => usize::from(EV_COMM_SIZE),
    };
    match template.name.as_str() {
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
    assert!(insns.iter().filter(own).all(|insn| insn.off >= -272));
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
    for (template, layouts, loads) in hosts
        .iter()
        .flat_map(|(all, loads)| all.iter().map(|(t, l)| (program(*t), *l, *loads)))
    {
        // With all members, with none, and without each of them, or with it alone. What is kept in a map is followed by
        // the helper alone.
        let kept = |name: &str| loads && template.group != "fexit" && name == "helper.leaders";
        let members = |without: &dyn Fn(&str) -> bool| members(|n| without(n) || kept(n));
        let mut choices = vec![members(&|_| false), members(&|_| true)];
        for field in template.fields.iter().filter(|f| is_member(&f.name)) {
            choices.push(members(&|name| name == field.name));
            choices.push(members(&|name| name != field.name));
        }
        for layout in layouts {
            for choice in &choices {
                let needed = if loads { NEEDED } else { &[] };
                let known = [choice, needed].concat();
                let host = Fields {
                    record: layout,
                    members: &known,
                    loads,
                };
                let insns = acceptable(template, &host);
                // Helpers that lockdown refuses, or that a host may lack.
                let calls = |number: i32| insns.contains(&Insn::call(number));
                let peeks = choice.iter().any(|m| !m.0.starts_with("helper.")) && !loads;
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
        let known = [MEMBERS, NEEDED].concat();
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

#[test]
fn a_map_that_was_not_made() {
    let program = small(".map other\nr1 = map other ll\nexit");
    let e = program.link(&Fields::new(&[])).expect_err("no such map");
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
            .link(&Fields::new(&[("a", offset, 16)]))
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
        let insns = program.link(&Fields::new(&all)).expect("it links");
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

/// A program that peeks at two members, on hosts of either kind.
fn peeks(body: &str, host: &Fields<'_>) -> Result<Vec<String>, LinkError> {
    let program = small(body);
    let insns = program.link(host)?;
    Ok(insns.iter().map(ToString::to_string).collect())
}

const TWO_MEMBERS: &str = ".field s.a u32 optional\n.field s.b u64 optional\nr7 = r1\n\
    if r7 == 0 goto out\npeek(r10 - 4, r7 + s.a, 4)\npeek(r10 - 16, r7 + s.b, 8)\nout: r0 = 1\nexit";

#[test]
fn peeks_by_the_helper() {
    let link = |members: &[(&str, u16, u16)]| {
        let host = Fields {
            record: &[],
            members,
            loads: false,
        };
        peeks(TWO_MEMBERS, &host).expect("it links")
    };
    let helper = |to: i32, from: u16, len: u16| {
        [
            "r3 = r7".to_string(),
            format!("r3 += {from}"),
            "r1 = r10".to_string(),
            format!("r1 += {to}"),
            format!("r2 = {len}"),
            "call 113".to_string(),
        ]
    };
    let expect = |distance: usize, middle: &[String]| {
        let start = ["r7 = r1".into(), format!("if r7 == 0 goto +{distance}")];
        [&start[..], middle, &["r0 = 1".into(), "exit".into()]].concat()
    };
    let (a, b) = (helper(-4, 284, 4), helper(-16, 0, 8));
    // In the order in which they lie there.
    let both = [b.clone(), a.clone()].concat();
    assert_eq!(link(&[("s.a", 284, 4), ("s.b", 0, 8)]), expect(12, &both));
    // Those that lie close together are read at once, with what is between them, and then copied.
    let together = link(&[("s.a", 284, 4), ("s.b", 152, 8)]);
    let copies = [
        "r1 = *(u64 *)(r10 - 512)",
        "*(u64 *)(r10 - 16) = r1",
        "r1 = *(u32 *)(r10 - 380)",
        "*(u32 *)(r10 - 4) = r1",
    ];
    let copies = copies.map(String::from);
    let once = [&helper(-512, 152, 136)[..], &copies].concat();
    assert_eq!(together, expect(10, &once));
    let apart = link(&[("s.a", 284, 4), ("s.b", 144, 8)]);
    assert_eq!(apart.iter().filter(|i| *i == "call 113").count(), 2);
    // And their order is of no matter.
    let turned = link(&[("s.a", 150, 4), ("s.b", 160, 8)]);
    assert_eq!(turned[2..8], helper(-512, 144, 24));
    // A member that isn't there, or is of another size, leaves no instruction behind.
    for absent in [("s.x", 0, 8), ("s.b", 0, 4), ("s.b", 0, 16)] {
        assert_eq!(link(&[("s.a", 284, 4), absent]), expect(6, &a));
    }
    assert_eq!(link(&[("s.b", 0, 8)]), expect(6, &b));
    assert_eq!(link(&[]), expect(0, &[]).to_vec());
}

#[test]
fn peeks_by_loads() {
    let link = |body: &str, members: &[(&str, u16, u16)]| {
        let host = Fields {
            record: &[],
            members,
            loads: true,
        };
        peeks(body, &host).expect("it links")
    };
    let expected = [
        "r7 = r1",
        "if r7 == 0 goto +4",
        "r1 = *(u32 *)(r7 + 284)",
        "*(u32 *)(r10 - 4) = r1",
        "r1 = *(u64 *)(r7 + 0)",
        "*(u64 *)(r10 - 16) = r1",
        "r0 = 1",
        "exit",
    ];
    let both = [("s.a", 284, 4), ("s.b", 0, 8)];
    assert_eq!(link(TWO_MEMBERS, &both), expected);
    assert_eq!(link(TWO_MEMBERS, &[])[2..], ["r0 = 1", "exit"]);
    // In pieces, the register that holds the structure outlives the first one.
    let body = ".field s.b u64 optional\npeek(r10 - 12, r1 + s.b, 8)\nr0 = 1\nexit";
    let pieces = link(body, &[("s.b", 4, 8)]);
    let expected = [
        "r2 = *(u32 *)(r1 + 4)",
        "*(u32 *)(r10 - 12) = r2",
        "r2 = *(u32 *)(r1 + 8)",
        "*(u32 *)(r10 - 8) = r2",
    ];
    assert_eq!(pieces[..4], expected);
}

/// Of what stands in a record, another size is no reason to go without it.
#[test]
fn only_members_may_have_another_size() {
    let body = ".field a u32 optional\n.field s.b u32 optional\nr0 = 1\n.ifdef a\nr0 = *(u32 *)(r1 + a)\n.endif\n\
        peek(r10 - 4, r1 + s.b, 4)\nr0 = 1\nexit";
    let link = |a, b| {
        let (record, members) = ([("a", 8, a)], [("s.b", 16, b)]);
        let host = Fields {
            record: &record,
            members: &members,
            loads: false,
        };
        peeks(body, &host)
    };
    assert_eq!(link(4, 4).map(|insns| insns.len()), Ok(10));
    assert_eq!(link(4, 8).map(|insns| insns.len()), Ok(4));
    let why = link(8, 4).expect_err("refused").to_string();
    assert_eq!(why, "field 'a' has 8 bytes, but the program reads 4");
    // And one that the program can't do without is wanted as it is.
    let body = ".field s.b u32\npeek(r10 - 4, r1 + s.b, 4)\nr0 = 1\nexit";
    for (members, why) in [
        (
            [("s.b", 16, 8)],
            "field 's.b' has 8 bytes, but the program reads 4",
        ),
        (
            [("s.c", 16, 4)],
            "tracepoint g:e has no field 's.b', which the program needs",
        ),
        (
            [("s.b", 32766, 4)],
            "field 's.b' lies at byte 32766: programs can read from byte 8 up to 32767 only",
        ),
    ] {
        let host = Fields {
            record: &[],
            members: &members,
            loads: false,
        };
        let found = peeks(body, &host).expect_err("refused").to_string();
        assert_eq!(found, why);
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
    assert_eq!(state, include_str!("data/listing-state.txt"));
    let host = Fields {
        record: RETRANSMIT_618,
        members: MEMBERS,
        loads: false,
    };
    let retransmit = listing(programs::RETRANSMIT, &host);
    assert_eq!(retransmit, include_str!("data/listing-retransmit.txt"));
    let host = Fields {
        record: RETURN,
        members: &[MEMBERS, NEEDED].concat(),
        loads: true,
    };
    let accept = listing(programs::ACCEPT, &host);
    assert_eq!(accept, include_str!("data/listing-accept.txt"));
}
