//! Every mistake that the assembler knows, with its exact place and message.

use socket_snoop::bpf_asm::{AsmError, Export, Exported, Program, Type, Variant};
use socket_snoop::bpf_asm::{assemble, assemble_for, fragment};
use socket_snoop::bpf_link::Item;

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

/// A label belongs to its text: jumps out of a macro are those that it names, and there are none into one.
#[test]
fn macros() {
    let leaving = ".macro m to out\nr0 = 0\nif r0 == 1 goto out\n.endm\n";
    let whole = format!("{leaving}m\nm\nout:\nexit");
    let program_of = |body: &str| program(body).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(program_of(&whole).items.len(), 5);
    // Each use has labels of its own.
    let own = ".macro m\nif r0 == 1 goto over\nr0 = 1\nover:\n.endm\nr0 = 0\nm\nm\nover: goto over";
    assert_eq!(program_of(own).items.len(), 6);
    // One may use another, and goes where both name.
    let nested = format!("{leaving}.macro n to out\nm\n.endm\nn\nout: exit");
    assert!(program(&nested).is_ok());
    // It may be used before what it uses is there, and declare what was declared.
    let later =
        ".macro a\nb\n.endm\n.macro b\n.field f u8\nr0 = *(u8 *)(r6 + f)\n.endm\na\nb\nexit";
    assert_eq!(program_of(later).fields.len(), 1);
    let table = [
        (
            ".macro m\nr0 = 0\ngoto out\n.endm\nm\nout: exit",
            "3:6: unknown label 'out' in the macro m, which does not name it behind 'to'",
        ),
        (
            ".macro m to out\nr0 = 0\ngoto out\n.endm\n.macro n\nm\n.endm\nn\nout: exit",
            "3:6: unknown label 'out' in the macro n",
        ),
        (
            ".macro m to out\nr0 = 0\ngoto out\n.endm\nm\nexit",
            "3:6: unknown label 'out'",
        ),
        (
            ".macro m\nx: r0 = 0\nif r0 == 1 goto x\n.endm\nm\ngoto x",
            "6:6: unknown label 'x'",
        ),
        (
            ".macro m\nx: r0 = 0\n.endm\nm\nexit",
            "2:1: label 'x' is never used",
        ),
        (
            ".macro m\nm\n.endm\nm",
            "2:1: \"m\" is included 8 files deep: is it a circle?",
        ),
        (".macro m\nexit", "1:1: .macro without its .endm"),
        (".endm", "1:1: .endm without an open .macro"),
        (".macro m\n.macro n", "2:1: .macro within another"),
        (".macro r1", "1:8: 'r1' can't be used as a name"),
        (
            ".macro m\n.endm\n.equ m 1",
            "3:6: duplicate symbol 'm': a macro at a.s:4",
        ),
        (
            ".macro m\n.endm\nm 1",
            "3:3: expected the end of the line, found '1'",
        ),
        (
            ".macro m to\n.endm",
            "1:12: expected a label, found the end of the line",
        ),
        (
            ".macro m\n.endm\nr1 = m",
            "3:6: 'm' is a macro, not a constant",
        ),
        (
            ".macro m\n.if big_endian\n.endm\nm\n.endif\nexit",
            "2:1: .if without its .endif",
        ),
    ];
    for (body, expected) in table {
        assert_eq!(mistake(body), expected, "{body}");
    }
    assert!(program(".include \"own.inc\"\nown: goto own").is_ok());
    for (body, expected) in [
        (
            ".include \"leaves.inc\"\nout: exit",
            "leaves.inc:2:6: unknown label 'out' in the file leaves.inc, which does not name it behind 'to'",
        ),
        (
            ".include \"open.inc\"\n.endif",
            "open.inc:1:1: .if without its .endif",
        ),
        (
            ".if big_endian\n.else\n.include \"closes.inc\"",
            "closes.inc:1:1: .endif without an open .ifdef",
        ),
    ] {
        let e = program(body).expect_err(body).to_string();
        assert_eq!(e.lines().next(), Some(expected), "{body}");
    }
}

