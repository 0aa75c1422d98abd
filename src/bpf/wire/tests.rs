//! Events for the tests of other modules, and the decoder's own.
use super::*;
use crate::order::Value;

mod cards;
mod held;
mod names;
mod place;
mod retransmit;

const ORDERS: [Order; 2] = [Order::Little, Order::Big];

/// A wire event as it is laid out.
#[derive(Clone)]
struct Laid {
    bytes: [u8; EV_CLOSE_SIZE],
    order: Order,
}

impl Laid {
    /// An empty one, in its longer form.
    fn new(order: Order) -> Laid {
        let bytes = [0; EV_CLOSE_SIZE];
        Laid { bytes, order }.with(&EV_VERSION, VERSION)
    }

    fn with<T: Value>(mut self, member: &Field<T>, value: T) -> Laid {
        member.put(&mut self.bytes, value, self.order);
        self
    }

    /// The same for a member of its owner.
    fn owned<T: Value>(mut self, member: &Field<T>, value: T) -> Laid {
        member.put(&mut self.bytes[EV_OWNER.at..], value, self.order);
        self
    }

    fn decoded(&self, len: usize, known: Abilities) -> Result<Event, DecodeError> {
        let mut cards = Cards::new(1);
        Event::decode_from(self.order, (1, 2), &self.bytes[..len], known, &mut cards)
    }

    /// What it is, where a host tells all.
    fn decode(&self) -> Event {
        let event = self.decoded(EV_CLOSE_SIZE, Abilities::all());
        event.expect("a valid event")
    }
}

fn mapped(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last]
}

fn comm(name: &[u8]) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    comm[..name.len()].copy_from_slice(name);
    comm
}

fn laid(order: Order, socket: u64, old: State, new: State, ports: (u16, u16)) -> Laid {
    Laid::new(order)
        .with(&EV_SOCKET, socket)
        .with(&EV_TASK, 10 << 32 | 11)
        .with(&EV_LOCAL, mapped(1))
        .with(&EV_PEER, mapped(2))
        .owned(&OW_THREAD, comm(b"curl"))
        .with(&EV_KIND, KIND_STATE)
        .with(&EV_OLDSTATE, old as u8)
        .with(&EV_NEWSTATE, new as u8)
        .with(&EV_LOCAL_PORT, ports.0)
        .with(&EV_PEER_PORT, ports.1)
        .with(&EV_FAMILY, AF_INET)
        .with(&EV_FLAGS, FLAG_FAMILY)
}

/// One of this host's.
fn native(old: State, new: State, ports: (u16, u16)) -> Laid {
    laid(Order::NATIVE, 1, old, new, ports)
}

/// The bytes of a state event, as the program would send them.
pub(crate) fn wire(socket: u64, old: State, new: State, ports: (u16, u16)) -> [u8; EV_CLOSE_SIZE] {
    laid(Order::NATIVE, socket, old, new, ports).bytes
}

/// A state event at `time`.
pub(crate) fn state(time: u64, socket: u64, old: State, new: State, ports: (u16, u16)) -> Event {
    Event::decode(time, 0, &wire(socket, old, new, ports), Abilities::all()).expect("a valid event")
}

