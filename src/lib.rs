//! socket-snoop: live TCP connection tracing from one static binary.
//!
//! The library is the program's rooms, made public for its tests; it promises
//! no stable interface. Modules know only those below them in this list.

pub mod session;

pub mod check;
pub mod cli;

pub mod output;

pub mod filter;
pub mod snapshot;

pub mod lifecycle;

pub mod capture;

pub mod owner;

pub mod bpf;

pub mod btf;
pub mod perf;
pub mod tracepoint;

pub mod host;
pub mod sandbox;

pub mod model;

pub mod bpf_asm;
pub mod bpf_insn;
pub mod error;
pub mod order;
pub mod sys;

/// The programs of bpf-asm/, assembled at build time.
pub mod programs {
    include!(concat!(env!("OUT_DIR"), "/programs.rs"));
}
