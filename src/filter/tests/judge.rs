//! What is said of events and records.

use super::super::eval::{Around, Figures, Judge, Settled, Subject};
use super::*;
use crate::bpf::wire::tests::{owner, state};
use crate::model::cause::Cause;
use crate::model::event::{Event, Owner, OwnerSource, What};
use State::*;
use Truth::{No, NotYet, Yes};

/// Process 7 and its child 8; cgroup 70 with 71 in it, the container abc….
struct Family;

impl Around for Family {
    fn descends(&self, pid: u32, top: u32) -> Option<bool> {
        (pid < 100).then_some(pid == top || (pid, top) == (8, 7))
    }
    fn is_below(&self, cgroup: u64, tops: &[u64]) -> Option<bool> {
        (cgroup < 100).then_some(
            tops.iter()
                .any(|top| cgroup == *top || (cgroup, *top) == (71, 70)),
        )
    }
    fn is_contained(&self, cgroup: u64, ids: &[String]) -> Option<bool> {
        let id = "abcabcabcabcabc";
        (cgroup < 100)
            .then_some(cgroup == 71 && ids.iter().any(|begin| id.starts_with(begin.as_str())))
    }
}

fn judge(text: &str) -> Judge {
    Judge::new(&read(text)).expect("it can be asked")
}

fn of(event: &Event) -> Subject<'static> {
    Subject {
        local: event.local,
        peer: event.peer,
        wire: event.wire,
        listener: false,
        netns: event.netns,
        outgoing: None,
        owner: event.owner,
        sure: true,
        over: false,
        around: &Family,
    }
}

fn process(pid: u32) -> Owner {
    Owner {
        cgroup: Some(u64::from(pid) * 10 + 1),
        ..owner(pid, OwnerSource::Task)
    }
}

/// What is said of a change from SYN_SENT to ESTABLISHED.
fn say(text: &str, change: impl FnOnce(&mut Subject<'_>)) -> Truth {
    let event = state(1, 1, SynSent, Established, (5000, 443));
    let mut subject = of(&event);
    change(&mut subject);
    judge(text).event(&subject, &mut Settled::default(), &event, false)
}

#[test]
fn ends_of_a_connection() {
    // From 10.0.0.1:5000 to 10.0.0.2:443.
    for (text, truth) in [
        ("port 443", Yes),
        ("dst port 443 and src host 10.0.0.1", Yes),
        ("src port 443", No),
        ("host 10.0.0.2 and host 10.0.0.1", Yes),
        ("dst net 10.0.0.0/8 and not src net 10.0.0.1", No),
        ("host ::ffff:10.0.0.2", Yes),
        ("net ::/0", No),
        ("net 0.0.0.0/0", Yes),
        ("ip", Yes),
        ("ip6", No),
        ("not ip6", Yes),
        ("loopback", No),
        ("tcp", Yes),
        ("not tcp", No),
        ("dport > 442 and dport < 444", Yes),
        ("dport != 443", No),
        ("dst 10.0.0.2:443", Yes),
        ("dst 10.0.0.1:443", No),
    ] {
        assert_eq!(say(text, |_| {}), truth, "{text}");
    }
}

#[test]
fn what_is_not_known_yet_is_waited_for() {
    let portless = |subject: &mut Subject<'_>| subject.local.port = 0;
    for (text, truth) in [
        ("src port 5000", NotYet),
        ("not src port 5000", NotYet),
        ("src port 5000 and dst port 80", No),
        ("src port 5000 or dst port 443", Yes),
        ("port 443", Yes),
        ("port 80", NotYet),
        ("not port 80", NotYet),
        ("not port 443", No),
    ] {
        assert_eq!(say(text, portless), truth, "{text}");
        let over = |subject: &mut Subject<'_>| {
            portless(subject);
            subject.over = true;
        };
        assert_ne!(say(text, over), NotYet, "{text}");
    }
    let unplaced = |subject: &mut Subject<'_>| {
        subject.peer.addr = "0.0.0.0".parse().expect("an address");
        subject.peer.port = 0;
    };
    assert_eq!(say("dst host 10.0.0.2", unplaced), NotYet);
    assert_eq!(say("ip", unplaced), NotYet);
    let listener = |subject: &mut Subject<'_>| {
        unplaced(subject);
        subject.listener = true;
    };
    assert_eq!(say("dst host 10.0.0.2", listener), No);
    assert_eq!(say("port 5000", listener), Yes);
    assert_eq!(say("dst net 0.0.0.0/0", listener), No);
    assert_eq!(say("outgoing", |_| {}), NotYet);
    assert_eq!(say("outgoing", |s| s.outgoing = Some(true)), Yes);
    assert_eq!(say("incoming", |s| s.outgoing = Some(true)), No);
    assert_eq!(say("netns 5", |s| s.netns = None), NotYet);
}

