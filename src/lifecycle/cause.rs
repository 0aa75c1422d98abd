//! Why a connection ended: one table of rules over what was seen of it.
//!
//! Contract: every fact but the last state is optional. What isn't known makes
//! the answer poorer, never wrong: a rule asks for evidence, and where no rule
//! has enough of it the cause is [`Cause::Unknown`].

use crate::event::Counters;
use crate::tcp::State;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// The peer's host refused it: a reset in answer to the SYN, or an ICMP
    /// message that says so.
    Refused,
    /// Nothing was heard of the peer for too long.
    TimedOut,
    /// There is no way to the peer.
    Unreachable,
    /// The peer sent a reset.
    ResetByPeer,
    /// This host sent a reset.
    ResetByUs,
    /// In order, the peer's FIN first.
    ClosedByPeer,
    /// In order, this host's FIN first; or given up before it was opened.
    ClosedByUs,
    /// In order, both FINs under way at once.
    ClosedByBoth,
    /// It waited for its accept until the listener was closed.
    NeverAccepted,
    /// It can't be told.
    Unknown,
}

impl Cause {
    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::TimedOut => "timed_out",
            Cause::Unreachable => "unreachable",
            Cause::ResetByPeer => "reset_by_peer",
            Cause::ResetByUs => "reset_by_us",
            Cause::ClosedByPeer => "closed_by_peer",
            Cause::ClosedByUs => "closed_by_us",
            Cause::ClosedByBoth => "closed_by_both",
            Cause::NeverAccepted => "never_accepted",
            Cause::Unknown => "unknown",
        }
    }

    /// What the report calls it.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::TimedOut => "timed out",
            Cause::Unreachable => "unreachable",
            Cause::ResetByPeer => "reset by peer",
            Cause::ResetByUs => "reset by us",
            Cause::ClosedByPeer => "closed by peer",
            Cause::ClosedByUs => "closed by us",
            Cause::ClosedByBoth => "closed by both",
            Cause::NeverAccepted => "never accepted",
            Cause::Unknown => "closed for an unknown reason",
        }
    }
}

/// What is known of a connection that went to CLOSE.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The state it left.
    pub from: State,
    /// It was born from a listener.
    pub incoming: bool,
    /// Whether a process ever had it, as opposed to the listener's queue;
    /// `None` where that can't be told.
    pub owned: Option<bool>,
    /// The change to CLOSE was a process's own doing.
    pub by_task: bool,
    /// It had a local port.
    pub has_port: bool,
    /// `sk_err` at that moment, 0 for none.
    pub error: Option<i32>,
    /// A reset ended it that this host sent, just before CLOSE or after it.
    pub reset_sent: bool,
    /// A reset was received.
    pub reset_received: bool,
    /// A segment was sent again, or failed to be.
    pub retransmitted: bool,
}

impl Facts {
    fn error_is(&self, errno: i32) -> bool {
        self.error == Some(errno)
    }

    fn no_route(&self) -> bool {
        // icmp_err_convert (net/ipv4/icmp.c) and tab_unreach
        // (net/ipv6/icmp.c): what "destination unreachable" becomes.
        const ERRORS: [i32; 6] = [
            libc::ENETUNREACH,
            libc::EHOSTUNREACH,
            libc::EHOSTDOWN,
            libc::ENONET,
            libc::ENOPROTOOPT,
            libc::EACCES,
        ];
        self.error.is_some_and(|e| ERRORS.contains(&e))
    }

    fn opening(&self) -> bool {
        matches!(self.from, State::SynSent | State::SynRecv)
    }

    /// No error, or none that ended it.
    fn in_order(&self) -> bool {
        // With IP_RECVERR an ICMP message leaves its error in sk_err and the
        // connection goes on (net/ipv4/tcp_ipv4.c, tcp_v4_err).
        self.error.is_none_or(|e| e == 0) || self.no_route()
    }
}

/// A cause and when it holds.
type Rule = (Cause, fn(&Facts) -> bool);

