//! What was seen of a connection, a bit each.

use bitflags::bitflags;

bitflags! {
    /// What was seen of it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::lifecycle) struct Seen: u16 {
        /// Its first event.
        const BEGIN = 1 << 0;
        /// That this host opened it.
        const OUTGOING = 1 << 1;
        /// That it is a listener's child.
        const INCOMING = 1 << 2;
        /// That it is a listener.
        const LISTENER = 1 << 3;
        /// Something of it was shown.
        const SHOWN = 1 << 4;
        /// Its end; its record is not made yet.
        const ENDED = 1 << 5;
        /// A reset that ended it and was sent by this host.
        const RESET_SENT = 1 << 6;
        /// Why that was sent.
        const REASON = 1 << 7;
        /// A reset that was received.
        const RESET_RECEIVED = 1 << 8;
        /// Its end was a process's own doing.
        const BY_TASK = 1 << 9;
        /// Whether it is one of those that were found at the start.
        const SETTLED = 1 << 10;
        /// That it is.
        const EXISTED = 1 << 11;
        /// That the reset was sent after the change to CLOSE.
        const RESET_AFTER = 1 << 12;
        /// That a process had it, before its end.
        const OWNED = 1 << 13;
        /// That it was opened.
        const ESTABLISHED = 1 << 14;
        /// That it is another one's second socket.
        const RACED = 1 << 15;
    }
}
