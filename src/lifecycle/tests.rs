//! The table's own tests.

use super::connection::TRANSITIONS;
use super::*;
use crate::bpf::wire::tests::state;

const MS: u64 = 1_000_000;
/// What a host with BTF tells.
pub(crate) const ALL: Abilities = Abilities::LOCK
    .union(Abilities::ACCEPTS)
    .union(Abilities::RESETS_SENT)
    .union(Abilities::RESETS_RECEIVED)
    .union(Abilities::SYNACKS)
    .union(Abilities::FAILED_RETRANSMISSIONS);

pub(crate) fn feed(table: &mut Connections, event: &Event) -> u64 {
    let seen = table.observe(event, event.time).expect("room");
    seen.connection.mark_shown();
    let (id, time_wait) = (seen.id, seen.time_wait);
    table.finish(event, event.time, time_wait);
    while let Some(ended) = table.next_ended(u64::MAX) {
        table.release(ended);
    }
    id.number
}

fn states(connection: &Connection) -> Vec<State> {
    connection.transitions().map(|(_, state)| state).collect()
}

#[test]
fn a_client_without_a_port_belongs_to_the_rest() {
    let mut table = Connections::new(10, 10, 0, ALL);
    let path = [
        (State::Close, State::SynSent, (0, 80)),
        (State::SynSent, State::Established, (4000, 80)),
        (State::Established, State::FinWait1, (4000, 80)),
        (State::FinWait1, State::FinWait2, (4000, 80)),
        (State::FinWait2, State::Close, (4000, 80)),
    ];
    for (i, (old, new, ports)) in path.into_iter().enumerate() {
        assert_eq!(
            feed(&mut table, &state(i as u64 * MS, 7, old, new, ports)),
            1
        );
    }
    let shown = table.shown();
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].local().port, shown[0].peer().port), (4000, 80));
    assert_eq!(states(shown[0]), path.map(|(_, new, _)| new));
    let times: Vec<u64> = shown[0].transitions().map(|(time, _)| time).collect();
    assert_eq!(times, [0, MS, 2 * MS, 3 * MS, 4 * MS]);
}

/// Records before Linux 4.20 do not say in which state a segment is sent again.
#[test]
fn the_state_of_a_connection_is_known() {
    let again = What::Retransmit {
        kind: None,
        state: None,
        error: None,
        total: None,
    };
    let state_of = |table: &mut Connections| {
        let event = Event {
            what: again,
            ..closed(7)
        };
        table.observe(&event, 0).expect("room").state
    };
    let mut table = Connections::new(10, 10, 0, ALL);
    assert_eq!(state_of(&mut table), None);
    feed(&mut table, &opened(7));
    assert_eq!(state_of(&mut table), Some(State::SynSent));
    let answered = state(2, 7, State::SynSent, State::Established, (1, 80));
    feed(&mut table, &answered);
    assert_eq!(state_of(&mut table), Some(State::Established));
}

#[test]
fn an_address_used_again_is_another_connection() {
    let mut table = Connections::new(10, 10, 0, ALL);
    let open = state(1, 7, State::Close, State::SynSent, (0, 80));
    let closed = state(2, 7, State::SynSent, State::Close, (4000, 80));
    assert_eq!(feed(&mut table, &open), 1);
    assert_eq!(feed(&mut table, &closed), 1);
    assert_eq!(feed(&mut table, &open), 2);
    // Its CLOSE was lost: the next first event still begins anew.
    assert_eq!(feed(&mut table, &open), 3);
    assert_eq!((table.seen(), table.shown().len()), (3, 3));
}

#[test]
fn a_listener_is_no_connection() {
    let mut table = Connections::new(4, 4, 0, ALL);
    feed(
        &mut table,
        &state(1, 1, State::Close, State::Listen, (80, 0)),
    );
    feed(
        &mut table,
        &state(2, 2, State::Listen, State::SynRecv, (80, 4000)),
    );
    feed(
        &mut table,
        &state(3, 1, State::Listen, State::Close, (80, 0)),
    );
    // One that was there before us, and is closed now.
    feed(
        &mut table,
        &state(4, 3, State::Listen, State::Close, (81, 0)),
    );
    assert_eq!(table.seen(), 1);
}

fn opened(socket: u64) -> Event {
    state(1, socket, State::Close, State::SynSent, (0, 80))
}

