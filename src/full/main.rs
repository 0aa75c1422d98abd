//! The full edition: the tracer, and what one looks at recordings and screens with.

use socket_snoop::entry::{self, Extras};
use socket_snoop::session::pump::Pump;
use socket_snoop::session::replay;
use socket_snoop::{top, trace};
use std::process::ExitCode;

fn main() -> ExitCode {
    entry::main(&Extras {
        pump: Pump::here(),
        read: Some(replay::run),
        top: Some(top::open),
        trace: Some(trace::open),
    })
}
