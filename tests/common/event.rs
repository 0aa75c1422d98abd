//! What the program prints, read back: JSON objects and classic lines.
//!
//! Contract: anything that isn't well formed fails the test at once; nothing
//! is skipped silently. Times are nanoseconds since 1970 (UTC).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::schema;

pub use serde_json::Value;

/// Transitions of a client that closes first.
pub const CLIENT: [&str; 5] = [
    "CLOSE>SYN_SENT",
    "SYN_SENT>ESTABLISHED",
    "ESTABLISHED>FIN_WAIT1",
    "FIN_WAIT1>FIN_WAIT2",
    "FIN_WAIT2>CLOSE",
];

/// Transitions of its server.
pub const SERVER: [&str; 5] = [
    "LISTEN>SYN_RECV",
    "SYN_RECV>ESTABLISHED",
    "ESTABLISHED>CLOSE_WAIT",
    "CLOSE_WAIT>LAST_ACK",
    "LAST_ACK>CLOSE",
];

/// All lines as JSON objects, which must be as the schema says.
pub fn objects<S: AsRef<str>>(lines: &[S]) -> Vec<Value> {
    lines
        .iter()
        .map(|line| {
            let line = line.as_ref();
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON: {e}: {line:?}"));
            assert_eq!(schema::fault(&value), None, "{line:?}");
            value
        })
        .collect()
}

/// Of many lines only those that say what was lost, and the summary: reading all
/// takes a test long.
pub fn sums(lines: &str) -> Vec<Value> {
    let of_sums = |line: &&str| {
        let is = |event: &str| line.contains(&format!("\"event.name\":\"{event}\""));
        is("lost") || is("summary")
    };
    objects(&lines.lines().filter(of_sums).collect::<Vec<_>>())
}

/// A member that must be there and be a string.
pub fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key]
        .as_str()
        .unwrap_or_else(|| panic!("no string {key:?} in {event}"))
}

