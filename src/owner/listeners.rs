//! Who can be at a listener: what children are told to belong to before they do
//! anything in their own process.
//!
//! Contract: a process is believed to hold its listener as long as it lives, the
//! listener is open, and nobody else can hold it in its place: once it has forked,
//! a child of it may have the listener and it may have closed its own (as a
//! supervisor does), so that it is believed again only when it accepts. Who was
//! seen to accept last holds the listener. Memory is bounded: with more listeners
//! than fit, those beyond have no owner, which is poorer and never wrong.

use crate::bpf::maps::{LISTENERS, Listener};
use crate::model::event::{Event, Owner};
use crate::model::table::TableByNumber;
use crate::model::tcp::Endpoint;
use crate::owner::lineage::{Descendants, Lineage};
use std::net::IpAddr;

/// One listener.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Its address in the kernel; `None` for one from before the start.
    socket: Option<u64>,
    addr: IpAddr,
    /// When it was opened, 0 for one from before the start.
    opened: u64,
    /// Who holds it, by what is known.
    pid: u32,
    /// Since when that is known.
    since: u64,
    /// Whether others were known to have it when this one was: what descends from
    /// this one is not all that can have it.
    shared: bool,
    /// Whether that one holds it beside its children: it accepted while it had
    /// some that are younger, or was found to have it when others had it, too.
    stays: bool,
}

impl Entry {
    /// Whether it may be the listener of a child with this address. An IPv6
    /// wildcard may stand for IPv4, too.
    fn fits(&self, addr: IpAddr) -> bool {
        let wild = self.addr.is_unspecified() && (self.addr.is_ipv6() || addr.is_ipv4());
        self.addr == addr || wild
    }
}

/// Whose a child is that its listener's owner may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The process that was asked about.
    Same,
    /// That one has ended; its only living descendant since it had the listener:
    /// the id, and when it was born.
    Heir(u32, u64),
    /// It can't be told.
    Unknown,
}

/// All listeners, by port.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Who can choose ports has no more than all of them.
    by_port: TableByNumber<Vec<Entry>>,
    count: usize,
}

impl Listeners {
    fn add(&mut self, port: u16, entry: Entry) {
        if self.count < LISTENERS as usize {
            self.count += 1;
            self.by_port.entry(port).push(entry);
        }
    }

    fn remove(&mut self, port: u16, which: impl Fn(&Entry) -> bool) {
        let Some(all) = self.by_port.get_mut(port) else {
            return;
        };
        if let Some(at) = all.iter().position(which) {
            all.swap_remove(at);
            self.count -= 1;
        }
        if all.is_empty() {
            self.by_port.remove(port);
        }
    }

    /// Takes the event of a new listener, whose owner is this process.
    #[inline(never)]
    pub fn opened(&mut self, event: &Event, pid: u32) {
        // What was at its address in the kernel is no more.
        self.remove(event.local.port, |e| e.socket == Some(event.socket));
        let entry = Entry {
            socket: Some(event.socket),
            addr: event.local.addr,
            opened: event.time,
            pid,
            since: event.time,
            shared: false,
            stays: false,
        };
        self.add(event.local.port, entry);
    }

    /// Takes one that was found at the start, at `time`; `shared` says that
    /// several processes had it then.
    pub fn found(&mut self, listener: &Listener, time: u64, shared: bool) {
        let Some(owner) = listener.owner else { return };
        let entry = Entry {
            socket: None,
            addr: listener.local.addr,
            opened: 0,
            pid: owner.task.pid,
            since: time,
            shared,
            stays: shared,
        };
        for _ in 0..listener.count.min(LISTENERS) {
            self.add(listener.local.port, entry);
        }
    }

    /// Takes back one that was found, and had gone.
    pub fn forget(&mut self, listener: &Listener) {
        let addr = listener.local.addr;
        self.remove(listener.local.port, |e| {
            e.socket.is_none() && e.addr == addr
        });
    }

    /// Takes the event of a listener that is closed.
    #[inline(never)]
    pub fn closed(&mut self, event: &Event) {
        let (port, addr) = (event.local.port, event.local.addr);
        let known = |e: &Entry| e.socket == Some(event.socket);
        let all = self.by_port.get(port);
        if all.is_some_and(|all| all.iter().any(known)) {
            self.remove(port, known);
        } else {
            self.remove(port, |e| e.socket.is_none() && e.addr == addr);
        }
    }

