//! What the verifier said.
//!
//! Contract: of its log, of whatever size and however cut, one line is told, escaped.

/// The line of a verifier's log that says what is wrong: the last one before
/// the statistics that is neither an instruction nor a dump of registers, with
/// the instruction it is about.
pub(super) fn line(log: &[u8]) -> String {
    let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let mut instruction = "";
    let mut reason = "";
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with("processed ") {
            continue;
        }
        if is_instruction(line) {
            instruction = line;
            reason = "";
        } else if !is_chatter(line) {
            reason = line;
        }
    }
    let escape = crate::model::text::printable;
    match (instruction, reason) {
        ("", "") => "the verifier gave no reason".into(),
        (at, "") => format!("at {}", escape(at)),
        ("", reason) => escape(reason),
        (at, reason) => format!("{} (at {})", escape(reason), escape(at)),
    }
}

/// `12: (61) r2 = *(u32 *)(r1 +8)`
fn is_instruction(line: &str) -> bool {
    line.split_once(": (")
        .is_some_and(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()))
}

/// Lines that say where the verifier is, not what it found.
fn is_chatter(line: &str) -> bool {
    const STARTS: [&str; 12] = [
        "verification time",
        "stack depth",
        "from ",
        "; ",
        "R0",
        "R1=",
        "R6",
        "frame",
        "last_idx",
        "regs=",
        "parent ",
        "func#",
    ];
    let registers = |rest: &str| rest.starts_with("R") && rest.contains('=');
    STARTS.iter().any(|start| line.starts_with(start))
        && !line.contains(" invalid ")
        && !line.contains(" !")
        || line
            .split_once(": ")
            .is_some_and(|(n, rest)| n.bytes().all(|b| b.is_ascii_digit()) && registers(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_reason_in_one_line() {
        let log = b"func#0 @0\n0: R1=ctx() R10=fp0\n0: (61) r2 = *(u32 *)(r1 +0)\n\
            invalid bpf_context access off=0 size=4\n\
            processed 1 insns (limit 1000000) max_states_per_insn 0\n\0junk";
        assert_eq!(
            line(log),
            "invalid bpf_context access off=0 size=4 (at 0: (61) r2 = *(u32 *)(r1 +0))"
        );
        assert_eq!(line(b"\0"), "the verifier gave no reason");
        let log = b"0: (95) exit\nR0 !read_ok\nprocessed 1 insns\n";
        assert_eq!(line(log), "R0 !read_ok (at 0: (95) exit)");
        assert_eq!(line(b"unreachable insn 5\n"), "unreachable insn 5");
    }
}
