//! The kernel's modules for socket diagnosis, which a question loads.
//!
//! Contract: only what was surely not there before is taken out again, and only
//! if nobody uses it.

use crate::sys::file;
use nix::kmod::{DeleteModuleFlags, delete_module};
use std::ffi::CStr;

/// In the order in which they can go: the first one uses the second.
const NAMES: [&CStr; 2] = [c"tcp_diag", c"inet_diag"];

/// Which of them are modules that are loaded.
pub(super) struct Modules(Option<[bool; 2]>);

impl Modules {
    /// Those of this moment.
    pub(super) fn now() -> Modules {
        // Not there where the kernel takes no modules.
        let text = file::text("/proc/modules").ok();
        Modules(text.as_deref().map(loaded))
    }

    /// Takes out those that have come since. Where that is not allowed (it takes
    /// CAP_SYS_MODULE) they stay.
    pub(super) fn restore(&self) {
        let (Some(before), Some(now)) = (self.0, Modules::now().0) else {
            return;
        };
        for ((name, before), now) in NAMES.iter().zip(before).zip(now) {
            if now && !before {
                let _ = delete_module(name, DeleteModuleFlags::O_NONBLOCK);
            }
        }
    }
}

/// Which of them stand in /proc/modules.
fn loaded(modules: &[u8]) -> [bool; 2] {
    NAMES.map(|name| {
        let mut lines = modules.split(|&b| b == b'\n');
        let first = |line: &[u8]| line.split(|&b| b == b' ').next() == Some(name.to_bytes());
        lines.any(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_count() {
        let text = b"mptcp_tcp_diag 1 0 - Live 0x0\ninet_diag 28672 1 tcp_diag, Live 0x0\n";
        assert_eq!(loaded(text), [false, true]);
        let text = b"veth 1 0 - Live 0x0\ntcp_diag 16384 0 - Live 0x0\n";
        assert_eq!(loaded(text), [true, false]);
        assert_eq!(loaded(b""), [false, false]);
    }
}