/// The first rule that holds decides. Kernel functions are those of v6.12 in
/// net/ipv4/, and are alike since 4.16 unless a version is given.
const RULES: [Rule; 13] = [
    // inet_csk_listen_stop(), inet_child_forget(): a child in the queue is
    // disconnected without its lock, so not as its owner's doing. One that a
    // process took is closed by that process, or ends with an error.
    (Cause::NeverAccepted, |f| {
        f.incoming
            && f.owned == Some(false)
            && !f.by_task
            && f.error_is(0)
            && !f.reset_received
            && matches!(
                f.from,
                State::SynRecv | State::Established | State::CloseWait
            )
    }),
    // tcp_write_err(), also after the reset that tcp_keepalive_timer() sends.
    (Cause::TimedOut, |f| f.error_is(libc::ETIMEDOUT)),
    // __tcp_close() with data unread, tcp_disconnect() (SO_LINGER 0, or
    // connect() to AF_UNSPEC): CLOSE first, then tcp_send_active_reset().
    // tcp_rcv_state_process() on data after close(): tcp_reset() or tcp_done()
    // first, then the reset; tcp_reset() then sets ECONNRESET although the peer
    // sent none, so this comes before the errors.
    (Cause::ResetByUs, |f| f.reset_sent),
    // tcp_reset() in SYN_SENT, or tcp_v4_err() on "port unreachable".
    (Cause::Refused, |f| {
        f.from == State::SynSent && f.error_is(libc::ECONNREFUSED)
    }),
    // tcp_reset(): EPIPE in CLOSE_WAIT, ECONNRESET in the other states.
    (Cause::ResetByPeer, |f| {
        f.error_is(libc::ECONNRESET) && f.from != State::SynSent
    }),
    (Cause::ResetByPeer, |f| {
        f.error_is(libc::EPIPE) && f.from == State::CloseWait
    }),
    // tcp_v4_err() while opening; later tcp_write_err() with the error of the
    // last ICMP message, after retransmissions in vain.
    (Cause::Unreachable, |f| {
        f.no_route() && (f.opening() || f.retransmitted)
    }),
    // tcp_reset() tells itself, also where sk_err can't be read.
    (Cause::Refused, |f| {
        f.reset_received && f.from == State::SynSent
    }),
    (Cause::ResetByPeer, |f| f.reset_received),
    // tcp_close_state() in SYN_SENT: close() before there was an answer. Without
    // a port it was connect() itself that failed (tcp_v4_connect()).
    (Cause::ClosedByUs, |f| {
        f.from == State::SynSent && f.error_is(0) && f.by_task && f.has_port
    }),
    // tcp_rcv_state_process(): our FIN is acknowledged. Only tcp_fin() in
    // ESTABLISHED leads here, so the peer's came first.
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
];

/// Why a connection ended, by [`RULES`].
pub fn cause(facts: &Facts) -> Cause {
    let rule = RULES.iter().find(|(_, holds)| holds(facts));
    rule.map_or(Cause::Unknown, |(cause, _)| *cause)
}

