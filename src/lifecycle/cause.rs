//! Why a connection ended: one table of rules over what was seen of it.
//!
//! Contract: every fact but the last state is optional. What isn't known makes
//! the answer poorer, never wrong: a rule asks for evidence, and where no rule
//! has enough of it the cause is [`Cause::Unknown`].

use crate::model::cause::Cause;
use crate::model::event::Counters;
use crate::model::tcp::State;

/// When this host sent a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetSent {
    /// Just before the change to CLOSE: a timer's, or an administrator's.
    Before,
    /// After it: a process's own doing, or the answer to what came for a socket
    /// that no process has.
    After,
}

/// What a reset's reason says (`enum sk_rst_reason`, Linux 6.10 and later),
/// where it says enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its keepalive was not answered.
    Keepalive,
    /// This host had no more use for the connection.
    Ours,
}

impl Reason {
    /// What the reason of this name says. SK_RST_REASON_TCP_STATE is that of too
    /// many things: SO_LINGER, a listener that is closed, `ss -K`, FIN_WAIT2's
    /// timer.
    pub(crate) fn of(name: &str) -> Option<Reason> {
        match name {
            "TCP_KEEPALIVE_TIMEOUT" => Some(Reason::Keepalive),
            "TCP_ABORT_ON_CLOSE"
            | "TCP_ABORT_ON_LINGER"
            | "TCP_ABORT_ON_DATA"
            | "TCP_ABORT_ON_MEMORY"
            | "TCP_DISCONNECT_WITH_DATA" => Some(Reason::Ours),
            _ => None,
        }
    }
}

/// What is known of a connection that went to CLOSE.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The state it left.
    pub from: State,
    /// Whether it was in a listener's queue and no process ever had it; `None`
    /// where that can't be told.
    pub queued: Option<bool>,
    /// It left SYN_RECV, and another child of the same ends began beside it.
    pub raced: bool,
    /// It had a local port.
    pub has_port: bool,
    /// `sk_err` at that moment, 0 for none.
    pub error: Option<i32>,
    /// Whether all that was sent and was to be sent is acknowledged, the SYN and
    /// the FIN with it.
    pub acknowledged: Option<bool>,
    /// Whether anything was sent that was not acknowledged; of one that is being
    /// opened, the SYN.
    pub in_flight: Option<bool>,
    /// Whether the peer's FIN came.
    pub fin_received: Option<bool>,
    /// A reset that this host sent at its end.
    pub reset_sent: Option<ResetSent>,
    /// Whether there is none, if none was seen.
    pub tells_sent: bool,
    /// Why that was sent.
    pub reason: Option<Reason>,
    /// A reset was received.
    pub reset_received: bool,
    /// Whether there was none, if none was seen.
    pub tells_received: bool,
    /// Whether a segment was sent again, or failed to be.
    pub retransmitted: Option<bool>,
}

/// Whether an ICMP message leaves this error: icmp_err_convert and icmp_unreach()
/// (v6.12 net/ipv4/icmp.c), tcp_v4_err() (tcp_ipv4.c), tab_unreach and
/// icmpv6_err_convert() (net/ipv6/icmp.c).
fn is_icmp(errno: i32) -> bool {
    const ERRORS: [i32; 10] = [
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::ENOPROTOOPT,
        libc::ECONNREFUSED,
        libc::EACCES,
        libc::EPROTO,
        libc::EMSGSIZE,
        libc::EOPNOTSUPP,
    ];
    ERRORS.contains(&errno)
}

impl Facts {
    fn error_is(&self, errno: i32) -> bool {
        self.error == Some(errno)
    }

    fn icmp(&self) -> bool {
        self.error.is_some_and(is_icmp)
    }

    /// The peer reset it: tcp_reset() with that error. What this host resets
    /// because data came after its close() goes through there, too, from
    /// FIN_WAIT1 and FIN_WAIT2, and only the reset that is sent tells.
    fn reset_by_peer(&self) -> bool {
        let error = match self.from {
            State::SynSent => false,
            State::CloseWait => self.error_is(libc::EPIPE) || self.error_is(libc::ECONNRESET),
            _ => self.error_is(libc::ECONNRESET),
        };
        let theirs = self.tells_sent || !matches!(self.from, State::FinWait1 | State::FinWait2);
        (error || self.reset_received) && self.reset_sent.is_none() && theirs
    }

