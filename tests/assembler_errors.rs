//! Every mistake that the assembler knows, with its exact place and message.

use socket_snoop::bpf::link::Template;
use socket_snoop::bpf_asm::{AsmError, assemble, fragment};

const HEAD: &str = ".program p\n.tracepoint g:e\n.license \"GPL\"\n";

fn program(body: &str) -> Result<Template, AsmError> {
    assemble("a.s", &format!("{HEAD}{body}"), &mut |name| match name {
        "good.inc" => Ok(".equ SEVEN 7\n".into()),
        "bad.inc" => Ok("\n  r1 = = 2\n".into()),
        "circle.inc" => Ok(".include \"circle.inc\"\n".into()),
        _ => Err("no such file".into()),
    })
}

/// The place and message of a program's mistake; lines count from the body's first.
fn mistake(body: &str) -> String {
    let e = program(body).expect_err(body);
    assert!(e.line != 0, "{e}");
    format!("{}:{}: {}", e.line - HEAD.lines().count(), e.col, e.message)
}

#[test]
fn shown_with_the_line_and_a_caret() {
    let e = fragment("exit\n\tr1 = r11").expect_err("no r11");
    let expected =
        "fragment:2:7: unknown register 'r11': the last is r10\n    \tr1 = r11\n    \t     ^";
    assert_eq!(e.to_string(), expected);
}

#[test]
fn instructions() {
    let table = [
        ("frob r1", "1:1: unknown instruction 'frob'"),
        (
            "r1",
            "1:3: expected an assignment, found the end of the line",
        ),
        ("r1 = ", "1:6: expected a number, found the end of the line"),
        (
            "r1 = r2 r3",
            "1:9: expected the end of the line, found 'r3'",
        ),
        ("r01 = 1", "1:1: unknown register 'r01': the last is r10"),
        (
            "r10 = 1",
            "1:1: r10 is the frame pointer and can't be written",
        ),
        (
            "r10 += 1",
            "1:1: r10 is the frame pointer and can't be written",
        ),
        (
            "r10 = *(u8 *)(r1 + 0)",
            "1:1: r10 is the frame pointer and can't be written",
        ),
        (
            "r10 = 5 ll",
            "1:1: r10 is the frame pointer and can't be written",
        ),
        (
            "r1 = w2",
            "1:6: 'w2' is not as wide as the other operand: use r2",
        ),
        (
            "w1 += r2",
            "1:7: 'r2' is not as wide as the other operand: use w2",
        ),
        ("r1 = nothing", "1:6: unknown symbol 'nothing'"),
        (
            "r1 = 0xffffffff",
            "1:6: immediate 4294967295 is out of range: -2147483648 to 2147483647; write 'll' behind a number of 64 bits",
        ),
        (
            "w1 = 0x100000000",
            "1:6: immediate 4294967296 is out of range: -2147483648 to 4294967295",
        ),
        (
            "r1 &= 0x80000000",
            "1:7: immediate 2147483648 is out of range: -2147483648 to 2147483647",
        ),
        (
            "w1 &= -2147483649",
            "1:7: immediate -2147483649 is out of range: -2147483648 to 4294967295",
        ),
        (
            "*(u8 *)(r10 - 1) = 256",
            "1:20: immediate 256 is out of range: -128 to 255",
        ),
        (
            "*(u16 *)(r10 - 2) = -32769",
            "1:21: immediate -32769 is out of range: -32768 to 65535",
        ),
        (
            "*(u64 *)(r10 - 8) = 0xffffffff",
            "1:21: immediate 4294967295 is out of range: -2147483648 to 2147483647",
        ),
        (
            "r1 = 18446744073709551616",
            "1:6: bad number '18446744073709551616'",
        ),
        ("r1 = 0x", "1:6: bad number '0x'"),
        ("r1 = 12ab", "1:6: bad number '12ab'"),
        (
            "r1 = 0xffffffffffffffff * 2 ll",
            "1:25: the value of 18446744073709551615 * 2 is not a number of 64 bits",
        ),
        (
            "r1 = 1 / 0",
            "1:8: the value of 1 / 0 is not a number of 64 bits",
        ),
        (
            "r1 = 1 << 64",
            "1:8: the value of 1 << 64 is not a number of 64 bits",
        ),
        (
            "w1 = 5 ll",
            "1:6: 'll' is for an r register and a number of 64 bits",
        ),
        (
            "r1 = *(u32 *)(r2 + 32768)",
            "1:18: offset 32768 is out of range: -32768 to 32767",
        ),
        (
            "*(u32 *)(r2 - 32769) = r1",
            "1:13: offset -32769 is out of range: -32768 to 32767",
        ),
        (
            "r1 = *(u32 *)(r2 + r3)",
            "1:20: an address is one register and a number",
        ),
        (
            "r1 = *(u24 *)(r2 + 0)",
            "1:8: unknown width 'u24': it must be u8, u16, u32 or u64",
        ),
        ("w1 = *(u64 *)(r2 + 0)", "1:1: w1 has only 32 bits: use r1"),
        (
            "r1 = *(u32 *)(w2 + 0)",
            "1:15: w2 has only 32 bits here: use r2",
        ),
        (
            "lock *(u8 *)(r1 + 0) += r2",
            "1:6: an atomic add has a width of u32 or u64",
        ),
        ("r1 <<= 64", "1:1: shift by 64 bits is outside the register"),
        (
            "w1 s>>= 32",
            "1:1: shift by 32 bits is outside the register",
        ),
        ("r1 /= 0", "1:1: division by zero"),
        (
            "r1 = -r2",
            "1:6: only a register itself can be negated: r1 = -r1",
        ),
        (
            "r1 = be16 r2",
            "1:6: be16 swaps within one register: r1 = be16 r1",
        ),
        (
            "call bpf_frobnicate",
            "1:6: unknown helper 'bpf_frobnicate'",
        ),
        (
            "call 0",
            "1:6: helper number 0 is out of range: 1 to 2147483647",
        ),
        ("if r1 = 2 goto x", "1:7: expected a comparison, found '='"),
        ("if r1 == 2 exit", "1:12: expected 'goto', found 'exit'"),
        ("goto +1", "1:6: expected a label, found '+'"),
        ("goto nowhere\nexit", "1:6: unknown label 'nowhere'"),
        ("r1 = 1 § 2", "1:8: unexpected character '\\u{a7}'"),
        (".license \"GPL", "1:10: text without its closing '\"'"),
    ];
    for (body, expected) in table {
        assert_eq!(mistake(body), expected, "{body}");
    }
}

