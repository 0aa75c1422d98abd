//! The words of a filter: tcpdump's, ss's, and our own.
//!
//! Contract: each word stands here once; what reads them and what suggests them
//! look here.

use super::tree::{Kinds, Measure, Side};
use crate::model::cause::Cause;
use crate::model::tcp::{State, Wire};

/// One end or the other, or both at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Of(Side),
    Both,
}

/// What is given of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Host,
    Net,
    Port,
    /// An address, a network, or either with a port, as ss has it.
    Any,
}

/// What values are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    End(Ends, Form, Option<Wire>),
    State(bool),
    Pid,
    Tree,
    Comm,
    Uid,
    Cgroup,
    Container,
    Netns,
    Owner,
    Event,
    From,
    To,
    Cause,
    Measure(Measure),
}

/// What a condition begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// One end: `src`, `local`, `dst`, `peer`.
    End(Side),
    Host,
    Net,
    Port,
    /// `sport`, `dport`
    PortOf(Side),
    /// `ip`, `ip6`; `tcp` is every family.
    Family(Option<Wire>),
    /// What values follow on, as they are.
    Of(Head),
    Opened(bool),
    Loopback,
    Failures,
}

/// The words that begin a condition.
pub(super) const STARTS: &[(&str, Start)] = &[
    ("port", Start::Port),
    ("host", Start::Host),
    ("net", Start::Net),
    ("portrange", Start::Port),
    ("src", Start::End(Side::Local)),
    ("dst", Start::End(Side::Peer)),
    ("local", Start::End(Side::Local)),
    ("peer", Start::End(Side::Peer)),
    ("sport", Start::PortOf(Side::Local)),
    ("dport", Start::PortOf(Side::Peer)),
    ("ip", Start::Family(Some(Wire::Ipv4))),
    ("ip6", Start::Family(Some(Wire::Ipv6))),
    ("inet", Start::Family(Some(Wire::Ipv4))),
    ("inet6", Start::Family(Some(Wire::Ipv6))),
    ("tcp", Start::Family(None)),
    ("state", Start::Of(Head::State(true))),
    ("exclude", Start::Of(Head::State(false))),
    ("pid", Start::Of(Head::Pid)),
    ("tree", Start::Of(Head::Tree)),
    ("comm", Start::Of(Head::Comm)),
    ("uid", Start::Of(Head::Uid)),
    ("cgroup", Start::Of(Head::Cgroup)),
    ("container", Start::Of(Head::Container)),
    ("netns", Start::Of(Head::Netns)),
    ("owner", Start::Of(Head::Owner)),
    ("event", Start::Of(Head::Event)),
    ("from", Start::Of(Head::From)),
    ("to", Start::Of(Head::To)),
    ("incoming", Start::Opened(false)),
    ("inbound", Start::Opened(false)),
    ("outgoing", Start::Opened(true)),
    ("outbound", Start::Opened(true)),
    ("loopback", Start::Loopback),
    ("cause", Start::Of(Head::Cause)),
    ("failures", Start::Failures),
    ("duration", Start::Of(Head::Measure(Measure::Duration))),
    ("rtt", Start::Of(Head::Measure(Measure::Rtt))),
    ("bytes", Start::Of(Head::Measure(Measure::Bytes))),
    (
        "retransmits",
        Start::Of(Head::Measure(Measure::Retransmits)),
    ),
];

/// What begins with a word, in whatever case.
pub(super) fn start(word: &str) -> Option<Start> {
    let mut all = STARTS.iter();
    let found = all.find(|(name, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, start)| *start)
}

/// The words that begin a condition.
pub(super) fn starts() -> impl Iterator<Item = &'static str> {
    STARTS.iter().map(|(name, _)| *name)
}

/// The words that may follow that of an end.
pub(super) const FORMS: [&str; 6] = ["host", "net", "port", "portrange", "and", "or"];

