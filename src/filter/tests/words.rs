//! Every word in every place: in whatever case, and nearly right.

use super::super::words::{self, Head, STARTS, Start};
use super::*;

/// What may follow a word that begins a condition.
fn values(name: &str, start: &Start) -> Vec<String> {
    let one = |value: &str| vec![value.to_owned()];
    let all = |words: &mut dyn Iterator<Item = &'static str>| words.map(str::to_owned).collect();
    match start {
        Start::End(_) => [
            "host 10.0.0.1",
            "net 10/8",
            "port ssh",
            "portrange 1-2",
            "10.0.0.1:http",
            "or dst port 5",
            "and src port 5",
            "or peer port 5",
            "and local port 5",
        ]
        .iter()
        // The other end.
        .filter(|value| match name {
            "src" | "local" => !value.contains("src") && !value.contains("local"),
            _ => !value.contains("dst") && !value.contains("peer"),
        })
        .map(|value| value.to_string())
        .collect(),
        Start::Host | Start::Net => one("10.0.0.1"),
        Start::Port | Start::PortOf(_) => {
            let signs = super::super::lex::comparisons().map(|sign| format!("{sign} https"));
            signs.chain(["https".to_owned()]).collect()
        }
        Start::Family(_) => vec!["".into(), "host 10.0.0.1".into(), "src port 5".into()],
        Start::Opened(_) | Start::Loopback | Start::Failures => one(""),
        Start::Of(Head::State(_) | Head::From | Head::To) => all(&mut words::states()),
        Start::Of(Head::Event) => all(&mut words::kinds()),
        Start::Of(Head::Cause) => all(&mut words::causes()),
        Start::Of(Head::Owner) => one("none"),
        Start::Of(Head::Measure(Measure::Duration)) => one("gt 5min"),
        Start::Of(Head::Measure(Measure::Rtt)) => one("le 5ms"),
        Start::Of(Head::Measure(Measure::Bytes)) => one("ge 5k"),
        Start::Of(Head::Measure(_)) => one("ne 5"),
        Start::Of(Head::Container) => one("abcabcabcabc"),
        Start::Of(_) => one("7"),
    }
}

fn conditions() -> Vec<String> {
    let of = |(name, start): &(&str, Start)| -> Vec<String> {
        let text = |value: String| format!("{name} {value}").trim_end().to_owned();
        values(name, start).into_iter().map(text).collect()
    };
    STARTS.iter().flat_map(of).collect()
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    first.to_uppercase() + rest
}

#[test]
fn words_are_taken_in_any_case() {
    for text in conditions() {
        for text in [
            text.clone(),
            format!("not {text}"),
            format!("port 5 and {text}"),
            format!("port 5 or not {text}"),
        ] {
            let plain = read(&text);
            assert_eq!(read(&text.to_uppercase()), plain, "{text}");
            let words: Vec<String> = text.split(' ').map(capital).collect();
            assert_eq!(read(&words.join(" ")), plain, "{text}");
        }
    }
    // What is not a word of ours is a value.
    assert_ne!(read("comm CURL"), read("comm curl"));
    assert_ne!(read("COMM 'Not'"), read("comm not*"));
    for text in [
        "UDP port 5",
        "Less 5",
        "TCP[13]",
        "net 10.0.0.0 MASK 255.0.0.0",
    ] {
        assert!(
            wrong(text).contains("seen here") || wrong(text).contains("as a length"),
            "{text}"
        );
    }
}

