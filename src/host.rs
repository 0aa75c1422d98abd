//! What the host is asked and told outside of BPF: tasks in /proc, clocks and
//! zones, users, cgroups, precedence, lockdown.

pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod container;
pub(crate) mod lockdown;
pub(crate) mod priority;
pub mod proc;
pub mod symbols;
pub mod timens;
pub(crate) mod user;
pub mod zone;