/// tcpdump's words that ask for what only packets have.
const PACKETS: &str = "less greater len ether vlan mpls pppoed pppoes geneve vxlan gateway \
    broadcast multicast proto protochain ifname wlan type subtype llc decnet iso clnp esis isis \
    atm lane vpi vci fddi tr slip ppp link byte";

/// Its words for what is not TCP.
const OTHERS: &str = "udp icmp icmp6 arp rarp sctp igmp igrp ah esp pim vrrp carp stp dccp mptcp";

/// Others' words for what has another name here: each with ours.
const FOREIGN: &str = "tcp.port port tcp.srcport sport tcp.dstport dport ip.addr host \
    ipv6.addr host ip.src src ip.dst dst ipv6.src src ipv6.dst dst saddr src daddr dst laddr src \
    raddr dst remote dst source src destination dst lport sport rport dport srcport sport \
    dstport dport skuid uid user uid process comm proc comm program comm command comm exe comm \
    ppid tree ct state direction incoming lo loopback";

/// The word that another program's word stands for.
pub(super) fn foreign(word: &str) -> Option<&'static str> {
    let mut words = FOREIGN.split_ascii_whitespace();
    while let (Some(theirs), Some(ours)) = (words.next(), words.next()) {
        if theirs.eq_ignore_ascii_case(word) {
            return Some(ours);
        }
    }
    None
}

fn is_in(words: &str, word: &str) -> bool {
    words.split_ascii_whitespace().any(|known| known == word)
}

/// Why a word that others know can't be asked for here, if it is one.
pub(super) fn refused(word: &str) -> Option<&'static str> {
    let word = &word.to_ascii_lowercase()[..];
    if word == "mask" {
        return Some("is written as a length here: net 10.0.0.0/8");
    }
    let base = word.split(['[', '.']).next().unwrap_or(word);
    if is_in(PACKETS, word) || word.contains('[') && !word.starts_with('[') && base != "port" {
        return Some("needs packets, and no packets are seen here: only what becomes of sockets");
    }
    is_in(OTHERS, base).then_some("is not TCP, and only TCP sockets are seen here")
}

/// The kinds of events.
pub(super) const KINDS: &[(&str, Kinds)] = &[
    ("state", Kinds::STATE),
    ("retransmit", Kinds::RETRANSMIT),
    ("connection", Kinds::CONNECTION),
];

/// The kind of events of this name, by its bit.
pub(super) fn kind(word: &str) -> Option<u16> {
    let mut all = KINDS.iter();
    let found = all.find(|(name, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, kind)| kind.bits().into())
}

/// The names of the kinds.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

/// The cause of this name, `-` and `_` alike, by the bit of its number.
pub(super) fn cause(word: &str) -> Option<u16> {
    let word = word.replace('-', "_");
    let mut all = Cause::ALL.iter();
    let found = all.find(|cause| cause.name().eq_ignore_ascii_case(&word));
    found.map(|cause| 1 << *cause as u8)
}

/// The names of the causes.
pub(super) fn causes() -> impl Iterator<Item = &'static str> {
    Cause::ALL.iter().map(|cause| cause.name())
}

/// Those that are no orderly end. One that can't be told is not known to be such, and
/// what never was a connection has not failed.
pub(super) fn failures() -> u16 {
    use Cause::*;
    let orderly = [ClosedByUs, ClosedByPeer, ClosedByBoth, Duplicate, Unknown];
    let failures = Cause::ALL.iter().filter(|cause| !orderly.contains(cause));
    failures.map(|cause| 1 << *cause as u8).sum()
}

/// The states; ss's words for one are with it.
pub(super) const STATES: &[(&str, State)] = &[
    ("established", State::Established),
    ("syn-sent", State::SynSent),
    ("syn-recv", State::SynRecv),
    ("fin-wait-1", State::FinWait1),
    ("fin-wait-2", State::FinWait2),
    ("time-wait", State::TimeWait),
    ("close", State::Close),
    ("closed", State::Close),
    ("unconnected", State::Close),
    ("close-wait", State::CloseWait),
    ("last-ack", State::LastAck),
    ("listen", State::Listen),
    ("listening", State::Listen),
    ("closing", State::Closing),
    ("new-syn-recv", State::NewSynRecv),
    ("bound-inactive", State::BoundInactive),
];

