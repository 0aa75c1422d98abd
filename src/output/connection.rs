//! The record of a connection that has ended, and what all come to.
//!
//! Contract: as for the formats it serves: what isn't known is left out.

use super::format::{Reasons, Record, Shape, Summary};
use super::keys::{self, Boolean, Key, Objects};
use super::members::{address, boolean, counted, known, number, piece, plain, state, string, time};
use super::owners::Owners;
use super::{escape, summary, words};
use crate::lifecycle::tally::{self, Groups, Place};
use crate::lifecycle::totals::Totals;
use crate::model::ability::Abilities;
use crate::model::event::comm;
use crate::model::text::{self, Stamps};
use crate::sys::append::{append, append_piece};

/// How many of the busiest are told.
const TOP: usize = 5;

/// Appends seconds to the microsecond.
pub(super) fn seconds(out: &mut Vec<u8>, nanos: u64) {
    let (seconds, rest) = text::seconds_of(nanos);
    text::number(out, seconds);
    // By 1,000: less than a second is divided by a multiplication.
    text::fraction(out, (rest * 274_877_907) >> 38);
}

#[inline]
fn reason_name<'a>(record: &Record<'_>, reasons: &'a Reasons) -> Option<&'a str> {
    let number = record.connection.reset_reason()?;
    let found = reasons.iter().find(|(known, _)| *known == number);
    found.map(|(_, name)| name.as_str())
}

/// `Dec 30 2024 22:05:25.454 Connection: SRC=… DST=… PID=… COMM=… …`
#[inline]
pub(super) fn classic(
    (stamps, owners): (&mut Stamps, &mut Owners),
    out: &mut Vec<u8>,
    shape: Shape,
    record: &Record<'_>,
    reasons: &Reasons,
) {
    let (connection, counters) = (record.connection, &record.ended.counters);
    stamps.local(out, record.ended.wall);
    append_piece(out, b" Connection: SRC=");
    text::endpoint(out, connection.local());
    append_piece(out, b" DST=");
    text::endpoint(out, connection.peer());
    let owner = connection.owner();
    owners.append(out, owner.as_ref(), None);
    append_piece(out, b" DIRECTION=");
    append(out, connection.direction().name().as_bytes());
    if let Some(duration) = connection.duration() {
        append_piece(out, b" SECONDS=");
        seconds(out, duration);
    }
    let sent_again = &record.ended.resent;
    let events = sent_again.all.is_none().then(|| sent_again.events());
    words::known(out, " SENT=", counters.bytes_sent);
    words::known(out, " RECEIVED=", counters.bytes_received);
    words::known(out, " RTT_US=", counters.rtt_us.map(u64::from));
    words::known(out, " RETRANSMITS=", sent_again.all);
    words::known(out, " RETRANSMIT_EVENTS=", events);
    if let Some(cause) = connection.cause() {
        append_piece(out, b" CAUSE=");
        append(out, cause.name().as_bytes());
    }
    if let Some(reason) = reason_name(record, reasons) {
        append(out, b" REASON=");
        escape::comm(out, reason.as_bytes());
    }
    if record.ended.end_seen == Some(false) {
        append(out, b" END_SEEN=no");
    }
    words::elsewhere(out, shape, connection.netns(), owner.as_ref());
    out.push(b'\n');
}

/// The members of the JSON object behind its event.
#[inline]
pub(super) fn json(
    (stamps, owners): (&mut Stamps, &mut Owners),
    out: &mut Vec<u8>,
    record: &Record<'_>,
    reasons: &Reasons,
) {
    let (connection, counters) = (record.connection, &record.ended.counters);
    owners.append(out, connection.owner().as_ref(), connection.netns());
    plain(
        out,
        keys::CONNECTION_DIRECTION,
        connection.direction().name(),
    );
    if connection.existed() {
        boolean(out, keys::CONNECTION_EXISTED, true);
    }
    if let Some(start) = connection.start() {
        time(out, keys::CONNECTION_START, stamps, start);
    }
    if let Some(duration) = connection.duration() {
        number(out, keys::CONNECTION_DURATION_NS, duration);
    }
    let mut before = {
        const FIRST: &[u8] = piece!(keys::CONNECTION_STATES_NS.text(), "{\"");
        FIRST
    };
    connection.each_state(&mut |of, nanos| {
        state(out, before, of);
        before = b",\"";
        text::number_behind(out, b"\":", nanos);
    });
    if before.len() == 2 {
        out.push(b'}');
    }
    let (sent_again, tells) = (&record.ended.resent, record.tells);
    let failed = tells
        .contains(Abilities::FAILED_RETRANSMISSIONS)
        .then_some(sent_again.failed);
    let synack = sent_again
        .synack
        .filter(|_| tells.contains(Abilities::SYNACKS));
    let few = |out: &mut Vec<u8>, key, value: Option<u32>| {
        known(out, key, value.map(u64::from));
    };
    known(out, keys::TCP_CONNECT_NS, connection.connect_time());
    known(out, keys::TCP_ACCEPT_DELAY_NS, connection.accept_delay());
    known(out, keys::TCP_RETRANSMITS_TOTAL, sent_again.all);
    few(out, keys::TCP_RETRANSMITS_SYN, sent_again.syn);
    few(out, keys::TCP_RETRANSMITS_SYNACK, synack);
    few(out, keys::TCP_RETRANSMITS_DATA, sent_again.data);
    few(
        out,
        keys::TCP_RETRANSMITS_DATA_EVENTS,
        sent_again.data_events,
    );
    few(out, keys::TCP_RETRANSMITS_FAILED, failed);
    counted(out, counters);
    if let Some(cause) = connection.cause() {
        plain(out, keys::CONNECTION_CAUSE, cause.name());
    }
    if let Some(seen) = record.ended.end_seen {
        boolean(out, keys::CONNECTION_END_SEEN, seen);
    }
    if let Some(time_wait) = record.ended.time_wait {
        boolean(out, keys::TCP_TIME_WAIT, time_wait);
    }
    if let Some(reason) = reason_name(record, reasons) {
        string(out, keys::TCP_RESET_REASON, reason.as_bytes());
    }
}

