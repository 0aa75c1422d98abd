//! The programs on hosts of either byte order: what they send there, run by a
//! machine that has that order, is the same to the reader.

mod common;

use common::layouts::*;
use common::machine::{Machine, NOW, OnCpu, TASK};
use socket_snoop::bpf::cards::Cards;
use socket_snoop::bpf::layout::{
    EV_BRIEF_SIZE, EV_CLOSE_SIZE, EV_COMM_SIZE, EV_HEAD, EV_SIZE, EV_TIME, OW_KEPT, OW_TOLD,
};
use socket_snoop::bpf_asm::{Program, Variant, assemble_for};
use socket_snoop::bpf_insn::Insn;
use socket_snoop::bpf_link::{Cast, Host, HostField};
use socket_snoop::model::ability::Abilities;
use socket_snoop::model::event::{Event, OwnerSource, What};
use socket_snoop::model::tcp::State;
use socket_snoop::order::{Order, Value};
use std::fs;

/// A host of that order.
struct Ordered<'a>(Fields<'a>, Order);

impl Host for Ordered<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        self.0.field(name)
    }
    fn map_fd(&self, name: &str) -> Option<i32> {
        self.0.map_fd(name)
    }
    fn cast(&self, structure: &str) -> Option<Cast> {
        self.0.cast(structure)
    }
    fn hidden(&self) -> u16 {
        self.0.hidden()
    }
    fn loads_members(&self) -> bool {
        self.0.loads_members()
    }
    fn big_endian(&self) -> bool {
        self.1 == Order::Big
    }
}

fn program(stem: &str, way: &str, order: Order) -> Program {
    let read =
        |name: &str| fs::read_to_string(format!("bpf-asm/{name}")).map_err(|e| e.to_string());
    let file = format!("{stem}.s");
    let variant = Variant {
        way: Some(way),
        big_endian: order == Order::Big,
    };
    let text = read(&file).expect("a program");
    assemble_for(variant, &file, &text, &mut |name| read(name)).unwrap_or_else(|e| panic!("{e}"))
}

const SERVER: OnCpu = OnCpu {
    pid: 0x1_0203,
    tid: 0x1_0203,
    uid: 1000,
    comm: *b"server\0\0\0\0\0\0\0\0\0\0",
};
/// Another thread of it.
const THREAD: OnCpu = OnCpu {
    tid: 0x1_0204,
    comm: *b"thread\0\0\0\0\0\0\0\0\0\0",
    ..SERVER
};
const WORKER: OnCpu = OnCpu {
    pid: 9,
    tid: 9,
    uid: 0,
    comm: *b"kworker/0:1\0\0\0\0\0",
};
const LISTENER: u64 = 0xffff_8880_0001_0000;
const CHILD: u64 = 0xffff_8880_0002_0000;
const CLIENT: u64 = 0xffff_8880_0003_0000;
const NET: u64 = 0xffff_8882_0000_0000;
const CRED: u64 = 0xffff_8883_0000_0000;

/// The addresses of a socket's ends: the listener has any.
fn addresses(socket: u64) -> [[u8; 4]; 2] {
    match socket {
        LISTENER => [[0; 4]; 2],
        _ => [[10, 0, 0, 1], [10, 0, 0, 2]],
    }
}

/// What is played: hosts differ in what they tell.
struct Scene {
    machine: Machine,
    insns: Vec<Insn>,
    by_btf: bool,
    /// What is told of the events; where cards are kept, those.
    tells: Abilities,
    cards: Cards,
    /// How long each event was.
    lengths: Vec<usize>,
}

