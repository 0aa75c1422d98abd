//! What a connection is called.
//!
//! Contract: no two connections have the same name, whatever run they are of.

use crate::model::text;

/// Identifies a connection in the output: the same for all events of a socket,
/// and never used again, also not by a later run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    pub(super) run: u64,
    pub(super) number: u64,
}

impl SocketId {
    /// The number of the connection in its run.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Appends it as text.
    pub fn render(&self, out: &mut Vec<u8>) {
        text::hex(out, self.run);
        out.push(b'-');
        text::number(out, self.number);
    }
}
