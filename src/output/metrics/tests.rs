use super::*;
use crate::bpf::wire::tests::{owner, state};
use crate::model::event::{Event, OwnerSource};
use crate::model::tcp::Endpoint;
use std::collections::BTreeMap;

fn metrics() -> (Metrics, std::path::PathBuf) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("snoop-metrics-{}-{next}.prom", std::process::id());
    let path = std::env::temp_dir().join(name);
    let text = path.to_str().expect("a path");
    let metrics = Metrics::open(text, Duration::from_secs(15)).expect("it can be written");
    (metrics, path)
}

/// What is read by who reads it: each line once, a value for each name with labels.
fn read(text: &[u8]) -> BTreeMap<String, f64> {
    let text = std::str::from_utf8(text).expect("UTF-8");
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let value = value.parse().expect("a number");
        assert_eq!(all.insert(name.to_string(), value), None, "{name} twice");
    }
    all
}

/// Written now.
fn now(metrics: &mut Metrics) -> BTreeMap<String, f64> {
    metrics.begin();
    read(&metrics.text())
}

/// A connect to this port by a process of this name.
fn connects(metrics: &mut Metrics, port: u16, name: &[u8]) {
    let mut event = state(1, 2, State::Close, State::SynSent, (0, 443));
    let mut who = owner(7, OwnerSource::Task);
    who.task.name = [0; 16];
    who.task.name[..name.len()].copy_from_slice(name);
    event.owner = Some(who);
    event.peer = Endpoint { port, ..event.peer };
    shows(metrics, &event);
}

fn shows(metrics: &mut Metrics, event: &Event) {
    let shown = Shown {
        event,
        wall: 0,
        id: None,
        time_wait: None,
        segments: Some(3),
    };
    metrics.event(None, &shown);
}

fn opened(port: &str, comm: &str) -> String {
    format!(
        "socket_snoop_connections_opened_total{{direction=\"outgoing\",port=\"{port}\",comm=\"{comm}\"}}"
    )
}

#[test]
fn it_is_there_from_the_start() {
    let (_, path) = metrics();
    let all = read(&std::fs::read(&path).expect("the file"));
    assert_eq!(
        all["socket_snoop_lost_events_total{reason=\"ring_full\"}"],
        0.0
    );
    assert_eq!(all["socket_snoop_connect_seconds_count"], 0.0);
    assert!(!path.with_extension("prom.tmp").exists());
    std::fs::remove_file(path).expect("remove it");
}

