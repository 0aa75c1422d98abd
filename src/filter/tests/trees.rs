//! Any tree is printed and read as itself; any text is read or refused.

use super::*;
use std::net::IpAddr;

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Local), Just(Side::Peer), Just(Side::Either)]
}

fn ranges(most: u32) -> impl Strategy<Value = Ranges> {
    let range = (0..=most, 0..=most).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let one = (0..=most).prop_map(|n| (n, n));
    prop::collection::vec(prop_oneof![range, one], 1..4).prop_map(Ranges::of)
}

fn nets() -> impl Strategy<Value = Nets> {
    let net = (any::<IpAddr>(), 0..=128u8);
    prop::collection::vec(net, 1..4).prop_map(Nets::of)
}

fn pattern() -> impl Strategy<Value = Pattern> {
    (prop::collection::vec(1..=255u8, 1..16), any::<bool>()).prop_map(|(bytes, open)| {
        let mut name = [0; COMM_LEN];
        name[..bytes.len()].copy_from_slice(&bytes);
        Pattern { name, open }
    })
}

fn sorted<T: Ord + Clone + std::fmt::Debug + 'static>(
    one: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<T>> {
    prop::collection::btree_set(one, 1..4).prop_map(|set| set.into_iter().collect())
}

fn states() -> impl Strategy<Value = States> {
    (1..1u16 << 13).prop_map(|bits| States(bits << 1))
}

fn measure() -> impl Strategy<Value = Term> {
    let what = prop_oneof![
        Just(Measure::Duration),
        Just(Measure::Rtt),
        Just(Measure::Bytes),
        Just(Measure::Retransmits)
    ];
    // What a sign and a number can say.
    let range = prop_oneof![
        any::<u64>().prop_map(|n| (n, n)),
        any::<u64>().prop_map(|n| (0, n)),
        any::<u64>().prop_map(|n| (n, u64::MAX))
    ];
    (what, range).prop_map(|(what, (first, last))| Term::Measure(what, first, last))
}

pub(in super::super) fn term() -> impl Strategy<Value = Term> {
    prop_oneof![
        (side(), nets()).prop_map(|(side, nets)| Term::Net(side, nets)),
        (side(), ranges(65535)).prop_map(|(side, ports)| Term::Port(side, ports)),
        prop_oneof![Just(Wire::Ipv4), Just(Wire::Ipv6)].prop_map(Term::Family),
        ranges(u32::MAX).prop_map(Term::Netns),
        any::<bool>().prop_map(Term::Opened),
        ranges(4_000_000).prop_map(Term::Pid),
        sorted(1..4_000_000u32).prop_map(Term::Tree),
        sorted(pattern()).prop_map(Term::Comm),
        ranges(u32::MAX).prop_map(Term::Uid),
        sorted(any::<u64>()).prop_map(Term::Cgroup),
        sorted("[0-9a-f]{12,64}").prop_map(Term::Container),
        Just(Term::NoOwner),
        (1..8u8).prop_map(|bits| Term::Event(Kinds::from_bits_truncate(bits))),
        states().prop_map(Term::State),
        states().prop_map(Term::From),
        states().prop_map(Term::To),
        (1..1u16 << 12).prop_map(Term::Cause),
        measure(),
    ]
}

pub(in super::super) fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        1 => Just(Expr::All),
        1 => Just(Expr::None),
        20 => (any::<bool>(), term()).prop_map(|(positive, term)| Expr::Term(positive, term)),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let parts = || prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            parts().prop_map(Expr::and),
            parts().prop_map(Expr::or),
            inner.clone().prop_map(|expr| !expr),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(tree in expr()) {
        let text = tree.text();
        match parse(&text, &Host) {
            Ok(again) => prop_assert_eq!(again, tree, "{}", text),
            Err(mistake) => prop_assert!(false, "{}", mistake.show(&text, None)),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        if let Err(mistake) = parse(&text, &Host) {
            prop_assert!(mistake.show(&text, None).contains('^'));
        }
    }

    #[test]
    fn any_words_are_read_or_refused(
        words in prop::collection::vec(prop::sample::select(WORDS), 0..12)
    ) {
        let text = words.join(" ");
        match parse(&text, &Host) {
            Ok(tree) => prop_assert_eq!(parse(&tree.text(), &Host), Ok(tree), "{}", text),
            Err(mistake) => {
                let shown = mistake.show(&text, None);
                prop_assert!(shown.contains('^') && !shown.contains("''"), "{}", shown);
            }
        }
    }
}

const WORDS: &[&str] = &[
    "port",
    "src",
    "dst",
    "host",
    "net",
    "80",
    "443",
    "10.0.0.0/8",
    "::1",
    "[::1]:22",
    ":22",
    "and",
    "or",
    "not",
    "(",
    ")",
    "{",
    "}",
    ",",
    "=",
    "!=",
    ">",
    "<=",
    "!",
    "tcp",
    "ip6",
    "state",
    "established",
    "exclude",
    "pid",
    "comm",
    "curl*",
    "'a b'",
    "uid",
    "www-data",
    "rtt",
    "50ms",
    "bytes",
    "1M",
    "cause",
    "refused",
    "failures",
    "to",
    "from",
    "event",
    "retransmit",
    "owner",
    "none",
    "cgroup",
    "/system.slice",
    "incoming",
    "loopback",
    "netns",
    "sport",
    "dport",
    "*",
    "#",
];
