//! The assembler's instructions: held against llvm-mc, against bytes computed by hand from the kernel's
//! instruction-set.rst, and against their own text. Mistakes are in tests/assembler_errors/, linking in tests/linker/.
//!
//! llvm-mc is `$LLVM_MC` or the one in `PATH`; the set that it is asked for depends on its version. Without it the test
//! is skipped with a word on standard error, and fails if `CI=true`.

#![allow(clippy::print_stderr, reason = "says why it is skipped")]

use proptest::prelude::*;
use socket_snoop::bpf_asm::fragment;
use socket_snoop::bpf_insn::{Alu, Cmp, Insn, InsnError, Operand, Size, text};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// The text of a whole program, one instruction a line.
fn program_text(insns: &[Insn]) -> String {
    let (mut out, mut at) = (String::new(), 0);
    while at < insns.len() {
        let (shown, slots) = text(&insns[at..]);
        out += &format!("{shown}\n");
        at += slots;
    }
    out
}

fn bytes(insns: &[Insn]) -> Vec<u8> {
    insns.iter().flat_map(|insn| insn.bytes(false)).collect()
}

const SIZES: [Size; 4] = [Size::B, Size::H, Size::W, Size::Dw];
const IMMEDIATES: [i32; 6] = [0, 1, -1, 63, i32::MIN, i32::MAX];
const OFFSETS: [i16; 5] = [0, 24, -8, i16::MIN, i16::MAX];

/// Every kind of instruction with its edge values; those that LLVM 14 can't read only if `new`.
fn every_kind(new: bool) -> Vec<Insn> {
    let mut all = vec![Insn::exit(), Insn::call(14), Insn::call(113)];
    all.extend(new.then_some(Insn::kernel_call(65486)));
    for wide in [true, false] {
        for (op, _) in Alu::ALL
            .into_iter()
            .filter(|(op, _)| new || *op != Alu::Mod)
        {
            all.push(Insn::alu(wide, op, 9, Operand::Reg(10)));
            all.extend(IMMEDIATES.map(|imm| Insn::alu(wide, op, 0, Operand::Imm(imm))));
            all.push(Insn::alu(wide, op, 3, Operand::Imm(5)));
        }
        for (cmp, _) in Cmp::ALL
            .into_iter()
            .filter(|(cmp, _)| new || *cmp != Cmp::Set)
        {
            for off in OFFSETS {
                all.push(Insn::branch(wide, cmp, 2, Operand::Reg(9), off));
                all.extend(
                    IMMEDIATES.map(|imm| Insn::branch(wide, cmp, 10, Operand::Imm(imm), off)),
                );
            }
        }
        all.push(Insn::neg(wide, 7));
    }
    for off in OFFSETS {
        all.push(Insn::goto(off));
        for size in SIZES {
            all.push(Insn::load(size, 7, 6, off));
            all.push(Insn::store(size, 10, off, Operand::Reg(3)));
            if new {
                all.push(Insn::store(size, 10, off, Operand::Imm(100)));
            }
        }
        all.push(Insn::atomic_add(Size::Dw, 0, off, 1));
        if !new {
            // Newer ones want a w register there.
            all.push(Insn::atomic_add(Size::W, 0, off, 1));
        }
    }
    for bits in [16, 32, 64] {
        all.extend([Insn::swap(true, bits, 1), Insn::swap(false, bits, 8)]);
    }
    all.retain(|insn| insn.check().is_ok());
    for value in [
        0,
        5,
        u64::from(u32::MAX),
        1 << 32,
        u64::MAX,
        i64::MAX as u64,
        i64::MIN as u64,
    ] {
        all.extend(Insn::wide(4, value));
    }
    all
}

