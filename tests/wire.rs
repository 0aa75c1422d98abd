//! The wire event's layout stands twice: in bpf-asm/event.inc, for the programs,
//! and in src/bpf/wire.rs. Events laid out as the one says are read by the other.

use socket_snoop::bpf::wire::{OWNER_LEN, WIRE_CLOSE_LEN, WIRE_LEN, WIRE_VERSION};
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::{Counters, Event, Owner, OwnerSource, Sent, Task, What};
use socket_snoop::model::tcp::State;
use std::collections::BTreeMap;

/// The constants of the programs' common files.
struct Constants(BTreeMap<&'static str, i64>);

impl Constants {
    fn read() -> Constants {
        let mut all = BTreeMap::new();
        for text in [
            include_str!("../bpf-asm/event.inc"),
            include_str!("../bpf-asm/lost.inc"),
            include_str!("../bpf-asm/owner.inc"),
        ] {
            for line in text.lines().filter_map(|line| line.strip_prefix(".equ ")) {
                let line = line.split(';').next().unwrap_or_default();
                let (name, value) = line.trim().split_once(' ').expect("a name and a value");
                let term = |word: &str| -> i64 {
                    let hex = word
                        .strip_prefix("0x")
                        .map(|hex| i64::from_str_radix(hex, 16));
                    let number = hex.unwrap_or_else(|| word.parse());
                    number.unwrap_or_else(|_| all[word])
                };
                let value = value.trim().split(" + ").map(term).sum();
                assert_eq!(all.insert(name, value), None, "{name}");
            }
        }
        Constants(all)
    }

    fn of(&self, name: &str) -> i64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// An empty event, in its longer form.
    fn event(&self) -> Laid<'_> {
        let bytes = vec![0; self.of("EV_CLOSE_SIZE") as usize];
        let mut event = Laid { all: self, bytes };
        event.put("EV_VERSION", 1, self.of("VERSION"));
        event
    }
}

/// An event as it is laid out.
struct Laid<'a> {
    all: &'a Constants,
    bytes: Vec<u8>,
}

impl Laid<'_> {
    /// Puts a number of `len` bytes at a place by its name, such as `EV_OWNER + OW_UID`.
    fn put(&mut self, place: &str, len: usize, value: i64) -> &mut Self {
        self.bytes_at(place, &value.to_le_bytes()[..len])
    }

    fn bytes_at(&mut self, place: &str, value: &[u8]) -> &mut Self {
        let at: i64 = place.split(" + ").map(|name| self.all.of(name)).sum();
        let at = usize::try_from(at - self.all.of("EV")).expect("in the event");
        self.bytes[at..at + value.len()].copy_from_slice(value);
        self
    }

    fn decode(&self) -> Event {
        let event = Event::decode(1, 2, &self.bytes, Abilities::all());
        event.unwrap_or_else(|e| panic!("{e}"))
    }
}

fn mapped(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last]
}

#[test]
fn sizes_and_numbers() {
    let all = Constants::read();
    assert_eq!(all.of("EV_SIZE"), WIRE_LEN as i64);
    assert_eq!(all.of("EV_CLOSE_SIZE"), WIRE_CLOSE_LEN as i64);
    assert_eq!(all.of("VERSION"), i64::from(WIRE_VERSION));
    assert_eq!(all.of("OW_SIZE"), OWNER_LEN as i64);
    // The key of the map lost lies behind the event.
    assert!(all.of("EV") + all.of("EV_CLOSE_SIZE") <= all.of("LOST_KEY"));
    assert_eq!(all.of("EV") % 8, 0);
    // An owner in the map listeners, with what follows it.
    assert_eq!(all.of("LI_COUNT"), all.of("OW_KEPT"));
    // The first thread of its process stands where other numbers come later.
    assert_eq!(all.of("OW_LEADER"), all.of("OW_SIZE"));
    assert_eq!(
        all.of("EV_LEADER"),
        all.of("EV_OWNER") + all.of("OW_LEADER")
    );
    assert_eq!(all.of("OW_KEPT"), all.of("OW_LEADER") + 8);
    assert_eq!(all.of("LI_SIZE"), all.of("LI_DISAGREE") + 4);
    assert_eq!(
        all.of("COMM_SIZE"),
        socket_snoop::model::event::COMM_LEN as i64
    );
    for (name, state) in [
        ("CLOSE", State::Close),
        ("LISTEN", State::Listen),
        ("ESTABLISHED", State::Established),
        ("SYN_SENT", State::SynSent),
        ("SYN_RECV", State::SynRecv),
        ("FIN_WAIT1", State::FinWait1),
        ("FIN_WAIT2", State::FinWait2),
        ("CLOSING", State::Closing),
        ("LAST_ACK", State::LastAck),
    ] {
        assert_eq!(all.of(name), state as i64);
    }
    for (name, source) in [
        ("SOURCE_NONE", None),
        ("SOURCE_TASK", Some(OwnerSource::Task)),
        ("SOURCE_CACHED", Some(OwnerSource::Cached)),
        ("SOURCE_LISTENER", Some(OwnerSource::Listener)),
        ("SOURCE_ACCEPT", Some(OwnerSource::Accept)),
        ("SOURCE_TAKEN", Some(OwnerSource::ListenerAccepted)),
    ] {
        assert_eq!(OwnerSource::from_number(all.of(name) as u8), source);
    }
}

