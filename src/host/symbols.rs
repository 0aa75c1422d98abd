//! The names of a field's numbers, as a tracepoint prints them.
//!
//! Contract: the text is the kernel's `print fmt`, and is taken for hostile:
//! whatever it holds, what comes out is bounded, and names are of the letters
//! that identifiers have. Names from elsewhere (see `btf`) keep to the same.

use crate::model::text::cut;

/// Names kept at most; `enum sk_rst_reason` has 26 in Linux 6.18.
pub const LIMIT: usize = 256;
/// Bytes of a name at most.
pub const NAME: usize = 64;

/// The names that a `format` file gives to the numbers of a field: the pairs of
/// `__print_symbolic(REC->FIELD, { 0, "NAME" }, …)` in its line `print fmt`
/// (v6.12 include/trace/stages/stage3_trace_output.h). Pairs whose first part is
/// no number in decimal or hexadecimal are passed over.
pub fn symbols(format: &[u8], field: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let line = format.split(|&b| b == b'\n');
    let Some(text) = line.filter_map(|l| l.strip_prefix(b"print fmt:")).next() else {
        return found;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return found;
    };
    let opening = format!("__print_symbolic(REC->{field},");
    let Some((_, mut rest)) = cut(text, &opening) else {
        return found;
    };
    while let Some(body) = rest.trim_start().strip_prefix('{') {
        let Some((number, after)) = body.split_once(',') else {
            break;
        };
        let Some(after) = after.trim_start().strip_prefix('"') else {
            break;
        };
        let Some((name, after)) = after.split_once('"') else {
            break;
        };
        let Some(after) = after.trim_start().strip_prefix('}') else {
            break;
        };
        if let (Some(number), true) = (parse(number.trim()), is_name(name)) {
            if found.len() < LIMIT {
                found.push((number, name.to_string()));
            }
        }
        rest = after.trim_start().strip_prefix(',').unwrap_or("");
    }
    found
}

/// Whether it is taken for a name: letters, digits and `_`, at most [`NAME`].
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=NAME).contains(&text.len()) && text.bytes().all(plain)
}

fn parse(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: &[u8] =
        include_bytes!("../../tests/data/formats/amd64-6.18.44-host/tcp/tcp_send_reset.format");
    const OLD: &[u8] = include_bytes!(
        "../../tests/data/formats/amd64-5.10.0-46-cloud-amd64/tcp/tcp_send_reset.format"
    );

    fn of(text: &str) -> Vec<(u32, String)> {
        symbols(format!("name: x\nprint fmt: {text}\n").as_bytes(), "reason")
    }

    #[test]
    fn the_reasons_of_a_kernel() {
        let reasons = symbols(HOST, "reason");
        assert_eq!(reasons.len(), 26);
        assert_eq!(reasons[0], (0, "NOT_SPECIFIED".into()));
        assert!(reasons.contains(&(11, "TCP_ABORT_ON_CLOSE".into())));
        // States have names for numbers there, and these are passed over.
        assert_eq!(symbols(HOST, "state"), []);
        assert_eq!(symbols(OLD, "reason"), []);
        assert_eq!(symbols(b"", "reason"), []);
    }

    #[test]
    fn what_is_no_pair_ends_the_list() {
        let a = (1, "A".to_string());
        let pairs = |rest: &str| of(&format!("\"\", __print_symbolic(REC->reason, {rest}"));
        assert_eq!(
            pairs("{ 1, \"A\" }, { 0x10, \"B\" })"),
            [a.clone(), (16, "B".into())]
        );
        for rest in [
            "{ 1, \"A\" }",
            "{ 1, \"A\" }, {",
            "{ 1, \"A\" }, { 2, \"B",
            "{ 1, \"A\" }, { 2, B }",
            "{ 1, \"A\" } { 2, \"B\" }",
            "{ 1, \"A\" }, { -1, \"B\" })",
            "{ 1, \"A\" }, { 4294967296, \"B\" })",
            "{ 1, \"A\" }, { 2, \"B\u{1b}[2J\" })",
            "{ 1, \"A\" }, { 2, \"\" })",
        ] {
            assert_eq!(pairs(rest), std::slice::from_ref(&a), "{rest}");
        }
        let many: String = (0..1000).map(|n| format!("{{ {n}, \"N\" }}, ")).collect();
        assert_eq!(pairs(&many).len(), LIMIT);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut format = b"print fmt: __print_symbolic(REC->reason, { 1".to_vec();
            format.extend(text);
            for (_, name) in symbols(&format, "reason") {
                prop_assert!(is_name(&name));
            }
        }
    }
}
