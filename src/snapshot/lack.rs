//! What the search at the start goes without, and the words for it.
//!
//! Contract: a run's start and the preflight say it in the same words.

use crate::error::{Error, Kind};
use crate::sys::Errno;
use crate::sys::caps::{self, Caps};
use std::fmt;

/// Something that could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What, why, and what to do.
    pub error: Error,
    /// Whether it is more than what a host simply does not give.
    pub is_failure: bool,
}

/// `note: …` or `warning: …`
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_failure { "warning" } else { "note" };
        write!(f, "{word}: {}", self.error)
    }
}

fn lack(kind: Kind, why: impl Into<String>, remedy: &str) -> Lack {
    Lack {
        error: Error::new(kind, why).advise(remedy),
        is_failure: false,
    }
}

/// No process can be looked at.
pub(super) fn no_proc(errno: Errno) -> Lack {
    let why = format!("no /proc ({errno}): what was open before the start is not known");
    lack(Kind::Unsupported, why, "mount it: mount -t proc proc /proc")
}

/// Why a network namespace's sockets are not listed.
pub(super) enum Unlisted {
    /// This process can't tell its own one: `/proc/thread-self/ns/net`.
    Namespace(Errno),
    /// Socket diagnosis failed.
    Diag(Errno),
    /// Its answer makes no sense.
    Answer,
}

/// Of some network namespace, at least, the sockets could not be listed.
pub(super) fn unlisted(why: Unlisted) -> Lack {
    // Without a handler of the protocol the answer is ENOENT (v6.12
    // net/ipv4/inet_diag.c, inet_diag_lock_handler; net/core/sock_diag.c).
    let (kind, remedy) = match why {
        Unlisted::Diag(Errno::ENOENT | Errno::EPROTONOSUPPORT) => (
            Kind::Unsupported,
            "it takes the kernel's tcp_diag (CONFIG_INET_TCP_DIAG): modprobe tcp_diag",
        ),
        Unlisted::Diag(Errno::EPERM | Errno::EACCES) => (
            Kind::Permission,
            "a seccomp filter or the security policy must allow netlink sockets \
             (NETLINK_SOCK_DIAG)",
        ),
        _ => (Kind::Runtime, ""),
    };
    let why = match why {
        Unlisted::Namespace(errno) => format!("/proc/thread-self/ns/net: {errno}"),
        Unlisted::Diag(errno) => errno.to_string(),
        Unlisted::Answer => "its answer makes no sense".into(),
    };
    let why = format!("cannot list all sockets that were open before the start (sock_diag: {why})");
    Lack {
        is_failure: true,
        ..lack(kind, why, remedy)
    }
}

/// Other network namespaces can't be entered.
pub(super) fn one_namespace() -> Lack {
    let why = "without CAP_SYS_ADMIN only this network namespace is searched for what was open \
               before the start";
    lack(Kind::Permission, why, "run as root or with CAP_SYS_ADMIN")
}

/// The numbers of processes in /proc are not the kernel's.
pub(super) fn own_pids() -> Lack {
    let why = "in a PID namespace of its own it can't tell whose the sockets are that were open \
               before the start";
    let remedy = "start it in the host's (docker run --pid host)";
    lack(Kind::Unsupported, why, remedy)
}

/// So many processes' descriptors can't be seen: their folder takes
/// CAP_DAC_READ_SEARCH, and what is in it CAP_SYS_PTRACE, which is not enough for
/// every security module (v6.12 fs/proc/fd.c, fs/proc/base.c,
/// proc_fd_access_allowed).
pub(super) fn denied(processes: u32) -> Lack {
    let why = format!(
        "{processes} processes may not be looked into: of what was open before the start, their \
         sockets are nobody's"
    );
    let needed = Caps::SYS_PTRACE | Caps::DAC_READ_SEARCH;
    let remedy = match caps::effective().is_ok_and(|caps| caps.contains(needed)) {
        true => "the security policy (AppArmor, SELinux, Landlock) must let it read them (ptrace)",
        false => "run as root or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
    };
    lack(Kind::Permission, why, remedy)
}

/// So many connections found no room.
pub(super) fn beyond(connections: u64) -> Lack {
    let why = format!(
        "{connections} more connections are open than --connections-max has room for: whose they are is \
         not known"
    );
    lack(Kind::Runtime, why, "")
}

/// So many listeners found no room.
pub(super) fn listeners_beyond(listeners: u64) -> Lack {
    let why = format!(
        "{listeners} more listeners are open than there is room for: whose their connections are \
         is not known"
    );
    lack(Kind::Runtime, why, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_one_line() {
        for (lack, start) in [
            (no_proc(Errno::ENOENT), "note: no /proc (ENOENT"),
            (one_namespace(), "note: without CAP_SYS_ADMIN"),
            (own_pids(), "note: in a PID namespace"),
            (denied(7), "note: 7 processes"),
            (beyond(7), "note: 7 more connections"),
            (listeners_beyond(7), "note: 7 more listeners"),
            (
                unlisted(Unlisted::Diag(Errno::ENOENT)),
                "warning: cannot list all",
            ),
            (
                unlisted(Unlisted::Namespace(Errno::EACCES)),
                "warning: cannot list all",
            ),
            (unlisted(Unlisted::Answer), "warning: cannot list all"),
        ] {
            let text = lack.to_string();
            assert!(text.starts_with(start) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn an_absent_protocol_is_not_a_refused_one() {
        let kind = |errno| unlisted(Unlisted::Diag(errno)).error.kind();
        assert_eq!(kind(Errno::ENOENT), Kind::Unsupported);
        assert_eq!(kind(Errno::EPERM), Kind::Permission);
        assert_eq!(kind(Errno::ENOMEM), Kind::Runtime);
    }
}
