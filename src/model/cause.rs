//! Why a connection ended, and what it is called.
//!
//! Contract: which one it is, is found out where connections are.

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// The peer's host refused it: a reset in answer to the SYN, or an ICMP
    /// message that says so.
    Refused,
    /// It was never answered, and the program ended it itself.
    GivenUp,
    /// Nothing was heard of the peer for too long.
    TimedOut,
    /// There is no way to the peer.
    Unreachable,
    /// An administrator had it killed, as `ss -K` does.
    Aborted,
    /// The peer sent a reset.
    ResetByPeer,
    /// This host sent a reset.
    ResetByUs,
    /// In order, the peer's FIN first.
    ClosedByPeer,
    /// In order, this host's FIN first.
    ClosedByUs,
    /// In order, both FINs under way at once.
    ClosedByBoth,
    /// It waited for its accept until the listener was closed.
    NeverAccepted,
    /// It never was one: the kernel dropped the second socket of one handshake.
    Duplicate,
    /// It can't be told.
    Unknown,
}

impl Cause {
    /// All of them; each is at the place of its number.
    pub const ALL: [Cause; 13] = [
        Cause::Refused,
        Cause::GivenUp,
        Cause::TimedOut,
        Cause::Unreachable,
        Cause::Aborted,
        Cause::ResetByPeer,
        Cause::ResetByUs,
        Cause::ClosedByPeer,
        Cause::ClosedByUs,
        Cause::ClosedByBoth,
        Cause::NeverAccepted,
        Cause::Duplicate,
        Cause::Unknown,
    ];

    /// Its name in the output.
    #[inline]
    pub fn name(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::GivenUp => "given_up",
            Cause::TimedOut => "timed_out",
            Cause::Unreachable => "unreachable",
            Cause::Aborted => "aborted",
            Cause::ResetByPeer => "reset_by_peer",
            Cause::ResetByUs => "reset_by_us",
            Cause::ClosedByPeer => "closed_by_peer",
            Cause::ClosedByUs => "closed_by_us",
            Cause::ClosedByBoth => "closed_by_both",
            Cause::NeverAccepted => "never_accepted",
            Cause::Duplicate => "duplicate",
            Cause::Unknown => "unknown",
        }
    }

    /// What the report calls it.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::GivenUp => "given up",
            Cause::TimedOut => "timed out",
            Cause::Unreachable => "unreachable",
            Cause::Aborted => "aborted",
            Cause::ResetByPeer => "reset by peer",
            Cause::ResetByUs => "reset by us",
            Cause::ClosedByPeer => "closed by peer",
            Cause::ClosedByUs => "closed by us",
            Cause::ClosedByBoth => "closed by both",
            Cause::NeverAccepted => "never accepted",
            Cause::Duplicate => "a second socket of one handshake",
            Cause::Unknown => "closed for an unknown reason",
        }
    }
}
