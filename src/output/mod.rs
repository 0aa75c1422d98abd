//! What a person or a program sees: console, log file, report.
//!
//! Contract: standard output carries the data and, in classic format, the
//! headings of the report; everything else goes to standard error. Escaping is
//! all in [`escape`]; formats append whole lines to a buffer and know no file.
//! No reader of any of them can hold up the run.

pub mod classic;
pub(crate) mod connection;
pub(crate) mod ends;
pub(crate) mod escape;
mod format;
pub mod json;
pub(crate) mod keys;
pub mod log;
pub(crate) mod members;
pub(crate) mod metrics;
pub mod notice;
pub(crate) mod open;
mod outlast;
mod owners;
pub(crate) mod picture;
pub(crate) mod place;
pub(crate) mod queue;
pub(crate) mod report;
pub(crate) mod sink;
pub(crate) mod stream;
mod summary;
pub(crate) mod waits;
pub(crate) mod words;
mod writer;

pub use format::{
    Filtered, Format, FormatName, Reasons, Record, Retransmits, Shape, Shown, Summary,
};
pub use picture::{Picture, Visit};
pub use writer::Output;
