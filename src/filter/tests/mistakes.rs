use super::*;

/// The mistake in each text, which must say this.
#[test]
fn mistakes_say_what_is_meant() {
    for (text, says) in [
        ("prot 80", "did you mean 'port'?"),
        ("port 80 or prot 443", "did you mean 'port'?"),
        ("port htpp", "did you mean 'http'?"),
        ("port 70000", "expected a port"),
        ("port", "expected a port"),
        ("port 80 443", "in braces: port { …, … }"),
        ("port 80, 443", "a list stands in braces"),
        ("port { 80 443 }", "expected ',' or '}'"),
        ("port { 80", "this brace is not closed"),
        ("port { }", "expected a port"),
        ("host example.org", "expected an address"),
        ("net 10.0.0.0/33", "expected a network"),
        ("host < 10.0.0.1", "no order"),
        ("state listning", "did you mean 'listening'?"),
        (
            "state established state syn-sent",
            "nothing is in both at once",
        ),
        ("less 100", "no packets are seen"),
        ("tcp[13] & 2 != 0", "no packets are seen"),
        ("udp port 53", "only TCP sockets"),
        ("icmp", "only TCP sockets"),
        ("net 10.0.0.0 mask 255.0.0.0", "10.0.0.0/8"),
        (
            "comm averylongnameindeed",
            "did you mean 'averylongnamein'?",
        ),
        ("comm a*b", "at the end"),
        ("uid nobody1", "no such user"),
        ("cgroup /nothing", "no such cgroup"),
        ("container 0123", "12 to 64"),
        ("owner me", "'none'"),
        ("cause refusd", "did you mean 'refused'?"),
        ("duration 1s", "expected a sign"),
        ("port !22", "such as: not port 22"),
        ("dst not 10.0.0.1", "such as: not port 22"),
        ("tcp.port == 443", "did you mean 'port'?"),
        ("ip saddr 10/8", "did you mean 'src'?"),
        ("port 22 or ip.addr == 10.0.0.1", "did you mean 'host'?"),
        ("USER root", "did you mean 'uid'?"),
        ("ppid 7", "did you mean 'tree'?"),
        ("state estab", "did you mean 'established'?"),
        ("cause reset", "did you mean 'reset_by_peer'?"),
        ("duration > 1", "(ns, us, ms, s, m or h)"),
        ("bytes > 1MB", "(K, M, G or T, of 1024)"),
        ("dport gte 1024", "did you mean 'ge'?"),
        ("pid lte 7", "did you mean 'le'?"),
        ("duration gte 1s", "did you mean 'ge'?"),
        ("duration > 1", "a time, such as"),
        ("bytes > 1X", "a number of bytes"),
        ("rtt > 99999999999999999999999h", "a time"),
        ("( port 80", "not closed"),
        ("port 80 )", "no parenthesis is open"),
        ("not", "expected a condition"),
        ("port 80 and", "expected a condition"),
        ("and port 80", "expected a condition"),
        ("'", "not closed"),
        ("curl", "unknown word 'curl'"),
        ("pid x", "the number of a process"),
        ("tree 0", "the number of a process"),
        ("src or port 80", "expected 'dst'"),
        ("port = = 80", "expected a port"),
    ] {
        let shown = wrong(text);
        assert!(shown.contains(says), "{text}: {shown}");
        assert!(shown.contains('^'), "{text}: {shown}");
    }
}

#[test]
fn a_mixture_has_two_readings() {
    assert_eq!(
        wrong("port 80 and pid 7 or pid 8"),
        "filter: 'and' and 'or' side by side can be read in two ways: put parentheses
  port 80 and pid 7 or pid 8
                    ^^
  ( port 80 and pid 7 ) or pid 8
  port 80 and ( pid 7 or pid 8 )"
    );
    let shown = wrong("port 80 or not 443 and ip");
    assert!(
        shown.contains("\n  port 80 or ( not port 443 and ip )"),
        "{shown}"
    );
    // Where another value could follow, too, the word that is wrong is marked.
    for (text, at) in [
        ("port 80 and prot 7", 12),
        ("port 80 or udp port 53", 11),
        ("port 80 or icmp", 11),
    ] {
        let mark = format!("\n  {text}\n  {:at$}^", "");
        assert!(wrong(text).contains(&mark), "{}", wrong(text));
    }
    let shown = wrong("port 80 or 443   ip and not ( comm a )");
    assert!(
        shown.contains("\n  port 80 or ( port 443 and ip and not ( comm a ) )"),
        "{shown}"
    );
    assert!(
        shown.ends_with("\n  ( port 80 or port 443 ) and ip and not ( comm a )"),
        "{shown}"
    );
    read("( port 80 and pid 7 ) or pid 8");
    read("tcp port 80 or tcp port 443");
}

#[test]
fn depth_and_length_have_a_limit() {
    let deep = |depth: usize| format!("{}port 1{}", "(".repeat(depth), ")".repeat(depth));
    read(&deep(64));
    assert!(wrong(&deep(65)).contains("64"));
    assert!(wrong(&deep(100_000)).contains("64"));
    read(&format!("{} port 1", "not ".repeat(100_001)));
    let long = "#".repeat(super::super::parse::LENGTH + 1);
    assert!(wrong(&long).contains("4 MiB"));
}
