//! Pieces of programs in small ones: copies, blocks and peeks, on hosts made up for them.

use crate::LOADS;
use crate::common::layouts::Fields;
use crate::common::verifier::width;
use socket_snoop::bpf_asm::{Program, assemble};
use socket_snoop::bpf_link::LinkError;

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

/// A pointer is made of the number once for what follows each other.
#[test]
fn peeks_by_pointers_that_the_kernel_makes() {
    let link = |body: &str, members: &[(&str, u16, u16)]| {
        let members = [members, &[(LOADS, 0, 8)]].concat();
        let host = Fields {
            record: &[],
            members: &members,
            loads: false,
        };
        peeks(body, &host).expect("it links")
    };
    let body = TWO_MEMBERS.replace("s.", "sock.");
    let both = [("sock.a", 284, 4), ("sock.b", 0, 8)];
    let expected = [
        "r7 = r1",
        "if r7 == 0 goto +7",
        "r1 = r7",
        "r2 = 2953",
        "call kernel 65486",
        "r1 = *(u32 *)(r0 + 284)",
        "*(u32 *)(r10 - 4) = r1",
        "r1 = *(u64 *)(r0 + 0)",
        "*(u64 *)(r10 - 16) = r1",
        "r0 = 1",
        "exit",
    ];
    assert_eq!(link(&body, &both), expected);
    assert_eq!(link(&body, &[])[2..], ["r0 = 1", "exit"]);
    // What is in r1 already stays there.
    let one = ".field net.b u32 optional
peek(r10 - 4, r1 + net.b, 4)
r0 = 1
exit";
    let made = ["r2 = 1767", "call kernel 65486", "r1 = *(u32 *)(r0 + 4)"];
    assert_eq!(link(one, &[("net.b", 4, 4)])[..3], made);
    // A structure that the kernel's BTF has no number of is read by the helper.
    assert!(link(TWO_MEMBERS, &[("s.a", 284, 4)]).contains(&"call 113".to_string()));
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