/// A member that must be there and be a number.
pub fn number(event: &Value, key: &str) -> u64 {
    event[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {key:?} in {event}"))
}

/// The last object, which must be the summary.
pub fn summary(objects: &[Value]) -> &Value {
    let last = objects.last().expect("some output");
    assert_eq!(
        last["event.name"], "summary",
        "the last object is the summary"
    );
    last
}

/// Events lost, as the summary has it; the stream must have said the same, with
/// one of these reasons and, where the kernel tells it, the CPU.
pub fn losses(objects: &[Value], reasons: &[&str]) -> u64 {
    let summary = summary(objects);
    let lost = number(summary, "lost.events");
    let said: Vec<&Value> = objects
        .iter()
        .filter(|e| e["event.name"] == "lost")
        .collect();
    let in_stream: u64 = said.iter().map(|e| number(e, "lost.count")).sum();
    assert_eq!(in_stream, lost, "{said:#?} {summary}");
    for e in said {
        assert!(reasons.contains(&text(e, "lost.reason")), "{e}");
        assert!(
            e["cpu.logical_number"].is_u64() || e["lost.reason"] == "recursion",
            "{e}"
        );
        nanos(e);
    }
    lost
}

fn end(event: &Value, side: &str) -> Option<SocketAddr> {
    let ip: IpAddr = event[format!("network.{side}.address")]
        .as_str()?
        .parse()
        .unwrap();
    let port = event[format!("network.{side}.port")].as_u64().unwrap_or(0);
    Some(SocketAddr::new(ip, u16::try_from(port).expect("a port")))
}

/// Local address and port (0 where none is chosen yet).
pub fn local(event: &Value) -> SocketAddr {
    end(event, "local").unwrap_or_else(|| panic!("no local address in {event}"))
}

/// Peer address and port.
pub fn peer(event: &Value) -> SocketAddr {
    end(event, "peer").unwrap_or_else(|| panic!("no peer address in {event}"))
}

fn is_with(event: &Value, server: SocketAddr) -> bool {
    end(event, "local") == Some(server) || end(event, "peer") == Some(server)
}

/// The events of connections with this server, as client or server; not the
/// records of their ends.
pub fn with(objects: &[Value], server: SocketAddr) -> Vec<Value> {
    objects
        .iter()
        .filter(|e| e["event.name"] != "connection" && is_with(e, server))
        .cloned()
        .collect()
}

/// The records of connections with this server that have ended.
pub fn records(objects: &[Value], server: SocketAddr) -> Vec<Value> {
    objects
        .iter()
        .filter(|e| e["event.name"] == "connection" && is_with(e, server))
        .cloned()
        .collect()
}

/// `OLD>NEW` of a state event.
pub fn transition(event: &Value) -> String {
    format!(
        "{}>{}",
        text(event, "tcp.state.old"),
        text(event, "tcp.state.new")
    )
}

/// State events cut into the lives of sockets: by id, and anew where a reused
/// id starts again. In order of the first event.
pub fn lives(events: &[Value]) -> Vec<Vec<Value>> {
    let mut lives: Vec<Vec<Value>> = Vec::new();
    let mut current: HashMap<String, usize> = HashMap::new();
    for event in events.iter().filter(|e| e["event.name"] == "tcp_state") {
        let id = text(event, "socket.id").to_owned();
        let fresh = matches!(text(event, "tcp.state.old"), "CLOSE" | "LISTEN");
        let at = match current.get(&id) {
            Some(&at) if !fresh => at,
            _ => {
                lives.push(Vec::new());
                lives.len() - 1
            }
        };
        current.insert(id, at);
        lives[at].push(event.clone());
    }
    lives
}

/// The transitions of a life.
pub fn transitions(life: &[Value]) -> Vec<String> {
    life.iter().map(transition).collect()
}

/// Client's and server's life of the one connection with this server.
pub fn pair(objects: &[Value], server: SocketAddr) -> (Vec<Value>, Vec<Value>) {
    let lives = lives(&with(objects, server));
    let of_client: Vec<_> = lives.iter().filter(|l| peer(&l[0]) == server).collect();
    let of_server: Vec<_> = lives.iter().filter(|l| local(&l[0]) == server).collect();
    assert_eq!(
        (of_client.len(), of_server.len()),
        (1, 1),
        "lives: {lives:#?}"
    );
    (of_client[0].clone(), of_server[0].clone())
}

/// Nanoseconds since 1970 of `2024-12-30T22:05:25.454000000Z`, nine digits demanded.
pub fn nanos(event: &Value) -> u64 {
    let time = text(event, "time");
    let n = |range: std::ops::Range<usize>| -> u64 {
        time.get(range)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("not a time: {time:?}"))
    };
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000000Z", "{time}");
    let seconds =
        days(n(0..4), n(5..7), n(8..10)) * 86400 + n(11..13) * 3600 + n(14..16) * 60 + n(17..19);
    seconds * 1_000_000_000 + n(20..29)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
pub fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

/// What STATE can be, and how the original words it.
const STATES: [&str; 11] = [
    "Connection Established",
    "Connection Opening (SYN_SENT)",
    "Connection Opening (SYN_RECV)",
    "Connection Closing (FIN_WAIT1)",
    "Connection Closing (FIN_WAIT2)",
    "Connection Closed (TIME_WAIT)",
    "Connection Closed",
    "Connection Closing (CLOSE_WAIT)",
    "Connection Closing (LAST_ACK)",
    "Listening for Connections",
    "Connection Closing (CLOSING)",
];

/// A classic event line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `Dec 30 2024 22:05:25.454`.
    pub time: String,
    /// `State Change`, `Retransmit` or `Retransmit Failed`.
    pub kind: String,
    /// SRC.
    pub src: SocketAddr,
    /// DST.
    pub dst: SocketAddr,
    /// PID.
    pub pid: u32,
    /// COMM as it stands there, quotes and escapes included.
    pub comm: String,
    /// STATE.
    pub state: String,
    /// ERROR, of a failed retransmission.
    pub error: Option<String>,
    /// NETNS, where that is another one than the tracer's.
    pub netns: Option<u32>,
    /// UID, then.
    pub uid: Option<u32>,
}

/// Length of the time that opens a line.
pub const TIME_LEN: usize = "Dec 30 2024 22:05:25.454".len();

/// Whether `time` has the shape `Dec 30 2024 22:05:25.454`.
pub fn is_time(time: &str) -> bool {
    let shape: String = time
        .chars()
        .map(|c| match c {
            '0'..='9' => '0',
            'a'..='z' => 'a',
            'A'..='Z' => 'A',
            other => other,
        })
        .collect();
    shape == "Aaa 00 0000 00:00:00.000"
}

/// Milliseconds since 1970 of a classic time, taken as UTC.
pub fn classic_millis(time: &str) -> u64 {
    assert!(is_time(time), "{time:?}");
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = MONTHS.find(&time[..3]).expect("a month") as u64 / 3 + 1;
    let n = |range: std::ops::Range<usize>| -> u64 { time[range].parse().unwrap() };
    let seconds =
        days(n(7..11), month, n(4..6)) * 86400 + n(12..14) * 3600 + n(15..17) * 60 + n(18..20);
    seconds * 1000 + n(21..24)
}

