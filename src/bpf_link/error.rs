//! Why a program can't be completed for a host.

use std::fmt;

/// Why a program does not fit the host. The text is one line.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinkError {
    /// The record lacks a field that the program can't do without.
    MissingField {
        /// The field.
        field: String,
        /// The tracepoint, as `group:event`.
        tracepoint: String,
    },
    /// A field has a size that the program can't read.
    Width {
        /// The field.
        field: String,
        /// The sizes it could be read with, in bytes.
        wanted: Vec<u16>,
        /// The size it has, in bytes.
        has: u16,
    },
    /// A field lies where no load reaches: in the first 8 bytes, or beyond 32767.
    Offset {
        /// The field.
        field: String,
        /// Its offset in the record.
        offset: u16,
    },
    /// A number's offset is not a multiple of its size.
    Alignment {
        /// The field.
        field: String,
        /// Its offset in the record.
        offset: u16,
        /// Its size in bytes.
        size: u16,
    },
    /// The host has no map of that name.
    UnknownMap(String),
    /// A jump over more instructions than its 16 bits can say.
    JumpRange {
        /// The jump's place, counted in slots from 0.
        at: usize,
        /// Its distance.
        distance: i64,
    },
    /// The template itself makes no sense at that item.
    Broken(usize),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::MissingField { field, tracepoint } => {
                write!(
                    f,
                    "tracepoint {tracepoint} has no field '{field}', which the program needs"
                )
            }
            LinkError::Width { field, wanted, has } => {
                write!(f, "field '{field}' has {has} bytes, but the program reads ")?;
                for (n, width) in wanted.iter().enumerate() {
                    write!(f, "{}{width}", if n > 0 { " or " } else { "" })?;
                }
                Ok(())
            }
            LinkError::Offset { field, offset } => {
                write!(
                    f,
                    "field '{field}' lies at byte {offset}: programs can read from byte 8 up to 32767 only"
                )
            }
            LinkError::Alignment {
                field,
                offset,
                size,
            } => {
                write!(
                    f,
                    "field '{field}' lies at byte {offset}, not a multiple of its {size} bytes: it can't be read"
                )
            }
            LinkError::UnknownMap(map) => write!(f, "no map '{map}' has been made for the program"),
            LinkError::JumpRange { at, distance } => {
                write!(
                    f,
                    "jump at instruction {at} goes over {distance} instructions: only -32768 to 32767 are possible"
                )
            }
            LinkError::Broken(item) => write!(
                f,
                "the program's item {item} refers to something that is not there"
            ),
        }
    }
}

impl std::error::Error for LinkError {}
