//! Changes that were held back, and sent with a later event.

use super::*;
use crate::bpf::held::{sent_with, waiting};

/// Each is what it would have been in time, but for the task on the CPU.
#[test]
fn what_was_held_is_what_would_have_been_told() {
    let known = Abilities::all();
    for order in ORDERS {
        let change = |old, new, flags| {
            laid(order, 5, old, new, (14, 15))
                .with(&EV_TASK, 0)
                .with(&EV_HOW, SOURCE_CACHED)
                .with(&EV_FLAGS, FLAG_FAMILY | flags)
                .owned(&OW_TASK, 16 << 32 | 17)
                .with(&EV_SEGS_OUT, 7)
        };
        let card = change(State::Close, State::SynSent, FLAG_CARD);
        let path = [
            State::SynSent,
            State::Established,
            State::FinWait1,
            State::FinWait2,
        ];
        let pairs = path.iter().zip(&path[1..]);
        let heads: Vec<Laid> = pairs
            .map(|(old, new)| change(*old, *new, FLAG_USER | FLAG_BRIEF))
            .collect();
        let mut held = Vec::new();
        for (time, head) in (100u64..).zip(&heads) {
            let mut item = [0; HE_SIZE];
            item[..4].copy_from_slice(&head.bytes[EV_VERSION.at..EV_FLAGS.at]);
            time.write(&mut item[HE_TIME.at..], order);
            item[HE_FLAGS.at..].copy_from_slice(&head.bytes[EV_FLAGS.at..EV_HEAD]);
            held.extend(item);
        }
        assert_eq!(held.len(), usize::from(HELD_SIZE));
        let cards = || {
            let mut cards = Cards::new(1);
            let card = Event::decode_from(order, (1, 2), &card.bytes, known, &mut cards);
            card.map(|_| cards).expect("a card")
        };
        let decode = |time, bytes: &[u8], cards: &mut Cards| {
            Event::decode_from(order, (time, 2), bytes, known, cards).expect("an event")
        };
        let told = |count: u32, bytes: &[u8]| {
            let (mut ours, mut theirs, mut seen) = (cards(), cards(), 0);
            for ((time, head), laid) in sent_with(order, bytes).zip(&heads) {
                let event = decode(time, &head, &mut ours);
                assert_eq!(
                    event,
                    decode(100 + seen, &laid.bytes[..EV_HEAD], &mut theirs)
                );
                assert!(event.owner.is_some() && ours.missing() == 0);
                seen += 1;
            }
            assert_eq!(seen, u64::from(count));
            ours
        };
        for count in 0..=u32::from(HELD_MOST) {
            let with = |laid: Laid| laid.with(&EV_TOTAL, count);
            let none: &[u8] = &[];
            let held = if count == 0 { none } else { &held };
            // Alone, behind a head, behind a card, and between a head and its counters.
            let alone = with(change(State::Close, State::Close, 0).with(&EV_KIND, KIND_HELD));
            let brief = with(change(State::FinWait2, State::FinWait2, FLAG_BRIEF));
            let whole = with(change(State::FinWait2, State::FinWait2, 0));
            let last = with(change(State::FinWait2, State::Close, FLAG_BRIEF));
            told(count, &[&alone.bytes[..EV_HEAD], held].concat());
            told(count, &[&brief.bytes[..EV_HEAD], held].concat());
            told(count, &[&whole.bytes[..EV_SIZE], held].concat());
            let bytes = [&last.bytes[..EV_HEAD], held, &last.bytes[EV_SIZE..]].concat();
            let mut cards = told(count, &bytes);
            let closed = decode(200, &bytes, &mut cards);
            assert_eq!(closed.counters.segments_sent, Some(7));
        }
        // Cut short there is nothing.
        let short = change(State::FinWait2, State::FinWait2, FLAG_BRIEF).with(&EV_TOTAL, 3);
        assert_eq!(sent_with(order, &short.bytes[..EV_HEAD]).count(), 0);
        // In the map of the programs they are the same.
        let mut entry = [0; OW_HOLDS];
        OW_HELD.put(&mut entry, u32::MAX, order);
        entry[OW_CHANGES.at..OW_CHANGES.at + held.len()].copy_from_slice(&held);
        let bytes = [&short.bytes[..EV_HEAD], &held].concat();
        assert!(waiting(order, 5, &entry).eq(sent_with(order, &bytes)));
    }
}