/// Whether the kernel put a time-wait socket in TIME_WAIT into the place of one
/// that left `from` for CLOSE; `None` where it can't be told.
///
/// tcp_time_wait(), v6.12 net/ipv4/tcp_minisocks.c, is called for TIME_WAIT by
/// tcp_fin() in FIN_WAIT2 and by tcp_rcv_state_process() in CLOSING. But an
/// orphan in FIN_WAIT2 is swapped before the peer's FIN has come: the time-wait
/// socket then stands in FIN_WAIT2, and whether it gets to TIME_WAIT can't be
/// seen from here. (Where net.ipv4.tcp_max_tw_buckets is used up the kernel
/// leaves TIME_WAIT out, which can't be seen either.)
pub fn time_wait(from: State, counters: &Counters, reset: bool) -> Option<bool> {
    let closing = from == State::Closing;
    if reset || !(closing || from == State::FinWait2) {
        return Some(false);
    }
    match (counters.error, counters.fin_received) {
        (Some(0), _) if closing => Some(true),
        (Some(0), Some(true)) => Some(true),
        (Some(errno), _) if errno != 0 => Some(false),
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
pub fn fin_received(facts: &Facts, unread: Option<u32>, orphan: Option<bool>) -> Option<bool> {
    match facts.from {
        State::CloseWait | State::LastAck | State::Closing => Some(true),
        State::FinWait2 if facts.reset_sent || facts.reset_received => Some(false),
        State::FinWait2 => match unread? {
            0 => orphan.map(|orphan| !orphan),
            _ => Some(true),
        },
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTABLISHED: Facts = Facts {
        from: State::Established,
        incoming: false,
        owned: Some(true),
        by_task: false,
        has_port: true,
        error: Some(0),
        reset_sent: false,
        reset_received: false,
        retransmitted: false,
    };

    fn from(state: State, set: impl FnOnce(&mut Facts)) -> Cause {
        let mut facts = Facts {
            from: state,
            ..ESTABLISHED
        };
        set(&mut facts);
        cause(&facts)
    }

    #[test]
    fn the_error_decides() {
        let with = |state, errno| from(state, |f| f.error = Some(errno));
        use State::*;
        assert_eq!(with(SynSent, libc::ECONNREFUSED), Cause::Refused);
        for state in [SynSent, Established, FinWait1, LastAck, CloseWait] {
            assert_eq!(with(state, libc::ETIMEDOUT), Cause::TimedOut);
        }
        assert_eq!(with(SynSent, libc::EHOSTUNREACH), Cause::Unreachable);
        assert_eq!(with(SynSent, libc::ENETUNREACH), Cause::Unreachable);
        for state in [SynRecv, Established, FinWait1, FinWait2, LastAck, Closing] {
            assert_eq!(with(state, libc::ECONNRESET), Cause::ResetByPeer);
        }
        assert_eq!(with(CloseWait, libc::EPIPE), Cause::ResetByPeer);
        // Not what tcp_reset() would have set there.
        assert_eq!(with(Established, libc::EPIPE), Cause::Unknown);
        assert_eq!(with(Established, libc::ECONNREFUSED), Cause::Unknown);
        // An administrator's: tcp_abort().
        assert_eq!(with(LastAck, libc::ECONNABORTED), Cause::Unknown);
    }

    #[test]
    fn an_error_that_ended_nothing_does_not_decide() {
        let stale = |f: &mut Facts| f.error = Some(libc::EHOSTUNREACH);
        assert_eq!(from(State::LastAck, stale), Cause::ClosedByPeer);
        assert_eq!(from(State::FinWait2, stale), Cause::ClosedByUs);
        assert_eq!(from(State::Established, stale), Cause::Unknown);
        let real = |f: &mut Facts| {
            stale(f);
            f.retransmitted = true;
        };
        assert_eq!(from(State::LastAck, real), Cause::Unreachable);
        assert_eq!(from(State::Established, real), Cause::Unreachable);
    }

    #[test]
    fn the_last_state_tells_who_closed_first() {
        for error in [Some(0), None] {
            let at = |state| from(state, |f| f.error = error);
            assert_eq!(at(State::LastAck), Cause::ClosedByPeer);
            assert_eq!(at(State::FinWait2), Cause::ClosedByUs);
            assert_eq!(at(State::Closing), Cause::ClosedByBoth);
            for state in [
                State::Established,
                State::CloseWait,
                State::FinWait1,
                State::SynSent,
                State::SynRecv,
            ] {
                assert_eq!(at(state), Cause::Unknown, "{state:?} {error:?}");
            }
        }
    }

    #[test]
    fn resets_tell_without_the_error() {
        let received = |f: &mut Facts| (f.error, f.reset_received) = (None, true);
        assert_eq!(from(State::SynSent, received), Cause::Refused);
        assert_eq!(from(State::Established, received), Cause::ResetByPeer);
        assert_eq!(from(State::LastAck, received), Cause::ResetByPeer);
        let sent = |f: &mut Facts| (f.error, f.reset_sent) = (None, true);
        assert_eq!(from(State::Established, sent), Cause::ResetByUs);
        assert_eq!(from(State::CloseWait, sent), Cause::ResetByUs);
    }

    #[test]
    fn our_reset_on_data_after_close_is_ours() {
        // tcp_reset() is what the kernel calls there, too.
        let both = |f: &mut Facts| {
            f.error = Some(libc::ECONNRESET);
            (f.reset_received, f.reset_sent) = (true, true);
        };
        assert_eq!(from(State::FinWait2, both), Cause::ResetByUs);
        let keepalive = |f: &mut Facts| {
            f.error = Some(libc::ETIMEDOUT);
            f.reset_sent = true;
        };
        assert_eq!(from(State::Established, keepalive), Cause::TimedOut);
    }

    #[test]
    fn never_accepted_needs_to_know_that_nobody_had_it() {
        let queued = |f: &mut Facts| (f.incoming, f.owned) = (true, Some(false));
        for state in [State::SynRecv, State::Established, State::CloseWait] {
            assert_eq!(from(state, queued), Cause::NeverAccepted);
            let reset = |f: &mut Facts| {
                queued(f);
                f.reset_sent = true;
            };
            assert_eq!(from(state, reset), Cause::NeverAccepted);
            let untold = |f: &mut Facts| {
                reset(f);
                f.owned = None;
            };
            assert_eq!(from(state, untold), Cause::ResetByUs);
        }
        let by_process = |f: &mut Facts| {
            queued(f);
            (f.by_task, f.reset_sent) = (true, true);
        };
        assert_eq!(from(State::Established, by_process), Cause::ResetByUs);
        let by_peer = |f: &mut Facts| {
            queued(f);
            f.error = Some(libc::ECONNRESET);
        };
        assert_eq!(from(State::Established, by_peer), Cause::ResetByPeer);
        let outgoing = |f: &mut Facts| f.owned = Some(false);
        assert_eq!(from(State::Established, outgoing), Cause::Unknown);
    }

    #[test]
    fn an_attempt_given_up_is_closed_by_us() {
        let closed = |f: &mut Facts| f.by_task = true;
        assert_eq!(from(State::SynSent, closed), Cause::ClosedByUs);
        let failed = |f: &mut Facts| (f.by_task, f.has_port) = (true, false);
        assert_eq!(from(State::SynSent, failed), Cause::Unknown);
    }

    #[test]
    fn the_fin_where_only_the_destroyed_socket_tells() {
        let from = |from| Facts {
            from,
            ..ESTABLISHED
        };
        for state in [State::CloseWait, State::LastAck, State::Closing] {
            assert_eq!(fin_received(&from(state), Some(0), None), Some(true));
        }
        for state in [State::Established, State::FinWait1, State::SynSent] {
            assert_eq!(fin_received(&from(state), Some(7), None), Some(false));
        }
        let closing = from(State::FinWait2);
        let orphan = |unread, orphan| fin_received(&closing, unread, orphan);
        assert_eq!(orphan(Some(1), Some(true)), Some(true));
        assert_eq!(orphan(Some(0), Some(true)), Some(false));
        assert_eq!(orphan(Some(0), Some(false)), Some(true));
        assert_eq!(orphan(Some(0), None), None);
        // Unread data may be what a reset was sent for.
        assert_eq!(orphan(None, Some(true)), None);
        let reset = Facts {
            reset_sent: true,
            ..closing
        };
        assert_eq!(fin_received(&reset, Some(9), None), Some(false));
    }

    #[test]
    fn time_wait_where_the_kernel_enters_it() {
        let counters = |error, fin_received| Counters {
            error,
            fin_received,
            ..Counters::default()
        };
        let normal = counters(Some(0), Some(true));
        assert_eq!(time_wait(State::FinWait2, &normal, false), Some(true));
        assert_eq!(time_wait(State::Closing, &normal, false), Some(true));
        for state in [State::LastAck, State::Established, State::SynSent] {
            assert_eq!(time_wait(state, &normal, false), Some(false));
        }
        assert_eq!(time_wait(State::FinWait2, &normal, true), Some(false));
        let orphan = counters(Some(0), Some(false));
        assert_eq!(time_wait(State::FinWait2, &orphan, false), None);
        let reset = counters(Some(libc::ECONNRESET), Some(false));
        assert_eq!(time_wait(State::FinWait2, &reset, false), Some(false));
        // Without BTF.
        let nothing = Counters::default();
        assert_eq!(time_wait(State::FinWait2, &nothing, false), None);
        assert_eq!(time_wait(State::Closing, &nothing, false), None);
        assert_eq!(time_wait(State::LastAck, &nothing, false), Some(false));
    }
}