    /// Takes the accept of a connection by its owner: that one holds the listener.
    #[inline]
    pub fn accepted(&mut self, event: &Event, owner: &Owner, kin: &dyn Lineage) {
        let Some(all) = self.by_port.get_mut(event.local.port) else {
            return;
        };
        let pid = owner.task.pid;
        let mut fitting = all.iter_mut().filter(|e| e.fits(event.local.addr));
        let Some(first) = fitting.next() else { return };
        let mut others = fitting.peekable();
        if others.peek().is_none() && first.pid != pid {
            (first.pid, first.since) = (pid, event.time);
            (first.shared, first.stays) = (true, false);
            return;
        }
        for entry in std::iter::once(first).chain(others) {
            entry.stays |=
                entry.pid == pid && kin.descendants(pid, entry.since) != Descendants::None;
        }
    }

    #[inline]
    fn at(&self, pid: u32, local: &Endpoint, born: u64) -> impl Iterator<Item = &Entry> {
        let all = self.by_port.get(local.port).into_iter().flatten();
        all.filter(move |e| e.pid == pid && e.opened <= born && e.fits(local.addr))
    }

    /// Whether this process has one that a child with this local end may be of,
    /// born at this time.
    #[inline]
    pub fn is_at(&self, pid: u32, local: &Endpoint, born: u64) -> bool {
        self.at(pid, local, born).next().is_some()
    }

    /// Whether nobody but this process can accept such a child.
    pub fn is_alone(&self, pid: u32, local: &Endpoint, born: u64, kin: &dyn Lineage) -> bool {
        let alone =
            |e: &Entry| !e.stays && !e.shared && kin.descendants(pid, e.since) == Descendants::None;
        kin.follows() && self.is_at(pid, local, born) && self.at(pid, local, born).all(alone)
    }

    /// Whose a child is with this local end, born at this time, of a listener
    /// that this process is said to have; `None` for a child of whatever listener
    /// of its.
    #[inline]
    pub fn holder(
        &self,
        pid: u32,
        local: Option<&Endpoint>,
        born: u64,
        kin: &dyn Lineage,
    ) -> Holder {
        if !kin.follows() {
            return Holder::Same;
        }
        let all = self.by_port.values().flatten();
        let mut anywhere = all.filter(|e| e.pid == pid && e.opened <= born);
        match local {
            Some(local) => Listeners::agreed(&mut self.at(pid, local, born), kin),
            None => Listeners::agreed(&mut anywhere, kin),
        }
    }

    /// What is true by all of these.
    #[inline]
    fn agreed(all: &mut dyn Iterator<Item = &Entry>, kin: &dyn Lineage) -> Holder {
        let mut found = None;
        for entry in all {
            let one = Listeners::judge(entry, kin);
            if found.is_some_and(|other| other != one) {
                return Holder::Unknown;
            }
            found = Some(one);
        }
        found.unwrap_or(Holder::Unknown)
    }

