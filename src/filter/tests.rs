use super::parse::parse;
use super::tree::*;
use super::value::Names;
use crate::model::event::COMM_LEN;
use crate::model::tcp::{State, Wire};
use proptest::prelude::*;

mod judge;
mod mistakes;
mod trees;
mod words;

/// A host that knows one name of each kind.
pub(super) struct Host;

impl Names for Host {
    fn user(&self, name: &str) -> Result<u32, String> {
        match name {
            "www-data" => Ok(33),
            _ => Err("no such user in /etc/passwd".into()),
        }
    }
    fn cgroup(&self, path: &str) -> Result<u64, String> {
        match path {
            "/system.slice" => Ok(77),
            _ => Err("no such cgroup".into()),
        }
    }
    fn netns(&self, path: &str) -> Result<u32, String> {
        match path {
            "/run/netns/blue" => Ok(4026532177),
            _ => Err("no such file".into()),
        }
    }
}

#[track_caller]
pub(super) fn read(text: &str) -> Expr {
    match parse(text, &Host) {
        Ok(expr) => expr,
        Err(mistake) => panic!("{}", mistake.show(text, None)),
    }
}

#[track_caller]
fn wrong(text: &str) -> String {
    match parse(text, &Host) {
        Ok(expr) => panic!("{text} is {}", expr.text()),
        Err(mistake) => mistake.show(text, None),
    }
}

#[track_caller]
fn same(texts: &[&str]) {
    for text in texts {
        assert_eq!(read(text).text(), read(texts[0]).text(), "{text}");
    }
}

#[test]
fn words_of_tcpdump() {
    same(&[
        "port 443",
        "port https",
        "tcp port 443",
        "portrange 443",
        "port {443}",
    ]);
    same(&[
        "dst port 443",
        "dport = :443",
        "dport 443",
        "peer port 443",
        "dport eq :https",
    ]);
    same(&[
        "src port 22",
        "sport = :22",
        "local port 22",
        "sport=22",
        "src :22",
        "src = :22",
    ]);
    same(&[
        "host 10.0.0.5",
        "host=10.0.0.5",
        "net 10.0.0.5/32",
        "host ::ffff:10.0.0.5",
    ]);
    same(&[
        "net 10.0.0.0/8",
        "net 10",
        "net 10.1.2.3/8",
        "net 10/8",
        "src or dst net 10/8",
    ]);
    same(&[
        "dst net 10.0.0.0/8",
        "dst 10.0.0.0/8",
        "peer 10.0.0.0/8",
        "dst = 10/8",
    ]);
    same(&[
        "port 80 or 443",
        "port 80 or port 443",
        "port ( 80 or 443 )",
        "port 80||443",
    ]);
    same(&["not port 80 and 443", "not port 80 and port 443"]);
    same(&[
        "not host 10.0.0.1",
        "! host 10.0.0.1",
        "host != 10.0.0.1",
        "not not not host 10.0.0.1",
    ]);
    same(&[
        "host 10.0.0.1 and ( 10.0.0.2 or 10.0.0.3 )",
        "host 10.0.0.1 ( host 10.0.0.2 or 10.0.0.3 )",
    ]);
    same(&["src and dst port 5", "src port 5 and dst port 5"]);
    same(
        &[
            "ip host 10.0.0.1 or 10.0.0.2",
            "ip and host 10.0.0.1 or ( ip and host 10.0.0.2 )",
        ][..1],
    );
    same(&["port 8000-8100", "portrange 8000-8100"]);
    same(&["tcp port 80 or tcp port 443", "port 80 or port 443"]);
    same(&["ip6", "inet6"]);
    same(&["inbound", "incoming"]);
    assert_eq!(read("tcp"), Expr::All);
    assert_eq!(read(" # nothing\n"), Expr::All);
}

#[test]
fn words_of_ss() {
    same(&[
        "dport >= 1024",
        "dport>=1024",
        "dport ge 1024",
        "dport > 1023",
        "dst port 1024-65535",
    ]);
    same(&["dst 10.0.0.0/8:443", "dst net 10.0.0.0/8 and dst port 443"]);
    same(&[
        "src [2001:db8::1]:22",
        "src host 2001:db8::1 and sport = 22",
        "local [2001:db8::1]:ssh",
    ]);
    same(&[
        "dst 2001:db8::1",
        "dst [2001:db8::1]",
        "dst host 2001:db8::1",
        "dst 2001:db8::1/128",
    ]);
    same(&["dst *:443", "dst :443", "dport 443"]);
    same(&[
        "( dport = :ssh or sport = :ssh )",
        "(dport=:22)||(sport=:22)",
    ]);
    same(&[
        "exclude time-wait",
        "not state time-wait",
        "state != TIME_WAIT",
    ]);
    same(
        &[
            "state connected",
            "not state { listen, close, bound-inactive }",
        ][..1],
    );
    same(&[
        "state { established, syn-sent }",
        "state {ESTABLISHED,SYN_SENT}",
    ]);
    assert_eq!(read("dport < 0"), Expr::None);
    assert_eq!(read("dport > 65535"), Expr::None);
    assert_eq!(
        read("src or dst [::1]:5"),
        read("( src host ::1 and src port 5 ) or ( dst host ::1 and dst port 5 )")
    );
}

#[test]
fn sets_are_terms() {
    let ports = Ranges::of([(80, 80), (443, 443), (8000, 8100)]);
    let term = Expr::from(Term::Port(Side::Either, ports));
    assert_eq!(read("port { 443, 80, 8000-8050, 8051-8100, 80 }"), term);
    assert_eq!(read("port != { http, 443, 8000-8100, }"), !term);
    same(&["pid { 1, 2, 5-7 }", "pid {5,6,7,1,2}"]);
    same(&["comm { b, 'a', a }", "comm { a, b }"]);
    same(&[
        "dst { 10.0.0.1, 10.0.0.2 }",
        "dst host { 10.0.0.2, 10.0.0.1 }",
    ]);
    same(&[
        "dst { 10/8:80, [::1]:443 }",
        "( dst 10/8 and dport 80 ) or ( dst ::1 and dport 443 )",
    ]);
}

