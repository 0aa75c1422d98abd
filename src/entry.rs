//! Arguments in, exit code out: the way into both editions.
//!
//! Contract: an edition has what it gives in its [`Extras`], and nothing else of that is
//! in its file. Asked for what it has not, it becomes the other one where that lies
//! beside it, and nobody else can have changed that.

use crate::check;
use crate::cli::{self, Command, Config};
use crate::error::{Error, Kind};
use crate::listing;
use crate::output::FormatName;
use crate::output::notice::{self, notice};
use crate::output::place;
use crate::session::pump::Pump;
use crate::session::{self, Open};
use crate::sys::{Errno, command};
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// Reads recorded lines again, with this picture instead of lines.
pub type Read = fn(&Config, Option<Open>) -> Result<u8, Error>;

/// What the full edition has beside the tracer.
#[derive(Clone, Copy, Debug)]
pub struct Extras {
    /// The way of the events.
    pub pump: Pump,
    /// What `-r` does.
    pub read: Option<Read>,
    /// The table of `--top`.
    pub top: Option<Open>,
    /// The file of `--format trace`.
    pub trace: Option<Open>,
}

impl Extras {
    /// Nothing beside it.
    pub fn none(pump: Pump) -> Extras {
        Extras {
            pump,
            read: None,
            top: None,
            trace: None,
        }
    }
}

/// The words of the command line, the program's name the first.
fn arguments() -> Result<Vec<String>, Error> {
    std::env::args_os()
        .map(|arg| {
            arg.into_string().map_err(|bad| {
                let shown = bad.to_string_lossy().into_owned();
                let shown = crate::model::text::printable(&shown);
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

/// Opens the full edition beside this file, and tells whether nobody else could have
/// changed it.
fn beside() -> Option<(OwnedFd, bool)> {
    let own = readlinkat(AT_FDCWD, c"/proc/self/exe").ok()?;
    let (folder, name) = own.to_str()?.rsplit_once('/')?;
    let name = name.strip_prefix("socket-snoop")?;
    let place = place::plain(&[folder, "/socket-snoop-full", name].concat()).ok()?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(&place.folder, place.name.as_c_str(), flags, Mode::empty()).ok()?;
    let us = [0, place::own()];
    let (stat, of_folder) = (fstat(&file).ok()?, fstat(&place.folder).ok()?);
    let safe = place::kind(&stat) == libc::S_IFREG && place::is_ours(&stat, &us);
    Some((file, safe && place::is_ours(&of_folder, &us)))
}

/// Becomes the full edition, which has this, by the words of the command line; else why
/// not.
#[cold]
fn become_full(what: &str, words: &[String]) -> Error {
    let mut why = String::new();
    let rest = match beside() {
        Some((file, true)) => {
            let words = command::texts(words).unwrap_or_default();
            why = command::execute(file.as_fd(), &words).to_string();
            ", and socket-snoop-full beside it can't be run: "
        }
        Some(_) => {
            ", and socket-snoop-full beside it is not run: it must be a file, which only you or \
             root can write to, in such a folder"
        }
        None => ": socket-snoop-full has it (one file, too); copy it and run it instead",
    };
    Error::new(
        Kind::Usage,
        [what, " is not in this file", rest, &why].concat(),
    )
}

/// The picture that is asked for.
fn picture(config: &Config, extras: &Extras) -> Result<Option<Open>, Error> {
    if config.format != FormatName::Picture {
        return Ok(None);
    }
    let (picture, name) = match config.top {
        Some(_) => (extras.top, "--top"),
        None => (extras.trace, "--format trace"),
    };
    let why = || Error::new(Kind::Usage, [name, " is not in this file"].concat());
    picture.map(Some).ok_or_else(why)
}

/// Does what was asked for; the exit code.
#[inline(always)]
fn run(extras: &Extras) -> Result<u8, Error> {
    let log = std::env::var_os("SOCKET_SNOOP_LOG");
    let arguments = arguments()?;
    match cli::parse(
        arguments.get(1..).unwrap_or_default(),
        log,
        extras.read.is_some(),
    )? {
        Command::Run(mut config) => {
            let picture = match extras.read {
                Some(_) => picture(&config, extras)?,
                None => None,
            };
            match extras.read {
                Some(read) if !config.read.is_empty() => read(&config, picture),
                _ => session::run(&mut config, picture, extras.pump),
            }
        }
        Command::Check(config) => {
            let (text, code) = check::run(&config);
            Ok(print(&text, code))
        }
        Command::List(config, listing) => {
            let text = listing::run(&config, &listing)?;
            Ok(print(text.as_bytes(), 0))
        }
        Command::Print(text) => Ok(print(text.as_bytes(), 0)),
        Command::Full(what) => Err(become_full(what, &arguments)),
    }
}

/// The whole program; in its place, so that what these are is known when it is made.
#[inline(always)]
pub fn main(extras: &Extras) -> ExitCode {
    // First, while everything can be opened.
    notice::prepare();
    let code = run(extras).unwrap_or_else(|error| {
        notice(&error.to_string());
        error.exit_code()
    });
    notice::settle();
    ExitCode::from(code)
}
