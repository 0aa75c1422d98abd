//! What the search at the start goes without, and the words for it.
//!
//! Contract: a run's start and the preflight say it in the same words.

use crate::error::{Error, Kind};
use crate::sys::Errno;
use std::fmt;

/// Something that could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// No process can be looked at.
    NoProc(Errno),
    /// Of some network namespace, at least, the sockets could not be listed.
    Unlisted(Unlisted),
    /// Other network namespaces can't be entered.
    OneNamespace,
    /// The numbers of processes in /proc are not the kernel's.
    OwnPids,
    /// So many processes' descriptors can't be seen: their folder takes
    /// CAP_DAC_READ_SEARCH, and what is in it CAP_SYS_PTRACE, which is not enough
    /// for every security module (v6.12 fs/proc/fd.c, fs/proc/base.c,
    /// proc_fd_access_allowed).
    Denied {
        /// How many.
        processes: u32,
        /// Whether both capabilities were there.
        allowed: bool,
    },
    /// So many connections found no room.
    Beyond(u64),
    /// So many listeners found no room.
    ListenersBeyond(u64),
    /// Something could not be opened or read for want of this.
    Short(Errno),
    /// There was no time for all.
    LeftOut {
        /// Network namespaces whose sockets were not, or not all, listed.
        namespaces: u32,
        /// Processes whose descriptors were not, or not all, looked at.
        processes: u32,
        /// The descriptors of these.
        descriptors: u64,
    },
    /// The helper that searches could not be started, or did not end well.
    Broken(Errno),
}

/// Why a network namespace's sockets are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// This process can't tell its own one: `/proc/thread-self/ns/net`.
    Namespace(Errno),
    /// Socket diagnosis failed.
    Diag(Errno),
    /// Its answer makes no sense.
    Answer,
}

impl Lack {
    /// What, why, and what to do.
    pub fn error(&self) -> Error {
        match *self {
            Lack::NoProc(errno) => no_proc(errno),
            Lack::Unlisted(why) => unlisted(why),
            Lack::OneNamespace => Error::new(
                Kind::Permission,
                "without CAP_SYS_ADMIN only this network namespace is searched for what was open \
                 before the start",
            )
            .advise("run as root or with CAP_SYS_ADMIN"),
            Lack::OwnPids => Error::new(
                Kind::Unsupported,
                "in a PID namespace of its own it can't tell whose the sockets are that were open \
                 before the start",
            )
            .advise("start it in the host's (docker run --pid host)"),
            Lack::Denied { processes, allowed } => Error::new(
                Kind::Permission,
                format!(
                    "{processes} processes may not be looked into: of what was open before the \
                     start, their sockets are nobody's"
                ),
            )
            .advise(match allowed {
                true => {
                    "the security policy (AppArmor, SELinux, Landlock) must let it read them (ptrace)"
                }
                false => "run as root or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
            }),
            Lack::Beyond(connections) => Error::new(
                Kind::Runtime,
                format!(
                    "{connections} more connections are open than --connections-max has room for: whose \
                     they are is not known"
                ),
            ),
            Lack::ListenersBeyond(listeners) => Error::new(
                Kind::Runtime,
                format!(
                    "{listeners} more listeners are open than there is room for: whose their \
                     connections are is not known"
                ),
            ),
            Lack::Short(errno) => Error::new(
                Kind::Runtime,
                format!(
                    "the search for what was open before the start ran out of what it needs \
                     ({errno}): some of it is not known"
                ),
            )
            .or_limit(errno),
            Lack::LeftOut {
                namespaces,
                processes,
                descriptors,
            } => left_out(namespaces, processes, descriptors),
            Lack::Broken(errno) => Error::new(
                Kind::Runtime,
                format!(
                    "the search for what was open before the start broke off ({errno}): not all \
                     of it is known"
                ),
            )
            .or_limit(errno),
        }
    }

    /// Whether it is more than what a host simply does not give.
    pub fn is_failure(&self) -> bool {
        matches!(self, Lack::Unlisted(_) | Lack::Short(_) | Lack::Broken(_))
    }
}

/// `note: …` or `warning: …`
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_failure() { "warning" } else { "note" };
        write!(f, "{word}: {}", self.error())
    }
}

