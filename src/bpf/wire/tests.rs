//! Events for the tests of other modules, and the decoder's own.
use super::*;

/// The bytes of a state event, as the program would send them.
pub fn wire(socket: u64, old: State, new: State, ports: (u16, u16)) -> [u8; WIRE_CLOSE_LEN] {
    let mut b = [0; WIRE_CLOSE_LEN];
    b[..8].copy_from_slice(&socket.to_le_bytes());
    b[8..12].copy_from_slice(&11u32.to_le_bytes());
    b[12..16].copy_from_slice(&10u32.to_le_bytes());
    b[26..32].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    b[42..48].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 2]);
    b[48..52].copy_from_slice(b"curl");
    b[72] = WIRE_VERSION;
    b[73] = KIND_STATE;
    b[74] = old as u8;
    b[75] = new as u8;
    b[76..78].copy_from_slice(&ports.0.to_le_bytes());
    b[78..80].copy_from_slice(&ports.1.to_le_bytes());
    b[80..82].copy_from_slice(&AF_INET.to_le_bytes());
    b[82] = 2;
    b
}

/// A state event at `time`.
pub fn state(time: u64, socket: u64, old: State, new: State, ports: (u16, u16)) -> Event {
    Event::decode(time, 0, &wire(socket, old, new, ports), Abilities::all()).expect("a valid event")
}

/// An owner with this process id.
pub fn owner(pid: u32, source: OwnerSource) -> Owner {
    let mut task = Task {
        pid,
        tid: pid,
        uid: Some(0),
        ..Task::default()
    };
    task.name[..4].copy_from_slice(b"curl");
    Owner {
        task,
        thread: [0; COMM_LEN],
        parent: None,
        cgroup: None,
        source,
    }
}

#[test]
fn decodes_every_field() {
    let e = state(
        5,
        0xffff_8880_0000_0001,
        State::Close,
        State::SynSent,
        (0, 80),
    );
    assert_eq!(e.socket, 0xffff_8880_0000_0001);
    assert_eq!((e.on_cpu.pid, e.on_cpu.tid, e.on_cpu.uid), (10, 11, None));
    assert_eq!(e.on_cpu.comm(), b"curl");
    assert_eq!(e.local.addr.to_string(), "10.0.0.1");
    assert_eq!(e.peer.addr.to_string(), "10.0.0.2");
    assert_eq!((e.local.port, e.peer.port), (0, 80));
    assert_eq!(e.wire, Wire::Ipv4);
    assert!(!e.is_noise());
}

#[test]
fn what_is_behind_a_name_is_none_of_it() {
    let mut bytes = wire(1, State::Close, State::SynSent, (0, 80));
    bytes[48..64].copy_from_slice(b"curl\0bash\0python");
    let event = Event::decode(5, 0, &bytes, Abilities::all()).expect("a valid event");
    assert_eq!(event.on_cpu.name, *b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn an_owner_comes_back_as_it_was() {
    let owner = Owner {
        task: Task {
            pid: 10,
            tid: 11,
            uid: Some(1000),
            name: *b"a name, 16 bytes",
        },
        thread: [0; COMM_LEN],
        parent: Some(9),
        cgroup: Some(77),
        source: OwnerSource::Listener,
    };
    let bytes = owner.encode(5);
    assert_eq!(Owner::decode(&bytes, Abilities::all()), Some(owner));
    let less = Owner {
        parent: None,
        cgroup: None,
        ..owner
    };
    assert_eq!(Owner::decode(&bytes, Abilities::empty()), Some(less));
    // Not every program knows what the others know.
    assert_eq!(Owner::decode(&less.encode(5), Abilities::all()), Some(less));
    assert_eq!(Owner::decode(&[0; OWNER_LEN], Abilities::all()), None);
    let mut nobody = owner;
    nobody.task.uid = None;
    assert_eq!(
        Owner::decode(&nobody.encode(5), Abilities::all()),
        Some(nobody)
    );
}

#[test]
fn counters_are_those_that_are_known() {
    let mut b = wire(1, State::Closing, State::Close, (1, 2));
    b[136..140].copy_from_slice(&104i32.to_le_bytes());
    b[144..152].copy_from_slice(&1500u64.to_le_bytes());
    b[152..160].copy_from_slice(&500u64.to_le_bytes());
    b[160..168].copy_from_slice(&8u64.to_le_bytes());
    b[168] = 2;
    b[172..176].copy_from_slice(&80u32.to_le_bytes());
    b[176..180].fill(0xff);
    b[184] = 3;
    // Sequence numbers that wrap.
    b[188..192].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
    b[192..200].copy_from_slice(&901u64.to_le_bytes());
    b[200..204].copy_from_slice(&98u32.to_le_bytes());
    b[204..208].copy_from_slice(&101u32.to_le_bytes());
    b[208] = 4;
    b[212] = 5;
    let counters = |known| Event::decode(0, 0, &b, known).expect("valid").counters;
    let all = counters(Abilities::all());
    assert_eq!(all.error, Some(104));
    let mut sent = Sent {
        acked: 901,
        in_flight: 100,
        unsent: 3,
        handed: Some(1000),
    };
    assert_eq!((all.bytes_sent, all.sent), (None, Some(sent)));
    sent.handed = None;
    assert_eq!(counters(Abilities::SENT).sent, Some(sent));
    assert_eq!(all.bytes_retransmitted, Some(500));
    assert_eq!(all.retransmits, Some(3));
    assert_eq!(all.has_socket, Some(false));
    assert_eq!(all.time_wait_room, Some(true));
    // Without the peer's FIN.
    assert_eq!(all.bytes_received, Some(7));
    assert_eq!(all.fin_received, Some(true));
    assert_eq!((all.rtt_us, all.min_rtt_us), (Some(10), None));
    assert_eq!(counters(Abilities::empty()), Counters::default());
    let with = |at: usize, value: u8| {
        let mut b = b;
        b[at] = value;
        Event::decode(0, 0, &b, Abilities::all())
            .expect("valid")
            .counters
    };
    assert_eq!(with(82, 10).has_socket, Some(true));
    assert_eq!(with(208, 5).time_wait_room, Some(false));
    assert_eq!(with(216, 5).time_wait_room, Some(true));
    assert_eq!(with(216, 6).time_wait_room, Some(false));
    assert_eq!(with(215, 0x80).time_wait_room, None);
    assert_eq!(with(74, State::LastAck as u8).time_wait_room, None);
    // Only the end has them.
    b[75] = State::LastAck as u8;
    let open = Event::decode(0, 0, &b[..WIRE_LEN], Abilities::all()).expect("valid");
    assert_eq!(open.counters, Counters::default());
    b[75] = State::Close as u8;
    let cut = Event::decode(0, 0, &b[..WIRE_LEN], Abilities::all());
    assert_eq!(cut, Err(DecodeError::Short));
}

#[test]
fn a_name_of_sixteen_bytes_has_no_end() {
    let mut b = wire(1, State::Close, State::Listen, (1, 2));
    b[48..64].copy_from_slice(&[b'x'; 16]);
    assert_eq!(
        Event::decode(0, 0, &b, Abilities::all())
            .expect("valid")
            .on_cpu
            .comm(),
        [b'x'; 16]
    );
}

#[test]
fn v4_unspecified_and_v6_are_told_apart() {
    let mut b = wire(1, State::Close, State::Listen, (1, 2));
    b[16..48].fill(0);
    let e = Event::decode(0, 0, &b, Abilities::all()).expect("valid");
    assert_eq!(e.local.addr.to_string(), "0.0.0.0");
    assert!(e.is_noise());
    b[80] = libc::AF_INET6 as u8;
    let e = Event::decode(0, 0, &b, Abilities::all()).expect("valid");
    assert_eq!(
        (e.wire, e.local.addr.to_string()),
        (Wire::Ipv6, "::".into())
    );
    b[42..48].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 2]);
    assert_eq!(
        Event::decode(0, 0, &b, Abilities::all())
            .expect("valid")
            .wire,
        Wire::Ipv4
    );
    // Before 5.12 a retransmission doesn't say its family.
    b[82] = 0;
    assert_eq!(
        Event::decode(0, 0, &b, Abilities::all())
            .expect("valid")
            .wire,
        Wire::Ipv4
    );
}

