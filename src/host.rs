//! What the host is asked and told outside of BPF: tasks in /proc, clocks and
//! zones, users, precedence, lockdown.

pub mod clock;
pub mod lockdown;
pub mod priority;
pub mod proc;
pub mod symbols;
pub mod timens;
pub mod user;
pub mod zone;
