//! The tracer alone; the full edition is src/full/main.rs.

use socket_snoop::entry::{self, Extras};
use socket_snoop::session::pump::Pump;
use std::process::ExitCode;

fn main() -> ExitCode {
    entry::main(&Extras::none(Pump::here()))
}
