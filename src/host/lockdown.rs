//! Whether the kernel keeps its memory to itself: lockdown=confidentiality.
//!
//! Contract: asking changes nothing, and mounts nothing. It is asked before
//! tracefs is mounted: under this lockdown tracefs is empty and nothing but
//! the mount itself holds it, and when its last mount goes away the kernel
//! breaks down (list_del corruption in tracefs_destroy_inode: seen on Debian's
//! 6.12.117 and 7.3.4, not on 5.10 and 6.1).

use crate::bpf_insn::{Alu, FP, Insn, Operand, Size};
use crate::sys::Errno;
use crate::sys::bpf::{self, ProgType};
use crate::sys::file;

/// Helpers that read kernel memory; under this lockdown there are none (v6.12
/// kernel/trace/bpf_trace.c, bpf_tracing_func_proto, LOCKDOWN_BPF_READ_KERNEL):
/// bpf_probe_read_kernel (Linux 5.5 and later) and bpf_probe_read.
const READERS: [i32; 2] = [113, 4];

/// Where the kernel says it (security/lockdown/lockdown.c; Linux 5.4 and later).
const PATH: &str = "/sys/kernel/security/lockdown";

/// How much the kernel keeps from root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lockdown {
    /// Nothing.
    Off,
    /// Changing the kernel.
    Integrity,
    /// Reading its memory, too.
    Confidentiality,
}

impl Lockdown {
    /// Its name in the kernel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lockdown::Off => "none",
            Lockdown::Integrity => "integrity",
            Lockdown::Confidentiality => "confidentiality",
        }
    }
}

/// What the kernel says; `None` where it says nothing that can be understood.
pub(crate) fn stated() -> Option<Lockdown> {
    let text = file::text(PATH).ok()?;
    [
        (&b"[none]"[..], Lockdown::Off),
        (b"[integrity]", Lockdown::Integrity),
        (b"[confidentiality]", Lockdown::Confidentiality),
    ]
    .into_iter()
    .find_map(|(part, state)| contains(&text, part).then_some(state))
}

/// Whether programs may read kernel memory, by trying; `None` where that can't
/// be tried.
pub(crate) fn lets_read_memory() -> Option<bool> {
    let mut refused = true;
    for helper in READERS {
        match bpf::prog_load(
            ProgType::Tracepoint,
            "probe",
            &reads(helper),
            c"Dual MIT/GPL",
            None,
            None,
        ) {
            Ok(_) => return Some(true),
            // The verifier knows no such helper (kernel/bpf/verifier.c,
            // check_helper_call).
            Err(Errno::EINVAL | Errno::EACCES) => {}
            // Not allowed to ask, or out of something.
            Err(_) => refused = false,
        }
    }
    refused.then_some(false)
}

/// Whether kernel memory may not be read, as far as this can be found out.
pub(crate) fn is_confidential() -> bool {
    if let Some(state) = stated() {
        return state == Lockdown::Confidentiality;
    }
    lets_read_memory().map_or_else(
        || file::text("/proc/cmdline").is_ok_and(|text| contains(&text, b"=confidentiality")),
        |readable| !readable,
    )
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A program that reads 8 bytes of kernel memory, never run.
fn reads(helper: i32) -> [u64; 8] {
    let mov = |dst, operand| Insn::alu(true, Alu::Mov, dst, operand);
    [
        Insn::store(Size::Dw, FP, -8, Operand::Imm(0)),
        mov(1, Operand::Reg(FP)),
        Insn::alu(true, Alu::Add, 1, Operand::Imm(-8)),
        mov(2, Operand::Imm(8)),
        mov(3, Operand::Imm(0)),
        Insn::call(helper),
        mov(0, Operand::Imm(0)),
        Insn::exit(),
    ]
    .map(Insn::encode)
}
