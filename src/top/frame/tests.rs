use super::*;
use crate::lifecycle::connection::Direction;
use crate::model::tcp::{Endpoint, State};
use crate::top::columns::{self, CELLS, width};
use crate::top::groups::Group;
use crate::top::model::tests::Host;
use crate::top::rows::{Heat, NOWHERE, Subject};
use proptest::prelude::*;
use std::net::IpAddr;

const SECOND: u64 = 1_000_000_000;

fn size(lines: usize, columns: usize) -> Size {
    Size {
        lines,
        columns,
        block: false,
    }
}

fn sight(rows: [Vec<Row>; 4], total: Group) -> Sight {
    Sight {
        rows,
        total,
        lost: 0,
        elapsed: SECOND,
        wall: 1_735_596_325 * SECOND,
        up: 723 * SECOND,
    }
}

/// A host with some processes: one open connection each, and one that was refused.
fn usual(count: u32) -> Sight {
    let mut host = Host::new();
    host.tick(SECOND);
    for n in 1..=count {
        let name = format!("client-{n}");
        let socket = u64::from(n);
        host.client(
            SECOND,
            socket,
            (n, name.as_bytes()),
            &[State::SynSent, State::Established],
        );
    }
    host.client(
        SECOND,
        1 << 32,
        (1, b"client-1"),
        &[State::SynSent, State::Close],
    );
    let rows = host.tick(2 * SECOND);
    sight(rows, host.model.total.clone())
}

fn texts(face: &mut Face, sight: &mut Sight, size: &Size) -> Vec<String> {
    let lines = face.lines(sight, size).into_iter();
    let lines = lines.map(|line| String::from_utf8(line.text).expect("ASCII"));
    lines.map(|line| line.trim_end().to_string()).collect()
}

#[test]
fn a_usual_terminal() {
    let (mut face, mut sight) = (Face::new(2000, None), usual(3));
    let lines = texts(&mut face, &mut sight, &size(24, 80));
    assert_eq!(lines.len(), 24);
    assert!(lines[0].starts_with("socket-snoop  "), "{}", lines[0]);
    assert!(lines[0].ends_with("  up 12m03  every 2.0s"), "{}", lines[0]);
    assert_eq!(
        lines[1],
        "3 open: 3 established, 0 opening, 0 closing; 4.0 new/s, 1.0 failed/s"
    );
    assert_eq!(
        lines[2],
        "1 failed: 1 refused, 0 reset, 0 timed out, 0 other; 0 resent; 0 events lost"
    );
    assert_eq!(
        lines[3],
        "     PID PROCESS      >ESTAB  SYN CLOS NEW/S FAIL/S RESENT   RTT  CONN SENT RECV"
    );
    assert_eq!(
        lines[4],
        "       1 client-1          1    0    0   2.0    1.0      0  71us 1.0ms    0 2.0k"
    );
    assert_eq!(lines[7], "");
    assert_eq!(
        lines[23],
        "[1 processes] 2 peers  3 listeners  4 connections  s sort p pause h help q quit"
    );
}

#[test]
fn what_is_narrow_has_less_and_the_sorted_column_stays() {
    let (mut face, mut sight) = (Face::new(1000, None), usual(3));
    let head = |face: &mut Face, sight: &mut Sight, columns| {
        texts(face, sight, &size(24, columns))[3].clone()
    };
    assert_eq!(
        head(&mut face, &mut sight, 40),
        "     PID PROCESS        >ESTAB  SYN CLOS"
    );
    // RECV.
    (0..9).for_each(|_| face.sort_by(true));
    let narrow = head(&mut face, &mut sight, 40);
    assert_eq!(narrow, "     PID PROCESS         ESTAB  SYN>RECV");
    // Round, to the left, and the other way.
    (0..10).for_each(|_| face.sort_by(false));
    assert!(head(&mut face, &mut sight, 40).contains("<PROCESS"));
    let wide = head(&mut face, &mut sight, 120);
    assert!(wide.ends_with("RECV REFUSED RESET TIMEOUT"), "{wide}");
}

#[test]
fn more_rows_than_lines_are_scrolled() {
    let (mut face, mut sight) = (Face::new(1000, None), usual(100));
    face.sorts[0] = (columns::PID as u8, true);
    let at = |face: &mut Face, sight: &mut Sight, first| {
        face.first = first;
        texts(face, sight, &size(24, 80))
    };
    let lines = at(&mut face, &mut sight, 0);
    assert!(lines[0].ends_with("  rows 1-19 of 100"), "{}", lines[0]);
    assert!(lines[4].starts_with("       1 client-1 "));
    assert!(
        lines[22].starts_with("      19 client-19 "),
        "{}",
        lines[22]
    );
    let lines = at(&mut face, &mut sight, 1 << 40);
    assert!(lines[0].ends_with("  rows 82-100 of 100"), "{}", lines[0]);
    assert!(lines[22].starts_with("     100 client-100 "));
    face.paused = true;
    let lines = at(&mut face, &mut sight, 1);
    assert!(
        lines[0].ends_with("  PAUSED  rows 2-20 of 100"),
        "{}",
        lines[0]
    );
    // Without a terminal there is all of it, and no foot.
    let block = Size {
        lines: usize::MAX,
        columns: 160,
        block: true,
    };
    let lines = texts(&mut face, &mut sight, &block);
    assert_eq!(lines.len(), 3 + 1 + 100);
    assert!(
        lines[0].starts_with("socket-snoop  Dec 30 2024 "),
        "{}",
        lines[0]
    );
}