#[test]
fn names_are_escaped_and_each_is_one_series() {
    let (mut metrics, path) = metrics();
    for (name, shown) in [
        (&b"curl"[..], "curl"),
        (b"a\"b\\c", r#"a\"b\\c"#),
        (b"a\nb", r"a\nb"),
        (b"a\tb\x1b", "a?b?"),
        (b"\xff\xfe", "??"),
        (b"\xfe\xff", "??"),
        ("\u{e9}\u{6f22}".as_bytes(), "\u{e9}\u{6f22}"),
        ("\u{202e}x".as_bytes(), "???x"),
        (b"other", "other"),
        (b"", ""),
    ] {
        connects(&mut metrics, 443, name);
        let all = now(&mut metrics);
        assert!(all.contains_key(&opened("443", shown)), "{shown}: {all:?}");
    }
    let all = now(&mut metrics);
    assert_eq!(all[&opened("443", "??")], 2.0);
    std::fs::remove_file(path).expect("remove it");
}

/// The busiest have a place of their own, for good; what comes later is `other`, and
/// nothing ever goes down.
#[test]
fn the_busiest_have_their_names() {
    let (mut metrics, path) = metrics();
    for port in 1..=200u16 {
        for _ in 0..=port {
            connects(&mut metrics, port, b"scan");
        }
    }
    let mut before = now(&mut metrics);
    let sum = |all: &BTreeMap<String, f64>| {
        let opened = all
            .iter()
            .filter(|(name, _)| name.contains("_opened_total"));
        opened.map(|(_, count)| count).sum::<f64>()
    };
    assert_eq!(before[&opened("200", "scan")], 201.0);
    assert_eq!(before[&opened("151", "scan")], 152.0);
    assert!(!before.contains_key(&opened("150", "scan")));
    let wanted: f64 = (1..=200).map(|port| f64::from(port + 1)).sum();
    assert_eq!(sum(&before), wanted);
    let mut count = wanted;
    for round in 0..4u16 {
        for n in 0..3000u16 {
            let name = format!("n{}", n % 700);
            connects(&mut metrics, 1000 + round * 1000 + n % 900, name.as_bytes());
            connects(&mut metrics, 200, b"scan");
            count += 2.0;
        }
        let all = now(&mut metrics);
        assert_eq!(sum(&all), count);
        for (name, value) in &before {
            assert!(all[name] >= *value, "{name}");
        }
        let ports = all.keys().filter_map(|name| name.split("port=\"").nth(1));
        let ports: std::collections::BTreeSet<_> = ports.map(|p| p.split('"').next()).collect();
        assert!(ports.len() <= 52, "{}", ports.len());
        assert!(all.len() < 8000, "{}", all.len());
        before = all;
    }
    std::fs::remove_file(path).expect("remove it");
}

#[test]
fn what_is_sent_again_and_lost() {
    let (mut metrics, path) = metrics();
    let mut event = state(1, 2, State::Established, State::CloseWait, (4000, 443));
    event.what = What::Retransmit {
        kind: Some(Resending::TailLossProbe),
        state: Some(State::Established),
        error: None,
        total: None,
    };
    shows(&mut metrics, &event);
    event.what = What::SynAck;
    shows(&mut metrics, &event);
    for (reason, count) in [
        (Reason::RingFull, 2),
        (Reason::RingFull, 3),
        (Reason::TasksFull, 1),
    ] {
        metrics.lost(&Lost {
            wall: 0,
            cpu: None,
            count,
            reason,
        });
    }
    let all = now(&mut metrics);
    let of = |part: &str| -> Vec<f64> {
        let with = all.iter().filter(|(name, _)| name.contains(part));
        with.map(|(_, count)| *count).collect()
    };
    assert_eq!(of("kind=\"tail_loss_probe\""), [3.0]);
    assert_eq!(of("kind=\"synack\""), [1.0]);
    assert_eq!(
        all["socket_snoop_lost_events_total{reason=\"ring_full\"}"],
        5.0
    );
    assert_eq!(
        all["socket_snoop_lost_events_total{reason=\"tasks_full\"}"],
        1.0
    );
    std::fs::remove_file(path).expect("remove it");
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let open = |path: &str| Metrics::open(path, Duration::from_secs(1)).map(drop);
    for path in [
        "/dev/null",
        "/proc/self/fd/0",
        "/tmp",
        "/nowhere/at/all.prom",
    ] {
        assert!(open(path).is_err(), "{path}");
    }
    assert!(!std::path::Path::new("/dev/null.tmp").exists());
}

fn project(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// All names: of families, as they are told.
fn families() -> Vec<String> {
    let (metrics, path) = metrics();
    std::fs::remove_file(path).expect("remove it");
    let text = String::from_utf8(metrics.text()).expect("UTF-8");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.map(|line| line.split(' ').next().expect("a name").to_string());
    names.collect()
}

/// Every text in it.
fn texts(value: &serde_json::Value, all: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => all.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| texts(item, all)),
        serde_json::Value::Object(members) => members.values().for_each(|item| texts(item, all)),
        _ => {}
    }
}

/// Every metric in the dashboard is one of these, and each of these is in it, and in
/// the docs.
#[test]
fn the_dashboard_shows_what_there_is() {
    let board = project("contrib/grafana/socket-snoop.json");
    let board: serde_json::Value = serde_json::from_str(&board).expect("JSON");
    let mut all = Vec::new();
    texts(&board, &mut all);
    let families = families();
    assert_eq!(families.len(), 10);
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut shown = std::collections::BTreeSet::new();
    for text in &all {
        for (at, _) in text.match_indices("socket_snoop_") {
            let name: String = text[at..].chars().take_while(|c| word(*c)).collect();
            let family = name.strip_suffix("_bucket").unwrap_or(&name).to_string();
            assert!(families.contains(&family), "{name} in {text}");
            shown.insert(family);
        }
    }
    let page = project("docs/fleet.md");
    for family in &families {
        assert!(shown.contains(family), "{family} is not in the dashboard");
        assert!(page.contains(&format!("`{family}`")), "{family}");
    }
}
