//! `NAME=value` words that several lines of the log share.
//!
//! Contract: a word is a space, its name, and a value without spaces or in quotes.

use super::escape;
use super::format::Shape;
use crate::model::event::Owner;
use crate::model::text;
use crate::sys::append::append;

/// Those of these numbers that are known, by words such as ` SENT=`.
pub(super) fn numbers(out: &mut Vec<u8>, all: &[(&str, Option<u64>)]) {
    for (name, value) in all {
        if let Some(value) = *value {
            append(out, name.as_bytes());
            text::number(out, value);
        }
    }
}

/// ` PID=… COMM=…` of an owner; `PID=0 COMM=-` where it isn't known.
pub(super) fn owner(out: &mut Vec<u8>, owner: Option<&Owner>) {
    append(out, b" PID=");
    text::number(out, owner.map_or(0, |o| u64::from(o.task.pid)));
    append(out, b" COMM=");
    match owner {
        Some(owner) => escape::comm(out, owner.task.comm()),
        None => out.push(b'-'),
    }
}

/// ` NETNS=… UID=…` where a socket is in another network namespace than this
/// process: there, the addresses are whatever its user likes. The user is left
/// out where it isn't known, and so is all where this process's own isn't.
pub(super) fn elsewhere(
    out: &mut Vec<u8>,
    shape: Shape,
    netns: Option<u32>,
    owner: Option<&Owner>,
) {
    let (Some(netns), Some(own)) = (netns, shape.netns) else {
        return;
    };
    if netns == own {
        return;
    }
    append(out, b" NETNS=");
    text::number(out, netns.into());
    if let Some(uid) = owner.and_then(|owner| owner.task.uid) {
        append(out, b" UID=");
        text::number(out, uid.into());
    }
}