fn no_proc(errno: Errno) -> Error {
    let why = format!("no /proc ({errno}): what was open before the start is not known");
    let (kind, remedy) = match errno {
        // What is looked for in it is not there, or not a /proc.
        Errno::ENOENT | Errno::ENOTDIR => (Kind::Unsupported, "mount it: mount -t proc proc /proc"),
        Errno::EACCES | Errno::EPERM => (
            Kind::Permission,
            "the security policy (AppArmor, SELinux, Landlock) must let it read /proc",
        ),
        _ => (Kind::Runtime, ""),
    };
    Error::new(kind, why).advise(remedy).or_limit(errno)
}

fn unlisted(why: Unlisted) -> Error {
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
    let (why, errno) = match why {
        Unlisted::Namespace(errno) => (format!("/proc/thread-self/ns/net: {errno}"), errno),
        Unlisted::Diag(errno) => (errno.to_string(), errno),
        Unlisted::Answer => ("its answer makes no sense".into(), Errno::EIO),
    };
    let why = format!("cannot list all sockets that were open before the start (sock_diag: {why})");
    Error::new(kind, why).advise(remedy).or_limit(errno)
}

fn left_out(namespaces: u32, processes: u32, descriptors: u64) -> Error {
    let mut what = String::new();
    if namespaces > 0 {
        what = format!("the sockets of {namespaces} network namespaces");
    }
    if processes > 0 {
        let and = if what.is_empty() { "" } else { ", and " };
        what += &format!("{and}{processes} processes with {descriptors} descriptors");
    }
    let why = format!(
        "there was no time to look at all that was open before the start: left out are {what}"
    );
    Error::new(Kind::Runtime, why)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const ALL: [Lack; 12] = [
        Lack::NoProc(Errno::ENOENT),
        Lack::Unlisted(Unlisted::Namespace(Errno::EACCES)),
        Lack::Unlisted(Unlisted::Diag(Errno::ENOENT)),
        Lack::Unlisted(Unlisted::Answer),
        Lack::OneNamespace,
        Lack::OwnPids,
        Lack::Denied {
            processes: 7,
            allowed: true,
        },
        Lack::Beyond(7),
        Lack::ListenersBeyond(7),
        Lack::Short(Errno::EMFILE),
        Lack::LeftOut {
            namespaces: 3,
            processes: 7,
            descriptors: 140_000,
        },
        Lack::Broken(Errno::EPIPE),
    ];

    #[test]
    fn what_is_said_is_one_line() {
        let starts = [
            "note: no /proc (ENOENT",
            "warning: cannot list all",
            "warning: cannot list all",
            "warning: cannot list all",
            "note: without CAP_SYS_ADMIN",
            "note: in a PID namespace",
            "note: 7 processes",
            "note: 7 more connections",
            "note: 7 more listeners",
            "warning: the search for what was open before the start ran out",
            "note: there was no time",
            "warning: the search for what was open before the start broke off",
        ];
        for (lack, start) in ALL.iter().zip(starts) {
            let text = lack.to_string();
            assert!(text.starts_with(start) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn what_is_left_out_is_numbered() {
        let text = ALL[10].to_string();
        let end = "left out are the sockets of 3 network namespaces, and 7 processes with 140000 \
                   descriptors";
        assert!(text.ends_with(end), "{text}");
        assert!(
            left_out(0, 2, 9)
                .why()
                .ends_with("left out are 2 processes with 9 descriptors")
        );
        assert!(
            left_out(1, 0, 0)
                .why()
                .ends_with("left out are the sockets of 1 network namespaces")
        );
    }

    #[test]
    fn a_remedy_helps_against_what_is_in_the_way() {
        let remedy = |lack: Lack| lack.error().remedy().to_owned();
        for lack in [Lack::NoProc, Lack::Short, Lack::Broken] {
            assert!(remedy(lack(Errno::EMFILE)).contains("ulimit -n"));
            assert!(remedy(lack(Errno::ENFILE)).contains("fs.file-max"));
            assert!(!remedy(lack(Errno::ENOMEM)).contains("mount"));
        }
        assert!(remedy(Lack::NoProc(Errno::ENOENT)).contains("mount -t proc"));
        let diag = |errno| remedy(Lack::Unlisted(Unlisted::Diag(errno)));
        assert!(diag(Errno::EMFILE).contains("ulimit -n"));
        assert!(diag(Errno::ENOENT).contains("tcp_diag"));
    }

    #[test]
    fn an_absent_protocol_is_not_a_refused_one() {
        let kind = |errno| unlisted(Unlisted::Diag(errno)).kind();
        assert_eq!(kind(Errno::ENOENT), Kind::Unsupported);
        assert_eq!(kind(Errno::EPERM), Kind::Permission);
        assert_eq!(kind(Errno::ENOMEM), Kind::Runtime);
    }
}
