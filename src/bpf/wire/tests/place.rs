//! One place for event after event.

use super::*;
use proptest::prelude::*;

proptest! {
    /// What is read into the place of another event is what it is alone, also behind
    /// bytes that are none.
    #[test]
    fn nothing_of_the_event_before_is_left(
        events in prop::collection::vec(
            (
                prop::collection::vec(any::<u8>(), EV_CLOSE_SIZE..EV_CLOSE_SIZE + 1),
                (0u8..10, 0u8..15, 0u8..15),
                (0usize..EV_CLOSE_SIZE + 20, any::<bool>(), any::<u32>()),
            ),
            1..40,
        ),
        big in any::<bool>(),
    ) {
        let order = ORDERS[usize::from(big)];
        let (mut ours, mut theirs) = (Cards::new(4), Cards::new(4));
        let mut place = Event::blank();
        for (mut bytes, (kind, old, new), (len, closed, known)) in events {
            EV_SOCKET.put(&mut bytes, u64::from(kind % 3), order);
            EV_VERSION.put(&mut bytes, VERSION, order);
            EV_KIND.put(&mut bytes, if closed { KIND_STATE } else { kind }, order);
            EV_OLDSTATE.put(&mut bytes, old, order);
            EV_NEWSTATE.put(&mut bytes, if closed { CLOSE } else { new }, order);
            let bytes = bytes.get(..len).unwrap_or(&bytes);
            let known = Abilities::from_bits_truncate(known);
            let read = place.read_from(order, (7, 8), bytes, known, &mut ours);
            let alone = Event::decode_from(order, (7, 8), bytes, known, &mut theirs);
            prop_assert_eq!(read.map(|()| place), alone);
            prop_assert_eq!(ours.missing(), theirs.missing());
        }
    }
}
