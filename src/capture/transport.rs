//! The ways to the events, by name.
//!
//! Contract: the best is the first; what a way needs of the process is asked
//! before anything is tried.

use crate::bpf::load::check_capabilities;
use crate::error::Error;

/// How the events are obtained: the rungs of a ladder, the first one best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// BPF programs on the tracepoints of tracefs.
    Tracepoint,
    /// BPF programs on the same tracepoints by BTF, where tracefs is refused or
    /// empty (lockdown=confidentiality).
    Btf,
    /// Plain perf samples of the tracepoints, where bpf(2) is refused.
    Perf,
}

impl Transport {
    /// The rungs, the best first.
    pub const LADDER: [Transport; 3] = [Transport::Tracepoint, Transport::Btf, Transport::Perf];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tracepoint => "tracepoint",
            Transport::Btf => "btf",
            Transport::Perf => "perf",
        }
    }

    /// Whether this process may go that way.
    pub(super) fn check_capabilities(self) -> Result<(), Error> {
        check_capabilities(self != Transport::Perf, self != Transport::Btf)
    }
}