#[test]
fn symbols() {
    let table = [
        ("x: x: exit", "1:4: duplicate symbol 'x': a label at a.s:4"),
        (
            ".equ X 1\n.equ X 2",
            "2:6: duplicate symbol 'X': a constant at a.s:4",
        ),
        (
            ".map m\n.field m u8",
            "2:8: duplicate symbol 'm': a map at a.s:4",
        ),
        ("r0 = 0\nlost: exit", "2:1: label 'lost' is never used"),
        (".map m\nexit", "1:6: map 'm' is never used"),
        (".field f u8\nexit", "1:8: field 'f' is never used"),
        (".equ r5 1", "1:6: 'r5' can't be used as a name"),
        (".equ goto 1", "1:6: 'goto' can't be used as a name"),
        (".equ X Y", "1:8: unknown symbol 'Y'"),
        (".map m\nr1 = m", "2:6: 'm' is a map, not a constant"),
        (
            ".equ X 1\nr1 = map X ll",
            "2:10: 'X' is a constant, not a map",
        ),
        (
            ".map m\nw1 = map m ll",
            "2:1: w1 has only 32 bits here: use r1",
        ),
        (".equ X 1\ngoto X", "2:6: 'X' is a constant, not a label"),
        (
            ".field f u32\nr1 = f",
            "2:6: 'f' is a field, not a constant",
        ),
        (
            ".field f u32\n*(u32 *)(r6 + f) = r1",
            "2:15: field 'f' can't be written",
        ),
        (
            ".field f u32 u64\nr1 = *(u64 *)(r6 + f)",
            "2:8: field 'f' is declared u32: write *(u32 *)",
        ),
        (
            ".field f u8[16]\nr1 = *(u64 *)(r6 + f)",
            "2:20: field 'f' is no number: copy it with memcpy",
        ),
        (
            ".field f u8[16]\nmemcpy(r10 - 16, r6 + f, 17) via r1",
            "2:26: 'f' has 16 bytes: can't copy 17",
        ),
        (
            ".field f u8[16]\nmemcpy(r10 - 15, r6 + f, 16) via r1",
            "2:8: 16 bytes at r10 -15 are not on the stack of 512 bytes below r10",
        ),
        (
            ".field f u8[16]\nmemcpy(r10 - 16, r6 + f, 16) via r6",
            "2:34: r6 can't be the register in between",
        ),
        (
            ".field f u8[16]\nmemcpy(r9 - 16, r6 + f, 16) via r1",
            "2:8: memcpy writes to the stack only: r10 and a negative offset",
        ),
        (
            "memcpy(r10 - 16, r6 + 8, 16) via r1",
            "1:18: memcpy copies fields only: a register and a field's name",
        ),
    ];
    for (body, expected) in table {
        assert_eq!(mistake(body), expected, "{body}");
    }
}

