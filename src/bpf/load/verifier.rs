//! What the verifier said.
//!
//! Contract: of its log, of whatever size and however cut, one line is told, escaped.
//! What is newer than the kernel is told as missing, and is nothing to report.

use crate::error::{Error, Kind};
use crate::model::text::cut;
use crate::sys::Errno;

/// The helpers that came later than the oldest kernel here, by their numbers, with
/// what they take.
fn helper(number: u32) -> (&'static str, &'static str) {
    match number {
        80 => (
            "get_current_cgroup_id",
            "it takes Linux 4.18 or later, built with CONFIG_CGROUPS",
        ),
        113 => (
            "probe_read_kernel",
            "it takes Linux 5.5 or later, without lockdown=confidentiality",
        ),
        137 => ("skc_to_tcp_sock", "it takes Linux 5.9 or later"),
        158 => ("get_current_task_btf", "it takes Linux 5.11 or later"),
        _ => ("?", "it takes a later Linux"),
    }
}

/// The number of the helper that a kernel said it has not, or does not give to a
/// program of this type (kernel/bpf/verifier.c, check_helper_call).
fn missing_helper(said: &str) -> Option<u32> {
    let missing = said.starts_with("unknown func ")
        || said.starts_with("invalid func ")
        || said.starts_with("program of this type cannot use helper ");
    let number = said.split_once('#').filter(|_| missing)?.1;
    number.split(' ').next()?.parse().ok()
}

/// Why a program was refused, which is for `kind` of thing; what such takes is
/// empty where all there is here has it.
#[inline(never)]
pub(super) fn refusal(name: &str, (kind, takes): (&str, &str), errno: Errno, log: &[u8]) -> Error {
    let said = line(log);
    let (why, remedy) = if let Some(number) = missing_helper(&said) {
        let (helper, takes) = helper(number);
        let why = format!("this kernel has no helper bpf_{helper}, which the program {name} needs");
        (why, takes)
    } else if matches!(errno, Errno::EINVAL | Errno::E2BIG)
        && !takes.is_empty()
        && log.first().is_none_or(|byte| *byte == 0)
    {
        // A type that it does not know has no verifier (kernel/bpf/syscall.c,
        // bpf_prog_load); of what loading it takes it does not know the last members.
        (format!("this kernel takes no programs for {kind}"), takes)
    } else {
        let why = format!("the kernel refused the program {name} (bpf: {errno}): {said}");
        return Error::new(Kind::Refused, why).advise("please report this kernel");
    };
    Error::new(Kind::Unsupported, why).advise(remedy)
}

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
    cut(line, ": (").is_some_and(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()))
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
        && cut(line, " invalid ").is_none()
        && cut(line, " !").is_none()
        || cut(line, ": ")
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

    fn refused(log: &str, errno: Errno, kind: (&str, &str)) -> String {
        refusal("socket_snoop_st", kind, errno, log.as_bytes()).to_string()
    }

    const BY_BTF: (&str, &str) = ("what BTF describes", "it takes Linux 5.5 or later");

    /// As kernels have said it: 4.16, RHEL 8.3 and 6.18.
    #[test]
    fn a_helper_that_is_missing_is_no_bug() {
        for (log, helper, version) in [
            (
                "118: (85) call unknown#80\ninvalid func unknown#80\n",
                "get_current_cgroup_id",
                "4.18 or later, built with CONFIG_CGROUPS",
            ),
            (
                "0: (bf) r6 = r1\n9: (85) call unknown#137\nunknown func unknown#137\n",
                "skc_to_tcp_sock",
                "5.9 or later",
            ),
            (
                "9: (85) call bpf_probe_read_kernel#113\n\
                 program of this type cannot use helper bpf_probe_read_kernel#113\n\
                 processed 9 insns (limit 1000000) max_states_per_insn 0 total_states 0 \
                 peak_states 0 mark_read 0\n",
                "probe_read_kernel",
                "5.5 or later, without lockdown=confidentiality",
            ),
        ] {
            let said = refused(log, Errno::EINVAL, BY_BTF);
            let expected = format!(
                "this kernel has no helper bpf_{helper}, which the program socket_snoop_st needs; \
                 it takes Linux {version}"
            );
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn a_type_that_is_missing_is_no_bug() {
        let raw = ("raw tracepoints", "it takes Linux 4.17 or later");
        let no = "this kernel takes no programs for";
        assert_eq!(
            refused("\0", Errno::EINVAL, raw),
            format!("{no} raw tracepoints; it takes Linux 4.17 or later")
        );
        assert_eq!(
            refused("", Errno::E2BIG, BY_BTF),
            format!("{no} what BTF describes; it takes Linux 5.5 or later")
        );
        // Else it is for the verifier to say.
        for (log, errno, kind) in [
            ("\0", Errno::EINVAL, ("tracepoints", "")),
            ("\0", Errno::EBUSY, raw),
            ("R0 !read_ok\n", Errno::EINVAL, raw),
        ] {
            let said = refused(log, errno, kind);
            assert!(said.ends_with("; please report this kernel"), "{said}");
        }
    }
}
