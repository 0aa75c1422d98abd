//! Every mistake that the assembler knows, with its exact place and message.

mod blocks;
mod instructions;

use socket_snoop::bpf_asm::{AsmError, Program, assemble, fragment};

const HEAD: &str = ".program p\n.tracepoint g:e\n.license \"GPL\"\n";

fn program(body: &str) -> Result<Program, AsmError> {
    assemble("a.s", &format!("{HEAD}{body}"), &mut |name| match name {
        "good.inc" => Ok(".equ SEVEN 7\n".into()),
        "bad.inc" => Ok("\n  r1 = = 2\n".into()),
        "circle.inc" => Ok(".include \"circle.inc\"\n".into()),
        "leaves.inc" => Ok("r0 = 0\ngoto out\n".into()),
        "own.inc" => Ok("r0 = 0\ngoto own\nown:\n".into()),
        "open.inc" => Ok(".if big_endian\n".into()),
        "closes.inc" => Ok(".endif\n".into()),
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
