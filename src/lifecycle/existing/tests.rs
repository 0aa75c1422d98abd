//! Tests of the table of what was open before the start.

use super::*;
use crate::model::event::{OwnerSource, Task};

fn end(port: u16) -> Endpoint {
    Endpoint {
        addr: [10, 0, 0, 1].into(),
        port,
    }
}

fn existing(netns: u32, port: u16) -> Existing {
    Existing {
        netns,
        local: end(port),
        peer: end(80),
        state: State::Established,
        seen: Seen {
            start: 100,
            end: 200,
        },
    }
}

fn claimant(port: u16, born: Option<u64>, at: u64) -> Claimant {
    Claimant {
        socket: 7,
        number: 1,
        netns: Some(5),
        local: end(port),
        peer: end(80),
        born,
        at,
        closing: false,
    }
}

fn owner(pid: u32) -> Owner {
    Owner {
        task: Task {
            pid,
            tid: pid,
            ..Task::default()
        },
        thread: [0; 16],
        parent: None,
        cgroup: None,
        source: OwnerSource::Snapshot,
    }
}

fn table(found: &[Existing]) -> Table {
    let mut table = Table::new(100);
    table.begin(90);
    for (i, found) in found.iter().enumerate() {
        assert_eq!(table.add(found), Some(i as u32));
    }
    table
}

fn left(table: &Table) -> usize {
    assert_eq!(table.untouched().count(), table.untouched);
    table.untouched
}

#[test]
fn a_socket_that_was_there_all_the_time_is_it() {
    let mut table = table(&[existing(5, 1), existing(5, 2)]);
    assert_eq!(table.own(0, &owner(10)), None);
    assert_eq!(
        table.claim(&claimant(1, None, 200)),
        Claim::Is(Some((owner(10), 90)), false)
    );
    // Once only.
    assert_eq!(table.claim(&claimant(1, None, 201)), Claim::NotYet);
    table.complete();
    assert_eq!(table.claim(&claimant(1, None, 202)), Claim::None);
    assert_eq!(left(&table), 1);
}

#[test]
fn an_owner_may_be_found_later() {
    let mut table = table(&[existing(5, 1)]);
    assert_eq!(table.claim(&claimant(1, None, 300)), Claim::Is(None, false));
    assert_eq!(table.own(0, &owner(10)), Some((7, 1)));
    assert_eq!(table.own(9, &owner(10)), None);
}

#[test]
fn before_it_was_seen_nothing_can_be_told() {
    let mut table = table(&[existing(5, 1)]);
    table.complete();
    assert_eq!(table.claim(&claimant(1, None, 99)), Claim::NotYet);
    assert_eq!(table.claim(&claimant(1, None, 199)), Claim::NotYet);
    // Closed before: the one that was seen came after it.
    let close = |at| Claimant {
        closing: true,
        ..claimant(1, None, at)
    };
    assert_eq!(table.claim(&close(99)), Claim::NotYet);
    assert_eq!(left(&table), 1);
    // While it was seen: it may be either, and is not open any more.
    assert_eq!(table.claim(&close(150)), Claim::None);
    assert_eq!(left(&table), 0);
}

#[test]
fn a_later_socket_with_the_same_ends_ends_it() {
    let mut table = table(&[existing(5, 1), existing(5, 2)]);
    table.complete();
    assert_eq!(table.claim(&claimant(1, Some(250), 260)), Claim::None);
    // Opened before it was seen, and open since: the same.
    assert_eq!(
        table.claim(&claimant(2, Some(50), 260)),
        Claim::Is(None, false)
    );
    assert_eq!(left(&table), 0);
}

/// The events go on while it is told what was found.
#[test]
fn what_has_closed_before_it_is_told_is_gone() {
    let mut table = Table::new(100_000);
    table.begin(90);
    table.closes(&end(1), &end(80), Some(5), 150);
    table.closes(&end(2), &end(80), Some(5), 99);
    table.closes(&end(3), &end(80), Some(6), 150);
    table.closes(&end(4), &end(80), None, 150);
    table.closes(&end(5), &end(80), Some(5), 250);
    table.closes(&end(5), &end(80), Some(6), 100);
    for port in 1..=6 {
        table.add(&existing(5, port));
    }
    // The second one was opened after that, the third is another one.
    assert_eq!(left(&table), 3);
    assert_eq!(table.claim(&claimant(2, None, 300)), Claim::Is(None, false));
    assert_eq!(table.claim(&claimant(3, None, 300)), Claim::Is(None, false));
    assert_eq!(table.claim(&claimant(6, None, 300)), Claim::Is(None, false));
}

#[test]
fn what_closes_is_remembered_within_bounds() {
    let mut table = Table::new(100_000);
    table.begin(90);
    for port in 0..=CLOSED as u16 {
        table.closes(&end(port), &end(80), Some(5), 150);
    }
    assert_eq!(table.closed.len(), CLOSED);
    // Any that was seen before the last of them may be closed.
    table.add(&existing(5, 40_000));
    assert_eq!(left(&table), 0);
    let seen = Seen {
        start: 151,
        end: 160,
    };
    table.add(&Existing {
        seen,
        ..existing(5, 40_001)
    });
    assert_eq!(left(&table), 1);
    table.complete();
    table.closes(&end(1), &end(80), Some(5), 150);
    assert!(table.closed.is_empty());
}

#[test]
fn the_same_ends_in_two_namespaces() {
    let mut table = table(&[existing(5, 1), existing(6, 1)]);
    table.own(0, &owner(10));
    table.own(1, &owner(11));
    table.complete();
    let anywhere = Claimant {
        netns: None,
        ..claimant(1, None, 300)
    };
    assert_eq!(table.claim(&anywhere), Claim::None);
    let other = Claimant {
        netns: Some(7),
        ..anywhere
    };
    assert_eq!(table.claim(&other), Claim::None);
    let sixth = Claimant {
        netns: Some(6),
        ..anywhere
    };
    assert_eq!(table.claim(&sixth), Claim::Is(Some((owner(11), 90)), false));
    assert_eq!(
        table.claim(&anywhere),
        Claim::Is(Some((owner(10), 90)), false)
    );
}

#[test]
fn what_is_listed_twice_is_one() {
    let mut table = table(&[
        existing(5, 1),
        existing(6, 1),
        existing(5, 1),
        existing(5, 2),
    ]);
    let later = Existing {
        seen: Seen {
            start: 300,
            end: 400,
        },
        ..existing(5, 2)
    };
    assert_eq!(table.add(&later), Some(4));
    table.own(2, &owner(10));
    table.own(4, &owner(11));
    table.complete();
    assert_eq!(left(&table), 3);
    assert_eq!(
        table.claim(&claimant(1, None, 300)),
        Claim::Is(Some((owner(10), 90)), false)
    );
    assert_eq!(
        table.claim(&claimant(2, None, 400)),
        Claim::Is(Some((owner(11), 90)), false)
    );
    assert_eq!(left(&table), 1);
}

#[test]
fn memory_is_bounded() {
    let mut table = Table::new(2);
    table.begin(90);
    assert_eq!(table.add(&existing(5, 1)), Some(0));
    assert_eq!(table.add(&existing(5, 2)), Some(1));
    assert_eq!(table.add(&existing(5, 3)), None);
    assert_eq!(left(&table), 2);
    table.own(0, &owner(1));
    table.own(1, &owner(1));
    assert_eq!(table.owners.len(), 1);
    assert!(size_of::<Entry>() <= 80, "{}", size_of::<Entry>());
}
