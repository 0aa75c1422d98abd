//! What a recorded line says, as values.
//!
//! Contract: what isn't there stays unknown. Of what is there a value that makes no
//! sense breaks the line, and its key is remembered ([`Said::broken`]); so is that of
//! what must be there and is not. What was made of such a line is of no use.

use super::known::same;
use super::line::{At, Members, unescaped};
use super::values::{digits, id, state, time_within, v4};
use crate::host::cgroup::Place;
use crate::host::container;
use crate::lifecycle::connection::Direction;
use crate::lifecycle::recorded::Told;
use crate::lifecycle::resent::Counts;
use crate::model::ability::Abilities;
use crate::model::cause::Cause;
use crate::model::event::{COMM_LEN, Counters, Event, Owner, OwnerSource, Resending, Task, What};
use crate::model::loss::{Lost, Reason};
use crate::model::tcp::{Endpoint, State, Wire};
use crate::sys::Errno;
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

/// A line, and where its values stand.
pub(super) struct Said<'a> {
    line: &'a [u8],
    members: &'a Members,
    /// The first key that makes no sense.
    broken: Cell<Option<At>>,
    /// When it was, where that is known.
    wall: Option<u64>,
}

impl<'a> Said<'a> {
    pub(super) fn new(line: &'a [u8], members: &'a Members) -> Said<'a> {
        let broken = Cell::new(None);
        Said {
            line,
            members,
            broken,
            wall: None,
        }
    }

    /// The same where its time was read.
    pub(super) fn at(line: &'a [u8], members: &'a Members, wall: u64) -> Said<'a> {
        Said {
            wall: Some(wall),
            ..Said::new(line, members)
        }
    }

    /// The first key that makes no sense, or is missing, of those that were asked for.
    pub(super) fn broken(&self) -> Option<At> {
        self.broken.get()
    }

    #[cold]
    #[inline(never)]
    pub(super) fn complain(&self, at: At) {
        self.broken.set(self.broken.get().or(Some(at)));
    }

    /// A string; empty where there is none.
    #[inline(never)]
    pub(super) fn text(&self, at: At) -> &'a [u8] {
        match self.members.value(self.line, at) {
            b"null" => b"",
            text => text,
        }
    }

    /// A number that is no greater than this.
    #[inline(never)]
    fn up_to(&self, at: At, most: u64) -> Option<u64> {
        let text = self.text(at);
        if text.is_empty() {
            return None;
        }
        let number = digits(text).filter(|n| *n <= most);
        if number.is_none() {
            self.complain(at);
        }
        number
    }

    pub(super) fn number(&self, at: At) -> Option<u64> {
        self.up_to(at, u64::MAX)
    }

    #[inline(never)]
    fn short(&self, at: At) -> Option<u32> {
        self.up_to(at, u32::MAX.into()).map(|n| n as u32)
    }

    fn boolean(&self, at: At) -> Option<bool> {
        match self.text(at) {
            b"" => None,
            b"true" => Some(true),
            b"false" => Some(false),
            _ => {
                self.complain(at);
                None
            }
        }
    }

    /// The place of a name in a list; `None` where it isn't in it.
    #[inline(never)]
    fn one_of(&self, at: At, names: &dyn Fn(u8) -> Option<&'static str>) -> Option<u8> {
        let text = self.text(at);
        let mut number = 0;
        while let Some(name) = names(number) {
            if same(name.as_bytes(), text) {
                return Some(number);
            }
            number += 1;
        }
        None
    }

    #[inline(never)]
    fn state(&self, at: At) -> Option<State> {
        let text = self.text(at);
        let found = state(text);
        if found.is_none() && !text.is_empty() {
            self.complain(at);
        }
        found
    }

    /// The same of one that must be there.
    fn sure_state(&self, at: At) -> State {
        self.state(at).unwrap_or_else(|| {
            self.complain(at);
            State::Close
        })
    }

    #[inline(never)]
    fn comm(&self, at: At) -> [u8; COMM_LEN] {
        let mut name = [0; COMM_LEN];
        let text = self.text(at);
        if text.len() < COMM_LEN && !text.contains(&b'\\') {
            name.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
            return name;
        }
        match unescaped(self.text(at), COMM_LEN - 1) {
            Some(text) => name.iter_mut().zip(text).for_each(|(to, from)| *to = from),
            None => self.complain(at),
        }
        name
    }

    /// Any text, as far as it is not too long.
    #[inline(never)]
    pub(super) fn string(&self, at: At) -> String {
        let text = unescaped(self.text(at), 1 << 16);
        if text.is_none() {
            self.complain(at);
        }
        String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
    }

    #[inline(never)]
    fn time(&self, at: At) -> Option<u64> {
        let text = self.text(at);
        let found = time_within(text, &self.members.second);
        if found.is_none() && !text.is_empty() {
            self.complain(at);
        }
        found
    }

    /// When it was, in nanoseconds since the epoch.
    pub(super) fn wall(&self) -> u64 {
        self.wall
            .or_else(|| self.time(At::TIME))
            .unwrap_or_else(|| {
                self.complain(At::TIME);
                0
            })
    }

    #[inline(never)]
    fn end(&self, at: At, port: At) -> Endpoint {
        let text = self.text(at);
        let addr = v4(text).map(IpAddr::from).unwrap_or_else(|| {
            let text = std::str::from_utf8(text).unwrap_or_default();
            text.parse::<IpAddr>().unwrap_or_else(|_| {
                self.complain(at);
                Ipv4Addr::UNSPECIFIED.into()
            })
        });
        let port = self.up_to(port, u16::MAX.into()).unwrap_or(0) as u16;
        Endpoint { addr, port }
    }

    fn owner(&self) -> Option<Owner> {
        let name = |n: u8| Some(OwnerSource::from_number(n + 1)?.name());
        let source = self.one_of(At::OWNER_SOURCE, &name)?;
        let source = OwnerSource::from_number(source + 1)?;
        if let Some(at) = self.members.known_part() {
            let owner = self.members.known.borrow().owner(at)?;
            return Some(Owner { source, ..owner });
        }
        let owner = self.new_owner(source)?;
        if self.broken().is_none() {
            self.members.learn(self.line, &owner);
        }
        Some(owner)
    }

    /// An owner who was not known before.
    fn new_owner(&self, source: OwnerSource) -> Option<Owner> {
        Some(Owner {
            task: Task {
                pid: self.short(At::PROCESS_PID)?,
                tid: self.short(At::PROCESS_THREAD_ID).unwrap_or(0),
                uid: self.short(At::USER_ID),
                name: self.comm(At::PROCESS_NAME),
            },
            thread: self.comm(At::THREAD_NAME),
            parent: self.short(At::PROCESS_PARENT_PID),
            cgroup: self.number(At::PROCESS_CGROUP_ID),
            source,
        })
    }

    /// What the owner's cgroup is in, where that is told.
    pub(super) fn place(&self) -> Option<(u64, Place)> {
        if let Some(at) = self.members.known_part() {
            return self.members.known.borrow_mut().place(at);
        }
        let known = !self.text(At::CONTAINER_ID).is_empty();
        let id = self.number(At::PROCESS_CGROUP_ID);
        let told = id
            .filter(|_| known || !self.text(At::K8S_POD_UID).is_empty())
            .map(|id| {
                let place = Place {
                    container: self.string(At::CONTAINER_ID),
                    runtime: container::runtime(&self.string(At::CONTAINER_RUNTIME)),
                    pod: self.string(At::K8S_POD_UID),
                    names: (
                        self.string(At::K8S_NAMESPACE_NAME),
                        self.string(At::K8S_POD_NAME),
                    ),
                };
                (id, place)
            });
        if let Some(told) = &told {
            self.members.learn_place(self.line, told);
        }
        told
    }

    /// Which run the socket is of, and its number there.
    pub(super) fn id(&self) -> Option<(u64, u64)> {
        let text = self.text(At::SOCKET_ID);
        let found = id(text);
        if found.is_none() && !text.is_empty() {
            self.complain(At::SOCKET_ID);
        }
        found
    }

    /// A retransmission, or one that failed.
    fn again(&self, failed: bool) -> What {
        const KINDS: [Resending; 3] = [
            Resending::Timeout,
            Resending::Fast,
            Resending::TailLossProbe,
        ];
        let name = |n: u8| KINDS.get(usize::from(n)).map(|kind| kind.name());
        let kind = self.one_of(At::TCP_RETRANSMIT_KIND, &name);
        let mut error = None;
        if failed {
            let text = self.text(At::ERROR_TYPE);
            let name = std::str::from_utf8(text).unwrap_or_default();
            error = Errno::named(name).map(|errno| errno.0);
            error = error.or(digits(text).map(|n| n as i32));
            if error.is_none() {
                self.complain(At::ERROR_TYPE);
            }
        }
        What::Retransmit {
            state: self.state(At::TCP_STATE_CURRENT),
            error,
            total: None,
            kind: kind.and_then(|n| KINDS.get(usize::from(n)).copied()),
        }
    }

    /// The event of a line, if it is one's; its socket isn't known yet.
    pub(super) fn event(&self) -> Option<Event> {
        let what = match self.text(At::EVENT_NAME) {
            b"tcp_state" => What::State {
                old: self.sure_state(At::TCP_STATE_OLD),
                new: self.sure_state(At::TCP_STATE_NEW),
            },
            b"tcp_retransmit" => self.again(false),
            b"tcp_retransmit_failed" => self.again(true),
            // An end, of which the record tells.
            b"connection" => What::Accepted,
            _ => return None,
        };
        Some(Event {
            time: self.wall(),
            cpu: self.short(At::CPU_LOGICAL_NUMBER).unwrap_or(0),
            socket: 0,
            on_cpu: Task {
                pid: self.short(At::ON_CPU_PID).unwrap_or(0),
                name: self.comm(At::ON_CPU_NAME),
                ..Task::default()
            },
            owner: self.owner(),
            netns: self.short(At::NETWORK_NAMESPACE),
            what,
            local: self.end(At::NETWORK_LOCAL_ADDRESS, At::NETWORK_LOCAL_PORT),
            peer: self.end(At::NETWORK_PEER_ADDRESS, At::NETWORK_PEER_PORT),
            wire: match self.text(At::NETWORK_TYPE) {
                b"ipv6" => Wire::Ipv6,
                _ => Wire::Ipv4,
            },
            counters: Counters::default(),
            last: false,
        })
    }

    pub(super) fn segments(&self) -> Option<u32> {
        self.short(At::TCP_RETRANSMIT_SEGMENTS)
    }

    pub(super) fn time_wait(&self) -> Option<bool> {
        self.boolean(At::TCP_TIME_WAIT)
    }

    /// What a record says of the life of its connection.
    pub(super) fn told(&self) -> Told {
        let (mut counters, mut resent) = (Counters::default(), Counts::default());
        for (at, place) in [
            (At::TCP_RETRANSMITS_TOTAL, &mut resent.all),
            (
                At::TCP_BYTES_RETRANSMITTED,
                &mut counters.bytes_retransmitted,
            ),
            (At::TCP_BYTES_SENT, &mut counters.bytes_sent),
            (At::TCP_BYTES_RECEIVED, &mut counters.bytes_received),
        ] {
            *place = self.number(at);
        }
        let mut failed = None;
        for (at, place) in [
            (At::TCP_RETRANSMITS_SYN, &mut resent.syn),
            (At::TCP_RETRANSMITS_SYNACK, &mut resent.synack),
            (At::TCP_RETRANSMITS_DATA, &mut resent.data),
            (At::TCP_RETRANSMITS_DATA_EVENTS, &mut resent.data_events),
            (At::TCP_RETRANSMITS_FAILED, &mut failed),
            (At::TCP_SEGMENTS_SENT, &mut counters.segments_sent),
            (At::TCP_SEGMENTS_RECEIVED, &mut counters.segments_received),
            (At::TCP_RTT_US, &mut counters.rtt_us),
            (At::TCP_MIN_RTT_US, &mut counters.min_rtt_us),
        ] {
            *place = self.short(at);
        }
        resent.failed = failed.unwrap_or(0);
        let mut tells = Abilities::SYNACKS;
        tells.set(Abilities::FAILED_RETRANSMISSIONS, failed.is_some());
        let cause = |n: u8| Cause::ALL.get(usize::from(n)).copied();
        let name = |n: u8| cause(n).map(Cause::name);
        let found = self.one_of(At::CONNECTION_CAUSE, &name);
        let states = self.text(At::CONNECTION_STATES_NS);
        Told {
            direction: match self.text(At::CONNECTION_DIRECTION) {
                b"outgoing" => Direction::Outgoing,
                b"incoming" => Direction::Incoming,
                _ => Direction::Unknown,
            },
            start: self.time(At::CONNECTION_START),
            duration: self.number(At::CONNECTION_DURATION_NS),
            accept_delay: self.number(At::TCP_ACCEPT_DELAY_NS),
            existed: self.boolean(At::CONNECTION_EXISTED) == Some(true),
            cause: found.and_then(cause).unwrap_or(Cause::Unknown),
            end_seen: self.boolean(At::CONNECTION_END_SEEN),
            time_wait: self.time_wait(),
            states: match states.is_empty() {
                true => Vec::new(),
                false => super::values::states(states).unwrap_or_else(|| {
                    self.complain(At::CONNECTION_STATES_NS);
                    Vec::new()
                }),
            },
            counters,
            resent,
            tells,
        }
    }

    /// What a line says is missing.
    pub(super) fn lost(&self) -> Option<Lost> {
        let reason = |n: u8| Reason::ALL.get(usize::from(n)).copied();
        let name = |n: u8| reason(n).map(Reason::name);
        let found = self.one_of(At::LOST_REASON, &name);
        let found = found.and_then(reason).zip(self.number(At::LOST_COUNT));
        if found.is_none() {
            self.complain(At::LOST_REASON);
        }
        let (reason, count) = found?;
        Some(Lost {
            wall: self.wall(),
            cpu: self.short(At::CPU_LOGICAL_NUMBER),
            count,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_told_by_its_key() {
        let line = br#"{"time":"2024-12-30T22:05:25.454123456Z","event.name":"tcp_state","network.local.address":"::1","network.local.port":65536,"network.peer.address":"::1"}"#;
        let mut members = Members::new(true);
        assert!(members.read(line));
        let said = Said::new(line, &members);
        assert!(said.event().is_some());
        assert_eq!(said.broken(), Some(At::TCP_STATE_OLD));
        let said = Said::new(line, &members);
        said.end(At::NETWORK_LOCAL_ADDRESS, At::NETWORK_LOCAL_PORT);
        assert_eq!(said.broken(), Some(At::NETWORK_LOCAL_PORT));
    }
}
