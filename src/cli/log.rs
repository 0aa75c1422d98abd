//! Which log file is asked for: by flags, else by the environment.
//!
//! Contract: a path that comes out is not checked for anything but that it is text.

use crate::error::{Error, Kind};
use crate::model::text::printable;
use std::ffi::OsString;

/// Which log file was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogChoice {
    /// None.
    Off,
    /// Nothing was said: the default, or the fallback.
    Default,
    /// This one.
    Path(String),
}

/// By `--no-log`, `--log-file` and `SOCKET_SNOOP_LOG`.
pub(super) fn choose(
    off: bool,
    path: Option<String>,
    of_env: Option<OsString>,
) -> Result<LogChoice, Error> {
    Ok(match (off, path, of_env) {
        (true, Some(_), _) => {
            let message = "--no-log and --log-file exclude each other; see socket-snoop --help";
            return Err(Error::new(Kind::Usage, message));
        }
        (true, None, _) => LogChoice::Off,
        (false, Some(path), _) => LogChoice::Path(path),
        (false, None, Some(path)) if !path.is_empty() => {
            LogChoice::Path(path.into_string().map_err(|bad| {
                let shown = printable(&bad.to_string_lossy());
                let message = format!("SOCKET_SNOOP_LOG is not valid UTF-8: {shown}");
                Error::new(Kind::Usage, message)
            })?)
        }
        (false, None, _) => LogChoice::Default,
    })
}