    /// Nothing but an end in order leads from here to CLOSE, where the sequence
    /// numbers don't tell: without a reset, and without a retransmission that
    /// may have been in vain (v6.12 net/ipv4/tcp_timer.c, tcp_write_timeout():
    /// one was tried at least).
    fn must_be_in_order(&self) -> bool {
        let no_reset = self.tells_sent && self.reset_sent.is_none() && !self.reset_received;
        no_reset
            && match self.error {
                Some(0) => true,
                None if !self.tells_received => false,
                // In FIN_WAIT2 there is nothing left to be sent; a keepalive
                // without an answer sends a reset.
                None => self.from == State::FinWait2 || self.retransmitted == Some(false),
                Some(errno) if is_icmp(errno) => {
                    self.from == State::FinWait2 || self.retransmitted == Some(false)
                }
                Some(_) => false,
            }
    }

    #[inline]
    fn in_order(&self) -> bool {
        match self.from {
            State::FinWait2 => self.fin_received == Some(true) || self.must_be_in_order(),
            _ => self.acknowledged.unwrap_or_else(|| self.must_be_in_order()),
        }
    }
}

/// A cause and when it holds.
type Rule = (Cause, fn(&Facts) -> bool);

/// The first rule that holds decides. Kernel functions are those of v6.12 in
/// net/ipv4/, and are alike since 4.16 unless a version is given.
const RULES: [Rule; 17] = [
    // inet_ehash_nolisten(), of the second of two: no process, no reset.
    (Cause::Duplicate, |f| {
        f.raced && f.reset_sent.is_none() && !f.reset_received && matches!(f.error, None | Some(0))
    }),
    // tcp_rcv_state_process(): our FIN is acknowledged, whatever error an ICMP
    // message has left before (IP_RECVERR; tcp_v4_err()). Only tcp_fin() in
    // ESTABLISHED leads to CLOSE_WAIT, so the peer's came first.
    (Cause::ClosedByPeer, |f| {
        f.from == State::LastAck && f.in_order()
    }),
    // tcp_time_wait(), from tcp_fin() or for an orphan.
    (Cause::ClosedByUs, |f| {
        f.from == State::FinWait2 && f.in_order()
    }),
    // tcp_time_wait() after tcp_fin() in FIN_WAIT1.
    (Cause::ClosedByBoth, |f| {
        f.from == State::Closing && f.in_order()
    }),
    // inet_csk_listen_stop(), inet_child_forget(): a child in the queue is
    // disconnected, CLOSE first and then the reset.
    (Cause::NeverAccepted, |f| {
        f.queued == Some(true)
            && !f.reset_received
            && match f.reset_sent {
                Some(ResetSent::Before) => false,
                Some(ResetSent::After) => f.error_is(0) || f.icmp(),
                None => f.error_is(0),
            }
    }),
    // tcp_write_err(), also after the reset that tcp_keepalive_timer() sends;
    // with the error of an ICMP message, where there was one.
    (Cause::TimedOut, |f| f.error_is(libc::ETIMEDOUT)),
    (Cause::TimedOut, |f| f.reason == Some(Reason::Keepalive)),
    // tcp_abort() with what tcp_diag_destroy() gives it.
    (Cause::Aborted, |f| f.error_is(libc::ECONNABORTED)),
    // __tcp_close() with data unread, tcp_disconnect() (SO_LINGER 0, or
    // connect() to AF_UNSPEC): CLOSE first, then tcp_send_active_reset().
    // tcp_rcv_state_process() on data after close(): tcp_reset() or tcp_done()
    // first, then the reset; tcp_reset() then sets ECONNRESET although the peer
    // sent none, so this comes before the errors. Of a child in the queue it
    // would be its listener's end.
    (Cause::ResetByUs, |f| {
        f.reset_sent == Some(ResetSent::After) && f.queued == Some(false)
    }),
    (Cause::ResetByUs, |f| f.reason == Some(Reason::Ours)),
    // tcp_keepalive_timer() of an orphan in FIN_WAIT2, tcp_out_of_resources().
    (Cause::ResetByUs, |f| {
        f.reset_sent == Some(ResetSent::Before) && f.error_is(0)
    }),
    // tcp_reset() in SYN_SENT, or tcp_v4_err() on "port unreachable".
    (Cause::Refused, |f| {
        f.from == State::SynSent && (f.error_is(libc::ECONNREFUSED) || f.reset_received)
    }),
    // tcp_reset(): EPIPE in CLOSE_WAIT, ECONNRESET in the other states; it tells
    // itself, also where sk_err can't be read.
    (Cause::ResetByPeer, Facts::reset_by_peer),
    // tcp_v4_err() while opening.
    (Cause::Unreachable, |f| f.from == State::SynSent && f.icmp()),
    // Later tcp_write_err() with the error of the last ICMP message, after
    // retransmissions or probes in vain. Nothing else ends it here without a
    // reset.
    (Cause::Unreachable, |f| {
        matches!(
            f.from,
            State::SynRecv | State::Established | State::CloseWait
        ) && f.icmp()
            && f.tells_sent
            && f.reset_sent.is_none()
    }),
    (Cause::Unreachable, |f| {
        f.icmp()
            && f.tells_sent
            && f.reset_sent.is_none()
            && f.acknowledged == Some(false)
            && f.retransmitted == Some(true)
    }),
    // tcp_close_state() in SYN_SENT: close(), or the end of the process, before
    // there was an answer. Without a port, or a SYN that was sent, it was
    // connect() itself that failed (tcp_v4_connect(), tcp_connect()).
    (Cause::GivenUp, |f| {
        f.from == State::SynSent && f.error_is(0) && f.has_port && f.in_flight == Some(true)
    }),
];

