//! TCP states and endpoints, and what people call them.

use std::net::IpAddr;

/// A socket's TCP state (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP_ESTABLISHED
    Established = 1,
    /// TCP_SYN_SENT
    SynSent = 2,
    /// TCP_SYN_RECV
    SynRecv = 3,
    /// TCP_FIN_WAIT1
    FinWait1 = 4,
    /// TCP_FIN_WAIT2
    FinWait2 = 5,
    /// TCP_TIME_WAIT
    TimeWait = 6,
    /// TCP_CLOSE
    Close = 7,
    /// TCP_CLOSE_WAIT
    CloseWait = 8,
    /// TCP_LAST_ACK
    LastAck = 9,
    /// TCP_LISTEN
    Listen = 10,
    /// TCP_CLOSING
    Closing = 11,
    /// TCP_NEW_SYN_RECV
    NewSynRecv = 12,
    /// TCP_BOUND_INACTIVE (6.8): a pseudo-state of sock_diag.
    BoundInactive = 13,
}

impl State {
    /// All of them, by their numbers from 1 on.
    pub(crate) const ALL: [State; 13] = {
        use State::*;
        [
            Established,
            SynSent,
            SynRecv,
            FinWait1,
            FinWait2,
            TimeWait,
            Close,
            CloseWait,
            LastAck,
            Listen,
            Closing,
            NewSynRecv,
            BoundInactive,
        ]
    };

    /// The state of this number.
    #[inline(always)]
    pub fn from_number(number: u8) -> Option<State> {
        use State::*;
        Some(match number {
            1 => Established,
            2 => SynSent,
            3 => SynRecv,
            4 => FinWait1,
            5 => FinWait2,
            6 => TimeWait,
            7 => Close,
            8 => CloseWait,
            9 => LastAck,
            10 => Listen,
            11 => Closing,
            12 => NewSynRecv,
            13 => BoundInactive,
            _ => return None,
        })
    }

    /// Whether a socket in it has queued its FIN, the last that it sends.
    #[inline]
    pub(crate) fn has_fin_queued(self) -> bool {
        use State::*;
        matches!(self, FinWait1 | FinWait2 | Closing | LastAck)
    }

    /// The kernel's name, without `TCP_`.
    pub const fn name(self) -> &'static str {
        match self {
            State::Established => "ESTABLISHED",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::FinWait1 => "FIN_WAIT1",
            State::FinWait2 => "FIN_WAIT2",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::Listen => "LISTEN",
            State::Closing => "CLOSING",
            State::NewSynRecv => "NEW_SYN_RECV",
            State::BoundInactive => "BOUND_INACTIVE",
        }
    }

    /// What the log line calls it.
    pub const fn description(self) -> &'static str {
        match self {
            State::Established => "Connection Established",
            State::SynSent => "Connection Opening (SYN_SENT)",
            State::SynRecv => "Connection Opening (SYN_RECV)",
            State::FinWait1 => "Connection Closing (FIN_WAIT1)",
            State::FinWait2 => "Connection Closing (FIN_WAIT2)",
            State::TimeWait => "Connection Closed (TIME_WAIT)",
            State::Close => "Connection Closed",
            State::CloseWait => "Connection Closing (CLOSE_WAIT)",
            State::LastAck => "Connection Closing (LAST_ACK)",
            State::Listen => "Listening for Connections",
            State::Closing => "Connection Closing (CLOSING)",
            State::NewSynRecv => "Connection Opening (NEW_SYN_RECV)",
            State::BoundInactive => "Connection Closed (BOUND_INACTIVE)",
        }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address; a v4-mapped one is an IPv4 address here.
    pub addr: IpAddr,
    /// The port; 0 while none is chosen.
    pub port: u16,
}

/// The IP version on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// IPv4, also when it is an AF_INET6 socket's.
    Ipv4,
    /// IPv6
    Ipv6,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_states_agree() {
        for number in 0..=255u8 {
            match State::from_number(number) {
                Some(state) => assert_eq!(state as u8, number),
                None => assert!(number == 0 || number > 13),
            }
        }
    }
}