#[test]
fn directives() {
    let table = [
        (".frob", "1:1: unknown directive '.frob'"),
        (".program q", "1:1: .program for the second time"),
        (
            ".field f",
            "1:9: expected a type, found the end of the line",
        ),
        (
            ".field f u7",
            "1:10: unknown type 'u7': it must be u8 to u64 or s8 to s64",
        ),
        (
            ".field f u8[0]",
            "1:10: array of 0 elements: it must be 1 to 4096",
        ),
        (".field f u8 s8", "1:13: field 'f' has the size 1 twice"),
        (
            ".field f u8\n.ifdef f",
            "2:8: field 'f' is not optional: it is always there",
        ),
        (".equ f 1\n.ifdef f", "2:8: 'f' is not a field"),
        (
            ".field f u8 optional\n.ifdef f\nexit",
            "2:1: .ifdef without its .endif",
        ),
        (".endif", "1:1: .endif without an open .ifdef"),
        (".else", "1:1: .else without an open .ifdef"),
        (
            ".field f u8 optional\n.ifdef f\n.else\n.else",
            "4:1: .else without an open .ifdef",
        ),
        (
            ".field f u8 optional\n.ifdef f\n.ifdef f",
            "3:8: .ifdef f within a block of 'f'",
        ),
        (
            ".field f u8 optional\nr1 = *(u8 *)(r6 + f)",
            "2:19: optional field 'f' is used outside of .ifdef f",
        ),
        (
            ".field f u8 optional\n.ifdef f\n.else\nr1 = *(u8 *)(r6 + f)",
            "4:19: optional field 'f' is used outside of .ifdef f",
        ),
        (
            ".field f u8 optional\ngoto x\n.ifdef f\nx:\n.endif\nexit",
            "2:6: jump into the block of label 'x' from outside of it",
        ),
        (
            ".include \"none.inc\"",
            "1:10: can't include \"none.inc\": no such file",
        ),
    ];
    for (body, expected) in table {
        assert_eq!(mistake(body), expected, "{body}");
    }
    for (text, expected) in [
        (
            ".program sixteen_letters_",
            "a.s:1:10: program name 'sixteen_letters_' has 16 characters, at most 15",
        ),
        (
            ".program a-b",
            "a.s:1:11: expected the end of the line, found '-'",
        ),
        (
            ".program a.b",
            "a.s:1:10: program name 'a.b' has other characters than A-Z a-z 0-9 _",
        ),
        ("exit", "a.s: the program has no .program name"),
        (".program p\nexit", "a.s: the program has no .tracepoint"),
        (
            ".program p\n.tracepoint a:b\nexit",
            "a.s: the program has no .license",
        ),
        ("", "a.s: the program has no .program name"),
    ] {
        let e = assemble("a.s", text, &mut |_| Err(String::new()))
            .expect_err(text)
            .to_string();
        assert_eq!(e.lines().next(), Some(expected), "{text}");
    }
    let e = fragment(".map m").expect_err("a directive");
    assert_eq!(e.message, ".map can't stand in a fragment");
}

#[test]
fn included_files() {
    assert!(program(".include \"good.inc\"\nr0 = SEVEN\nexit").is_ok());
    let e = program(".include \"bad.inc\"").expect_err("a mistake within");
    assert_eq!(
        e.to_string(),
        "bad.inc:2:8: expected a number, found '='\n      r1 = = 2\n           ^"
    );
    let e = program(".include \"circle.inc\"").expect_err("a circle");
    assert_eq!(
        e.to_string().lines().next(),
        Some("circle.inc:1:10: \"circle.inc\" is included 8 files deep: is it a circle?")
    );
}

