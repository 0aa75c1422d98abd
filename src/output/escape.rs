//! All escaping of text from outside, in one place.
//!
//! Contract: whatever bytes come in, what goes out is printable ASCII or (in
//! JSON) valid UTF-8, on one line, and can't end the field it stands in.

/// Appends a task's name as a log line shows it: as it is when it is printable
/// ASCII without space, `"`, `\` and `=`; otherwise in double quotes with C
/// escapes. No name, or none that is known, is `-`.
pub fn comm(out: &mut Vec<u8>, name: &[u8]) {
    let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'=');
    if name.is_empty() {
        out.push(b'-');
        return;
    }
    if name != b"-" && name.iter().all(plain) {
        out.extend_from_slice(name);
        return;
    }
    out.push(b'"');
    for &byte in name {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b' '..=b'~' => out.push(byte),
            _ => {
                out.extend_from_slice(b"\\x");
                hex(out, byte);
            }
        }
    }
    out.push(b'"');
}

/// Appends a JSON string with its quotes. Bytes that are not UTF-8 become
/// U+FFFD, as `String::from_utf8_lossy` does; control characters, also those
/// above ASCII that a terminal may obey (U+0080 to U+009F), are escaped, and so
/// are the line separators U+2028 and U+2029.
pub fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    let code = c as u32;
                    out.extend_from_slice(b"\\u");
                    hex(out, (code >> 8) as u8);
                    hex(out, code as u8);
                }
                _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
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

    proptest! {
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
            let back: String = serde_json::from_slice(&out).expect("valid JSON");
            prop_assert_eq!(back, String::from_utf8_lossy(&text));
        }
    }
}