fn closed(socket: u64) -> Event {
    state(2, socket, State::SynSent, State::Close, (1, 80))
}

#[test]
fn the_history_is_bounded_and_what_went_is_counted() {
    let mut table = Connections::new(4, 3, 0, ALL);
    for socket in 1..=10 {
        feed(&mut table, &opened(socket));
        feed(&mut table, &closed(socket));
    }
    assert_eq!((table.seen(), table.refused_connections()), (10, 0));
    assert_eq!((table.shown().len(), table.not_held()), (3, 7));
    assert_eq!(table.totals().open, 0);
    assert_eq!(table.slots.len(), 4);
}

/// However many are turned away, and whoever leaves meanwhile.
#[test]
fn who_is_turned_away_stays_out() {
    let mut table = Connections::new(4, 100, 0, ALL);
    let answered = |s| state(1, s, State::SynSent, State::Established, (1, 80));
    for socket in 1..=4 {
        feed(&mut table, &opened(socket));
    }
    for socket in 5..=1000 {
        assert!(table.observe(&opened(socket), 1).is_none());
    }
    feed(&mut table, &closed(1));
    while let Some(ended) = table.next_ended(u64::MAX) {
        table.release(ended);
    }
    for make in [answered, closed] {
        for socket in 5..=1000 {
            assert!(table.observe(&make(socket), 1).is_none(), "{socket}");
        }
    }
    assert_eq!(
        (table.refused_connections(), table.birth_missed()),
        (996, 0)
    );
    feed(&mut table, &opened(7));
    assert_eq!(table.seen(), 5);
}

#[test]
fn what_finds_no_room_is_counted_and_turns_nobody_out() {
    let mut table = Connections::new(4, 100, 0, ALL);
    let numbers: Vec<u64> = (1..=4).map(|s| feed(&mut table, &opened(s))).collect();
    for socket in 5..=9 {
        for event in [opened(socket), closed(socket)] {
            assert!(table.observe(&event, 1).is_none());
            table.finish(&event, 1, None);
        }
        assert_eq!(table.newly_refused(), 1);
    }
    // One that was there before, whose first event comes now.
    let strange = state(3, 10, State::Established, State::CloseWait, (7, 80));
    assert!(table.observe(&strange, 1).is_none());
    assert_eq!((table.refused_connections(), table.newly_refused()), (6, 1));
    assert_eq!(table.totals().open, 4);
    // Who has a place keeps it and its number; who leaves makes room, but not for
    // the rest of one that was turned away.
    assert_eq!(feed(&mut table, &closed(1)), numbers[0]);
    let rest = state(4, 10, State::CloseWait, State::LastAck, (7, 80));
    assert!(table.observe(&rest, 1).is_none());
    let last = state(5, 10, State::LastAck, State::Close, (7, 80));
    assert!(table.observe(&last, 1).is_none());
    assert_eq!(table.refused_connections(), 6);
    // Its address is another one's then.
    feed(&mut table, &opened(10));
    for socket in [2, 3, 4, 10] {
        feed(&mut table, &closed(socket));
    }
    assert_eq!((table.seen(), table.shown().len()), (5, 5));
    assert_eq!((table.totals().open, table.totals().opened), (0, 5));
    assert!(table.slots.len() - table.history.len() <= 4 && table.by_socket.len() == 0);
}

#[test]
fn what_is_not_shown_takes_no_room_after_its_end() {
    let mut table = Connections::new(2, 2, 0, ALL);
    for socket in 1..=100 {
        for (old, new) in [
            (State::Close, State::SynSent),
            (State::SynSent, State::Close),
        ] {
            let event = state(1, socket, old, new, (0, 80));
            let time_wait = table.observe(&event, 1).expect("room").time_wait;
            table.finish(&event, 1, time_wait);
            while let Some(ended) = table.next_ended(1) {
                table.release(ended);
            }
        }
    }
    assert_eq!(
        (table.seen(), table.not_held(), table.slots.len()),
        (100, 0, 1)
    );
    assert!(table.shown().is_empty());
}

