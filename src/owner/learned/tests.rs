use super::*;
use crate::bpf::wire::tests::state;
use crate::perf::record::{Ids, News};
use State::*;

/// An event of a socket while this process is on the CPU.
fn at(pid: u32, socket: u64, old: State, new: State) -> Event {
    let mut event = state(0, socket, old, new, (80, 4000));
    event.on_cpu.pid = pid;
    event
}

fn local(mut event: Event, addr: &str, port: u16) -> Event {
    event.local.addr = addr.parse().expect("an address");
    event.local.port = port;
    event
}

fn told(owner: Option<Owner>) -> Option<(u32, OwnerSource)> {
    owner.map(|o| (o.task.pid, o.source))
}

fn nobody() -> Processes {
    Processes::empty(true)
}

const TASK: OwnerSource = OwnerSource::Task;
const CACHED: OwnerSource = OwnerSource::Cached;
const LISTENER: OwnerSource = OwnerSource::Listener;

#[test]
fn a_client_belongs_to_who_opened_it() {
    let mut owners = Owners::default();
    let mut see = |pid, old, new, own| told(owners.observe(&at(pid, 1, old, new), own, &nobody()));
    // Opening is the owner's, whatever the flags say.
    assert_eq!(see(5, Close, SynSent, false), Some((5, TASK)));
    assert_eq!(see(99, SynSent, Established, false), Some((5, CACHED)));
    // A FIN that was put off until the handshake was over is anybody's.
    assert_eq!(see(99, Established, FinWait1, false), Some((5, CACHED)));
    assert_eq!(see(6, Established, FinWait1, true), Some((6, TASK)));
    // Whose FIN it was keeps it, though the answer be taken in another's close().
    assert_eq!(see(7, FinWait1, FinWait2, true), Some((6, CACHED)));
    assert_eq!(see(7, FinWait2, Close, true), Some((6, CACHED)));
    // The address is used again.
    assert_eq!(see(99, SynSent, Established, false), None);
}

#[test]
fn an_event_that_was_no_interrupt_is_the_owners() {
    let mut owners = Owners::default();
    let mut see = |pid, old, new, own| told(owners.observe(&at(pid, 1, old, new), own, &nobody()));
    assert_eq!(see(99, FinWait1, FinWait2, false), None);
    assert_eq!(see(5, SynSent, Established, true), Some((5, TASK)));
    assert_eq!(see(99, Established, CloseWait, false), Some((5, CACHED)));
    // Who has it killed is not its owner.
    assert_eq!(see(7, CloseWait, Close, true), Some((5, CACHED)));
    assert_eq!(see(99, CloseWait, LastAck, false), Some((99, TASK)));
}

#[test]
fn a_thread_of_the_kernel_owns_nothing() {
    let mut processes = Processes::unseeded();
    let (task, parent) = (Ids { pid: 9, tid: 9 }, Ids { pid: 2, tid: 2 });
    processes.observe(1, &News::Fork { task, parent });
    let names = [*b"kworker/0:1\0\0\0\0\0", *b"nfsd\0\0\0\0\0\0\0\0\0\0\0\0"];
    for (name, processes) in names.into_iter().zip([nobody(), processes]) {
        let mut owners = Owners::default();
        let mut see = |pid, old, new| {
            let mut event = at(pid, 1, old, new);
            if pid == 9 {
                event.on_cpu.name = name;
            }
            told(owners.observe(&event, true, &processes))
        };
        assert_eq!(see(9, Established, FinWait1), None);
        assert_eq!(see(9, Close, SynSent), None);
        assert_eq!(see(9, SynSent, Established), None);
        assert_eq!(see(8, Established, FinWait1), Some((8, TASK)));
        assert_eq!(see(9, FinWait1, FinWait2), Some((8, CACHED)));
    }
}

#[test]
fn an_owner_out_of_sight_is_unknown() {
    let mut owners = Owners::default();
    let mut see = |pid, old, new, own| told(owners.observe(&at(pid, 1, old, new), own, &nobody()));
    assert_eq!(see(0, Close, SynSent, true), None);
    assert_eq!(see(99, SynSent, Established, false), None);
    assert_eq!(see(5, Established, CloseWait, true), Some((5, TASK)));
    assert_eq!(see(0, CloseWait, LastAck, true), None);
    assert_eq!(see(99, LastAck, Close, false), None);
    // Nor is there anything to inherit.
    assert_eq!(see(0, Close, Listen, true), None);
    let child = at(99, 2, Listen, SynRecv);
    assert_eq!(told(owners.observe(&child, false, &nobody())), None);
}

