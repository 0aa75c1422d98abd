//! What was held back comes to the same, taken at once or event by event.

use super::*;
use crate::bpf::cards::Cards;
use crate::bpf::changes::{self, Tell};
use crate::bpf::layout::*;
use crate::bpf::wire::DecodeError;
use crate::bpf::wire::tests::wire;
use crate::lifecycle::existing::{Existing, Seen as When};
use crate::model::event::Event;
use crate::model::tcp::State;
use crate::order::Order;
use crate::owner::lineage::Lineage;
use crate::owner::lineage::tests::Family;
use crate::owner::listeners::Listeners;
use crate::owner::processes::Processes;
use crate::owner::tracker::Moment;
use proptest::prelude::*;

/// A change, or another event: the states, the flags, how the owner is known, the port.
type Step = (u8, u8, u8, u8, u16);
/// An event with what was held until then, whose it is, and what else is told of it.
type Sent = (Step, Vec<Step>, u32, (u8, u8));

/// A table, and whether it takes changes at once.
struct Table {
    all: Connections,
    listeners: Listeners,
    at_once: bool,
    taken: u64,
    past: Processes,
}

impl Table {
    fn new(at_once: bool, found: bool) -> Table {
        let mut all = Connections::new(4, 4, 0, super::super::tests::ALL);
        if found {
            all.existing.begin(0);
            let state = crate::bpf::wire::tests::state;
            let ends = state(1, 1, State::Close, State::SynSent, (4000, 80));
            all.existing.add(&Existing {
                netns: 0,
                local: ends.local,
                peer: ends.peer,
                state: State::Established,
                seen: When { start: 40, end: 60 },
            });
        }
        Table {
            all,
            listeners: Listeners::default(),
            at_once,
            taken: 0,
            past: Processes::empty(true),
        }
    }

    fn take(&mut self, event: &Event, kin: Option<&dyn Lineage>) {
        self.all.prepare(event);
        self.settle(event.time);
        if !event.is_line() {
            return self.all.note(event);
        }
        let Some(seen) = self.all.observe(event, event.time + 7) else {
            return;
        };
        let (connection, time_wait) = (seen.connection, seen.time_wait);
        connection.judge_owner(
            event,
            &Moment {
                kin: kin.unwrap_or(&self.past),
                listeners: &self.listeners,
                sockets: true,
            },
        );
        if !event.is_noise() && !event.stays() {
            connection.mark_shown();
        }
        self.all.finish(event, event.time + 7, time_wait);
        self.settle(event.time);
    }

    fn settle(&mut self, now: u64) {
        while let Some(ended) = self.all.next_ended(now) {
            self.all.release(ended);
        }
    }

    fn says(&self) -> String {
        format!("{:?} {}", self.all.slots, self.all.birth_missed)
    }
}

impl Tell for Table {
    fn event(&mut self, event: &mut Event, read: Result<(), DecodeError>) {
        if read.is_ok() {
            self.take(event, None);
        }
    }

    fn changes(&mut self, changes: &Changes<'_>) -> bool {
        if !self.at_once {
            return false;
        }
        let taken = self.all.take_held(changes, &|time| time + 7);
        let shown = !changes.is_noise()
            && changes
                .each()
                .any(|c| c.states().is_some_and(|(old, new)| old != new));
        taken
            .map(|connection| shown.then(|| connection.mark_shown()))
            .is_some_and(|_| {
                self.taken += changes.count();
                true
            })
    }
}

fn step() -> impl Strategy<Value = Step> {
    let state = || prop_oneof![6 => 1u8..12, 1 => Just(7u8)];
    let flags = prop::sample::select(vec![
        FLAG_BRIEF,
        FLAG_BRIEF | FLAG_USER,
        FLAG_BRIEF | FLAG_USER,
        FLAG_CARD | FLAG_USER,
        FLAG_CARD,
        FLAG_USER,
        FLAG_BRIEF | FLAG_LAST,
    ]);
    (
        state(),
        state(),
        flags,
        0u8..7,
        prop::sample::select(vec![4000u16, 4000, 4000, 0]),
    )
}

fn held_step() -> impl Strategy<Value = Step> {
    (step(), any::<bool>()).prop_map(|((old, new, flags, how, port), odd)| {
        let flags = if odd {
            flags
        } else {
            FLAG_BRIEF | flags & FLAG_USER
        };
        (old, new, flags, how, port)
    })
}

fn sent() -> impl Strategy<Value = Sent> {
    let held = prop::collection::vec(held_step(), 0..4);
    let pid = prop::sample::select(vec![16u32, 16, 16, 17]);
    (step(), held, pid, (0u8..12, 0u8..4))
}