#[test]
fn owners() {
    let name = String::from_utf8_lossy(process(8).task.comm()).into_owned();
    let mine = ["comm ", &name].concat();
    let begins = ["comm ", name.get(..1).expect("a letter"), "*"].concat();
    for (text, truth) in [
        ("pid 8", Yes),
        ("pid 7", No),
        ("pid { 1, 5-9 }", Yes),
        ("tree 7", Yes),
        ("tree 8", Yes),
        ("tree 9", No),
        ("not tree 7", No),
        ("cgroup 81", Yes),
        ("cgroup 70", No),
        ("container abcabcabcabc", No),
        ("owner none", No),
        ("uid 1", NotYet),
        (&mine, Yes),
        (&begins, Yes),
        ("comm nobody", No),
    ] {
        let own = |subject: &mut Subject<'_>| {
            let mut owner = process(8);
            owner.task.uid = None;
            subject.owner = Some(owner);
        };
        assert_eq!(say(text, own), truth, "{text}");
    }
    assert_eq!(
        say("container abcabcabcabc", |s| s.owner = Some(process(7))),
        Yes
    );
    assert_eq!(say("cgroup 70", |s| s.owner = Some(process(7))), Yes);
    for text in ["pid 8", "not pid 8", "owner none", "tree 7"] {
        assert_eq!(say(text, |s| s.owner = None), NotYet, "{text}");
    }
    let nobody = |subject: &mut Subject<'_>| (subject.owner, subject.over) = (None, true);
    assert_eq!([say("pid 8", nobody), say("not pid 8", nobody)], [No, Yes]);
    assert_eq!(say("owner none", nobody), Yes);
    // As long as another process may accept it, a listener's owner is one where it
    // matches.
    let unsure =
        |subject: &mut Subject<'_>| (subject.owner, subject.sure) = (Some(process(8)), false);
    assert_eq!([say("pid 8", unsure), say("pid 9", unsure)], [Yes, NotYet]);
    let (name, uid) = (
        String::from_utf8_lossy(process(8).task.comm()).into_owned(),
        process(8).task.uid.expect("a user"),
    );
    for (word, same, other) in [
        ("pid", "8", "9"),
        ("tree", "7", "9"),
        ("comm", &name[..], "nobody"),
        ("uid", &uid.to_string(), "77"),
        ("cgroup", "81", "70"),
    ] {
        let ask = |text: String| say(&text, unsure);
        assert_eq!(ask(format!("{word} {same}")), Yes, "{word}");
        assert_eq!(ask(format!("{word} {other}")), NotYet, "{word}");
        // Nor is who is to be left out known before one accepts.
        assert_eq!(ask(format!("not {word} {same}")), NotYet, "{word}");
        assert_eq!(ask(format!("not {word} {other}")), NotYet, "{word}");
        // At the end it is who was presumed.
        let end = |text: String| {
            say(&text, |subject| {
                unsure(subject);
                subject.over = true;
            })
        };
        assert_eq!(end(format!("not {word} {same}")), No, "{word}");
        assert_eq!(end(format!("not {word} {other}")), Yes, "{word}");
    }
    assert_eq!(say("not container abcabcabcabc", unsure), NotYet);
    // Whoever accepts is somebody.
    assert_eq!(
        [say("owner none", unsure), say("not owner none", unsure)],
        [NotYet, Yes]
    );
}

