//! Mistakes within one statement, and where control flow goes wrong.

use crate::{mistake, program};

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
