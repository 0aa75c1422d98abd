//! The table of rules, with everything known and with anything hidden.

use super::*;
use crate::model::event::Sent;
use State::*;

/// In order so far, everything known.
const PLAIN: Facts = Facts {
    from: Established,
    queued: Some(false),
    raced: false,
    has_port: true,
    error: Some(0),
    acknowledged: Some(true),
    in_flight: Some(false),
    fin_received: Some(false),
    reset_sent: None,
    tells_sent: true,
    reason: None,
    reset_received: false,
    tells_received: true,
    retransmitted: Some(false),
};

/// Every way to CLOSE that the kernel has, as far as it differs in what is seen
/// of it, with all that can be known.
fn all() -> Vec<(Cause, Facts)> {
    let mut all = Vec::new();
    let mut add = |cause, from, set: &dyn Fn(&mut Facts)| {
        let mut facts = Facts { from, ..PLAIN };
        set(&mut facts);
        all.push((cause, facts));
    };
    let pending = |f: &mut Facts| (f.acknowledged, f.in_flight) = (Some(false), Some(true));
    let vain = |f: &mut Facts| {
        pending(f);
        f.retransmitted = Some(true);
    };
    let after = |f: &mut Facts| f.reset_sent = Some(ResetSent::After);
    let before = |f: &mut Facts| f.reset_sent = Some(ResetSent::Before);
    let icmp = [libc::EHOSTUNREACH, libc::ECONNREFUSED, libc::EPROTO];
    let stale = icmp.into_iter().chain([0]);

    add(Cause::Duplicate, SynRecv, &|f| {
        pending(f);
        (f.queued, f.raced) = (Some(true), true);
    });

    // Opening.
    for retransmitted in [false, true] {
        add(Cause::GivenUp, SynSent, &|f| {
            pending(f);
            f.retransmitted = Some(retransmitted);
        });
    }
    add(Cause::Unknown, SynSent, &|f| {
        pending(f);
        f.has_port = false;
    });
    add(Cause::Unknown, SynSent, &|f| f.acknowledged = Some(false));
    add(Cause::Refused, SynSent, &|f| {
        pending(f);
        (f.error, f.reset_received) = (Some(libc::ECONNREFUSED), true);
    });
    add(Cause::Refused, SynSent, &|f| {
        pending(f);
        f.error = Some(libc::ECONNREFUSED);
    });
    add(Cause::TimedOut, SynSent, &|f| {
        vain(f);
        f.error = Some(libc::ETIMEDOUT);
    });
    add(Cause::Aborted, SynSent, &|f| {
        pending(f);
        f.error = Some(libc::ECONNABORTED);
    });
    for errno in [libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ENOPROTOOPT] {
        add(Cause::Unreachable, SynSent, &|f| {
            pending(f);
            f.error = Some(errno);
        });
    }

    // In order, whatever an ICMP message has left.
    for error in stale.clone() {
        for retransmitted in [false, true] {
            let set = |f: &mut Facts| {
                f.error = Some(error);
                f.retransmitted = Some(retransmitted);
            };
            let with_fin = |f: &mut Facts| {
                set(f);
                f.fin_received = Some(true);
            };
            add(Cause::ClosedByPeer, LastAck, &with_fin);
            add(Cause::ClosedByBoth, Closing, &with_fin);
            add(Cause::ClosedByUs, FinWait2, &with_fin);
            // An orphan, whose peer has not closed.
            add(Cause::ClosedByUs, FinWait2, &set);
        }
    }

    // In vain, with the error of the last ICMP message or without.
    for from in [Established, CloseWait, FinWait1, Closing, LastAck] {
        for error in icmp {
            add(Cause::Unreachable, from, &|f| {
                vain(f);
                f.error = Some(error);
            });
        }
        add(Cause::TimedOut, from, &|f| {
            vain(f);
            f.error = Some(libc::ETIMEDOUT);
        });
    }
    // A keepalive without an answer sends a reset first.
    for from in [Established, CloseWait, FinWait2] {
        for error in icmp.into_iter().chain([libc::ETIMEDOUT]) {
            add(Cause::TimedOut, from, &|f| {
                before(f);
                (f.error, f.reason) = (Some(error), Some(Reason::Keepalive));
            });
        }
    }

    // The peer's resets.
    for from in [SynRecv, Established, FinWait1, FinWait2, LastAck, Closing] {
        for queued in [Some(true), Some(false)] {
            add(Cause::ResetByPeer, from, &|f| {
                pending(f);
                (f.error, f.reset_received) = (Some(libc::ECONNRESET), true);
                f.queued = queued.filter(|q| !q || matches!(from, SynRecv | Established));
                f.queued = f.queued.or(Some(false));
            });
        }
    }
    add(Cause::ResetByPeer, CloseWait, &|f| {
        (f.error, f.reset_received) = (Some(libc::EPIPE), true);
        f.fin_received = Some(true);
    });

    // This host's: by close(), by SO_LINGER, and on data after close().
    for from in [SynRecv, Established, CloseWait, FinWait1, FinWait2] {
        for error in stale.clone() {
            for reason in [None, Some(Reason::Ours)] {
                add(Cause::ResetByUs, from, &|f| {
                    after(f);
                    (f.error, f.reason) = (Some(error), reason);
                });
            }
        }
    }
    for from in [FinWait1, FinWait2] {
        add(Cause::ResetByUs, from, &|f| {
            after(f);
            (f.error, f.reset_received) = (Some(libc::ECONNRESET), true);
        });
    }
    // FIN_WAIT2's own timer, and too many orphans.
    for from in [FinWait1, FinWait2, LastAck, Closing] {
        add(Cause::ResetByUs, from, &|f| {
            before(f);
            if from != FinWait2 {
                vain(f);
            }
        });
    }

    // In the queue.
    for from in [SynRecv, Established, CloseWait] {
        add(Cause::NeverAccepted, from, &|f| {
            after(f);
            f.queued = Some(true);
        });
    }
    for from in [SynRecv, Established, CloseWait, FinWait1, FinWait2] {
        add(Cause::Aborted, from, &|f| {
            before(f);
            f.error = Some(libc::ECONNABORTED);
        });
    }
    // Without a reset, and before the FIN was sent again, it would be taken for
    // its acknowledgement where nothing else is known: that is a matter of 0.2 s.
    for from in [LastAck, Closing] {
        add(Cause::Aborted, from, &|f| {
            vain(f);
            f.error = Some(libc::ECONNABORTED);
        });
    }
    all
}

