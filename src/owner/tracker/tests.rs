use super::*;
use crate::bpf::wire::tests::{owner, state};
use crate::owner::lineage::tests::Family;
use OwnerSource::{Accept, Cached, Descendant, ListenerAccepted, Snapshot};
use OwnerSource::{Listener as FromListener, Task as ByTask};
use State::{Close, CloseWait, Established, FinWait1, FinWait2, Listen, SynRecv, SynSent};

const FOR_EVER: u64 = u64::MAX;

/// A connection whose events are told one after the other.
struct Play {
    tracker: Tracker,
    listeners: Listeners,
    kin: Family,
}

impl Play {
    fn new(all: &[(u32, u64, u64, u32)]) -> Play {
        Play {
            tracker: Tracker::default(),
            listeners: Listeners::default(),
            kin: Family {
                all: all.to_vec(),
                now: 0,
            },
        }
    }

    fn event(
        &mut self,
        time: u64,
        change: (State, State),
        said: Option<(u32, OwnerSource)>,
    ) -> Option<(u32, OwnerSource)> {
        self.event_at(time, change, said, (80, 4000))
    }

    fn event_at(
        &mut self,
        time: u64,
        change: (State, State),
        said: Option<(u32, OwnerSource)>,
        ports: (u16, u16),
    ) -> Option<(u32, OwnerSource)> {
        let event = Event {
            owner: said.map(|(pid, source)| owner(pid, source)),
            ..state(time, 7, change.0, change.1, ports)
        };
        let told = self.take(&event);
        told.map(|owner| (owner.task.pid, owner.source))
    }

    fn take(&mut self, event: &Event) -> Option<Owner> {
        self.kin.now = event.time;
        self.tracker.tell(event);
        let moment = Moment {
            kin: &self.kin,
            listeners: &self.listeners,
            sockets: true,
        };
        self.tracker.judge(event, &event.local, 20, &moment);
        self.tracker.get()
    }

    fn listen(&mut self, time: u64, pid: u32) {
        let event = state(time, 1, Close, Listen, (80, 0));
        self.listeners.opened(&event, pid);
    }
}

#[test]
fn the_better_knowledge_stays() {
    let mut play = Play::new(&[]);
    let mut told = |pid, source| {
        let event = Event {
            owner: Some(owner(pid, source)),
            ..state(1, 7, Established, CloseWait, (80, 4000))
        };
        play.tracker.tell(&event);
        play.tracker.get().map(|o| (o.task.pid, o.source))
    };
    assert_eq!(told(1, Snapshot), Some((1, Snapshot)));
    assert_eq!(told(2, FromListener), Some((2, FromListener)));
    assert_eq!(told(3, Snapshot), Some((2, FromListener)));
    assert_eq!(told(4, Accept), Some((4, Accept)));
    assert_eq!(told(5, FromListener), Some((4, Accept)));
    // Passed on to another process.
    assert_eq!(told(6, ByTask), Some((6, ByTask)));
}

#[test]
fn who_has_ended_owns_nothing() {
    let all = [(5, 1, 30, 1), (6, 25, 50, 5)];
    let mut play = Play::new(&all);
    let opening = play.event(20, (Close, SynSent), Some((5, ByTask)));
    assert_eq!(opening, Some((5, ByTask)));
    let passive = (SynSent, Established);
    assert_eq!(
        play.event(21, passive, Some((5, Cached))),
        Some((5, Cached))
    );
    // Its child is the only one left, then nobody is.
    let later = (Established, CloseWait);
    assert_eq!(
        play.event(40, later, Some((5, Cached))),
        Some((6, Descendant))
    );
    assert_eq!(play.event(60, later, Some((5, Cached))), None);
}

#[test]
fn what_it_closed_itself_stays_its_own() {
    let mut play = Play::new(&[(5, 1, 30, 1), (6, 25, FOR_EVER, 5)]);
    play.event(20, (Close, SynSent), Some((5, ByTask)));
    play.event(29, (Established, FinWait1), Some((5, ByTask)));
    let end = play.event(40, (FinWait1, Close), Some((5, Cached)));
    assert_eq!(end, Some((5, Cached)));
    let kept = play.tracker.get().expect("an owner");
    assert_eq!((kept.task.uid, kept.task.comm()), (Some(0), &b"curl"[..]));
}

#[test]
fn its_name_stays_where_events_tell_only_the_threads() {
    let mut play = Play::new(&[(5, 1, 30, 1)]);
    let mut tell = |time, change: (State, State), source| {
        let mut nameless = owner(5, source);
        nameless.task.name = [0; COMM_LEN];
        let event = Event {
            owner: Some(nameless),
            ..state(time, 7, change.0, change.1, (80, 4000))
        };
        play.take(&event).map(|owner| owner.task.name[0])
    };
    assert_eq!(tell(20, (Close, SynSent), ByTask), Some(b'f'));
    assert_eq!(tell(29, (Established, FinWait1), ByTask), Some(b'f'));
    assert_eq!(tell(40, (FinWait1, FinWait2), Cached), Some(b'f'));
}

#[test]
fn names_and_users_are_of_the_moment() {
    let mut play = Play::new(&[(5, 1, FOR_EVER, 1)]);
    play.event(20, (Close, SynSent), Some((5, ByTask)));
    let event = state(21, 7, SynSent, Established, (80, 4000));
    play.kin.now = 21;
    let moment = Moment {
        kin: &play.kin,
        listeners: &play.listeners,
        sockets: true,
    };
    play.tracker.judge(&event, &event.local, 20, &moment);
    let told = play.tracker.get().expect("an owner");
    // What has become of it since isn't told by this event.
    assert_eq!((told.task.uid, told.task.comm()), (None, &b"f"[..]));
}

