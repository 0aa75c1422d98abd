//! The record of a connection that is still open.
//!
//! Contract: as for the formats it serves: what isn't known is left out.

use super::format::Shape;
use super::keys;
use super::members::{counted, ends, id, numbers, plain, time};
use super::owners::Owners;
use super::{connection, words};
use crate::lifecycle::open::Open;
use crate::model::text::{self, Stamps};
use crate::sys::append::append;

/// The members of the JSON object behind its event.
pub(super) fn json(
    (stamps, owners): (&mut Stamps, &mut Owners),
    out: &mut Vec<u8>,
    open: &Open,
    now: u64,
) {
    ends(out, (&open.local, &open.peer, open.wire));
    if let Some(state) = open.state {
        plain(out, keys::TCP_STATE_CURRENT, state.name());
    }
    if let Some(of) = open.id {
        id(out, of);
    }
    owners.append(out, open.owner.as_ref(), open.netns);
    plain(out, keys::CONNECTION_DIRECTION, open.direction.name());
    if let Some((wall, _)) = open.start {
        time(out, keys::CONNECTION_START, stamps, wall);
    }
    let (counters, since) = (&open.counters, &open.since);
    let lived = open.start.map(|(_, start)| now.saturating_sub(start));
    let all = [
        (keys::CONNECTION_DURATION_NS, lived),
        (keys::TCP_CONNECT_NS, open.connect),
        (keys::TCP_ACCEPT_DELAY_NS, open.accept_delay),
        (
            keys::TCP_RETRANSMITS_TOTAL,
            counters.retransmits.map(u64::from),
        ),
    ];
    numbers(out, &all);
    counted(out, counters);
    let all = [
        (keys::INTERVAL_DURATION_NS, since.duration),
        (keys::INTERVAL_BYTES_SENT, since.sent),
        (keys::INTERVAL_BYTES_RECEIVED, since.received),
        (keys::INTERVAL_RETRANSMITS, since.resent),
    ];
    numbers(out, &all);
}

/// `Dec 30 2024 22:05:25.454 Open: SRC=… DST=… PID=… COMM=… …`
pub(super) fn classic(stamps: &mut Stamps, out: &mut Vec<u8>, shape: Shape, open: &Open, now: u64) {
    stamps.local(out, open.wall);
    append(out, b" Open: SRC=");
    text::endpoint(out, &open.local);
    append(out, b" DST=");
    text::endpoint(out, &open.peer);
    words::owner(out, open.owner.as_ref());
    append(out, b" DIRECTION=");
    append(out, open.direction.name().as_bytes());
    if let Some((_, start)) = open.start {
        append(out, b" SECONDS=");
        connection::seconds(out, now.saturating_sub(start));
    }
    let counters = &open.counters;
    let all = [
        (" SENT=", counters.bytes_sent),
        (" RECEIVED=", counters.bytes_received),
        (" RTT_US=", counters.rtt_us.map(u64::from)),
        (" RETRANSMITS=", counters.retransmits.map(u64::from)),
    ];
    words::numbers(out, &all);
    if let Some(state) = open.state {
        append(out, b" STATE=");
        append(out, state.description().as_bytes());
    }
    words::elsewhere(out, shape, open.netns, open.owner.as_ref());
    out.push(b'\n');
}