const fn bits(states: &[State]) -> u16 {
    let (mut bits, mut at) = (0, 0);
    while at < states.len() {
        bits |= 1 << states[at] as u8;
        at += 1;
    }
    bits
}

/// All of them.
const EVERY: u16 = 0x3ffe;
/// All but the listening and closed ones.
const CONNECTED: u16 = EVERY & !bits(&[State::Listen, State::Close, State::BoundInactive]);
/// Those that are a small structure of their own (ss: "bucket").
const BUCKET: u16 = bits(&[State::SynRecv, State::NewSynRecv, State::TimeWait]);

/// ss's words for several states.
pub(super) const STATE_SETS: &[(&str, u16)] = &[
    ("all", EVERY),
    ("connected", CONNECTED),
    ("synchronized", CONNECTED & !bits(&[State::SynSent])),
    ("bucket", BUCKET),
    ("big", EVERY & !BUCKET),
];

/// The word for a state.
pub(super) fn name_of_state(state: State) -> Option<&'static str> {
    let found = STATES.iter().find(|(_, known)| *known == state);
    found.map(|(name, _)| *name)
}

/// The names of states, and of several.
pub(super) fn states() -> impl Iterator<Item = &'static str> {
    let several = STATE_SETS.iter().map(|(name, _)| *name);
    STATES.iter().map(|(name, _)| *name).chain(several)
}

/// The state of this name, however it is written: FIN_WAIT1, fin-wait-1.
pub(super) fn state(word: &str) -> Option<u16> {
    let same = |name: &str| {
        let plain = |text: &str| -> String {
            let kept = text.chars().filter(|c| !matches!(c, '-' | '_'));
            kept.map(|c| c.to_ascii_lowercase()).collect()
        };
        plain(name) == plain(word)
    };
    let one = STATES.iter().find(|(name, _)| same(name));
    let several = STATE_SETS.iter().find(|(name, _)| same(name));
    one.map(|(_, state)| 1 << *state as u8)
        .or(several.map(|(_, states)| *states))
}

/// Services that run over TCP and their ports. There is no /etc/services on every
/// host; what isn't here has a number.
const SERVICES: &str = "\
ftp 21 ssh 22 telnet 23 smtp 25 domain 53 dns 53 http 80 www 80 kerberos 88 pop3 110 sunrpc 111 \
rpcbind 111 ident 113 auth 113 nntp 119 imap 143 imap2 143 bgp 179 ldap 389 https 443 \
microsoft-ds 445 smb 445 submissions 465 smtps 465 syslog-tls 6514 submission 587 ipp 631 ldaps 636 \
domain-s 853 rsync 873 ftps 990 imaps 993 pop3s 995 socks 1080 openvpn 1194 ms-sql-s 1433 \
mqtt 1883 nfs 2049 zookeeper 2181 etcd 2379 iscsi-target 3260 mysql 3306 ms-wbt-server 3389 \
rdp 3389 svn 3690 epmd 4369 sip 5060 sips 5061 xmpp-client 5222 postgresql 5432 postgres 5432 \
amqps 5671 amqp 5672 vnc 5900 x11 6000 redis 6379 kubernetes 6443 ircd 6667 ircs-u 6697 \
http-alt 8080 https-alt 8443 mqtts 8883 cassandra 9042 kafka 9092 elasticsearch 9200 git 9418 \
memcached 11211 mongodb 27017";

/// The names and ports of services.
fn services() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut words = SERVICES.split(' ');
    std::iter::from_fn(move || Some((words.next()?, words.next()?)))
}

/// The port of a service.
pub(super) fn service(name: &str) -> Option<u16> {
    let mut all = services();
    all.find(|(known, _)| known.eq_ignore_ascii_case(name))?
        .1
        .parse()
        .ok()
}