/// Two letters of a word that have changed places; none where that is a word, too.
fn misspelt(word: &str) -> Option<String> {
    let mut bytes = word.as_bytes().to_vec();
    let at = (1..bytes.len()).rev().find(|at| {
        bytes[at - 1].is_ascii_lowercase()
            && bytes[*at].is_ascii_lowercase()
            && bytes[at - 1] != bytes[*at]
    })?;
    bytes.swap(at - 1, at);
    (word.len() > 2).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// Wherever a word of ours is expected, one that is nearly one gets it.
#[test]
fn every_word_has_its_near_misses() {
    let mut places: Vec<(&str, Vec<&str>, &str)> = vec![
        ("", words::starts().chain(["not"]).collect(), " 5"),
        ("not ", words::starts().collect(), " 5"),
        (
            "port 80 and ",
            words::starts().chain(["not"]).collect(),
            " 5",
        ),
        ("loopback or ", words::starts().collect(), " 5"),
        (
            "port 80 ",
            words::starts().chain(["and", "not"]).collect(),
            " port 5",
        ),
        ("tcp ", words::starts().chain(["and"]).collect(), " 5"),
        ("port 80 and ( ", words::starts().collect(), " 5 )"),
        ("src and ", vec!["dst", "peer"], " port 5"),
        ("dst or ", vec!["src", "local"], " port 5"),
        (
            "ip src ",
            vec!["host", "net", "port", "portrange", "and"],
            " 5",
        ),
        ("owner ", vec!["none"], ""),
        ("cause { refused, ", words::causes().collect(), " }"),
        ("event ", words::kinds().collect(), ""),
    ];
    for before in ["src ", "dst ", "local ", "peer "] {
        places.push((
            before,
            vec!["host", "net", "port", "portrange", "and"],
            " 5",
        ));
    }
    for before in [
        "state ",
        "exclude ",
        "from ",
        "to ",
        "state established or ",
    ] {
        places.push((before, words::states().collect(), ""));
    }
    for (before, after) in [
        ("port ", ""),
        ("sport = :", ""),
        ("dst :", ""),
        ("dst port { 5, ", " }"),
        ("port 80 or ", ""),
    ] {
        places.push((before, vec!["mongodb", "postgresql", "domain"], after));
    }
    for (before, known, after) in places {
        for word in &known {
            let Some(bad) = misspelt(word).filter(|bad| words::start(bad).is_none()) else {
                continue;
            };
            let shown = wrong(&format!("{before}{bad}{after}"));
            // Another one of this place may be as near.
            let is = |word: &&str| shown.contains(&format!("did you mean '{word}'?"));
            assert!(known.iter().any(is), "{bad}: {shown}");
            let mark = format!("\n  {:1$}^", "", before.trim_end().len());
            assert!(shown.contains(&mark[..mark.len() - 2]), "{shown}");
        }
    }
}

/// What no sample of perf tells is named, whatever stands around it.
#[test]
fn words_that_are_not_told_everywhere() {
    use crate::model::ability::Abilities;
    let some = Abilities::RESETS_SENT | Abilities::RESETS_RECEIVED;
    for (text, words) in [
        ("netns 7", &["netns"][..]),
        (
            "not ( port 80 and cgroup 7 ) or container abcabcabcabc",
            &["cgroup", "container"],
        ),
        ("netns 7 or ( port 80 and netns 8 )", &["netns"]),
        ("exclude time-wait", &["time-wait"]),
        ("to { time-wait, close }", &[]),
        ("rtt > 5ms and bytes > 5", &["rtt", "bytes"]),
        ("cause refused or cause aborted", &["aborted"]),
        (
            "failures",
            &[
                "given_up",
                "timed_out",
                "unreachable",
                "aborted",
                "never_accepted",
            ],
        ),
        (
            "pid 7 and tree 7 and comm x and uid 0 and owner none and port 5 and host ::1",
            &[],
        ),
        (
            "ip and outgoing and event state and from listen and duration > 1s",
            &[],
        ),
        ("retransmits > 5", &[]),
    ] {
        let said: Vec<&str> = read(text)
            .untold(some)
            .iter()
            .map(|(word, _)| *word)
            .collect();
        assert_eq!(said, words, "{text}");
        assert!(read(text).untold(Abilities::all()).is_empty(), "{text}");
    }
}

#[test]
fn a_value_alone_gets_its_word() {
    for (text, meant) in [
        ("443", "port 443"),
        (":443", "port 443"),
        ("https", "port https"),
        ("8000-8100", "port 8000-8100"),
        ("99999", "pid 99999"),
        ("10.0.0.1", "host 10.0.0.1"),
        ("10.0.0.0/8", "net 10.0.0.0/8"),
        ("2001:db8::1", "host 2001:db8::1"),
        ("[2001:db8::1]:22", "host [2001:db8::1] and port 22"),
        ("10.0.0.1:443", "host 10.0.0.1 and port 443"),
        ("10.0.0.0/8:443", "net 10.0.0.0/8 and port 443"),
        ("established", "state established"),
        ("retransmit", "event retransmit"),
        ("refused", "cause refused"),
        ("host 10.0.0.1:443", "host 10.0.0.1 and port 443"),
        ("host [::1]:22", "host [::1] and port 22"),
        ("net 10.0.0.0/8:80", "net 10.0.0.0/8 and port 80"),
        ("dst host 10.0.0.1:443", "dst 10.0.0.1:443"),
        ("src host ::1:50000", "src [::1]:50000"),
        ("port 80 and 10.0.0.1:443", "host 10.0.0.1 and port 443"),
        ("port 80 or established", "state established"),
        ("host localhost", "loopback"),
        ("port 80 10.0.0.1", "host 10.0.0.1"),
    ] {
        let shown = wrong(text);
        let says = format!("did you mean '{meant}'?");
        assert!(shown.contains(&says), "{text}: {shown}");
        read(meant);
    }
}

/// ss takes the last number of an IPv6 address without brackets for a port.
#[test]
fn an_address_that_may_end_in_a_port_is_refused() {
    assert_eq!(
        wrong("dst ::1:22"),
        "filter: an address, or one and a port: this can be read in two ways
  dst ::1:22
      ^^^^^^
  dst host ::1:22
  dst [::1]:22"
    );
    for text in [
        "src fe80::1:2:443",
        "src or dst ::1:22",
        "peer = ::1:22",
        "dst { 10.0.0.1, ::1:22 }",
        "dst 10.0.0.1 or ::1:22",
    ] {
        assert!(wrong(text).contains("in two ways"), "{text}");
    }
    // No port, or no address before it; a form that has none; or of a MAC.
    for text in [
        "dst 2001:db8::22",
        "dst ::22",
        "dst 2001:db8::1:ab",
        "dst 1:2:3:4:5:6:7:8",
        "dst fe80::1:0",
        "dst ::1:22/128",
        "dst fe80::5054:ff:fe12:3456",
        "host ::1:22",
        "dst host ::1:22",
        "src net ::1:22",
        "dst host { ::1:22 }",
    ] {
        read(text);
    }
    for (text, meant) in [
        ("dst ::1:50000", "dst [::1]:50000"),
        ("src ::1:ssh", "src [::1]:ssh"),
        ("dst ::ffff:10.0.0.1:22", "dst [::ffff:10.0.0.1]:22"),
    ] {
        assert!(
            wrong(text).contains(&format!("did you mean '{meant}'?")),
            "{}",
            wrong(text)
        );
        read(meant);
    }
    assert_eq!(
        read("dst 2001:db8::/32:443"),
        read("dst [2001:db8::]/32:443")
    );
}
