//! Becoming another user: who that is, and how.
//!
//! Contract: names are looked up in /etc/passwd and /etc/group alone, by hand: there
//! is no other program, library or service that is asked. Their text is not trusted.

use crate::error::{Error, Kind};
use crate::model::text::{is_digits, printable};
use crate::sys::{self, Errno, caps, file, ids};
use std::fs::{File, Metadata};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, fchown};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// The most that is read of either, in bytes.
const LIMIT: usize = 16 << 20;

/// A user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The user of this name or number. A number need not be in /etc/passwd: its
/// group is then of the same number.
pub(crate) fn find(who: &str) -> Result<User, Error> {
    let read = passwd();
    if let Some(user) = look_up(read.as_deref().unwrap_or_default(), who) {
        return Ok(user);
    }
    let shown = printable(who);
    let why = match read {
        Ok(_) => format!("no user {shown} in {PASSWD}"),
        Err(errno) => format!("cannot look up the user {shown} in {PASSWD} ({errno})"),
    };
    Err(Error::new(Kind::Usage, why).advise("give the number of a user"))
}

/// The text of /etc/passwd.
pub(crate) fn passwd() -> sys::Result<Vec<u8>> {
    file::read(PASSWD, LIMIT)
}

/// A number that stands for a user: not that of nobody at all (-1).
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| is_digits(text))?;
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// The group of the user of this number, where /etc/passwd has one.
pub(crate) fn group(uid: u32) -> Option<u32> {
    let passwd = passwd().ok()?;
    Some(entry(&passwd, &[], Some(uid))?.gid)
}

/// The groups that the user of this name is in by /etc/group, of which there need be
/// none, and the one that it has; else why they can't be told.
pub(crate) fn groups(name: &[u8], gid: u32) -> Result<Vec<u32>, String> {
    let text = match file::read(GROUP, LIMIT) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Vec::new(),
        text => {
            text.map_err(|errno| format!("cannot read its user's groups in {GROUP} ({errno})"))?
        }
    };
    Ok(member(&text, name, gid))
}

/// The same in that text.
fn member(group: &[u8], name: &[u8], gid: u32) -> Vec<u32> {
    let mut found = vec![gid];
    for line in group.split(|&b| b == b'\n') {
        // group(5): name, password, group, members.
        let mut fields = line.split(|&b| b == b':').skip(2);
        let (id, members) = (fields.next().and_then(number), fields.next());
        let mut members = members.unwrap_or_default().split(|&b| b == b',');
        if let Some(id) = id.filter(|id| !found.contains(id)) {
            if !name.is_empty() && members.any(|member| member == name) {
                found.push(id);
            }
        }
    }
    found
}

/// The user of this name or number in that text.
pub(crate) fn look_up(passwd: &[u8], who: &str) -> Option<User> {
    let wanted = number(who.as_bytes());
    let found = entry(passwd, who.as_bytes(), wanted);
    found.or(wanted.map(|uid| User { uid, gid: uid }))
}

/// What stands there of the user of this number, else of this name.
fn entry(passwd: &[u8], who: &[u8], wanted: Option<u32>) -> Option<User> {
    let users = passwd.split(|&b| b == b'\n').filter_map(|line| {
        // passwd(5): name, password, user, group.
        let mut fields = line.split(|&b| b == b':');
        let (name, _) = (fields.next()?, fields.next()?);
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        Some((name, User { uid, gid }))
    });
    let mut users = users.filter(|(name, user)| match wanted {
        Some(uid) => user.uid == uid,
        None => !name.is_empty() && *name == who,
    });
    users.next().map(|(_, user)| user)
}

/// A log, where it is there, and its folder.
pub(crate) type LogPlace<'a> = (Option<BorrowedFd<'a>>, BorrowedFd<'a>);

impl User {
    /// Becomes this user for ever, in no other group than its own. Capabilities
    /// stay as they are. A log of our own in a folder of the user's, with one name, is
    /// given to it.
    pub fn become_it(&self, log: Option<LogPlace<'_>>) -> Result<(), Error> {
        self.change(log).map_err(|errno| {
            let why = format!("cannot become the user {} ({errno})", self.uid);
            Error::new(Kind::Permission, why)
                .advise("run as root or with CAP_SETUID and CAP_SETGID")
        })
    }

    fn change(&self, log: Option<LogPlace<'_>>) -> sys::Result<()> {
        if let Some((Some(file), folder)) = log {
            let of = |fd: BorrowedFd<'_>| {
                let fd = fd.try_clone_to_owned().ok()?;
                File::from(fd).metadata().ok()
            };
            let theirs = of(folder).is_some_and(|meta| meta.uid() == self.uid);
            // With another name it may be any file, to which its user has made a link.
            let us = nix::unistd::geteuid().as_raw();
            let single = |meta: Metadata| meta.is_file() && meta.nlink() == 1 && meta.uid() == us;
            if theirs && of(file).is_some_and(single) {
                // It can be written as it is, if not opened again.
                let _ = fchown(file, Some(self.uid), Some(self.gid));
            }
        }
        let before = caps::effective()?;
        caps::keep_with_user(true)?;
        ids::change(self.uid, self.gid, &[])?;
        caps::keep_with_user(false)?;
        caps::set_effective(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# a comment\n\nbroken:x:1\n\
        7:x:70:71::/:\nsnoop:x:990:980::/:/bin/false\n\xff\xfe:x:5:6::\nnone:x:4294967295:1::\n\
        :x:12:12::\nbad:x:-1:0::\nbad:x:+1:0::\n";

    fn ids(who: &str) -> Option<(u32, u32)> {
        look_up(TEXT, who).map(|user| (user.uid, user.gid))
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(ids("root"), Some((0, 0)));
        assert_eq!(ids("snoop"), Some((990, 980)));
        assert_eq!(ids("990"), Some((990, 980)));
        // A number is a number, whatever somebody is called.
        assert_eq!(ids("7"), Some((7, 7)));
        assert_eq!(ids("4294967294"), Some((4294967294, 4294967294)));
        assert_eq!(entry(TEXT, b"", Some(990)).map(|user| user.gid), Some(980));
        assert_eq!(entry(TEXT, b"", Some(4242)), None);
        for nobody in [
            "",
            "broken",
            "none",
            "bad",
            "snoo",
            "4294967295",
            "-1",
            "+1",
            "# a comment",
        ] {
            assert_eq!(ids(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn groups_of_a_member() {
        let text = b"root:x:0:\nadm:x:4:snoop,syslog\nsnoop:x:980:snoop\nbroken:x\n# snoop\n\
            a:x:bad:snoop\nnone:x:4294967295:snoop\nwheel:x:10:rootsnoop,snoo,snoop\nb:x:10:snoop\n\
            \xff:x:11:snoop\nempty:x:12:,\nspace:x:13: snoop\nlast:x:14:x,snoop";
        assert_eq!(member(text, b"snoop", 980), [980, 4, 10, 11, 14]);
        assert_eq!(member(text, b"syslog", 5), [5, 4]);
        for nobody in [&b""[..], b"root", b"snoop,syslog"] {
            assert_eq!(member(text, nobody, 7), [7]);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in prop::collection::vec(any::<u8>(), 0..200), who in ".{0,8}") {
            look_up(&text, &who);
            member(&text, who.as_bytes(), 0);
        }
    }
}
