//! `-- COMMAND ARG…`: a command whose sockets, and those of its descendants, are
//! shown.
//!
//! Contract: it is started before anything else is done, and runs once everything
//! is attached and the doors are shut; a run ends with it, and has its exit code
//! where nothing of its own failed. It runs as the user who called through sudo,
//! or as the one that was asked for.

use crate::error::{Error, Kind};
use crate::host::user::{self, User};
use crate::model::text::printable;
use crate::output::notice::notice;
use crate::sys::command::{Held, RunAs, texts};
use crate::sys::file;
use nix::unistd::{AccessFlags, access};
use std::env;
use std::os::unix::ffi::OsStrExt;

/// Where commands are looked for if nothing else is said (execvp(3)).
const PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// How long a run that is told to stop waits for its command, in nanoseconds:
/// Ctrl-C goes to both.
pub(super) const PARTING: u64 = 1_000_000_000;

/// Starts it, and holds it back. `words` are its name and its arguments.
pub(super) fn start(words: &[String], user: Option<User>) -> Result<Held, Error> {
    let shown = printable(&words[0]);
    let failed = |why: &str| Error::new(Kind::Usage, format!("cannot run {shown}: {why}"));
    if !is_there(&words[0]) {
        return Err(failed(
            match words[0].contains('/') && file::status(words[0].as_ref()).is_ok() {
                true => "it is no file that can be executed",
                false => "no such command",
            },
        ));
    }
    let words = texts(words).ok_or_else(|| failed("a NUL in its arguments"))?;
    let user = user.map(|user| RunAs {
        uid: user.uid,
        gid: user.gid,
        groups: vec![user.gid],
    });
    let user = match user {
        Some(user) => Some(user),
        None => caller().map_err(|why| failed(&why))?,
    };
    let say = |what: &str, errno| notice(&format!("{shown} can't {what} ({errno})"));
    Held::start(&words, user.as_ref(), &say)
        .map_err(|errno| Error::new(Kind::Runtime, format!("cannot start {shown} ({errno})")))
}

/// Who called, where that was through sudo(8); else why that can't be told: then it is
/// not run as root.
fn caller() -> Result<Option<RunAs>, String> {
    let Some(uid) = env::var_os("SUDO_UID") else {
        return Ok(None);
    };
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let uid = user::number(uid.as_bytes());
    let own = || user::group(uid?);
    let gid = env::var_os("SUDO_GID").and_then(|gid| user::number(gid.as_bytes()));
    let (Some(uid), Some(gid)) = (uid, gid.or_else(own)) else {
        return Err(
            "SUDO_UID and SUDO_GID don't say who called; say it by --user, or unset them".into(),
        );
    };
    let name = env::var_os("SUDO_USER").unwrap_or_default();
    let groups = user::groups(name.as_bytes(), gid)?;
    Ok(Some(RunAs { uid, gid, groups }))
}

/// Whether execvp(3) will find it.
fn is_there(name: &str) -> bool {
    let runs =
        |path: &str| file::is_regular(path.as_ref()) && access(path, AccessFlags::X_OK).is_ok();
    if name.contains('/') {
        return runs(name);
    }
    let path = env::var("PATH").unwrap_or_else(|_| PATH.into());
    // An empty one is the folder that this runs in.
    let slash = |folder: &str| if folder.is_empty() { "" } else { "/" };
    let found = |folder: &str| runs(&[folder, slash(folder), name].concat());
    !name.is_empty() && path.split(':').any(found)
}
