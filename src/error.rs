//! What ends a run: why, what to do, and the exit code it stands for.
//!
//! Contract: reason and remedy stay apart, so that `--check` shows the same
//! words in its columns as a start that fails shows in its one line.

use crate::sys::Errno;
use std::fmt;

/// Why the program ends; decides its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something failed while running.
    Runtime = 1,
    /// The command line can't be understood.
    Usage = 2,
    /// A permission or capability is missing.
    Permission = 3,
    /// The kernel lacks a feature.
    Unsupported = 4,
    /// The kernel refused a program.
    Refused = 5,
}

/// An error that ends the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    why: String,
    remedy: String,
    limit: bool,
}

impl Error {
    /// An error of this kind; `why` says in one line what failed, on what, and
    /// why.
    pub fn new(kind: Kind, why: impl Into<String>) -> Error {
        Error {
            kind,
            why: why.into(),
            remedy: String::new(),
            limit: false,
        }
    }

    /// The same with what to do about it.
    pub fn advise(mut self, remedy: impl Into<String>) -> Error {
        self.remedy = remedy.into();
        self
    }

    /// The same where this error of the kernel's is a limit that was reached:
    /// then nothing helps but to raise that, whatever was advised so far.
    pub fn or_limit(self, errno: Errno) -> Error {
        let remedy = match errno {
            Errno::EMFILE => "raise the limit of open files: ulimit -n, LimitNOFILE=",
            Errno::ENFILE => "raise the limit of the host's open files: fs.file-max",
            Errno::ENOMEM => "there must be more memory: of the host, or of its cgroup",
            _ => return self,
        };
        let limit = true;
        Error { limit, ..self }.advise(remedy)
    }

    /// Whether it is a limit that was reached, and not what the host lacks.
    pub fn is_limit(&self) -> bool {
        self.limit
    }

    /// What failed, on what, and why.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What to do about it; empty where nothing can be advised.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        self.kind as u8
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// `why; remedy`
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        match self.remedy.as_str() {
            "" => Ok(()),
            remedy => write!(f, "; {remedy}"),
        }
    }
}

impl std::error::Error for Error {}