/// However it was written: it takes no more room.
#[test]
fn what_alternates_is_a_set() {
    same(&["port { 80, 443 }", "port 80 or port 443", "port 80 or 443"]);
    same(&[
        "not port { 80, 443 }",
        "not port 80 and not port 443",
        "not ( port 80 or port 443 )",
    ]);
    same(&[
        "dst net { 10/8, 172.16/12 }",
        "dst net 172.16/12 or dst net 10/8 or dst net 10.1/16",
    ]);
    same(&["comm { a*, b }", "comm b or comm a*"]);
    same(&["pid { 1-3, 7 }", "pid 2 or pid 1 or pid 3 or pid 7"]);
    same(&["uid { 0, 33 }", "uid www-data or uid 0"]);
    same(&[
        "state { established, close }",
        "state close or state established",
    ]);
    same(&[
        "cause { refused, timed_out }",
        "cause refused or cause timed_out",
    ]);
    same(&[
        "exclude { listen, close }",
        "exclude listen and exclude close",
    ]);
    same(&[
        "port 5 or ip or port { 6, 7 }",
        "port 5 or port 6 or ip or port 7",
    ]);
    // One end each, or both at once.
    assert_eq!(
        read("src port 80 or dst port 80").text(),
        "src port 80 or dst port 80"
    );
    assert_eq!(read("port 80 and port 443").text(), "port 80 and port 443");
    assert_eq!(
        read("not port 80 or not port 443").text(),
        "not port 80 or not port 443"
    );
    let many = |one: &dyn Fn(u32) -> String| {
        let all: Vec<String> = (1..=20_000).map(one).collect();
        read(&all.join(" or "))
    };
    assert_eq!(many(&|n| format!("port {n}")).text(), "port 1-20000");
    let Expr::Term(true, Term::Comm(names)) = many(&|n| format!("comm x{n}")) else {
        panic!("one term");
    };
    assert_eq!(names.len(), 20_000);
}

#[test]
fn names_are_numbers() {
    assert_eq!(read("uid www-data"), read("uid 33"));
    assert_eq!(read("cgroup /system.slice"), Term::Cgroup(vec![77]).into());
    assert_eq!(read("netns /run/netns/blue"), read("netns 4026532177"));
    let mut name = [0; COMM_LEN];
    name[..4].copy_from_slice(b"curl");
    let comm = |open| Expr::from(Term::Comm(vec![Pattern { name, open }]));
    assert_eq!(read("comm curl"), comm(false));
    assert_eq!(read("comm curl*"), comm(true));
    assert_eq!(read("comm 'curl*'"), comm(true));
    assert_ne!(read(r"comm 'curl\*'"), comm(true));
    same(&["container 0123456789ABCDEF", "container 0123456789abcdef"]);
    same(&["pid > 5", "pid >= 6"]);
}

#[test]
fn figures_have_units() {
    let is = |text: &str, what, first, last| {
        assert_eq!(
            read(text),
            Term::Measure(what, first, last).into(),
            "{text}"
        );
    };
    is("duration > 1s", Measure::Duration, 1_000_000_001, u64::MAX);
    is(
        "duration >= 1.5s",
        Measure::Duration,
        1_500_000_000,
        u64::MAX,
    );
    is(
        "duration = 2m",
        Measure::Duration,
        120_000_000_000,
        120_000_000_000,
    );
    is("rtt > 50ms", Measure::Rtt, 50_001, u64::MAX);
    is("rtt > 1500ns", Measure::Rtt, 2, u64::MAX);
    is("rtt >= 1500ns", Measure::Rtt, 2, u64::MAX);
    is("rtt < 1500ns", Measure::Rtt, 0, 1);
    is("rtt <= 1500ns", Measure::Rtt, 0, 1);
    is("bytes > 1M", Measure::Bytes, (1 << 20) + 1, u64::MAX);
    is("bytes<=0.5k", Measure::Bytes, 0, 512);
    is("retransmits > 0", Measure::Retransmits, 1, u64::MAX);
    is("retransmits = 3", Measure::Retransmits, 3, 3);
    assert_eq!(read("rtt = 1500ns"), Expr::None);
    assert_eq!(read("bytes < 0"), Expr::None);
    assert!(read("failures").text().starts_with("cause { refused, "));
    same(&["cause timed-out", "cause timed_out"]);
    assert_eq!(
        read("from listen and to SYN_RECV").text(),
        "from listen and to syn-recv"
    );
    assert_eq!(
        read("ip and not event state"),
        Expr::And(vec![
            Term::Family(Wire::Ipv4).into(),
            !Expr::from(Term::Event(Kinds::STATE)),
        ])
    );
    assert_eq!(
        read("to established"),
        Term::To(States::default().and(State::Established)).into()
    );
}

#[test]
fn ten_thousand_prefixes() {
    let all: Vec<String> = (0..10_000)
        .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
        .collect();
    let text = format!("net {{ {} }}", all.join(",\n"));
    let Expr::Term(true, Term::Net(Side::Either, nets)) = read(&text) else {
        panic!("one term");
    };
    assert_eq!(nets.prefixes().len(), 10_000);
    assert!(nets.has("10.39.15.7".parse().expect("one of them")));
    assert!(!nets.has("10.39.16.7".parse().expect("none of them")));
}