/// The word of these that a word was probably meant to be.
pub(super) fn nearest<'a>(word: &str, words: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = match word.len() {
        0..=2 => 0,
        3 | 4 => 1,
        _ => 2,
    };
    let mut best = None;
    for known in words {
        // Its beginning is as good as the worst.
        let begins = known
            .get(..word.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(word));
        if word.len() > 2 && begins && best.is_none() {
            best = Some((usize::MAX, known));
        }
        let distance = distance(word.as_bytes(), known.as_bytes());
        if distance <= most && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, known));
        }
    }
    best.map(|(_, known)| known)
}

/// The name of a service that a word was probably meant to be.
pub(super) fn nearest_service(word: &str) -> Option<&'static str> {
    nearest(word, &mut services().map(|(name, _)| name))
}

/// The changes between two words: letters that are put in, left out, exchanged for
/// another or with their neighbour.
fn distance(a: &[u8], b: &[u8]) -> usize {
    const MOST: usize = 20;
    if a.len() > MOST || b.len() > MOST {
        return usize::MAX;
    }
    let mut rows = [[0; MOST + 1]; 3];
    for (at, cell) in rows[0].iter_mut().enumerate() {
        *cell = at;
    }
    for (i, x) in a.iter().enumerate() {
        let mut next = [i + 1; MOST + 1];
        for (j, y) in b.iter().enumerate() {
            let same = x.eq_ignore_ascii_case(y);
            let mut least = (rows[0][j] + usize::from(!same)).min(rows[0][j + 1] + 1);
            least = least.min(next[j] + 1);
            let swapped = i > 0 && j > 0 && a[i - 1].eq_ignore_ascii_case(y);
            if swapped && x.eq_ignore_ascii_case(&b[j - 1]) {
                least = least.min(rows[1][j - 1] + 1);
            }
            next[j + 1] = least;
        }
        rows = [next, rows[0], rows[1]];
    }
    rows[0][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_in_all_spellings() {
        for (word, state) in [
            ("established", State::Established),
            ("FIN_WAIT1", State::FinWait1),
            ("fin-wait-2", State::FinWait2),
            ("Syn_Sent", State::SynSent),
            ("listening", State::Listen),
        ] {
            assert_eq!(super::state(word), Some(1 << state as u8), "{word}");
        }
        for number in 1..=13 {
            let state = State::from_number(number).expect("a state");
            assert_eq!(super::state(state.name()), Some(1 << number));
            assert_ne!(EVERY >> number & 1, 0);
        }
        assert_eq!(super::state("connected").map(|s| s >> 10 & 1), Some(0));
        assert_eq!(super::state("listens"), None);
    }

    #[test]
    fn services_have_ports() {
        assert!(services().all(|(name, port)| {
            !name.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        }));
        assert_eq!(service("ssh"), Some(22));
        assert_eq!(service("mongodb"), Some(27017));
        assert_eq!(service("nonsense"), None);
    }

    #[test]
    fn near_misses() {
        let near = |word| nearest(word, &mut starts());
        for (word, meant) in [
            ("prot", Some("port")),
            ("hots", Some("host")),
            ("potr", Some("port")),
            ("conm", Some("comm")),
            ("retransmit", Some("retransmits")),
            ("retrans", Some("retransmits")),
            ("outgoin", Some("outgoing")),
            ("xyzzy", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(near(word), meant, "{word}");
        }
        assert_eq!(nearest_service("htpp"), Some("http"));
        assert_eq!(distance(&[b'a'; 30], b"a"), usize::MAX);
    }

    #[test]
    fn words_that_need_packets() {
        for word in [
            "less",
            "ether",
            "tcp[13]",
            "tcp[tcpflags]",
            "ip6[6]",
            "vlan",
        ] {
            assert!(
                refused(word).is_some_and(|why| why.contains("packets")),
                "{word}"
            );
        }
        assert!(refused("udp").is_some_and(|why| why.contains("TCP")));
        for word in ["port", "tcp", "[2001:db8::1]:22", "nginx"] {
            assert_eq!(refused(word), None, "{word}");
        }
    }
}