/// Why a connection ended, by [`RULES`].
#[inline]
pub(crate) fn cause(facts: &Facts) -> Cause {
    let rule = RULES.iter().find(|(_, holds)| holds(facts));
    rule.map_or(Cause::Unknown, |(cause, _)| *cause)
}

/// Whether all that was sent, and was to be, is acknowledged: FIN and all.
#[inline]
pub(crate) fn acknowledged(counters: &Counters) -> Option<bool> {
    let sent = counters.sent?;
    Some(sent.in_flight == 0 && sent.unsent == 0)
}

/// Whether the kernel put a time-wait socket in TIME_WAIT into the place of one
/// that left `from` for CLOSE; `None` where it can't be told.
///
/// tcp_time_wait(), v6.12 net/ipv4/tcp_minisocks.c, is called for TIME_WAIT by
/// tcp_fin() in FIN_WAIT2 and by tcp_rcv_state_process() in CLOSING, where our
/// FIN is acknowledged; no other way leads from there to CLOSE with these two
/// marks. But an orphan in FIN_WAIT2 is swapped before the peer's FIN has come:
/// the time-wait socket then stands in FIN_WAIT2, and whether it gets to
/// TIME_WAIT can't be seen from here. Where the table of time-wait sockets is
/// full (net.ipv4.tcp_max_tw_buckets) the kernel leaves TIME_WAIT out; one that
/// got its last place can't be told from one that got none.
#[inline]
pub(crate) fn time_wait(from: State, counters: &Counters, reset: bool) -> Option<bool> {
    const FATAL: [i32; 3] = [libc::ECONNRESET, libc::ETIMEDOUT, libc::ECONNABORTED];
    if reset {
        return Some(false);
    }
    let in_order = match from {
        State::Closing => acknowledged(counters),
        State::FinWait2 => counters.fin_received,
        _ => return Some(false),
    };
    match in_order {
        Some(true) => counters.time_wait_room.filter(|room| *room),
        Some(false) if from == State::Closing => Some(false),
        _ if counters.error.is_some_and(|e| FATAL.contains(&e)) => Some(false),
        _ => None,
    }
}

/// Whether the peer's FIN was received, of a socket that the kernel has destroyed
/// and that had so many unread bytes then (the FIN counts as one), where resets
/// are told; `None` where it can't be told. `orphan` says whether it was one when
/// it was closed: then it was destroyed at once.
///
/// In FIN_WAIT2 an orphan has nothing unread but the FIN: with data there,
/// close() is a reset (v6.12 net/ipv4/tcp.c, __tcp_close()), and data that comes
/// later is answered with one (tcp_input.c, tcp_rcv_state_process()). What is no
/// orphan leaves FIN_WAIT2 by the FIN alone.
pub(crate) fn fin_received(
    from: State,
    reset: bool,
    unread: Option<u32>,
    orphan: Option<bool>,
) -> Option<bool> {
    match from {
        State::CloseWait | State::LastAck | State::Closing => Some(true),
        State::FinWait2 if reset => Some(false),
        State::FinWait2 => match unread? {
            0 => orphan.map(|orphan| !orphan),
            _ => Some(true),
        },
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests;
