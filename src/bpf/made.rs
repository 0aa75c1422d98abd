//! How a map is made, and how a refusal by bpf(2) is told.
//!
//! Contract: what is refused for want of locked memory alone is tried again without that limit.

use crate::error::{Error, Kind};
use crate::sys::bpf::MapType;
use crate::sys::{self, Errno, caps, limits};

/// What a map is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Its name, in bpf-asm/ and in the kernel.
    pub(crate) name: &'static str,
    /// Its type.
    pub(crate) kind: MapType,
    /// Bytes of a key, and of a value.
    pub(crate) sizes: (u32, u32),
    /// Entries.
    pub(crate) entries: u32,
}

/// Runs what may be short of locked memory: kernels before 5.11 charge maps and
/// programs to RLIMIT_MEMLOCK and answer EPERM.
pub fn with_memlock<T>(mut action: impl FnMut() -> sys::Result<T>) -> sys::Result<T> {
    match action() {
        Err(Errno::EPERM) => {
            lift_memlock()?;
            action()
        }
        result => result,
    }
}

/// Takes the limit of locked memory away from this process.
pub fn lift_memlock() -> sys::Result<()> {
    limits::set(limits::MEMLOCK, limits::INFINITY).map_err(|_| Errno::EPERM)
}

/// What a failed call of bpf(2) means to a person; `what` was to be done.
pub fn bpf_error(what: &str, errno: Errno) -> Error {
    let filtered = caps::is_filtered() == Ok(true);
    match errno {
        Errno::EPERM if filtered => Error::new(
            Kind::Permission,
            format!("cannot {what} (bpf: {errno}): a seccomp filter is in force, or a capability is missing"),
        )
        .advise("run it outside of the container or service that sets the filter"),
        Errno::EPERM => Error::new(
            Kind::Permission,
            format!(
                "cannot {what} (bpf: {errno}): a capability of the initial user namespace is \
                 missing, locked memory is limited (ulimit -l), or lockdown forbids it"
            ),
        ),
        Errno::ENOSYS if filtered => Error::new(
            Kind::Unsupported,
            "no bpf(2): this kernel has none (CONFIG_BPF_SYSCALL), or the seccomp filter in force hides it",
        ),
        Errno::ENOSYS => Error::new(
            Kind::Unsupported,
            "this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)",
        ),
        // A command, type, flag or way to attach that it does not know.
        Errno::EINVAL | Errno::E2BIG | Errno::ENOTSUPP => {
            Error::new(Kind::Unsupported, format!("cannot {what} (bpf: {errno})"))
        }
        _ => Error::new(Kind::Runtime, format!("cannot {what} (bpf: {errno})")).or_limit(errno),
    }
}