#[test]
fn the_ends_of_time_are_no_trouble() {
    for time in [0, 1, u64::MAX - 1, u64::MAX] {
        let mut table = Connections::new(4, 4, 0, ALL);
        for (at, old, new) in [
            (time, State::Listen, State::SynRecv),
            (u64::MAX, State::SynRecv, State::Established),
            (0, State::Established, State::CloseWait),
            // It waits for a reset, 10 ms long.
            (time, State::CloseWait, State::Close),
        ] {
            let event = state(at, 1, old, new, (80, 4000));
            table.prepare(&event);
            let seen = table.observe(&event, u64::MAX - at).expect("room");
            let time_wait = seen.time_wait;
            table.finish(&event, u64::MAX - at, time_wait);
        }
        let early = table.next_ended(time);
        assert_eq!(early.is_some(), time == u64::MAX);
        let ended = early.or_else(|| table.next_ended(u64::MAX));
        let (_, connection) = table.get(ended.as_ref().expect("an end"));
        assert_eq!(connection.transitions().count(), 4);
        assert!(
            connection
                .states()
                .iter()
                .all(|(_, nanos)| *nanos <= u64::MAX >> 4)
        );
    }
}

#[test]
fn transitions_beyond_the_bound_are_counted() {
    let mut table = Connections::new(2, 2, 0, ALL);
    for i in 0..12 {
        feed(
            &mut table,
            &state(i, 1, State::SynSent, State::Established, (1, 2)),
        );
    }
    let shown = table.shown();
    assert_eq!((states(shown[0]).len(), shown[0].more()), (TRANSITIONS, 4));
}

/// A child that a reset of ours ended, after its CLOSE.
fn reset_child(
    tells: Abilities,
    has_socket: Option<bool>,
    accepted: bool,
) -> Option<crate::model::cause::Cause> {
    let mut table = Connections::new(4, 4, 0, tells);
    let path = [
        (State::Listen, State::SynRecv),
        (State::SynRecv, State::Established),
        (State::Established, State::Close),
    ];
    for (time, (old, new)) in (1..).zip(path) {
        let mut event = state(time, 1, old, new, (80, 4000));
        event.counters.has_socket = has_socket;
        if accepted && event.is_close() {
            let what = What::Accepted;
            table.note(&Event { what, ..event });
        }
        table
            .observe(&event, time)
            .expect("room")
            .connection
            .mark_shown();
        table.finish(&event, time, None);
    }
    let what = What::ResetSent { reason: None };
    table.note(&Event {
        what,
        ..state(4, 1, State::Close, State::Close, (0, 0))
    });
    let ended = table.next_ended(5).expect("an end");
    table.get(&ended).1.cause()
}

#[test]
fn never_accepted_is_only_what_is_known_not_to_have_been() {
    use crate::model::cause::Cause::{NeverAccepted, ResetByUs, Unknown};
    let cause = |has_socket, accepted| reset_child(ALL, has_socket, accepted);
    assert_eq!(cause(Some(false), false), Some(NeverAccepted));
    assert_eq!(cause(Some(true), false), Some(ResetByUs));
    assert_eq!(cause(None, false), Some(Unknown));
    assert_eq!(cause(None, true), Some(ResetByUs));
    // Who told of no resets tells of none here.
    let silent = ALL - Abilities::RESETS_SENT;
    assert_eq!(reset_child(silent, None, false), Some(Unknown));
}

#[test]
fn attempts_count_by_their_ends() {
    let mut table = Connections::new(4, 4, 0, ALL);
    // Given up.
    feed(&mut table, &opened(1));
    let mut last = closed(1);
    last.counters.sent = Some(crate::model::event::Sent {
        in_flight: 1,
        ..Default::default()
    });
    feed(&mut table, &last);
    // Answered, and still open.
    feed(&mut table, &opened(2));
    let answer = state(2, 2, State::SynSent, State::Established, (1, 80));
    feed(&mut table, &answer);
    let totals = table.totals();
    assert_eq!((totals.opened, totals.established), (2, 1));
    assert_eq!((totals.given_up, totals.open), (1, 1));
}

#[test]
fn a_change_to_the_same_state_is_no_step() {
    let mut table = Connections::new(4, 4, 0, ALL);
    for (time, old, new) in [
        (1, State::Close, State::SynSent),
        (2, State::SynSent, State::Established),
        (3, State::Established, State::FinWait1),
        (4, State::FinWait1, State::FinWait1),
    ] {
        feed(&mut table, &state(time, 1, old, new, (1, 80)));
    }
    let expected = [State::SynSent, State::Established, State::FinWait1];
    assert_eq!(states(table.shown()[0]), expected);
}