/// Reads one classic event line; `None` where it isn't one.
pub fn line(line: &str) -> Option<Line> {
    let (time, rest) = line.split_at_checked(TIME_LEN)?;
    if !is_time(time) {
        return None;
    }
    let (kind, rest) = rest.strip_prefix(' ')?.split_once(": SRC=")?;
    if !["State Change", "Retransmit", "Retransmit Failed"].contains(&kind) {
        return None;
    }
    let (src, rest) = rest.split_once(" DST=")?;
    let (dst, rest) = rest.split_once(" PID=")?;
    let (pid, rest) = rest.split_once(" COMM=")?;
    let comm = comm_len(rest)?;
    let (comm, rest) = rest.split_at(comm);
    let (rest, netns, uid) = elsewhere(rest)?;
    let state = rest.strip_prefix(" STATE=")?;
    let (state, error) = match state.split_once(" ERROR=") {
        Some((state, error)) => (state, Some(error.to_owned())),
        None => (state, None),
    };
    if (kind == "Retransmit Failed") != error.is_some() || !STATES.contains(&state) {
        return None;
    }
    Some(Line {
        time: time.to_owned(),
        kind: kind.to_owned(),
        src: src.parse().ok()?,
        dst: dst.parse().ok()?,
        pid: pid.parse().ok()?,
        comm: comm.to_owned(),
        state: state.to_owned(),
        error,
        netns,
        uid,
    })
}

/// Takes ` NETNS=… UID=…` from the end of a line, or of its part behind COMM,
/// where it is there.
pub fn elsewhere(text: &str) -> Option<(&str, Option<u32>, Option<u32>)> {
    let Some((rest, netns)) = text.split_once(" NETNS=") else {
        return Some((text, None, None));
    };
    let (netns, uid) = match netns.split_once(" UID=") {
        Some((netns, uid)) => (netns, Some(uid.parse().ok()?)),
        None => (netns, None),
    };
    Some((rest, Some(netns.parse().ok()?), uid))
}

/// Length of the bare or quoted name that `text` opens with.
fn comm_len(text: &str) -> Option<usize> {
    let Some(quoted) = text.strip_prefix('"') else {
        return text.find(' ');
    };
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// What follows "Connection Lifecycles:" in a whole output, the headings and
/// the summary before it checked.
pub fn report(all: &[String]) -> &[String] {
    let stop = all.iter().position(|l| l == "Stopping monitoring...");
    let stop = stop.unwrap_or_else(|| panic!("no report: {all:#?}"));
    assert_eq!(all[stop + 1], "");
    let heading = all.iter().position(|l| l == "Connection Lifecycles:");
    let heading = heading.unwrap_or_else(|| panic!("no heading: {all:#?}"));
    assert_eq!(all[heading - 1], "");
    let summary = &all[stop + 2..heading - 1];
    // With a filter it says first what its sums are of.
    let filter = summary[0].starts_with("Of what passes the filter");
    let summary = &summary[usize::from(filter)..];
    assert!(summary[0].starts_with("Connections: "), "{summary:#?}");
    let tables = summary.iter().position(String::is_empty);
    let (sums, tables) = summary.split_at(tables.unwrap_or(summary.len()));
    for line in &sums[1..] {
        assert!(line.starts_with("Busiest "), "{summary:#?}");
    }
    for line in tables.iter().skip(1) {
        assert!(line.starts_with("  "), "{summary:#?}");
    }
    &all[heading + 1..]
}

/// A connection's lines in the report below its heading: the one on its life,
/// and the transitions.
pub fn section<'a>(report: &'a [String], heading: &str) -> (&'a str, Vec<&'a str>) {
    let at: Vec<_> = (0..report.len())
        .filter(|&i| report[i] == heading)
        .collect();
    assert_eq!(at.len(), 1, "{heading}: {report:#?}");
    let mut body = report[at[0] + 1..]
        .iter()
        .map_while(|l| l.strip_prefix("  "));
    let life = body.next().expect("a line on its life");
    assert!(life.starts_with("PID="), "{life}");
    (life, body.collect())
}

/// COUNT and REASON of a `Lost:` line.
pub fn lost(line: &str) -> Option<(u64, String)> {
    let (time, rest) = line.split_at_checked(TIME_LEN)?;
    let rest = rest.strip_prefix(" Lost: COUNT=")?;
    let (count, rest) = rest.split_once(' ')?;
    let reason = rest.rsplit_once("REASON=")?.1;
    is_time(time).then_some(())?;
    Some((count.parse().ok()?, reason.to_owned()))
}

/// The event lines of console output (before the report) or of a log: the
/// opening line is left out, anything else that isn't an event fails.
pub fn event_lines<S: AsRef<str>>(lines: &[S]) -> Vec<String> {
    lines
        .iter()
        .map(AsRef::as_ref)
        .take_while(|l| *l != "Stopping monitoring...")
        .filter(|l| !l.starts_with(super::OPENING))
        .inspect(|l| assert!(line(l).is_some() || lost(l).is_some(), "odd line: {l:?}"))
        .map(str::to_owned)
        .collect()
}

/// The classic lines of connections with this server.
pub fn lines_with<S: AsRef<str>>(lines: &[S], server: SocketAddr) -> Vec<Line> {
    event_lines(lines)
        .iter()
        .filter_map(|l| line(l))
        .filter(|l| l.src == server || l.dst == server)
        .collect()
}
