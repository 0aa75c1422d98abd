//! socket-snoop: live TCP connection tracing from one static binary.
//!
//! The library is the program's rooms, made public for its tests; it promises
//! no stable interface. A module knows only those on the floors below its own
//! in this list; tests/house.rs says so.

// So that dead code shows: public is what the tests look at, no more.
#![warn(unreachable_pub)]

pub mod check;
pub mod entry;
pub mod listing;
pub mod session;
pub mod top;
pub mod trace;

pub mod cli;

pub mod output;
pub mod snapshot;

pub mod capture;
pub mod lifecycle;

pub mod owner;

pub mod bpf;

pub mod btf;
pub mod tracepoint;

pub mod bpf_asm;
pub mod filter;
pub mod host;
pub mod perf;
pub mod programs;

pub mod bpf_link;
pub mod error;
pub mod model;
pub mod sandbox;

pub mod bpf_insn;
pub mod order;
pub mod sys;