#[test]
fn every_place_of_a_state_change() {
    let all = Constants::read();
    let mut laid = all.event();
    laid.put("EV_KIND", 1, all.of("KIND_STATE"))
        .put("EV_OLDSTATE", 1, all.of("CLOSING"))
        .put("EV_NEWSTATE", 1, all.of("CLOSE"))
        .put("EV_SOCKET", 8, 0x7fff_8880_1234_5678)
        .put("EV_TASK", 8, 11 << 32 | 12)
        .bytes_at("EV_COMM", b"on the cpu, long")
        .bytes_at("EV_LOCAL", &mapped(1))
        .bytes_at("EV_PEER", &mapped(2))
        .put("EV_LOCAL_PORT", 2, 14)
        .put("EV_PEER_PORT", 2, 15)
        .put("EV_FAMILY", 2, all.of("AF_INET"))
        .put("EV_FLAGS", 2, all.of("FLAG_FAMILY") | all.of("FLAG_SOCKET"))
        .put("EV_OWNER + OW_TASK", 8, 16 << 32 | 17)
        .put("EV_OWNER + OW_CGROUP", 8, 18)
        .bytes_at("EV_OWNER + OW_COMM", b"the owner of it!")
        .put("EV_OWNER + OW_UID", 4, 19)
        .put("EV_OWNER + OW_PARENT", 4, 20)
        .put("EV_OWNER + OW_NETNS", 4, 21)
        .put("EV_OWNER + OW_SOURCE", 1, all.of("SOURCE_LISTENER"))
        .put("EV_SKERR", 4, 22)
        .put("EV_SEGS_OUT", 4, 23)
        .put("EV_BYTES_SENT", 8, 2400)
        .put("EV_RETRANS", 8, 400)
        .put("EV_RECEIVED", 8, 25)
        .put("EV_SKFLAGS", 4, 2)
        .put("EV_SRTT", 4, 8 * 26)
        .put("EV_MINRTT", 4, 27)
        .put("EV_SEGS_IN", 4, 28)
        .put("EV_ALL_RETRANS", 4, 29)
        .put("EV_UNA", 4, 3000)
        .put("EV_ACKED", 8, 31)
        .put("EV_NXT", 4, 3200)
        .put("EV_WRITTEN", 4, 3233)
        .put("EV_TW_COUNT", 4, 34)
        .put("EV_TW_LIMIT", 4, 35)
        .put("EV_TW_REFS", 4, 35);
    let event = laid.decode();
    let owner = Owner {
        task: Task {
            pid: 16,
            tid: 17,
            uid: Some(19),
            name: *b"the owner of it!",
        },
        thread: [0; 16],
        parent: Some(20),
        cgroup: Some(18),
        source: OwnerSource::Listener,
    };
    assert_eq!(event.socket, 0x7fff_8880_1234_5678);
    let on_cpu = Task {
        pid: 11,
        tid: 12,
        uid: None,
        name: *b"on the cpu, long",
    };
    assert_eq!(event.on_cpu, on_cpu);
    assert_eq!(event.owner, Some(owner));
    assert_eq!(event.netns, Some(21));
    let state = What::State {
        old: State::Closing,
        new: State::Close,
    };
    assert_eq!(event.what, state);
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
        // The peer's FIN counts as a byte.
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
    let encoded = owner.encode(21);
    let from = (all.of("EV_OWNER") - all.of("EV")) as usize;
    assert_eq!(encoded, laid.bytes[from..from + OWNER_LEN]);
}

#[test]
fn every_kind_and_flag() {
    let all = Constants::read();
    let what = |kind: &str, flags: i64| {
        let mut laid = all.event();
        laid.put("EV_KIND", 1, all.of(kind))
            .put("EV_FLAGS", 2, flags)
            .put("EV_NEWSTATE", 1, all.of("ESTABLISHED"))
            .put("EV_ERR", 4, -16)
            .put("EV_REASON", 4, 9)
            .put("EV_TOTAL", 4, 5);
        laid.bytes.truncate(WIRE_LEN);
        laid.decode().what
    };
    let state = Some(State::Established);
    let total = Some(5);
    let error = |error| What::Retransmit {
        state,
        error,
        total,
    };
    assert_eq!(what("KIND_RETRANS", all.of("FLAG_ERR")), error(Some(16)));
    assert_eq!(what("KIND_RETRANS", !all.of("FLAG_ERR")), error(None));
    assert_eq!(what("KIND_SYNACK", 0), What::SynAck);
    let reason = |reason| What::ResetSent { reason };
    assert_eq!(
        what("KIND_RST_SENT", all.of("FLAG_REASON")),
        reason(Some(9))
    );
    assert_eq!(what("KIND_RST_SENT", !all.of("FLAG_REASON")), reason(None));
    assert_eq!(what("KIND_RST_RCVD", 0), What::ResetReceived);
    assert_eq!(what("KIND_ACCEPT", 0), What::Accepted);
    let mut laid = all.event();
    laid.put("EV_KIND", 1, all.of("KIND_DESTROY"))
        .put("EV_LOCAL", 8, 0x1234_5678_9abc);
    laid.bytes.truncate(WIRE_LEN);
    let cookie = 0x1234_5678_9abc;
    assert_eq!(laid.decode().what, What::Destroyed { cookie });
    let kinds: Vec<i64> = all
        .0
        .iter()
        .filter(|(name, _)| name.starts_with("KIND_"))
        .map(|(_, n)| *n)
        .collect();
    assert_eq!(kinds.len(), 7, "one is not tested here");
}