#[test]
fn a_yes_stays_one() {
    let event = state(1, 1, SynSent, Established, (5000, 443));
    let judge = judge("pid 7 and to { established, close }");
    let mut settled = Settled::default();
    let mut ask = |pid, new| {
        let event = state(2, 1, Established, new, (5000, 443));
        let subject = Subject {
            owner: Some(process(pid)),
            ..of(&event)
        };
        judge.event(&subject, &mut settled, &event, false)
    };
    assert_eq!(ask(8, Established), No);
    // Also where the event is not shown.
    assert_eq!(ask(7, FinWait1), No);
    assert_eq!(ask(8, Close), Yes);
    let fresh = Subject {
        owner: Some(process(8)),
        ..of(&event)
    };
    assert_eq!(
        judge.event(&fresh, &mut Settled::default(), &event, false),
        No
    );
}

#[test]
fn events() {
    let retransmit = What::Retransmit {
        kind: None,
        state: Some(FinWait1),
        error: None,
        total: None,
    };
    let change = |old, new| What::State { old, new };
    for (text, what, truth) in [
        ("event state", change(SynSent, Established), Yes),
        ("event retransmit", change(SynSent, Established), No),
        ("event { state, retransmit }", retransmit, Yes),
        ("event connection", retransmit, No),
        (
            "from syn-sent and to established",
            change(SynSent, Established),
            Yes,
        ),
        ("from established", change(SynSent, Established), No),
        ("state established", change(SynSent, Established), Yes),
        ("state connected", change(FinWait2, Close), No),
        ("state fin-wait-1", retransmit, Yes),
        ("to fin-wait-1", retransmit, No),
        ("exclude established", retransmit, Yes),
        ("state syn-recv", What::SynAck, Yes),
        ("event retransmit", What::SynAck, Yes),
        ("cause refused", change(SynSent, Close), No),
        ("not cause refused", change(SynSent, Close), No),
    ] {
        let event = Event {
            what,
            ..state(1, 1, Close, Close, (5000, 443))
        };
        let said = judge(text).event(&of(&event), &mut Settled::default(), &event, false);
        assert_eq!(said, truth, "{text}");
    }
    let close = state(1, 1, FinWait2, Close, (5000, 443));
    let gone = |text, time_wait| {
        judge(text).event(&of(&close), &mut Settled::default(), &close, time_wait)
    };
    assert_eq!(
        [gone("to time-wait", true), gone("to time-wait", false)],
        [Yes, No]
    );
    assert_eq!(
        [gone("to close", true), gone("exclude time-wait", true)],
        [Yes, No]
    );
}

#[test]
fn records() {
    let figures = Figures {
        cause: Some(Cause::Refused),
        duration: Some(2_000_000_000),
        rtt: None,
        bytes: [Some(500), None],
        retransmits: (3, true),
    };
    let event = state(1, 1, SynSent, Close, (5000, 443));
    for (text, truth) in [
        ("cause refused", Yes),
        ("failures", Yes),
        ("cause timed_out", No),
        ("duration > 1s and dst port 443", Yes),
        ("duration > 1s and dst port 80", No),
        ("duration < 2s", No),
        // What isn't known is no match.
        ("rtt < 50ms", No),
        ("not rtt < 50ms", Yes),
        // There may be more than is known.
        ("bytes >= 500", Yes),
        ("bytes > 500", No),
        ("bytes < 600", No),
        ("retransmits > 2", Yes),
        ("retransmits = 3", No),
        ("event connection", Yes),
        ("event state", No),
        ("port 443", Yes),
        ("port 443 and to established", NotYet),
        ("port 80 and to established", No),
    ] {
        let (judge, mut settled) = (judge(text), Settled::default());
        judge.event(&of(&event), &mut settled, &event, false);
        assert_eq!(judge.record(settled, &figures), truth, "{text}");
    }
    assert!(judge("cause refused").is_of_records() && !judge("port 5").is_of_records());
    for (text, names) in [
        ("event connection", true),
        ("event state", false),
        ("not event state", true),
        ("not event connection", false),
        ("event != { state, retransmit } port 5", true),
    ] {
        assert_eq!(judge(text).names_records(), names, "{text}");
    }
    assert!(Judge::new(&read("failures or to established")).is_err());
}

