//! Answers for the tests of other modules, and the reader's own.
use super::*;
use proptest::prelude::*;

/// A message with these contents.
fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut out = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend([0; 2]);
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
    out.extend(body);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// An IPv4 socket 10.0.0.1:80 - 10.0.0.2:4000 of user 1000.
fn body(state: u8, timer: u8, inode: u32) -> Vec<u8> {
    let mut out = vec![0; MESSAGE];
    out[0] = AF_INET as u8;
    out[1] = state;
    out[2] = timer;
    out[4..6].copy_from_slice(&80u16.to_be_bytes());
    out[6..8].copy_from_slice(&4000u16.to_be_bytes());
    out[8..12].copy_from_slice(&[10, 0, 0, 1]);
    out[24..28].copy_from_slice(&[10, 0, 0, 2]);
    out[40..44].copy_from_slice(&3u32.to_ne_bytes());
    out[64..68].copy_from_slice(&1000u32.to_ne_bytes());
    out[68..72].copy_from_slice(&inode.to_ne_bytes());
    out
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn all(bytes: &[u8], sequence: u32) -> (Vec<Socket>, Answer) {
    let mut found = Vec::new();
    let answer = read(bytes, sequence, &mut |socket| found.push(*socket));
    (found, answer)
}

#[test]
fn a_socket_with_everything() {
    let mut bytes = body(1, 0, 77);
    bytes.extend(attribute(8, &[0]));
    bytes.extend(attribute(CGROUP_ID, &5000u64.to_ne_bytes()));
    let mut datagram = message(SOCK_DIAG_BY_FAMILY, 9, &bytes);
    datagram.extend(message(NLMSG_DONE, 9, &[0; 4]));
    let (found, answer) = all(&datagram, 9);
    assert_eq!(answer, Answer::Done);
    let end = |text: &str, port| Endpoint {
        addr: text.parse().expect("an address"),
        port,
    };
    let expected = Socket {
        family: AF_INET,
        state: State::Established,
        local: end("10.0.0.1", 80),
        peer: end("10.0.0.2", 4000),
        wire: Wire::Ipv4,
        device: 3,
        uid: 1000,
        inode: 77,
        cgroup: Some(5000),
        counters: None,
    };
    assert_eq!(found, [expected]);
    // Somebody else's.
    assert_eq!(all(&datagram, 8), (vec![], Answer::More));
}

#[test]
fn ipv6_and_ipv4_within_it() {
    let mut bytes = body(10, 0, 1);
    bytes[0] = AF_INET6 as u8;
    bytes[8..40].fill(0);
    let (found, _) = all(&message(SOCK_DIAG_BY_FAMILY, 1, &bytes), 1);
    assert_eq!(found[0].local.addr.to_string(), "::");
    assert_eq!((found[0].wire, found[0].family), (Wire::Ipv6, AF_INET6));
    bytes[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    let (found, _) = all(&message(SOCK_DIAG_BY_FAMILY, 1, &bytes), 1);
    assert_eq!(found[0].local.addr.to_string(), "127.0.0.1");
    assert_eq!((found[0].wire, found[0].family), (Wire::Ipv4, AF_INET6));
}

#[test]
fn what_is_not_whole_is_left_out() {
    let one = |body: Vec<u8>| all(&message(SOCK_DIAG_BY_FAMILY, 1, &body), 1);
    let none = (vec![], Answer::More);
    // TIME_WAIT, by its name and as FIN_WAIT2; a request; no state asked for.
    assert_eq!(one(body(6, 0, 1)), none);
    assert_eq!(one(body(5, TIMER_TIME_WAIT, 0)), none);
    assert_eq!(one(body(3, 1, 0)), none);
    assert_eq!(one(body(7, 0, 1)), none);
    // Whole: an orphan, and a socket of TCP fast open.
    assert_eq!(one(body(5, 0, 0)).0.len(), 1);
    assert_eq!(one(body(3, 1, 5)).0.len(), 1);
}

/// A message about a destroyed socket, with so much of struct tcp_info.
fn last_word(info: usize) -> Vec<u8> {
    let mut bytes = body(7, 0, 0);
    bytes[44..52].copy_from_slice(&77u64.to_ne_bytes());
    bytes[56..60].copy_from_slice(&1u32.to_ne_bytes());
    bytes[60..64].copy_from_slice(&30u32.to_ne_bytes());
    let mut all = vec![0; 280];
    for (at, value) in [(120, 971u64), (128, 11), (200, 1500), (208, 500)] {
        all[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    for (at, value) in [
        (68, 21u32),
        (100, 9),
        (136, 6),
        (140, 4),
        (144, 10),
        (148, 8),
    ] {
        all[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    bytes.extend(attribute(10, &[6]));
    bytes.extend(attribute(INFO, &all[..info]));
    message(SOCK_DIAG_BY_FAMILY, 0, &bytes)
}

#[test]
fn a_destroyed_socket() {
    let mut expected = Destroyed {
        cookie: 77,
        counters: Counters {
            sent: Some(Sent {
                acked: 971,
                in_flight: 20,
                unsent: 10,
                handed: Some(1000),
            }),
            bytes_retransmitted: Some(500),
            retransmits: Some(9),
            bytes_received: Some(11),
            segments_sent: Some(6),
            segments_received: Some(4),
            rtt_us: Some(21),
            min_rtt_us: Some(8),
            ..Counters::default()
        },
        unread: 1,
    };
    assert_eq!(destroyed(&last_word(280)), Some(expected));
    // Older kernels tell less (before Linux 4.19).
    expected.counters.sent = expected.counters.sent.map(|sent| Sent {
        handed: None,
        ..sent
    });
    expected.counters.bytes_retransmitted = None;
    assert_eq!(destroyed(&last_word(200)), Some(expected));
    expected.counters = Counters::default();
    assert_eq!(destroyed(&last_word(0)), Some(expected));
    let whole = last_word(280);
    for cut in 0..whole.len() {
        assert_eq!(destroyed(&whole[..cut]), None, "{cut}");
    }
    assert_eq!(destroyed(&message(NLMSG_DONE, 0, &[0; 400])), None);
    assert_eq!(
        destroyed(&message(SOCK_DIAG_BY_FAMILY, 0, &body(7, 0, 0))),
        None
    );
}

#[test]
fn errors_are_told() {
    let errno = |kind, value: i32| all(&message(kind, 1, &value.to_ne_bytes()), 1).1;
    assert_eq!(errno(NLMSG_ERROR, -2), Answer::Failed(Errno::ENOENT));
    assert_eq!(errno(NLMSG_DONE, -12), Answer::Failed(Errno::ENOMEM));
    assert_eq!(errno(NLMSG_DONE, 0), Answer::Done);
    assert_eq!(errno(NLMSG_ERROR, 0), Answer::Malformed);
    assert_eq!(
        errno(NLMSG_ERROR, i32::MIN),
        Answer::Failed(Errno(i32::MAX))
    );
}

#[test]
fn what_makes_no_sense_is_malformed() {
    let whole = message(SOCK_DIAG_BY_FAMILY, 1, &body(1, 0, 1));
    for cut in 1..whole.len() {
        assert_eq!(all(&whole[..cut], 1), (vec![], Answer::Malformed), "{cut}");
    }
    let mut bad = body(1, 0, 1);
    bad[0] = 1;
    let unix = message(SOCK_DIAG_BY_FAMILY, 1, &bad);
    assert_eq!(all(&unix, 1).1, Answer::Malformed);
    let stateless = message(SOCK_DIAG_BY_FAMILY, 1, &body(0, 0, 1));
    assert_eq!(all(&stateless, 1).1, Answer::Malformed);
    // A length that leads nowhere.
    assert_eq!(all(&[0; 16], 0).1, Answer::Malformed);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        all(&bytes, 0);
        destroyed(&bytes);
    }

    #[test]
    fn any_damage_is_survived(at in 0usize..200, value in any::<u8>(), cut in 0usize..200) {
        let mut bytes = body(1, 0, 77);
        bytes.extend(attribute(CGROUP_ID, &5000u64.to_ne_bytes()));
        let mut datagram = message(SOCK_DIAG_BY_FAMILY, 1, &bytes);
        datagram.extend(message(NLMSG_DONE, 1, &[0; 4]));
        let len = datagram.len();
        datagram[at % len] = value;
        let (found, _) = all(&datagram[..len - cut % len], 1);
        prop_assert!(found.len() <= 1);
    }

    #[test]
    fn what_is_written_is_read(
        v6 in any::<bool>(), state in 1u8..=12, local in any::<[u8; 16]>(),
        peer in any::<[u8; 16]>(), ports in any::<(u16, u16)>(), uid in any::<u32>(),
        inode in 1u32.., group in 1u64..
    ) {
        let mut bytes = body(state, 0, inode);
        bytes[0] = if v6 { AF_INET6 } else { AF_INET } as u8;
        bytes[4..6].copy_from_slice(&ports.0.to_be_bytes());
        bytes[6..8].copy_from_slice(&ports.1.to_be_bytes());
        bytes[8..24].copy_from_slice(&local);
        bytes[24..40].copy_from_slice(&peer);
        bytes[64..68].copy_from_slice(&uid.to_ne_bytes());
        bytes.extend(attribute(CGROUP_ID, &group.to_ne_bytes()));
        let (found, answer) = all(&message(SOCK_DIAG_BY_FAMILY, 3, &bytes), 3);
        prop_assert_eq!(answer, Answer::More);
        let kept = STATES.iter().any(|s| *s as u8 == state);
        prop_assert_eq!(found.len(), usize::from(kept));
        for socket in found {
            prop_assert_eq!((socket.local.port, socket.peer.port), ports);
            prop_assert_eq!((socket.uid, socket.inode), (uid, inode));
            prop_assert_eq!(socket.cgroup, Some(group));
            let expected = if v6 {
                IpAddr::from(local).to_canonical()
            } else {
                IpAddr::from([local[0], local[1], local[2], local[3]])
            };
            prop_assert_eq!(socket.local.addr, expected);
        }
    }
}
