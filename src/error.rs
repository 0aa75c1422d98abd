//! What ends a run: one line for a person, and the exit code it stands for.

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
    message: String,
}

impl Error {
    /// An error of this kind; `message` says in one line what failed, on what,
    /// why, and what to do.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
        }
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
