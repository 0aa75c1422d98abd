//! Whose a socket is, how that is known, and until when.
//!
//! Contract: a claim ends when what it rests on ends: a process that has exited
//! owns nothing.

pub(crate) mod learned;
pub(crate) mod lineage;
pub(crate) mod listeners;
pub mod processes;
pub(crate) mod tasks;
pub(crate) mod tracker;
