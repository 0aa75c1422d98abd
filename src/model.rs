//! Plain values that all rooms share: events, TCP's states and addresses, text.
//!
//! Contract: nothing here asks the kernel for anything.

pub mod ability;
pub(crate) mod cause;
pub mod event;
pub mod hash;
pub(crate) mod lately;
pub mod loss;
pub(crate) mod recent;
pub(crate) mod sieve;
pub(crate) mod sort;
pub(crate) mod table;
pub mod tcp;
pub mod text;