#[test]
fn flow() {
    let table = [
        ("r0 = 0", "1:1: the program can run off its end here"),
        (
            "r0 = 0\ngoto end\nend:",
            "2:1: the program can run off its end here",
        ),
        (
            "exit\nr0 = 0\nexit",
            "2:1: this instruction can't be reached",
        ),
        (
            "goto x\nr0 = 0\nx: exit",
            "2:1: this instruction can't be reached",
        ),
        (
            ".field f u8 optional\nr0 = 0\n.ifdef f\nexit\n.endif",
            "3:1: the program can run off its end here on a host without field f",
        ),
        (
            ".field f u8 optional\nr0 = 0\n.ifdef f\nexit\n.endif\nr0 = 1\nexit",
            "6:1: this instruction can't be reached",
        ),
        (
            ".field f u8 optional\nr0 = 0\n.ifdef f\n.else\ngoto x\n.endif\nr0 = 1\nx: exit",
            "7:1: this instruction can't be reached on a host without field f",
        ),
    ];
    for (body, expected) in table {
        assert_eq!(mistake(body), expected, "{body}");
    }
    let loops = "x: r0 = 0\nif r0 == 1 goto x\nexit";
    assert!(program(loops).is_ok());
    let far = format!("if r0 == 1 goto x\n{}x: exit", "r0 = 0\n".repeat(32768));
    assert_eq!(
        mistake(&far),
        "1:1: jump distance 32768 is out of range: -32768 to 32767"
    );
}

#[test]
fn peeks() {
    let table = [
        (
            "peek(r9 - 8, r7 + s.m, 4)",
            "2:6: peek writes to the stack only: r10 and a negative offset",
        ),
        (
            "peek(r10 - 8, r7 + 8, 4)",
            "2:15: peek copies fields only: a register and a field's name",
        ),
        (
            "peek(r10 - 8, r7 + s.m, 5)",
            "2:25: 's.m' has 4 bytes: can't copy 5",
        ),
        (
            "peek(r10 - 8, r7 + s.m, 0)",
            "2:25: 's.m' has 4 bytes: can't copy 0",
        ),
        (
            "peek(r10 - 2, r7 + s.m, 4)",
            "2:6: 4 bytes at r10 -2 are not on the stack of 512 bytes below r10",
        ),
        (
            "peek(r10 - 516, r7 + s.m, 4)",
            "2:6: 4 bytes at r10 -516 are not on the stack of 512 bytes below r10",
        ),
        (
            "peek(r10 - 8, r7 + s.other, 4)",
            "2:20: unknown symbol 's.other'",
        ),
        ("peek(r10 - 8, r7 + s.m)", "2:23: expected ',', found ')'"),
        (
            "peek(r10 - 8, r7 + s.m, 4) via r1",
            "2:28: expected the end of the line, found 'via'",
        ),
        (".equ peek 1", "2:6: 'peek' can't be used as a name"),
        ("peek: r0 = 1", "2:1: 'peek' can't be used as a name"),
        (
            "exit\npeek(r10 - 8, r7 + s.m, 4)\nexit",
            "3:1: this instruction can't be reached",
        ),
    ];
    for (body, expected) in table {
        let body = format!(".field s.m u32 optional\n{body}");
        assert_eq!(mistake(&body), expected, "{body}");
    }
    // Unlike a load or a copy, it needs no block: without the field it is nothing.
    let field = ".field s.m u32 optional\n";
    assert_eq!(
        mistake(&format!("{field}memcpy(r10 - 8, r7 + s.m, 4) via r1\nexit")),
        "2:22: optional field 's.m' is used outside of .ifdef s.m"
    );
    assert!(program(&format!("{field}peek(r10 - 8, r7 + s.m, 4)\nexit")).is_ok());
    // It counts as the longest of what it may become.
    for (len, most, beyond) in [(1, 5461, 32772), (4, 4095, 32768)] {
        let far = |count| {
            let filling = format!("peek(r10 - 8, r7 + s.m, {len})\n").repeat(count);
            program(&format!("{field}if r0 == 1 goto x\n{filling}x: exit"))
        };
        assert!(far(most).is_ok(), "{len}");
        let why = far(most + 1).expect_err("too far").message;
        assert!(
            why.starts_with(&format!("jump distance {beyond} ")),
            "{why}"
        );
    }
}