/// The totals in the JSON summary.
pub(super) fn json_totals(out: &mut Vec<u8>, summary: &Summary, totals: &Totals) {
    for (name, value) in [
        (keys::CONNECTIONS_OPENED, totals.opened),
        (keys::CONNECTIONS_ESTABLISHED, totals.established),
        (keys::CONNECTIONS_REFUSED, totals.refused),
        (keys::CONNECTIONS_GIVEN_UP, totals.given_up),
        (keys::CONNECTIONS_RESET, totals.reset),
        (keys::CONNECTIONS_OPEN, totals.open),
        summary.retransmits.keyed(),
    ] {
        number(out, name, value);
    }
    let mut list = |key: Key<Objects>, exact: Option<Key<Boolean>>, items: Vec<Vec<u8>>| {
        key.next(out);
        append(out, &items.join(&b","[..]));
        out.push(b']');
        if let Some(exact) = exact {
            boolean(out, exact, false);
        }
    };
    let top = |groups: &Groups| {
        let item = |place: &&Place| {
            let mut item = Vec::new();
            keys::CONNECTIONS_COUNT.first(&mut item);
            text::number(&mut item, place.weight);
            match &place.key {
                tally::Key::Process(pid, name) => {
                    number(&mut item, keys::PROCESS_PID, u64::from(*pid));
                    string(&mut item, keys::PROCESS_NAME, comm(name));
                }
                tally::Key::Peer(addr) => address(&mut item, keys::NETWORK_PEER_ADDRESS, *addr),
                tally::Key::Port(..) => {}
            }
            item.push(b'}');
            item
        };
        groups.top(TOP).iter().map(item).collect()
    };
    for (groups, name, exact) in [
        (
            &totals.processes,
            keys::BUSIEST_PROCESSES,
            keys::BUSIEST_EXACT_PROCESSES,
        ),
        (
            &totals.peers,
            keys::BUSIEST_PEERS,
            keys::BUSIEST_EXACT_PEERS,
        ),
    ] {
        list(name, (!groups.is_exact()).then_some(exact), top(groups));
    }
}

/// The totals in front of the report's connections.
pub(super) fn classic_totals(out: &mut Vec<u8>, summary: &Summary, totals: &Totals) {
    for (value, what) in [
        (totals.opened, " opened, "),
        (totals.established, " established, "),
        (totals.refused, " refused, "),
        (totals.given_up, " given up, "),
        (totals.reset, " reset, "),
        (totals.open, " still open; "),
        summary.retransmits.worded(),
        (summary.lost, " events lost.\n"),
    ] {
        if what == " opened, " {
            append(out, b"Connections: ");
        }
        text::number(out, value);
        append(out, what.as_bytes());
    }
    busiest(out, "Busiest processes: ", &totals.processes);
    busiest(out, "Busiest peers: ", &totals.peers);
}

fn busiest(out: &mut Vec<u8>, heading: &str, groups: &Groups) {
    let top = groups.top(TOP);
    for (at, place) in top.iter().enumerate() {
        append(out, if at == 0 { heading.as_bytes() } else { b", " });
        summary::name(out, &place.key);
        out.push(b' ');
        text::number(out, place.weight);
    }
    if !top.is_empty() {
        let end: &[u8] = match groups.is_exact() {
            true => b".\n",
            false => b" (at most: there were too many to count each).\n",
        };
        append(out, end);
    }
}