fn llvm_mc(arguments: &[&str], input: &str) -> Option<String> {
    let tool = std::env::var("LLVM_MC").unwrap_or_else(|_| "llvm-mc".to_string());
    let mut command = Command::new(tool);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_string();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("llvm-mc ends");
    let _ = writer.join();
    assert!(
        output.status.success(),
        "llvm-mc failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn llvm_agrees() {
    let Some(version) = llvm_mc(&["--version"], "") else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "llvm-mc is missing: install the package llvm"
        );
        eprintln!("skipped: llvm-mc is missing (package llvm)");
        return;
    };
    let number = version
        .split("version ")
        .nth(1)
        .and_then(|v| v.split('.').next())
        .and_then(|v| v.parse().ok());
    let major: u32 = number.expect("a version");
    let insns = every_kind(major >= 19);
    assert!(insns.len() > 500, "only {} instructions", insns.len());
    let source = program_text(&insns);
    for (triple, big) in [("-triple=bpfel", false), ("-triple=bpfeb", true)] {
        let shown = llvm_mc(&[triple, "--show-encoding"], &source).expect("it ran before");
        let theirs: Vec<u8> = shown
            .lines()
            .filter_map(|line| line.split_once("encoding: [")?.1.split_once(']'))
            .flat_map(|(list, _)| {
                list.split(',')
                    .map(|b| u8::from_str_radix(b.trim_start_matches("0x"), 16).expect("hex"))
            })
            .collect();
        let insns = fragment(&source).unwrap_or_else(|e| panic!("{e}"));
        let ours: Vec<u8> = insns.iter().flat_map(|insn| insn.bytes(big)).collect();
        assert_eq!(ours.len(), theirs.len());
        let mut lines = source.lines();
        let mut at = 0;
        while at < ours.len() {
            let slots = if ours[at] == 0x18 { 16 } else { 8 };
            assert_eq!(
                ours[at..at + slots],
                theirs[at..at + slots],
                "{triple} {}",
                lines.next().unwrap_or_default()
            );
            at += slots;
        }
    }
}