/// The name of the task on the CPU is that of the thread by which the owner
/// became known just now; else it is anybody's.
#[test]
fn the_thread_is_the_one_on_the_cpu_where_it_is_the_owners() {
    let thread = |source: OwnerSource, kind: u8| {
        let mut b = wire(1, State::Established, State::FinWait1, (1, 2));
        b[73] = kind;
        b[OWNER..OWNER + OWNER_LEN].copy_from_slice(&owner(10, source).encode(5));
        let event = Event::decode(0, 0, &b, Abilities::all()).expect("valid");
        event.owner.expect("an owner").thread
    };
    let (known, unknown) = (*b"curl\0\0\0\0\0\0\0\0\0\0\0\0", [0; COMM_LEN]);
    assert_eq!(thread(OwnerSource::Task, KIND_STATE), known);
    assert_eq!(thread(OwnerSource::Accept, KIND_ACCEPT), known);
    assert_eq!(thread(OwnerSource::Accept, KIND_STATE), unknown);
    assert_eq!(thread(OwnerSource::Cached, KIND_RETRANSMIT), unknown);
    assert_eq!(thread(OwnerSource::Listener, KIND_STATE), unknown);
}

#[test]
fn a_failed_retransmission_has_its_errno() {
    let mut b = wire(1, State::Close, State::Established, (1, 2));
    b[73] = KIND_RETRANSMIT;
    b[64] = 7;
    b[68..72].copy_from_slice(&(-16i32).to_le_bytes());
    let what = |b: &[u8]| {
        Event::decode(0, 0, b, Abilities::all())
            .expect("valid")
            .what
    };
    let with = |error| What::Retransmit {
        state: Some(State::Established),
        error,
        total: Some(7),
    };
    assert_eq!(what(&b), with(None));
    b[82] = 3;
    assert_eq!(what(&b), with(Some(16)));
    b[68..72].copy_from_slice(&i32::MIN.to_le_bytes());
    assert_eq!(what(&b), with(Some(i32::MAX)));
    let event = Event::decode(0, 0, &b, Abilities::all() - Abilities::RETRANSMITS);
    let What::Retransmit { total, .. } = event.expect("valid").what else {
        panic!("no retransmission");
    };
    assert_eq!(total, None);
}

#[test]
fn refuses_what_is_no_event() {
    let b = wire(1, State::Close, State::Listen, (1, 2));
    assert_eq!(
        Event::decode(0, 0, &b[..139], Abilities::all()),
        Err(DecodeError::Short)
    );
    let with = |at: usize, value| {
        let mut b = b;
        b[at] = value;
        Event::decode(0, 0, &b, Abilities::all())
    };
    assert_eq!(with(72, 1), Err(DecodeError::Version));
    assert_eq!(with(73, 8), Err(DecodeError::Kind));
    assert_eq!(with(74, 0), Err(DecodeError::State));
    assert_eq!(with(75, 99), Err(DecodeError::State));
}
