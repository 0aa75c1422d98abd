//! What a run comes to: counts, and groups of connections.
//!
//! Contract: memory is bounded whatever comes (see [`super::tally`]).

use super::connection::Connection;
use super::ended::Ended;
use super::tally::{self, Groups, Key, One};
use crate::model::cause::Cause;

/// What all connections that were shown come to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Connections whose beginning was seen.
    pub opened: u64,
    /// Of these, those that were answered.
    pub established: u64,
    /// Connections refused.
    pub refused: u64,
    /// Attempts that were never answered, and ended by the program itself.
    pub given_up: u64,
    /// Connections reset, by either side.
    pub reset: u64,
    /// Connections that have not ended.
    pub open: u64,
    /// By process; without those whose process isn't known.
    pub(crate) processes: Groups,
    /// By peer.
    pub(crate) peers: Groups,
    /// By port; without those of which it isn't known who opened them.
    pub(crate) ports: Groups,
}

impl Totals {
    /// Counts a connection: when it has ended, with its end if that was seen, and at
    /// the end of the run.
    #[inline]
    pub(super) fn add(&mut self, connection: &Connection, ended: Option<&Ended>) {
        if connection.is_listener() || connection.cause() == Some(Cause::Duplicate) {
            return;
        }
        self.opened += u64::from(connection.began());
        self.established += u64::from(connection.was_answered());
        match connection.cause() {
            Some(Cause::Refused) => self.refused += 1,
            Some(Cause::GivenUp) => self.given_up += 1,
            Some(Cause::ResetByPeer | Cause::ResetByUs) => self.reset += 1,
            Some(_) => {}
            None => self.open += 1,
        }
        let owner = connection.owner();
        let process = owner.map(|owner| Key::Process(owner.task.pid, owner.task.name));
        let one = &One::new(connection, ended);
        for (groups, key) in [
            (&mut self.processes, process),
            (&mut self.peers, Some(Key::Peer(connection.peer().addr))),
            (&mut self.ports, tally::port(connection)),
        ] {
            if let Some(key) = key {
                groups.add(key, one);
            }
        }
    }
}
