//! socket-snoop: live TCP connection tracing from one static binary.

pub mod bpf_asm;
pub mod bpf_insn;
pub mod bpf_link;

/// The programs of `bpf-asm/`, assembled when this crate was built: one [`bpf_link::Template`] for each file.
pub mod programs {
    include!(concat!(env!("OUT_DIR"), "/programs.rs"));
}
