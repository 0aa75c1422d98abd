//! How much memory this machine has.

use nix::sys::sysinfo::sysinfo;

/// All memory that the kernel manages, in bytes (sysinfo(2), no file is read).
/// Where it can't be asked, there is plenty.
pub(crate) fn total() -> u64 {
    sysinfo().map_or(u64::MAX, |info| info.ram_total())
}
