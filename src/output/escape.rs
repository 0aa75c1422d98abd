//! All escaping of text from outside, in one place.
//!
//! Contract: whatever bytes come in, what goes out is printable ASCII or (in
//! JSON) valid UTF-8, on one line, and can't end the field it stands in.

use crate::model::text::is_unseen;
use crate::sys::append::append;

/// Appends a task's name as a log line shows it: as it is when it is printable
/// ASCII without space, `"`, `\` and `=`; otherwise in double quotes with C
/// escapes. No name, or none that is known, is `-`.
pub(crate) fn comm(out: &mut Vec<u8>, name: &[u8]) {
    let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'=');
    if name.is_empty() {
        out.push(b'-');
        return;
    }
    if name != b"-" && name.iter().all(plain) {
        append(out, name);
        return;
    }
    out.push(b'"');
    for &byte in name {
        match byte {
            b'"' | b'\\' => append(out, &[b'\\', byte]),
            b'\n' => append(out, b"\\n"),
            b'\t' => append(out, b"\\t"),
            b'\r' => append(out, b"\\r"),
            b' '..=b'~' => out.push(byte),
            _ => {
                append(out, b"\\x");
                hex(out, byte);
            }
        }
    }
    out.push(b'"');
}

/// Appends a JSON string with its quotes; see [`json_text`].
pub(crate) fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    json_text(out, text);
    out.push(b'"');
}

/// Appends what stands in a JSON string. Bytes that are not UTF-8 become
/// U+FFFD, as `String::from_utf8_lossy` does; characters that a terminal may obey
/// or hide ([`is_unseen`]) are escaped, in UTF-16 as JSON has it.
pub(super) fn json_text(out: &mut Vec<u8>, text: &[u8]) {
    let plain = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
    match text.iter().all(plain) {
        true => append(out, text),
        false => escaped(out, text),
    }
}

fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => append(out, &[b'\\', c as u8]),
                '\n' => append(out, b"\\n"),
                '\t' => append(out, b"\\t"),
                '\r' => append(out, b"\\r"),
                c if is_unseen(c) => {
                    for code in c.encode_utf16(&mut [0; 2]) {
                        append(out, b"\\u");
                        for byte in code.to_be_bytes() {
                            hex(out, byte);
                        }
                    }
                }
                _ => append(out, c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            append(out, "\u{fffd}".as_bytes());
        }
    }
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn comm_text(name: &[u8]) -> String {
        let mut out = Vec::new();
        comm(&mut out, name);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn names_in_the_log_line() {
        for (name, text) in [
            (&b"audacious"[..], "audacious"),
            (b"swapper/7", "swapper/7"),
            (b"tmux: server", r#""tmux: server""#),
            (b"", "-"),
            (b"-", r#""-""#),
            (b"-c", "-c"),
            (b"a=b", r#""a=b""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"x\n\t\r\x01\x7f", r#""x\n\t\r\x01\x7f""#),
            (b"\xff\xc3\xa9", r#""\xff\xc3\xa9""#),
            (b"x STATE=Closed", r#""x STATE=Closed""#),
        ] {
            assert_eq!(comm_text(name), text);
        }
    }

    fn json_text(text: &str) -> String {
        let mut out = Vec::new();
        json_string(&mut out, text.as_bytes());
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_is_not_seen_is_escaped() {
        for (text, shown) in [
            ("abc", r#""abc""#),
            // Turned round, and back.
            ("\u{202e}dhss\u{202c}", r#""\u202edhss\u202c""#),
            (
                "\u{2066}\u{2069}\u{200f}\u{61c}",
                r#""\u2066\u2069\u200f\u061c""#,
            ),
            ("s\u{200b}shd\u{feff}\u{ad}", r#""s\u200bshd\ufeff\u00ad""#),
            ("\u{e0041}\u{e007f}", r#""\udb40\udc41\udb40\udc7f""#),
            (
                "\u{f8ff}\u{10fffd}\u{e000}",
                r#""\uf8ff\udbff\udffd\ue000""#,
            ),
            ("a\u{a0}b\u{3000}\u{2800}", r#""a\u00a0b\u3000\u2800""#),
            (
                "\u{9b}2J\u{85}\u{2028}\x7f",
                r#""\u009b2J\u0085\u2028\u007f""#,
            ),
            ("x\u{fe0f}\u{1160}", r#""x\ufe0f\u1160""#),
            // Letters of any script, and pictures, are shown.
            (
                "\u{e9}\u{430}\u{5e9}\u{6f22}\u{1f980}\u{fffd}",
                "\"\u{e9}\u{430}\u{5e9}\u{6f22}\u{1f980}\u{fffd}\"",
            ),
        ] {
            assert_eq!(json_text(text), shown);
            let back: String = serde_json::from_str(shown).expect("valid JSON");
            assert_eq!(back, text);
        }
    }

    proptest! {
        #[test]
        fn any_text_stays_what_it_is(text in ".{0,20}[\u{80}-\u{10ffff}]{0,20}") {
            let shown = json_text(&text);
            prop_assert!(!shown.chars().any(is_unseen), "{shown:?}");
            let back: String = serde_json::from_str(&shown).expect("valid JSON");
            prop_assert_eq!(back, text);
        }

        #[test]
        fn any_name_stays_in_its_field(name in prop::collection::vec(any::<u8>(), 0..16)) {
            let text = comm_text(&name);
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)));
            if let Some(inner) = text.strip_prefix('"') {
                let inner = inner.strip_suffix('"').expect("closed");
                let mut escaped = false;
                for c in inner.chars() {
                    prop_assert!(escaped || c != '"');
                    escaped = !escaped && c == '\\';
                }
                prop_assert!(!escaped);
            } else {
                prop_assert!(!text.contains([' ', '=', '"']));
            }
        }

        #[test]
        fn any_bytes_make_a_json_string(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            json_string(&mut out, &text);
            prop_assert!(!out.iter().any(|&b| b < 0x20));
            let shown = String::from_utf8(out.clone()).expect("UTF-8");
            prop_assert!(!shown.chars().any(is_unseen), "{shown:?}");
            let back: String = serde_json::from_slice(&out).expect("valid JSON");
            prop_assert_eq!(back, String::from_utf8_lossy(&text));
        }
    }
}