#[test]
fn a_number_used_again_is_another_process() {
    let mut play = Play::new(&[(5, 1, 30, 1), (5, 35, FOR_EVER, 1)]);
    play.event(20, (Close, SynSent), Some((5, ByTask)));
    let later = (Established, CloseWait);
    assert_eq!(play.event(40, later, Some((5, Cached))), None);
}

#[test]
fn a_listeners_owner_has_its_child_while_nobody_else_can() {
    let all = [(5, 1, FOR_EVER, 1), (6, 30, FOR_EVER, 5)];
    let mut play = Play::new(&all);
    play.listen(10, 5);
    let listener = Some((5, FromListener));
    assert_eq!(play.event(20, (Listen, SynRecv), listener), listener);
    // A supervisor forks.
    assert_eq!(play.event(31, (SynRecv, Established), listener), None);
    // By itself, or by an accept, it is known again.
    let seen = Some((6, Accept));
    assert_eq!(play.event(32, (Established, CloseWait), seen), seen);
}

#[test]
fn one_that_only_the_listeners_owner_could_accept_is_its() {
    let all = [(5, 1, 50, 1), (6, 30, FOR_EVER, 5)];
    let mut play = Play::new(&all);
    play.listen(10, 5);
    let accepted = Some((5, ListenerAccepted));
    play.event(20, (Listen, SynRecv), Some((5, FromListener)));
    assert_eq!(play.event(25, (SynRecv, Established), accepted), accepted);
    // Neither a fork nor the end of the listener takes it away, but its own.
    play.listeners = Listeners::default();
    let later = (Established, CloseWait);
    assert_eq!(play.event(35, later, accepted), accepted);
    assert_eq!(play.event(55, later, accepted), Some((6, Descendant)));
}

#[test]
fn a_child_whose_listener_has_gone_may_be_anybodys() {
    // net.ipv4.tcp_migrate_req
    let mut play = Play::new(&[(5, 1, FOR_EVER, 1)]);
    play.listen(10, 5);
    let listener = Some((5, FromListener));
    assert_eq!(play.event(20, (Listen, SynRecv), listener), listener);
    let gone = state(22, 1, Listen, Close, (80, 0));
    play.listeners.closed(&gone);
    assert_eq!(play.event(25, (Established, CloseWait), listener), None);
}

#[test]
fn a_child_that_goes_with_its_listener_is_who_closes_its() {
    let mut play = Play::new(&[(5, 1, FOR_EVER, 1)]);
    play.listen(10, 5);
    let listener = Some((5, FromListener));
    play.event(20, (Listen, SynRecv), listener);
    play.listeners = Listeners::default();
    let mut event = Event {
        owner: Some(owner(5, FromListener)),
        ..state(25, 7, Established, Close, (80, 4000))
    };
    let mut told = |by| {
        event.on_cpu.pid = by;
        let moment = Moment {
            kin: &play.kin,
            listeners: &play.listeners,
            sockets: true,
        };
        play.tracker.judge(&event, &event.local, 20, &moment);
        play.tracker.get().map(|owner| owner.task.pid)
    };
    assert_eq!(told(5), Some(5));
    assert_eq!(told(6), None);
}

#[test]
fn one_that_was_steered_is_its_listeners_owners_at_another_address() {
    let all = [(5, 1, FOR_EVER, 1), (6, 30, FOR_EVER, 5)];
    let mut play = Play::new(&all);
    let elsewhere = state(10, 1, Close, Listen, (81, 0));
    play.listeners.opened(&elsewhere, 5);
    let listener = Some((5, FromListener));
    assert_eq!(play.event(20, (Listen, SynRecv), listener), listener);
    assert_eq!(play.event(21, (SynRecv, Established), listener), listener);
    assert_eq!(play.event(31, (Established, CloseWait), listener), None);
}

#[test]
fn who_is_on_its_way_out_still_closes_what_it_has() {
    let mut play = Play::new(&[(5, 1, 30, 1), (6, 25, FOR_EVER, 5)]);
    play.event(20, (Close, SynSent), Some((5, ByTask)));
    let mut event = state(31, 7, Established, Close, (80, 4000));
    (event.owner, event.on_cpu.pid) = (Some(owner(5, Cached)), 5);
    play.kin.now = 31;
    let moment = Moment {
        kin: &play.kin,
        listeners: &play.listeners,
        sockets: true,
    };
    play.tracker.judge(&event, &event.local, 20, &moment);
    let told = play.tracker.get().expect("an owner");
    assert_eq!((told.task.pid, told.source), (5, Cached));
}

#[test]
fn no_thread_of_the_kernel_is_an_owner() {
    let mut play = Play::new(&[(2, 0, FOR_EVER, 0)]);
    assert_eq!(play.event(20, (Close, SynSent), Some((2, ByTask))), None);
}

#[test]
fn where_it_was_steered_to_is_seen_when_its_ends_are() {
    let mut play = Play::new(&[(5, 1, FOR_EVER, 1)]);
    let elsewhere = state(10, 1, Close, Listen, (81, 0));
    play.listeners.opened(&elsewhere, 5);
    let listener = Some((5, FromListener));
    let born = play.event_at(20, (Listen, SynRecv), listener, (81, 0));
    assert_eq!(born, listener);
    assert_eq!(play.event(21, (SynRecv, Established), listener), listener);
    play.listeners.closed(&state(22, 1, Listen, Close, (81, 0)));
    assert_eq!(play.event(23, (Established, CloseWait), listener), None);
}
