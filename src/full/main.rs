//! The full edition: the tracer, and what one looks at recordings and screens with.

use socket_snoop::entry::{self, Extras};
use socket_snoop::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    entry::main(&Extras {
        read: Some(|_, _| {
            let message = "-r is not there yet";
            Err(Error::new(socket_snoop::error::Kind::Usage, message))
        }),
        top: None,
        trace: None,
    })
}