impl Scene {
    fn new(order: Order, by_btf: bool, members: &Layout) -> Scene {
        let program = program("state", if by_btf { "btf" } else { "tracefs" }, order);
        let known = [members, if by_btf { NEEDED } else { &[] }].concat();
        let record = BY_BTF[0].1[0];
        let fields = Fields {
            record: if by_btf { record } else { &STATE_NEW },
            members: &known,
            loads: by_btf,
        };
        let host = Ordered(fields, order);
        let insns = program.link(&host).unwrap_or_else(|e| panic!("{e}"));
        let mut machine = Machine::new(order, SERVER);
        for at in [LISTENER, CHILD, CLIENT, TASK, NET, CRED] {
            machine.map(at, vec![0; 4096]);
        }
        let mut scene = Scene {
            machine,
            insns,
            by_btf,
            tells: match members.iter().any(|m| m.0 == "helper.cards") {
                true => Abilities::all(),
                false => Abilities::all() - Abilities::CARDS,
            },
            cards: Cards::new(10),
            lengths: Vec::new(),
        };
        scene.set(NET, "net.ns.inum", 0xf000_0001);
        scene.set(TASK, "task_struct.tgid", SERVER.pid.into());
        for at in [LISTENER, CHILD, CLIENT] {
            scene.set(at, "sock.__sk_common.skc_net.net", NET);
            scene.set(at, "sock.__sk_common.skc_family", 2);
            scene.set(at, "sock.__sk_common.skc_flags", 1 << 40 | 2);
            let network = |port: u16| match order {
                Order::Big => u64::from(port),
                Order::Little => u64::from(port.swap_bytes()),
            };
            scene.set(at, "tcp_sock.inet_conn.icsk_inet.inet_sport", network(443));
            scene.set(at, "sock.__sk_common.skc_dport", network(4000));
            for (member, value) in [("tcp_sock.srtt_us", 80), ("tcp_sock.bytes_sent", 2000)] {
                scene.set(at, member, value);
            }
            for (member, address) in [
                "tcp_sock.inet_conn.icsk_inet.inet_saddr",
                "sock.__sk_common.skc_daddr",
            ]
            .into_iter()
            .zip(addresses(at))
            {
                let (place, _) = scene.place(at, member);
                scene.bytes(place, &address);
            }
        }
        // The child's queue is the copy of the listener's, which points to itself.
        let head = LISTENER + 0x718;
        for at in [LISTENER, CHILD] {
            scene.set(at, "tcp_sock.tsorted_sent_queue.next", head);
        }
        scene
    }

    fn place(&self, at: u64, member: &str) -> (u64, usize) {
        let all = [MEMBERS, NEEDED].concat();
        let found = all
            .iter()
            .find(|(name, _, _)| *name == member)
            .expect(member);
        (at + u64::from(found.1), found.2.into())
    }

    fn set(&mut self, at: u64, member: &str, value: u64) {
        let (place, len) = self.place(at, member);
        self.machine.store(place, len, value);
    }