/// An owner with this process id.
pub(crate) fn owner(pid: u32, source: OwnerSource) -> Owner {
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

/// The numbers that the programs have of states are the kernel's, as are ours.
#[test]
fn states_and_names_are_the_kernels() {
    for (number, state) in [
        (ESTABLISHED, State::Established),
        (SYN_SENT, State::SynSent),
        (SYN_RECV, State::SynRecv),
        (FIN_WAIT1, State::FinWait1),
        (FIN_WAIT2, State::FinWait2),
        (CLOSE, State::Close),
        (LAST_ACK, State::LastAck),
        (LISTEN, State::Listen),
        (CLOSING, State::Closing),
    ] {
        assert_eq!(number, state as u8);
    }
}

#[test]
fn every_place_of_a_state_change() {
    for order in ORDERS {
        let laid = laid(
            order,
            0x7fff_8880_1234_5678,
            State::Closing,
            State::Close,
            (14, 15),
        )
        .with(&EV_TASK, 11 << 32 | 12)
        .with(&EV_FLAGS, FLAG_FAMILY | FLAG_SOCKET | FLAG_USER)
        .with(&EV_HOW, SOURCE_LISTENER)
        .owned(&OW_TASK, 16 << 32 | 17)
        .owned(&OW_CGROUP, 18)
        .owned(&OW_COMM, *b"the owner of it!")
        .owned(&OW_UID, 19)
        .owned(&OW_PARENT, 20)
        .owned(&OW_NETNS, 21)
        .owned(&OW_SOURCE, SOURCE_LISTENER.into())
        .owned(&OW_THREAD, [0; 16])
        .with(&EV_SKERR, 22)
        .with(&EV_SEGS_OUT, 23)
        .with(&EV_BYTES_SENT, 2400)
        .with(&EV_RETRANS, 400)
        .with(&EV_RECEIVED, 25)
        .with(&EV_SKFLAGS, 2)
        .with(&EV_SRTT, 8 * 26)
        .with(&EV_MINRTT, 27)
        .with(&EV_SEGS_IN, 28)
        .with(&EV_ALL_RETRANS, 29)
        // Sequence numbers that wrap.
        .with(&EV_UNA, u32::MAX - 99)
        .with(&EV_ACKED, 31)
        .with(&EV_NXT, 100)
        .with(&EV_WRITTEN, 133)
        .with(&EV_TW_COUNT, 34)
        .with(&EV_TW_LIMIT, 35);
        let event = laid.decode();
        let owner = Owner {
            task: Task {
                pid: 16,
                tid: 17,
                uid: Some(19),
                name: *b"the owner of it!",
            },
            thread: [0; COMM_LEN],
            parent: Some(20),
            cgroup: Some(18),
            source: OwnerSource::Listener,
        };
        assert_eq!((event.time, event.cpu), (1, 2));
        assert_eq!(event.socket, 0x7fff_8880_1234_5678);
        let on_cpu = Task {
            pid: 11,
            tid: 12,
            uid: None,
            name: [0; COMM_LEN],
        };
        assert_eq!(event.on_cpu, on_cpu);
        assert_eq!(event.owner, Some(owner));
        assert_eq!(event.netns, Some(21));
        let state = What::State {
            old: State::Closing,
            new: State::Close,
        };
        assert_eq!(event.what, state);
        assert_eq!(event.wire, Wire::Ipv4);
        let ends = [event.local, event.peer].map(|end| (end.addr.to_string(), end.port));
        assert_eq!(ends, [("10.0.0.1".into(), 14), ("10.0.0.2".into(), 15)]);
        let counters = Counters {
            error: Some(22),
            bytes_sent: None,
            sent: Some(Sent {
                acked: 31,
                in_flight: 200,
                unsent: 33,
                handed: Some(2000),
            }),
            bytes_retransmitted: Some(400),
            retransmits: Some(29),
            // Without the peer's FIN.
            bytes_received: Some(24),
            fin_received: Some(true),
            segments_sent: Some(23),
            segments_received: Some(28),
            rtt_us: Some(26),
            min_rtt_us: Some(27),
            has_socket: Some(true),
            time_wait_room: Some(true),
        };
        assert_eq!(event.counters, counters);
        // As it goes into the map.
        let kept: [u8; OW_SIZE] = EV_OWNER.get(&laid.bytes, order);
        assert_eq!(owner.encode(order, 21), kept);
    }
}

#[test]
fn every_kind_and_flag() {
    for order in ORDERS {
        let what = |kind: u8, flags: u8| {
            let laid = Laid::new(order)
                .with(&EV_KIND, kind)
                .with(&EV_FLAGS, flags)
                .with(&EV_NEWSTATE, ESTABLISHED)
                .with(&EV_ERR, -16)
                .with(&EV_TOTAL, 5);
            laid.decoded(EV_SIZE, Abilities::all()).expect("valid").what
        };
        let state = Some(State::Established);
        let error = |error, kind| What::Retransmit {
            kind,
            state,
            error,
            total: Some(5),
        };
        assert_eq!(what(KIND_RETRANS, FLAG_ERR), error(Some(16), None));
        assert_eq!(what(KIND_RETRANS, 0), error(None, None));
        for (flags, kind) in [
            (FLAG_TIMER, Resending::Timeout),
            (FLAG_LOST, Resending::Fast),
            (!(FLAG_ERR | FLAG_BRIEF), Resending::TailLossProbe),
        ] {
            assert_eq!(what(KIND_RETRANS, flags), error(None, Some(kind)));
        }
        assert_eq!(what(KIND_SYNACK, 0), What::SynAck);
        let reason = |reason| What::ResetSent { reason };
        assert_eq!(what(KIND_RST_SENT, FLAG_REASON), reason(Some(5)));
        assert_eq!(what(KIND_RST_SENT, !FLAG_REASON), reason(None));
        assert_eq!(what(KIND_RST_RCVD, 0), What::ResetReceived);
        assert_eq!(what(KIND_ACCEPT, 0), What::Accepted);
        let cookie = 0x1234_5678_9abc;
        // A number in place of an owner.
        let destroyed = Laid::new(order).with(&EV_KIND, KIND_DESTROY);
        let destroyed = destroyed.owned(&OW_TASK, cookie);
        let decoded = |len| destroyed.decoded(len, Abilities::all());
        let event = decoded(EV_GONE_SIZE.into()).expect("a valid event");
        assert_eq!(event.what, What::Destroyed { cookie });
        assert_eq!((event.owner, event.netns), (None, None));
        assert!(event.is_noise());
        assert_eq!(decoded(EV_HEAD), Err(DecodeError::Short));
        // Of resets there is the head alone.
        let reset = Laid::new(order).with(&EV_KIND, KIND_RST_RCVD);
        let event = reset.decoded(EV_HEAD, Abilities::all());
        assert_eq!(event.map(|event| event.what), Ok(What::ResetReceived));
    }
}

#[test]
fn every_source() {
    for order in ORDERS {
        for (number, source) in [
            (SOURCE_NONE, None),
            (SOURCE_TASK, Some(OwnerSource::Task)),
            (SOURCE_CACHED, Some(OwnerSource::Cached)),
            (SOURCE_LISTENER, Some(OwnerSource::Listener)),
            (SOURCE_ACCEPT, Some(OwnerSource::Accept)),
            (SOURCE_SNAPSHOT, Some(OwnerSource::Snapshot)),
            (SOURCE_TAKEN, Some(OwnerSource::ListenerAccepted)),
            (77, None),
        ] {
            // What the owner has in the maps is not asked.
            let laid = Laid::new(order)
                .with(&EV_KIND, KIND_SYNACK)
                .with(&EV_HOW, number)
                .owned(&OW_SOURCE, 0x1234_5601);
            let owner = laid.decode().owner;
            assert_eq!(owner.map(|owner| owner.source), source);
            if let Some(owner) = owner {
                let kept = owner.encode(order, 0);
                assert_eq!(OW_SOURCE.get(&kept, order), u32::from(number));
            }
        }
    }
}

/// Where cards are not kept, the name of the task on the CPU is behind the event.
#[test]
fn who_is_on_the_cpu() {
    for order in ORDERS {
        for (new, len) in [(State::Established, EV_SIZE), (State::Close, EV_CLOSE_SIZE)] {
            let laid = laid(order, 1, State::SynRecv, new, (1, 2)).with(&EV_HOW, SOURCE_LISTENER);
            let bytes = [&laid.bytes[..len], b"bystander\0\0\0\0\0\0\0"].concat();
            let name = |known| {
                let mut cards = Cards::new(1);
                let event = Event::decode_from(order, (1, 2), &bytes, known, &mut cards);
                event.expect("a valid event").on_cpu.name
            };
            assert_eq!(name(Abilities::empty()), comm(b"bystander"));
            assert_eq!(name(Abilities::CARDS), [0; COMM_LEN]);
        }
    }
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
        thread: comm(b"its thread"),
        parent: Some(9),
        cgroup: Some(77),
        source: OwnerSource::Listener,
    };
    for order in ORDERS {
        // How it is known is told beside it.
        let decode = |bytes: &[u8; OW_SIZE], known| {
            let mut read = Owner {
                source: owner.source,
                ..Cards::new(0).place(None).owner
            };
            read.read(order, bytes, known);
            read
        };
        let bytes = owner.encode(order, 5);
        assert_eq!(OW_SOURCE.get(&bytes, order), u32::from(SOURCE_LISTENER));
        assert_eq!(decode(&bytes, Abilities::all()), owner);
        let less = Owner {
            parent: None,
            cgroup: None,
            ..owner
        };
        assert_eq!(decode(&bytes, Abilities::empty()), less);
        // Not every program knows what the others know.
        assert_eq!(decode(&less.encode(order, 5), Abilities::all()), less);
        let mut nobody = owner;
        nobody.task.uid = None;
        assert_eq!(decode(&nobody.encode(order, 5), Abilities::all()), nobody);
    }
}