#[test]
fn what_is_no_change_teaches_nothing() {
    let (state, error, reason) = (None, None, None);
    for what in [
        What::Retransmit {
            kind: None,
            state,
            error,
            total: None,
        },
        What::SynAck,
        What::ResetSent { reason },
        What::ResetReceived,
    ] {
        for own in [true, false] {
            let mut owners = Owners::default();
            let mut event = at(99, 1, Established, Established);
            event.what = what;
            assert_eq!(owners.observe(&event, own, &nobody()), None);
            owners.observe(&at(5, 1, Close, SynSent), true, &nobody());
            assert_eq!(
                told(owners.observe(&event, own, &nobody())),
                Some((5, CACHED))
            );
            owners.observe(&at(99, 1, SynSent, Close), false, &nobody());
            assert_eq!(owners.observe(&event, own, &nobody()), None);
        }
    }
}

#[test]
fn a_synack_is_the_listeners_however_old_that_is() {
    let mut owners = Owners::default();
    owners.observe(
        &local(at(5, 1, Close, Listen), "0.0.0.0", 80),
        true,
        &nobody(),
    );
    for socket in 100..100_000 {
        owners.observe(&at(6, socket, Close, SynSent), true, &nobody());
    }
    let mut event = local(at(99, 1, Listen, SynRecv), "10.0.0.1", 80);
    event.what = What::SynAck;
    assert_eq!(
        told(owners.observe(&event, false, &nobody())),
        Some((5, CACHED))
    );
    // Of another namespace, say: not that one.
    event.socket = 2;
    assert_eq!(owners.observe(&event, false, &nobody()), None);
    // Nor that one once it is closed.
    event.socket = 1;
    owners.observe(
        &local(at(5, 1, Listen, Close), "0.0.0.0", 80),
        true,
        &nobody(),
    );
    assert_eq!(owners.observe(&event, false, &nobody()), None);
}

#[test]
fn a_child_belongs_to_the_listeners_owner() {
    let mut owners = Owners::default();
    let listener = local(at(5, 1, Close, Listen), "10.0.0.1", 80);
    assert_eq!(
        told(owners.observe(&listener, true, &nobody())),
        Some((5, TASK))
    );
    let child = local(at(99, 2, Listen, SynRecv), "10.0.0.1", 80);
    assert_eq!(
        told(owners.observe(&child, false, &nobody())),
        Some((5, LISTENER))
    );
    let next = at(99, 2, SynRecv, Established);
    assert_eq!(
        told(owners.observe(&next, false, &nobody())),
        Some((5, LISTENER))
    );
    // Another process accepted it, and closes it.
    let closing = at(6, 2, CloseWait, LastAck);
    assert_eq!(
        told(owners.observe(&closing, true, &nobody())),
        Some((6, TASK))
    );
    let last = at(99, 2, LastAck, Close);
    assert_eq!(
        told(owners.observe(&last, false, &nobody())),
        Some((6, CACHED))
    );
    // Another address, another port.
    for (addr, port) in [("10.0.0.2", 80), ("10.0.0.1", 81)] {
        let child = local(at(99, 3, Listen, SynRecv), addr, port);
        assert_eq!(told(owners.observe(&child, false, &nobody())), None);
    }
    let gone = local(at(5, 1, Listen, Close), "10.0.0.1", 80);
    assert_eq!(
        told(owners.observe(&gone, false, &nobody())),
        Some((5, TASK))
    );
    assert_eq!(told(owners.observe(&child, false, &nobody())), None);
    assert!(owners.listeners.is_empty() && owners.listening == 0);
}

#[test]
fn a_wildcard_stands_for_every_address_of_its_kind() {
    let mut owners = Owners::default();
    let listen = |pid, socket, addr: &str| local(at(pid, socket, Close, Listen), addr, 80);
    let heir = |owners: &mut Owners, addr: &str| {
        let child = local(at(99, 9, Listen, SynRecv), addr, 80);
        told(owners.observe(&child, false, &nobody())).map(|(pid, _)| pid)
    };
    owners.observe(&listen(5, 1, "0.0.0.0"), true, &nobody());
    assert_eq!(heir(&mut owners, "10.0.0.1"), Some(5));
    assert_eq!(heir(&mut owners, "2001:db8::1"), None);
    // Another at the very address may be of another namespace.
    owners.observe(&listen(6, 2, "10.0.0.1"), true, &nobody());
    assert_eq!(heir(&mut owners, "10.0.0.1"), None);
    assert_eq!(heir(&mut owners, "10.0.0.3"), Some(5));
    // An IPv6 wildcard takes IPv4, too: which of the two, can't be told.
    owners.observe(&listen(7, 3, "::"), true, &nobody());
    assert_eq!(heir(&mut owners, "2001:db8::1"), Some(7));
    assert_eq!(heir(&mut owners, "10.0.0.3"), None);
}