#[test]
fn parts_have_a_limit() {
    let alternating = |count: u32| {
        let one = |n| format!("( port {n} and to established )");
        let all: Vec<String> = (1..=count).map(one).collect();
        read(&all.join(" or "))
    };
    assert!(Judge::new(&alternating(32)).is_ok() && Judge::new(&alternating(33)).is_err());
    // Also for what is added afterwards.
    let narrowed = |count| {
        let mut filter = crate::filter::Filter {
            expr: alternating(count),
            ..Default::default()
        };
        filter.narrow(Term::Tree(vec![1])).is_ok()
    };
    assert!(narrowed(31) && !narrowed(32));
}

/// Whether a term about the owner stands in it as it is, or a `not` at one that asks
/// whether there is any: what a presumed owner may answer with a yes.
fn asks_who(expr: &Expr) -> bool {
    match expr {
        Expr::Term(positive, term) => {
            term.kind() == Kind::Owner && *positive != (*term == Term::NoOwner)
        }
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(asks_who),
        Expr::All | Expr::None => false,
    }
}

proptest! {
    /// Where another one accepts than was presumed, nothing was said before that is
    /// wrong then: but for a presumed owner that is asked for himself.
    #[test]
    fn a_presumed_owner_excludes_nothing(
        tree in trees::expr(), presumed in 1..20u32, accepts in 1..20u32
    ) {
        let Ok(judge) = Judge::new(&tree) else { return Ok(()) };
        let event = state(1, 1, SynSent, Established, (5000, 443));
        let at_first = Subject { owner: Some(process(presumed)), sure: false, ..of(&event) };
        let at_last = Subject { owner: Some(process(accepts)), ..at_first };
        let at_last = Subject { sure: true, ..at_last };
        let said = |subject| judge.event(subject, &mut Settled::default(), &event, false);
        let (before, after) = (said(&at_first), said(&at_last));
        prop_assert!(before != No || after == No, "{} {:?}", tree.text(), after);
        if !asks_who(&tree) {
            prop_assert!(before == NotYet || before == after, "{} {:?} {:?}", tree.text(), before, after);
        }
    }

    /// What is known never changes by knowing more: only what is not known yet does.
    #[test]
    fn knowing_more_changes_no_answer(tree in trees::expr(), pid in 1..20u32, over in any::<bool>()) {
        let Ok(judge) = Judge::new(&tree) else { return Ok(()) };
        let event = state(1, 1, SynSent, Established, (5000, 443));
        let mut less = of(&event);
        (less.local.port, less.netns, less.owner) = (0, None, None);
        let more = Subject { owner: Some(process(pid)), outgoing: Some(true), over, ..of(&event) };
        let before = judge.event(&less, &mut Settled::default(), &event, false);
        let after = judge.event(&more, &mut Settled::default(), &event, false);
        prop_assert!(before == NotYet || before == after, "{} {:?} {:?}", tree.text(), before, after);
        // And the opposite is said of the opposite, in the end.
        if let Ok(opposite) = Judge::new(&!tree.clone()) {
            let end = Subject { over: true, ..more };
            let said = judge.event(&end, &mut Settled::default(), &event, false);
            let not = opposite.event(&end, &mut Settled::default(), &event, false);
            prop_assert!(judge.is_of_records() || said == !not, "{}", tree.text());
        }
    }
}
