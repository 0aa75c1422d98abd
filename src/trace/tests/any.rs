//! Whatever connections do, the file is one that viewers read.

use super::*;
use proptest::prelude::*;

/// What may happen: to which socket, which process's by which source, how much later, and
/// what.
fn happening() -> impl Strategy<Value = (u64, u32, u8, u64, u8)> {
    (1..6u64, 0..4u32, 0..8u8, 0..3u64, 0..24u8)
}

proptest! {
    #[test]
    fn any_lives_are_in_order(all in prop::collection::vec(happening(), 0..120)) {
        use State::*;
        const STATES: [State; 8] =
            [Close, SynSent, SynRecv, Established, FinWait1, CloseWait, Close, LastAck];
        let mut play = Play::new();
        let (mut time, mut states) = (0, [Close; 6]);
        let mut lines = 0;
        for (socket, pid, source, later, what) in all {
            // At the same time, a nanosecond later, or much later.
            time += [0, 1, 700 * MS][later as usize];
            let old = states[socket as usize];
            let mut event = change(time, socket, old, old, 10 + pid);
            // Both ends of one, and clients from the same port.
            event.local = Endpoint { port: 4000 + socket as u16 / 3, ..event.local };
            if socket % 2 == 0 {
                std::mem::swap(&mut event.local, &mut event.peer);
            }
            let source = OwnerSource::from_number(source);
            event.owner = source.map(|source| owner(10 + pid, source));
            event.what = match what {
                0 => {
                    play.draw(time);
                    continue;
                }
                1..4 => What::Retransmit { state: None, error: None, total: None, kind: None },
                _ => {
                    let new = STATES[usize::from(what) % STATES.len()];
                    states[socket as usize] = new;
                    What::State { old, new }
                }
            };
            play.take(&event);
            lines += 1;
        }
        cut(&play.out);
        let file = play.finish();
        let lanes = slices(&file);
        let outer = |slice: &&Slice| slice.0.contains(' ');
        let connections = lanes.values().flatten().filter(outer).count();
        prop_assert!(connections <= lines && (lines == 0 || connections > 0));
        let flows = |phase| of_phase(&file, phase).count();
        prop_assert_eq!(flows("s"), flows("f"));
        for flow in of_phase(&file, "s").chain(of_phase(&file, "f")) {
            let lane = &lanes[&(flow["pid"].as_u64().unwrap(), flow["tid"].as_u64().unwrap())];
            let at = nanos(flow);
            prop_assert!(lane.iter().any(|slice| slice.1 <= at && at <= slice.2), "{}", flow);
        }
    }
}
