//! What runs in the kernel: programs completed for this host and loaded, the maps
//! that they share, and what they send and count.
//!
//! Contract: nothing here attaches a program; that is `capture`'s.

pub mod cards;
pub mod changes;
pub(crate) mod debug;
pub mod guard;
pub(crate) mod guarded;
pub mod held;
pub mod layout;
pub(crate) mod load;
pub mod made;
pub mod maps;
pub mod misses;
pub(crate) mod tally;
pub mod wire;