/// Computed by hand: opcode, registers, offset, immediate.
#[test]
fn hand_computed() {
    let vectors: &[(&str, &[u8])] = &[
        (
            "*(u8 *)(r10 - 1) = 255",
            &[0x72, 0x0a, 0xff, 0xff, 0xff, 0, 0, 0],
        ),
        (
            "*(u16 *)(r10 - 6) = 2",
            &[0x6a, 0x0a, 0xfa, 0xff, 2, 0, 0, 0],
        ),
        (
            "*(u32 *)(r1 + 4) = -1",
            &[0x62, 0x01, 4, 0, 0xff, 0xff, 0xff, 0xff],
        ),
        (
            "*(u32 *)(r1 + 4) = 0xffffffff",
            &[0x62, 0x01, 4, 0, 0xff, 0xff, 0xff, 0xff],
        ),
        ("*(u64 *)(r1 + 0) = 7", &[0x7a, 0x01, 0, 0, 7, 0, 0, 0]),
        ("if r2 & 5 goto +1", &[0x45, 0x02, 1, 0, 5, 0, 0, 0]),
        ("if r2 & r5 goto -1", &[0x4d, 0x52, 0xff, 0xff, 0, 0, 0, 0]),
        ("if w2 & 5 goto +1", &[0x46, 0x02, 1, 0, 5, 0, 0, 0]),
        ("if w2 & w5 goto +1", &[0x4e, 0x52, 1, 0, 0, 0, 0, 0]),
        ("r3 %= 5", &[0x97, 0x03, 0, 0, 5, 0, 0, 0]),
        ("w3 %= w4", &[0x9c, 0x43, 0, 0, 0, 0, 0, 0]),
        ("w3 = -1", &[0xb4, 0x03, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        (
            "w3 = 4294967295",
            &[0xb4, 0x03, 0, 0, 0xff, 0xff, 0xff, 0xff],
        ),
        ("r1 = be16 r1", &[0xdc, 0x01, 0, 0, 16, 0, 0, 0]),
        ("r1 = le64 r1", &[0xd4, 0x01, 0, 0, 64, 0, 0, 0]),
        ("r7 = *(u32 *)(r6 + 24)", &[0x61, 0x67, 24, 0, 0, 0, 0, 0]),
        ("w7 = *(u32 *)(r6 + 24)", &[0x61, 0x67, 24, 0, 0, 0, 0, 0]),
        ("r7 = *(u8 *)(r6)", &[0x71, 0x67, 0, 0, 0, 0, 0, 0]),
        (
            "*(u64 *)(r10 - 8) = r1",
            &[0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0],
        ),
        (
            "lock *(u64 *)(r0 + 8) += r1",
            &[0xdb, 0x10, 8, 0, 0, 0, 0, 0],
        ),
        (
            "lock *(u32 *)(r0 + 8) += w1",
            &[0xc3, 0x10, 8, 0, 0, 0, 0, 0],
        ),
        ("r1 s>>= 63", &[0xc7, 0x01, 0, 0, 63, 0, 0, 0]),
        ("w1 = -w1", &[0x84, 0x01, 0, 0, 0, 0, 0, 0]),
        ("call bpf_perf_event_output", &[0x85, 0, 0, 0, 25, 0, 0, 0]),
        ("exit", &[0x95, 0, 0, 0, 0, 0, 0, 0]),
        (
            "r1 = 0xffffffff ll",
            &[
                0x18, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        ),
        (
            "r1 = -2 ll",
            &[
                0x18, 1, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
            ],
        ),
    ];
    for (source, expected) in vectors {
        let insns = fragment(source).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(bytes(&insns), *expected, "{source}");
    }
}

/// As clang lays out struct bpf_insn on a host of either order.
#[test]
fn bytes_in_either_order() {
    let text = "r1 = *(u32 *)(r6 + 258)\n*(u16 *)(r10 - 2) = 772\nr2 += 65539\nif r3 != r4 goto +5";
    let insns = fragment(text).unwrap_or_else(|e| panic!("{e}"));
    let all = |big| insns.iter().map(|insn| insn.bytes(big)).collect::<Vec<_>>();
    let little = [
        [0x61, 0x61, 0x02, 0x01, 0, 0, 0, 0],
        [0x6a, 0x0a, 0xfe, 0xff, 0x04, 0x03, 0, 0],
        [0x07, 0x02, 0, 0, 0x03, 0, 0x01, 0],
        [0x5d, 0x43, 0x05, 0, 0, 0, 0, 0],
    ];
    assert_eq!(all(false), little);
    let big = [
        [0x61, 0x16, 0x01, 0x02, 0, 0, 0, 0],
        [0x6a, 0xa0, 0xff, 0xfe, 0, 0, 0x03, 0x04],
        [0x07, 0x20, 0, 0, 0, 0x01, 0, 0x03],
        [0x5d, 0x34, 0, 0x05, 0, 0, 0, 0],
    ];
    assert_eq!(all(true), big);
    let here = insns[0].bytes(cfg!(target_endian = "big"));
    assert_eq!(insns[0].native().to_ne_bytes(), here);
}

#[test]
fn map_descriptor() {
    assert_eq!(
        bytes(&Insn::map_fd(2, 5)),
        [0x18, 0x12, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    let (shown, slots) = text(&Insn::map_fd(2, 5));
    assert_eq!(
        (shown.to_string().as_str(), slots),
        ("r2 = map[fd:5] ll", 2)
    );
}

#[test]
fn expressions_and_layout() {
    let source = "\
.equ BASE -88           ; a comment; with another in it
.equ AT   BASE + 2 * (3 + 1)
 start: again:  r1 = AT
\tr2 = 1 << 4 | 3 & 2 ^ 1
r3=~0-(-5)%3
r4 = *(u32*)(r10+BASE+4)
r4 = *(u32 *)(r10 - 72 + 4)
if r1 s>= r2 goto start
goto again";
    let shown = program_text(&fragment(source).unwrap_or_else(|e| panic!("{e}")));
    let expected = "\
r1 = -80
r2 = 19
r3 = 1
r4 = *(u32 *)(r10 - 84)
r4 = *(u32 *)(r10 - 68)
if r1 s>= r2 goto -6
goto -7
";
    assert_eq!(shown, expected);
}

/// A jump over `between` instructions, forwards or backwards.
fn far(between: usize, back: bool) -> Result<Vec<Insn>, String> {
    let filling = "r1 = 0\n".repeat(between);
    let source = match back {
        true => format!("there:\n{filling}goto there\n"),
        false => format!("goto there\n{filling}there:\n"),
    };
    fragment(&source).map_err(|e| e.to_string())
}

#[test]
fn farthest_jumps() {
    assert_eq!(far(32767, false).map(|insns| insns[0].off), Ok(32767));
    assert_eq!(far(32767, true).map(|insns| insns[32767].off), Ok(-32768));
    assert_eq!(far(32766, true).map(|insns| insns[32766].off), Ok(-32767));
    let error = far(32768, false).expect_err("too far");
    assert!(
        error.starts_with("fragment:1:1: jump distance 32768 is out of range: -32768 to 32767"),
        "{error}"
    );
    let error = far(32768, true).expect_err("too far");
    assert!(
        error.starts_with("fragment:32770:1: jump distance -32769 is out of range"),
        "{error}"
    );
}

#[test]
fn check_refuses() {
    let wrong = [
        (
            Insn::alu(true, Alu::Lsh, 1, Operand::Imm(64)),
            InsnError::Shift(64),
        ),
        (
            Insn::alu(false, Alu::Arsh, 1, Operand::Imm(32)),
            InsnError::Shift(32),
        ),
        (
            Insn::alu(true, Alu::Div, 1, Operand::Imm(0)),
            InsnError::DivideByZero,
        ),
        (
            Insn::alu(true, Alu::Mov, 10, Operand::Imm(0)),
            InsnError::WriteFp,
        ),
        (Insn::load(Size::B, 10, 1, 0), InsnError::WriteFp),
        (Insn::load(Size::B, 1, 11, 0), InsnError::Register(11)),
        (Insn::swap(true, 8, 1), InsnError::Swap(8)),
        (Insn::atomic_add(Size::H, 0, 0, 1), InsnError::Code(0xcb)),
        (
            Insn {
                imm: 1,
                ..Insn::exit()
            },
            InsnError::Reserved,
        ),
        (
            Insn {
                code: 0,
                dst: 0,
                src: 0,
                off: 0,
                imm: 0,
            },
            InsnError::Code(0),
        ),
    ];
    for (insn, why) in wrong {
        assert_eq!(insn.check(), Err(why));
        assert!(
            insn.to_string().starts_with("(not an instruction: 0x"),
            "{insn}"
        );
    }
    assert_eq!(text(&[]).1, 0);
}

fn register() -> impl Strategy<Value = u8> {
    0..=10u8
}

fn operand() -> impl Strategy<Value = Operand> {
    prop_oneof![
        register().prop_map(Operand::Reg),
        any::<i32>().prop_map(Operand::Imm)
    ]
}

/// Any valid instruction, or the two slots of a wide one. Narrow stores of immediates keep to their width.
fn instruction() -> impl Strategy<Value = Vec<Insn>> {
    let size = proptest::sample::select(&SIZES[..]);
    let alu = proptest::sample::select(&Alu::ALL[..]);
    let cmp = proptest::sample::select(&Cmp::ALL[..]);
    let one = prop_oneof![
        (any::<bool>(), alu, 0..=9u8, operand())
            .prop_map(|(w, (op, _), dst, o)| Insn::alu(w, op, dst, o)),
        (any::<bool>(), cmp, register(), operand(), any::<i16>())
            .prop_map(|(w, (cmp, _), dst, o, off)| Insn::branch(w, cmp, dst, o, off)),
        (size.clone(), 0..=9u8, register(), any::<i16>())
            .prop_map(|(s, dst, src, off)| Insn::load(s, dst, src, off)),
        (size, register(), any::<i16>(), operand())
            .prop_map(|(s, dst, off, o)| Insn::store(s, dst, off, o)),
        (any::<bool>(), register(), any::<i16>(), register()).prop_map(|(w, dst, off, src)| {
            Insn::atomic_add(if w { Size::Dw } else { Size::W }, dst, off, src)
        }),
        (any::<bool>(), 0..=9u8).prop_map(|(w, dst)| Insn::neg(w, dst)),
        (any::<bool>(), 0..=9u8, 1..=3u8).prop_map(|(big, dst, n)| Insn::swap(big, 8 << n, dst)),
        any::<i16>().prop_map(Insn::goto),
        (1..=i32::MAX).prop_map(Insn::call),
        (1..=i32::MAX).prop_map(Insn::kernel_call),
        Just(Insn::exit()),
    ];
    let one = one
        .prop_filter("valid", |insn| insn.check().is_ok())
        .prop_map(|mut insn| {
            match insn.code {
                0x72 => insn.imm = i32::from(insn.imm as i8),
                0x6a => insn.imm = i32::from(insn.imm as i16),
                _ => {}
            }
            vec![insn]
        });
    prop_oneof![12 => one, 1 => (0..=9u8, any::<u64>()).prop_map(|(dst, value)| Insn::wide(dst, value).to_vec())]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn decoding_undoes_encoding(insns in instruction(), raw in any::<u64>()) {
        for insn in insns {
            prop_assert_eq!(Insn::decode(insn.encode()), insn);
        }
        prop_assert_eq!(Insn::decode(raw).encode(), raw);
        // Whatever it is, it can be shown and checked.
        let insn = Insn::decode(raw);
        prop_assert_eq!(insn.check().is_err(), insn.to_string().starts_with("(not"));
    }

    #[test]
    fn text_assembles_to_the_same(program in proptest::collection::vec(instruction(), 1..20)) {
        let insns = program.concat();
        let source = program_text(&insns);
        prop_assert_eq!(fragment(&source).map_err(|e| TestCaseError::fail(e.to_string()))?, insns);
    }

    #[test]
    fn any_text_is_taken_or_refused(source in "([rw*=+\\-()u0-9 .a-z;:\n\"\\[\\]<>&|~]|goto |if |r1 |u32 \\*|lock |é){0,80}") {
        let _ = fragment(&source).map_err(|e| e.to_string());
    }

    /// Every valid instruction of a random word has a text that assembles to it, but for wide ones and narrow stores.
    #[test]
    fn random_words(raw in any::<u64>(), code in any::<u8>()) {
        let insn = Insn::decode((raw & !0xff) | u64::from(code));
        if insn.check().is_ok() && !insn.is_wide() && !matches!(insn.code, 0x72 | 0x6a) && insn.code != 0x85 {
            prop_assert_eq!(fragment(&insn.to_string()).map_err(|e| TestCaseError::fail(e.to_string()))?, vec![insn]);
        }
    }
}
