//! What a connection has sent, from the kernel's sequence numbers.
//!
//! Contract: a number is told only where it is right: where it depends on who
//! opened the connection, and that isn't known, it is left out. Kernel functions
//! are those of v6.12 in net/ipv4/.

use super::connection::Direction;
use crate::model::event::Sent;
use crate::model::tcp::State;

/// The FIN of a socket that left this state for CLOSE, if it went out: it is the
/// last that is sent (tcp_output.c, tcp_send_fin()).
#[inline]
fn fin(from: State, sent: &Sent) -> u64 {
    u64::from(from.has_fin_queued() && sent.unsent == 0)
}

/// Everything that went out at least once and has a sequence number, but the FIN.
/// Data that was not sent yet is not among it, whatever the kernel tried: it
/// counts bytes in `bytes_sent` also where the transmission failed
/// (tcp_output.c, __tcp_transmit_skb()), and sends them later as new.
#[inline]
fn all(from: State, sent: &Sent) -> u64 {
    let all = sent.acked.saturating_add(u64::from(sent.in_flight));
    all.saturating_sub(fin(from, sent))
}

/// Who opened a connection that left `from` for CLOSE, by its counters, where
/// nothing else tells: the SYN of who opened it is counted once it is
/// acknowledged (tcp_input.c, tcp_snd_una_update(), also after a simultaneous
/// open), a child's sequence begins after it (tcp_minisocks.c,
/// tcp_create_openreq_child()).
pub(super) fn opened_by(from: State, sent: &Sent) -> Direction {
    let all = all(from, sent);
    match sent.handed {
        // The kernel hands over no less than goes out.
        Some(handed) if all > 0 && handed == all - 1 => Direction::Outgoing,
        Some(handed) if handed == all => Direction::Incoming,
        _ => Direction::Unknown,
    }
}

/// Bytes of data that went out at least once, each once, of a connection that
/// left `from` for CLOSE.
#[inline]
pub(super) fn bytes(from: State, direction: Direction, sent: &Sent) -> Option<u64> {
    let all = all(from, sent);
    match direction {
        Direction::Outgoing => Some(all.saturating_sub(1)),
        Direction::Incoming => Some(all),
        Direction::Unknown => None,
    }
}

/// Segments sent, of a socket that has counted so many: the SYN+ACKs of a child
/// went out before there was one (tcp_output.c, tcp_v4_send_synack(), which does
/// not go through __tcp_transmit_skb()), the first and `again` more.
#[inline]
pub(super) fn segments(direction: Direction, counted: u32, again: Option<u32>) -> Option<u32> {
    match direction {
        Direction::Outgoing => Some(counted),
        Direction::Incoming => Some(counted.saturating_add(1).saturating_add(again?)),
        Direction::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The kernel's numbers for so much data that went out and that did not, and
    /// whether the FIN was queued; `lost` bytes were tried in vain.
    fn sent(direction: Direction, data: (u64, u32), acked: u64, fin: bool, lost: u64) -> Sent {
        let syn = u64::from(direction == Direction::Outgoing);
        let (out, unsent) = data;
        let gone = u64::from(fin && unsent == 0);
        let all = syn + out + gone;
        let acked = acked.min(all);
        Sent {
            acked,
            in_flight: (all - acked) as u32,
            unsent: unsent + u32::from(fin) - gone as u32,
            handed: Some(out + lost),
        }
    }

    proptest! {
        #[test]
        fn bytes_are_those_that_went_out(
            outgoing in any::<bool>(), out in 0u64..1 << 30, unsent in 0u32..5000,
            acked in any::<u64>(), lost in 0u64..9000, from in 0usize..6
        ) {
            use State::*;
            let from = [Established, CloseWait, FinWait1, FinWait2, Closing, LastAck][from];
            let fin = !matches!(from, Established | CloseWait);
            let direction = match outgoing {
                true => Direction::Outgoing,
                false => Direction::Incoming,
            };
            let told = sent(direction, (out, unsent), acked, fin, lost);
            prop_assert_eq!(bytes(from, direction, &told), Some(out));
            prop_assert_eq!(bytes(from, Direction::Unknown, &told), None);
            // By the counters alone: right, or unknown.
            let guess = opened_by(from, &told);
            if lost == 0 {
                prop_assert_eq!(guess, direction);
            } else if lost > 1 {
                prop_assert!(guess == Direction::Unknown);
            }
            let silent = Sent { handed: None, ..told };
            prop_assert_eq!(opened_by(from, &silent), Direction::Unknown);
        }
    }

    #[test]
    fn nothing_is_sent_by_what_was_never_opened() {
        let syn = Sent {
            in_flight: 1,
            handed: Some(0),
            ..Sent::default()
        };
        assert_eq!(bytes(State::SynSent, Direction::Outgoing, &syn), Some(0));
        let none = Sent::default();
        assert_eq!(bytes(State::SynSent, Direction::Outgoing, &none), Some(0));
        assert_eq!(bytes(State::SynRecv, Direction::Incoming, &none), Some(0));
    }

    #[test]
    fn a_childs_synacks_are_segments_too() {
        assert_eq!(segments(Direction::Outgoing, 7, None), Some(7));
        assert_eq!(segments(Direction::Incoming, 7, Some(2)), Some(10));
        assert_eq!(segments(Direction::Incoming, 7, None), None);
        assert_eq!(segments(Direction::Unknown, 7, Some(0)), None);
    }
}
