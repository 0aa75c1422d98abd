//! Whose a socket is, how that is known, and until when.
//!
//! Contract: a claim ends when what it rests on ends: a process that has exited
//! owns nothing.

pub mod learned;
pub mod lineage;
pub mod listeners;
pub mod processes;
pub mod tasks;
pub mod tracker;
