//! The filter of the command line: its flags and free arguments, and its help.
//!
//! Contract: what comes out can be judged by.

use crate::bpf::guard::is_too_long;
use crate::error::{Error, Kind};
use crate::filter::eval::Judge;
use crate::filter::parse::{LENGTH, parse};
use crate::filter::tree::Expr;
use crate::filter::{Flags, Mistake, Names};
use crate::host::{cgroup, user};
use crate::model::text::printable;
use crate::output::place;
use crate::sys::{self, Errno, file, folder};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, statfs};
use std::os::fd::OwnedFd;

/// The file system of namespaces (include/uapi/linux/magic.h).
const NSFS_MAGIC: u32 = 0x6e73_6673;

/// Names as this host has them.
pub(crate) struct Host;

impl Names for Host {
    fn user(&self, name: &str) -> Result<u32, String> {
        let found = user::find(name).map(|user| user.uid);
        found.map_err(|error| error.why().to_string())
    }

    fn cgroup(&self, path: &str) -> Result<u64, String> {
        cgroup::find(path).ok_or_else(|| "no cgroup of version 2 has this path".into())
    }

    fn netns(&self, path: &str) -> Result<u32, String> {
        let kind = statfs(path).map_err(|errno| Errno::from(errno).to_string())?;
        let inode = file::inode(path).and_then(|inode| u32::try_from(inode).ok());
        let of_namespaces = kind.filesystem_type() == FsType(NSFS_MAGIC as _);
        inode
            .filter(|_| of_namespaces)
            .ok_or_else(|| "this is no file of a network namespace".into())
    }
}

/// Names as they were at the start, for who can't ask any more.
pub(crate) struct Held {
    passwd: Vec<u8>,
}

impl Held {
    /// As they are now.
    pub(crate) fn now() -> Held {
        Held {
            passwd: user::passwd().unwrap_or_default(),
        }
    }
}

impl Names for Held {
    fn user(&self, name: &str) -> Result<u32, String> {
        let found = user::look_up(&self.passwd, name).map(|user| user.uid);
        found.ok_or_else(|| "no user had this name at the start: give its number".into())
    }

    fn cgroup(&self, _: &str) -> Result<u64, String> {
        Err("this can't be looked up in the sandbox: give its id, by ls -di PATH".into())
    }

    fn netns(&self, _: &str) -> Result<u32, String> {
        Err("this can't be looked up in the sandbox: give its number, by ls -Li FILE".into())
    }
}

/// An expression that a text stands for, with what must match, too; else what is
/// wrong. `file` is where the text is from.
fn read(text: &str, file: Option<&str>, base: &Expr, names: &dyn Names) -> Result<Expr, String> {
    let expr = parse(text, names).map_err(|mistake: Mistake| mistake.show(text, file))?;
    let expr = Expr::and([base.clone(), expr]);
    if let Err(why) = Judge::new(&expr) {
        return Err(["filter: ", why].concat());
    }
    is_too_long(&expr).map_or(Ok(expr), Err)
}

fn usage(why: String) -> Error {
    Error::new(Kind::Usage, why + "\n  see socket-snoop --help filter")
}

/// What the command line asks for.
pub(super) fn of(flags: &Flags, words: &[String]) -> Result<Expr, Error> {
    read(&words.join(" "), None, &flags.expr(), &Host).map_err(usage)
}

/// The same with what is in a file, too; else what is wrong with that.
pub(crate) fn of_file(
    path: &str,
    text: &[u8],
    base: &Expr,
    names: Option<&dyn Names>,
) -> Result<Expr, String> {
    // As editors of other systems write it.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match std::str::from_utf8(text) {
        Ok(text) => read(text, Some(path), base, names.unwrap_or(&Host)),
        Err(_) => Err([&printable(path), ": the filter is not valid UTF-8"].concat()),
    }
}

