//! Which events are shown: the original's flags, and the default of leaving
//! out noise.
//!
//! Contract: a filter is asked per event and may answer "not yet": the client's
//! first event has no local port, so whether it matches `--src-port` is known
//! only at the socket's next event. A filter never keeps an event from the
//! connection it belongs to.

use crate::model::event::{Event, Owner, What};
use crate::model::tcp::{Endpoint, State};
use std::net::IpAddr;

/// What a filter says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Show it.
    Show,
    /// Leave it out.
    Skip,
    /// It can't be told before the socket has a local port.
    NotYet,
}

/// All conditions must hold; a condition that isn't set always does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Process id of the owner.
    pub pid: Option<u32>,
    /// Local address.
    pub src_ip: Option<IpAddr>,
    /// Peer's address.
    pub dst_ip: Option<IpAddr>,
    /// Local port.
    pub src_port: Option<u16>,
    /// Peer's port.
    pub dst_port: Option<u16>,
    /// Only transitions to ESTABLISHED.
    pub active_only: bool,
    /// Noise too: see [`Event::is_noise`] and [`Event::stays`].
    pub all: bool,
}

fn allows<T: PartialEq>(wanted: &Option<T>, has: T) -> bool {
    wanted.as_ref().is_none_or(|wanted| *wanted == has)
}

impl Filter {
    /// Whether connections with these ends and this owner are shown, whatever
    /// happens to them.
    pub fn admits(&self, local: &Endpoint, peer: &Endpoint, owner: Option<&Owner>) -> bool {
        let noise = local.addr.is_unspecified() || peer.addr.is_unspecified();
        (self.all || !noise)
            && self
                .pid
                .is_none_or(|pid| owner.is_some_and(|owner| owner.task.pid == pid))
            && allows(&self.src_ip, local.addr)
            && allows(&self.dst_ip, peer.addr)
            && allows(&self.src_port, local.port)
            && allows(&self.dst_port, peer.port)
    }

    /// Judges an event.
    pub fn judge(&self, event: &Event) -> Verdict {
        let active = matches!(
            event.what,
            What::State {
                new: State::Established,
                ..
            }
        );
        let rest = (self.all || !event.is_noise() && !event.stays())
            && (active || !self.active_only)
            && self
                .pid
                .is_none_or(|pid| event.owner.is_some_and(|o| o.task.pid == pid))
            && allows(&self.src_ip, event.local.addr)
            && allows(&self.dst_ip, event.peer.addr)
            && allows(&self.dst_port, event.peer.port);
        match (rest, allows(&self.src_port, event.local.port)) {
            (false, _) => Verdict::Skip,
            (true, true) => Verdict::Show,
            (true, false) if event.local.port == 0 => Verdict::NotYet,
            (true, false) => Verdict::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::tests::{owner, state};
    use crate::model::event::OwnerSource;

    fn judge(set: impl FnOnce(&mut Filter), ports: (u16, u16)) -> Verdict {
        let mut filter = Filter::default();
        set(&mut filter);
        let mut event = state(1, 1, State::Close, State::SynSent, ports);
        event.owner = Some(owner(10, OwnerSource::Task));
        filter.judge(&event)
    }

    #[test]
    fn every_condition_must_hold() {
        let ip = |text: &str| text.parse().ok();
        assert_eq!(judge(|_| {}, (0, 80)), Verdict::Show);
        assert_eq!(judge(|f| f.pid = Some(10), (0, 80)), Verdict::Show);
        assert_eq!(judge(|f| f.pid = Some(11), (0, 80)), Verdict::Skip);
        assert_eq!(judge(|f| f.src_ip = ip("10.0.0.1"), (0, 80)), Verdict::Show);
        assert_eq!(judge(|f| f.src_ip = ip("10.0.0.2"), (0, 80)), Verdict::Skip);
        assert_eq!(judge(|f| f.dst_ip = ip("10.0.0.2"), (0, 80)), Verdict::Show);
        assert_eq!(judge(|f| f.dst_ip = ip("::1"), (0, 80)), Verdict::Skip);
        assert_eq!(judge(|f| f.dst_port = Some(80), (0, 80)), Verdict::Show);
        assert_eq!(judge(|f| f.dst_port = Some(81), (0, 80)), Verdict::Skip);
        assert_eq!(judge(|f| f.active_only = true, (0, 80)), Verdict::Skip);
    }

    #[test]
    fn a_change_to_the_same_state_is_none() {
        let state = |new| state(1, 1, State::FinWait1, new, (7, 80));
        let usual = Filter::default();
        let all = Filter {
            all: true,
            ..Filter::default()
        };
        assert_eq!(usual.judge(&state(State::FinWait1)), Verdict::Skip);
        assert_eq!(all.judge(&state(State::FinWait1)), Verdict::Show);
        assert_eq!(usual.judge(&state(State::FinWait2)), Verdict::Show);
    }

    #[test]
    fn a_process_is_that_of_the_owner() {
        let filter = Filter {
            pid: Some(10),
            ..Filter::default()
        };
        // The task on the CPU has this id, but nobody is known to own it.
        let event = state(1, 1, State::Close, State::SynSent, (0, 80));
        assert_eq!((event.on_cpu.pid, event.owner), (10, None));
        assert_eq!(filter.judge(&event), Verdict::Skip);
    }

    #[test]
    fn a_port_that_is_not_known_yet_is_waited_for() {
        assert_eq!(judge(|f| f.src_port = Some(7), (0, 80)), Verdict::NotYet);
        assert_eq!(judge(|f| f.src_port = Some(7), (7, 80)), Verdict::Show);
        assert_eq!(judge(|f| f.src_port = Some(7), (8, 80)), Verdict::Skip);
        let both = |f: &mut Filter| (f.src_port, f.dst_port) = (Some(7), Some(81));
        assert_eq!(judge(both, (0, 80)), Verdict::Skip);
    }
}
