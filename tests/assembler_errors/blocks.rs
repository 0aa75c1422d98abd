//! Mistakes in what spans lines: macros, variants and layouts.

use crate::{HEAD, mistake, program};
use socket_snoop::bpf_asm::{Export, Exported, Type, Variant, assemble_for, fragment};
use socket_snoop::bpf_link::Item;

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