    fn bytes(&mut self, at: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            self.machine.store(at + n as u64, 1, u64::from(*byte));
        }
    }

    /// A change of state, and the event of it.
    fn change(
        &mut self,
        socket: u64,
        on_cpu: OnCpu,
        locked: bool,
        old: State,
        new: State,
    ) -> Event {
        let event = self.try_change(socket, on_cpu, locked, (old, new));
        event.expect("an event")
    }

    fn try_change(
        &mut self,
        socket: u64,
        on_cpu: OnCpu,
        locked: bool,
        (old, new): (State, State),
    ) -> Option<Event> {
        self.machine.on_cpu = on_cpu;
        self.set(socket, "sock.sk_lock.owned", locked.into());
        let (comm, _) = self.place(TASK, "task_struct.comm");
        self.bytes(comm, &on_cpu.comm);
        let kernels = u64::from(on_cpu.pid == WORKER.pid) << 21;
        self.set(TASK, "task_struct.flags", kernels);
        self.set(TASK, "task_struct.cred", CRED);
        self.set(CRED, "cred.uid.val", on_cpu.uid.into());
        const CONTEXT: u64 = 0x7000_0000;
        let mut context = vec![0; 96];
        self.machine.map(CONTEXT, context);
        if self.by_btf {
            for (n, value) in [socket, old as u64, new as u64].into_iter().enumerate() {
                self.machine.store(CONTEXT + 8 * n as u64, 8, value);
            }
        } else {
            for (name, value) in [
                ("skaddr", socket),
                ("oldstate", old as u64),
                ("newstate", new as u64),
                ("sport", 443),
                ("dport", 4000),
                ("family", 2),
                ("protocol", 6),
            ] {
                let field = STATE_NEW.iter().find(|field| field.0 == name).expect(name);
                self.machine
                    .store(CONTEXT + u64::from(field.1), field.2.into(), value);
            }
            for (name, [a, b, c, d]) in ["saddr_v6", "daddr_v6"].into_iter().zip(addresses(socket))
            {
                let field = STATE_NEW.iter().find(|field| field.0 == name).expect(name);
                let place = CONTEXT + u64::from(field.1) + 10;
                self.bytes(place, &[0xff, 0xff, a, b, c, d]);
            }
        }
        context = self.machine.copy(CONTEXT, 96);
        let insns = std::mem::take(&mut self.insns);
        assert_eq!(self.machine.run(&insns, context), 1);
        self.insns = insns;
        let sent = self.machine.sent.pop()?;
        let order = self.machine.order;
        let (time, sent) = sent.split_at(EV_TIME.into());
        assert_eq!(u64::read(time, order), NOW);
        self.lengths.push(sent.len());
        let event = Event::decode_from(order, (1, 0), sent, self.tells, &mut self.cards);
        Some(event.unwrap_or_else(|e| panic!("{e}")))
    }

    /// A listener and a connection to it, from beginning to end.
    fn play(mut self) -> (Vec<Event>, Vec<usize>) {
        use State::*;
        let mut events = vec![
            self.change(LISTENER, SERVER, true, Close, Listen),
            self.change(CHILD, WORKER, false, Listen, SynRecv),
            self.change(CHILD, WORKER, false, SynRecv, Established),
            self.change(CHILD, THREAD, true, Established, FinWait1),
            self.change(CHILD, WORKER, false, FinWait1, FinWait2),
            self.change(CHILD, WORKER, false, FinWait2, Close),
        ];
        self.set(LISTENER, "sock.sk_shutdown", 3);
        events.push(self.change(LISTENER, SERVER, true, Listen, Close));
        // Opened by a thread of the kernel: nobody's.
        events.push(self.change(CLIENT, WORKER, true, Close, SynSent));
        events.push(self.change(CLIENT, WORKER, false, SynSent, Close));
        assert_eq!(self.cards.missing(), 0);
        // Nothing of them is left in the maps of owners and listeners, but entries without anybody.
        let left: Vec<_> = self.machine.maps.iter().map(|(k, at)| (k.0, *at)).collect();
        for (map, at) in left.into_iter().filter(|(map, _)| *map != 4) {
            let value = self.machine.copy(at, OW_KEPT);
            let told = OW_TOLD.get(&value, self.machine.order);
            assert_eq!((map, told), (5, 2));
            assert!(value[..8].iter().all(|byte| *byte == 0));
        }
        (events, self.lengths)
    }
}