    fn judge(entry: &Entry, kin: &dyn Lineage) -> Holder {
        let descendants = || kin.descendants(entry.pid, entry.since);
        match kin.lives(entry.pid, entry.since) {
            Some(true) if entry.stays || descendants() == Descendants::None => Holder::Same,
            Some(false) if !entry.shared => match descendants() {
                Descendants::Only(pid, born) => Holder::Heir(pid, born),
                _ => Holder::Unknown,
            },
            _ => Holder::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::tests::{owner, state};
    use crate::model::event::OwnerSource;
    use crate::model::tcp::State::{Close, Listen};
    use crate::owner::lineage::tests::Family;

    const FOR_EVER: u64 = u64::MAX;

    /// The holder of a child that is born at the family's moment.
    fn holder(listeners: &Listeners, pid: u32, kin: &Family) -> Holder {
        let child = state(0, 9, Listen, crate::model::tcp::State::SynRecv, (80, 4000));
        listeners.holder(pid, Some(&child.local), kin.now, kin)
    }

    fn opened(time: u64, socket: u64, pid: u32) -> Listeners {
        let mut listeners = Listeners::default();
        listeners.opened(&state(time, socket, Close, Listen, (80, 0)), pid);
        listeners
    }

    #[test]
    fn a_daemon_leaves_its_listener_to_its_child() {
        let listeners = opened(10, 1, 5);
        let mut kin = Family {
            all: vec![(5, 1, 30, 1), (6, 20, FOR_EVER, 5)],
            now: 15,
        };
        assert_eq!(holder(&listeners, 5, &kin), Holder::Same);
        // Forked: either may have it.
        kin.now = 25;
        assert_eq!(holder(&listeners, 5, &kin), Holder::Unknown);
        kin.now = 35;
        assert_eq!(holder(&listeners, 5, &kin), Holder::Heir(6, 20));
        // That one forks, too: the master or its worker.
        kin.all.push((7, 40, FOR_EVER, 6));
        kin.now = 45;
        assert_eq!(holder(&listeners, 5, &kin), Holder::Unknown);
    }

    #[test]
    fn children_from_before_the_listener_do_not_have_it() {
        let listeners = opened(10, 1, 5);
        let kin = Family {
            all: vec![(5, 1, FOR_EVER, 1), (6, 5, FOR_EVER, 5)],
            now: 15,
        };
        assert_eq!(holder(&listeners, 5, &kin), Holder::Same);
    }

    #[test]
    fn who_accepts_holds_it() {
        let mut listeners = opened(10, 1, 5);
        let kin = |now| Family {
            all: vec![(5, 1, FOR_EVER, 1), (6, 20, 50, 5), (7, 21, FOR_EVER, 5)],
            now,
        };
        let accepted = Event {
            what: crate::model::event::What::Accepted,
            ..state(30, 9, Close, Close, (80, 4000))
        };
        listeners.accepted(&accepted, &owner(6, OwnerSource::Accept), &kin(30));
        assert_eq!(holder(&listeners, 6, &kin(31)), Holder::Same);
        assert_eq!(holder(&listeners, 5, &kin(31)), Holder::Unknown);
        // It has ended: the other two still have it.
        assert_eq!(holder(&listeners, 6, &kin(51)), Holder::Unknown);
        let again = Event {
            time: 60,
            ..accepted
        };
        listeners.accepted(&again, &owner(5, OwnerSource::Accept), &kin(60));
        assert_eq!(holder(&listeners, 5, &kin(61)), Holder::Same);
    }

    #[test]
    fn who_forks_after_an_accept_is_believed_when_it_accepts_again() {
        let mut listeners = opened(10, 1, 5);
        let kin = |now| Family {
            all: vec![
                (5, 1, FOR_EVER, 1),
                (6, 20, FOR_EVER, 5),
                (7, 40, FOR_EVER, 5),
            ],
            now,
        };
        let accepted = |time| Event {
            what: crate::model::event::What::Accepted,
            ..state(time, 9, Close, Close, (80, 4000))
        };
        let who = owner(5, OwnerSource::Accept);
        listeners.accepted(&accepted(15), &who, &kin(15));
        assert_eq!(holder(&listeners, 5, &kin(16)), Holder::Same);
        // It may have left its listener to its child.
        assert_eq!(holder(&listeners, 5, &kin(25)), Holder::Unknown);
        // It has not: so do servers that fork for each connection.
        listeners.accepted(&accepted(30), &who, &kin(30));
        assert_eq!(holder(&listeners, 5, &kin(41)), Holder::Same);
    }

    #[test]
    fn a_listener_that_is_closed_has_nobody() {
        let mut listeners = opened(10, 1, 5);
        let kin = Family {
            all: vec![(5, 1, FOR_EVER, 1)],
            now: 15,
        };
        // Another one at the same address came after the child.
        listeners.closed(&state(20, 1, Listen, Close, (80, 0)));
        assert_eq!(holder(&listeners, 5, &kin), Holder::Unknown);
        listeners.opened(&state(21, 2, Close, Listen, (80, 0)), 5);
        assert_eq!(holder(&listeners, 5, &kin), Holder::Unknown);
        let later = Family { now: 22, ..kin };
        assert_eq!(holder(&listeners, 5, &later), Holder::Same);
    }

    #[test]
    fn memory_is_bounded_and_is_given_back() {
        let mut listeners = Listeners::default();
        for socket in 0..20_000 {
            listeners.opened(&state(1, socket, Close, Listen, (80, 0)), 5);
        }
        assert_eq!(listeners.count, LISTENERS as usize);
        for socket in 0..20_000 {
            listeners.closed(&state(1, socket, Listen, Close, (80, 0)));
        }
        assert!(listeners.count == 0 && listeners.by_port.is_empty());
    }
}
