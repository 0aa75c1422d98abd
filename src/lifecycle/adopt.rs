//! Connections that were open before the start, among those of which events
//! come; see [`crate::lifecycle::existing`].

use super::connection::{Connection, Direction, Seen};
use crate::lifecycle::existing::{Claim, Claimant, Table};
use crate::model::event::{Event, What};
use crate::model::tcp::State;

/// Asks whether a connection, which was there at a time, is among those that
/// existed. True where that turns out now.
#[inline]
pub(super) fn ask(table: &mut Table, connection: &mut Connection, at: u64, closing: bool) -> bool {
    !connection.seen.contains(Seen::SETTLED) && claim(table, connection, at, closing)
}

fn claim(table: &mut Table, connection: &mut Connection, at: u64, closing: bool) -> bool {
    let (local, peer) = (*connection.local(), *connection.peer());
    if local.port == 0 || peer.port == 0 {
        return false;
    }
    let claim = table.claim(&Claimant {
        socket: connection.socket,
        number: connection.number,
        netns: connection.netns(),
        local,
        peer,
        born: connection.born(),
        at,
        closing,
    });
    if let Claim::Is(owner, incoming) = claim {
        if let Some((owner, time)) = owner {
            connection.find_owner(&owner, time);
        }
        if incoming {
            connection.learn_direction(Direction::Incoming);
        }
        connection.seen.set(Seen::EXISTED, !connection.began());
    }
    connection.seen.set(Seen::SETTLED, claim != Claim::NotYet);
    connection.existed()
}

/// Asks at an event of a connection; true where it turns out that it existed.
#[inline]
pub(super) fn meet(table: &mut Table, connection: &mut Connection, event: &Event) -> bool {
    let closing = match event.what {
        What::State { new, .. } => new == State::Close,
        What::Retransmit { .. } => false,
        // Not of this socket, or without its ends.
        _ => return false,
    };
    let existed = ask(table, connection, event.time, closing);
    if closing {
        let (local, peer) = (connection.local(), connection.peer());
        table.closes(local, peer, connection.netns(), event.time);
    }
    existed
}