#[test]
fn counters_are_those_that_are_known() {
    let laid = native(State::Closing, State::Close, (1, 2))
        .with(&EV_SKERR, 104)
        .with(&EV_BYTES_SENT, 1500)
        .with(&EV_RETRANS, 500)
        .with(&EV_MINRTT, u32::MAX)
        .with(&EV_ACKED, 901)
        .with(&EV_NXT, 98)
        .with(&EV_UNA, 8)
        .with(&EV_WRITTEN, 98)
        .with(&EV_TW_COUNT, 4)
        .with(&EV_TW_LIMIT, 5);
    let counters = |laid: &Laid, known| {
        let event = laid.decoded(EV_CLOSE_SIZE, known);
        event.expect("valid").counters
    };
    let all = counters(&laid, Abilities::all());
    let mut sent = Sent {
        acked: 901,
        in_flight: 90,
        unsent: 0,
        handed: Some(1000),
    };
    assert_eq!((all.bytes_sent, all.sent), (None, Some(sent)));
    sent.handed = None;
    assert_eq!(counters(&laid, Abilities::SENT).sent, Some(sent));
    assert_eq!((all.rtt_us, all.min_rtt_us), (None, None));
    assert_eq!(all.has_socket, Some(false));
    assert_eq!(all.fin_received, Some(false));
    assert_eq!(counters(&laid, Abilities::empty()), Counters::default());

    let room = |laid: Laid| laid.decode().counters.time_wait_room;
    assert_eq!(room(laid.clone()), Some(true));
    assert_eq!(room(laid.clone().with(&EV_TW_COUNT, 5)), Some(false));
    assert_eq!(room(laid.clone().with(&EV_TW_LIMIT, i32::MIN)), None);
    assert_eq!(room(laid.clone().with(&EV_OLDSTATE, LAST_ACK)), None);
    let error = |number| laid.clone().with(&EV_SKERR, number).decode().counters.error;
    assert_eq!(error(-104), Some(104));
    assert_eq!(error(i32::MIN), Some(i32::MAX));

    // Only the end has them.
    let cut = laid.decoded(EV_SIZE, Abilities::all());
    assert_eq!(cut, Err(DecodeError::Short));
    let open = laid.with(&EV_NEWSTATE, LAST_ACK);
    let open = open.decoded(EV_SIZE, Abilities::all()).expect("valid");
    assert_eq!(open.counters, Counters::default());
}

