//! `NAME=value` words that several lines of the log share.
//!
//! Contract: a word is a space, its name, and a value without spaces or in quotes.

use super::format::Shape;
use super::{escape, keys};
use crate::model::event::Owner;
use crate::model::tcp::State;
use crate::model::text;
use crate::sys::append::{append, append_padded};

/// ` STATE=` and what the log line calls each state, with its length behind it.
static STATES: [[u8; 42]; State::ALL.len()] = {
    let (mut all, mut n) = ([[0; 42]; State::ALL.len()], 0);
    while n < State::ALL.len() {
        let parts = &[STATE, State::ALL[n].description()];
        let mut place: [u8; 42] = keys::join(parts);
        place[41] = keys::length(parts) as u8;
        all[n] = place;
        n += 1;
    }
    all
};
const STATE: &str = " STATE=";

/// ` STATE=` and the state.
#[inline(always)]
pub(super) fn state(out: &mut Vec<u8>, state: State) {
    let text = &STATES[state as usize - 1];
    append_padded(out, text, usize::from(text[41]));
}

/// [`State::description`].
pub(super) fn description(state: State) -> &'static [u8] {
    let text = &STATES[state as usize - 1];
    let all = text.get(..usize::from(text[41])).unwrap_or_default();
    all.get(STATE.len()..).unwrap_or_default()
}

/// A number, if it is known, behind a word such as ` SENT=`.
pub(super) fn known(out: &mut Vec<u8>, word: &str, value: Option<u64>) {
    if let Some(value) = value {
        text::number_behind(out, word.as_bytes(), value);
    }
}

/// ` PID=… COMM=…` of an owner; `PID=0 COMM=-` where it isn't known.
#[inline]
pub(super) fn owner(out: &mut Vec<u8>, owner: Option<&Owner>) {
    let pid = owner.map_or(0, |o| u64::from(o.task.pid));
    text::number_behind(out, b" PID=", pid);
    append(out, b" COMM=");
    match owner {
        Some(owner) => escape::comm(out, owner.task.comm()),
        None => out.push(b'-'),
    }
}

/// ` NETNS=… UID=…` where a socket is in another network namespace than this
/// process: there, the addresses are whatever its user likes. The user is left
/// out where it isn't known, and so is all where this process's own isn't.
#[inline]
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
    text::number_behind(out, b" NETNS=", netns.into());
    if let Some(uid) = owner.and_then(|owner| owner.task.uid) {
        text::number_behind(out, b" UID=", uid.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_what_they_are_called() {
        for of in State::ALL {
            let mut out = Vec::new();
            state(&mut out, of);
            let text = format!(" STATE={}", of.description());
            assert_eq!(out, text.as_bytes());
            assert_eq!(description(of), of.description().as_bytes());
        }
    }
}