#[test]
fn what_a_person_is_told_and_asks_for_is_seen() {
    let (mut face, mut sight) = (Face::new(1000, Some("x\u{1b}[3m\u{e9}")), usual(1));
    face.said = Some("socket-snoop: warning: \u{9b}2J".into());
    face.help = true;
    let lines = texts(&mut face, &mut sight, &size(24, 80));
    assert!(
        lines[0].ends_with(r"  filter: x\u{1b}[3m\u{e9}"),
        "{}",
        lines[0]
    );
    assert_eq!(lines[23], r"socket-snoop: warning: \u{9b}2J");
    assert_eq!(lines[3], "Keys");
    assert!(HELP.lines().all(|line| lines.contains(&line.to_string())));
}

#[test]
fn all_columns_have_room_for_their_titles() {
    for (view, columns) in VIEWS.iter().enumerate() {
        let fits = |column: &u8| title(*column).len() <= width(*column);
        let wide: Vec<_> = columns.iter().filter(|column| !fits(column)).collect();
        assert_eq!(wide, [&text(view)]);
        let (column, up) = SORTS[view];
        assert!(columns.contains(&column) && unit(column).is_some(), "{up}");
        assert!(!NAMES.split(' ').nth(view).expect("a name").is_empty());
    }
    assert_eq!(title(columns::STATE), "STATE");
    assert_eq!(title(columns::NAME), "PROCESS");
    assert_eq!(title(columns::RECEIVED as u8), "RECV");
}

fn end() -> impl Strategy<Value = Endpoint> {
    let addr = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ];
    (addr, any::<u16>()).prop_map(|(addr, port)| Endpoint { addr, port })
}

fn row() -> impl Strategy<Value = Row> {
    let ways = [Direction::Outgoing, Direction::Incoming, Direction::Unknown];
    let subject = (
        any::<u32>(),
        any::<[u8; 16]>(),
        end(),
        end(),
        0..3usize,
        any::<bool>(),
    );
    let subject = subject.prop_map(move |(pid, name, local, peer, way, others)| Subject {
        pid,
        name,
        local,
        peer: if others { NOWHERE } else { peer },
        way: ways[way],
        state: "reset_by_peer",
        others,
    });
    let cells = prop::array::uniform15(any::<u64>());
    let cells =
        (cells, 0u32..64).prop_map(|(cells, down): ([u64; CELLS], _)| cells.map(|n| n >> down));
    (subject, cells, any::<u64>()).prop_map(|(subject, cells, id)| Row {
        subject,
        cells,
        heat: Heat::None,
        id,
        weight: id,
    })
}

proptest! {
    /// Whatever names, addresses and figures there are: no line is too wide, and none
    /// holds what a terminal would obey.
    #[test]
    fn frames_fit(
        rows in prop::collection::vec(row(), 0..30),
        (lines, columns) in (0usize..40, 0usize..200),
        (view, sort, up) in (0usize..4, 0usize..15, any::<bool>()),
        (first, help, paused, block) in (any::<u16>(), any::<bool>(), any::<bool>(), any::<bool>()),
        (said, filter) in (prop::option::of(".{0,90}"), prop::option::of(".{0,90}")),
    ) {
        let mut face = Face::new(1000, filter.as_deref());
        face.view = view;
        face.sorts[view] = (VIEWS[view][sort % VIEWS[view].len()], up);
        (face.first, face.help, face.paused, face.said) = (first.into(), help, paused, said);
        let all = [rows.clone(), rows.clone(), rows.clone(), rows];
        let mut sight = sight(all, Group::new(Subject::OTHERS, 0));
        let size = Size { lines, columns, block };
        let frame = face.lines(&mut sight, &size);
        let fits = if block { frame.len() <= lines.max(4) } else { frame.len() == lines };
        prop_assert!(fits, "{}", frame.len());
        for line in frame {
            prop_assert!(line.text.len() <= columns);
            let printable = line.text.iter().all(|b| (b' '..=b'~').contains(b));
            prop_assert!(printable, "{}", line.text.escape_ascii());
        }
    }
}