/// What the command line and this file ask for.
pub(super) fn with_file(path: Option<&str>, base: &Expr) -> Result<Expr, Error> {
    let Some(path) = path else {
        return Ok(base.clone());
    };
    let read = || -> sys::Result<Option<Vec<u8>>> {
        let place = place::find(path)?;
        let file = place.open(FLAGS)?;
        if !may_be_read(&file, place.magic)? {
            return Ok(None);
        }
        file::rest(&file, LENGTH + 1).map(Some)
    };
    let why = match read() {
        Ok(Some(text)) => return of_file(path, &text, base, None).map_err(usage),
        Ok(None) => NO_FILE.to_owned(),
        Err(errno) => [": ", &errno.to_string()].concat(),
    };
    let what = ["cannot read the filter ", &printable(path), &why].concat();
    Err(Error::new(Kind::Usage, what))
}

/// Said of what is no file of its own.
pub(crate) const NO_FILE: &str =
    ": it is no regular file (a pipe can be given as /dev/stdin, or as <(...) by the shell)";

/// How a filter's file is opened: nothing is waited for.
pub(crate) const FLAGS: OFlag = OFlag::from_bits_retain(folder::READING);

/// Whether what was opened so is read: a regular file, or what was `given` as a
/// descriptor, which is waited for.
pub(crate) fn may_be_read(file: &OwnedFd, given: bool) -> sys::Result<bool> {
    let kind = place::kind(&fstat(file)?);
    if kind == libc::S_IFREG || !given || kind == libc::S_IFDIR {
        return Ok(kind == libc::S_IFREG);
    }
    fcntl(file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(true)
}

/// What a filter can ask for.
pub(super) const HELP: &str = "\
A filter says what is shown. It stands behind the options, as with tcpdump and ss:

  socket-snoop 'dst port 443 and not net 10.0.0.0/8 and comm curl'

Conditions are joined by and (&&), or (||), not (!) and parentheses. Two side by side are
joined by and. Where both and and or occur, parentheses must say what is meant. Several values
stand in braces: port { 80, 443, 8000-8100 }. A value alone is of what was asked for last:
port 80 or 443. Signs: = == != < <= > >=, or eq ne lt le gt ge. Units: ns us ms s m h, K M G T.

Of the connection; what is not known at once (a client's port) is waited for:
  host A, net A/N, port P, portrange P-P         either end
  src ..., local ..., sport = :P                 this host's end (to tcpdump: the sender's)
  dst ..., peer ..., dport >= 1024               the peer's end
  dst 10.0.0.0/8:443, src [2001:db8::1]:22       address and port of one end, IPv6 in brackets
  ip, ip6, tcp                                   IP version; tcp is everything
  incoming, outgoing, loopback                   who opened it; either end is loopback
  netns N|FILE                                   network namespace, such as /run/netns/NAME
Of its owner, which may become known later, or change:
  pid N, tree N                                  process; with all its descendants
  comm NAME, comm NAME*                          its name (the kernel keeps 15 bytes)
  uid N|NAME, owner none                         its user; nobody is known to own it
  cgroup PATH, container ID                      its cgroup, or one below; 12 digits or more
Of each event:
  event state, event retransmit, event connection  its kind; connection is the last record
  from STATE, to STATE                           a change
  state STATE, exclude STATE                     the state that it leaves the socket in; also
                                                 connected, synchronized, bucket, big, all
Of the record of a connection that has ended; with these, nothing but records is shown:
  cause NAME, failures                           why it ended; all that is no orderly end
  duration > 1s, rtt > 50ms, bytes > 1M, retransmits > 0

Examples:
  port 443
  dst port 443
  dport = :443
  host 10.0.0.5
  dst net 10.0.0.0/8
  not port 22
  state established
  ( dport = :ssh or sport = :ssh )
  pid 1234
  comm nginx
  not ( src net 10.0.0.0/8 and dst net 10.0.0.0/8 )
  cause refused or cause timed_out
";