/// One text for several ways, and for either order of bytes.
#[test]
fn variants() {
    let text = format!(
        "{HEAD}.ways tracefs btf\n.if tracefs\n.field f = skaddr u64\n.else\n.field f = arg0.ptr u64\n.endif\n\
         r0 = *(u64 *)(r6 + f)\n.if big_endian\nr0 = 1\n.if btf\nr0 = 2\n.else\nnothing of the kind\n.endif\n.endif\nexit"
    );
    let program = |way, big_endian| {
        let variant = Variant { way, big_endian };
        assemble_for(variant, "a.s", &text, &mut |_| Err(String::new()))
    };
    let is = |way, big_endian, field: &str, items: usize| {
        let program = program(way, big_endian).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(program.ways, ["tracefs", "btf"]);
        assert_eq!(
            (program.fields[0].name.as_str(), program.items.len()),
            (field, items)
        );
    };
    is(None, false, "skaddr", 2);
    is(Some("tracefs"), false, "skaddr", 2);
    is(Some("btf"), false, "arg0.ptr", 2);
    is(Some("btf"), true, "arg0.ptr", 4);
    let e = program(None, true).expect_err("read").to_string();
    assert!(
        e.starts_with("a.s:16:1: unknown instruction 'nothing'"),
        "{e}"
    );
    let e = program(Some("perf"), false)
        .expect_err("no such way")
        .to_string();
    assert!(
        e.starts_with("a.s:4:1: the way 'perf' is none of these"),
        "{e}"
    );
    let table = [
        (
            ".ways",
            "1:6: expected a way to the events, found the end of the line",
        ),
        (
            ".ways perf",
            "1:7: unknown way 'perf': it must be tracefs or btf",
        ),
        (".ways btf btf", "1:11: the way 'btf' is named twice"),
        (".ways btf\n.ways btf", "2:1: .ways for the second time"),
        (".if btf", "1:5: .if btf before .ways"),
        (
            ".if perf",
            "1:5: unknown condition 'perf': it must be tracefs, btf or big_endian",
        ),
        (".if big_endian", "1:1: .if without its .endif"),
        (
            ".if big_endian\n.else\n.else",
            "3:1: .else without an open .ifdef",
        ),
        (
            ".field f u8 optional\n.field f u8",
            "2:8: duplicate symbol 'f': a field at a.s:4",
        ),
        (
            ".field f = g",
            "1:13: expected a type, found the end of the line",
        ),
    ];
    for (body, expected) in table {
        assert_eq!(mistake(body), expected, "{body}");
    }
}

/// A layout is a table whose places must follow each other; it is handed on.
#[test]
fn structures() {
    let body = ".struct S -16\n.at 0 u32 S_A ; the first; of two\n.at 4 u8[4] S_B\n.size S_SIZE 8\n.skip 8\n\
        .at 16 s64 S_C\n.ends\n.const ONE u8 1 ; one\nr0 = S_B + S_SIZE + S_C\nexit";
    let found = program(body).unwrap_or_else(|e| panic!("{e}"));
    let text = found.items[0];
    assert_eq!(text, Item::Insn(fragment("r0 = -4").expect("one")[0]));
    let kind = |unit, signed, count| Type {
        unit,
        signed,
        count,
    };
    let export = |name: &str, what, about: &str| Export {
        name: name.into(),
        what,
        about: about.into(),
    };
    let expected = [
        export(
            "S_A",
            Exported::Member(0, kind(4, false, None)),
            "the first; of two",
        ),
        export("S_B", Exported::Member(4, kind(1, false, Some(4))), ""),
        export("S_SIZE", Exported::Size(8), ""),
        export("S_C", Exported::Member(16, kind(8, true, None)), ""),
        export("ONE", Exported::Constant(kind(1, false, None), 1), "one"),
    ];
    assert_eq!(found.exports, expected);
    let table = [
        (".struct S\n.at 4 u32 S_A", "2:5: it is byte 0 here, not 4"),
        (
            ".struct S\n.at 0 u8 S_A\n.at 1 u16 S_B",
            "3:7: byte 1 is not a multiple of 2",
        ),
        (
            ".struct S\n.at 0 u8 T_A",
            "2:10: 'T_A' does not begin with 'S_'",
        ),
        (
            ".struct S\n.at 0 u8 S_A\n.size S_SIZE 2",
            "3:14: it is byte 1 here, not 2",
        ),
        (".struct S\n.skip 1 << 16", "2:7: can't skip 65536 bytes"),
        (
            ".struct S\n.skip 65535\n.at 65535 u8[2] S_A",
            "3:11: the structure is too long",
        ),
        (".struct S\n.struct T", "2:1: .struct within another"),
        (".struct S", "1:1: .struct without its .ends"),
        (".ends", "1:1: there is no open .struct"),
        (".at 0 u8 A", "1:1: there is no open .struct"),
        (".const A u8 256", "1:13: 256 is no number of that type"),
        (".const A u8 -1", "1:13: -1 is no number of that type"),
        (".const A s8 128", "1:13: 128 is no number of that type"),
        (".const A u8[2] 1", "1:16: 1 is no number of that type"),
        (
            ".equ A 1\n.const A u8 1",
            "2:8: duplicate symbol 'A': a constant at a.s:4",
        ),
    ];
    for (body, expected) in table {
        assert_eq!(mistake(body), expected, "{body}");
    }
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