#[test]
fn a_name_of_sixteen_bytes_has_no_end() {
    let laid = native(State::Close, State::Listen, (1, 2));
    let laid = laid.with(&EV_HOW, SOURCE_TASK);
    let event = laid.owned(&OW_THREAD, [b'x'; COMM_LEN]).decode();
    assert_eq!(event.on_cpu.comm(), [b'x'; COMM_LEN]);
}

#[test]
fn v4_unspecified_and_v6_are_told_apart() {
    let laid = native(State::Close, State::Listen, (1, 2))
        .with(&EV_LOCAL, [0; 16])
        .with(&EV_PEER, [0; 16]);
    let e = laid.decode();
    assert_eq!(e.local.addr.to_string(), "0.0.0.0");
    assert!(e.is_noise());
    let laid = laid.with(&EV_FAMILY, libc::AF_INET6 as u16);
    let e = laid.decode();
    assert_eq!(
        (e.wire, e.local.addr.to_string()),
        (Wire::Ipv6, "::".into())
    );
    let laid = laid.with(&EV_PEER, mapped(2));
    assert_eq!(laid.decode().wire, Wire::Ipv4);
    // Before 5.12 a retransmission doesn't say its family.
    assert_eq!(laid.with(&EV_FLAGS, 0).decode().wire, Wire::Ipv4);
}

