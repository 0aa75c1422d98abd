//! Error numbers, their names and what they mean.
//!
//! nix has all of this too, in tables of pointers that the dynamic relocations
//! of a static-pie make large; this is one string and the C library's texts.
#![allow(unsafe_code, reason = "owns system calls")]

use std::ffi::CStr;
use std::fmt;

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! known {
    ($($name:ident),*) => {
        #[allow(missing_docs, reason = "the names are errno(3)'s")]
        impl Errno {
            $(pub const $name: Errno = Errno(libc::$name);)*
        }
    };
}

known!(
    EPERM,
    ENOENT,
    EINTR,
    EIO,
    E2BIG,
    EAGAIN,
    ENOMEM,
    EACCES,
    EBUSY,
    EEXIST,
    ENODEV,
    ENOTDIR,
    EISDIR,
    EINVAL,
    ENFILE,
    EMFILE,
    EFBIG,
    ENOSPC,
    EPIPE,
    ELOOP,
    ENOSYS,
    EMSGSIZE,
    EPROTONOSUPPORT,
    ECONNRESET,
    ENOBUFS,
    ETIME,
    EHOSTUNREACH
);

/// The names of 1 to 133 in order (include/uapi/asm-generic/errno-base.h and
/// errno.h, which x86 and arm64 use); `-` where a number has none.
const NAMES: &str = "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM \
EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY \
EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY \
ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL \
ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV \
ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD \
ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE \
ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE \
EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN \
ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE \
EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY \
EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON";

impl Errno {
    /// An error of the kernel's own that leaks out of bpf(2): not supported
    /// (include/linux/errno.h).
    pub const ENOTSUPP: Errno = Errno(524);

    /// The error of this name.
    pub(crate) fn named(name: &str) -> Option<Errno> {
        let mut all = NAMES.split(' ').zip(1..);
        let (_, number) = all.find(|(known, _)| *known == name && name != "-")?;
        Some(Errno(number))
    }

    /// The error of the C library call that has just failed. (nix knows only
    /// numbers that have names, and makes others 0.)
    pub fn last() -> Errno {
        Errno::from_io(&std::io::Error::last_os_error())
    }

    /// The error of a failed operation of std; EIO where it names none.
    pub fn from_io(error: &std::io::Error) -> Errno {
        error.raw_os_error().map_or(Errno::EIO, Errno)
    }

    /// Its symbolic name, such as `EBUSY`.
    pub fn name(self) -> Option<&'static str> {
        let index = usize::try_from(self.0).ok()?.checked_sub(1)?;
        NAMES.split(' ').nth(index).filter(|name| *name != "-")
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Errno {
        Errno(errno as i32)
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

/// `EPERM: Operation not permitted`
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Errno::ENOTSUPP {
            return f.write_str("ENOTSUPP: Operation is not supported");
        }
        let Some(name) = self.name() else {
            return write!(f, "error {}", self.0);
        };
        let mut buffer = [0u8; 128];
        // SAFETY: the buffer is as long as the length given; what is written
        // ends in a NUL, and the last byte is one in any case.
        unsafe { libc::strerror_r(self.0, buffer.as_mut_ptr().cast(), buffer.len() - 1) };
        let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
        write!(f, "{name}: {}", text.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_nix() {
        for number in 1..=133 {
            let nix = nix::errno::Errno::from_raw(number);
            match Errno(number).name() {
                Some(name) => assert_eq!(name, format!("{nix:?}"), "{number}"),
                None => assert_eq!(nix, nix::errno::Errno::UnknownErrno, "{number}"),
            }
        }
        assert_eq!((Errno(0).name(), Errno(134).name()), (None, None));
        assert_eq!((Errno(-1).name(), Errno(i32::MAX).name()), (None, None));
    }

    #[test]
    fn a_number_without_a_name_is_kept() {
        for errno in [Errno::ENOTSUPP, Errno::EPERM] {
            // SAFETY: the C library's pointer to this thread's errno is always good.
            unsafe { *libc::__errno_location() = errno.0 };
            assert_eq!(Errno::last(), errno);
        }
    }

    #[test]
    fn texts_are_the_c_librarys() {
        assert_eq!(Errno::EPERM.to_string(), "EPERM: Operation not permitted");
        assert_eq!(Errno(4095).to_string(), "error 4095");
    }
}