#[test]
fn the_same_events_in_either_order() {
    let none: &Layout = &[];
    // The address of a first thread is followed by the helper alone.
    let loaded: Vec<_> = MEMBERS
        .iter()
        .filter(|m| m.0 != "helper.leaders")
        .copied()
        .collect();
    // And where a listener is not known by its queue.
    let by_address: Vec<_> = loaded
        .iter()
        .filter(|m| !m.0.starts_with("tcp_sock.ts"))
        .copied()
        .collect();
    let by_helper: Vec<_> = MEMBERS.iter().filter(|m| m.0 != LOADS).copied().collect();
    for (by_btf, members) in [
        (false, MEMBERS),
        (false, &by_helper[..]),
        (false, none),
        (true, &loaded[..]),
        (true, &by_address[..]),
    ] {
        let [little, big] =
            [Order::Little, Order::Big].map(|order| Scene::new(order, by_btf, members).play());
        assert_eq!(little, big, "by BTF: {by_btf}, {} members", members.len());
        let (big, lengths) = big;
        // What belongs to a socket is told at its birth, and when another thread has it; a
        // listener's at its end, too.
        const BRIEF: usize = EV_BRIEF_SIZE as usize;
        let once = [
            EV_SIZE,
            EV_SIZE,
            EV_HEAD,
            EV_SIZE,
            EV_HEAD,
            BRIEF,
            EV_CLOSE_SIZE,
            EV_SIZE,
            BRIEF,
        ];
        let each = |event: &Event| {
            let size = if event.is_close() {
                EV_CLOSE_SIZE
            } else {
                EV_SIZE
            };
            size + usize::from(EV_COMM_SIZE)
        };
        match members.is_empty() {
            true => assert!(big.iter().map(each).eq(lengths)),
            false => assert_eq!(lengths, once),
        }
        let owners: Vec<_> = big
            .iter()
            .map(|e| e.owner.map(|o| (o.task.pid, o.source)))
            .collect();
        let pid = SERVER.pid;
        use OwnerSource::*;
        let expected = [Task, Listener, Listener, Task, Cached, Cached, Task];
        assert_eq!(owners[..7], expected.map(|source| Some((pid, source))));
        assert_eq!(owners[7..], [None, None]);
        assert_eq!(big[1].owner.map(|o| o.task.name), Some(SERVER.comm));
        // A thread of it, by the name of the process.
        let thread = big[3].owner.map(|o| (o.task.tid, o.task.name));
        assert_eq!(thread, Some((THREAD.tid, SERVER.comm)));
        let ends = |e: &Event| [e.local, e.peer].map(|end| (end.addr.to_string(), end.port));
        assert_eq!(
            ends(&big[2]),
            [("10.0.0.1".into(), 443), ("10.0.0.2".into(), 4000)]
        );
        let closed = What::State {
            old: State::FinWait2,
            new: State::Close,
        };
        assert_eq!(big[5].what, closed);
        if !members.is_empty() {
            let counters = &big[5].counters;
            assert_eq!(
                (counters.rtt_us, counters.fin_received),
                (Some(10), Some(true))
            );
            assert_eq!(counters.sent.and_then(|s| s.handed), Some(2000));
            assert_eq!(big[5].netns, Some(0xf000_0001));
        }
    }
}

/// What belongs to a socket is told again where it found no room, and where it has changed.
#[test]
fn what_was_not_sent_or_has_changed_is_told_again() {
    use State::*;
    for order in [Order::Little, Order::Big] {
        let mut scene = Scene::new(order, false, MEMBERS);
        scene.set(TASK, "task_struct.real_parent", TASK);
        scene.change(LISTENER, SERVER, true, Close, Listen);
        scene.change(CHILD, WORKER, false, Listen, SynRecv);
        scene.machine.full = true;
        let lost = scene.try_change(CHILD, WORKER, false, (SynRecv, Established));
        assert_eq!(lost, None);
        scene.machine.full = false;
        // Each with who does it, and how long its event is.
        let renamed = OnCpu {
            comm: *b"renamed\0\0\0\0\0\0\0\0\0",
            ..SERVER
        };
        let other_user = OnCpu {
            uid: 1001,
            ..renamed
        };
        let changes = [
            (WORKER, (Established, CloseWait), EV_SIZE),
            (SERVER, (CloseWait, LastAck), EV_HEAD),
            (SERVER, (LastAck, Established), EV_HEAD),
            (renamed, (Established, FinWait1), EV_SIZE),
            (renamed, (FinWait1, FinWait2), EV_HEAD),
            (other_user, (FinWait2, Closing), EV_SIZE),
            (other_user, (Closing, Close), EV_BRIEF_SIZE.into()),
        ];
        for (at, (who, change, len)) in changes.into_iter().enumerate() {
            let locked = who.pid == SERVER.pid;
            let event = scene.try_change(CHILD, who, locked, change);
            let event = event.expect("an event");
            assert_eq!(scene.lengths.last(), Some(&len), "{at}");
            let owner = event.owner.expect("an owner");
            assert_eq!((owner.task.pid, event.peer.port), (SERVER.pid, 4000));
            if locked {
                assert_eq!(owner.source, OwnerSource::Task);
                let told = (owner.task.uid, owner.task.name, owner.thread);
                assert_eq!(told, (Some(who.uid), who.comm, who.comm), "{at}");
            }
        }
        // The next one at its address is another: of it nothing was told.
        let event = scene.change(CHILD, WORKER, false, Listen, SynRecv);
        assert_eq!(scene.lengths.last(), Some(&EV_SIZE));
        let source = event.owner.map(|owner| owner.source);
        assert_eq!(source, Some(OwnerSource::Listener));
        assert_eq!(scene.cards.missing(), 0);
    }
}