/// The thread by which the owner became known just now is the one on the CPU; else
/// that is anybody.
#[test]
fn the_thread_is_the_one_on_the_cpu_where_it_is_the_owners() {
    let threads = |source: OwnerSource, kind: u8| {
        let laid = native(State::Established, State::FinWait1, (1, 2)).with(&EV_KIND, kind);
        let event = laid.with(&EV_HOW, number(source)).decode();
        [event.owner.expect("an owner").thread, event.on_cpu.name]
    };
    let (known, unknown) = ([comm(b"curl"); 2], [[0; COMM_LEN]; 2]);
    assert_eq!(threads(OwnerSource::Task, KIND_STATE), known);
    assert_eq!(threads(OwnerSource::Accept, KIND_ACCEPT), known);
    assert_eq!(threads(OwnerSource::Accept, KIND_STATE), unknown);
    assert_eq!(threads(OwnerSource::Cached, KIND_RETRANS), unknown);
    assert_eq!(threads(OwnerSource::Listener, KIND_STATE), unknown);
}

/// The user is that of the event's moment, or not told.
#[test]
fn the_user_is_that_of_now() {
    let laid = native(State::Established, State::FinWait1, (1, 2))
        .with(&EV_HOW, SOURCE_CACHED)
        .owned(&OW_UID, 1000);
    let uid = |laid: &Laid| laid.decode().owner.expect("an owner").task.uid;
    assert_eq!(uid(&laid), None);
    let now = laid.with(&EV_FLAGS, FLAG_FAMILY | FLAG_USER);
    assert_eq!(uid(&now), Some(1000));
    assert_eq!(uid(&now.owned(&OW_UID, u32::MAX)), None);
}

#[test]
fn refuses_what_is_no_event() {
    let laid = native(State::Close, State::Listen, (1, 2));
    for len in [EV_HEAD - 1, EV_HEAD, EV_SIZE - 1] {
        let cut = laid.decoded(len, Abilities::all());
        assert_eq!(cut, Err(DecodeError::Short));
    }
    let brief = native(State::LastAck, State::Close, (1, 2)).with(&EV_FLAGS, FLAG_BRIEF);
    let cut = brief.decoded(usize::from(EV_BRIEF_SIZE) - 1, Abilities::all());
    assert_eq!(cut, Err(DecodeError::Short));
    let with = |member: &Field<u8>, value| {
        let laid = laid.clone().with(member, value);
        laid.decoded(EV_CLOSE_SIZE, Abilities::all())
    };
    assert_eq!(with(&EV_VERSION, VERSION - 1), Err(DecodeError::Version));
    assert_eq!(with(&EV_KIND, 9), Err(DecodeError::Kind));
    assert_eq!(with(&EV_KIND, KIND_HELD), Err(DecodeError::Foreign));
    assert_eq!(with(&EV_OLDSTATE, 0), Err(DecodeError::State));
    assert_eq!(with(&EV_NEWSTATE, 99), Err(DecodeError::State));
}