#[test]
fn listeners_that_disagree_leave_a_child_unknown() {
    let mut owners = Owners::default();
    let listen = |pid, socket, old, new| local(at(pid, socket, old, new), "10.0.0.1", 80);
    let child = listen(99, 9, Listen, SynRecv);
    owners.observe(&listen(5, 1, Close, Listen), true, &nobody());
    owners.observe(&listen(5, 2, Close, Listen), true, &nobody());
    assert_eq!(
        told(owners.observe(&child, false, &nobody())),
        Some((5, LISTENER))
    );
    owners.observe(&listen(6, 3, Close, Listen), true, &nobody());
    assert_eq!(told(owners.observe(&child, false, &nobody())), None);
    // And what an earlier socket at its address left is not taken for it.
    assert_eq!(
        told(owners.observe(&at(99, 9, SynRecv, Established), false, &nobody())),
        None
    );
    owners.observe(&listen(6, 3, Listen, Close), true, &nobody());
    assert_eq!(
        told(owners.observe(&child, false, &nobody())),
        Some((5, LISTENER))
    );
}

#[test]
fn memory_is_bounded() {
    let mut owners = Owners::default();
    let listener = |socket: u64, old, new| {
        let port = 1000 + (socket % 50_000) as u16;
        local(at(5, socket, old, new), "0.0.0.0", port)
    };
    for socket in 0..100_000 {
        owners.observe(&at(5, socket, Close, SynSent), true, &nobody());
        owners.observe(&listener(socket, Close, Listen), true, &nobody());
    }
    assert_eq!(owners.listening, LISTENERS);
    assert_eq!(owners.refused.len(), REFUSED);
    assert_eq!(owners.refusals(), 100_000 - LISTENERS as u64);
    // Whether those that are not even known have gone can't be told.
    for socket in 0..100_000 {
        owners.observe(&listener(socket, Listen, Close), true, &nobody());
    }
    assert_eq!((owners.listening, owners.refused.len()), (0, 0));
    for (socket, known) in [(100, Some(5)), (49_000, None)] {
        let one = listener(socket, Close, Listen);
        owners.observe(&one, true, &nobody());
        let child = local(at(99, 1 << 40, Listen, SynRecv), "10.0.0.1", one.local.port);
        let heir = told(owners.observe(&child, false, &nobody()));
        assert_eq!(heir.map(|(pid, _)| pid), known, "{socket}");
    }
}

#[test]
fn listeners_that_found_no_room_leave_it_again() {
    let mut owners = Owners::default();
    let listener = |socket: u64, old, new| {
        let port = 1000 + (socket % 50_000) as u16;
        local(at(5, socket, old, new), "0.0.0.0", port)
    };
    let heir = |owners: &mut Owners, port| {
        let child = local(at(99, 1 << 40, Listen, SynRecv), "10.0.0.1", port);
        told(owners.observe(&child, false, &nobody())).map(|(pid, _)| pid)
    };
    let (first, over) = (1000, 1000 + LISTENERS as u16);
    for socket in 0..LISTENERS as u64 {
        owners.observe(&listener(socket, Close, Listen), true, &nobody());
    }
    assert_eq!(owners.refusals(), 0);
    // One at a port of its own, one at a port where another one is known.
    let late = [LISTENERS as u64, 50_000];
    for socket in late {
        owners.observe(&listener(socket, Close, Listen), true, &nobody());
    }
    assert_eq!(owners.refusals(), 2);
    assert_eq!(heir(&mut owners, over), None);
    assert_eq!(heir(&mut owners, first), None);
    assert_eq!(heir(&mut owners, first + 1), Some(5));
    // That it goes is enough for those of the others.
    owners.observe(&listener(late[1], Listen, Close), true, &nobody());
    assert_eq!(heir(&mut owners, first), Some(5));
    assert_eq!(heir(&mut owners, over), None);
    owners.observe(&listener(late[0], Listen, Close), true, &nobody());
    owners.observe(&listener(7, Listen, Close), true, &nobody());
    owners.observe(&listener(late[0], Close, Listen), true, &nobody());
    assert_eq!(heir(&mut owners, over), Some(5));
    assert_eq!(owners.refusals(), 2);
    assert!(owners.untold.is_empty() && owners.refused.is_empty());
}
