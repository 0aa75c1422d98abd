//! Arguments in, exit code out; nothing else.
#![allow(
    clippy::print_stdout,
    reason = "prints what is asked for, such as the help"
)]

use socket_snoop::check;
use socket_snoop::cli::{self, Command};
use socket_snoop::error::{Error, Kind};
use socket_snoop::listing;
use socket_snoop::output::notice::{self, notice};
use socket_snoop::session;
use socket_snoop::sys::Errno;
use std::io::Write;
use std::process::ExitCode;

fn arguments() -> Result<Vec<String>, Error> {
    std::env::args_os()
        .skip(1)
        .map(|arg| {
            arg.into_string().map_err(|bad| {
                let shown = bad.to_string_lossy().into_owned();
                let shown = socket_snoop::model::text::printable(&shown);
                Error::new(Kind::Usage, format!("argument {shown} is not valid UTF-8"))
            })
        })
        .collect()
}

/// Prints something whole; the exit code, which is at least `code`. A reader that
/// has left has seen enough.
fn print(text: &[u8], code: u8) -> u8 {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            let errno = Errno::from_io(&e);
            notice(&format!("cannot write to standard output: {errno}"));
            code.max(1)
        }
        _ => code,
    }
}

/// Does what was asked for; the exit code.
fn run() -> Result<u8, Error> {
    let log = std::env::var_os("SOCKET_SNOOP_LOG");
    match cli::parse(&arguments()?, log)? {
        Command::Run(config) if !config.read.is_empty() => session::replay::run(&config),
        Command::Run(config) => session::run(&config),
        Command::Check(config) => {
            let (text, code) = check::run(&config);
            Ok(print(&text, code))
        }
        Command::List(config, listing) => {
            let text = listing::run(&config, &listing)?;
            Ok(print(text.as_bytes(), 0))
        }
        Command::Print(text) => Ok(print(text.as_bytes(), 0)),
    }
}

fn main() -> ExitCode {
    // First, while everything can be opened.
    notice::prepare();
    let code = run().unwrap_or_else(|error| {
        notice(&error.to_string());
        error.exit_code()
    });
    notice::settle();
    ExitCode::from(code)
}
