//! What a connection is called.
//!
//! Contract: no two connections have the same name, whatever run they are of.

use crate::model::text;

/// The number tells from this bit on which of several recorded runs it is of: a run has
/// fewer sockets.
pub(crate) const RUN: u32 = 48;

/// Identifies a connection in the output: the same for all events of a socket,
/// and never used again, also not by a later run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    pub(super) run: u64,
    pub(super) number: u64,
}

impl SocketId {
    /// The one of this number, which tells of which of these runs it is.
    #[inline]
    pub(crate) fn of(runs: &[u64], number: u64) -> SocketId {
        let run = runs.get((number >> RUN) as usize);
        let run = run.copied().unwrap_or_default();
        SocketId { run, number }
    }

    /// The number of the connection: no other one here has it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Appends it as text.
    pub fn render(&self, out: &mut Vec<u8>) {
        let (run, number) = self.parts();
        text::hex(out, run);
        text::number_behind(out, b"-", number);
    }

    /// Which run it is of, and its number in that.
    #[inline]
    pub(crate) fn parts(&self) -> (u64, u64) {
        (self.run, self.number & ((1 << RUN) - 1))
    }
}
