//! socket-snoop: live TCP connection tracing from one static binary.
//!
//! The library is the program's rooms, made public for its tests; it promises
//! no stable interface. Modules know only those below them in this list.

pub mod check;
pub mod session;
pub mod view;

pub mod cli;
pub mod filter;
pub mod loss;
pub mod notify;
pub mod output;
pub mod snapshot;
pub mod source;

pub mod decoder;
pub mod owner;
pub mod sampler;
pub mod tasks;
pub mod user;

pub mod clock;
pub mod existing;
pub mod lifecycle;
pub mod lineage;
pub mod listeners;
pub mod proc;
pub mod processes;
pub mod recent;
pub mod zone;

pub mod attach;
pub mod passes;

pub mod program;

pub mod btf;

pub mod maps;
pub mod perf;
pub mod tally;
pub mod tracepoint;

pub mod event;
pub mod tcp;
pub mod text;
pub mod wire;

pub mod symbols;
pub mod timens;

pub mod lockdown;
pub mod priority;
pub mod sandbox;

pub mod bpf_asm;
pub mod bpf_insn;
pub mod bpf_link;
pub mod error;
pub mod finding;
pub mod sys;

/// The programs of bpf-asm/, assembled at build time.
pub mod programs {
    include!(concat!(env!("OUT_DIR"), "/programs.rs"));
}