#[test]
fn with_everything_known() {
    for (expected, facts) in all() {
        assert_eq!(cause(&facts), expected, "{facts:?}");
    }
}

/// What hides one fact. In the queue or not: where neither the socket's owner nor
/// the lock is known.
const HIDDEN: [fn(&mut Facts); 9] = [
    |f| f.error = None,
    |f| (f.acknowledged, f.in_flight) = (None, None),
    |f| f.fin_received = None,
    |f| f.retransmitted = None,
    |f| f.reason = None,
    |f| (f.reset_sent, f.reason, f.tells_sent) = (None, None, false),
    |f| (f.reset_received, f.tells_received) = (false, false),
    |f| {
        if matches!(f.from, SynRecv | Established | CloseWait) {
            f.queued = None;
        }
    },
    |f| f.in_flight = None,
];

/// Whatever is hidden: the same, or unknown.
#[test]
fn what_is_not_known_makes_it_poorer_but_never_wrong() {
    for (expected, facts) in all() {
        for hidden in 0u32..1 << HIDDEN.len() {
            let mut poorer = facts;
            for (bit, hide) in HIDDEN.iter().enumerate() {
                if hidden & 1 << bit != 0 {
                    hide(&mut poorer);
                }
            }
            let told = cause(&poorer);
            let fine = told == expected || told == Cause::Unknown;
            assert!(fine, "{told:?} for {expected:?}: {poorer:?} of {facts:?}");
        }
    }
}