/// The bytes of a sample.
fn sample(((old, new, flags, how, port), held, pid, (kind, odd)): &Sent, time: u64) -> Vec<u8> {
    let kind = match kind {
        0 => KIND_ACCEPT,
        1 => KIND_RETRANS,
        2 => KIND_HELD,
        3 => KIND_RST_RCVD,
        _ => KIND_STATE,
    };
    let order = Order::NATIVE;
    let mut bytes = wire(1, State::Close, State::Close, (*port, 80)).to_vec();
    let known = [State::SynSent, State::Established];
    let state = |n: &u8| State::from_number(*n).unwrap_or(known[0]) as u8;
    EV_OLDSTATE.put(&mut bytes, state(old), order);
    EV_NEWSTATE.put(&mut bytes, state(new), order);
    EV_KIND.put(&mut bytes, kind, order);
    EV_FLAGS.put(&mut bytes, *flags, order);
    EV_HOW.put(&mut bytes, *how, order);
    EV_TOTAL.put(&mut bytes, held.len() as u32, order);
    if *odd == 1 {
        EV_PEER.put(&mut bytes, [0; 16], order);
    }
    let owner = &mut bytes[EV_OWNER.at..];
    OW_TASK.put(
        owner,
        u64::from(*pid) << 32 | u64::from(*pid + u32::from(*odd)),
        order,
    );
    OW_UID.put(owner, u32::from(*odd), order);
    OW_PARENT.put(owner, u32::from(*odd), order);
    OW_COMM.put(owner, [b'a' + odd; 16], order);
    OW_THREAD.put(owner, [b'p' + odd; 16], order);
    let mut changes = Vec::new();
    for (n, (old, new, flags, how, port)) in held.iter().enumerate() {
        let mut head = [0; EV_HEAD];
        EV_VERSION.put(&mut head, VERSION, order);
        EV_KIND.put(&mut head, KIND_STATE, order);
        EV_OLDSTATE.put(&mut head, *old, order);
        EV_NEWSTATE.put(&mut head, *new, order);
        EV_FLAGS.put(&mut head, *flags, order);
        EV_HOW.put(&mut head, *how, order);
        EV_LOCAL_PORT.put(&mut head, *port, order);
        changes.extend(&head[EV_VERSION.at..EV_FLAGS.at]);
        changes.extend((time - 5 + n as u64).to_ne_bytes());
        changes.extend(&head[EV_FLAGS.at..]);
    }
    if !held.is_empty() {
        changes.resize(HELD_SIZE.into(), 0);
    }
    let closed = kind == KIND_STATE && *new == State::Close as u8;
    let counters = if closed { EV_CLOSE_SIZE } else { EV_SIZE };
    let counters = bytes[EV_SIZE..counters].to_vec();
    let alone = kind == KIND_HELD || kind == KIND_STATE && flags & FLAG_BRIEF != 0;
    bytes.truncate(if alone { EV_HEAD } else { EV_SIZE });
    match closed && !alone {
        true => [bytes, counters, changes].concat(),
        false => [bytes, changes, counters].concat(),
    }
}

/// Feeds both; how many changes were taken at once.
fn compare(all: &[Sent], found: Option<usize>) -> Result<u64, TestCaseError> {
    let known = Abilities::all() - Abilities::DESTROYS;
    let mut tables = [true, false].map(|at_once| Table::new(at_once, found.is_some()));
    let mut cards = [Cards::new(8), Cards::new(8)];
    let mut events = [Event::blank(), Event::blank()];
    for (n, sent) in all.iter().enumerate() {
        let time = 10 + 10 * n as u64;
        let family = Family {
            all: vec![(16, 1, 95, 1), (17, 1, u64::MAX, 16)],
            now: time,
        };
        let bytes = sample(sent, time);
        let sides = tables.iter_mut().zip(&mut cards).zip(&mut events);
        for ((table, cards), event) in sides {
            if found == Some(n) {
                table.all.existing.complete();
            }
            if changes::decode(event, (time, 0), &bytes, known, cards, table).is_ok() {
                table.take(event, Some(&family));
            }
        }
        prop_assert_eq!(tables[0].says(), tables[1].says(), "{}", n);
        prop_assert_eq!(cards[0].missing(), cards[1].missing());
    }
    Ok(tables[0].taken)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn at_once_is_as_one_by_one(
        all in prop::collection::vec(sent(), 1..12),
        found in prop::option::of(0usize..12),
    ) {
        compare(&all, found)?;
    }
}

/// The usual life of a client takes none of them as events.
#[test]
fn a_life_is_taken_at_once() {
    let number = |state: State| state as u8;
    let change = |old, new, flags, how| (number(old), number(new), flags, how, 4000);
    use State::{Close, Established, FinWait1, FinWait2, SynSent};
    let (brief, user) = (FLAG_BRIEF | FLAG_USER, FLAG_CARD | FLAG_USER);
    let life = [
        (
            change(Close, SynSent, user, SOURCE_TASK),
            vec![],
            16,
            (9, 0),
        ),
        (
            change(FinWait2, Close, brief, SOURCE_CACHED),
            vec![
                change(SynSent, Established, brief, SOURCE_CACHED),
                change(Established, FinWait1, brief, SOURCE_TASK),
                change(FinWait1, FinWait2, brief, SOURCE_CACHED),
            ],
            16,
            (9, 0),
        ),
    ];
    assert_eq!(compare(&life, None).expect("the same"), 3);
}