/// Without BTF: the tracepoints, and the kernel's last word on the socket.
#[test]
fn without_the_error_the_rest_still_tells() {
    let told = |from, set: &dyn Fn(&mut Facts)| {
        let mut facts = Facts {
            from,
            error: None,
            ..PLAIN
        };
        set(&mut facts);
        cause(&facts)
    };
    let nothing = |f: &mut Facts| (f.acknowledged, f.fin_received) = (None, None);
    let as_it_is = |_: &mut Facts| {};
    let both: [&dyn Fn(&mut Facts); 2] = [&as_it_is, &nothing];
    for set in both {
        assert_eq!(told(LastAck, set), Cause::ClosedByPeer);
        assert_eq!(told(FinWait2, set), Cause::ClosedByUs);
        assert_eq!(told(Closing, set), Cause::ClosedByBoth);
    }
    let vain = |f: &mut Facts| (f.acknowledged, f.retransmitted) = (None, Some(true));
    assert_eq!(told(LastAck, &vain), Cause::Unknown);
    let received = |f: &mut Facts| f.reset_received = true;
    assert_eq!(told(SynSent, &received), Cause::Refused);
    assert_eq!(told(Established, &received), Cause::ResetByPeer);
    let sent = |f: &mut Facts| f.reset_sent = Some(ResetSent::After);
    assert_eq!(told(Established, &sent), Cause::ResetByUs);
    // A child of which nobody knows whether it was accepted.
    let untold = |f: &mut Facts| (f.reset_sent, f.queued) = (Some(ResetSent::After), None);
    assert_eq!(told(Established, &untold), Cause::Unknown);
    // A keepalive's, or an administrator's.
    let timer = |f: &mut Facts| f.reset_sent = Some(ResetSent::Before);
    assert_eq!(told(Established, &timer), Cause::Unknown);
    let named = |f: &mut Facts| {
        timer(f);
        f.reason = Reason::of("TCP_KEEPALIVE_TIMEOUT");
    };
    assert_eq!(told(Established, &named), Cause::TimedOut);
}

#[test]
fn an_error_that_fits_no_way_decides_nothing() {
    let with = |from, errno| {
        cause(&Facts {
            from,
            error: Some(errno),
            ..PLAIN
        })
    };
    assert_eq!(with(Established, libc::EPIPE), Cause::Unknown);
    assert_eq!(with(Established, libc::EBADMSG), Cause::Unknown);
    // Set by kTLS, say; the connection was closed in order.
    assert_eq!(with(LastAck, libc::EBADMSG), Cause::ClosedByPeer);
}

#[test]
fn the_fin_where_only_the_destroyed_socket_tells() {
    for state in [CloseWait, LastAck, Closing] {
        assert_eq!(fin_received(state, false, Some(0), None), Some(true));
    }
    for state in [Established, FinWait1, SynSent] {
        assert_eq!(fin_received(state, false, Some(7), None), Some(false));
    }
    let orphan = |unread, orphan| fin_received(FinWait2, false, unread, orphan);
    assert_eq!(orphan(Some(1), Some(true)), Some(true));
    assert_eq!(orphan(Some(0), Some(true)), Some(false));
    assert_eq!(orphan(Some(0), Some(false)), Some(true));
    assert_eq!(orphan(Some(0), None), None);
    // Unread data may be what a reset was sent for.
    assert_eq!(orphan(None, Some(true)), None);
    assert_eq!(fin_received(FinWait2, true, Some(9), None), Some(false));
}

#[test]
fn time_wait_where_the_kernel_enters_it() {
    let counters = |error, fin_received| Counters {
        error,
        fin_received,
        sent: Some(Sent::default()),
        time_wait_room: Some(true),
        ..Counters::default()
    };
    let normal = counters(Some(0), Some(true));
    // What an ICMP message has left changes nothing.
    for counters in [normal, counters(Some(libc::EHOSTUNREACH), Some(true))] {
        assert_eq!(time_wait(FinWait2, &counters, false), Some(true));
        assert_eq!(time_wait(Closing, &counters, false), Some(true));
    }
    for state in [LastAck, Established, SynSent] {
        assert_eq!(time_wait(state, &normal, false), Some(false));
    }
    assert_eq!(time_wait(FinWait2, &normal, true), Some(false));
    let vain = Counters {
        sent: Some(Sent {
            in_flight: 1,
            ..Sent::default()
        }),
        ..counters(Some(libc::ETIMEDOUT), Some(true))
    };
    assert_eq!(time_wait(Closing, &vain, false), Some(false));
    let orphan = counters(Some(0), Some(false));
    assert_eq!(time_wait(FinWait2, &orphan, false), None);
    for errno in [libc::ECONNRESET, libc::ETIMEDOUT, libc::ECONNABORTED] {
        let ended = counters(Some(errno), Some(false));
        assert_eq!(time_wait(FinWait2, &ended, false), Some(false));
    }
    // Full, or not known.
    for room in [Some(false), None] {
        let counters = Counters {
            time_wait_room: room,
            ..normal
        };
        assert_eq!(time_wait(FinWait2, &counters, false), None);
        assert_eq!(time_wait(Closing, &counters, false), None);
    }
    // Without BTF.
    let nothing = Counters::default();
    assert_eq!(time_wait(FinWait2, &nothing, false), None);
    assert_eq!(time_wait(Closing, &nothing, false), None);
    assert_eq!(time_wait(LastAck, &nothing, false), Some(false));
}
